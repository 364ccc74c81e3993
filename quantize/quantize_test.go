package quantize_test

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/quantize"
)

// trit is the rule as the paper writes it, with the division.
func trit(w, gamma float32) int8 {
	return int8(min(max(math.RoundToEven(float64(w/gamma)), -1), 1))
}

func TestTritsEqualTheRuleWithDivision(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		gamma := max(float32(math.Ldexp(1+rng.Float64(), rng.IntN(40)-20)), quantize.MinScale)
		if rng.IntN(4) == 0 { // the two mantissas at the ends of the proof's range
			gamma = math.Float32frombits(math.Float32bits(gamma)&^0x7fffff | uint32(rng.IntN(2))*0x7fffff)
			gamma = max(gamma, quantize.MinScale)
		}
		w := []float32{0, float32(math.Copysign(0, -1)), gamma, -gamma, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32}
		for _, centre := range []float32{gamma * 0.5, gamma * 1.5, -gamma * 0.5} {
			bits := math.Float32bits(centre)
			for d := range uint32(5) {
				w = append(w, math.Float32frombits(bits-2+d))
			}
		}
		got := make([]int8, len(w))
		quantize.Trits(got, w, gamma)
		for i := range w {
			require.Equal(t, trit(w[i], gamma), got[i], "w %x gamma %x", w[i], gamma)
		}
	}
}

func TestTiesRoundToEven(t *testing.T) {
	got := make([]int8, 6)
	quantize.Trits(got, []float32{0.5, -0.5, 0.50000006, 1.5, -1.5, 2.5}, 1)
	require.Equal(t, []int8{0, 0, 1, 1, -1, 1}, got)

	q := make([]int8, 8)
	a, err := quantize.Int8Token(q, []float32{127, 0.5, 1.5, 2.5, -0.5, -2.5, -127, 126.5})
	require.NoError(t, err)
	require.Equal(t, float32(127), a)
	require.Equal(t, []int8{127, 0, 2, 2, 0, -2, -127, 126}, q)
}

func TestAbsMean(t *testing.T) {
	require.Equal(t, quantize.MinScale, quantize.AbsMean(quantize.SumAbs(make([]float32, 300)), 300), "a matrix of zeros")
	require.Equal(t, float32(2), quantize.AbsMean(quantize.SumAbs([]float32{-1, 2, -3}), 3))

	rows := make([][]float32, 4)
	for i := range rows {
		rows[i] = make([]float32, 131)
		for j := range rows[i] {
			rows[i][j] = float32(math.Sin(float64(i*1000 + j)))
		}
	}
	a, b, c, d := quantize.SumAbs4(rows[0], rows[1], rows[2], rows[3])
	for i, s := range []float64{a, b, c, d} {
		require.Equal(t, quantize.SumAbs(rows[i]), s)
		exact := new(big.Float).SetPrec(300)
		for _, v := range rows[i] {
			exact.Add(exact, new(big.Float).SetFloat64(math.Abs(float64(v))))
		}
		want, _ := exact.Float64()
		require.InEpsilon(t, want, s, 131*0x1p-53, "131 roundings of half an ulp")
	}
}

func TestNonFiniteIsRefused(t *testing.T) {
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0xffc00001)} {
		x := []float32{1, 2, bad, 4}
		var e *quantize.NonFiniteError
		require.ErrorAs(t, quantize.CheckFinite(x), &e)
		require.Equal(t, 2, e.Index)
		require.True(t, math.IsNaN(quantize.SumAbs(x)) || math.IsInf(quantize.SumAbs(x), 0))
		_, err := quantize.Int8Token(make([]int8, 4), x)
		require.ErrorAs(t, err, &e)
		_, err = quantize.Int8Row(make([]int8, 4), x)
		require.ErrorAs(t, err, &e)
		require.ErrorContains(t, err, "value 2 is")
	}
	require.NoError(t, quantize.CheckFinite([]float32{0, math.MaxFloat32, math.SmallestNonzeroFloat32}))
}

