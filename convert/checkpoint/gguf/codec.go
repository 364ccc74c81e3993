package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"
)

// Sizes of blocks (ggml-common.h).
const (
	TQ1Bytes = 54
	TQ2Bytes = 66

	tqBlock  = 256
	q8Block  = 32
	q8Bytes  = 34
	i2sBlock = 128
	i2sBytes = 32
)

// A CodeError reports a byte of a row that no weight is stored as.
type CodeError struct {
	Offset int // of the byte in the row
	Byte   byte
	Reason string
}

// Error gives the byte, its place and the reason.
func (e *CodeError) Error() string {
	return fmt.Sprintf("byte %d of the row is 0x%02x: %s", e.Offset, e.Byte, e.Reason)
}

// half reads the f16 at the beginning of src.
func half(src []byte) float32 {
	return float16.Frombits(binary.LittleEndian.Uint16(src)).Float32()
}

// Floats turns one row of a type into float32: plain floats, Q8_0, TQ1_0 and
// TQ2_0. Products are rounded once, as ggml rounds them. src holds the row, RowBytes
// long, and dst its weights. The error is a [*CodeError]: TQ2_0 has a fourth code,
// which ggml reads as twice the scale and which no quantizer writes.
// It panics for a type that is none of these, and for lengths that disagree.
func Floats(dst []float32, src []byte, t Type) error {
	checkLengths(len(dst), src, t)
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half(src[2*i:])
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case Q8_0:
		for i := range dst {
			block := src[i/q8Block*q8Bytes:]
			dst[i] = half(block) * float32(int8(block[2+i%q8Block]))
		}
	case TQ1, TQ2:
		trits, scales := make([]int8, len(dst)), make([]float32, len(dst)/tqBlock)
		if _, err := Trits(trits, scales, src, t); err != nil {
			return err
		}
		for i, v := range trits {
			dst[i] = float32(v) * scales[i/tqBlock]
		}
	default:
		panic(fmt.Sprintf("gguf: Floats of %v", t))
	}
	return nil
}

// Trits turns one row of TQ1_0 or TQ2_0 into trits, and into the scale of each 256
// of them; a weight is trit x scale. The error is a [*CodeError].
//
// canonical reports whether these are the bytes that ggml's own quantizer writes
// for the trits. TQ1_0 reads every byte as some trits, 256 values for the 243 that
// it means (81 where a byte holds four): a byte that is not canonical decodes as
// ggml decodes it, but says that something else made the file, or damaged it.
func Trits(trits []int8, scales []float32, src []byte, t Type) (canonical bool, err error) {
	if t != TQ1 && t != TQ2 {
		panic(fmt.Sprintf("gguf: Trits of %v", t))
	}
	checkLengths(len(trits), src, t)
	canonical = true
	for b := range len(trits) / tqBlock {
		out := trits[b*tqBlock:][:tqBlock]
		switch t {
		case TQ1:
			block := src[b*TQ1Bytes:][:TQ1Bytes]
			scales[b] = half(block[TQ1Bytes-2:])
			canonical = tq1Trits(out, block) && canonical
		case TQ2:
			block := src[b*TQ2Bytes:][:TQ2Bytes]
			scales[b] = half(block[TQ2Bytes-2:])
			for i, v := range block[:tqBlock/4] {
				if v&(v>>1)&0x55 != 0 {
					return false, &CodeError{b*TQ2Bytes + i, v, "it holds the code 3, want 0, 1 or 2 for -1, 0 and +1"}
				}
				at := i/32*128 + i%32
				for n := range 4 {
					out[at+32*n] = int8(v>>(2*n)&3) - 1
				}
			}
		}
	}
	return canonical, nil
}

// tq1Run is a stretch of a TQ1_0 block: width bytes from byte at, each with the
// digits of columns m, m+width, m+2 width ... of the weights from column on.
type tq1Run struct{ at, width, column, digits int }

var tq1Runs = [...]tq1Run{{0, 32, 0, 5}, {32, 16, 160, 5}, {48, 4, 240, 4}}

