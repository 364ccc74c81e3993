package ref

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/kernels"
)

var inf = float32(math.Inf(1))

func quantizeOnly(t *testing.T, x []float32) ([]int8, float32) {
	q := make([]int8, kernels.PadCols(len(x)))
	for i := range q {
		q[i] = 99
	}
	a, err := New().NormQuant(q, x, nil)
	require.NoError(t, err)
	for _, v := range q[len(x):] {
		require.Zero(t, v, "padding")
	}
	return q[:len(x)], a
}

func TestQuantizeTies(t *testing.T) {
	q, a := quantizeOnly(t, []float32{127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5, 125.5, -126.5, 0.49999997, 0.50000006})
	require.Equal(t, float32(127), a)
	require.Equal(t, []int8{127, 0, 2, 2, 0, -2, -2, 126, 126, -126, 0, 1}, q)

	q, a = quantizeOnly(t, []float32{-254, 1, 3, 5, -1, -3})
	require.Equal(t, float32(254), a)
	require.Equal(t, []int8{-127, 0, 2, 2, 0, -2}, q)
}

func TestQuantizeClamp(t *testing.T) {
	for _, x := range [][]float32{{0, 0, 0}, {0, 1e-45, -1e-45}, {1e-8, 1e-7, 0}} {
		_, a := quantizeOnly(t, x)
		require.Equal(t, float32(0x1.4f8b58p-17), a, "%v", x)
	}
	q, _ := quantizeOnly(t, []float32{5e-6, 1e-5, -1e-5})
	require.Equal(t, []int8{64, 127, -127}, q) // 5e-6 * 127e5 is 63.500003 in f32
	q, a := quantizeOnly(t, []float32{math.MaxFloat32, -math.MaxFloat32 / 2})
	require.Equal(t, float32(math.MaxFloat32), a)
	require.Equal(t, []int8{127, -63}, q) // 1/a is subnormal: rounded down, it puts the half just below 63.5
}

// Codes never reach -128 and undo to within half a step; the first follows from the rounding of k, so any float
// must do.
func TestQuantizeBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Uint32(), 1, 200).Draw(t, "bits")
		x := make([]float32, len(bits))
		for i, b := range bits {
			x[i] = math.Float32frombits(b)
			if !kernels.Finite(x[i]) {
				x[i] = 0
			}
		}
		q := make([]int8, kernels.PadCols(len(x)))
		a, err := New().NormQuant(q, x, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range x {
			if q[i] < -127 || math.Abs(float64(q[i])*float64(a)/127-float64(v)) > float64(a)/254*1.0001 {
				t.Fatalf("x[%d] = %v became %d with a = %v", i, v, q[i], a)
			}
		}
	})
}

func TestNonFinite(t *testing.T) {
	n := &kernels.Norm{Kind: kernels.RMS, Weight: []float32{1, 1, 1}, Eps: 1e-5}
	layer := &kernels.Norm{Kind: kernels.Layer, Weight: []float32{1, 1, 1}, Eps: 1e-5}
	for _, bad := range []float32{inf, -inf, float32(math.NaN())} {
		for _, norm := range []*kernels.Norm{n, layer, nil} {
			x := []float32{1, bad, 2}
			_, err := New().NormQuant(make([]int8, kernels.TileCols), x, norm)
			var nf *kernels.NonFiniteError
			require.ErrorAs(t, err, &nf)
			require.Equal(t, "x", nf.What)
			require.Equal(t, 1, nf.Index)
			require.ErrorContains(t, err, "want a finite value")
			if norm != nil {
				require.ErrorAs(t, New().Norm(make([]float32, 3), x, norm), &nf)
			}
		}
	}
	for name, c := range map[string]struct {
		x, w []float32
		eps  float32
		what string
	}{
		"squares overflow": {[]float32{1e20, 0, 0}, []float32{1, 1, 1}, 1e-5, "the sum of squares"},
		"r is infinite":    {[]float32{0, 0, 0}, []float32{1, 1, 1}, 0, "r"},
		"y overflows":      {[]float32{1, 1e19, 1}, []float32{1, 1e38, 1}, 1e-5, "y"},
	} {
		err := New().Norm(make([]float32, 3), c.x, &kernels.Norm{Kind: kernels.RMS, Weight: c.w, Eps: c.eps})
		var nf *kernels.NonFiniteError
		require.ErrorAs(t, err, &nf, name)
		require.Equal(t, c.what, nf.What, name)
	}
}

