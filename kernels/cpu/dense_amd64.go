//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

const (
	denseTokens = 3  // that share a row once it is widened
	denseRows   = 16 // that stay in a cache while tokens are multiplied with them
)

// Dense multiplies three rows by one token at a time, or a row by up to three tokens.
func (avx2) Dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	kernels.CheckDense(y, ldy, w, x, m, ldx, lo, hi)
	if m == 1 && w.Cols > 0 && w.Cols%kernels.Lanes == 0 {
		lo += denseStreamed(y, w, x, lo, hi)
	}
	dense(y, ldy, w, x, m, ldx, lo, hi)
}

// denseStreamed multiplies one token by a multiple of three of the rows from lo on, whose
// number it returns: three equal stretches of rows, a row of each at a time.
func denseStreamed(y []float32, w *kernels.Dense, x []float32, lo, hi int) int {
	each, rowBytes := (hi-lo)/3, w.Cols*w.Type.Size()
	for row := lo; row < lo+each; row++ {
		sums := [3]float32{negativeZero, negativeZero, negativeZero}
		data, stride, n := &w.Data[row*rowBytes], each*rowBytes, w.Cols/kernels.Lanes
		switch w.Type {
		case kernels.F32:
			rows3F32(&sums, data, stride, &x[0], n)
		case kernels.F16:
			rows3F16(&sums, data, stride, &x[0], n)
		case kernels.BF16:
			rows3BF16(&sums, data, stride, &x[0], n)
		case kernels.I8:
			rows3I8(&sums, data, stride, &x[0], n)
			for i := range sums {
				sums[i] *= w.Scales[row+i*each]
			}
		}
		for i, sum := range sums {
			y[row+i*each] = sum
		}
	}
	return 3 * each
}

// dense multiplies a row by up to three tokens at a time.
func dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	if m == 0 || lo == hi {
		return
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	d := denseProduct{scratch: s, w: w, x: x, ldx: ldx, whole: w.Cols / kernels.Lanes * kernels.Lanes}
	if d.whole < w.Cols {
		d.padTails(m)
	}
	for ; lo < hi; lo += denseRows {
		for k, part := 0, 0; k < m; part++ {
			count := share(m-k, denseTokens)
			for row := lo; row < min(lo+denseRows, hi); row++ {
				d.dots(row, k, count, part)
				for t := range count {
					y[(k+t)*ldy+row] = d.scaled(d.out[t], row)
				}
			}
			k += count
		}
	}
}

// denseProduct is a call of Dense.
type denseProduct struct {
	*scratch
	w     *kernels.Dense
	x     []float32
	ldx   int
	whole int // columns that fill the lanes; the others stand in tails
}

// padTails copies what does not fill the lanes of each token into the tail of the
// tokens that it is multiplied with.
func (d *denseProduct) padTails(m int) {
	tails := grow(&d.tails, (m+denseTokens-1)/denseTokens)
	for k, part := 0, 0; k < m; part++ {
		count := share(m-k, denseTokens)
		clear(tails[part][:])
		for t := range count {
			// An absent element is 0 times -0: adding that keeps even the sign of a zero.
			putTail(&tails[part], t, d.x[(k+t)*d.ldx:][d.whole:d.w.Cols], negativeZero)
		}
		k += count
	}
}

// dots multiplies a row by count tokens from k on into out.
func (d *denseProduct) dots(row, k, count, part int) {
	size := d.w.Type.Size()
	data := d.w.Data[row*d.w.Cols*size:][:d.w.Cols*size]
	var end *tail
	if d.whole < d.w.Cols {
		end = &d.tails[part]
		copy(end[:], data[d.whole*size:])
	}
	sums, w, x, ldx, n := &d.out[0], &data[0], &d.x[k*d.ldx], 4*d.ldx, d.whole/kernels.Lanes
	for i := range count {
		d.out[i] = negativeZero
	}
	switch d.w.Type {
	case kernels.F32:
		switch count {
		case 1:
			dot1F32(sums, w, x, ldx, n, end)
		case 2:
			dot2F32(sums, w, x, ldx, n, end)
		case 3:
			dot3F32(sums, w, x, ldx, n, end)
		}
	case kernels.F16:
		switch count {
		case 1:
			dot1F16(sums, w, x, ldx, n, end)
		case 2:
			dot2F16(sums, w, x, ldx, n, end)
		case 3:
			dot3F16(sums, w, x, ldx, n, end)
		}
	case kernels.BF16:
		switch count {
		case 1:
			dot1BF16(sums, w, x, ldx, n, end)
		case 2:
			dot2BF16(sums, w, x, ldx, n, end)
		case 3:
			dot3BF16(sums, w, x, ldx, n, end)
		}
	case kernels.I8:
		switch count {
		case 1:
			dot1I8(sums, w, x, ldx, n, end)
		case 2:
			dot2I8(sums, w, x, ldx, n, end)
		case 3:
			dot3I8(sums, w, x, ldx, n, end)
		}
	}
}

// scaled is a row's dot with the row's scale, if it has one.
func (d *denseProduct) scaled(dot float32, row int) float32 {
	if d.w.Type == kernels.I8 {
		return dot * d.w.Scales[row]
	}
	return dot
}

// EmbedRow widens eight elements at a time; the last eight may overlap those before.
func (a avx2) EmbedRow(dst []float32, w *kernels.Dense, row int) {
	if w.Cols < 8 {
		a.Ops.EmbedRow(dst, w, row)
		return
	}
	kernels.CheckEmbedRow(dst, w, row)
	size := w.Type.Size()
	data := w.Data[row*w.Cols*size:]
	widen(w.Type, dst, data, w.Cols/8)
	if w.Cols%8 > 0 {
		widen(w.Type, dst[w.Cols-8:], data[(w.Cols-8)*size:], 1)
	}
	if w.Type == kernels.I8 {
		scale := w.Scales[row]
		for i := range dst {
			dst[i] *= scale
		}
	}
}

func widen(t kernels.DType, dst []float32, data []byte, n int) {
	switch t {
	case kernels.F32:
		widenF32(&dst[0], &data[0], n)
	case kernels.F16:
		widenF16(&dst[0], &data[0], n)
	case kernels.BF16:
		widenBF16(&dst[0], &data[0], n)
	case kernels.I8:
		widenI8(&dst[0], &data[0], n)
	}
}
