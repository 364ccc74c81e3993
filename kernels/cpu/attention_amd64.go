//go:build amd64 && !purego

package cpu

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// Attention computes the 64 scores of a page at once, each a chain of its own.
func (a avx2) Attention(out, q []float32, pages []*kernels.Page, kvHead, kvHeads, headDim, n int, buf []float32) {
	if headDim%8 != 0 {
		a.Ops.Attention(out, q, pages, kvHead, kvHeads, headDim, n, buf)
		return
	}
	kernels.CheckAttention(out, q, pages, kvHead, kvHeads, headDim, n, buf)
	scale := float32(1 / math.Sqrt(float64(headDim)))
	p, o := buf[:kernels.PageLen], buf[kernels.PageLen:][:headDim]
	head := headDim * kernels.PageLen
	var m, l float32
	for c := 0; c*kernels.PageLen < n; c++ {
		count := min(kernels.PageLen, n-c*kernels.PageLen)
		scores(&p[0], &q[0], &pages[c].K[kvHead*head], headDim)
		for j := range p[:count] {
			p[j] = float32(p[j] * scale)
		}
		mc := p[0]
		for _, v := range p[1:count] {
			if v > mc {
				mc = v
			}
		}
		for j := count; j < len(p); j++ {
			p[j] = float32(math.Inf(-1)) // absent: weight 0, which changes no sum of weights
		}
		lc := expSum(&p[0], mc)
		weighted(&o[0], &p[0], &pages[c].V[kvHead*head], count, headDim, headDim/8)
		if c == 0 {
			m, l = mc, lc
			copy(out, o)
			continue
		}
		top := m
		if mc > m {
			top = mc
		}
		before, now := ref.Exp32(m-top), ref.Exp32(mc-top)
		m = top
		l = ref.FMA32(lc, now, float32(l*before))
		merge(&out[0], &o[0], before, now, headDim/8)
	}
	inv := 1 / l
	for d := range out {
		out[d] *= inv
	}
}
