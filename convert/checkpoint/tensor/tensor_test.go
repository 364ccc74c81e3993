package tensor_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

func TestDTypeSize(t *testing.T) {
	sizes := map[string]int{
		"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
		"I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
	}
	all := strings.Split(tensor.DTypes, ", ")
	require.Len(t, all, len(sizes))
	for _, d := range all {
		require.Equal(t, sizes[d], tensor.DType(d).Size(), d)
	}
	for _, d := range []tensor.DType{"", "F4", "f32", "C64", "F8_E8M0", "FLOAT"} {
		require.Zero(t, d.Size(), d)
	}
}

func TestErrorText(t *testing.T) {
	require.EqualError(t, &tensor.FormatError{File: "f", Offset: 0, Field: "x", Got: "1", Want: "2"}, "f: offset 0: x: got 1, want 2")
	require.EqualError(t, &tensor.FormatError{File: "f", Offset: tensor.NoOffset, Field: "x", Got: "1", Want: "2", Hint: "do"}, "f: x: got 1, want 2; do")
	require.EqualError(t, &tensor.UnsupportedError{File: "f", Offset: 7, Field: "x", Got: "1", Want: "2", Hint: "do"}, "f: offset 7: x: 1 is not supported, want 2; do")
}

func TestQuote(t *testing.T) {
	require.Equal(t, `"a\x00"`, tensor.Quote("a\x00"))
	require.Equal(t, `"`+strings.Repeat("é", 40)+`"`, tensor.Quote(strings.Repeat("é", 40)))
	require.Equal(t, `"x`+strings.Repeat("é", 39)+`"... (81 bytes)`, tensor.Quote("x"+strings.Repeat("é", 40)))
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "s")
		q := tensor.Quote(s)
		require.True(t, utf8.ValidString(q))
		require.LessOrEqual(t, len(q), 4*80+2+len("... (9999999999 bytes)"))
	})
}
