// Package runtime runs the models of .trit files: it holds them to their
// manifest, keeps key-value pages for many sequences, computes logits, samples
// and generates text.
//
// Results are specified to the bit (spec/numerics.md): every [Engine] gives the
// same logits and, for the same seed, the same tokens, on any machine, with any
// number of threads, and however the tokens are split into calls, batches and
// forks.
//
// The package is named after what it is, not after Go's: import that one as
// goruntime where both are needed.
package runtime
