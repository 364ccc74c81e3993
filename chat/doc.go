// Package chat turns conversations into tokens by the chat template of a model,
// and keeps them going: [Template] renders, [Session] is a conversation with an
// engine whose key-value cache is kept between turns.
//
// A template is a Jinja program that comes with a model. It is rendered by gonja
// inside limits of its own (see limits.go), without files.
//
// # Special tokens
//
// What a user writes can never become a special token. The special tokens that
// the template spells are taken out of its source before it runs, each replaced
// by a private-use character that neither the template nor a message contains;
// the same goes for bos_token and eos_token. In the rendered text these
// characters, and nothing else, become special tokens; everything else is encoded
// as ordinary text, whatever it spells and however the template trimmed, cut or
// joined it. A template may also put a special token together from pieces, such
// as '<|' + role + '|>': these are found by rendering the conversation once more
// with every character of the messages replaced, so that what then still spells a
// special token was not written by a user.
package chat
