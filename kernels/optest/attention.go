package optest

import (
	"slices"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
)

// attentionCase is a block of queries: rows positions, the last at n-1, of heads that share the last of kvHeads.
type attentionCase struct {
	format        kernels.KVFormat
	n, d, kvHeads int
	rows, heads   int
	window, sinks int
	pattern       string
	slope         float32 // keys of pattern "slope" are slope times their position
}

func (c *comparison) attention(t *testing.T) {
	lengths := []int{1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200}
	blocks := []struct{ rows, heads int }{{1, 1}, {1, 4}, {1, 3}, {6, 1}, {1, 2}, {3, 4}, {40, 1}, {9, 5}, {1, 8}}
	seed := uint64(0)
	for _, f := range kernels.KVFormats {
		for i, d := range []int{1, 2, 7, 8, 16, 24, 40, 64, 72, 80, 96, 128, 136, 256} {
			for k := range 3 {
				n, b := lengths[(5*i+7*k+int(f))%len(lengths)], blocks[(i+2*k+int(f))%len(blocks)]
				if b.rows > n {
					b.rows = n
				}
				seed++
				c.oneAttention(t, seed, attentionCase{format: f, n: n, d: d, kvHeads: 1 + int(seed)%3, rows: b.rows, heads: b.heads, pattern: "random"})
			}
		}
		for _, p := range patterns {
			for _, d := range []int{33, 32} {
				for _, n := range []int{1, 65, 130} {
					seed++
					c.oneAttention(t, seed, attentionCase{format: f, n: n, d: d, kvHeads: 2, rows: 1, heads: 1 + int(seed)%4, pattern: p})
				}
			}
		}
		// Scores that fall and rise from chunk to chunk, so that every branch of the merge decides, and some so far
		// below the maximum that their weight is zero.
		for _, slope := range []float32{0, 1. / 8, -1. / 8} {
			c.oneAttention(t, seed, attentionCase{format: f, n: 300, d: 16, kvHeads: 1, rows: 2, heads: 2, pattern: "slope", slope: slope})
		}
		for _, w := range []struct{ n, rows, window, sinks int }{
			{1, 1, 1, 0}, {70, 70, 1, 0}, {64, 5, 3, 1}, {200, 80, 64, 4}, {200, 3, 70, 4}, {320, 9, 64, 0}, {320, 70, 10, 130}, {300, 66, 130, 64}, {333, 1, 65, 100}, {100, 4, 300, 4}, {130, 2, 126, 4},
		} {
			for _, d := range []int{6, 8, 64} {
				seed++
				c.oneAttention(t, seed, attentionCase{format: f, n: w.n, d: d, kvHeads: 1 + int(seed)%2, rows: w.rows, heads: 1 + int(seed)%5, window: w.window, sinks: w.sinks, pattern: "random"})
			}
		}
	}
}

// guardedPage is a page whose slices end at unreadable memory. What no position was stored in is garbage of the kind
// that an earlier position may have left.
func guardedPage(a *arena, f kernels.KVFormat, kvHeads, d int) *kernels.Page {
	p := kernels.NewPage(f, kvHeads, d)
	p.K, p.V = output(a, len(p.K)), output(a, len(p.V))
	p.KHalf, p.VHalf = uint16s(a, len(p.KHalf)), uint16s(a, len(p.VHalf))
	p.KScale, p.VScale = floats(a, len(p.KScale)), floats(a, len(p.VScale))
	p.KAffine, p.VAffine = uint16s(a, len(p.KAffine)), uint16s(a, len(p.VAffine))
	p.KCodes, p.VCodes = a.bytes(len(p.KCodes)), a.bytes(len(p.VCodes))
	for _, s := range [][]uint16{p.KHalf, p.VHalf, p.KAffine, p.VAffine} {
		for i := range s {
			s[i] = 0x7bff
		}
	}
	for _, s := range [][]byte{p.KCodes, p.VCodes} {
		for i := range s {
			s[i] = 0x81
		}
	}
	return p
}

func samePage(t *testing.T, what string, got, want *kernels.Page) {
	t.Helper()
	same(t, what+": K", got.K, want.K)
	same(t, what+": V", got.V, want.V)
	same(t, what+": KScale", got.KScale, want.KScale)
	same(t, what+": VScale", got.VScale, want.VScale)
	unchanged(t, what+": KHalf", got.KHalf, want.KHalf)
	unchanged(t, what+": VHalf", got.VHalf, want.VHalf)
	unchanged(t, what+": KCodes", got.KCodes, want.KCodes)
	unchanged(t, what+": VCodes", got.VCodes, want.VCodes)
	unchanged(t, what+": KAffine", got.KAffine, want.KAffine)
	unchanged(t, what+": VAffine", got.VAffine, want.VAffine)
}

