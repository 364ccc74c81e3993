package quantize

import "math"

// MinAbsMax is the least absmax of the int8 activation quantizer.
const MinAbsMax float32 = 1e-5

// Int8Token quantizes the activations of one token: with a = max(max|x|,
// MinAbsMax) and k = 127 (1/a), q[i] = round(x[i] k), half to even, so |q| <= 127.
// It returns a; a value is q x a / 127. Elements of q beyond len(x) are set to
// zero: they are the padding of a tile. The error is a *NonFiniteError.
// (BitNet b1.58; spec/numerics.md, "Activations".)
func Int8Token(q []int8, x []float32) (a float32, err error) {
	top := uint32(0)
	for _, v := range x {
		top = max(top, math.Float32bits(v)&math.MaxInt32)
	}
	if top >= 0x7f800000 {
		return 0, CheckFinite(x)
	}
	a = max(math.Float32frombits(top), MinAbsMax)
	k := float32(1/a) * 127 // PyTorch computes 127 / tensor so, and a code on an edge depends on it
	for i, v := range x {
		q[i] = roundInt8(float32(v * k)) // converted: never fused with the rounding addition
	}
	clear(q[len(x):])
	return a, nil
}

// roundInt8 rounds half to even. |v| is at most 127: adding 1.5 x 2^23 leaves no
// bit below the integer, and the addition rounds as IEEE 754 asks.
func roundInt8(v float32) int8 {
	const magic = 3 << 22
	return int8(int32(math.Float32bits(v+magic)) - int32(math.Float32bits(magic)))
}

// Int8Row quantizes one row of an embedding or head: scale = max|w| / 127 and
// q[i] = clip(round(w[i] / scale), -127, 127), half to even. A row whose scale
// rounds to zero becomes zeros with scale 0. The error is a *NonFiniteError.
func Int8Row(q []int8, w []float32) (scale float32, err error) {
	top := uint32(0)
	for _, v := range w {
		top = max(top, math.Float32bits(v)&math.MaxInt32)
	}
	if top >= 0x7f800000 {
		return 0, CheckFinite(w)
	}
	scale = math.Float32frombits(top) / 127
	if scale == 0 {
		clear(q[:len(w)])
		return 0, nil
	}
	for i, v := range w {
		// The quotient passes 127 only where a subnormal scale lost bits.
		q[i] = roundInt8(min(max(v/scale, -127), 127))
	}
	return scale, nil
}
