// Package model describes the architectures that a .trit file can hold: [Config]
// is the single source of truth for the shape and the meaning of a model, and
// [Config.Manifest] derives from it every tensor that such a model has. The
// package holds no weights and does no arithmetic on them.
//
// The JSON form of Config, Generation and Provenance is specified in
// spec/trit-v1.md, sections 7 to 9.
package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Limits on a Config. They bound what a hostile file can make a reader allocate
// and keep every size computed from a Config well inside 63 bits.
const (
	MaxLayers   = 4096
	MaxDim      = 1 << 24   // hidden, intermediate
	MaxVocab    = 1<<24 - 1 // sums of sampling weights fit 64 bits
	MaxHeads    = 4096
	MaxHeadDim  = 4096
	MaxPosition = 1 << 24 // the RoPE procedure of spec/numerics.md is stated up to here
)

// maxProblems is how many problems of one list are reported: a hostile one can have
// millions.
const maxProblems = 16

// Activation is the function inside the gated feed-forward block.
type Activation string

// The activations of format version 1. Both are applied to the gate and
// multiplied with up: down(act(gate(x)) * up(x)).
const (
	SiLU  Activation = "silu"  // x / (1 + exp(-x))
	ReLU2 Activation = "relu2" // max(x, 0) squared, "squared ReLU"
)

// ActivationQuant says what the inputs of ternary matrices are rounded to.
type ActivationQuant string

// The activation quantizers of format version 1.
const (
	ActivationInt8 ActivationQuant = "int8" // per token, symmetric, absmax (BitNet b1.58)
	ActivationNone ActivationQuant = "none" // float32 activations
)

// NormKind is the normalization used at every norm position of a model.
type NormKind string

// The norms of format version 1.
const (
	RMSNorm   NormKind = "rms"   // weight, no bias
	LayerNorm NormKind = "layer" // weight and bias
)

// NormPosition is a place in a block where a norm may stand. Position attn is
// followed by q, k and v; mlp by gate and up; attn_sub by o; mlp_sub by down; q
// and k act per head before RoPE; post_attn and post_mlp act on the sum of the
// block's output and the residual; proj is a norm of its own inside each of the
// seven projections. The final norm before the head always exists.
type NormPosition string

// The norm positions of format version 1.
const (
	NormAttn     NormPosition = "attn"
	NormAttnSub  NormPosition = "attn_sub"
	NormK        NormPosition = "k"
	NormMLP      NormPosition = "mlp"
	NormMLPSub   NormPosition = "mlp_sub"
	NormPostAttn NormPosition = "post_attn"
	NormPostMLP  NormPosition = "post_mlp"
	NormProj     NormPosition = "proj" // every projection normalizes its own input once more (RMS)
	NormQ        NormPosition = "q"
)

// Modality is a kind of content that a model was trained on.
type Modality string

// The modalities of the Tritter vocabulary.
const (
	Text  Modality = "text"
	Code  Modality = "code"
	Image Modality = "image"
	Audio Modality = "audio"
)

// RopeType selects how rotary frequencies are scaled.
type RopeType string

// The RoPE types of format version 1. They are those of Hugging Face
// transformers of the same names.
const (
	RopeDefault RopeType = "default"
	RopeLinear  RopeType = "linear"
	RopeLlama3  RopeType = "llama3"
)

// RopePairing says which two elements of a head are rotated together.
type RopePairing string

// PairHalf pairs element i with element i + head_dim/2 ("rotate half", GPT-NeoX
// and Hugging Face order). It is the only pairing of format version 1.
const PairHalf RopePairing = "half"

// Rope describes rotary position embeddings. Fields that do not belong to Type
// are zero.
type Rope struct {
	Factor         float64     `json:"factor,omitempty"`           // linear, llama3
	HighFreqFactor float64     `json:"high_freq_factor,omitempty"` // llama3
	LowFreqFactor  float64     `json:"low_freq_factor,omitempty"`  // llama3
	OriginalMax    int         `json:"original_max_position_embeddings,omitempty"`
	Pairing        RopePairing `json:"pairing"`
	Theta          float64     `json:"theta"`
	Type           RopeType    `json:"type"`
}

