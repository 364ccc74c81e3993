// Package vocab turns tokenizers that are not a tokenizer.json into one: the
// tokenizer.model of SentencePiece (a protobuf ModelProto, Llama 2 and its kin)
// and the rank files of tiktoken (Llama 3 and GPT). What it returns, package
// tokenizer and the tokenizers library read.
//
// # What is kept
//
// Both formats merge whichever neighbours spell a token together, the token of the
// best score or rank first; a tokenizer.json lists pairs. Every way to cut a
// token into two others becomes a pair, in the order of the tokens. That list
// merges as the original does: a token comes about inside its own bytes, where
// nothing that was merged reaches across the edge, so the merges before it are
// those that its bytes would go through alone, and of all its pairs only the one
// which these end in ever stands side by side. No order among the pairs of one token
// matters, and a token that no pair forms is left to itself, as in the original.
//
// A SentencePiece model becomes what LlamaConverter of transformers makes of it:
// normalizer Prepend and Replace, BPE with byte fallback, decoder Replace,
// ByteFallback, Fuse, Strip, and <s> in front where the vocabulary has it as a
// control piece. A tiktoken file becomes what TikTokenConverter makes of it, with
// <|begin_of_text|> in front where the caller names it.
//
// # Caveats
//
// Control pieces (<s>, </s>, <unk>) that are spelled in a text become tokens, as in
// transformers; SentencePiece takes them for ordinary text.
// [github.com/tritter-ai/tritter/tokenizer.EncodeOptions] has NoParseSpecial for that.
//
// A text goes on behind a control piece, and in models with a dummy prefix behind a
// user-defined symbol, with a new dummy prefix, as in transformers; SentencePiece
// puts one at the begin of the whole. User-defined symbols of models without a
// dummy prefix are found exactly where SentencePiece finds them.
//
// Pieces of one score are ranked by length of their left half, then of the right
// one, then by id, as in transformers, where SentencePiece takes the leftmost in the
// text. A model that SentencePiece trained has no two pieces of one score.
//
// <unk> decodes as <unk>, bytes that are no UTF-8 as one U+FFFD each, a run of them at a
// time: the rules of the tokenizers library.
//
// A tiktoken pattern is read as Oniguruma with Ruby syntax reads it, the engine of
// the tokenizers library, not as the Rust engine of tiktoken does.
//
// # What was checked
//
// The merges of Llama 2's tokenizer.model are 61,249, the number that its published
// tokenizer.json has. The tests rebuild models and rank files from tokenizers of
// package tokenizer's test data and require every id and text that the tokenizers
// library gave for those; and they hold random vocabularies, the irregular ones
// included, to encoders written down from the two algorithms' definitions. No
// SentencePiece or tiktoken library took part.
package vocab
