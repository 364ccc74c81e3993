package gguf_test

import (
	"encoding/binary"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
)

// tq1Place says where ggml's layout puts weight i of a TQ1_0 block: the byte and
// the power of 3 of its digit, written down independently of the codec.
func tq1Place(i int) (at, digit int) {
	switch {
	case i < 160:
		return i % 32, i / 32
	case i < 240:
		return 32 + (i-160)%16, (i - 160) / 16
	}
	return 48 + (i-240)%4, (i - 240) / 4
}

// fraction returns the digit of weight n of byte b read as b/256 in base 3, in exact
// arithmetic.
func fraction(b byte, n int) int8 {
	x := big.NewRat(int64(b), 256)
	three := big.NewRat(3, 1)
	for {
		x.Mul(x, three)
		whole := new(big.Int).Quo(x.Num(), x.Denom())
		x.Sub(x, new(big.Rat).SetInt(whole))
		if n == 0 {
			return int8(whole.Int64()) - 1
		}
		n--
	}
}

func TestTQ1DecodesEveryByte(t *testing.T) {
	canonicalFive, canonicalFour := 0, 0
	for b := range 256 {
		row := make([]byte, gguf.TQ1Bytes)
		for i := range row[:52] {
			row[i] = byte(b)
		}
		binary.LittleEndian.PutUint16(row[52:], 0xc000) // -2
		trits, scales := make([]int8, 256), make([]float32, 1)
		canonical, err := gguf.Trits(trits, scales, row, gguf.TQ1)
		require.NoError(t, err)
		require.Equal(t, float32(-2), scales[0])
		for i, got := range trits {
			_, digit := tq1Place(i)
			require.Equal(t, fraction(byte(b), digit), got, "byte %d, weight %d", b, i)
		}
		// Packing gives the same bytes exactly when they are canonical.
		again := make([]byte, gguf.TQ1Bytes)
		gguf.PackTQ1(again, trits, []uint16{0xc000})
		require.Equal(t, canonical, string(again) == string(row))
		if again[0] == byte(b) {
			canonicalFive++
		}
		if again[48] == byte(b) {
			canonicalFour++
		}
	}
	require.Equal(t, 256-13, canonicalFive)
	require.Equal(t, 256-175, canonicalFour)
}

func drawTrits(t *rapid.T, n int) []int8 {
	seed := rapid.Uint64().Draw(t, "seed")
	out := make([]int8, n)
	for i := range out {
		seed = seed*6364136223846793005 + 1442695040888963407
		out[i] = int8(seed>>40%3) - 1
	}
	return out
}

func TestTernaryRoundTrip(t *testing.T) {
	for _, c := range []struct {
		typ  gguf.Type
		pack func([]byte, []int8, []uint16)
	}{{gguf.TQ1, gguf.PackTQ1}, {gguf.TQ2, gguf.PackTQ2}} {
		rapid.Check(t, func(t *rapid.T) {
			blocks := rapid.IntRange(1, 4).Draw(t, "blocks")
			want := drawTrits(t, 256*blocks)
			row := make([]byte, c.typ.RowBytes(len(want)))
			halves := []uint16{0x3555, 0xbc00, 0x0001, 0x7bff}
			c.pack(row, want, halves[:blocks])
			got, scales := make([]int8, len(want)), make([]float32, blocks)
			canonical, err := gguf.Trits(got, scales, row, c.typ)
			require.NoError(t, err)
			require.True(t, canonical)
			require.Equal(t, want, got)
			floats := make([]float32, len(want))
			require.NoError(t, gguf.Floats(floats, row, c.typ))
			for i, v := range floats {
				require.Equal(t, float32(want[i])*[]float32{0.33325195, -1, 0x1p-24, 65504}[i/256], v)
			}
		})
	}
}

// TestTQ2Places checks each weight's own byte and bits.
func TestTQ2Places(t *testing.T) {
	for i := range 256 {
		trits := make([]int8, 256)
		trits[i] = 1
		row := make([]byte, gguf.TQ2Bytes)
		gguf.PackTQ2(row, trits, []uint16{0x1234})
		h, rest := i/128, i%128
		for at, b := range row[:64] {
			want := byte(0b01_01_01_01)
			if at == 32*h+rest%32 {
				want += 1 << (2 * (rest / 32))
			}
			require.Equal(t, want, b)
		}
		require.Equal(t, []byte{0x34, 0x12}, row[64:])
	}
}

func TestTQ1Places(t *testing.T) {
	for i := range 256 {
		trits := make([]int8, 256)
		for j := range trits {
			trits[j] = -1
		}
		trits[i] = 1
		row := make([]byte, gguf.TQ1Bytes)
		gguf.PackTQ1(row, trits, []uint16{0})
		at, digit := tq1Place(i)
		for j, b := range row[:52] {
			want := 0.0
			if j == at {
				want = math.Ceil(2 * math.Pow(3, float64(4-digit)) * 256 / 243)
			}
			require.Equal(t, byte(want), b, "weight %d, byte %d", i, j)
		}
	}
}

