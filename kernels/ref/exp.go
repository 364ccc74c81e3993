package ref

import "math"

// The constants of Exp32 (section 4): ln 2 in two parts, the ends of the range, and a polynomial of least maximum
// relative error on [-0.34661, 0.34661] with its first two coefficients held at 1.
const (
	log2e = 0x1.715476p+0
	ln2Hi = 0x1.62e43p-1
	ln2Lo = -0x1.05c61p-29
	expLo = -0x1.5d589ep+6 // least f32 above ln(2^-126)
	expHi = 0x1.62e42ep+6  // greatest f32 below ln of the greatest f32

	exp2 = 0x1.fffffcp-2
	exp3 = 0x1.555492p-3
	exp4 = 0x1.5558aep-5
	exp5 = 0x1.12398p-7
	exp6 = 0x1.6a4f26p-10
)

// Exp32 is the specification's e^x (section 4): within 0.8913 ulp where e^x is a normal f32, +0 below, +Inf above,
// NaN of NaN, and exactly 1 at zero.
func Exp32(x float32) float32 {
	switch {
	case x != x:
		return x
	case x < expLo:
		return 0
	case x > expHi:
		return float32(math.Inf(1))
	}
	n := float32(math.RoundToEven(float64(x * log2e)))
	r := FMA32(-n, ln2Hi, x)
	r = FMA32(-n, ln2Lo, r)
	p := FMA32(exp6, r, exp5)
	p = FMA32(p, r, exp4)
	p = FMA32(p, r, exp3)
	p = FMA32(p, r, exp2)
	p = FMA32(p, r, 1)
	p = FMA32(p, r, 1)
	return math.Float32frombits(math.Float32bits(p) + uint32(int32(n))<<23)
}

// SiLU is x / (1 + e^-x) (section 13).
func SiLU(x float32) float32 { return x / (1 + Exp32(-x)) }
