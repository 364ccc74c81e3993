package ref

import (
	"encoding/binary"
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

// Dense multiplies rows of a dense matrix by f32 activations (section 10).
func (Ops) Dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	kernels.CheckDense(y, ldy, w, x, m, ldx, lo, hi)
	r := make([]float32, w.Cols)
	for row := lo; row < hi; row++ {
		widen(r, w, row)
		for k := range m {
			s := Dot(r, x[k*ldx:][:w.Cols])
			if w.Type == kernels.I8 {
				s *= w.Scales[row]
			}
			y[k*ldy+row] = s
		}
	}
}

// DotInt16 multiplies rows of int8 by int16, exactly.
func (Ops) DotInt16(y []int32, rows []int8, x []int16, lo, hi int) {
	kernels.CheckDotInt16(y, rows, x, lo, hi)
	for row := lo; row < hi; row++ {
		w := rows[row*len(x):][:len(x)]
		var s int32
		for i, v := range x {
			s += int32(w[i]) * int32(v)
		}
		y[row] = s
	}
}

// EmbedRow writes one row of w (section 10).
func (Ops) EmbedRow(dst []float32, w *kernels.Dense, row int) {
	kernels.CheckEmbedRow(dst, w, row)
	widen(dst, w, row)
	if w.Type == kernels.I8 {
		for i := range dst {
			dst[i] *= w.Scales[row]
		}
	}
}

// widen writes the elements of a row as f32, exactly and without the scale.
func widen(dst []float32, w *kernels.Dense, row int) {
	size := w.Type.Size()
	b := w.Data[row*w.Cols*size:][:w.Cols*size]
	switch w.Type {
	case kernels.F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case kernels.F16:
		for i := range dst {
			dst[i] = widenF16(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case kernels.BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	case kernels.I8:
		for i := range dst {
			dst[i] = float32(int8(b[i]))
		}
	}
}

// widenF16 moves a binary16's fields to their places in a binary32, where its exponent is 112 short: multiplying by
// 2^112 is exact, subnormals included. An infinity or NaN has its exponent set outright.
func widenF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	bits := uint32(h&0x7fff) << 13
	if bits >= 0x0f800000 {
		return math.Float32frombits(sign | bits | 0x7f800000)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(bits)*0x1p112))
}
