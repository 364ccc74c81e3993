//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// vnni is the implementation for AVX-512 with VNNI: avx2 with other products of
// trits and int8 activations.
type vnni struct{ avx2 }

func (vnni) Name() string { return "avx512" }

// TernaryInt8 is avx2's in 512-bit registers.
func (vnni) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	ternaryInt8(y, ldy, w, x, lo, hi, dpbusd)
}
