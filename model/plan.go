package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

// PageLen is how many positions a page of the key-value cache holds: a sequence
// takes whole pages.
const PageLen = 64

// planRows is how many positions an engine computes together at most.
const planRows = 128

// PlanOptions say what a model is to be used for. The zero value plans one
// sequence of the model's whole context with a float32 cache and a bf16 head.
type PlanOptions struct {
	Context int      // positions a sequence may hold; 0 is max_position_embeddings
	Batch   int      // sequences at the same time; 0 is 1
	KV      KVFormat // format of the key-value cache; "" is f32
	Head    string   // storage of embedding and head where Weights is 0: bf16 (also ""), f16, f32, int8 or ternary
	Weights int64    // bytes of the weights as they are used, where known from a file; 0 computes them
}

// MemoryPlan is an account, in bytes, of what running a model takes.
type MemoryPlan struct {
	Weights     int64    `json:"weights"`      // of all tensors, as they are used
	Cache       int64    `json:"cache"`        // key-value cache of Batch sequences of Context positions, in whole pages
	Activations int64    `json:"activations"`  // buffers of a step, logits included
	Total       int64    `json:"total"`        // the sum
	PerPosition int64    `json:"per_position"` // cache of one position
	Context     int      `json:"context"`      // positions of a sequence
	Batch       int      `json:"batch"`        // sequences
	KV          KVFormat `json:"kv"`
}

// headElement is the bytes of an element of the embedding, and of the head where
// it is not ternary, by the name of the storage.
var headElement = map[string]int64{"bf16": 2, "f16": 2, "f32": 4, "int8": 1, "ternary": 2}

// WeightBytes returns the bytes of the weights of a model in 2-bit tiles with a
// scale a row, norms and biases in float32, and embedding and head as head says:
// bf16, f16, f32, int8, or ternary, a ternary head of its own beside a bf16
// embedding. It is what a .trit file of this Config takes in memory, to within
// the scales.
func (c *Config) WeightBytes(head string) (int64, error) {
	element, ok := headElement[head]
	if !ok {
		return 0, fmt.Errorf("head is %q, want bf16, f16, f32, int8 or ternary", head)
	}
	var sum int64
	for _, t := range c.Manifest() {
		rows := int64(t.Shape[0])
		switch {
		case t.Kind == Matrix, t.Role == RoleHead && head == "ternary":
			sum += matrixBytes(t.Shape[0], t.Shape[1])
		case t.Kind == Table:
			sum += rows * int64(t.Shape[1]) * element
			if head == "int8" {
				sum += 4 * rows
			}
		default:
			sum += 4 * rows
		}
	}
	return sum, nil
}

// matrixBytes returns the size of a ternary matrix: tiles of 4 rows by 128
// columns in 128 bytes, and a scale a row.
func matrixBytes(out, in int) int64 {
	return (int64(out)+3)/4*((int64(in)+127)/128)*128 + 4*int64(out)
}

// Plan accounts for the memory that running a model of this Config takes. c must
// be valid. It allocates nothing of that size: a plan of any size is cheap. The
// error joins everything that is wrong with opt.
func (c *Config) Plan(opt PlanOptions) (MemoryPlan, error) {
	p := MemoryPlan{Context: opt.Context, Batch: opt.Batch, KV: opt.KV, Weights: opt.Weights}
	if p.Context == 0 {
		p.Context = c.MaxPositionEmbeddings
	}
	if p.Batch == 0 {
		p.Batch = 1
	}
	if p.KV == "" {
		p.KV = KVF32
	}
	var errs []error
	if p.Context < 1 || p.Context > c.MaxPositionEmbeddings {
		errs = append(errs, fmt.Errorf("context is %d, want 1 to %d, the model's max_position_embeddings", p.Context, c.MaxPositionEmbeddings))
	}
	if p.Batch < 1 || p.Batch > MaxBatch {
		errs = append(errs, fmt.Errorf("batch is %d, want 1 to %d", p.Batch, MaxBatch))
	}
	if !slices.Contains(KVFormats(), p.KV) {
		errs = append(errs, fmt.Errorf("kv is %q, want one of %q", p.KV, KVFormats()))
	}
	if p.Weights < 0 {
		errs = append(errs, fmt.Errorf("weights is %d bytes, want at least 0", p.Weights))
	}
	if p.Weights == 0 {
		if opt.Head == "" {
			opt.Head = "bf16"
		}
		var err error
		p.Weights, err = c.WeightBytes(opt.Head)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return MemoryPlan{}, err
	}
	p.PerPosition = c.KVBytes(p.KV)
	pages := (int64(p.Context) + PageLen - 1) / PageLen
	p.Cache = mul(mul(pages*PageLen, p.PerPosition), int64(p.Batch))
	p.Activations = c.activationBytes(p.Batch)
	p.Total = add(add(p.Weights, p.Cache), p.Activations)
	return p, nil
}

// MaxBatch bounds the sequences of a plan.
const MaxBatch = 1 << 16

// activationBytes returns the size of the buffers of a step: planRows positions
// in the widths of a block, and one row of logits a sequence.
func (c *Config) activationBytes(batch int) int64 {
	q, kv := int64(c.NumHeads)*int64(c.HeadDim), int64(c.NumKVHeads)*int64(c.HeadDim)
	hidden, ffn := int64(c.HiddenSize), int64(c.IntermediateSize)
	widest := max(hidden, q, ffn)
	row := 4 * (2*hidden + 2*q + 2*kv + 2*ffn + int64(c.HeadDim)) // residual and its update, queries and attention, keys, values, gate and up, angles
	if c.ActivationQuant == ActivationInt8 {
		row += widest + 4
	} else {
		row += 4 * widest
	}
	return planRows*row + 4*int64(batch)*(hidden+int64(c.VocabSize))
}

// Fits reports whether the plan needs at most memory bytes.
func (p *MemoryPlan) Fits(memory int64) bool { return p.Total <= memory }

// LargestContext returns the greatest context, up to max_position_embeddings, at
// which opt (its Context aside) fits memory bytes; 0 when not even one page does.
func (c *Config) LargestContext(opt PlanOptions, memory int64) (int, error) {
	return c.largest(opt, c.MaxPositionEmbeddings, memory, func(opt *PlanOptions, n int) { opt.Context = n })
}

// LargestBatch returns the greatest batch, up to MaxBatch, at which opt (its
// Batch aside) fits memory bytes; 0 when not even one sequence does.
func (c *Config) LargestBatch(opt PlanOptions, memory int64) (int, error) {
	return c.largest(opt, MaxBatch, memory, func(opt *PlanOptions, n int) { opt.Batch = n })
}

// largest returns the greatest n from 1 to limit at which the plan fits: it grows
// with n.
func (c *Config) largest(opt PlanOptions, limit int, memory int64, set func(opt *PlanOptions, n int)) (int, error) {
	set(&opt, 1)
	least, err := c.Plan(opt)
	if err != nil {
		return 0, err
	}
	opt.Weights = least.Weights
	return sort.Search(limit, func(i int) bool {
		set(&opt, i+1)
		p, err := c.Plan(opt)
		return err != nil || !p.Fits(memory)
	}), nil
}

// mul and add saturate: the greatest shapes that a Config allows times the
// greatest context and batch do not fit 63 bits.
func mul(a, b int64) int64 {
	if a > 0 && b > math.MaxInt64/a {
		return math.MaxInt64
	}
	return a * b
}

func add(a, b int64) int64 {
	if b > math.MaxInt64-a {
		return math.MaxInt64
	}
	return a + b
}
