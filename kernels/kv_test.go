package kernels

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKVFormats(t *testing.T) {
	for f, want := range map[KVFormat]struct {
		name  string
		bytes int64 // of a position with 5 heads of 128, and with 3 heads of 7
		odd   int64
	}{
		KVF32:  {"f32", 5 * 128 * 8, 3 * 7 * 8},
		KVF16:  {"f16", 5 * 128 * 4, 3 * 7 * 4},
		KVInt8: {"int8", 5 * (128*2 + 8), 3 * (7*2 + 8)},
		KVInt4: {"int4", 5*(128+4) + 4, 3*(8+4) + 4},
	} {
		require.Equal(t, want.name, f.String())
		got, err := ParseKVFormat(want.name)
		require.NoError(t, err)
		require.Equal(t, f, got)
		require.Equal(t, want.bytes, KVBytes(f, 5, 128), want.name)
		require.Equal(t, want.odd, KVBytes(f, 3, 7), want.name)
		require.Equal(t, want.odd*PageLen, NewPage(f, 3, 7).Bytes(), want.name)
	}
	_, err := ParseKVFormat("int3")
	require.EqualError(t, err, `KV format "int3", want f32, f16, int8 or int4`)
	require.Equal(t, "kv format(unknown)", KVFormat(0).String())
}

func TestPageCopy(t *testing.T) {
	for _, f := range KVFormats {
		from, to := NewPage(f, 2, 3), NewPage(f, 2, 3)
		for _, s := range [][]float32{from.K, from.V, from.KScale, from.VScale} {
			for i := range s {
				s[i] = float32(i + 1)
			}
		}
		for _, s := range [][]uint16{from.KHalf, from.VHalf, from.KAffine, from.VAffine} {
			for i := range s {
				s[i] = uint16(i + 1)
			}
		}
		for _, s := range [][]byte{from.KCodes, from.VCodes} {
			for i := range s {
				s[i] = byte(i + 1)
			}
		}
		require.NotEqual(t, from, to)
		to.CopyFrom(from)
		require.Equal(t, from, to, "%v", f)
	}
	require.PanicsWithValue(t, "kernels: Page.CopyFrom: a page of f16, 2 heads of 3, want f32, 2 heads of 4",
		func() { NewPage(KVF32, 2, 4).CopyFrom(NewPage(KVF16, 2, 3)) })
}

// Span, Page and Chunks against the definition, position by position.
func TestQueriesGeometry(t *testing.T) {
	for _, c := range []struct{ window, sinks int }{{0, 0}, {1, 0}, {1, 4}, {64, 0}, {64, 64}, {65, 3}, {30, 70}, {100, 4}, {500, 4}} {
		pages := make([]*Page, 7)
		for i := range pages {
			pages[i] = &Page{HeadDim: i}
		}
		for pos := range 400 {
			a := &Queries{Pos: pos, Rows: 1, Window: c.window, Sinks: c.sinks, Pages: pages}
			require.Equal(t, pos/PageLen+1, a.Chunks())
			for chunk := range a.Chunks() {
				sinks, lo, hi := a.Span(0, chunk)
				require.True(t, 0 <= sinks && sinks <= lo && lo <= hi && hi <= PageLen, "%v, position %d: %d %d %d", c, pos, sinks, lo, hi)
				for i := range PageLen {
					j := chunk*PageLen + i
					attended := j <= pos && (c.window == 0 || j < c.sinks || j > pos-c.window)
					require.Equal(t, attended, i < sinks || lo <= i && i < hi, "%v, position %d to %d", c, pos, j)
					if attended { // the sink's query is the row's own until the window has passed the sinks
						own := c.window == 0 || j >= c.sinks || pos <= c.sinks+c.window-1
						require.Equal(t, own, i >= sinks, "%v, position %d to %d", c, pos, j)
					}
				}
			}
		}
	}
	a := &Queries{Pos: 500, Rows: 1, Window: 64, Sinks: 70, Gap: 3, Pages: []*Page{{HeadDim: 1}, {HeadDim: 2}, {HeadDim: 6}, {HeadDim: 7}, {HeadDim: 8}}}
	for c, want := range []int{1, 2, 0, 0, 0, 6, 7, 8} {
		if p := a.Page(c); want == 0 {
			require.Nil(t, p)
		} else {
			require.Equal(t, want, p.HeadDim)
		}
	}
}