func TestInt8Token(t *testing.T) {
	q := []int8{9, 9, 9, 9}
	a, err := quantize.Int8Token(q, []float32{0, 0})
	require.NoError(t, err)
	require.Equal(t, quantize.MinAbsMax, a)
	require.Equal(t, []int8{0, 0, 0, 0}, q, "codes and padding are zero")

	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float32Range(-1e30, 1e30), 1, 200).Draw(t, "x")
		q := make([]int8, len(x))
		a, err := quantize.Int8Token(q, x)
		require.NoError(t, err)
		k := 127 / a
		for i, v := range x {
			p := v * k
			require.Equal(t, int8(math.RoundToEven(float64(p))), q[i])
			require.GreaterOrEqual(t, q[i], int8(-127))
		}
	})
}

func TestInt8Row(t *testing.T) {
	q := make([]int8, 3)
	s, err := quantize.Int8Row(q, []float32{0, 0, 0})
	require.NoError(t, err)
	require.Zero(t, s)
	tiny := math.Float32frombits(178)
	s, err = quantize.Int8Row(q, []float32{tiny, -tiny, 0})
	require.NoError(t, err)
	require.Equal(t, math.Float32frombits(1), s, "178/127 subnormal steps round to one")
	require.Equal(t, []int8{127, -127, 0}, q)
	rapid.Check(t, func(t *rapid.T) {
		w := rapid.SliceOfN(rapid.Float32Range(-1e3, 1e3), 1, 200).Draw(t, "w")
		q := make([]int8, len(w))
		s, err := quantize.Int8Row(q, w)
		require.NoError(t, err)
		for i, v := range w {
			require.InDelta(t, v, float32(q[i])*s, float64(s)*0.50001, "half a step, and the rounding of the quotient")
		}
	})
}

func drawTrits(t *rapid.T, rows, cols int) [][]int8 {
	flat := rapid.SliceOfN(rapid.Int8Range(-1, 1), rows*cols, rows*cols).Draw(t, "trits")
	out := make([][]int8, rows)
	for r := range out {
		out[r] = flat[r*cols : (r+1)*cols]
	}
	return out
}

func emptyRows(rows, cols int) [][]int8 {
	out := make([][]int8, rows)
	for r := range out {
		out[r] = make([]int8, cols)
	}
	return out
}

type encoding struct {
	name   string
	bytes  func(int) int
	pack   func([]byte, [][]int8, int)
	unpack func([][]int8, []byte, int) error
}

var encodings = []encoding{
	{"2-bit", quantize.TileRowBytes2, quantize.Pack2, quantize.Unpack2},
	{"base-3", quantize.TileRowBytes3, quantize.Pack3, quantize.Unpack3},
}

func TestPackUnpackSymmetry(t *testing.T) {
	for _, enc := range encodings {
		t.Run(enc.name, rapid.MakeCheck(func(t *rapid.T) {
			rows := rapid.IntRange(1, 4).Draw(t, "rows")
			cols := rapid.IntRange(1, 400).Draw(t, "cols")
			want := drawTrits(t, rows, cols)
			packed := make([]byte, enc.bytes(cols))
			enc.pack(packed, want, cols)
			got := emptyRows(rows, cols)
			require.NoError(t, enc.unpack(got, packed, cols))
			require.Equal(t, want, got)
			again := make([]byte, len(packed))
			enc.pack(again, got, cols)
			require.Equal(t, packed, again)
		}))
	}
}

// TestEveryByte holds for every value of every byte of a tile that it is either
// refused or survives decode and encode unchanged.
func TestEveryByte(t *testing.T) {
	for _, enc := range encodings {
		for _, shape := range [][2]int{{4, 128}, {3, 100}, {1, 1}} {
			rows, cols := shape[0], shape[1]
			legal := 0
			for at := range enc.bytes(cols) {
				for v := range 256 {
					src := make([]byte, enc.bytes(cols))
					src[at] = byte(v)
					got := emptyRows(rows, cols)
					if err := enc.unpack(got, src, cols); err != nil {
						var e *quantize.CodeError
						require.ErrorAs(t, err, &e)
						require.Equal(t, at, e.Offset)
						require.Equal(t, byte(v), e.Byte)
						continue
					}
					legal++
					again := make([]byte, len(src))
					enc.pack(again, got, cols)
					require.Equal(t, src, again)
				}
			}
			if rows == 4 && cols == 128 {
				want := map[string]int{"2-bit": 128 * 81, "base-3": 4 * (24*243 + 2*81)}[enc.name]
				require.Equal(t, want, legal, enc.name)
			}
		}
	}
}

