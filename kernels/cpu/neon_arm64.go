//go:build arm64 && !purego

package cpu

import (
	"math"
	"sync"

	"golang.org/x/sys/cpu"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// native lists what this processor has.
func native() (all []kernels.Ops) {
	if cpu.ARM64.HasASIMD && cpu.ARM64.HasASIMDDP {
		all = append(all, neon{})
	}
	return all
}

// neon is the implementation for NEON with the dot products of Armv8.2 (SDOT).
// Its twin is ref, whose methods it keeps where a shape does not fit the
// registers.
type neon struct{ ref.Ops }

func (neon) Name() string { return "neon" }

// scratch is memory that a call needs for itself.
type scratch struct {
	floats []float32
	out    [16]int32 // here and not on the stack, where calls through a variable would move it to the heap
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// TernaryInt8 multiplies tiles in place, by four tokens at once where there are as
// many.
func (neon) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	if x.M == 0 || lo == hi {
		return
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	tiles := w.ColTiles()
	step := tiles // tiles of a group
	if w.Group != 0 {
		step = w.Group / kernels.TileCols
	}
	for row := lo; row < hi; row += kernels.TileRows {
		n := min(kernels.TileRows, hi-row)
		for m := 0; m < x.M; {
			tokens := 1
			if m+4 <= x.M {
				tokens = 4
			}
			var acc [16]float32
			for first := 0; first < tiles; first += step {
				tile, q := &w.Tiles[(row/kernels.TileRows*tiles+first)*kernels.TileBytes], &x.Codes[m*x.Stride+first*kernels.TileCols]
				if count := min(step, tiles-first); tokens == 4 {
					ternaryGEMM(&s.out, tile, count, q, x.Stride)
				} else {
					ternaryGEMV((*[4]int32)(s.out[:]), tile, count, q)
				}
				for t := range tokens {
					for r := range n {
						sum := float32(s.out[4*t+r])
						if w.Group == 0 {
							acc[4*t+r] = sum * (float32(scale(w, row+r)*x.Max[m+t]) / 127)
						} else {
							acc[4*t+r] = ref.FMA32(sum, w.Scales[(row+r)*w.Groups()+first/step], acc[4*t+r])
						}
					}
				}
			}
			for t := range tokens {
				for r := range n {
					v := acc[4*t+r]
					if w.Group != 0 {
						v = float32(v * (x.Max[m+t] / 127))
					}
					y[(m+t)*ldy+row+r] = biased(w, row+r, v)
				}
			}
			m += tokens
		}
	}
}

func scale(w *kernels.Ternary, row int) float32 {
	if len(w.Scales) == 1 {
		return w.Scales[0]
	}
	return w.Scales[row]
}

func biased(w *kernels.Ternary, row int, v float32) float32 {
	if w.Bias == nil {
		return v
	}
	return float32(v) + w.Bias[row]
}

// TernaryFloat takes the dot of every row, in the 32 lanes of the specification,
// which are the bytes of a tile's run.
func (a neon) TernaryFloat(y []float32, ldy int, w *kernels.Ternary, x []float32, m, ldx, lo, hi int) {
	kernels.CheckTernaryFloat(y, ldy, w, x, m, ldx, lo, hi)
	const run = kernels.TileBytes / kernels.TileRows
	if padded := kernels.PadCols(w.Cols); padded != w.Cols {
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		whole := s.grown(m * padded)
		for k := range m {
			n := copy(whole[k*padded:], x[k*ldx:][:w.Cols])
			for i := n; i < padded; i++ {
				whole[k*padded+i] = negativeZero
			}
		}
		x, ldx = whole, padded
	}
	tiles := w.ColTiles()
	step := max(w.Group/kernels.TileCols, 0)
	for row := lo; row < hi; row++ {
		data := w.Tiles[row/kernels.TileRows*tiles*kernels.TileBytes+row%kernels.TileRows*run:]
		for k := range m {
			var v float32
			if w.Group == 0 {
				v = scale(w, row) * dotTernary(&data[0], &x[k*ldx], tiles)
			} else {
				for g, s := range w.Scales[row*w.Groups():][:w.Groups()] {
					v = ref.FMA32(s, dotTernary(&data[g*step*kernels.TileBytes], &x[k*ldx+g*w.Group], min(step, tiles-g*step)), v)
				}
			}
			y[k*ldy+row] = biased(w, row, v)
		}
	}
}

// negativeZero times a trit of 0 is -0, which added to any number leaves it what it
// is, its sign included: an absent element.
var negativeZero = float32(math.Copysign(0, -1))

// Dense takes the dot of every row, in the 32 lanes of the specification.
func (a neon) Dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	if w.Cols%kernels.Lanes != 0 {
		a.Ops.Dense(y, ldy, w, x, m, ldx, lo, hi)
		return
	}
	kernels.CheckDense(y, ldy, w, x, m, ldx, lo, hi)
	dot := dotF32
	switch w.Type {
	case kernels.BF16:
		dot = dotBF16
	case kernels.F16:
		dot = dotF16
	case kernels.I8:
		dot = dotI8
	}
	for row := lo; row < hi; row++ {
		data := &w.Data[row*w.Cols*w.Type.Size()]
		for k := range m {
			s := dot(data, &x[k*ldx], w.Cols/kernels.Lanes)
			if w.Type == kernels.I8 {
				s *= w.Scales[row]
			}
			y[k*ldy+row] = s
		}
	}
}

// normalize normalizes x into y, which is not x, and reports whether every step was
// finite; where not, the reference tells what was wrong.
func normalize(y, x []float32, n *kernels.Norm) bool {
	if n.Kind == kernels.Layer {
		subtract(&y[0], &x[0], sumFloats(&x[0], len(x)/kernels.Lanes)/float32(len(x)), len(x)/8)
		x = y
	}
	ss := sumSquares(&x[0], len(x)/kernels.Lanes)
	r := 1 / float32(math.Sqrt(float64(ss/float32(len(x))+n.Eps)))
	if n.Kind == kernels.Layer {
		scaleLayer(&y[0], &x[0], &n.Weight[0], r, len(x)/8)
		if n.Bias != nil {
			addFloats(&y[0], &n.Bias[0], len(x)/8)
		}
	} else {
		scaleNorm(&y[0], &x[0], &n.Weight[0], r, len(x)/8)
	}
	return kernels.Finite(ss) && kernels.Finite(r) && absMax(&y[0], len(y)/8) < 0x7f800000
}

// grown returns n elements of the scratch.
func (s *scratch) grown(n int) []float32 {
	if cap(s.floats) < n {
		s.floats = make([]float32, n)
	}
	return s.floats[:n]
}

// Norm takes whole groups of lanes.
func (a neon) Norm(y, x []float32, n *kernels.Norm) error {
	if len(x)%kernels.Lanes != 0 || len(x) == 0 {
		return a.Ops.Norm(y, x, n)
	}
	kernels.CheckNorm(y, x, n)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	if out := s.grown(len(x)); normalize(out, x, n) { // y may be x, which an error must leave to the reference
		copy(y, out)
		return nil
	}
	return a.Ops.Norm(y, x, n)
}

// NormQuant normalizes and rounds to int8.
func (a neon) NormQuant(q []int8, x []float32, n *kernels.Norm) (float32, error) {
	if len(x)%kernels.Lanes != 0 || len(x) == 0 {
		return a.Ops.NormQuant(q, x, n)
	}
	kernels.CheckNormQuant(q, x, n)
	y := x
	if n != nil {
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		if y = s.grown(len(x)); !normalize(y, x, n) {
			return a.Ops.NormQuant(q, x, n)
		}
	}
	top := absMax(&y[0], len(y)/8)
	if top >= 0x7f800000 {
		return a.Ops.NormQuant(q, x, n)
	}
	amax := max(math.Float32frombits(top), minAbsMax)
	roundInt8(&q[0], &y[0], float32(1/amax)*127, len(y)/kernels.Lanes)
	clear(q[len(y):])
	return amax, nil
}

const minAbsMax float32 = 1e-5

// Rope rotates four pairs at once.
func (a neon) Rope(x []float32, headDim int, cos, sin []float32) {
	if headDim%8 != 0 {
		a.Ops.Rope(x, headDim, cos, sin)
		return
	}
	kernels.CheckRope(x, headDim, cos, sin)
	for ; len(x) > 0; x = x[headDim:] {
		rotate(&x[0], &cos[0], &sin[0], headDim/2, headDim/8)
	}
}

// Gate takes whole vectors and leaves the rest to the reference.
func (a neon) Gate(h, g, u []float32, act kernels.Activation) {
	kernels.CheckGate(h, g, u, act)
	n := len(h) / 4 * 4
	if n > 0 {
		if act == kernels.SiLU {
			gateSiLU(&h[0], &g[0], &u[0], n/4)
		} else {
			gateReLU2(&h[0], &g[0], &u[0], n/4)
		}
	}
	a.Ops.Gate(h[n:], g[n:], u[n:], act)
}

// Add takes whole vectors and leaves the rest to the reference.
func (a neon) Add(x, y []float32) {
	kernels.CheckAdd(x, y)
	n := len(x) / 8 * 8
	if n > 0 {
		addFloats(&x[0], &y[0], n/8)
	}
	a.Ops.Add(x[n:], y[n:])
}
