package cuda

import (
	"errors"
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// Config is the shape of a model.
type Config struct {
	Hidden, Heads, KVHeads, HeadDim, FFN, Vocab int

	Context    int              // most positions of a sequence
	KV         kernels.KVFormat // how keys and values are stored
	Int8       bool             // inputs of ternary matrices are quantized (spec/numerics.md section 8); else section 9
	Activation kernels.Activation
}

// Projection is a matrix, and the norm of its input that is its own, or nil.
type Projection struct {
	*kernels.Ternary
	Norm *kernels.Norm
}

// Layer is one block. A norm that the architecture does not have is nil.
type Layer struct {
	AttnNorm, QNorm, KNorm, AttnSubNorm, PostAttnNorm *kernels.Norm
	MLPNorm, MLPSubNorm, PostMLPNorm                  *kernels.Norm
	Q, K, V, O, Gate, Up, Down                        Projection
}

// Weights are views of a model's tensors, read once by Load and not kept.
type Weights struct {
	Config
	Embed       *kernels.Dense
	HeadDense   *kernels.Dense   // nil where the head is ternary; Embed where it is tied
	HeadTernary *kernels.Ternary // nil where the head is dense
	Norm        *kernels.Norm    // the final one
	Layers      []Layer

	// Angles writes the HeadDim/2 cosines and sines of a position.
	Angles func(pos int, cos, sin []float32)

	// Guard runs fn and turns a fault in a mapped file into an error; nil runs fn.
	Guard func(fn func() error) error
}

// MaxColumns is the most columns of a matrix that the kernels sum in 32 bits: 64 times 127 a column.
const MaxColumns = 1 << 18 / kernels.TileCols * kernels.TileCols

// check refuses what the kernels were not written for.
func (w *Weights) check() error {
	if n := max(w.Hidden, w.FFN, w.Heads*w.HeadDim); n >= MaxColumns {
		return fmt.Errorf("a matrix of %d columns: the CUDA kernels take less than %d; use the CPU engine", n, MaxColumns)
	}
	if !slices.Contains(kernels.KVFormats, w.KV) {
		return fmt.Errorf("KV format is %d, want KVF32, KVF16, KVInt8 or KVInt4", w.KV)
	}
	if w.HeadDim > 1024 {
		return fmt.Errorf("head_dim is %d: the CUDA kernels take at most 1024; use the CPU engine", w.HeadDim)
	}
	return nil
}

// projection is a matrix on the device and its norm.
type projection struct {
	ternary
	norm norm
}

// layer is a Layer on the device.
type layer struct {
	attnNorm, qNorm, kNorm, attnSubNorm, postAttnNorm norm
	mlpNorm, mlpSubNorm, postMLPNorm                  norm
	q, k, v, o, gate, up, down                        projection
}

// parameters are Weights on the device.
type parameters struct {
	embed       dense
	headDense   dense
	headTernary ternary
	norm        norm
	layers      []layer
	angles      driver.Ptr // [Context][HeadDim/2 cosines, HeadDim/2 sines]
}

// alloc makes room for every tensor.
func (p *parameters) alloc(a allocator, w *Weights) error {
	var errs []error
	check := func(err error) { errs = append(errs, err) }
	newNorm := func(to *norm, from *kernels.Norm) {
		var err error
		*to, err = allocNorm(a, from)
		check(err)
	}
	matrices := func(to []*projection, from ...Projection) {
		tt, tf := make([]*ternary, len(to)), make([]*kernels.Ternary, len(to))
		for i := range to {
			newNorm(&to[i].norm, from[i].Norm)
			tt[i], tf[i] = &to[i].ternary, from[i].Ternary
		}
		check(allocTernary(a, tt, tf))
	}
	var err error
	p.embed, err = allocDense(a, w.Embed)
	check(err)
	switch {
	case w.HeadTernary != nil:
		check(allocTernary(a, []*ternary{&p.headTernary}, []*kernels.Ternary{w.HeadTernary}))
	case w.HeadDense == w.Embed:
		p.headDense = p.embed
	default:
		p.headDense, err = allocDense(a, w.HeadDense)
		check(err)
	}
	newNorm(&p.norm, w.Norm)
	p.layers = make([]layer, len(w.Layers))
	for i := range w.Layers {
		from, to := &w.Layers[i], &p.layers[i]
		for _, n := range norms(to, from) {
			newNorm(n.to, n.from)
		}
		matrices([]*projection{&to.q, &to.k, &to.v}, from.Q, from.K, from.V)
		matrices([]*projection{&to.o}, from.O)
		matrices([]*projection{&to.gate, &to.up}, from.Gate, from.Up)
		matrices([]*projection{&to.down}, from.Down)
	}
	p.angles, err = a.Alloc(4 * int64(w.Context) * int64(w.HeadDim))
	check(err)
	return errors.Join(errs...)
}

type normPair struct {
	to   *norm
	from *kernels.Norm
}

func norms(to *layer, from *Layer) []normPair {
	return []normPair{
		{&to.attnNorm, from.AttnNorm}, {&to.qNorm, from.QNorm}, {&to.kNorm, from.KNorm}, {&to.attnSubNorm, from.AttnSubNorm},
		{&to.postAttnNorm, from.PostAttnNorm}, {&to.mlpNorm, from.MLPNorm}, {&to.mlpSubNorm, from.MLPSubNorm}, {&to.postMLPNorm, from.PostMLPNorm},
	}
}

// upload copies every tensor.
func (d *Device) upload(p *parameters, w *Weights) {
	d.uploadDense(&p.embed, w.Embed)
	if w.HeadTernary != nil {
		d.uploadTernary(&p.headTernary, w.HeadTernary)
	} else if w.HeadDense != w.Embed {
		d.uploadDense(&p.headDense, w.HeadDense)
	}
	d.uploadNorm(p.norm, w.Norm)
	for i := range w.Layers {
		from, to := &w.Layers[i], &p.layers[i]
		for _, n := range norms(to, from) {
			d.uploadNorm(*n.to, n.from)
		}
		for _, m := range []struct {
			to   *projection
			from *Projection
		}{{&to.q, &from.Q}, {&to.k, &from.K}, {&to.v, &from.V}, {&to.o, &from.O}, {&to.gate, &from.Gate}, {&to.up, &from.Up}, {&to.down, &from.Down}} {
			d.uploadNorm(m.to.norm, m.from.Norm)
			d.uploadTernary(&m.to.ternary, m.from.Ternary)
		}
	}
	line := make([]float32, w.HeadDim)
	table := make([]float32, 0, stagingBytes/4)
	at := p.angles
	for pos := range w.Context {
		w.Angles(pos, line[:w.HeadDim/2], line[w.HeadDim/2:])
		table = append(table, line...)
		if len(table)+w.HeadDim > cap(table) || pos == w.Context-1 {
			d.up.floats(at, table)
			at += driver.Ptr(4 * len(table))
			table = table[:0]
		}
	}
	if d.err == nil {
		d.fail(d.stream.Synchronize())
	}
}
