package kernels

// Queries is a block of attention queries that read the same keys and values: consecutive positions of one sequence,
// and of each the query heads that share one kv head. It is a view that owns nothing.
type Queries struct {
	// Row r's head g is Q[r*Stride+g*headDim:][:headDim], rotated to the row's own position.
	Q      []float32
	Stride int

	Rows, Heads int
	Pos         int // position of row 0; row r is at Pos+r

	KVHead int

	// Pages holds the pages of the sequence in ascending order, all of one format and shape, the rows' own positions
	// included; there may be more than the rows need. Gap chunks are missing after those that hold a sink, because
	// no row attends to them.
	Pages []*Page
	Gap   int

	// With Window > 0 a row at position t attends to the positions below Sinks and to the last Window ones, itself
	// included, and SinkQ, laid out as Q, holds queries rotated to min(t, Sinks+Window-1), which score the sinks.
	Window, Sinks int
	SinkQ         []float32
}

// Chunks is the number of chunks up to the last row's own.
func (a *Queries) Chunks() int { return (a.Pos+a.Rows-1)/PageLen + 1 }

// SinkChunks is the number of chunks that hold one of n sinks.
func SinkChunks(n int) int { return (n + PageLen - 1) / PageLen }

// Page is the page of chunk c, nil where it is missing.
func (a *Queries) Page(c int) *Page {
	if sinks := SinkChunks(a.Sinks); c >= sinks && a.Gap > 0 {
		if c < sinks+a.Gap {
			return nil
		}
		c -= a.Gap
	}
	return a.Pages[c]
}

// Span tells which positions of chunk c row r attends to, as indices within the chunk: 0..sinks-1, scored with the
// row's SinkQ, and lo..hi-1, scored with its Q. sinks <= lo <= hi.
func (a *Queries) Span(r, c int) (sinks, lo, hi int) {
	t, base := a.Pos+r, c*PageLen
	hi = within(t + 1 - base)
	if first := t - a.Window + 1; a.Window > 0 && first > a.Sinks {
		sinks, lo = within(a.Sinks-base), min(within(first-base), hi)
	}
	return sinks, lo, hi
}

func within(i int) int { return max(0, min(i, PageLen)) }

// AttentionPart is the number of elements of a part: the weighted values o, headDim of them, then the greatest score m
// and the sum of the weights l. A part whose l is 0 is empty.
func AttentionPart(headDim int) int { return headDim + 2 }

// CheckAttention panics unless the arguments of Ops.Attention fit each other.
func CheckAttention(parts []float32, a *Queries, lo, hi int) {
	const op = "Attention"
	if !(a.Rows > 0 && a.Heads > 0 && a.Pos >= 0) {
		fail(op, "%d rows of %d heads at position %d, want positive sizes and a position of at least 0", a.Rows, a.Heads, a.Pos)
	}
	if !(a.Window >= 0 && a.Sinks >= 0 && (a.Window > 0 || a.Sinks == 0)) {
		fail(op, "a window of %d with %d sinks, want none or a positive window", a.Window, a.Sinks)
	}
	if !(a.Gap >= 0 && (a.Window > 0 || a.Gap == 0)) {
		fail(op, "a gap of %d chunks with a window of %d, want none without a window", a.Gap, a.Window)
	}
	if !(0 <= lo && lo <= hi && hi <= a.Chunks()) {
		fail(op, "chunks %d..%d, want a range within 0..%d", lo, hi, a.Chunks())
	}
	if len(a.Pages)+a.Gap < a.Chunks() {
		fail(op, "%d pages and a gap of %d, want at least %d chunks", len(a.Pages), a.Gap, a.Chunks())
	}
	var first *Page
	for c := lo; c < hi; c++ {
		p := a.Page(c)
		if p == nil {
			for r := range a.Rows {
				if sinks, from, to := a.Span(r, c); sinks > 0 || from < to {
					fail(op, "chunk %d has no page, but row %d attends to it", c, r)
				}
			}
			continue
		}
		p.check(op)
		if first == nil {
			first = p
		}
		if p.Format != first.Format || p.KVHeads != first.KVHeads || p.HeadDim != first.HeadDim {
			fail(op, "chunk %d is %v, %d heads of %d, want %v, %d heads of %d as in chunk %d", c, p.Format, p.KVHeads, p.HeadDim, first.Format, first.KVHeads, first.HeadDim, lo)
		}
	}
	if first == nil {
		first = a.Pages[0] // for the shape
	}
	if !(0 <= a.KVHead && a.KVHead < first.KVHeads) {
		fail(op, "KVHead is %d, want 0..%d", a.KVHead, first.KVHeads-1)
	}
	width := a.Heads * first.HeadDim
	if !(a.Rows == 1 || a.Stride >= width) {
		fail(op, "Stride is %d, want at least %d, the heads of a row", a.Stride, width)
	}
	need := (a.Rows-1)*a.Stride + width
	if len(a.Q) < need {
		fail(op, "len(Q) is %d, want at least %d = (Rows-1)*Stride + Heads*headDim", len(a.Q), need)
	}
	if a.Window > 0 && len(a.SinkQ) < need {
		fail(op, "len(SinkQ) is %d, want at least %d = (Rows-1)*Stride + Heads*headDim", len(a.SinkQ), need)
	}
	checkLen(op, "parts", len(parts), a.Rows*a.Heads*AttentionPart(first.HeadDim))
}

// CheckMergeAttention panics unless the arguments of Ops.MergeAttention fit each other.
func CheckMergeAttention(out, parts []float32, stride, n int) {
	const op = "MergeAttention"
	if len(out) == 0 || n < 1 {
		fail(op, "%d parts for %d elements, want at least one of each", n, len(out))
	}
	size := AttentionPart(len(out))
	if !(n == 1 || stride >= size) {
		fail(op, "stride is %d, want at least %d, the elements of a part", stride, size)
	}
	if need := (n-1)*stride + size; len(parts) < need {
		fail(op, "len(parts) is %d, want at least %d = (n-1)*stride + headDim+2", len(parts), need)
	}
}