func (c *comparison) oneAttention(t *testing.T, seed uint64, x attentionCase) {
	a := new(arena)
	defer a.free()
	what := label("%+v", x)
	r := random(seed)
	numbers := func(s []float32, pattern string, position int) {
		if pattern != "slope" {
			fill(s, pattern, r)
			return
		}
		for i := range s {
			s[i] = x.slope * float32(position)
		}
	}

	// Both implementations store; the pages have to be the same. Numbers that the format cannot hold are an error of
	// both and give way to others.
	var pages []*kernels.Page
	k, v := floats(a, x.kvHeads*x.d), floats(a, x.kvHeads*x.d)
	for p := range x.n {
		if p%kernels.PageLen == 0 {
			pages = append(pages, guardedPage(a, x.format, x.kvHeads, x.d))
		}
		page, pattern := pages[len(pages)-1], x.pattern
		numbers(k, pattern, p)
		if pattern == "slope" {
			pattern = "random"
		}
		numbers(v, pattern, p)
		err := c.impl.StoreKV(page, p%kernels.PageLen, k, v)
		var other error
		if p < 3 || p == x.n-1 { // storing twice changes nothing; the reference's page is compared now and then
			mirror := guardedPage(a, x.format, x.kvHeads, x.d)
			mirror.CopyFrom(page)
			if other = c.ref.StoreKV(mirror, p%kernels.PageLen, k, v); other == nil && err == nil {
				samePage(t, what+", StoreKV", page, mirror)
			}
		} else if err != nil {
			other = c.ref.StoreKV(kernels.NewPage(x.format, x.kvHeads, x.d), 0, k, v)
		}
		sameRange(t, what+", StoreKV", err, other)
		if err != nil {
			numbers(k, "random", p)
			numbers(v, "random", p)
			if err := c.impl.StoreKV(page, p%kernels.PageLen, k, v); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}

	width := x.heads * x.d
	queries := &kernels.Queries{Stride: width + 3, Rows: x.rows, Heads: x.heads, Pos: x.n - x.rows, KVHead: x.kvHeads - 1,
		Pages: pages, Window: x.window, Sinks: x.sinks}
	pattern := x.pattern
	if pattern == "slope" {
		pattern = "ones"
	}
	queries.Q = floats(a, (x.rows-1)*queries.Stride+width)
	fill(queries.Q, pattern, r)
	if x.window > 0 {
		queries.SinkQ = floats(a, len(queries.Q))
		for i, v := range queries.Q {
			queries.SinkQ[i] = -v / 2
		}
	}
	dropPages(queries)
	want := finished(c.ref, a, queries, x.d, 0)
	chunks := queries.Chunks()
	apart := []int{0, chunks, chunks / 2}[seed%3]
	got := finished(c.impl, a, queries, x.d, apart)
	same(t, label("%s, %d of %d chunks apart", what, apart, chunks), got, want)
}

// dropPages takes out the pages that lie between the sinks and the window of every row.
func dropPages(q *kernels.Queries) {
	if first := q.Pos - q.Window + 1; q.Window > 0 && first > 0 {
		if kept := kernels.SinkChunks(q.Sinks); first/kernels.PageLen > kept {
			q.Gap = first/kernels.PageLen - kept
			q.Pages = slices.Concat(q.Pages[:kept], q.Pages[kept+q.Gap:])
		}
	}
}

// finished is the attention of a block of queries of which the last chunks become parts of their own.
func finished(ops kernels.Ops, a *arena, q *kernels.Queries, d, apart int) []float32 {
	size := kernels.AttentionPart(d)
	chunks := q.Chunks()
	stride := q.Rows * q.Heads * size
	parts := output(a, (1+apart)*stride)
	ops.Attention(parts[:stride], q, 0, chunks-apart)
	for i := range apart {
		ops.Attention(parts[(1+i)*stride:][:stride], q, chunks-apart+i, chunks-apart+i+1)
	}
	out := output(a, q.Rows*q.Heads*d)
	for i := range q.Rows * q.Heads {
		ops.MergeAttention(out[i*d:][:d], parts[i*size:], stride, 1+apart)
	}
	return out
}
