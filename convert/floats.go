package convert

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/x448/float16"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/quantize"
)

// f16Table holds the float32 value of every float16: a table load is three times
// as fast as the arithmetic.
var f16Table = sync.OnceValue(func() *[1 << 16]float32 {
	t := new([1 << 16]float32)
	for i := range t {
		t[i] = float16.Frombits(uint16(i)).Float32()
	}
	return t
})

// widen decodes little-endian floats exactly. src holds len(dst) elements of type
// d, which is F32, F16, BF16 or, in whole blocks, GGUF's Q8_0.
func widen(dst []float32, src []byte, d checkpoint.DType) {
	src = src[:rowBytes(d, len(dst))]
	switch d {
	case checkpoint.BF16:
		for len(dst) >= 4 && len(src) >= 8 {
			w := binary.LittleEndian.Uint64(src)
			dst[0] = math.Float32frombits(uint32(w) << 16)
			dst[1] = math.Float32frombits(uint32(w) & 0xffff0000)
			dst[2] = math.Float32frombits(uint32(w>>32) << 16)
			dst[3] = math.Float32frombits(uint32(w>>32) & 0xffff0000)
			dst, src = dst[4:], src[8:]
		}
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case checkpoint.F16:
		table := f16Table()
		for i := range dst {
			dst[i] = table[binary.LittleEndian.Uint16(src[2*i:])]
		}
	case checkpoint.F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case q8:
		if err := gguf.Floats(dst, src, gguf.Q8_0); err != nil {
			panic(err) // every byte of Q8_0 is legal
		}
	default:
		panic(fmt.Sprintf("convert: widen %s", d))
	}
}

// allFinite reports whether no element of raw is NaN or infinite. The length of
// raw is a multiple of the element size. Eight bytes at a time, one is added to
// each masked exponent: only an exponent of all ones carries into the sign's bit.
func allFinite(raw []byte, d checkpoint.DType) bool {
	var exponent, one, sign uint64
	switch d {
	case q8:
		weights, size := gguf.Q8_0.Block()
		block := make([]float32, weights)
		for ; len(raw) > 0; raw = raw[size:] {
			widen(block, raw[:size], d)
			if quantize.CheckFinite(block) != nil {
				return false
			}
		}
		return true
	case checkpoint.BF16:
		exponent, one, sign = 0x7f807f807f807f80, 0x0080008000800080, 0x8000800080008000
	case checkpoint.F16:
		exponent, one, sign = 0x7c007c007c007c00, 0x0400040004000400, 0x8000800080008000
	case checkpoint.F32:
		exponent, one, sign = 0x7f8000007f800000, 0x0080000000800000, 0x8000000080000000
	default:
		panic(fmt.Sprintf("convert: allFinite %s", d))
	}
	var carry uint64
	for len(raw) >= 8 {
		carry |= binary.LittleEndian.Uint64(raw)&exponent + one
		raw = raw[8:]
	}
	if len(raw) > 0 {
		var last [8]byte
		copy(last[:], raw)
		carry |= binary.LittleEndian.Uint64(last[:])&exponent + one
	}
	return carry&sign == 0
}
