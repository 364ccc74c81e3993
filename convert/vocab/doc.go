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
// Pieces of one score are ranked by the length of their left half, then of the
// right one, then by id, as in transformers; SentencePiece takes the leftmost in the
// text. For runs of white space, whose pieces have one score in Llama 2 and Mistral,
// that is the same. Other pieces have scores of their own unless the vocabulary was
// extended by hand.
//
// <unk> decodes as <unk>, bytes that are no UTF-8 as one U+FFFD each, a run of them at a
// time: the rules of the tokenizers library.
//
// A tiktoken pattern is read as Oniguruma with Ruby syntax reads it, the engine of
// the tokenizers library, not as the Rust engine of tiktoken does.
//
// # What was checked
//
// Of Mistral 7B v0.3, tokenizer.model and the tokenizer.json published beside it: the
// same ids, added tokens and 58,980 merges, in the same order but for those of white
// space, pieces of one score that an earlier transformers ranked otherwise. Of Llama
// 2: the number of merges of its published tokenizer.json, 61,249, and 23 texts with
// the ids that llama.cpp keeps for its own tests. Of GPT's cl100k_base, whose ranks
// are the first 100,256 of Llama 3: 19 texts with ids that llama.cpp keeps for that.
// Those files are too large for this repository.
//
// The tests rebuild models and rank files from the tokenizers in the test data of
// package tokenizer and require every id and text that the tokenizers library gave
// for those; and they hold random vocabularies, irregular ones included, to
// encoders written down from the definitions of the two algorithms. Neither
// SentencePiece nor tiktoken itself took part.
package vocab
