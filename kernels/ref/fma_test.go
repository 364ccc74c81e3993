package ref

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// bigFMA is the oracle: the exact product and sum of two f32 need fewer than 700 bits, and math/big rounds once.
func bigFMA(a, b, c float32) float32 {
	fa, fb, fc := float64(a), float64(b), float64(c)
	if p := fa * fb; math.IsNaN(p+fc) || math.IsInf(p, 0) || math.IsInf(fc, 0) {
		return float32(p + fc) // infinite or NaN whatever the rounding: the product of finite f32 is finite in f64
	}
	x := new(big.Float).SetPrec(700).SetFloat64(fa)
	y := new(big.Float).SetPrec(700).SetFloat64(fb)
	z := new(big.Float).SetPrec(700).SetFloat64(fc)
	x.Mul(x, y)
	x.Add(x, z)
	r, _ := x.Float32()
	return r
}

func requireFMA(t *testing.T, a, b, c float32) {
	t.Helper()
	got, want := FMA32(a, b, c), bigFMA(a, b, c)
	if got != got && want != want || math.Float32bits(got) == math.Float32bits(want) {
		return
	}
	require.Failf(t, "wrong fma", "fma(%x, %x, %x) is %x, want %x", a, b, c, got, want)
}

func TestFMA32Specials(t *testing.T) {
	inf := float32(math.Inf(1))
	values := []float32{0, 1, 1.5, 3, 0x1p-149, 0x1.8p-148, 0x1.fffffcp-127, 0x1p-126, 0x1.000002p-126, 0x1p-75, 0x1.fffffep-75,
		0x1.fffffep+127, 0x1p+127, 0x1p+64, 0x1.fffffep+63, 0x1.000002p+0, 0x1.fffffep-1, 0x1p-24, 0x1p-25, 0x1.8p-24,
		inf, float32(math.NaN())}
	for _, v := range values {
		values = append(values, -v)
	}
	for _, a := range values {
		for _, b := range values {
			for _, c := range values {
				requireFMA(t, a, b, c)
			}
		}
	}
}

// Random operands almost never reach the slow path. These aim at it: a product close to half an ulp of c, or to an
// odd multiple of one, with its low digits far below; sums near the subnormal range; cancellations.
func TestFMA32NearMidpoints(t *testing.T) {
	n := 1 << 20
	if testing.Short() {
		n = 1 << 16
	}
	r := rand.New(rand.NewPCG(1, 2))
	near := func(e int) float32 { // a few ulps beside a power of two, or with few digits
		m := uint32(r.IntN(8))
		switch r.IntN(3) {
		case 0:
			m = 1<<23 - 1 - m
		case 1:
			m <<= 20
		}
		return float32(math.Ldexp(float64(1<<23+m), e-23))
	}
	sign := func(x float32) float32 {
		if r.IntN(2) == 0 {
			return -x
		}
		return x
	}
	slow := 0
	for range n {
		ec := r.IntN(276) - 148
		c := math.Float32frombits(r.Uint32() & 0x7fffff)
		if ec > -126 {
			c = float32(math.Ldexp(float64(1<<23+r.IntN(1<<23)), ec-23))
		}
		if r.IntN(2) == 0 {
			c = near(ec)
		}
		ep := max(ec, -126) - 24 + r.IntN(4) - 1 // exponent of the product, about half an ulp of c
		if r.IntN(4) == 0 {
			ep = ec + r.IntN(60) - 55
		}
		ea := max(-126, min(127, ep/2+r.IntN(40)-20))
		eb := max(-126, min(127, ep-ea))
		a, b := near(ea), near(eb)
		if r.IntN(2) == 0 { // (1 + d)(1 - d) is 1 less something that only an exact product shows
			d := math.Ldexp(float64(r.IntN(64)), -23)
			a, b = float32(math.Ldexp(1+d, ea)), float32(math.Ldexp(1-d, eb))
		}
		a, b = sign(a), sign(b)
		c = sign(c)
		if u := math.Float64bits(float64(a)*float64(b) + float64(c)); u&0x1fffffff == 0x10000000 || u<<1 < 0x381<<53 {
			slow++
		}
		requireFMA(t, a, b, c)
	}
	t.Logf("%d of %d cases took the slow path", slow, n)
	require.Greater(t, slow, n/10, "the cases must be hard")
}

func TestFMA32Random(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 1 << 17 {
		requireFMA(t, math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()), math.Float32frombits(r.Uint32()))
	}
}

func FuzzFMA32(f *testing.F) {
	f.Add(uint32(0x3f800000), uint32(0x33800001), uint32(0x3f800000))
	f.Add(uint32(1), uint32(0x3f000000), uint32(1))
	f.Add(uint32(0x7f7fffff), uint32(0x3f800000), uint32(0x73000000))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		requireFMA(t, math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c))
	})
}
