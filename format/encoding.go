package format

import (
	"fmt"
	"math/bits"
)

// Encoding says how the values of a tensor are stored (spec/trit-v1.md, 5).
type Encoding uint16

// The encodings of version 1.0.
const (
	F32   Encoding = 1 // IEEE binary32, row-major
	F16   Encoding = 2 // IEEE binary16, row-major
	BF16  Encoding = 3 // the upper half of a binary32, row-major
	Int8  Encoding = 4 // two's complement in [-127, 127], row-major, a scale per row
	Trit2 Encoding = 5 // 2 bits a trit, tiles of 128 bytes
	Trit3 Encoding = 6 // 5 trits a byte, tiles of 104 bytes
)

// String returns the name used in listings, such as "trit2".
func (e Encoding) String() string {
	switch e {
	case F32:
		return "f32"
	case F16:
		return "f16"
	case BF16:
		return "bf16"
	case Int8:
		return "int8"
	case Trit2:
		return "trit2"
	case Trit3:
		return "trit3"
	}
	return fmt.Sprintf("encoding(%d)", uint16(e))
}

// Ternary reports whether the values are trits in tiles.
func (e Encoding) Ternary() bool { return e == Trit2 || e == Trit3 }

// Rule says how a ternary tensor's trits and scales came to be.
type Rule uint16

// The rules of version 1.0.
const (
	RuleNone  Rule = 0 // not ternary
	AbsMean   Rule = 1 // scale = mean absolute value, trit = rounded quotient
	Threshold Rule = 2 // sign beyond the mean absolute value of the row, learned scale
	Verbatim  Rule = 3 // trits and scales as the checkpoint held them
)

// String returns the name used in listings, such as "absmean".
func (r Rule) String() string {
	switch r {
	case RuleNone:
		return "none"
	case AbsMean:
		return "absmean"
	case Threshold:
		return "threshold"
	case Verbatim:
		return "verbatim"
	}
	return fmt.Sprintf("rule(%d)", uint16(r))
}

// Granularity says how many weights share one scale.
type Granularity uint16

// The granularities of version 1.0.
const (
	ScaleNone   Granularity = 0
	ScaleTensor Granularity = 1 // [1]
	ScaleRow    Granularity = 2 // [out]
	ScaleGroup  Granularity = 3 // [out, ceil(in/G)], row-major
)

// String returns the name used in listings, such as "row".
func (g Granularity) String() string {
	switch g {
	case ScaleNone:
		return "none"
	case ScaleTensor:
		return "tensor"
	case ScaleRow:
		return "row"
	case ScaleGroup:
		return "group"
	}
	return fmt.Sprintf("granularity(%d)", uint16(g))
}

// DataSize returns the length in bytes of the data extent of a tensor with the
// given dims, [n] or [out, in]. It fails on an unknown encoding, on dims that
// the format does not allow, and where the product overflows int64.
func DataSize(enc Encoding, dims []int) (int64, error) {
	if err := checkDims(dims); err != nil {
		return 0, err
	}
	if enc.Ternary() {
		if len(dims) != 2 {
			return 0, fmt.Errorf("%v needs 2 dims, got %d", enc, len(dims))
		}
		tile := uint64(Trit2TileBytes)
		if enc == Trit3 {
			tile = Trit3TileBytes
		}
		return product(ceilDiv(dims[0], TileRows), ceilDiv(dims[1], TileCols), tile)
	}
	width := uint64(0)
	switch enc {
	case F32:
		width = 4
	case F16, BF16:
		width = 2
	case Int8:
		width = 1
	default:
		return 0, fmt.Errorf("unknown %v, want 1..6", enc)
	}
	cols := uint64(1)
	if len(dims) == 2 {
		cols = uint64(dims[1])
	}
	return product(uint64(dims[0]), cols, width)
}

// ScaleCount returns the number of f32 scales of a tensor with the given dims
// and, for ScaleGroup, group size. It fails on an unknown granularity, on dims
// or a group that the format does not allow, and where the product overflows.
func ScaleCount(g Granularity, dims []int, group int) (int64, error) {
	if err := checkDims(dims); err != nil {
		return 0, err
	}
	switch g {
	case ScaleNone:
		return 0, nil
	case ScaleTensor:
		return 1, nil
	case ScaleRow:
		return int64(dims[0]), nil
	case ScaleGroup:
		if len(dims) != 2 || group <= 0 || group%TileCols != 0 {
			return 0, fmt.Errorf("group scales need 2 dims and a group that is a positive multiple of %d, got dims %v and group %d", TileCols, dims, group)
		}
		return product(uint64(dims[0]), ceilDiv(dims[1], group), 1)
	}
	return 0, fmt.Errorf("unknown %v, want 0..3", g)
}

func checkDims(dims []int) error {
	if len(dims) < 1 || len(dims) > MaxRank {
		return fmt.Errorf("%d dims, want 1 or %d", len(dims), MaxRank)
	}
	for _, d := range dims {
		if d < 1 || d > MaxDim {
			return fmt.Errorf("dims %v, want each in 1..%d", dims, MaxDim)
		}
	}
	return nil
}

func ceilDiv(n, d int) uint64 { return (uint64(n) + uint64(d) - 1) / uint64(d) }

// product multiplies; the result must fit a file with room for its header.
func product(a, b, c uint64) (int64, error) {
	h1, ab := bits.Mul64(a, b)
	h2, abc := bits.Mul64(ab, c)
	if h1 != 0 || h2 != 0 || abc > 1<<62 {
		return 0, fmt.Errorf("size %d x %d x %d is over 2^62 bytes", a, b, c)
	}
	return int64(abc), nil
}