// The maximum is known before the division: max|x*w| * r is max|y| exactly, which one-pass kernels rely on.
func TestMaxCommutesWithR(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		x, w, y := make([]float32, 100), make([]float32, 100), make([]float32, 100)
		for i := range x {
			x[i], w[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
		}
		n := &kernels.Norm{Kind: kernels.RMS, Weight: w, Eps: 1e-5}
		require.NoError(t, New().Norm(y, x, n))
		scale := 1 / sqrt(Dot(x, x)/100+n.Eps)
		var top float32
		for i := range x {
			top = max(top, float32(math.Abs(float64(x[i]*w[i]))))
		}
		a, err := New().NormQuant(make([]int8, 128), x, n)
		require.NoError(t, err)
		require.Equal(t, a, top*scale)
	}
}

// Attention against a softmax in f64. A weighted mean of values in [-1, 1] carries the errors of the scores, at most
// 1.5 * headDim half ulps of the largest partial sum (below 8 here), which exp turns into relative errors, and of
// some hundred roundings in the sums: 16 * 1.5 * 8 * 2^-24 + 2 * (64+n/64+10) * 2^-24 < 3e-5.
func TestAttentionAgainstFloat64(t *testing.T) {
	const dim, kvHeads = 16, 2
	r := rand.New(rand.NewPCG(7, 8))
	for _, n := range []int{1, 2, 63, 64, 65, 127, 128, 129, 300} {
		var pages []*kernels.Page
		keys, values := make([][]float32, n), make([][]float32, n)
		for p := range n {
			if p%kernels.PageLen == 0 {
				pages = append(pages, kernels.NewPage(kernels.KVF32, kvHeads, dim))
			}
			k, v := make([]float32, kvHeads*dim), make([]float32, kvHeads*dim)
			for i := range k {
				k[i], v[i] = float32(r.Float64()*2-1), float32(r.Float64()*2-1)
			}
			keys[p], values[p] = k, v
			require.NoError(t, New().StoreKV(pages[len(pages)-1], p%kernels.PageLen, k, v))
		}
		q := make([]float32, dim)
		for i := range q {
			q[i] = float32(r.Float64()*2-1) / 2
		}
		for h := range kvHeads {
			out := make([]float32, dim)
			a := &kernels.Queries{Q: q, Rows: 1, Heads: 1, Pos: n - 1, KVHead: h, Pages: pages}
			part := make([]float32, kernels.AttentionPart(dim))
			New().Attention(part, a, 0, a.Chunks())
			New().MergeAttention(out, part, 0, 1)
			want, total := make([]float64, dim), 0.0
			for p := range n {
				s := 0.0
				for i := range q {
					s += float64(q[i]) * float64(keys[p][h*dim+i])
				}
				e := math.Exp(s / 4)
				total += e
				for i := range want {
					want[i] += e * float64(values[p][h*dim+i])
				}
			}
			for i := range want {
				require.InDelta(t, want[i]/total, out[i], 3e-5, "n %d, head %d", n, h)
			}
		}
	}
}

// A stored number stands for one within half a step of it: half a unit of f16 is 2^-11 of the number, half a step of
// int8 is a/254 and of int4 (hi-lo)/30, which the f16 of scale and zero move by up to 2^-11 of all they stand for.
func TestStoredNumbersAreNear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.IntRange(1, 40).Draw(t, "d")
		x := rapid.SliceOfN(rapid.Float32Range(-50, 50), d, d).Draw(t, "x")
		var lo, hi float64
		for i, v := range x {
			require.InDelta(t, v, widenF16(narrowF16(v)), math.Abs(float64(v))/2048+0x1p-25)
			if i == 0 {
				lo, hi = float64(v), float64(v)
			}
			lo, hi = min(lo, float64(v)), max(hi, float64(v))
		}
		p := kernels.NewPage(kernels.KVInt8, 1, d)
		require.NoError(t, New().StoreKV(p, 63, x, x))
		top := max(hi, -lo)
		for i, v := range x {
			got := float64(p.VScale[63]) * float64(int8(p.VCodes[63*d+i]))
			require.InDelta(t, v, got, top/254*1.0001+1e-44)
		}
		p = kernels.NewPage(kernels.KVInt4, 1, d)
		require.NoError(t, New().StoreKV(p, 63, x, x))
		a, b := affine(p.VAffine, 63)
		for i, v := range x {
			u := nibble(p.VCodes[63*((d+1)/2)+i/2], i)
			require.InDelta(t, v, float64(a)*float64(u)+float64(b), (hi-lo)/30+top/512+1e-6)
		}
	})
}

