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
	page   *kernels.Page
	chunk  int
	keys   *byte // of the kv head
	values *byte

	dim  int
	z    float32
	pack []float32 // the queries of blocks of four, [blocks][dim][4]
	sums []float32 // of each query's elements, and then of each sink query's: int4 only
	p    [4 * kernels.PageLen]float32
	sink [kernels.PageLen]float32
	o    []float32 // [4][dim]
	m    float32

	total float32 // of vectorSum, which needs an address

	factors [8]float32 // of merging, before and now
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
		w.keys, w.values = w.at(true, 0), w.at(false, 0)
		n := a.Rows * a.Heads
		first := 0
		for ; first+3 <= n; first += 4 {
			w.four(first, min(4, n-first))
		}
		for ; first < n; first++ {
			w.one(first)
		}
	}
	w.Queries, w.parts, w.page, w.keys, w.values = nil, nil, nil, nil, nil
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
	blocks := (n + 1) / 4 // three are a block, too, with a query of zeros
	pack := grow(&w.pack, 4*blocks*w.dim)
	for b := range blocks {
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

// four computes the chunk for queries first..first+n-1, n of 3 or 4.
func (w *attending) four(first, n int) {
	var sinks, from, to [4]int
	most, least, some := 0, kernels.PageLen, false
	for j := range n {
		sinks[j], from[j], to[j] = w.Span((first+j)/w.Heads, w.chunk)
		if sinks[j] > 0 {
			for j := range n {
				w.one(first + j)
			}
			return
		}
		most, least = max(most, from[j]), min(least, to[j])
		some = some || from[j] < to[j]
	}
	if !some {
		return
	}
	w.k.scores[1](&w.p[0], &w.pack[first*w.dim], w.keys, w.dim)
	var m, l [4]float32
	for j := range n {
		p := (*[kernels.PageLen]float32)(w.p[j*kernels.PageLen:])
		if from[j] == to[j] {
			clear(p[:]) // the sums below run over it and go nowhere
			continue
		}
		w.scale(p, first+j, false)
		var start float32
		m[j], l[j], start = w.weigh(p, 0, from[j], to[j])
		fill(w.o[j*w.dim:][:w.dim], start)
		w.add(j, from[j], min(most, to[j]))
	}
	if most < least {
		w.k.weighted[1](&w.o[0], &w.p[most], w.at(false, most), least-most, w.dim)
	}
	for j := range n {
		if from[j] < to[j] {
			w.add(j, max(least, most), to[j])
		}
	}
	w.merge(first, m, l, n)
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
	p := (*[kernels.PageLen]float32)(w.p[:])
	w.k.scores[0](&p[0], &w.query(i)[0], w.keys, w.dim)
	w.scale(p, i, false)
	if sinks > 0 {
		w.k.scores[0](&w.sink[0], &w.sinkQuery(i)[0], w.keys, w.dim)
		w.scale(&w.sink, i, true)
		copy(p[:sinks], w.sink[:])
	}
	m, l, start := w.weigh(p, sinks, from, to)
	fill(w.o[:w.dim], start)
	w.add(0, 0, sinks)
	w.add(0, from, to)
	w.merge(i, [4]float32{m}, [4]float32{l}, 1)
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

// add adds the weighted values of positions from..to-1 to the sums of query j of a
// block.
func (w *attending) add(j, from, to int) {
	if from < to {
		w.k.weighted[0](&w.o[j*w.dim], &w.p[j*kernels.PageLen+from], w.at(false, from), to-from, w.dim)
	}
}

// merge merges a chunk, its greatest scores, sums of weights and the sums in w.o, into the parts of queries
// first..first+n-1. An l of 0 is of a query that the chunk has nothing for.
func (w *attending) merge(first int, m, l [4]float32, n int) {
	size := kernels.AttentionPart(w.dim)
	parts := w.parts[first*size:][:n*size]
	for j := range n {
		part := parts[j*size:][:size]
		w.factors[j], w.factors[4+j] = below(part[w.dim], m[j])
	}
	exp8(&w.factors[0])
	for j := range n {
		part := parts[j*size:][:size]
		part[w.dim], part[w.dim+1] = mergePart(part[:w.dim], part[w.dim], part[w.dim+1], w.o[j*w.dim:][:w.dim], m[j], l[j], w.factors[j], w.factors[4+j])
	}
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
