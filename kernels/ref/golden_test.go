package ref

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/testdata/vectors"
)

// golden is elementary.json of the numerics vectors: a function's argument and its value. An f32 is its bits in hex, an
// f64 a hexadecimal float; the functions of section 5 have first the value to 80 digits, then the one of that section.
type golden struct {
	Exp, SiLU [][2]string
	Sums      []struct {
		Seed            uint32
		N               int
		Sum, Dot, SumSq string
	}
	FMA                    []string
	Half                   [][2]string
	Log64, Exp64, SinCos64 [][]string
}

func loadGolden(t *testing.T) *golden {
	b, err := vectors.FS.ReadFile("numerics/elementary.json")
	require.NoError(t, err)
	g := new(golden)
	require.NoError(t, json.Unmarshal(b, g))
	return g
}

func parse(t *testing.T, hex string) []float32 {
	var x []float32
	for _, f := range strings.Fields(hex) {
		u, err := strconv.ParseUint(f, 16, 32)
		require.NoError(t, err)
		x = append(x, math.Float32frombits(uint32(u)))
	}
	return x
}

func show(x ...float32) string {
	s := make([]string, len(x))
	for i, v := range x {
		s[i] = fmt.Sprintf("%08x", math.Float32bits(v))
	}
	return strings.Join(s, " ")
}

// rng makes the inputs of section 16.
type rng uint32

func (r *rng) float(shift int) float32 {
	*r = *r*1664525 + 1013904223
	return float32(math.Ldexp(float64(int32(*r>>8)-1<<23), -shift))
}

func (r *rng) floats(n, shift int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = r.float(shift)
	}
	return x
}

func TestGoldenScalars(t *testing.T) {
	g := loadGolden(t)
	require.NotEmpty(t, g.Exp)
	for _, c := range g.Exp {
		require.Equal(t, c[1], show(Exp32(parse(t, c[0])[0])), "exp of %s", c[0])
	}
	require.NotEmpty(t, g.SiLU)
	for _, c := range g.SiLU {
		require.Equal(t, c[1], show(SiLU(parse(t, c[0])[0])), "silu of %s", c[0])
	}
	require.NotEmpty(t, g.FMA)
	for _, c := range g.FMA {
		x := parse(t, c)
		require.Equal(t, show(x[3]), show(FMA32(x[0], x[1], x[2])), "fma of %v", x[:3])
	}
	require.NotEmpty(t, g.Half)
	for _, c := range g.Half {
		require.Equal(t, c[1], fmt.Sprintf("%04x", narrowF16(parse(t, c[0])[0])), "half of %s", c[0])
	}
}

func TestGoldenSums(t *testing.T) {
	g := loadGolden(t)
	require.NotEmpty(t, g.Sums)
	for _, c := range g.Sums {
		r := rng(c.Seed)
		w, x := r.floats(c.N, 22), r.floats(c.N, 20)
		require.Equal(t, c.Sum, show(Sum(x)), "sum of %d", c.N)
		require.Equal(t, c.Dot, show(Dot(w, x)), "dot of %d", c.N)
		require.Equal(t, c.SumSq, show(Dot(x, x)), "sum of squares of %d", c.N)
	}
}

// The values come from 80 decimal digits rounded once. The bounds are the specification's and the half ulp of that
// rounding: 2e-16 absolute and 4e-16 relative, each with up to 1.2e-16.
func TestGoldenElementary(t *testing.T) {
	g := loadGolden(t)
	f := func(s string) float64 {
		v, err := strconv.ParseFloat(s, 64)
		require.NoError(t, err)
		return v
	}
	require.NotEmpty(t, g.Log64)
	for _, c := range g.Log64 {
		require.InDelta(t, f(c[1]), log64(f(c[0])), 5.2e-16*f(c[1]), "log of %s", c[0])
		require.Equal(t, f(c[2]), log64(f(c[0])), "log of %s", c[0])
	}
	require.NotEmpty(t, g.Exp64)
	for _, c := range g.Exp64 {
		require.InDelta(t, f(c[1]), exp64(f(c[0])), 5.2e-16*f(c[1]), "exp of %s", c[0])
		require.Equal(t, f(c[2]), exp64(f(c[0])), "exp of %s", c[0])
	}
	require.NotEmpty(t, g.SinCos64)
	for _, c := range g.SinCos64 {
		s, k := sincos64(f(c[0]))
		require.InDelta(t, f(c[1]), s, 3.2e-16, "sin of %s", c[0])
		require.InDelta(t, f(c[2]), k, 3.2e-16, "cos of %s", c[0])
		require.Equal(t, []float64{f(c[3]), f(c[4])}, []float64{s, k}, "sin and cos of %s", c[0])
	}
}

// goldenAttention is one head over generated queries, keys and values.
func goldenAttention(t *testing.T, r *rng, n, dim int) []float32 {
	a := &kernels.Queries{Q: r.floats(dim, 21), Rows: 1, Heads: 1, Pos: n - 1}
	return attend(t, a, r, kernels.KVF32, n, dim)
}

// goldenWindow draws a query for sinks, too.
func goldenWindow(t *testing.T, r *rng, format kernels.KVFormat, n, dim, window, sinks int) []float32 {
	a := &kernels.Queries{Q: r.floats(dim, 21), SinkQ: r.floats(dim, 21), Rows: 1, Heads: 1, Pos: n - 1, Window: window, Sinks: sinks}
	return attend(t, a, r, format, n, dim)
}

func attend(t *testing.T, a *kernels.Queries, r *rng, format kernels.KVFormat, n, dim int) []float32 {
	keys, values := r.floats(n*dim, 22), r.floats(n*dim, 22)
	for p := range n {
		if p%kernels.PageLen == 0 {
			a.Pages = append(a.Pages, kernels.NewPage(format, 1, dim))
		}
		page := a.Pages[len(a.Pages)-1]
		require.NoError(t, New().StoreKV(page, p%kernels.PageLen, keys[p*dim:][:dim], values[p*dim:][:dim]))
	}
	out, part := make([]float32, dim), make([]float32, kernels.AttentionPart(dim))
	New().Attention(part, a, 0, a.Chunks())
	New().MergeAttention(out, part, 0, 1)
	return out
}

// stored is what the integer formats keep of a vector, the same as a key and as a value.
func stored(t *testing.T, x []float32) (scale string, codes []int, affine string, pairs []int) {
	const slot, n = 5, kernels.PageLen
	p := kernels.NewPage(kernels.KVInt8, 1, len(x))
	require.NoError(t, New().StoreKV(p, slot, x, x))
	require.Equal(t, p.KScale[slot], p.VScale[slot])
	for i := range x {
		require.Equal(t, p.KCodes[i*n+slot], p.VCodes[slot*len(x)+i])
		codes = append(codes, int(int8(p.KCodes[i*n+slot])))
	}
	p4 := kernels.NewPage(kernels.KVInt4, 1, len(x))
	require.NoError(t, New().StoreKV(p4, slot, x, x))
	require.Equal(t, p4.KAffine, p4.VAffine)
	for i := range x {
		b := p4.KCodes[i/2*n+slot]
		require.Equal(t, b, p4.VCodes[slot*((len(x)+1)/2)+i/2])
		pairs = append(pairs, int(b>>(4-4*(i%2))&15))
	}
	return show(p.KScale[slot]), codes, fmt.Sprintf("%04x %04x", p4.KAffine[slot], p4.KAffine[n+slot]), pairs
}
