package gguf_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
)

// builder writes a file field by field, so that a test can get any of them wrong.
// It shares nothing with the reader.
type builder struct {
	magic     string
	version   uint32
	tensors   []entry
	keys      []keyValue
	alignment int
	edit      func(b *builder) // changes fields before they are written
	noPadding bool             // of the last tensor

	tensorCount, keyCount *uint64
}

type entry struct {
	name   string
	ne     []uint64 // innermost first
	typ    uint32
	offset *uint64 // nil: where it belongs
	data   []byte
}

type keyValue struct {
	key string
	raw []byte // type and value
}

func newBuilder() *builder { return &builder{magic: "GGUF", version: 3, alignment: 32} }

func le(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		switch v := v.(type) {
		case string:
			b.Write(le(uint64(len(v))))
			b.WriteString(v)
		case []byte:
			b.Write(v)
		default:
			if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
				panic(err)
			}
		}
	}
	return b.Bytes()
}

func (b *builder) key(key string, raw ...any) *builder {
	b.keys = append(b.keys, keyValue{key, le(raw...)})
	return b
}

func (b *builder) tensor(name string, typ uint32, data []byte, ne ...uint64) *builder {
	b.tensors = append(b.tensors, entry{name: name, ne: ne, typ: typ, data: data})
	return b
}

func pad(p []byte, alignment int) []byte {
	for len(p)%alignment != 0 {
		p = append(p, 0)
	}
	return p
}

func (b *builder) bytes() []byte {
	if b.edit != nil {
		b.edit(b)
	}
	count := func(to *uint64, n int) uint64 {
		if to != nil {
			return *to
		}
		return uint64(n)
	}
	out := append([]byte(b.magic), le(b.version, count(b.tensorCount, len(b.tensors)), count(b.keyCount, len(b.keys)))...)
	for _, kv := range b.keys {
		out = append(out, le(kv.key, kv.raw)...)
	}
	var data []byte
	for i, t := range b.tensors {
		offset := uint64(len(data))
		if t.offset != nil {
			offset = *t.offset
		}
		out = append(out, le(t.name, uint32(len(t.ne)), t.ne, t.typ, offset)...)
		data = append(data, t.data...)
		if i < len(b.tensors)-1 || !b.noPadding {
			data = pad(data, b.alignment)
		}
	}
	if len(b.tensors) > 0 {
		out = pad(out, b.alignment)
	}
	return append(out, data...)
}

// Numbers of the kinds of values.
const (
	kU8 uint32 = iota
	kI8
	kU16
	kI16
	kU32
	kI32
	kF32
	kBool
	kString
	kArray
	kU64
	kI64
	kF64
)

// small is a file with a bit of everything.
func small() *builder {
	b := newBuilder().
		key("general.architecture", kString, "llama").
		key("general.alignment", kU32, uint32(64)).
		key("a.bool", kBool, uint8(1)).
		key("a.f32", kF32, float32(1.5)).
		key("a.f64", kF64, math.Pi).
		key("a.u8", kU8, uint8(200)).
		key("a.i8", kI8, int8(-3)).
		key("a.u16", kU16, uint16(60000)).
		key("a.i16", kI16, int16(-4)).
		key("a.i32", kI32, int32(-5)).
		key("a.u64", kU64, uint64(1)<<63).
		key("a.i64", kI64, int64(-6)).
		key("tokens", kArray, kString, uint64(3), "a", "", "é").
		key("types", kArray, kI32, uint64(2), int32(1), int32(-1)).
		key("flags", kArray, kBool, uint64(2), uint8(0), uint8(1)).
		key("none", kArray, kF32, uint64(0)).
		tensor("b.weight", 0, le([]float32{1, 2, 3, 4, 5, 6}), 3, 2).
		tensor("a.weight", 1, le([]uint16{0x3c00, 0xc000}), 2).
		tensor("c.weight", 35, tq2Row(), 256, 1)
	b.alignment = 64
	return b
}

func tq2Row() []byte {
	row := bytes.Repeat([]byte{0b10_01_00_01}, 64)
	return append(row, 0x00, 0x38) // 0.5
}

func open(t *testing.T, data []byte) (*gguf.Reader, error) {
	t.Helper()
	return gguf.New("test.gguf", bytes.NewReader(data), int64(len(data)))
}

func mustOpen(t *testing.T, data []byte) *gguf.Reader {
	t.Helper()
	r, err := open(t, data)
	require.NoError(t, err)
	return r
}

func writeFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "test.gguf")
	require.NoError(t, os.WriteFile(path, data, 0o644))
	return path
}