// Each check accepts what fits and names what does not.
func TestAttentionChecks(t *testing.T) {
	page := NewPage(KVInt8, 2, 4)
	cut := *page
	cut.KScale = cut.KScale[1:]
	f := func(n int) []float32 { return make([]float32, n) }
	good := func() *Queries {
		return &Queries{Q: f(3*20 + 8), SinkQ: f(68), Stride: 20, Rows: 4, Heads: 2, Pos: 200, KVHead: 1, Pages: []*Page{page, page, page}, Gap: 1, Window: 40, Sinks: 4}
	}
	parts := f(8 * 6)
	require.NotPanics(t, func() { CheckAttention(parts, good(), 0, 4) })
	require.NotPanics(t, func() { CheckAttention(parts, good(), 1, 2) })
	for want, edit := range map[string]func(*Queries){
		"0 rows of 2 heads at position 200, want positive sizes and a position of at least 0": func(a *Queries) { a.Rows = 0 },
		"a window of 0 with 4 sinks, want none or a positive window":                          func(a *Queries) { a.Window, a.Gap = 0, 0 },
		"a gap of 1 chunks with a window of 0, want none without a window":                    func(a *Queries) { a.Window, a.Sinks = 0, 0 },
		"chunks 0..4, want a range within 0..3":                                               func(a *Queries) { a.Pos = 150 },
		"2 pages and a gap of 1, want at least 4 chunks":                                      func(a *Queries) { a.Pages = a.Pages[1:] },
		"chunk 1 has no page, but row 0 attends to it":                                        func(a *Queries) { a.Window = 100 },
		"chunk 3 is f32, 2 heads of 4, want int8, 2 heads of 4 as in chunk 0":                 func(a *Queries) { a.Pages[2] = NewPage(KVF32, 2, 4) },
		"len(page.KScale) is 127, want 128":                                                   func(a *Queries) { a.Pages[2] = &cut },
		"page.Format is 0, want KVF32, KVF16, KVInt8 or KVInt4":                               func(a *Queries) { a.Pages[0] = &Page{KVHeads: 2, HeadDim: 4} },
		"page of 0 heads of 4, want positive sizes":                                           func(a *Queries) { a.Pages[0] = &Page{Format: KVF32, HeadDim: 4} },
		"KVHead is 2, want 0..1":                                                              func(a *Queries) { a.KVHead = 2 },
		"Stride is 7, want at least 8, the heads of a row":                                    func(a *Queries) { a.Stride = 7 },
		"len(Q) is 67, want at least 68 = (Rows-1)*Stride + Heads*headDim":                    func(a *Queries) { a.Q = a.Q[1:] },
		"len(SinkQ) is 0, want at least 68 = (Rows-1)*Stride + Heads*headDim":                 func(a *Queries) { a.SinkQ = nil },
		"len(parts) is 48, want 36":                                                           func(a *Queries) { a.Rows, a.SinkQ = 3, f(48) },
		"len(parts) is 48, want 24":                                                           func(a *Queries) { a.Heads = 1 },
		"4 rows of 2 heads at position -1, want positive sizes and a position of at least 0":  func(a *Queries) { a.Pos = -1 },
		"a window of -1 with 4 sinks, want none or a positive window":                         func(a *Queries) { a.Window = -1 },
		"a gap of -1 chunks with a window of 40, want none without a window":                  func(a *Queries) { a.Gap = -1 },
		"4 rows of 0 heads at position 200, want positive sizes and a position of at least 0": func(a *Queries) { a.Heads = 0 },
	} {
		a := good()
		edit(a)
		require.PanicsWithValue(t, "kernels: Attention: "+want, func() { CheckAttention(parts, a, 0, 4) })
	}

	require.NotPanics(t, func() { CheckMergeAttention(f(4), f(15), 9, 2) })
	require.NotPanics(t, func() { CheckMergeAttention(f(4), f(6), 0, 1) })
	require.PanicsWithValue(t, "kernels: MergeAttention: 0 parts for 4 elements, want at least one of each", func() { CheckMergeAttention(f(4), f(6), 6, 0) })
	require.PanicsWithValue(t, "kernels: MergeAttention: stride is 5, want at least 6, the elements of a part", func() { CheckMergeAttention(f(4), f(12), 5, 2) })
	require.PanicsWithValue(t, "kernels: MergeAttention: len(parts) is 14, want at least 15 = (n-1)*stride + headDim+2", func() { CheckMergeAttention(f(4), f(14), 9, 2) })

	require.NotPanics(t, func() { CheckStoreKV(page, 63, f(8), f(8)) })
	require.PanicsWithValue(t, "kernels: StoreKV: slot is 64, want 0..63", func() { CheckStoreKV(page, 64, f(8), f(8)) })
	require.PanicsWithValue(t, "kernels: StoreKV: len(k) is 7, want 8", func() { CheckStoreKV(page, 0, f(7), f(8)) })
	require.PanicsWithValue(t, "kernels: StoreKV: len(v) is 9, want 8", func() { CheckStoreKV(page, 0, f(8), f(9)) })
}
