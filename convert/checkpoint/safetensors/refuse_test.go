package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

const fileName = "model.safetensors"

// build returns a file with the given header and n bytes of data.
func build(header string, n int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range n {
		b = append(b, byte(i))
	}
	return b
}

func openBytes(b []byte) (*Reader, error) {
	return New(fileName, bytes.NewReader(b), int64(len(b)))
}

// one describes tensor a.
func one(dtype, shape, offsets string) string {
	return fmt.Sprintf(`{"a":{"dtype":%s,"shape":%s,"data_offsets":%s}}`, dtype, shape, offsets)
}

// two describes tensors a and b, of u8, with these offsets and sizes to match.
func two(a0, a1, b0, b1 int) string {
	return fmt.Sprintf(`{"a":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]},"b":{"dtype":"U8","shape":[%d],"data_offsets":[%d,%d]}}`,
		a1-a0, a0, a1, b1-b0, b0, b1)
}

// A refusal is a file and what its error must say.
type refusal struct {
	name        string
	file        []byte
	unsupported bool // else a FormatError
	offset      int64
	field       string
	got, want   string // substrings
}

const (
	goodShape = `"shape":[2]`
	goodSpan  = `"data_offsets":[0,2]`
)

var refusals = []refusal{
	// The header length.
	{name: "empty file", file: nil, offset: 0, field: "file length", got: "0 bytes", want: "at least 8"},
	{name: "seven bytes", file: make([]byte, 7), offset: 7, field: "file length", got: "7 bytes", want: "at least 8"},
	{name: "no header", file: make([]byte, 8), offset: 0, field: "header length", got: "0 bytes", want: "at least 2"},
	{name: "header past the end", file: build("{}", 0)[:9], offset: 0, field: "header length", got: "ends at 10 in a file that ends at 9", want: "inside the file"},
	{name: "header over the format's limit", file: binary.LittleEndian.AppendUint64(nil, FormatMaxHeader+1), offset: 0, field: "header length", got: "100000001 bytes", want: "at most 100000000"},
	{name: "header length of all ones", file: bytes.Repeat([]byte{0xff}, 16), offset: 0, field: "header length", got: "18446744073709551615 bytes", want: "at most 100000000"},
	{name: "big-endian header length", file: append(binary.BigEndian.AppendUint64(nil, 2), "{}"...), offset: 0, field: "header length", got: "144115188075855872 bytes", want: "at most 100000000"},
	{name: "header over this reader's limit", file: build("{}"+strings.Repeat(" ", MaxHeader-1), 0), unsupported: true, offset: 0, field: "header length", got: "25000001 bytes", want: "at most 25000000"},

	// The header's frame.
	{name: "starts with NUL", file: build("\x00{}", 0), offset: 8, field: "header", got: "0x00", want: "'{'"},
	{name: "starts with a space", file: build(" {}", 0), offset: 8, field: "header", got: "0x20", want: "'{'"},
	{name: "starts with a byte order mark", file: build("\xef\xbb\xbf{}", 0), offset: 8, field: "header", got: "0xef", want: "'{'"},
	{name: "an array", file: build("[]", 0), offset: 8, field: "header", got: "an array", want: "'{'"},
	{name: "NUL padding", file: build("{}\x00\x00", 0), offset: 10, field: "header", got: "0x00", want: "nothing but spaces"},
	{name: "newline padding", file: build("{}  \n", 0), offset: 12, field: "header", got: "0x0a", want: "nothing but spaces"},
	{name: "a second value", file: build("{}{}", 0), offset: 10, field: "header", got: "an object", want: "nothing but spaces"},
	{name: "not closed", file: build("{", 0), offset: 9, field: "header", got: "the end of the text", want: "a key"},
	{name: "key not closed", file: build(`{"a`, 0), offset: 11, field: "header", got: "the end of the text", want: "closing double quote"},
	{name: "key without colon", file: build(`{"a" 1}`, 0), offset: 13, field: "header", got: `"1"`, want: "':'"},
	{name: "trailing comma", file: build(`{"__metadata__":{},}`, 0), offset: 27, field: "header", got: "'}'", want: "a key"},
	{name: "missing comma", file: build(`{"__metadata__":{} "a":1}`, 0), offset: 27, field: "header", got: "a string", want: "',' or '}'"},
	{name: "bare key", file: build(`{a:1}`, 0), offset: 9, field: "header", got: `"a"`, want: "a key"},
	{name: "comment", file: build(`{/**/}`, 0), offset: 9, field: "header", got: `'/'`, want: "a key"},

	// Keys.
	{name: "tensor twice", file: build(`{"a":{"dtype":"U8",`+goodShape+`,`+goodSpan+`},"a":{"dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), offset: 61, field: "header", got: `key "a" twice`, want: "once"},
	{name: "tensor twice, once escaped", file: build(`{"a":{"dtype":"U8",`+goodShape+`,`+goodSpan+`},"\u0061":{"dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), offset: 61, field: "header", got: `key "a" twice`, want: "once"},
	{name: "metadata twice", file: build(`{"__metadata__":{},"__metadata__":{}}`, 0), offset: 27, field: "header", got: `key "__metadata__" twice`, want: "once"},
	{name: "metadata key twice", file: build(`{"__metadata__":{"k":"v","k":"v"}}`, 0), offset: 33, field: "__metadata__", got: `key "k" twice`, want: "once"},
	{name: "dtype twice", file: build(`{"a":{"dtype":"U8","dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), offset: 27, field: `tensor "a": description`, got: `key "dtype" twice`, want: "once"},
	{name: "shape twice", file: build(`{"a":{"dtype":"U8",`+goodShape+`,`+goodShape+`,`+goodSpan+`}}`, 2), offset: 39, field: `tensor "a": description`, got: `key "shape" twice`, want: "once"},
	{name: "offsets twice", file: build(`{"a":{"dtype":"U8",`+goodShape+`,`+goodSpan+`,`+goodSpan+`}}`, 2), offset: 60, field: `tensor "a": description`, got: `key "data_offsets" twice`, want: "once"},
	{name: "unknown inner key", file: build(`{"a":{"dtype":"U8",`+goodShape+`,`+goodSpan+`,"stride":1}}`, 2), offset: 60, field: `tensor "a": description`, got: `key "stride"`, want: "dtype, shape and data_offsets only"},
	{name: "no dtype", file: build(`{"a":{`+goodShape+`,`+goodSpan+`}}`, 2), offset: 9, field: `tensor "a": description`, got: "no dtype", want: "dtype, shape and data_offsets"},
	{name: "no shape", file: build(`{"a":{"dtype":"U8",`+goodSpan+`}}`, 2), offset: 9, field: `tensor "a": description`, got: "no shape", want: "dtype, shape and data_offsets"},
	{name: "no offsets", file: build(`{"a":{"dtype":"U8",`+goodShape+`}}`, 2), offset: 9, field: `tensor "a": description`, got: "no data_offsets", want: "dtype, shape and data_offsets"},
	{name: "description not an object", file: build(`{"a":1}`, 0), offset: 13, field: `tensor "a": description`, got: `"1"`, want: "an object"},

	// Metadata.
	{name: "metadata not an object", file: build(`{"__metadata__":"pt"}`, 0), offset: 24, field: "__metadata__", got: "a string", want: "an object"},
	{name: "metadata value a number", file: build(`{"__metadata__":{"k":1}}`, 0), offset: 29, field: "__metadata__", got: `"1"`, want: `a string as the value of "k"`},
	{name: "metadata value an object", file: build(`{"__metadata__":{"k":{}}}`, 0), offset: 29, field: "__metadata__", got: "an object", want: `a string as the value of "k"`},
	{name: "metadata value null", file: build(`{"__metadata__":{"k":null}}`, 0), offset: 29, field: "__metadata__", got: `"null"`, want: `a string as the value of "k"`},
	{name: "too many metadata keys", file: build(manyKeys(MaxMetadata+1), 0), unsupported: true, offset: -1, field: "__metadata__", got: "a further key", want: "at most 4096"},

	// Names.
	{name: "empty name", file: build(`{"":{"dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), offset: 9, field: "tensor name", got: "an empty name", want: "at least one character"},
	{name: "long name", file: build(`{"`+strings.Repeat("n", MaxName+1)+`":{"dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), unsupported: true, offset: 9, field: "tensor name", got: "(1025 bytes)", want: "at most 1024 bytes"},
	{name: "NUL in a name", file: build(`{"a\u0000b":{"dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), offset: 9, field: "tensor name", got: `"a\x00b"`, want: "no control characters"},
	{name: "escape character in a name", file: build(`{"a\u001b[2J":{"dtype":"U8",`+goodShape+`,`+goodSpan+`}}`, 2), offset: 9, field: "tensor name", got: `"a\x1b[2J"`, want: "no control characters"},
	{name: "DEL in a name", file: build("{\"a\x7f\":{}}", 0), offset: 9, field: "tensor name", got: `"a\x7f"`, want: "no control characters"},
	{name: "C1 control in a name", file: build("{\"a\u0085\":{}}", 0), offset: 9, field: "tensor name", got: `"a\u0085"`, want: "no control characters"},
	{name: "raw NUL in a name", file: build("{\"a\x00\":{}}", 0), offset: 11, field: "header", got: "0x00 in a string", want: "escapes"},
	{name: "raw newline in a name", file: build("{\"a\n\":{}}", 0), offset: 11, field: "header", got: "0x0a in a string", want: "escapes"},
	{name: "invalid UTF-8", file: build("{\"a\xff\":{}}", 0), offset: 11, field: "header", got: "0xff in a string", want: "valid UTF-8"},
	{name: "overlong UTF-8", file: build("{\"a\xc0\x80\":{}}", 0), offset: 11, field: "header", got: "0xc0 in a string", want: "valid UTF-8"},
	{name: "surrogate as UTF-8", file: build("{\"a\xed\xa0\x80\":{}}", 0), offset: 11, field: "header", got: "0xed in a string", want: "valid UTF-8"},
	{name: "lone high surrogate", file: build(`{"a\ud800":{}}`, 0), offset: 11, field: "header", got: `\\ud800`, want: "a JSON escape"},
	{name: "lone low surrogate", file: build(`{"a\udc00":{}}`, 0), offset: 11, field: "header", got: `\\udc00`, want: "a JSON escape"},
	{name: "two high surrogates", file: build(`{"a\ud800\ud800":{}}`, 0), offset: 11, field: "header", got: `\\ud800\\ud800`, want: "a JSON escape"},
	{name: "unknown escape", file: build(`{"a\x":{}}`, 0), offset: 11, field: "header", got: `\\x`, want: "a JSON escape"},
	{name: "short escape", file: build(`{"a\u00`, 0), offset: 11, field: "header", got: `\\u`, want: "a JSON escape"},
	{name: "signed escape", file: build(`{"a\u+061":{}}`, 0), offset: 11, field: "header", got: `\\u`, want: "a JSON escape"},
	{name: "escape at the end", file: build(`{"a\`, 0), offset: 11, field: "header", got: `\\`, want: "a JSON escape"},

	// Dtype.
	{name: "unknown dtype", file: build(one(`"F4"`, `[2]`, `[0,1]`), 1), unsupported: true, offset: 22, field: `tensor "a": dtype`, got: `"F4"`, want: "one of BOOL, U8, I8"},
	{name: "dtype in lower case", file: build(one(`"f32"`, `[1]`, `[0,4]`), 4), unsupported: true, offset: 22, field: `tensor "a": dtype`, got: `"f32"`, want: "one of BOOL, U8, I8"},
	{name: "empty dtype", file: build(one(`""`, `[1]`, `[0,4]`), 4), unsupported: true, offset: 22, field: `tensor "a": dtype`, got: `""`, want: "one of BOOL, U8, I8"},
	{name: "dtype a number", file: build(one(`1`, `[1]`, `[0,4]`), 4), offset: 22, field: `tensor "a": dtype`, got: `"1"`, want: "a string"},

	// Shape.
	{name: "shape not an array", file: build(one(`"U8"`, `2`, `[0,2]`), 2), offset: 35, field: `tensor "a": shape`, got: `"2"`, want: "an array"},
	{name: "negative dimension", file: build(one(`"U8"`, `[-2]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: `"-2"`, want: "a non-negative integer"},
	{name: "minus zero", file: build(one(`"U8"`, `[-0]`, `[0,0]`), 0), offset: 36, field: `tensor "a": shape`, got: `"-0"`, want: "a non-negative integer"},
	{name: "fraction", file: build(one(`"U8"`, `[2.0]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: `"2.0"`, want: "a non-negative integer"},
	{name: "exponent", file: build(one(`"U8"`, `[1e3]`, `[0,1000]`), 1000), offset: 36, field: `tensor "a": shape`, got: `"1e3"`, want: "a non-negative integer"},
	{name: "leading zero", file: build(one(`"U8"`, `[02]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: `"02"`, want: "a non-negative integer"},
	{name: "dimension a string", file: build(one(`"U8"`, `["2"]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: "a string", want: "a non-negative integer"},
	{name: "dimension null", file: build(one(`"U8"`, `[null]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: `"null"`, want: "a non-negative integer"},
	{name: "dimension 2^63", file: build(one(`"U8"`, `[9223372036854775808]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: `"9223372036854775808"`, want: "below 2^63"},
	{name: "dimension of many digits", file: build(one(`"U8"`, `[`+strings.Repeat("9", 500)+`]`, `[0,2]`), 2), offset: 36, field: `tensor "a": shape`, got: "(500 bytes)", want: "below 2^63"},
	{name: "shape not closed", file: build(one(`"U8"`, `[2`, `[0,2]`), 2), offset: 38, field: `tensor "a": shape`, got: "a string", want: "a non-negative integer"},
	{name: "shape without commas", file: build(one(`"U8"`, `[2 1]`, `[0,2]`), 2), offset: 38, field: `tensor "a": shape`, got: `"1"`, want: "',' or ']'"},
	{name: "rank 9", file: build(one(`"U8"`, `[1,1,1,1,1,1,1,1,2]`, `[0,2]`), 2), unsupported: true, offset: 52, field: `tensor "a": shape`, got: "a further dimension", want: "at most 8"},
	{name: "product overflows", file: build(one(`"U8"`, `[4294967296,4294967296]`, `[0,0]`), 0), offset: 9, field: `tensor "a": shape`, got: "[4294967296 4294967296] of U8", want: "below 2^63 bytes"},
	{name: "product overflows by the element size", file: build(one(`"F64"`, `[2305843009213693952]`, `[0,0]`), 0), offset: 9, field: `tensor "a": shape`, got: "[2305843009213693952] of F64", want: "below 2^63 bytes"},
	{name: "product overflows before a zero", file: build(one(`"U8"`, `[4294967296,4294967296,0]`, `[0,0]`), 0), offset: 9, field: `tensor "a": shape`, got: "[4294967296 4294967296 0] of U8", want: "below 2^63 bytes"},

	// Offsets.
	{name: "offsets not an array", file: build(one(`"U8"`, `[2]`, `{}`), 2), offset: 54, field: `tensor "a": data_offsets`, got: "an object", want: "an array"},
	{name: "no offsets in the array", file: build(one(`"U8"`, `[0]`, `[]`), 0), offset: 54, field: `tensor "a": data_offsets`, got: "0 offsets", want: "begin and end"},
	{name: "one offset", file: build(one(`"U8"`, `[2]`, `[2]`), 2), offset: 54, field: `tensor "a": data_offsets`, got: "1 offsets", want: "begin and end"},
	{name: "three offsets", file: build(one(`"U8"`, `[2]`, `[0,2,2]`), 2), offset: 60, field: `tensor "a": data_offsets`, got: "a third offset", want: "begin and end"},
	{name: "negative offset", file: build(one(`"U8"`, `[2]`, `[-2,0]`), 2), offset: 55, field: `tensor "a": data_offsets`, got: `"-2"`, want: "a non-negative integer"},
	{name: "fractional offset", file: build(one(`"U8"`, `[2]`, `[0,2.0]`), 2), offset: 57, field: `tensor "a": data_offsets`, got: `"2.0"`, want: "a non-negative integer"},
	{name: "offset 2^64", file: build(one(`"U8"`, `[2]`, `[0,18446744073709551616]`), 2), offset: 57, field: `tensor "a": data_offsets`, got: `"18446744073709551616"`, want: "below 2^63"},
	{name: "end before begin", file: build(one(`"U8"`, `[2]`, `[2,0]`), 2), offset: 54, field: `tensor "a": data_offsets`, got: "[2,0]", want: "begin at or before end"},
	{name: "span too long", file: build(one(`"F16"`, `[2,3]`, `[0,13]`), 13), offset: 9, field: `tensor "a": data_offsets`, got: "13 bytes", want: "12 bytes for shape [2 3] of F16"},
	{name: "span too short", file: build(one(`"F16"`, `[2,3]`, `[0,6]`), 6), offset: 9, field: `tensor "a": data_offsets`, got: "6 bytes", want: "12 bytes for shape [2 3] of F16"},
	{name: "span of an empty tensor", file: build(one(`"F16"`, `[2,0]`, `[0,2]`), 2), offset: 9, field: `tensor "a": data_offsets`, got: "2 bytes", want: "0 bytes for shape [2 0] of F16"},
	{name: "span of a scalar", file: build(one(`"F32"`, `[]`, `[0,0]`), 0), offset: 9, field: `tensor "a": data_offsets`, got: "0 bytes", want: "4 bytes for shape [] of F32"},

	// Tiling.
	{name: "hole at the start", file: build(one(`"U8"`, `[2]`, `[1,3]`), 3), offset: 9, field: `tensor "a": data_offsets`, got: "[1,3], a hole after the start", want: "begin at 0"},
	{name: "hole between", file: build(two(0, 2, 3, 4), 4), offset: 61, field: `tensor "b": data_offsets`, got: `[3,4], a hole after tensor "a"`, want: "begin at 2"},
	{name: "overlap", file: build(two(0, 2, 1, 4), 4), offset: 61, field: `tensor "b": data_offsets`, got: `[1,4], an overlap after tensor "a"`, want: "begin at 2"},
	{name: "same place twice", file: build(two(0, 2, 0, 2), 2), offset: 61, field: `tensor "b": data_offsets`, got: `[0,2], an overlap after tensor "a"`, want: "begin at 2"},
	{name: "empty tensor inside another", file: build(two(0, 2, 1, 1), 2), offset: 61, field: `tensor "b": data_offsets`, got: `[1,1], an overlap after tensor "a"`, want: "begin at 2"},
	{name: "trailing byte", file: build(two(0, 2, 2, 4), 5), offset: 117, field: "file length", got: "1 bytes after the last tensor", want: "end at 117"},
	{name: "trailing byte without tensors", file: build("{}", 1), offset: 10, field: "file length", got: "1 bytes after the last tensor", want: "end at 10"},
	{name: "truncated", file: build(two(0, 2, 2, 4), 3), offset: 116, field: "file length", got: "116 bytes", want: "1 more, for the data that the header promises"},
	{name: "promises 2^62 bytes", file: build(one(`"U8"`, `[4611686018427387904]`, `[0,4611686018427387904]`), 0), offset: 97, field: "file length", got: "97 bytes", want: "4611686018427387904 more"},

	{name: "too many tensors", file: build(manyTensors(MaxTensors+1), 0), unsupported: true, offset: -1, field: "header", got: "a further tensor", want: "at most 65536"},
}

func manyKeys(n int) string {
	var b strings.Builder
	b.WriteString(`{"__metadata__":{`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%d":""`, i)
	}
	b.WriteString(`}}`)
	return b.String()
}

func manyTensors(n int) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`, i)
	}
	b.WriteByte('}')
	return b.String()
}

// parts takes a reader's error apart; it fails on any other kind of error.
func parts(t testing.TB, err error) (unsupported bool, e tensor.FormatError) {
	t.Helper()
	var wrong *tensor.FormatError
	var foreign *tensor.UnsupportedError
	switch {
	case errors.As(err, &wrong):
		return false, *wrong
	case errors.As(err, &foreign):
		return true, tensor.FormatError(*foreign)
	}
	require.Fail(t, "want a FormatError or an UnsupportedError", "got %T: %v", err, err)
	return false, e
}

func TestRefuses(t *testing.T) {
	for _, c := range refusals {
		t.Run(c.name, func(t *testing.T) {
			r, err := openBytes(c.file)
			require.Error(t, err)
			require.Nil(t, r)
			unsupported, e := parts(t, err)
			require.Equal(t, c.unsupported, unsupported, err)
			require.Equal(t, fileName, e.File)
			if c.offset >= 0 { // -1 where counting it by hand would prove nothing
				require.Equal(t, c.offset, e.Offset, err)
			}
			require.Equal(t, c.field, e.Field, err)
			require.Contains(t, e.Got, c.got)
			require.Contains(t, e.Want, c.want)
			for _, part := range []string{fileName + ": offset ", c.field, c.got, c.want} {
				require.Contains(t, err.Error(), part)
			}
		})
	}
}

func TestMessages(t *testing.T) {
	_, err := openBytes(build("\x00{}", 0))
	require.EqualError(t, err, "model.safetensors: offset 8: header: got 0x00 at its start, want '{'")
	_, err = openBytes(build(one(`"F4"`, `[2]`, `[0,1]`), 1))
	require.EqualError(t, err, `model.safetensors: offset 22: tensor "a": dtype: "F4" is not supported, want one of `+tensor.DTypes)
	_, err = openBytes(build(two(0, 2, 2, 4), 1))
	require.EqualError(t, err, "model.safetensors: offset 114: file length: got 114 bytes, want 3 more, for the data that the header promises; was the download interrupted? fetch the file again")
}

func TestForeignFiles(t *testing.T) {
	for beginning, hint := range map[string]string{
		"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n": "git lfs pull",
		"version https://git-lfs":                    "git lfs pull",
		"<!DOCTYPE html><html><body>log in</body>":   "download it again",
		"\n<html><body>no such file</body></html>":   "download it again",
		"PK\x03\x04\x00\x00\x00\x00\x00\x08data.pkl": "to safetensors first",
		"GGUF\x03\x00\x00\x00\x01\x00\x00\x00":       "that it was made from",
		"{\"dtype\": 1}, not a header length":        "is this a safetensors file?",
	} {
		_, err := openBytes([]byte(beginning))
		unsupported, e := parts(t, err)
		require.False(t, unsupported)
		require.Contains(t, e.Hint, hint)
		require.Contains(t, err.Error(), hint)
	}
}

// TestEveryCut cuts a file at every byte, and appends one.
func TestEveryCut(t *testing.T) {
	whole := build(`{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}  `, 12)
	_, err := openBytes(whole)
	require.NoError(t, err)
	for n := range whole {
		_, err := openBytes(whole[:n])
		unsupported, _ := parts(t, err)
		require.False(t, unsupported)
		require.Contains(t, err.Error(), "interrupted", n)
	}
	_, err = openBytes(append(whole, 0))
	parts(t, err)
}

// TestAllocation bounds what small files with large claims make the reader
// allocate: a megabyte, where each claim is of 20 MB or more.
func TestAllocation(t *testing.T) {
	claim := func(n uint64, rest string) []byte { return append(binary.LittleEndian.AppendUint64(nil, n), rest...) }
	for name, file := range map[string][]byte{
		"header of 20 MB":  claim(20_000_000, "{}"),
		"header of 99 MB":  claim(99_000_000, "{}"),
		"header of 2^63":   claim(1<<63, "{}"),
		"tensor of 2^62":   build(one(`"U8"`, `[4611686018427387904]`, `[0,4611686018427387904]`), 0),
		"2^40 x 0":         build(one(`"U8"`, `[1099511627776,0]`, `[0,0]`), 0),
		"many digits":      build(one(`"U8"`, `[`+strings.Repeat("9", 10_000)+`]`, `[0,0]`), 0),
		"deep":             build(strings.Repeat(`{"a":`, 10_000), 0),
		"deep in an array": build(`{"a":{"shape":`+strings.Repeat(`[`, 10_000), 0),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := openBytes(file)
		runtime.ReadMemStats(&after)
		if name != "2^40 x 0" {
			require.Error(t, err, name)
		}
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), name)
	}
}

// TestAcceptedCorners holds what is unusual and legal.
func TestAcceptedCorners(t *testing.T) {
	r, err := openBytes(build("{}", 0))
	require.NoError(t, err)
	require.Empty(t, r.Tensors())
	require.Empty(t, r.Metadata())

	// Whitespace inside, padding of any length, escapes, a scalar, empty
	// tensors at a border, and data in another order than the keys.
	r, err = openBytes(build("{ \"b\\u00e9\\ud83d\\ude00\\/\" :\n{\"shape\":[ ],\t\"data_offsets\":[ 2 , 6 ],\"dtype\":\"F32\"},\r"+
		`"a":{"dtype":"U8","shape":[2,1,1,1,1,1,1,1],"data_offsets":[0,2]},`+
		`"none":{"dtype":"F64","shape":[3,0],"data_offsets":[2,2]},`+
		`"last":{"dtype":"F64","shape":[0],"data_offsets":[6,6]},`+
		`"__metadata__":{"":"\u0000\"\\\b\f\n\r\t"}}     `, 6))
	require.NoError(t, err)
	var names []string
	for _, tn := range r.Tensors() {
		names = append(names, tn.Name)
		data := make([]byte, tn.Size)
		_, err := tn.ReadAt(data, 0)
		require.NoError(t, err)
		switch tn.Name {
		case "a":
			require.Equal(t, []byte{0, 1}, data)
		case "bé😀/":
			require.Equal(t, []byte{2, 3, 4, 5}, data)
			require.Equal(t, []int64{}, tn.Shape)
		default:
			require.Empty(t, data)
		}
	}
	require.Equal(t, []string{"a", "bé😀/", "last", "none"}, names)
	require.Equal(t, map[string]string{"": "\x00\"\\\b\f\n\r\t"}, r.Metadata())
	_, ok := r.Lookup("b")
	require.False(t, ok)

	r, err = openBytes(build(manyTensors(MaxTensors), 0))
	require.NoError(t, err)
	require.Equal(t, MaxTensors, len(r.Tensors()))
	r, err = openBytes(build(manyKeys(MaxMetadata), 0))
	require.NoError(t, err)
	require.Equal(t, MaxMetadata, len(r.Metadata()))
	_, err = openBytes(build("{}"+strings.Repeat(" ", MaxHeader-2), 0))
	require.NoError(t, err)
}

func TestReadAt(t *testing.T) {
	r, err := openBytes(build(two(0, 2, 2, 6), 6))
	require.NoError(t, err)
	b, ok := r.Lookup("b")
	require.True(t, ok)
	for _, c := range []struct {
		off  int64
		len  int
		want []byte
		err  error
	}{
		{0, 4, []byte{2, 3, 4, 5}, nil},
		{1, 2, []byte{3, 4}, nil},
		{3, 1, []byte{5}, nil},
		{3, 2, []byte{5}, io.EOF},
		{0, 9, []byte{2, 3, 4, 5}, io.EOF},
		{4, 1, nil, io.EOF},
		{1 << 62, 1, nil, io.EOF},
		{4, 0, nil, nil},
		{0, 0, nil, nil},
	} {
		p := make([]byte, c.len)
		n, err := b.ReadAt(p, c.off)
		require.Equal(t, c.err, err, c)
		require.Equal(t, len(c.want), n, c)
		require.Equal(t, c.want, append([]byte(nil), p[:n]...), c)
	}
	_, err = b.ReadAt(make([]byte, 1), -1)
	require.ErrorContains(t, err, "negative offset -1")
}

func TestFileShrinks(t *testing.T) {
	path := filepath.Join(t.TempDir(), fileName)
	require.NoError(t, os.WriteFile(path, build(two(0, 2, 2, 6), 6), 0o600))
	r, err := Open(path)
	require.NoError(t, err)
	a, _ := r.Lookup("a")
	b, _ := r.Lookup("b")
	require.Equal(t, int64(115), b.Offset())
	require.NoError(t, os.Truncate(path, 117))

	_, err = a.ReadAt(make([]byte, 2), 0)
	require.NoError(t, err)
	n, err := b.ReadAt(make([]byte, 4), 0)
	require.Equal(t, 2, n)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, io.EOF)
	require.EqualError(t, err, `model.safetensors: offset 117: tensor "b": the file became shorter while it was being read: unexpected EOF`)

	require.NoError(t, r.Close())
	_, err = a.ReadAt(make([]byte, 2), 0)
	require.ErrorIs(t, err, os.ErrClosed)
}

// A short file behind a larger claimed size stands for one that shrinks while
// its header is read.
func TestFileShrinksWhileOpening(t *testing.T) {
	whole := build(two(0, 2, 2, 6), 6)
	for _, n := range []int{0, 7, 8, 40} {
		_, err := New(fileName, bytes.NewReader(whole[:n]), int64(len(whole)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.ErrorContains(t, err, fmt.Sprintf("model.safetensors: offset %d: ", n))
	}
}

func TestOpenNotAFile(t *testing.T) {
	_, err := Open(t.TempDir())
	require.ErrorContains(t, err, "want a regular file")
	_, err = Open(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = ReadIndex(t.TempDir())
	require.ErrorContains(t, err, "want a regular file")
}
