//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// DotInt16 takes 32 columns at a time.
func (avx2) DotInt16(y []int32, rows []int8, x []int16, lo, hi int) {
	kernels.CheckDotInt16(y, rows, x, lo, hi)
	for row := lo; row < hi; row++ {
		y[row] = dotInt16(&rows[row*len(x)], &x[0], len(x)/kernels.Lanes)
	}
}
