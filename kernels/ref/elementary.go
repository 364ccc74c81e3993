package ref

import "math"

// The constants of section 5: ln 2 and pi/2 in parts short enough that a whole multiple of all but the last is exact.
const (
	log2e64  = 0x1.71547652b82fep+0
	ln2A     = 0x1.62e42feep-1
	ln2B     = 0x1.a39ef35793c76p-33
	sqrtHalf = 0x1.6a09e667f3bcdp-1

	twoPi     = 0x1.921fb54442d18p+2
	twoOverPi = 0x1.45f306dc9c883p-1
	piHalfA   = 0x1.921fb54p+0
	piHalfB   = 0x1.10b4611p-30
	piHalfC   = 0x1.4c4c6628b80dcp-59
)

// Coefficients, the highest power first, each the rational number in its comment rounded once.
var (
	// 1/21, 1/19 ... 1/3
	atanhCoef = [...]float64{
		0x1.8618618618618p-5, 0x1.af286bca1af28p-5, 0x1.e1e1e1e1e1e1ep-5, 0x1.1111111111111p-4,
		0x1.3b13b13b13b14p-4, 0x1.745d1745d1746p-4, 0x1.c71c71c71c71cp-4, 0x1.2492492492492p-3,
		0x1.999999999999ap-3, 0x1.5555555555555p-2,
	}
	// 1/13!, 1/12! ... 1/0!
	expCoef = [...]float64{
		0x1.6124613a86d09p-33, 0x1.1eed8eff8d898p-29, 0x1.ae64567f544e4p-26, 0x1.27e4fb7789f5cp-22,
		0x1.71de3a556c734p-19, 0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-13, 0x1.6c16c16c16c17p-10,
		0x1.1111111111111p-7, 0x1.5555555555555p-5, 0x1.5555555555555p-3, 0x1p-1, 1, 1,
	}
	// -1/15!, 1/13! ... -1/3!
	sinCoef = [...]float64{
		-0x1.ae7f3e733b81fp-41, 0x1.6124613a86d09p-33, -0x1.ae64567f544e4p-26, 0x1.71de3a556c734p-19,
		-0x1.a01a01a01a01ap-13, 0x1.1111111111111p-7, -0x1.5555555555555p-3,
	}
	// 1/16!, -1/14! ... -1/2!
	cosCoef = [...]float64{
		0x1.ae7f3e733b81fp-45, -0x1.93974a8c07c9dp-37, 0x1.1eed8eff8d898p-29, -0x1.27e4fb7789f5cp-22,
		0x1.a01a01a01a01ap-16, -0x1.6c16c16c16c17p-10, 0x1.5555555555555p-5, -0x1p-1,
	}
)

// horner evaluates a polynomial without fusing.
func horner(coef []float64, x float64) float64 {
	p := coef[0]
	for _, c := range coef[1:] {
		p = float64(p*x) + c
	}
	return p
}

// log64 is ln x for 1 <= x <= 2^100.
func log64(x float64) float64 {
	m, e := math.Frexp(x)
	if m < sqrtHalf {
		m, e = m+m, e-1
	}
	f := (m - 1) / (m + 1)
	z := float64(f * f)
	t := f + f
	ln := t + float64(float64(t*z)*horner(atanhCoef[:], z))
	return float64(float64(e)*ln2A) + (float64(float64(e)*ln2B) + ln)
}

// exp64 is e^y for -70 <= y <= 0.
func exp64(y float64) float64 {
	n := math.RoundToEven(float64(y * log2e64))
	r := (y - float64(n*ln2A)) - float64(n*ln2B)
	return float64(horner(expCoef[:], r) * math.Float64frombits(uint64(1023+int64(n))<<52))
}

// sincos64 is the sine and cosine of x radians, 0 <= x <= 2^24.
func sincos64(x float64) (sin, cos float64) {
	k := math.RoundToEven(float64(x * twoOverPi))
	r := ((x - float64(k*piHalfA)) - float64(k*piHalfB)) - float64(k*piHalfC)
	z := float64(r * r)
	s := r + float64(float64(r*z)*horner(sinCoef[:], z))
	c := 1 + float64(z*horner(cosCoef[:], z))
	switch int64(k) & 3 {
	case 1:
		return c, -s
	case 2:
		return -s, -c
	case 3:
		return -c, s
	}
	return s, c
}
