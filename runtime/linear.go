package runtime

import (
	"fmt"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/model"
)

// to is a matrix and where its product goes, [., w.Rows].
type to struct {
	y []float32
	w projection
}

// residual is a sum that is still to be taken: x += y, and the norm after it. It is
// left to the operation that reads x next, which has each row at hand anyway.
type residual struct {
	y     []float32 // nil: nothing
	norm  *kernels.Norm
	layer int
}

// prepare holds the arguments of preparePart: what happens to each row before it
// is multiplied.
type prepare struct {
	x     []float32
	width int
	add   residual
	norm  *kernels.Norm // nil: none
	layer int
	into  destination
	out   []float32 // of intoFloats
}

// destination is where the rows of prepare go.
type destination uint8

const (
	intoNothing destination = iota // x itself, after the residual
	intoFloats
	intoCodes // buffers.acts
)

// linear holds the arguments of linearPart: matrices of one input, whose rows are
// split as if they were one matrix.
type linear struct {
	outs  [3]to
	n     int
	acts  *kernels.Acts // nil: floats
	x     []float32     // [., width]
	width int
	gated bool // outs are gate and up, and the gate's product becomes act(gate) * up
}

// rowAlign keeps the rows of two threads on different cache lines.
const rowAlign = 64 / 4

// project takes the residual into x, normalizes (norm nil: not), quantizes where
// the model says so, and multiplies by each matrix. Matrices with a norm of their
// own each get an input of their own. gated: the outs are gate and up.
func (e *cpuEngine) project(x []float32, width int, add residual, norm *kernels.Norm, gated bool, outs ...to) error {
	if outs[0].w.norm == nil {
		if err := e.input(x, width, add, norm); err != nil {
			return err
		}
		return e.multiply(gated, outs...)
	}
	if norm != nil {
		shared := grow(&e.buf.shared, len(x))
		if err := e.prepare(prepare{x: x, width: width, add: add, norm: norm, into: intoFloats, out: shared}); err != nil {
			return err
		}
		x, add = shared, residual{}
	}
	for _, o := range outs {
		if err := e.input(x, width, add, o.w.norm); err != nil {
			return err
		}
		if err := e.multiply(false, o); err != nil {
			return err
		}
		add = residual{}
	}
	if gated {
		return e.pool.split(len(outs[0].y), rowAlign, e.parts.gate)
	}
	return nil
}

// input prepares x for multiply: int8 codes, or floats.
func (e *cpuEngine) input(x []float32, width int, add residual, norm *kernels.Norm) error {
	in := &e.step.linear
	p := prepare{x: x, width: width, add: add, norm: norm}
	switch {
	case e.model.Config.ActivationQuant == model.ActivationInt8:
		e.buf.acts.Resize(len(x)/width, width)
		in.acts, p.into = &e.buf.acts, intoCodes
	case norm == nil:
		in.acts, in.x, in.width = nil, x, width
		if add.y == nil {
			return nil
		}
	default:
		p.into, p.out = intoFloats, grow(&e.buf.normed, len(x))
		in.acts, in.x, in.width = nil, p.out, width
	}
	return e.prepare(p)
}

func (e *cpuEngine) prepare(p prepare) error {
	p.layer = e.step.layer
	e.step.prepare = p
	return e.pool.split(len(p.x)/p.width, 1, e.parts.prepare)
}

func (e *cpuEngine) preparePart(lo, hi int) error {
	p := &e.step.prepare
	for i := lo; i < hi; i++ {
		x := p.x[i*p.width : (i+1)*p.width]
		if p.add.y != nil {
			e.ops.Add(x, p.add.y[i*p.width:(i+1)*p.width])
			if p.add.norm != nil {
				if err := e.ops.Norm(x, x, p.add.norm); err != nil {
					return inLayer(p.add.layer, err)
				}
			}
		}
		var err error
		switch p.into {
		case intoFloats:
			err = e.ops.Norm(p.out[i*p.width:(i+1)*p.width], x, p.norm)
		case intoCodes:
			e.buf.acts.Max[i], err = e.ops.NormQuant(e.buf.acts.Token(i), x, p.norm)
		}
		if err != nil {
			return inLayer(p.layer, err)
		}
	}
	return nil
}

// noLayer is the layer of what comes after the last one.
const noLayer = -1

func inLayer(layer int, err error) error {
	if layer == noLayer {
		return fmt.Errorf("after the last layer: %w", err)
	}
	return fmt.Errorf("layer %d: %w", layer, err)
}

// multiply multiplies the input by each matrix.
func (e *cpuEngine) multiply(gated bool, outs ...to) error {
	in := &e.step.linear
	in.n, in.gated = copy(in.outs[:], outs), gated
	rows := 0
	for _, o := range outs {
		rows += alignedRows(o.w.Rows)
	}
	if gated { // both matrices row by row
		rows = outs[0].w.Rows
	}
	return e.pool.split(rows, rowAlign, e.parts.linear)
}

func alignedRows(rows int) int { return (rows + rowAlign - 1) / rowAlign * rowAlign }

func (e *cpuEngine) linearPart(lo, hi int) error {
	in := &e.step.linear
	if in.gated {
		gate, up := &in.outs[0], &in.outs[1]
		e.multiplyRows(gate, lo, hi)
		e.multiplyRows(up, lo, hi)
		for at := 0; at < len(gate.y); at += gate.w.Rows {
			g := gate.y[at+lo : at+hi]
			e.ops.Gate(g, g, up.y[at+lo:at+hi], e.activation)
		}
		return nil
	}
	first := 0
	for i := range in.outs[:in.n] {
		o := &in.outs[i]
		if l, h := max(lo-first, 0), min(hi-first, o.w.Rows); l < h {
			e.multiplyRows(o, l, h)
		}
		first += alignedRows(o.w.Rows)
	}
	return nil
}

func (e *cpuEngine) multiplyRows(o *to, lo, hi int) {
	in := &e.step.linear
	if in.acts != nil {
		e.ops.TernaryInt8(o.y, o.w.Rows, o.w.Ternary, in.acts, lo, hi)
	} else {
		e.ops.TernaryFloat(o.y, o.w.Rows, o.w.Ternary, in.x, len(in.x)/in.width, in.width, lo, hi)
	}
}

// gatePart is the gate of a layer whose projections are multiplied one by one.
func (e *cpuEngine) gatePart(lo, hi int) error {
	g := e.buf.gate[lo:hi]
	e.ops.Gate(g, g, e.buf.up[lo:hi], e.activation)
	return nil
}
