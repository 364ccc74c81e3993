//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// wideTokens is how many tokens share a row in 512-bit registers.
const wideTokens = 8

// Dense takes a row of int8 by itself for one token, and eight tokens at a time while
// there are as many and rows fill the lanes; avx2 takes the rest.
func (vnni) Dense(y []float32, ldy int, w *kernels.Dense, acts []float32, m, ldx, lo, hi int) {
	kernels.CheckDense(y, ldy, w, acts, m, ldx, lo, hi)
	if m == 1 && w.Type == kernels.I8 && w.Cols%(2*kernels.Lanes) == 0 {
		for row := lo; row < hi; row++ {
			y[row] = rowI8512(&w.Data[row*w.Cols], &acts[0], w.Cols/(2*kernels.Lanes)) * w.Scales[row]
		}
		return
	}
	if m < wideTokens || w.Cols%kernels.Lanes != 0 {
		dense(y, ldy, w, acts, m, ldx, lo, hi)
		return
	}
	whole := m / wideTokens * wideTokens
	var sums [denseRows][wideTokens]float32
	for ; lo < hi; lo += denseRows { // these rows stay in a cache while tokens are multiplied with them
		end := min(lo+denseRows, hi)
		for k := 0; k < whole; k += wideTokens {
			for i := range sums {
				for t := range sums[i] {
					sums[i][t] = negativeZero // which added to the first block leaves it as it is
				}
			}
			for col := 0; col < w.Cols; col += kernels.BlockLen {
				n := min(kernels.BlockLen, w.Cols-col) / kernels.Lanes
				for row := lo; row < end; row++ {
					dot8(w.Type, &sums[row-lo], &w.Data[(row*w.Cols+col)*w.Type.Size()], &acts[k*ldx+col], 4*ldx, n)
				}
			}
			for row := lo; row < end; row++ {
				for t, v := range sums[row-lo] {
					if w.Type == kernels.I8 {
						v *= w.Scales[row]
					}
					y[(k+t)*ldy+row] = v
				}
			}
		}
		if whole < m {
			dense(y[whole*ldy:], ldy, w, acts[whole*ldx:], m-whole, ldx, lo, end)
		}
	}
}

// dot8 adds the dots of a block of a row with eight tokens to sums.
func dot8(t kernels.DType, sums *[wideTokens]float32, row *byte, x *float32, ldx, n int) {
	switch t {
	case kernels.F32:
		dot8F32512(sums, row, x, ldx, n)
	case kernels.F16:
		dot8F16512(sums, row, x, ldx, n)
	case kernels.BF16:
		dot8BF16512(sums, row, x, ldx, n)
	case kernels.I8:
		dot8I8512(sums, row, x, ldx, n)
	}
}
