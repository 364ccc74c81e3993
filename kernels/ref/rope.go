package ref

import (
	"fmt"

	"github.com/tritter-ai/tritter/kernels"
)

// MaxPosition bounds the positions of a Rope: section 5 reduces angles up to it exactly enough.
const MaxPosition = 1 << 24

// Rope rotates each half-pair of x: element i with element i + headDim/2 (section 11).
func (Ops) Rope(x []float32, headDim int, cos, sin []float32) {
	kernels.CheckRope(x, headDim, cos, sin)
	half := headDim / 2
	for ; len(x) > 0; x = x[headDim:] {
		for i := range half {
			a, b := x[i], x[i+half]
			x[i] = float32(a*cos[i]) - float32(b*sin[i])
			x[i+half] = float32(b*cos[i]) + float32(a*sin[i])
		}
	}
}

// Rope is a model's rotary frequencies, computed once. It is immutable.
type Rope struct{ invFreq []float64 }

// NewRope computes the frequencies of section 11. The error names a parameter outside of the range for which the
// angles are specified.
func NewRope(spec kernels.RopeSpec, headDim int) (*Rope, error) {
	if headDim <= 0 || headDim%2 != 0 {
		return nil, fmt.Errorf("rope: head_dim is %d, want a positive even number", headDim)
	}
	if !(spec.Theta >= 1 && spec.Theta <= 0x1p100) {
		return nil, fmt.Errorf("rope: theta is %v, want 1 to 2^100", spec.Theta)
	}
	if spec.Type == kernels.RopeLinear || spec.Type == kernels.RopeLlama3 {
		if !(spec.Factor >= 1 && spec.Factor <= 0x1p100) {
			return nil, fmt.Errorf("rope: factor is %v, want 1 to 2^100", spec.Factor)
		}
	}
	r := &Rope{invFreq: make([]float64, headDim/2)}
	lnTheta := log64(spec.Theta)
	for i := range r.invFreq {
		r.invFreq[i] = exp64(-float64(float64(2*i) / float64(headDim) * lnTheta))
	}
	switch spec.Type {
	case kernels.RopeDefault:
	case kernels.RopeLinear:
		for i := range r.invFreq {
			r.invFreq[i] /= spec.Factor
		}
	case kernels.RopeLlama3:
		if !(spec.LowFreq > 0 && spec.LowFreq < spec.HighFreq && spec.HighFreq <= 0x1p100) || spec.OriginalMax < 1 {
			return nil, fmt.Errorf("rope: low_freq_factor, high_freq_factor, original_max_position_embeddings are %v, %v, %d, want 0 < low < high <= 2^100 and a positive length", spec.LowFreq, spec.HighFreq, spec.OriginalMax)
		}
		for i, f := range r.invFreq {
			r.invFreq[i] = llama3(f, spec)
		}
	default:
		return nil, fmt.Errorf("rope: type is %d, want RopeDefault, RopeLinear or RopeLlama3", spec.Type)
	}
	return r, nil
}

func llama3(f float64, spec kernels.RopeSpec) float64 {
	length := float64(spec.OriginalMax)
	wave := twoPi / f
	switch {
	case wave < length/spec.HighFreq:
		return f
	case wave > length/spec.LowFreq:
		return f / spec.Factor
	}
	s := (length/wave - spec.LowFreq) / (spec.HighFreq - spec.LowFreq)
	return float64(float64((1-s)*f)/spec.Factor) + float64(s*f)
}

// At writes the cosines and sines of a position, headDim/2 each. pos is below MaxPosition.
func (r *Rope) At(pos int, cos, sin []float32) {
	if pos < 0 || pos >= MaxPosition || len(cos) != len(r.invFreq) || len(sin) != len(r.invFreq) {
		panic(fmt.Sprintf("ref: Rope.At: position %d with %d cosines and %d sines, want 0..%d and %d of each",
			pos, len(cos), len(sin), MaxPosition-1, len(r.invFreq)))
	}
	for i, f := range r.invFreq {
		s, c := sincos64(float64(float64(pos) * f))
		sin[i], cos[i] = float32(s), float32(c)
	}
}

// RopeAngles is NewRope and At in one call, for tests and tools.
func RopeAngles(cos, sin []float32, pos int, spec kernels.RopeSpec) error {
	r, err := NewRope(spec, 2*len(cos))
	if err != nil {
		return err
	}
	r.At(pos, cos, sin)
	return nil
}