func TestPackedLayout(t *testing.T) {
	row := make([]int8, 128)
	row[5], row[37], row[69], row[101] = 1, -1, 0, 1 // one byte of the 2-bit run
	packed := make([]byte, quantize.TileBytes2)
	quantize.Pack2(packed, [][]int8{make([]int8, 128), row}, 128)
	require.Equal(t, byte(0b01_00_11_01), packed[32+5])

	row = make([]int8, 128)
	row[3], row[29], row[107] = -1, 1, -1 // digits 2, 1, 0, 0, 2
	packed = make([]byte, quantize.TileBytes3)
	quantize.Pack3(packed, [][]int8{row}, 128)
	require.Equal(t, byte(2+1*3+2*81), packed[3])
	require.Equal(t, byte(0), packed[4])
}

func TestRepack3To2(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cols := rapid.IntRange(1, 400).Draw(t, "cols")
		rows := drawTrits(t, 4, cols)
		three, two, want := make([]byte, quantize.TileRowBytes3(cols)), make([]byte, quantize.TileRowBytes2(cols)), make([]byte, quantize.TileRowBytes2(cols))
		quantize.Pack3(three, rows, cols)
		quantize.Pack2(want, rows, cols)
		require.NoError(t, quantize.Repack3To2(two, three))
		require.Equal(t, want, two)
	})
	bad := make([]byte, 2*quantize.TileBytes3)
	bad[quantize.TileBytes3+7] = 250
	var e *quantize.CodeError
	require.ErrorAs(t, quantize.Repack3To2(make([]byte, 2*quantize.TileBytes2), bad), &e)
	require.Equal(t, quantize.TileBytes3+7, e.Offset)
}

// TestQuantizeDequantizeQuantize: the absmean rule applied to a dequantized
// matrix gives the same trits, whatever the density.
func TestQuantizeDequantizeQuantize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 500).Draw(t, "n")
		w := rapid.SliceOfN(rapid.Float32Range(-4, 4), n, n).Draw(t, "w")
		if rapid.Bool().Draw(t, "small") {
			for i := range w {
				w[i] *= 1e-6
			}
		}
		trits, again, back := make([]int8, n), make([]int8, n), make([]float32, n)
		gamma := quantize.AbsMean(quantize.SumAbs(w), int64(n))
		quantize.Trits(trits, w, gamma)
		quantize.Dequantize(back, trits, gamma)
		quantize.Trits(again, back, quantize.AbsMean(quantize.SumAbs(back), int64(n)))
		require.Equal(t, trits, again)
	})
}

func TestRelativeError(t *testing.T) {
	e, n := quantize.RelativeError([]float32{3, -1, 0.5}, []int8{1, -1, 0}, 2)
	require.Equal(t, 1+1+0.25, e)
	require.Equal(t, 9+1+0.25, n)
}

func BenchmarkRows(b *testing.B) {
	const cols = 2560
	rows, trits := make([][]float32, 4), make([][]int8, 4)
	for r := range rows {
		rows[r], trits[r] = make([]float32, cols), make([]int8, cols)
		for i := range rows[r] {
			rows[r][i] = rand.Float32() - 0.5
		}
	}
	packed := make([]byte, quantize.TileRowBytes2(cols))
	for _, c := range []struct {
		name string
		fn   func()
	}{
		{"SumAbs4", func() { quantize.SumAbs4(rows[0], rows[1], rows[2], rows[3]) }},
		{"Trits", func() {
			for r := range rows {
				quantize.Trits(trits[r], rows[r], 0.25)
			}
		}},
		{"Pack2", func() { quantize.Pack2(packed, trits, cols) }},
		{"Pack3", func() { quantize.Pack3(packed, trits, cols) }},
		{"Unpack2", func() { _ = quantize.Unpack2(trits, packed, cols) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				c.fn()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(4*cols), "ns/weight")
		})
	}
}

func ExampleTrits() {
	w := []float32{0.9, -0.2, 0.4, -1.1}
	gamma := quantize.AbsMean(quantize.SumAbs(w), int64(len(w)))
	trits := make([]int8, len(w))
	quantize.Trits(trits, w, gamma)
	fmt.Println(gamma, trits)
	// Output: 0.65 [1 0 1 -1]
}
