//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// vnni is the implementation for AVX-512 with VNNI: avx2 with other ternary
// products.
type vnni struct{ avx2 }

func (vnni) Name() string { return "avx512" }

// TernaryInt8 is avx2's with four tokens at a time.
func (vnni) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	ternaryInt8(y, ldy, w, x, lo, hi, ternaryKernels{gemv: ternaryGEMV512, tokens: 4, gemm: func(sums *[16]int32, panel *byte, q *int8, stride int) {
		ternaryGEMM512(sums, panel, q, stride, stride/64)
	}})
}