// Config is the architecture of a model. Every field is meaningful and explicit:
// there are no defaults, and Validate refuses a Config that leaves one out.
//
// With H = HiddenSize, the memory-critical fields cost, in bytes: the weights
// about (q, k, v, o: 2 H HeadDim (NumHeads + NumKVHeads); gate, up, down:
// 3 H IntermediateSize) x NumLayers / 4 at 2 bits, the embedding VocabSize x H
// x 2, and the key-value cache 8 x NumLayers x NumKVHeads x HeadDim a position
// in float32.
type Config struct {
	Activation            Activation      `json:"activation"`
	ActivationQuant       ActivationQuant `json:"activation_quant"`
	Biases                []Projection    `json:"biases"`            // projections that have a bias, sorted
	HeadDim               int             `json:"head_dim"`          // usually HiddenSize / NumHeads, but free
	HiddenSize            int             `json:"hidden_size"`       // width of the residual stream
	IntermediateSize      int             `json:"intermediate_size"` // width inside the feed-forward block
	MaxPositionEmbeddings int             `json:"max_position_embeddings"`
	Modalities            []Modality      `json:"modalities"` // sorted
	Norm                  NormKind        `json:"norm"`
	NormEps               float64         `json:"norm_eps"` // rounded to float32 where it is used
	Norms                 []NormPosition  `json:"norms"`    // positions that have a norm, sorted
	NumHeads              int             `json:"num_heads"`
	NumKVHeads            int             `json:"num_kv_heads"` // fewer than NumHeads: grouped-query attention, a smaller cache
	NumLayers             int             `json:"num_layers"`
	ProjNormEps           float64         `json:"proj_norm_eps,omitempty"` // of the norms at position proj
	Rope                  Rope            `json:"rope"`
	TiedHead              bool            `json:"tied_head"` // the output head is the embedding matrix
	VocabSize             int             `json:"vocab_size"`
}

// Projection is one of the seven matrices of a block.
type Projection string

// The projections of a block.
const (
	Q    Projection = "q"
	K    Projection = "k"
	V    Projection = "v"
	O    Projection = "o"
	Gate Projection = "gate"
	Up   Projection = "up"
	Down Projection = "down"
)

// Projections lists the seven projections in manifest order.
func Projections() []Projection { return []Projection{Q, K, V, O, Gate, Up, Down} }

// HasNorm reports whether blocks have a norm at p.
func (c *Config) HasNorm(p NormPosition) bool { return slices.Contains(c.Norms, p) }

// HasBias reports whether projection p has a bias.
func (c *Config) HasBias(p Projection) bool { return slices.Contains(c.Biases, p) }

// DeriveHeadDim returns hiddenSize / numHeads, or an error that says which sizes
// would work when heads do not divide the hidden size.
func DeriveHeadDim(hiddenSize, numHeads int) (int, error) {
	if numHeads <= 0 {
		return 0, fmt.Errorf("num_heads is %d, want at least 1", numHeads)
	}
	if rest := hiddenSize % numHeads; rest != 0 {
		return 0, fmt.Errorf("hidden_size (%d) must be divisible by num_heads (%d): the remainder is %d; use hidden_size %d or %d, or give head_dim",
			hiddenSize, numHeads, rest, hiddenSize-rest, hiddenSize-rest+numHeads)
	}
	return hiddenSize / numHeads, nil
}

