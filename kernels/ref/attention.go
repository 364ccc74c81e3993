package ref

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

// Attention merges chunks lo..hi-1 into a part for each query (section 12).
func (Ops) Attention(parts []float32, a *kernels.Queries, lo, hi int) {
	kernels.CheckAttention(parts, a, lo, hi)
	clear(parts)
	for c := lo; c < hi; c++ {
		page := a.Page(c)
		if page == nil {
			continue
		}
		d := page.HeadDim
		size := kernels.AttentionPart(d)
		for r := range a.Rows {
			sinks, from, to := a.Span(r, c)
			if sinks == 0 && from == to {
				continue
			}
			for g := range a.Heads {
				at := r*a.Stride + g*d
				h := chunk{page: page, head: a.KVHead, sinks: sinks, from: from, to: to, q: a.Q[at:][:d]}
				if sinks > 0 {
					h.sinkQ = a.SinkQ[at:][:d]
				}
				h.merge(parts[(r*a.Heads+g)*size:][:size])
			}
		}
	}
}

// MergeAttention merges n parts of a query and divides by the sum of the weights (section 12).
func (Ops) MergeAttention(out, parts []float32, stride, n int) {
	kernels.CheckMergeAttention(out, parts, stride, n)
	d := len(out)
	var m, l float32
	for ; n > 0; n-- {
		o, mc, lc := parts[:d], parts[d], parts[d+1]
		m, l = mergeParts(out, m, l, mc, lc, func(i int) float32 { return o[i] })
		if n > 1 {
			parts = parts[stride:]
		}
	}
	inv := 1 / l
	for i := range out {
		out[i] *= inv
	}
}

// mergeParts merges the part (oc, mc, lc) into (o, m, l) and returns the new m and l. A part with l = 0 is empty.
func mergeParts(o []float32, m, l, mc, lc float32, oc func(i int) float32) (float32, float32) {
	if lc == 0 {
		return m, l
	}
	if l == 0 {
		for i := range o {
			o[i] = oc(i)
		}
		return mc, lc
	}
	top := m
	if mc > m {
		top = mc
	}
	before, now := Exp32(m-top), Exp32(mc-top)
	for i := range o {
		o[i] = FMA32(oc(i), now, float32(o[i]*before))
	}
	return top, FMA32(lc, now, float32(l*before))
}

// chunk is the attention of one query to one chunk: positions 0..sinks-1, scored with sinkQ, and from..to-1, scored
// with q.
type chunk struct {
	page            *kernels.Page
	head            int
	sinks, from, to int
	q, sinkQ        []float32
}

// merge adds the chunk to a part.
func (h *chunk) merge(part []float32) {
	d := h.page.HeadDim
	scale := float32(1 / math.Sqrt(float64(d)))
	var p [kernels.PageLen]float32
	h.positions(func(j int, q []float32) { p[j] = h.score(q, j) })
	if h.page.Format == kernels.KVInt4 {
		sum, sinkSum := Sum(h.q), Sum(h.sinkQ)
		h.positions(func(j int, q []float32) {
			x := sum
			if j < h.sinks {
				x = sinkSum
			}
			a, b := affine(h.page.KAffine[2*h.head*kernels.PageLen:], j)
			p[j] = FMA32(p[j], a, float32(b*x))
		})
	}
	first, m := true, float32(0)
	h.positions(func(j int, _ []float32) {
		p[j] = float32(p[j] * scale)
		if first || p[j] > m {
			first, m = false, p[j]
		}
	})
	var sum lanes
	h.positions(func(j int, _ []float32) {
		p[j] = Exp32(p[j] - m)
		sum[j%kernels.Lanes] += p[j]
	})
	l := sum.fold()
	start := h.weigh(&p)
	part[d], part[d+1] = mergeParts(part[:d], part[d], part[d+1], m, l, func(i int) float32 {
		o := start
		h.positions(func(j int, _ []float32) { o = FMA32(p[j], h.value(j, i), o) })
		return o
	})
}

// positions visits the positions of the chunk that the query attends to, ascending, each with the query that scores it.
func (h *chunk) positions(visit func(j int, q []float32)) {
	for j := range h.sinks {
		visit(j, h.sinkQ)
	}
	for j := h.from; j < h.to; j++ {
		visit(j, h.q)
	}
}

// score is the chain of products of q with a key's elements or codes, times the scale of the int8 format.
func (h *chunk) score(q []float32, j int) float32 {
	const n = kernels.PageLen
	p, d := h.page, len(q)
	var v float32
	switch p.Format {
	case kernels.KVF32:
		for i, x := range q {
			v = FMA32(x, p.K[(h.head*d+i)*n+j], v)
		}
	case kernels.KVF16:
		for i, x := range q {
			v = FMA32(x, widenF16(p.KHalf[(h.head*d+i)*n+j]), v)
		}
	case kernels.KVInt8:
		for i, x := range q {
			v = FMA32(x, float32(int8(p.KCodes[(h.head*d+i)*n+j])), v)
		}
		v *= p.KScale[h.head*n+j]
	case kernels.KVInt4:
		for i, x := range q {
			v = FMA32(x, nibble(p.KCodes[(h.head*((d+1)/2)+i/2)*n+j], i), v)
		}
	}
	return v
}

// weigh multiplies the weights by the values' scales, where the format has them, and returns what the sums of weighted
// values begin with.
func (h *chunk) weigh(p *[kernels.PageLen]float32) float32 {
	switch h.page.Format {
	case kernels.KVInt8:
		h.positions(func(j int, _ []float32) { p[j] *= h.page.VScale[h.head*kernels.PageLen+j] })
	case kernels.KVInt4:
		var start lanes
		h.positions(func(j int, _ []float32) {
			a, b := affine(h.page.VAffine, j)
			l := j % kernels.Lanes
			start[l] = FMA32(p[j], b, start[l])
			p[j] *= a
		})
		return start.fold()
	}
	return 0
}

// value is element i of the value of position j, or its code.
func (h *chunk) value(j, i int) float32 {
	p, d := h.page, h.page.HeadDim
	row := h.head*kernels.PageLen + j
	switch p.Format {
	case kernels.KVF32:
		return p.V[row*d+i]
	case kernels.KVF16:
		return widenF16(p.VHalf[row*d+i])
	case kernels.KVInt8:
		return float32(int8(p.VCodes[row*d+i]))
	}
	return nibble(p.VCodes[row*((d+1)/2)+i/2], i)
}

// nibble is the code of element i in its byte: even elements stand in the high half.
func nibble(b byte, i int) float32 {
	if i%2 == 0 {
		return float32(b >> 4)
	}
	return float32(b & 15)
}

// affine are the factors of position j of an int4 vector: code u stands for a*u + b. s holds scales, then zeros.
func affine(s []uint16, j int) (a, b float32) {
	a, b = widenF16(s[j]), widenF16(s[kernels.PageLen+j])
	if a == 0 {
		return 0, b
	}
	return a, -(b + 8) * a
}
