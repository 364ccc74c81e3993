// Package tokenizer reads a Hugging Face tokenizer.json and turns text into
// token ids and back, with the results of the tokenizers library (version
// 0.23), id for id and byte for byte.
//
// Text passes through five stages, each of which the file may leave out:
//
//	added tokens    cut out of the text before normalization, or after it
//	normalizer      Prepend, Replace, NFC ..., per segment between added tokens
//	pre-tokenizer   cuts segments into pieces that merges never cross
//	model           byte-pair encoding of each piece (Sennrich et al. 2016)
//	post-processor  puts <bos> and the like around the ids
//
// A decoder takes the way back. It is written once, as a streaming transducer;
// [Tokenizer.Decode] pushes every id through it, [Stream] one at a time, hence
// the two always agree.
//
// # Caveats
//
// The truncation and padding settings of a file are not applied: Encode
// returns every id of the text and nothing else.
//
// A component, option or key that this package does not know is an
// [UnsupportedError] that names it; a file that the format forbids is a
// [FormatError]. Nothing is ever defaulted except where the format itself says
// so. An added token whose declared id differs from the one that the library
// would give it is refused, because the two would disagree about what a model
// was trained on.
//
// Regular expressions are written for Oniguruma in Ruby syntax. The patterns
// of GPT-2, Llama 3 and Qwen 2 run in hand-written scanners, linear in the
// text; others are translated to regexp2 and run under a match timeout, after
// which Encode fails. Case-insensitive matching folds single characters;
// a case-insensitive pattern whose letters fold to several is refused.
//
// Bytes of the text that are not UTF-8 become U+FFFD, one for each maximal
// prefix of a character, as Rust's String::from_utf8_lossy does.
package tokenizer
