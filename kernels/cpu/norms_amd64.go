//go:build amd64 && !purego

package cpu

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

// Norm normalizes in a pass for each sum and one for the result. What is not finite
// is left to the reference, which tells what it was.
func (a avx2) Norm(y, x []float32, n *kernels.Norm) error {
	kernels.CheckNorm(y, x, n)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	out := y
	if &y[0] == &x[0] { // the reference must still find x
		out = grow(&s.floats, len(x))
	}
	if _, ok := s.normalize(out, x, n); !ok {
		return a.Ops.Norm(y, x, n)
	}
	if &y[0] != &out[0] {
		copy(y, out)
	}
	return nil
}

// NormQuant normalizes and rounds to int8.
func (a avx2) NormQuant(q []int8, x []float32, n *kernels.Norm) (float32, error) {
	kernels.CheckNormQuant(q, x, n)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	lanes := (len(x) + kernels.Lanes - 1) / kernels.Lanes
	y, top, ok := x, uint32(0), true
	if n != nil || len(x)%kernels.Lanes > 0 {
		y = grow(&s.floats, lanes*kernels.Lanes)
		clear(y[len(x):])
	}
	if n != nil {
		top, ok = s.normalize(y[:len(x)], x, n)
	} else {
		if len(y) > len(x) {
			copy(y, x)
		}
		top = absMax(&y[0], len(y)/8)
	}
	if !ok || top >= infinityBits {
		return a.Ops.NormQuant(q, x, n)
	}
	amax := max(math.Float32frombits(top), minAbsMax)
	roundInt8(&q[0], &y[0], float32(1/amax)*127, lanes)
	clear(q[lanes*kernels.Lanes:])
	return amax, nil
}

const (
	minAbsMax    float32 = 1e-5
	infinityBits uint32  = 0x7f800000 // bits of absolute values from here on are not finite
)

// normalize writes the normalized x to y, which does not overlap x (section 6). It
// returns the greatest bit pattern of |y[i]|, and whether every step was finite.
func (s *scratch) normalize(y, x []float32, n *kernels.Norm) (top uint32, ok bool) {
	count, whole := float32(len(x)), len(x)/8
	d := x
	if n.Kind == kernels.Layer {
		s.out[0] = negativeZero
		sum(&s.out[0], &x[0], len(x)/kernels.Lanes, s.end(x))
		mean := s.out[0] / count
		d = y
		if whole > 0 {
			subtract(&d[0], &x[0], mean, whole)
		}
		for i := 8 * whole; i < len(x); i++ {
			d[i] = x[i] - mean
		}
	}
	s.out[0] = negativeZero
	sumSquares(&s.out[0], &d[0], len(d)/kernels.Lanes, s.end(d))
	squares := s.out[0]
	r := 1 / float32(math.Sqrt(float64(squares/count+n.Eps)))
	if whole > 0 {
		switch {
		case n.Kind == kernels.RMS:
			top = scaleRMS(&y[0], &x[0], &n.Weight[0], r, whole)
		case n.Bias == nil:
			top = scaleLayer(&y[0], &d[0], &n.Weight[0], r, whole)
		default:
			top = scaleLayerBias(&y[0], &d[0], &n.Weight[0], &n.Bias[0], r, whole)
		}
	}
	for i := 8 * whole; i < len(x); i++ {
		v := float32(d[i]*n.Weight[i]) * r
		if n.Kind == kernels.Layer {
			v = float32(float32(d[i]*r) * n.Weight[i])
			if n.Bias != nil {
				v += n.Bias[i]
			}
		}
		y[i] = v
		top = max(top, math.Float32bits(v)&^(1<<31))
	}
	return top, kernels.Finite(squares) && kernels.Finite(r) && top < infinityBits
}

// end is what does not fill the lanes of x, or nil.
func (s *scratch) end(x []float32) *tail {
	whole := len(x) / kernels.Lanes * kernels.Lanes
	if whole == len(x) {
		return nil
	}
	t := &grow(&s.tails, 1)[0]
	putTail(t, 0, x[whole:], 0) // lanes that begin at +0 and take in squares or terms are never -0: adding 0 changes nothing
	return t
}
