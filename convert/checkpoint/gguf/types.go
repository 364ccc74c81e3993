package gguf

import (
	"fmt"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Type is the element type of a tensor, a number of ggml's enum ggml_type.
type Type uint32

// The types that this package reads. Numbers are those of ggml (ggml.h), but for
// I2S, which bitnet.cpp's fork of it added under a number that ggml had used for
// something else.
const (
	F32  Type = 0
	F16  Type = 1
	Q8_0 Type = 8 // 32 weights: f16 d, then 32 int8
	I8   Type = 24
	I16  Type = 25
	I32  Type = 26
	I64  Type = 27
	F64  Type = 28
	BF16 Type = 30
	TQ1  Type = 34 // TQ1_0, 256 weights: 48 bytes of five trits, 4 of four, f16 d
	TQ2  Type = 35 // TQ2_0, 256 weights: 64 bytes of four codes, f16 d
	I2S  Type = 36 // I2_S, 2-bit codes in one of three layouts, one f32 scale behind them
)

// format describes how a type stores a row: block weights take size bytes.
type format struct {
	name        string
	block, size int64
}

var formats = map[Type]format{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2}, F64: {"F64", 1, 8},
	I8: {"I8", 1, 1}, I16: {"I16", 1, 2}, I32: {"I32", 1, 4}, I64: {"I64", 1, 8},
	Q8_0: {"Q8_0", q8Block, q8Bytes}, TQ1: {"TQ1_0", tqBlock, TQ1Bytes}, TQ2: {"TQ2_0", tqBlock, TQ2Bytes}, I2S: {"I2_S", i2sBlock, i2sBytes},
}

// i2sTrailer is the room behind the codes of an I2_S tensor, whose first four
// bytes are its scale. What the others hold is not defined.
const i2sTrailer = 32

// supported lists the names of formats for messages.
const supported = "F32, F16, BF16, F64, I8, I16, I32, I64, Q8_0, TQ1_0, TQ2_0 or I2_S"

// foreign names the types that are known and not read: the weights that they
// hold have lost what a ternary model needs, or they never had it.
var foreign = map[Type]string{
	2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K",
	16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M",
	31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8", 39: "MXFP4",
}

// String returns ggml's name of the type, such as "TQ2_0".
func (t Type) String() string {
	if f, ok := formats[t]; ok {
		return f.name
	}
	if name, ok := foreign[t]; ok {
		return name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// DType returns the name under which a [tensor.Tensor] carries the type: that of
// the same element for plain types, "Q8_0", "TQ1_0", "TQ2_0" or "I2_S" for types
// of blocks, whose Size method gives 0.
func (t Type) DType() tensor.DType { return tensor.DType(t.String()) }

// TypeOf returns the type of a tensor that a [Reader] of this package made, and
// false for any other dtype.
func TypeOf(d tensor.DType) (Type, bool) {
	for t, f := range formats {
		if f.name == string(d) {
			return t, true
		}
	}
	return 0, false
}

// Block returns how many consecutive weights of a row are stored together and
// how many bytes they take: 1 and the element's size for plain types.
func (t Type) Block() (weights, bytes int) {
	f := formats[t]
	return int(f.block), int(f.size)
}

// RowBytes returns the bytes of a row of cols weights, a multiple of the block.
// The rows of an I2_S tensor follow each other without their scale, which stands
// behind the last.
func (t Type) RowBytes(cols int) int {
	weights, bytes := t.Block()
	return cols / weights * bytes
}
