//go:build amd64 && !purego

package cpu

import (
	"sync"

	"github.com/tritter-ai/tritter/kernels"
)

// storing is the memory of a call of StoreKV: one position's keys in their format.
type storing struct {
	halves  []uint16
	codes   []byte
	lo, hi  float32
	factors [8]float32
	f16     [8]uint16
}

var storings = sync.Pool{New: func() any { return new(storing) }}

// StoreKV converts whole registers and then spreads the keys over their lanes. What
// a format cannot hold, and vectors that int4 keeps as constants, are the
// reference's.
func (x avx2) StoreKV(p *kernels.Page, slot int, k, v []float32) error {
	if p.Format == kernels.KVF32 || p.HeadDim%32 != 0 || p.HeadDim == 0 {
		return x.Ops.StoreKV(p, slot, k, v)
	}
	kernels.CheckStoreKV(p, slot, k, v)
	limit := uint32(0x7f800000)
	if p.Format == kernels.KVF16 {
		limit = 0x477ff000 // 65520, which rounds to infinity
	}
	if absMax(&k[0], len(k)/8) >= limit || absMax(&v[0], len(v)/8) >= limit {
		return x.Ops.StoreKV(p, slot, k, v)
	}
	s := storings.Get().(*storing)
	defer storings.Put(s)
	const n = kernels.PageLen
	d := p.HeadDim
	switch p.Format {
	case kernels.KVF16:
		narrowF16(&grow(&s.halves, len(k))[0], &k[0], len(k)/8)
		spread(p.KHalf, s.halves, slot)
		for h := range p.KVHeads {
			narrowF16(&p.VHalf[(h*n+slot)*d], &v[h*d], d/8)
		}
	case kernels.KVInt8:
		grow(&s.codes, len(k))
		for h := range p.KVHeads {
			p.KScale[h*n+slot] = s.int8(s.codes[h*d:][:d], k[h*d:][:d])
			p.VScale[h*n+slot] = s.int8(p.VCodes[(h*n+slot)*d:][:d], v[h*d:][:d])
		}
		spread(p.KCodes, s.codes, slot)
	case kernels.KVInt4:
		grow(&s.codes, len(k)/2)
		for h := range p.KVHeads {
			if !s.int4(k[h*d:][:d], p.KAffine[2*h*n:], slot) {
				return x.Ops.StoreKV(p, slot, k, v)
			}
			divideInt4(&s.codes[h*d/2], &k[h*d], s.factors[0], s.factors[1], d/32)
		}
		spread(p.KCodes, s.codes, slot)
		if !s.int4(v, p.VAffine, slot) {
			return x.Ops.StoreKV(p, slot, k, v)
		}
		for h := range p.KVHeads {
			divideInt4(&p.VCodes[(h*n+slot)*d/2], &v[h*d], s.factors[0], s.factors[1], d/32)
		}
	}
	return nil
}

// spread puts a position's keys into the lane of its slot.
func spread[T any](to, from []T, slot int) {
	to = to[slot:]
	for i, x := range from {
		to[i*kernels.PageLen] = x
	}
}

// int8 writes the codes of x and returns their scale.
func (s *storing) int8(codes []byte, x []float32) float32 {
	minMax(&x[0], len(x)/8, &s.lo, &s.hi)
	scale := max(s.hi, -s.lo, 0) / 127
	if scale == 0 {
		clear(codes)
		return 0
	}
	divideInt8(&codes[0], &x[0], scale, len(x)/32)
	return scale
}

// int4 leaves scale and zero of x in s.factors and stores them in affine; false for
// a vector that is stored as a constant, or not at all.
func (s *storing) int4(x []float32, affine []uint16, slot int) bool {
	minMax(&x[0], len(x)/8, &s.lo, &s.hi)
	scale := max((s.hi-s.lo)/15, 1e-8)
	s.factors[0], s.factors[1] = scale, -8-s.lo/scale
	narrowF16(&s.f16[0], &s.factors[0], 1)
	affine[slot], affine[kernels.PageLen+slot] = s.f16[0], s.f16[1]
	return s.f16[0] != 0 && s.f16[0] < 0x7c00 && s.f16[1]&0x7fff < 0x7c00
}
