package ref

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

// StoreKV stores one position's keys and values in the page's format (section 12).
func (Ops) StoreKV(p *kernels.Page, slot int, k, v []float32) error {
	kernels.CheckStoreKV(p, slot, k, v)
	if err := representable(p.Format, "key", k); err != nil {
		return err
	}
	if err := representable(p.Format, "value", v); err != nil {
		return err
	}
	const n = kernels.PageLen
	d := p.HeadDim
	switch p.Format {
	case kernels.KVF32:
		for i, x := range k {
			p.K[i*n+slot] = x
		}
		for h := range p.KVHeads {
			copy(p.V[(h*n+slot)*d:][:d], v[h*d:])
		}
	case kernels.KVF16:
		for i, x := range k {
			p.KHalf[i*n+slot] = narrowF16(x)
		}
		for h := range p.KVHeads {
			row := p.VHalf[(h*n+slot)*d:][:d]
			for i, x := range v[h*d:][:d] {
				row[i] = narrowF16(x)
			}
		}
	case kernels.KVInt8:
		for h := range p.KVHeads {
			key, value := k[h*d:][:d], v[h*d:][:d]
			ks, vs := int8Scale(key), int8Scale(value)
			p.KScale[h*n+slot], p.VScale[h*n+slot] = ks, vs
			for i := range d {
				p.KCodes[(h*d+i)*n+slot] = byte(int8Code(key[i], ks))
				p.VCodes[(h*n+slot)*d+i] = byte(int8Code(value[i], vs))
			}
		}
	case kernels.KVInt4:
		return storeInt4(p, slot, k, v)
	}
	return nil
}

// greatestF16 is the least magnitude that rounds to an infinite binary16.
const greatestF16 = 65520

// representable reports the first element that a format cannot hold. f32 holds everything.
func representable(f kernels.KVFormat, what string, x []float32) error {
	if f == kernels.KVF32 {
		return nil
	}
	for i, v := range x {
		if !kernels.Finite(v) || f == kernels.KVF16 && (v >= greatestF16 || v <= -greatestF16) {
			return &kernels.KVRangeError{Format: f, What: what, Index: i, Value: v}
		}
	}
	return nil
}

func int8Scale(x []float32) float32 {
	var a float32
	for _, v := range x {
		a = max(a, v, -v)
	}
	return a / 127
}

func int8Code(x, scale float32) int8 {
	if scale == 0 {
		return 0
	}
	c := math.RoundToEven(float64(x / scale))
	return int8(max(-127, min(c, 127)))
}

// storeInt4 quantizes keys by head and values by position.
func storeInt4(p *kernels.Page, slot int, k, v []float32) error {
	const n = kernels.PageLen
	d, pairs := p.HeadDim, (p.HeadDim+1)/2
	for h := range p.KVHeads {
		q, err := int4Quantizer(k[h*d:][:d])
		if err != nil {
			err.What, err.Index = "key", err.Index+h*d
			return err
		}
		p.KAffine[2*h*n+slot], p.KAffine[(2*h+1)*n+slot] = q.scale16, q.zero16
		for i := range pairs {
			p.KCodes[(h*pairs+i)*n+slot] = q.pair(k[h*d:][:d], i)
		}
	}
	q, err := int4Quantizer(v)
	if err != nil {
		err.What = "value"
		return err
	}
	p.VAffine[slot], p.VAffine[n+slot] = q.scale16, q.zero16
	for h := range p.KVHeads {
		for i := range pairs {
			p.VCodes[(h*n+slot)*pairs+i] = q.pair(v[h*d:][:d], i)
		}
	}
	return nil
}

// int4 is the quantizer of one vector: scale and zero as they are used and as they are stored.
type int4 struct {
	scale, zero     float32
	scale16, zero16 uint16
}

// int4Quantizer finds the quantizer of a vector. A vector so close to a constant that its zero is no finite binary16 is
// stored as that constant, under a scale of zero.
func int4Quantizer(x []float32) (int4, *kernels.KVRangeError) {
	lo, hi, top := x[0], x[0], 0
	for i, v := range x {
		lo, hi = min(lo, v), max(hi, v)
		if max(v, -v) > max(x[top], -x[top]) {
			top = i
		}
	}
	q := int4{scale: max((hi-lo)/15, 1e-8)}
	q.zero = -8 - lo/q.scale
	q.scale16, q.zero16 = narrowF16(q.scale), narrowF16(q.zero)
	if q.scale16 == 0 || q.zero16&0x7fff == infiniteF16 {
		q.scale16 = 0
		q.zero16 = narrowF16(float32(hi*0.5) + float32(lo*0.5))
	}
	if q.scale16 == infiniteF16 || q.zero16&0x7fff == infiniteF16 {
		return q, &kernels.KVRangeError{Format: kernels.KVInt4, Index: top, Value: x[top]}
	}
	return q, nil
}

// pair is the byte of elements 2i and 2i+1; past the end the code is 0.
func (q *int4) pair(x []float32, i int) byte {
	b := q.code(x[2*i]) << 4
	if 2*i+1 < len(x) {
		b |= q.code(x[2*i+1])
	}
	return b
}

func (q *int4) code(x float32) byte {
	if q.scale16 == 0 {
		return 0
	}
	c := math.RoundToEven(float64(x/q.scale + q.zero))
	return byte(max(-8, min(c, 7)) + 8)
}

const infiniteF16 = 0x7c00

// narrowF16 is the binary16 nearest to a finite x, ties to even, infinite from 65520 on.
func narrowF16(x float32) uint16 {
	u := math.Float32bits(x)
	sign, u := uint16(u>>16&0x8000), u&0x7fffffff
	switch {
	case u >= 0x477ff000: // 65520
		return sign | infiniteF16
	case u < 0x38800000: // subnormal: adding 0.5 leaves units of 2^-24 and rounds the rest
		return sign | uint16(math.Float32bits(math.Float32frombits(u)+0.5)-0x3f000000)
	}
	return sign | uint16((u-0x38000000+0xfff+u>>13&1)>>13)
}
