package ref

import (
	"errors"
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/quantize"
)

// Norm writes the normalized vector to y (section 6).
func (Ops) Norm(y, x []float32, n *kernels.Norm) error {
	kernels.CheckNorm(y, x, n)
	return normalize("Norm", y, x, n)
}

// NormQuant normalizes x and quantizes it (sections 6 and 7).
func (Ops) NormQuant(q []int8, x []float32, n *kernels.Norm) (float32, error) {
	kernels.CheckNormQuant(q, x, n)
	y := x
	if n != nil {
		y = make([]float32, len(x))
		if err := normalize("NormQuant", y, x, n); err != nil {
			return 0, err
		}
	}
	return quantizeToken(q, y)
}

func normalize(op string, y, x []float32, n *kernels.Norm) error {
	if n.Kind == kernels.Layer {
		mean := Sum(x) / float32(len(x))
		d := make([]float32, len(x))
		for i, v := range x {
			d[i] = v - mean
		}
		r, err := inverseDeviation(op, d, x, n.Eps)
		if err != nil {
			return err
		}
		for i, v := range d {
			p := float32(float32(v*r) * n.Weight[i])
			if n.Bias != nil {
				p += n.Bias[i]
			}
			y[i] = p
		}
	} else {
		r, err := inverseDeviation(op, x, x, n.Eps)
		if err != nil {
			return err
		}
		for i, v := range x {
			y[i] = float32(v*n.Weight[i]) * r
		}
	}
	return finite(op, "y", y)
}

// inverseDeviation is r = 1 / sqrt(ss/n + eps) of the vector d that comes from x.
func inverseDeviation(op string, d, x []float32, eps float32) (float32, error) {
	ss := Dot(d, d)
	r := 1 / sqrt(ss/float32(len(d))+eps)
	if !kernels.Finite(ss) || !kernels.Finite(r) {
		if err := finite(op, "x", x); err != nil {
			return 0, err
		}
		if kernels.Finite(ss) {
			return 0, &kernels.NonFiniteError{Op: op, What: "r", Index: -1, Value: r}
		}
		return 0, &kernels.NonFiniteError{Op: op, What: "the sum of squares", Index: -1, Value: ss}
	}
	return r, nil
}

// sqrt is the correctly rounded f32 root: an f64 root has more than twice the digits, so rounding twice is right.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

func finite(op, what string, x []float32) error {
	for i, v := range x {
		if !kernels.Finite(v) {
			return &kernels.NonFiniteError{Op: op, What: what, Index: i, Value: v}
		}
	}
	return nil
}

// quantizeToken writes the codes of y and the zeros after them, and returns a (section 7).
func quantizeToken(q []int8, y []float32) (float32, error) {
	a, err := quantize.Int8Token(q, y)
	if e, ok := errors.AsType[*quantize.NonFiniteError](err); ok {
		return 0, &kernels.NonFiniteError{Op: "NormQuant", What: "x", Index: e.Index, Value: e.Value}
	}
	return a, err
}