func TestStoreKVErrors(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		format kernels.KVFormat
		k, v   []float32
		want   string
	}{
		{kernels.KVF32, []float32{nan, inf}, []float32{0, 0}, ""},
		{kernels.KVF16, []float32{1, 65519}, []float32{-65519, 0}, ""},
		{kernels.KVF16, []float32{1, 65520}, []float32{0, 0}, "key 1 of a position is 65520, more than the KV format f16 can hold; use the format f32"},
		{kernels.KVF16, []float32{0, 0}, []float32{-65520, 0}, "value 0 of a position is -65520"},
		{kernels.KVF16, []float32{0, inf}, []float32{0, 0}, "key 1 of a position is +Inf, want a finite number"},
		{kernels.KVInt8, []float32{3e38, -3e38}, []float32{0, 0}, ""},
		{kernels.KVInt8, []float32{0, 0}, []float32{0, nan}, "value 1 of a position is NaN"},
		{kernels.KVInt4, []float32{500000, -400000}, []float32{0, 0}, ""},
		{kernels.KVInt4, []float32{500000, -500000}, []float32{0, 0}, "key 0 of a position is 500000, more than the KV format int4"},
		{kernels.KVInt4, []float32{0, 0}, []float32{70000, 70000}, "value 0 of a position is 70000"},
		{kernels.KVInt4, []float32{3e38, -3e38}, []float32{0, 0}, "key 0"},
		{kernels.KVInt4, []float32{0, 0}, []float32{-inf, 0}, "value 0 of a position is -Inf"},
	} {
		err := New().StoreKV(kernels.NewPage(c.format, 1, 2), 0, c.k, c.v)
		if c.want == "" {
			require.NoError(t, err, "%v", c)
			continue
		}
		require.ErrorContains(t, err, c.want)
		var e *kernels.KVRangeError
		require.ErrorAs(t, err, &e)
	}
}

func TestRopeParameters(t *testing.T) {
	good := kernels.RopeSpec{Type: kernels.RopeLlama3, Theta: 5e5, Factor: 8, LowFreq: 1, HighFreq: 4, OriginalMax: 8192}
	_, err := NewRope(good, 64)
	require.NoError(t, err)
	for want, edit := range map[string]func(*kernels.RopeSpec){
		"theta is NaN":  func(s *kernels.RopeSpec) { s.Theta = math.NaN() },
		"theta is 0.5":  func(s *kernels.RopeSpec) { s.Theta = 0.5 },
		"factor is 0":   func(s *kernels.RopeSpec) { s.Factor = 0 },
		"are 4, 4":      func(s *kernels.RopeSpec) { s.LowFreq = 4 },
		"8192":          func(s *kernels.RopeSpec) { s.HighFreq = math.Inf(1) },
		"1, 4, 0":       func(s *kernels.RopeSpec) { s.OriginalMax = 0 },
		"type is 0":     func(s *kernels.RopeSpec) { s.Type = 0 },
		"theta is +Inf": func(s *kernels.RopeSpec) { s.Theta = math.Inf(1) },
	} {
		s := good
		edit(&s)
		_, err := NewRope(s, 64)
		require.ErrorContains(t, err, want)
	}
	_, err = NewRope(good, 5)
	require.ErrorContains(t, err, "head_dim is 5")
	cos, sin := make([]float32, 32), make([]float32, 32)
	require.ErrorContains(t, RopeAngles(cos, sin, 0, kernels.RopeSpec{}), "theta is 0")

	r, err := NewRope(good, 64)
	require.NoError(t, err)
	r.At(MaxPosition-1, cos, sin)
	require.Panics(t, func() { r.At(MaxPosition, cos, sin) })
	require.Panics(t, func() { r.At(-1, cos, sin) })
	require.Panics(t, func() { r.At(0, cos[:31], sin) })
}

func TestGateNaN(t *testing.T) {
	nan := float32(math.NaN())
	h := make([]float32, 4)
	New().Gate(h, []float32{nan, -3, 2, -inf}, []float32{1, 5, 3, 1}, kernels.ReLU2)
	require.True(t, h[0] != h[0])
	require.Equal(t, []float32{0, 12, 0}, h[1:])
}

// Every binary16, against a conversion by its definition.
func TestWidenF16(t *testing.T) {
	for u := range 1 << 16 {
		e, m := u>>10&31, float64(u&1023)
		want := math.Ldexp(1024+m, e-25)
		switch {
		case e == 0:
			want = math.Ldexp(m, -24)
		case e == 31 && m == 0:
			want = math.Inf(1)
		case e == 31:
			want = math.NaN()
		}
		got := float64(widenF16(uint16(u)))
		if want != want {
			require.True(t, got != got, "%#x", u)
			continue
		}
		require.Equal(t, math.Float64bits(math.Copysign(want, float64(1-2*(u>>15)))), math.Float64bits(got), "%#x", u)
	}
}
