package format

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// naiveBad says for each byte of a data extent whether it is wrong, from the
// definition: what a byte would be if only its legal weights were there.
func naiveBad(t *TensorInfo, b []byte) []bool {
	bad := make([]bool, len(b))
	switch t.Encoding {
	case Trit2, Trit3:
		width, digits := 32, 4
		if t.Encoding == Trit3 {
			width, digits = 26, 5
		}
		tpr := (t.Dims[1] + 127) / 128
		for i, v := range b {
			tile, in := i/(4*width), i%(4*width)
			row := tile/tpr*4 + in/width
			rest := int(v)
			for j := range digits {
				local := in%width + j*width
				exists := row < t.Dims[0] && local < 128 && tile%tpr*128+local < t.Dims[1]
				if t.Encoding == Trit2 {
					code := v >> (2 * j) & 3
					bad[i] = bad[i] || code == 2 || code != 0 && !exists
				} else {
					bad[i] = bad[i] || rest%3 != 0 && !exists
					rest /= 3
				}
			}
			bad[i] = bad[i] || t.Encoding == Trit3 && v > 242
		}
	case Int8:
		for i, v := range b {
			bad[i] = int8(v) == -128
		}
	case F32:
		for i := 0; i < len(b); i += 4 {
			f := float64(math.Float32frombits(binary.LittleEndian.Uint32(b[i:])))
			bad[i] = math.IsNaN(f) || math.IsInf(f, 0)
		}
	case F16, BF16:
		exps := uint16(0x7c00)
		if t.Encoding == BF16 {
			exps = 0x7f80
		}
		for i := 0; i < len(b); i += 2 {
			bad[i] = binary.LittleEndian.Uint16(b[i:])&exps == exps
		}
	}
	return bad
}

// TestScannerAgainstDefinition feeds random bytes, mostly wrong, and bytes with
// few or no errors, in portions, and compares counts and places.
func TestScannerAgainstDefinition(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		spec := TensorSpec{Name: "t", Encoding: Encoding(1 + rng.IntN(6)), Dims: []int{1 + rng.IntN(9), 1 + rng.IntN(400)}}
		if rng.IntN(3) == 0 {
			spec.Dims[1] = 128 * (1 + rng.IntN(3))
		}
		switch {
		case spec.Encoding.Ternary():
			spec.Rule, spec.Granularity = AbsMean, ScaleTensor
		case spec.Encoding == Int8:
			spec.Granularity = ScaleRow
		}
		src := makeSource(t, rng, spec)
		for range []int{0, 0, 1, 2, 5, len(src.data)}[rng.IntN(6)] {
			src.data[rng.IntN(len(src.data))] = []byte{0x80, 0x7f, 0x7c, 0xff, byte(rng.Uint32())}[rng.IntN(5)]
		}
		info := spec.info()
		s := newScanner(&info)
		unit := []int{0, 8, 8, 8, 8, 128, 104}[spec.Encoding] * (1 + rng.IntN(3))
		for b := src.data; len(b) > 0; {
			n := min(unit, len(b))
			s.feed(b[:n])
			b = b[n:]
		}
		var want finding
		for i, bad := range naiveBad(&info, src.data) {
			if bad {
				want.at(int64(i))
			}
		}
		// A byte with an illegal code and padding counts under both.
		count := s.illegal.count + s.padding.count
		require.GreaterOrEqual(t, count, want.count)
		require.Equal(t, want.count == 0, count == 0)
		if want.count > 0 {
			first, last := int64(math.MaxInt64), int64(0)
			for _, f := range []finding{s.illegal, s.padding} {
				if f.count > 0 {
					first, last = min(first, f.first), max(last, f.last)
				}
			}
			require.Equal(t, []int64{want.first, want.last}, []int64{first, last})
		}
		if spec.Encoding != Trit2 {
			require.Equal(t, want.count, count)
		}
	}
}

// TestScannerEveryByte tries each byte value at each place of a full tile.
func TestScannerEveryByte(t *testing.T) {
	for _, enc := range []Encoding{Trit2, Trit3, Int8, F16} {
		spec := TensorSpec{Name: "t", Encoding: enc, Rule: AbsMean, Granularity: ScaleTensor, Dims: []int{4, 128}}
		info := spec.info()
		b := make([]byte, info.Length)
		for i := range b[:min(len(b), 128)] {
			for v := range 256 {
				b[i] = byte(v)
				s := newScanner(&info)
				s.feed(b)
				bad := naiveBad(&info, b)[i&^1:][:2]
				require.Equal(t, bad[0] || bad[1], s.illegal.count == 1, "%v: byte %d is %d", enc, i, v)
				require.Zero(t, s.padding.count)
			}
			b[i] = 0
		}
	}
}

func BenchmarkScan(b *testing.B) {
	for _, enc := range []Encoding{Trit2, Trit3, Int8, F32, BF16} {
		for _, in := range []int{4096, 100} {
			name := enc.String()
			if in == 100 {
				name += "-ragged"
			}
			b.Run(name, func(b *testing.B) {
				spec := TensorSpec{Name: "t", Encoding: enc, Rule: AbsMean, Granularity: ScaleTensor, Dims: []int{4 * chunk / in, in}}
				info := spec.info()
				data := make([]byte, min(info.Length, chunk))
				b.SetBytes(int64(len(data)))
				for b.Loop() {
					s := newScanner(&info)
					s.feed(data)
					if s.illegal.count+s.padding.count > 0 {
						b.Fatal("zeros are legal")
					}
				}
			})
		}
	}
}
