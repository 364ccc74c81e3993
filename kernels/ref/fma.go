package ref

import "math"

// FMA32 is a*b + c with one rounding to nearest even, on any machine (section 2). The bits of a NaN are free.
//
// The product of two f32 is exact in f64, and rounding the f64 sum once more is right unless the sum fell on a
// midpoint between two f32, where the part that was rounded away decides, or where f32 is subnormal and its
// midpoints lie elsewhere. Those cases, and zero, are left to the slow path.
func FMA32(a, b, c float32) float32 {
	p := float64(float64(a) * float64(b))
	s := p + float64(c)
	u := math.Float64bits(s)
	if u&0x1fffffff != 0x10000000 && u<<1 >= 0x381<<53 {
		return float32(s)
	}
	return roundSum(p, float64(c))
}

// roundSum is p + c rounded once to f32: the sum is rounded to odd in f64 first, which keeps enough of what lies
// below to make the second rounding right. The exponents of p and c leave no room for overflow.
func roundSum(p, c float64) float32 {
	s := p + c
	b := s - p
	e := (p - (s - b)) + (c - b) // s + e is the exact sum
	u := math.Float64bits(s)
	if e != 0 && u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
	}
	return float32(math.Float64frombits(u))
}
