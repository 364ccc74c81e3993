package optest

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"unsafe"

	"github.com/tritter-ai/tritter/kernels"
)

// floats is a guarded buffer of n zeros.
func floats(a *arena, n int) []float32 {
	if n == 0 {
		return nil
	}
	b := a.bytes(4 * n)
	// SAFETY: b holds 4*n bytes and ends at a page boundary, so that its start is aligned to 4; it lives until the
	// arena is freed, at the end of the case that uses it.
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// int8s is a guarded buffer of n zeros.
func int8s(a *arena, n int) []int8 {
	if n == 0 {
		return nil
	}
	b := a.bytes(n)
	// SAFETY: an int8 is a byte; the buffer lives until the arena is freed, at the end of the case that uses it.
	return unsafe.Slice((*int8)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// uint16s is a guarded buffer of n zeros.
func uint16s(a *arena, n int) []uint16 {
	if n == 0 {
		return nil
	}
	b := a.bytes(2 * n)
	// SAFETY: b holds 2*n bytes and ends at a page boundary, so that its start is aligned to 2; it lives until the
	// arena is freed, at the end of the case that uses it.
	return unsafe.Slice((*uint16)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// patterns name the ways to fill a vector of f32.
var patterns = []string{"random", "zeros", "ones", "minus ones", "one-hot", "wide", "tiny", "cancelling", "ties", "hostile"}

// fill writes a pattern. All but hostile stay finite, and so do sums of their squares.
func fill(x []float32, pattern string, r *rand.Rand) {
	for i := range x {
		switch pattern {
		case "random":
			x[i] = float32(r.NormFloat64())
		case "zeros":
			x[i] = float32(math.Copysign(0, float64(r.IntN(2))-0.5))
		case "ones":
			x[i] = 1
		case "minus ones":
			x[i] = -1
		case "one-hot":
			x[i] = 0
		case "wide": // every bit of a sum's order shows
			x[i] = float32(math.Ldexp(r.NormFloat64(), r.IntN(60)-30))
		case "tiny": // products and squares are subnormal or vanish
			x[i] = float32(math.Ldexp(r.NormFloat64(), -60-r.IntN(90)))
		case "cancelling":
			x[i] = float32(math.Ldexp(float64(1-2*(i&1)), 12)) + float32(r.NormFloat64())
		case "ties": // halves: codes and f64 sums land on midpoints
			x[i] = float32(r.IntN(509)-254) / 2
		case "hostile":
			x[i] = math.Float32frombits(r.Uint32())
		default:
			panic("optest: unknown pattern " + pattern)
		}
	}
	if pattern == "one-hot" {
		x[r.IntN(len(x))] = float32(r.NormFloat64())
	}
	if pattern == "ties" {
		x[r.IntN(len(x))] = 127
	}
}

// tritPatterns name the ways to fill a ternary matrix.
var tritPatterns = []string{"random", "zeros", "ones", "minus ones", "one-hot"}

// ternaryMatrix makes a matrix of a pattern of trits, in tiles.
func ternaryMatrix(a *arena, rows, cols int, pattern string, r *rand.Rand) *kernels.Ternary {
	w := &kernels.Ternary{Rows: rows, Cols: cols, Tiles: a.bytes(kernels.TernaryBytes(rows, cols))}
	hot := r.IntN(rows * cols)
	for i := range rows * cols {
		t := 0
		switch pattern {
		case "random":
			t = r.IntN(3) - 1
		case "ones":
			t = 1
		case "minus ones":
			t = -1
		case "one-hot":
			if i == hot {
				t = 1
			}
		}
		row, col := i/cols, i%cols
		at := (row/4*w.ColTiles()+col/128)*128 + row%4*32 + col%32
		w.Tiles[at] |= byte(t&3) << (col % 128 / 32 * 2)
	}
	return w
}

// dtypes are the element types of a dense matrix.
var dtypes = []kernels.DType{kernels.F32, kernels.F16, kernels.BF16, kernels.I8}

// denseMatrix makes a random matrix; its elements are finite.
func denseMatrix(a *arena, rows, cols int, dt kernels.DType, pattern string, r *rand.Rand) *kernels.Dense {
	w := &kernels.Dense{Rows: rows, Cols: cols, Type: dt, Data: a.bytes(rows * cols * dt.Size())}
	x := make([]float32, cols)
	for row := range rows {
		fill(x, pattern, r)
		for k, v := range x {
			i := row*cols + k
			switch dt {
			case kernels.F32:
				binary.LittleEndian.PutUint32(w.Data[4*i:], math.Float32bits(v))
			case kernels.BF16:
				binary.LittleEndian.PutUint16(w.Data[2*i:], uint16(math.Float32bits(v)>>16))
			case kernels.F16: // any pattern of bits with a finite exponent, subnormals included
				u := uint16(r.Uint32())
				if u&0x7c00 == 0x7c00 {
					u &^= 0x4000
				}
				binary.LittleEndian.PutUint16(w.Data[2*i:], u)
			case kernels.I8:
				w.Data[i] = byte(int8(r.IntN(255) - 127))
			}
		}
	}
	if dt == kernels.I8 {
		w.Scales = floats(a, rows)
		fill(w.Scales, "random", r)
	}
	return w
}
