//go:build amd64 && !purego

package cpu

import (
	"math"
	"sync"
	"unsafe"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// attentionKernels compute with a page of one format: [0] for one query, [1] for
// four, whose elements are interleaved.
type attentionKernels struct {
	scores   [2]scoresFunc
	weighted [2]weightedFunc
}

type (
	scoresFunc   func(s, q *float32, k *byte, dim int)
	weightedFunc func(o, p *float32, v *byte, count, dim int)
)

// attention256 are for AVX2 and heads of a multiple of 8 elements, attention512
// for AVX-512 and heads of a multiple of 64.
var (
	attention256 = map[kernels.KVFormat]*attentionKernels{
		kernels.KVF32:  {[2]scoresFunc{scores1F32, scores4F32}, [2]weightedFunc{weighted1F32, weighted4F32}},
		kernels.KVF16:  {[2]scoresFunc{scores1F16, scores4F16}, [2]weightedFunc{weighted1F16, weighted4F16}},
		kernels.KVInt8: {[2]scoresFunc{scores1I8, scores4I8}, [2]weightedFunc{weighted1I8, weighted4I8}},
		kernels.KVInt4: {[2]scoresFunc{scores1I4, scores4I4}, [2]weightedFunc{weighted1I4, weighted4I4}},
	}
	attention512 = map[kernels.KVFormat]*attentionKernels{
		kernels.KVF32:  {[2]scoresFunc{scores1F32512, scores4F32512}, [2]weightedFunc{weighted1F32512, weighted4F32512}},
		kernels.KVF16:  {[2]scoresFunc{scores1F16512, scores4F16512}, [2]weightedFunc{weighted1F16512, weighted4F16512}},
		kernels.KVInt8: {[2]scoresFunc{scores1I8512, scores4I8512}, [2]weightedFunc{weighted1I8512, weighted4I8512}},
		kernels.KVInt4: {[2]scoresFunc{scores1I4512, scores4I4512}, [2]weightedFunc{weighted1I4512, weighted4I4512}},
	}
)

// Attention takes four queries at a time where there are three or more.
func (x avx2) Attention(parts []float32, a *kernels.Queries, lo, hi int) {
	attend(x.Ops, parts, a, lo, hi, attention256)
}

// Attention is avx2's, in wider registers where the heads fill them.
func (x vnni) Attention(parts []float32, a *kernels.Queries, lo, hi int) {
	if len(a.Pages) > 0 && a.Pages[0].HeadDim%64 == 0 {
		attend(x.Ops, parts, a, lo, hi, attention512)
		return
	}
	x.avx2.Attention(parts, a, lo, hi)
}

// attending is the state of a call of Attention.
type attending struct {
	*kernels.Queries
	k     *attentionKernels
	parts []float32

	// Of the chunk that is computed.
	page  *kernels.Page
	chunk int
	keys  *byte // of the kv head

	dim     int
	z       float32
	blocks  int                      // of four queries, or at the end of three
	pack    []float32                // their elements, [blocks][dim][4]
	sums    []float32                // of each query's elements, and then of each sink query's: int4 only
	p       []float32                // scores and then weights, of each query of each block, [blocks][4][PageLen]
	weights []weights                // of each query
	alone   [kernels.PageLen]float32 // p of a query outside of blocks
	sink    [kernels.PageLen]float32
	o       []float32 // [4][dim]
	m       float32

	total float32 // of vectorSum, which needs an address

	factors []float32 // of merging, before and now, of each query of blocks
	factor  [8]float32
}

// weights is what a chunk has for a query, but for the weights themselves.
type weights struct {
	from, to int     // positions; none if equal
	m, l     float32 // the greatest score and the sum of the weights
	start    float32 // of the weighted sums
}

var attendings = sync.Pool{New: func() any { return new(attending) }}

// attend computes a part of each query. Heads whose size is no multiple of 8 are
// left to the reference.
func attend(reference ref.Ops, parts []float32, a *kernels.Queries, lo, hi int, byFormat map[kernels.KVFormat]*attentionKernels) {
	if len(a.Pages) == 0 || a.Pages[0].HeadDim%8 != 0 || a.Pages[0].HeadDim == 0 {
		reference.Attention(parts, a, lo, hi)
		return
	}
	kernels.CheckAttention(parts, a, lo, hi)
	clear(parts)
	if lo == hi {
		return
	}
	w := attendings.Get().(*attending)
	defer attendings.Put(w)
	w.Queries, w.k, w.parts, w.dim = a, byFormat[a.Pages[0].Format], parts, a.Pages[0].HeadDim
	w.z = float32(1 / math.Sqrt(float64(w.dim)))
	w.prepare()
	for c := lo; c < hi; c++ {
		if w.page = a.Page(c); w.page == nil {
			continue
		}
		w.chunk = c
		w.keys = w.at(true, 0)
		w.fours()
		for i := 4 * w.blocks; i < a.Rows*a.Heads; i++ {
			w.one(i)
		}
	}
	w.Queries, w.parts, w.page, w.keys = nil, nil, nil, nil
}

// query is the elements of query i.
func (w *attending) query(i int) []float32 {
	return w.Q[i/w.Heads*w.Stride+i%w.Heads*w.dim:][:w.dim]
}

func (w *attending) sinkQuery(i int) []float32 {
	return w.SinkQ[i/w.Heads*w.Stride+i%w.Heads*w.dim:][:w.dim]
}

// prepare packs queries and adds up their elements.
func (w *attending) prepare() {
	n := w.Rows * w.Heads
	w.blocks = (n + 1) / 4 // three are a block, too, with a query of zeros
	pack := grow(&w.pack, 4*w.blocks*w.dim)
	grow(&w.p, 4*w.blocks*kernels.PageLen)
	grow(&w.weights, 4*w.blocks)
	grow(&w.factors, 8*w.blocks)
	for b := range w.blocks {
		to := pack[4*b*w.dim:][:4*w.dim]
		for j := range 4 {
			if 4*b+j >= n {
				for i := range w.dim {
					to[4*i+j] = 0
				}
				continue
			}
			for i, v := range w.query(4*b + j) {
				to[4*i+j] = v
			}
		}
	}
	grow(&w.o, 4*w.dim)
	if w.Pages[0].Format != kernels.KVInt4 {
		return
	}
	sums := grow(&w.sums, 2*n)
	for i := range n {
		sums[i] = w.vectorSum(w.query(i))
		if w.Sinks > 0 {
			sums[n+i] = w.vectorSum(w.sinkQuery(i))
		}
	}
}

func (w *attending) vectorSum(x []float32) float32 {
	if len(x)%kernels.Lanes != 0 {
		return ref.Sum(x)
	}
	w.total = negativeZero
	sum(&w.total, &x[0], len(x)/kernels.Lanes, nil)
	return w.total
}

// at is where the kv head's keys begin, or the values of a position and of those
// that follow.
func (w *attending) at(keys bool, position int) *byte {
	p, i := w.page, w.KVHead*kernels.PageLen*w.dim+position*w.dim
	// SAFETY: CheckAttention has seen that the page's slices fit its format, its
	// shape and the kv head, and callers ask for positions below PageLen; the page is
	// alive in w while kernels read the head's kernels.PageLen*dim elements.
	switch {
	case p.Format == kernels.KVF32 && keys:
		return (*byte)(unsafe.Pointer(&p.K[i]))
	case p.Format == kernels.KVF32:
		return (*byte)(unsafe.Pointer(&p.V[i]))
	case p.Format == kernels.KVF16 && keys:
		return (*byte)(unsafe.Pointer(&p.KHalf[i]))
	case p.Format == kernels.KVF16:
		return (*byte)(unsafe.Pointer(&p.VHalf[i]))
	}
	if p.Format == kernels.KVInt4 {
		i /= 2
	}
	if keys {
		return &p.KCodes[i]
	}
	return &p.VCodes[i]
}

// fours computes the chunk for the blocks of four queries: all scores, then all weights,
// then all sums, so that the keys and then the values stay in the first cache.
func (w *attending) fours() {
	for b := range w.blocks {
		if w.spans(b) {
			w.k.scores[1](&w.p[4*b*kernels.PageLen], &w.pack[4*b*w.dim], w.keys, w.dim)
		}
	}
	size := kernels.AttentionPart(w.dim)
	for i := range w.weights {
		x, f := &w.weights[i], w.factors[2*i:][:2]
		if x.from == x.to {
			f[0], f[1] = 0, 0
			continue
		}
		p := (*[kernels.PageLen]float32)(w.p[i*kernels.PageLen:])
		w.scale(p, i, false)
		x.m, x.l, x.start = w.weigh(p, 0, x.from, x.to)
		f[0], f[1] = below(w.parts[i*size+w.dim], x.m)
	}
	if w.blocks > 0 {
		exp8(&w.factors[0], w.blocks)
	}
	for b := range w.blocks {
		w.sum(b)
	}
}

// spans finds which positions of the chunk the queries of block b attend to, and
// reports whether there are any. A block that has sinks here is computed one by one.
func (w *attending) spans(b int) (some bool) {
	queries := w.weights[4*b:][:4]
	clear(queries)
	n := min(4, w.Rows*w.Heads-4*b)
	for j := range n {
		sinks, from, to := w.Span((4*b+j)/w.Heads, w.chunk)
		if sinks > 0 {
			clear(queries)
			for j := range n {
				w.one(4*b + j)
			}
			return false
		}
		queries[j].from, queries[j].to = from, to
		some = some || from < to
	}
	return some
}

// sum adds up the weighted values for block b and merges them into its parts.
func (w *attending) sum(b int) {
	queries := w.weights[4*b:][:4]
	most, least, some := 0, kernels.PageLen, false
	for _, x := range queries[:min(4, w.Rows*w.Heads-4*b)] {
		most, least = max(most, x.from), min(least, x.to)
		some = some || x.from < x.to
	}
	if !some {
		return
	}
	p := w.p[4*b*kernels.PageLen:][:4*kernels.PageLen]
	for j, x := range queries {
		o := w.o[j*w.dim:][:w.dim]
		if x.from == x.to {
			clear(p[j*kernels.PageLen:][:kernels.PageLen]) // the sums below run over it and go nowhere
			continue
		}
		fill(o, x.start)
		w.add(o, p[j*kernels.PageLen:], x.from, min(most, x.to))
	}
	if most < least {
		w.k.weighted[1](&w.o[0], &p[most], w.at(false, most), least-most, w.dim)
	}
	size := kernels.AttentionPart(w.dim)
	for j, x := range queries {
		if x.from == x.to {
			continue
		}
		i, o := 4*b+j, w.o[j*w.dim:][:w.dim]
		w.add(o, p[j*kernels.PageLen:], max(least, most), x.to)
		w.merge(w.parts[i*size:][:size], o, x.m, x.l, w.factors[2*i], w.factors[2*i+1])
	}
}

func fill(o []float32, x float32) {
	if math.Float32bits(x) == 0 {
		clear(o)
		return
	}
	for i := range o {
		o[i] = x
	}
}

// one computes the chunk for one query.
func (w *attending) one(i int) {
	sinks, from, to := w.Span(i/w.Heads, w.chunk)
	if sinks == 0 && from == to {
		return
	}
	p := &w.alone
	w.k.scores[0](&p[0], &w.query(i)[0], w.keys, w.dim)
	w.scale(p, i, false)
	if sinks > 0 {
		w.k.scores[0](&w.sink[0], &w.sinkQuery(i)[0], w.keys, w.dim)
		w.scale(&w.sink, i, true)
		copy(p[:sinks], w.sink[:])
	}
	m, l, start := w.weigh(p, sinks, from, to)
	o := w.o[:w.dim]
	fill(o, start)
	w.add(o, p[:], 0, sinks)
	w.add(o, p[:], from, to)
	size := kernels.AttentionPart(w.dim)
	part := w.parts[i*size:][:size]
	w.factor[0], w.factor[1] = below(part[w.dim], m)
	exp8(&w.factor[0], 1)
	w.merge(part, o, m, l, w.factor[0], w.factor[1])
}

// scale makes scores of dots with codes, but for the factor z.
func (w *attending) scale(p *[kernels.PageLen]float32, query int, sink bool) {
	switch w.page.Format {
	case kernels.KVInt8:
		multiply64(&p[0], &w.page.KScale[w.KVHead*kernels.PageLen])
	case kernels.KVInt4:
		if sink {
			query += w.Rows * w.Heads
		}
		affineScores(&p[0], &w.page.KAffine[2*w.KVHead*kernels.PageLen], w.sums[query])
	}
}

// weigh makes weights of the scores of positions 0..sinks-1 and from..to-1, zeros of
// the others, and returns the greatest score, the sum of the weights and what the
// weighted sums start with.
func (w *attending) weigh(p *[kernels.PageLen]float32, sinks, from, to int) (m, l, start float32) {
	absent := float32(math.Inf(-1))
	for j := sinks; j < from; j++ {
		p[j] = absent
	}
	for j := to; j < len(p); j++ {
		p[j] = absent
	}
	l = softmax(&p[0], w.z, &w.m)
	switch w.page.Format {
	case kernels.KVInt8:
		multiply64(&p[0], &w.page.VScale[w.KVHead*kernels.PageLen])
	case kernels.KVInt4:
		start = affineWeights(&p[0], &w.page.VAffine[0])
	}
	return w.m, l, start
}

// add adds the values of positions from..to-1, weighted by p, to o.
func (w *attending) add(o, p []float32, from, to int) {
	if from < to {
		w.k.weighted[0](&o[0], &p[from], w.at(false, from), to-from, w.dim)
	}
}

// merge merges the sums o of a chunk, its greatest score and its sum of weights into a part.
func (w *attending) merge(part, o []float32, m, l, before, now float32) {
	part[w.dim], part[w.dim+1] = mergePart(part[:w.dim], part[w.dim], part[w.dim+1], o, m, l, before, now)
}

// below are the differences of two scores to the greater one.
func below(m, mc float32) (float32, float32) {
	if mc > m {
		return m - mc, mc - mc
	}
	return m - m, mc - m
}

// mergePart merges (oc, mc, lc) into (o, m, l), o a multiple of 8 elements. before and now are their factors.
func mergePart(o []float32, m, l float32, oc []float32, mc, lc, before, now float32) (float32, float32) {
	if lc == 0 {
		return m, l
	}
	if l == 0 {
		copy(o, oc)
		return mc, lc
	}
	if mc > m {
		m = mc
	}
	merge(&o[0], &oc[0], before, now, len(o)/8)
	return m, ref.FMA32(lc, now, float32(l*before))
}

// MergeAttention merges whole registers.
func (x avx2) MergeAttention(out, parts []float32, stride, n int) {
	d := len(out)
	if d%8 != 0 {
		x.Ops.MergeAttention(out, parts, stride, n)
		return
	}
	kernels.CheckMergeAttention(out, parts, stride, n)
	if n == 1 {
		multiplyBy(&out[0], &parts[0], 1/parts[d+1], d/8)
		return
	}
	var m, l float32
	for i := range n {
		p := parts[i*stride:][:kernels.AttentionPart(d)]
		before, now := below(m, p[d])
		m, l = mergePart(out, m, l, p[:d], p[d], p[d+1], ref.Exp32(before), ref.Exp32(now))
	}
	multiplyBy(&out[0], &out[0], 1/l, d/8)
}
