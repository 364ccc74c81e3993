// Package quantize turns float weights into trits and scales, and trits into the
// packed tiles of a .trit file and back. Its functions are pure and work on rows,
// so that a caller can stream a matrix of any size through a few kilobytes.
//
// The arithmetic is that of spec/numerics.md: the scale of the absmean rule
// decides trits, hence its sums have a fixed order. A trit is a value in
// {-1, 0, +1} held in an int8; a weight is trit x scale, always.
package quantize

import (
	"fmt"
	"math"
)

// MinScale is the least scale of the absmean rule (BitNet b1.58): a matrix of
// zeros gets it, and no division by zero happens.
const MinScale float32 = 1e-5

// NonFiniteError reports a weight or an activation that is NaN or infinite.
type NonFiniteError struct {
	Index int // in the slice that was given
	Value float32
}

func (e *NonFiniteError) Error() string {
	return fmt.Sprintf("value %d is %v, want a finite number", e.Index, e.Value)
}

// CheckFinite returns a *NonFiniteError for the first element of x that is NaN
// or infinite.
func CheckFinite(x []float32) error {
	for i, v := range x {
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return &NonFiniteError{i, v}
		}
	}
	return nil
}

// SumAbs returns the sum of |x| in float64, added in ascending order. It is NaN
// or infinite exactly when x holds such a value: finite float32 values cannot
// overflow a float64 sum of fewer than 2^895 terms.
func SumAbs(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(math.Float32frombits(math.Float32bits(v) &^ (1 << 31)))
	}
	return s
}

// SumAbs4 returns SumAbs of four rows of equal length. Each sum is one chain of
// dependent additions; four chains at once keep the adder busy.
func SumAbs4(a, b, c, d []float32) (sa, sb, sc, sd float64) {
	const sign = 1 << 31
	b, c, d = b[:len(a)], c[:len(a)], d[:len(a)]
	for i := range a {
		sa += float64(math.Float32frombits(math.Float32bits(a[i]) &^ sign))
		sb += float64(math.Float32frombits(math.Float32bits(b[i]) &^ sign))
		sc += float64(math.Float32frombits(math.Float32bits(c[i]) &^ sign))
		sd += float64(math.Float32frombits(math.Float32bits(d[i]) &^ sign))
	}
	return
}

// AbsMean returns the absmean scale of n weights whose absolute values sum to
// sum: max(float32(sum / n), MinScale). For a matrix, sum is the row sums of
// [SumAbs] added in float64 by ascending row.
func AbsMean(sum float64, n int64) float32 {
	return max(MeanAbs(sum, n), MinScale)
}

// MeanAbs returns the mean of n absolute values that sum to sum, rounded once to
// float32: the threshold of Tritter's rule.
func MeanAbs(sum float64, n int64) float32 { return float32(sum / float64(n)) }

// Threshold writes the sign of each weight whose absolute value exceeds alpha
// strictly, and zero for the others (Tritter's TernaryWeight). w is finite and
// alpha not negative.
func Threshold(dst []int8, w []float32, alpha float32) {
	dst = dst[:len(w)]
	limit := int32(math.Float32bits(alpha))
	for i, v := range w {
		bits := int32(math.Float32bits(v))
		above := (limit - bits&math.MaxInt32) >> 31 // all ones when |w| > alpha
		dst[i] = int8((bits>>31 | 1) & above)
	}
}

// Trits writes clip(round(w / gamma), -1, 1) for each weight of w to dst, rounding
// half to even in float32. gamma is at least MinScale; w is finite.
//
// No division is needed: for gamma = m 2^e with 1 <= m < 2, the float32 next
// above gamma/2 is larger by 2^-23/m of itself, more than half of the distance
// 2^-23 from 0.5 to its successor, so float32(w/gamma) > 0.5 exactly when
// w > gamma/2, and a quotient of exactly 0.5 rounds to the even 0.
func Trits(dst []int8, w []float32, gamma float32) {
	Threshold(dst, w, gamma*0.5)
}

// Dequantize writes trit x scale to dst for each trit.
func Dequantize(dst []float32, trits []int8, scale float32) {
	for i, t := range trits {
		dst[i] = float32(t) * scale
	}
}

// RelativeError returns the squared error |w - trit x scale|^2 and the squared
// norm |w|^2, both in float64, of a stretch of weights that share a scale.
func RelativeError(w []float32, trits []int8, scale float32) (err2, norm2 float64) {
	for i, v := range w {
		d := float64(v) - float64(float32(trits[i])*scale)
		err2 += float64(d * d)
		norm2 += float64(float64(v) * float64(v))
	}
	return
}
