package ref

import (
	"flag"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

var everyFloat = flag.Bool("every-float", false, "measure Exp32 on all 2^32 floats instead of a sample")

// The bound is measured: -every-float, a minute and a half, gives 0.8913 ulp, at -0x1.765076p+2.
func TestExp32Error(t *testing.T) {
	stride := uint64(1009)
	if *everyFloat {
		stride = 1
	}
	var worst float64
	var at float32
	for _, sign := range []uint64{0, 1 << 31} {
		for u := uint64(0); u < 0x7f800000; u += stride {
			x := math.Float32frombits(uint32(u | sign))
			if x < expLo || x > expHi {
				break
			}
			want := math.Exp(float64(x))
			got := float64(Exp32(x))
			_, e := math.Frexp(want)
			if err := math.Abs(got-want) / math.Ldexp(1, e-24); err > worst {
				worst, at = err, x
			}
		}
	}
	t.Logf("greatest error %.4f ulp at %v (%#x)", worst, at, math.Float32bits(at))
	require.Less(t, worst, 0.8914)
}

func TestExp32Edges(t *testing.T) {
	inf := float32(math.Inf(1))
	require.Equal(t, float32(1), Exp32(0))
	require.Equal(t, float32(1), Exp32(float32(math.Copysign(0, -1))))
	require.Equal(t, inf, Exp32(inf))
	require.Equal(t, inf, Exp32(math.Nextafter32(expHi, inf)))
	require.Less(t, Exp32(expHi), inf)
	require.GreaterOrEqual(t, Exp32(expLo), float32(0x1p-126), "the least result is normal")
	require.Equal(t, uint32(0), math.Float32bits(Exp32(math.Nextafter32(expLo, -inf))))
	require.Equal(t, uint32(0), math.Float32bits(Exp32(-inf)))
	require.True(t, math.IsNaN(float64(Exp32(float32(math.NaN())))))

	require.Equal(t, inf, SiLU(inf))
	require.Equal(t, float32(0), SiLU(-200))
	require.True(t, math.Signbit(float64(SiLU(-200))))
}
