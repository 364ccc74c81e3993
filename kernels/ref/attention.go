package ref

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

// Attention is one query head over positions 0..n-1 (section 12).
func (Ops) Attention(out, q []float32, pages []*kernels.Page, kvHead, kvHeads, headDim, n int, scratch []float32) {
	kernels.CheckAttention(out, q, pages, kvHead, kvHeads, headDim, n, scratch)
	scale := float32(1 / math.Sqrt(float64(headDim)))
	p, o := scratch[:kernels.PageLen], scratch[kernels.PageLen:][:headDim]
	head := headDim * kernels.PageLen

	var m, l float32
	for c := 0; c*kernels.PageLen < n; c++ {
		count := min(kernels.PageLen, n-c*kernels.PageLen)
		k := pages[c].K[kvHead*head:][:head]
		v := pages[c].V[kvHead*head:][:head]
		mc, lc := chunk(o, p[:count], q, k, v, scale)
		if c == 0 {
			m, l = mc, lc
			copy(out, o)
			continue
		}
		top := m
		if mc > m {
			top = mc
		}
		a, b := Exp32(m-top), Exp32(mc-top)
		m = top
		l = FMA32(lc, b, float32(l*a))
		for d := range out {
			out[d] = FMA32(o[d], b, float32(out[d]*a))
		}
	}
	inv := 1 / l
	for d := range out {
		out[d] *= inv
	}
}

// chunk attends to the len(p) first positions of a page: it returns the greatest score and the sum of the weights,
// and leaves the weights in p and the weighted sum of the values in o.
func chunk(o, p, q, k, v []float32, scale float32) (m, l float32) {
	clear(p)
	for d, x := range q {
		for j, y := range k[d*kernels.PageLen:][:len(p)] {
			p[j] = FMA32(x, y, p[j])
		}
	}
	for j := range p {
		p[j] = float32(p[j] * scale)
		if j == 0 || p[j] > m {
			m = p[j]
		}
	}
	for j := range p {
		p[j] = Exp32(p[j] - m)
	}
	clear(o)
	for j, w := range p {
		for d, y := range v[j*len(o):][:len(o)] {
			o[d] = FMA32(w, y, o[d])
		}
	}
	return m, Sum(p)
}