// tq1Digits holds the five trits of every byte, the first in the most significant
// digit: a byte b stands for the fraction b / 256, whose base-3 digits they are.
var tq1Digits = func() (table [256][5]int8) {
	for b := range table {
		rest := b
		for n := range table[b] {
			table[b][n] = int8(rest*3/256) - 1
			rest = rest * 3 % 256
		}
	}
	return table
}()

// tq1Byte returns the byte of five digits 0, 1, 2, given as a number in base 3: the
// least fraction of 256 that is not below it.
func tq1Byte(number int) byte { return byte((number*256 + 242) / 243) }

// tq1Trits decodes a block and reports whether each of its bytes is the one that
// its trits are written as.
func tq1Trits(out []int8, block []byte) (canonical bool) {
	canonical = true
	for _, run := range tq1Runs {
		for m, v := range block[run.at:][:run.width] {
			number := 0
			for n := range 5 {
				digit := tq1Digits[v][n]
				if n == run.digits {
					digit = -1 // four trits a byte: the fifth digit is 0
				} else {
					out[run.column+run.width*n+m] = digit
				}
				number = 3*number + int(digit) + 1
			}
			canonical = canonical && tq1Byte(number) == v
		}
	}
	return canonical
}

// PackTQ1 writes one row of trits as TQ1_0, with the scale of each block as the bits
// of an f16. dst has RowBytes bytes, scales one element for every 256 trits.
func PackTQ1(dst []byte, trits []int8, scales []uint16) {
	checkLengths(len(trits), dst, TQ1)
	for b := range len(trits) / tqBlock {
		in, block := trits[b*tqBlock:][:tqBlock], dst[b*TQ1Bytes:][:TQ1Bytes]
		for _, run := range tq1Runs {
			for m := range run.width {
				number := 0
				for n := range 5 {
					number *= 3
					if n < run.digits {
						number += int(in[run.column+run.width*n+m]) + 1
					}
				}
				block[run.at+m] = tq1Byte(number)
			}
		}
		binary.LittleEndian.PutUint16(block[TQ1Bytes-2:], scales[b])
	}
}

// PackTQ2 writes one row of trits as TQ2_0, as [PackTQ1] does for TQ1_0.
func PackTQ2(dst []byte, trits []int8, scales []uint16) {
	checkLengths(len(trits), dst, TQ2)
	for b := range len(trits) / tqBlock {
		in, block := trits[b*tqBlock:][:tqBlock], dst[b*TQ2Bytes:][:TQ2Bytes]
		for i := range tqBlock / 4 {
			at := i/32*128 + i%32
			block[i] = byte(in[at]+1) | byte(in[at+32]+1)<<2 | byte(in[at+64]+1)<<4 | byte(in[at+96]+1)<<6
		}
		binary.LittleEndian.PutUint16(block[TQ2Bytes-2:], scales[b])
	}
}

// TritsI2SX86 turns one row of I2_S, as bitnet.cpp writes it on x86, into trits:
// byte m of a block of 32 holds weights m, m+32, m+64 and m+96 from the high bits
// down, as trit + 1. The scale of all rows is [Reader.I2SScale]. The error is a
// [*CodeError].
//
// Files of other machines have the same type, the same length and another order,
// and nothing in them says so: a caller must have been told.
func TritsI2SX86(trits []int8, src []byte) error {
	checkLengths(len(trits), src, I2S)
	for i, v := range src {
		if v&(v>>1)&0x55 != 0 {
			return &CodeError{i, v, "it holds the code 3, want 0, 1 or 2 for -1, 0 and +1"}
		}
		at := i/i2sBytes*i2sBlock + i%i2sBytes
		for n := range 4 {
			trits[at+32*n] = int8(v>>(6-2*n)&3) - 1
		}
	}
	return nil
}

func checkLengths(weights int, row []byte, t Type) {
	block, bytes := t.Block()
	if block == 0 || weights%block != 0 || len(row) != weights/block*bytes {
		panic(fmt.Sprintf("gguf: a row of %d weights in %d bytes, want a multiple of %d weights and %d bytes for each (%v)", weights, len(row), block, bytes, t))
	}
}