func TestTQ2Code3(t *testing.T) {
	for at := range 64 {
		row := tq2Row()
		row[at] |= 0b11_00_00_00
		_, err := gguf.Trits(make([]int8, 256), make([]float32, 1), row, gguf.TQ2)
		var code *gguf.CodeError
		require.ErrorAs(t, err, &code)
		require.Equal(t, at, code.Offset)
		require.ErrorContains(t, err, "the code 3")
		require.Error(t, gguf.Floats(make([]float32, 256), row, gguf.TQ2))
	}
}

func TestI2SX86(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTrits(t, 128*rapid.IntRange(1, 4).Draw(t, "blocks"))
		row := make([]byte, len(want)/4)
		for i, v := range want {
			block, rest := i/128, i%128
			row[block*32+rest%32] |= byte(v+1) << (6 - 2*(rest/32))
		}
		got := make([]int8, len(want))
		require.NoError(t, gguf.TritsI2SX86(got, row))
		require.Equal(t, want, got)
		at := rapid.IntRange(0, len(row)-1).Draw(t, "at")
		row[at] |= 0b00_00_11_00
		var code *gguf.CodeError
		require.ErrorAs(t, gguf.TritsI2SX86(got, row), &code)
		require.Equal(t, at, code.Offset)
	})
}

func TestFloats(t *testing.T) {
	dst := make([]float32, 2)
	require.NoError(t, gguf.Floats(dst, le([]float32{1.25, -7}), gguf.F32))
	require.Equal(t, []float32{1.25, -7}, dst)
	require.NoError(t, gguf.Floats(dst, le([]uint16{0x3c01, 0x8001}), gguf.F16))
	require.Equal(t, []float32{1 + 1./1024, -float32(math.Pow(2, -24))}, dst)
	require.NoError(t, gguf.Floats(dst, le([]uint16{0x3f81, 0xff80}), gguf.BF16))
	require.Equal(t, []float32{1 + 1./128, float32(math.Inf(-1))}, dst)

	row := le(uint16(0x2e66)) // 0.1 as an f16
	for i := range 32 {
		row = append(row, byte(int8(8*i-128)))
	}
	row = append(row, le(uint16(0xbc00), make([]byte, 32))...)
	q := make([]float32, 64)
	require.NoError(t, gguf.Floats(q, row, gguf.Q8_0))
	for i := range 32 {
		require.Equal(t, float32(0.099975586)*float32(8*i-128), q[i])
		require.Zero(t, q[32+i])
	}
}

func TestMisuse(t *testing.T) {
	require.Panics(t, func() { _ = gguf.Floats(make([]float32, 3), make([]byte, 11), gguf.F32) })
	require.Panics(t, func() { _ = gguf.Floats(make([]float32, 128), make([]byte, 32), gguf.I2S) })
	require.Panics(t, func() { _ = gguf.Floats(make([]float32, 1), make([]byte, 4), gguf.Type(12)) })
	require.Panics(t, func() {
		_, _ = gguf.Trits(make([]int8, 32), nil, make([]byte, 34), gguf.Q8_0)
	})
	require.Panics(t, func() { gguf.PackTQ1(make([]byte, 54), make([]int8, 255), []uint16{0}) })
}

func FuzzTernaryRows(f *testing.F) {
	f.Add(make([]byte, gguf.TQ1Bytes), make([]byte, gguf.TQ2Bytes))
	f.Add([]byte{}, tq2Row())
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if n := len(one) / gguf.TQ1Bytes; n > 0 {
			row := one[:n*gguf.TQ1Bytes]
			trits, scales := make([]int8, 256*n), make([]float32, n)
			canonical, err := gguf.Trits(trits, scales, row, gguf.TQ1)
			require.NoError(t, err)
			again := make([]byte, len(row))
			gguf.PackTQ1(again, trits, make([]uint16, n))
			same := true
			for i := range row {
				same = same && (i%gguf.TQ1Bytes >= 52 || row[i] == again[i])
			}
			require.Equal(t, canonical, same)
		}
		if n := len(two) / gguf.TQ2Bytes; n > 0 {
			row := two[:n*gguf.TQ2Bytes]
			trits, scales := make([]int8, 256*n), make([]float32, n)
			if _, err := gguf.Trits(trits, scales, row, gguf.TQ2); err != nil {
				return
			}
			again := make([]byte, len(row))
			gguf.PackTQ2(again, trits, make([]uint16, n))
			for i := range row {
				require.True(t, i%gguf.TQ2Bytes >= 64 || row[i] == again[i])
			}
		}
	})
}