// Validate reports everything that is wrong with c, each problem with the value
// seen, the value expected and, where there is one, the fix. The error joins
// them (errors.Join); nil means that c can be run.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	inRange := func(name string, v, lo, hi int) {
		if v < lo || v > hi {
			bad("%s is %d, want %d to %d", name, v, lo, hi)
		}
	}
	inRange("hidden_size", c.HiddenSize, 1, MaxDim)
	inRange("intermediate_size", c.IntermediateSize, 1, MaxDim)
	inRange("vocab_size", c.VocabSize, 1, MaxVocab)
	inRange("num_layers", c.NumLayers, 1, MaxLayers)
	inRange("num_heads", c.NumHeads, 1, MaxHeads)
	inRange("num_kv_heads", c.NumKVHeads, 1, MaxHeads)
	inRange("head_dim", c.HeadDim, 2, MaxHeadDim)
	inRange("max_position_embeddings", c.MaxPositionEmbeddings, 1, MaxPosition)
	if c.HeadDim%2 != 0 {
		bad("head_dim is %d, want an even number: rotary embeddings rotate pairs", c.HeadDim)
	}
	if c.NumHeads > 0 && c.NumKVHeads > 0 && c.NumHeads%c.NumKVHeads != 0 {
		bad("num_heads (%d) must be a multiple of num_kv_heads (%d): each key-value head serves the same number of query heads", c.NumHeads, c.NumKVHeads)
	}
	positive := func(name string, v float64) {
		if eps := float32(v); !(eps > 0) || math.IsInf(float64(eps), 0) {
			bad("%s is %g, want a positive finite float32, usually 1e-05", name, v)
		}
	}
	positive("norm_eps", c.NormEps)
	if c.HasNorm(NormProj) {
		positive("proj_norm_eps", c.ProjNormEps)
		if c.Norm != RMSNorm {
			bad("norms has \"proj\" and norm is %q, want %q: norms inside projections are RMS norms", c.Norm, RMSNorm)
		}
	} else if c.ProjNormEps != 0 {
		bad("proj_norm_eps is %g, but norms has no \"proj\"; leave it out", c.ProjNormEps)
	}
	oneOf(&errs, "activation", c.Activation, SiLU, ReLU2)
	oneOf(&errs, "activation_quant", c.ActivationQuant, ActivationInt8, ActivationNone)
	oneOf(&errs, "norm", c.Norm, RMSNorm, LayerNorm)
	sortedSet(&errs, "biases", c.Biases, Projections()...)
	sortedSet(&errs, "norms", c.Norms, NormAttn, NormAttnSub, NormK, NormMLP, NormMLPSub, NormPostAttn, NormPostMLP, NormProj, NormQ)
	sortedSet(&errs, "modalities", c.Modalities, Text, Code, Image, Audio)
	if len(c.Modalities) == 0 {
		bad(`modalities is empty, want at least "text"`)
	}
	errs = append(errs, c.Rope.problems()...)
	return errors.Join(errs...)
}

func (r *Rope) problems() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	oneOf(&errs, "rope.type", r.Type, RopeDefault, RopeLinear, RopeLlama3)
	oneOf(&errs, "rope.pairing", r.Pairing, PairHalf)
	if !(r.Theta > 1 && r.Theta <= 1e12) {
		bad("rope.theta is %g, want more than 1 and at most 1e12, usually 10000 or 500000", r.Theta)
	}
	scaled := func(name string, v float64, want bool) {
		if want && !(v > 0 && v <= 1e6) {
			bad("rope.%s is %g, want a positive number up to 1e6 because rope.type is %q", name, v, r.Type)
		}
		if !want && v != 0 {
			bad("rope.%s is %g, but rope.type %q does not use it; leave it out", name, v, r.Type)
		}
	}
	llama3 := r.Type == RopeLlama3
	scaled("factor", r.Factor, llama3 || r.Type == RopeLinear)
	scaled("low_freq_factor", r.LowFreqFactor, llama3)
	scaled("high_freq_factor", r.HighFreqFactor, llama3)
	switch {
	case llama3 && (r.OriginalMax < 1 || r.OriginalMax > MaxPosition):
		bad("rope.original_max_position_embeddings is %d, want 1 to %d because rope.type is %q", r.OriginalMax, MaxPosition, r.Type)
	case !llama3 && r.OriginalMax != 0:
		bad("rope.original_max_position_embeddings is %d, but rope.type %q does not use it; leave it out", r.OriginalMax, r.Type)
	}
	if r.Type != RopeDefault && r.Factor > 0 && r.Factor < 1 {
		bad("rope.factor is %g, want at least 1: scaling stretches the context", r.Factor)
	}
	if llama3 && !(r.HighFreqFactor > r.LowFreqFactor) {
		bad("rope.high_freq_factor (%g) must be greater than rope.low_freq_factor (%g)", r.HighFreqFactor, r.LowFreqFactor)
	}
	return errs
}

func oneOf[T ~string](errs *[]error, field string, got T, want ...T) {
	if !slices.Contains(want, got) {
		*errs = append(*errs, fmt.Errorf("%s is %q, want one of %q: no default is assumed", field, got, want))
	}
}

func sortedSet[T ~string](errs *[]error, field string, got []T, want ...T) {
	before := len(*errs)
	for i, v := range got {
		if len(*errs)-before >= maxProblems {
			return
		}
		if !slices.Contains(want, v) {
			*errs = append(*errs, fmt.Errorf("%s has the unknown value %q, want only %q", field, v, want))
		}
		if i > 0 && got[i-1] >= v {
			*errs = append(*errs, fmt.Errorf("%s lists %q before %q, want ascending order without repeats", field, got[i-1], v))
		}
	}
}
