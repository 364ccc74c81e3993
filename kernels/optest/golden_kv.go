package optest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
)

// storedInt8 and storedInt4 are what store.json says that a page keeps of one position.
type (
	storedInt8 struct {
		Scale Bits
		Codes []int
	}
	storedInt4 struct {
		Affine string
		Codes  []int
	}
)

// goldenStore stores each vector as a position's keys and as its values, beside zeros for the other of the two: what one
// of them makes an error must not depend on the other.
func goldenStore(t *testing.T, impl kernels.Ops) {
	var list []struct {
		KVHeads   int `json:"kv_heads"`
		X         Bits
		F16       *string
		Int8      *storedInt8
		Int4Key   *storedInt4 `json:"int4_key"`
		Int4Value *storedInt4 `json:"int4_value"`
	}
	Vectors(t, "store", &list)
	for i, v := range list {
		x := v.X.Floats(t)
		for _, f := range kernels.KVFormats {
			accepted := map[kernels.KVFormat][2]bool{
				kernels.KVF32: {true, true}, kernels.KVF16: {v.F16 != nil, v.F16 != nil},
				kernels.KVInt8: {v.Int8 != nil, v.Int8 != nil}, kernels.KVInt4: {v.Int4Key != nil, v.Int4Value != nil},
			}[f]
			for side, name := range []string{"key", "value"} {
				what := label("StoreKV, case %d, %v, %s", i, f, name)
				a := new(arena)
				page := guardedPage(a, f, v.KVHeads, len(x)/v.KVHeads)
				kv := [2][]float32{floats(a, len(x)), floats(a, len(x))}
				copy(kv[side], x)
				const slot = 5
				err := impl.StoreKV(page, slot, kv[0], kv[1])
				if !accepted[side] {
					var wrong *kernels.KVRangeError
					if !errors.As(err, &wrong) || wrong.Format != f || wrong.What != name {
						t.Fatalf("%s: error is %v, want a *KVRangeError about a %s", what, err, name)
					}
					a.free()
					continue
				}
				if err != nil {
					t.Fatalf("%s: error is %v, want none", what, err)
				}
				switch f {
				case kernels.KVF32:
					same(t, what, pick([2][]float32{page.K, page.V}, side, page, slot, len(x)), x)
				case kernels.KVF16:
					equal(t, what, words(pick([2][]uint16{page.KHalf, page.VHalf}, side, page, slot, len(x))), *v.F16)
				case kernels.KVInt8:
					var codes []int
					for _, c := range pick([2][]byte{page.KCodes, page.VCodes}, side, page, slot, len(x)) {
						codes = append(codes, int(int8(c)))
					}
					equal(t, what+", codes", fmt.Sprint(codes), fmt.Sprint(v.Int8.Codes))
					scales := [2][]float32{page.KScale, page.VScale}[side]
					same(t, what+", scales", strided(scales, slot, v.KVHeads), v.Int8.Scale.Floats(t))
				case kernels.KVInt4:
					want, affine := v.Int4Key, strided(page.KAffine, slot, 2*v.KVHeads)
					if side == 1 {
						want, affine = v.Int4Value, strided(page.VAffine, slot, 2)
					}
					equal(t, what+", codes", fmt.Sprint(pairs(page, side, slot)), fmt.Sprint(want.Codes))
					equal(t, what+", scales and zeros", words(affine), want.Affine)
				}
				a.free()
			}
		}
	}
}

// pick takes one position's n elements out of keys (side 0) or values (side 1) that have an entry for each.
func pick[T any](data [2][]T, side int, p *kernels.Page, slot, n int) []T {
	if side == 0 {
		return strided(data[0], slot, n)
	}
	var out []T
	for h := range p.KVHeads {
		out = append(out, data[1][(h*kernels.PageLen+slot)*p.HeadDim:][:p.HeadDim]...)
	}
	return out
}

// strided takes n elements that stand a page's length apart.
func strided[T any](data []T, slot, n int) []T {
	var out []T
	for i := range n {
		out = append(out, data[i*kernels.PageLen+slot])
	}
	return out
}

// pairs takes one position's int4 codes out of keys (side 0) or values (side 1).
func pairs(p *kernels.Page, side, slot int) []int {
	half := (p.HeadDim + 1) / 2
	var out []int
	for h := range p.KVHeads {
		for i := range p.HeadDim {
			b := p.VCodes
			at := (h*kernels.PageLen+slot)*half + i/2
			if side == 0 {
				b, at = p.KCodes, (h*half+i/2)*kernels.PageLen+slot
			}
			out = append(out, int(b[at]>>(4-4*(i%2))&15))
		}
	}
	return out
}

func words(list []uint16) string {
	var s []string
	for _, u := range list {
		s = append(s, fmt.Sprintf("%04x", u))
	}
	return strings.Join(s, " ")
}

func equal(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %s, want %s", what, got, want)
	}
}

func goldenAttention(t *testing.T, impl kernels.Ops) {
	var list []struct {
		Format        string
		Seed          uint32
		N, Dim        int
		KVHeads       int `json:"kv_heads"`
		KVHead        int `json:"kv_head"`
		Slope         float32
		Window, Sinks int
		Out           Bits
	}
	Vectors(t, "attention", &list)
	for _, v := range list {
		f, err := kernels.ParseKVFormat(v.Format)
		if err != nil {
			t.Fatal(err)
		}
		g := Generator(v.Seed)
		q := &kernels.Queries{Q: g.Floats(v.Dim, 21), Pos: v.N - 1, KVHead: v.KVHead, Window: v.Window, Sinks: v.Sinks}
		if v.Window > 0 {
			q.SinkQ = g.Floats(v.Dim, 21)
		}
		width := v.KVHeads * v.Dim
		keys, values := g.Floats(v.N*width, 22), g.Floats(v.N*width, 22)
		for i := range keys {
			keys[i] += float32(v.Slope * float32(i/width))
		}
		attend(t, label("attention, %+v", v), impl, f, q, keys, values, v.KVHeads, v.Out.Floats(t))
	}
}

// attend holds one query over keys and values that stand position by position to want: as one of several heads, whose
// number decides which loops run, and with its chunks merged in one call or in several.
func attend(t *testing.T, what string, impl kernels.Ops, f kernels.KVFormat, q *kernels.Queries, keys, values []float32, kvHeads int, want []float32) {
	t.Helper()
	a := new(arena)
	defer a.free()
	d := len(want)
	width := kvHeads * d
	for p := range len(keys) / width {
		if p%kernels.PageLen == 0 {
			q.Pages = append(q.Pages, guardedPage(a, f, kvHeads, d))
		}
		page := q.Pages[len(q.Pages)-1]
		if err := impl.StoreKV(page, p%kernels.PageLen, keys[p*width:][:width], values[p*width:][:width]); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	q.Rows = 1
	dropPages(q)
	query, sinkQuery := q.Q, q.SinkQ
	for _, heads := range []int{1, 5} {
		q.Heads, q.Stride = heads, heads*d
		q.Q, q.SinkQ = guarded(a, slices.Repeat(query, heads)), guarded(a, slices.Repeat(sinkQuery, heads))
		for _, apart := range []int{0, q.Chunks() / 2, q.Chunks()} {
			got := finished(impl, a, q, d, apart)
			for h := range heads {
				same(t, label("%s, head %d of %d, %d chunks apart", what, h, heads, apart), got[h*d:][:d], want)
			}
		}
	}
}
