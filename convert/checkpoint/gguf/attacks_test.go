package gguf_test

import (
	"errors"
	"math"
	"os"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// attack is a hostile file with one thing wrong. Its name stands in
// testdata/attacks/gguf/README.md with the reason.
type attack struct {
	name        string
	data        func() []byte
	unsupported bool   // a limit of the reader, not a rule of the format
	err         string // in the message
}

func with(change func(b *builder)) func() []byte {
	return func() []byte {
		b := small()
		change(b)
		return b.bytes()
	}
}

func u64(n uint64) *uint64 { return &n }

// scalars is a small file whose first key has the given bytes as type and value.
func scalars(raw ...any) func() []byte {
	return func() []byte { return newBuilder().key("k", raw...).key("l", kU8, uint8(1)).bytes() }
}

// weight is a file with one tensor.
func weight(typ uint32, data []byte, ne ...uint64) func() []byte {
	return func() []byte { return newBuilder().tensor("w", typ, data, ne...).bytes() }
}

const huge = math.MaxUint64

var attacks = []attack{
	{"empty", func() []byte { return nil }, false, `magic: got "", want "GGUF"`},
	{"magic", with(func(b *builder) { b.magic = "GGUG" }), false, `magic: got "GGUG"`},
	{"magic-big-endian", with(func(b *builder) { b.magic = "FUGG" }), true, "big-endian"},
	{"zip", func() []byte { return []byte("PK\x03\x04 and so on") }, false, "zip archive"},
	{"ggml-old", func() []byte { return []byte("tjgg\x03\x00\x00\x00") }, false, "before GGUF"},
	{"lfs-pointer", func() []byte { return []byte("version https://git-lfs.github.com/spec/v1\n") }, false, "git lfs pull"},
	{"version-1", with(func(b *builder) { b.version = 1 }), true, "version 1 is not supported"},
	{"version-4", with(func(b *builder) { b.version = 4 }), true, "version 4 is not supported"},
	{"version-big-endian", with(func(b *builder) { b.version = 3 << 24 }), true, "big-endian"},
	{"tensor-count-huge", with(func(b *builder) { b.tensorCount = u64(huge) }), false, "tensor count: got 18446744073709551615"},
	{"tensor-count-more", with(func(b *builder) { b.tensorCount = u64(4) }), false, "tensor 3: name"},
	{"key-count-huge", with(func(b *builder) { b.keyCount = u64(1 << 62) }), false, "metadata count: got"},
	{"key-count-fewer", with(func(b *builder) { b.keyCount = u64(15) }), false, "tensor"},
	{"key-length-huge", func() []byte {
		return append(le([]byte("GGUF"), uint32(3), uint64(0), uint64(1), uint64(1)<<63), make([]byte, 64)...)
	}, false, "metadata key 0: got 9223372036854775808 bytes"},
	{"key-empty", with(func(b *builder) { b.key("", kU8, uint8(0)) }), false, "an empty one"},
	{"key-long", with(func(b *builder) { b.key(strings.Repeat("k", 257), kU8, uint8(0)) }), true, "257 bytes"},
	{"key-nul", with(func(b *builder) { b.key("general.\x00name", kU8, uint8(0)) }), false, "no control characters"},
	{"key-utf8", with(func(b *builder) { b.key("k\xff", kU8, uint8(0)) }), false, "valid UTF-8"},
	{"key-duplicate", with(func(b *builder) { b.key("a.bool", kBool, uint8(0)) }), false, "each key once"},
	{"value-type", scalars(uint32(13), uint64(0)), false, "got 13, want 0 to 12"},
	{"bool-two", scalars(kBool, uint8(2)), false, "0x02, want 0x00 or 0x01"},
	{"string-huge", scalars(kString, uint64(huge), []byte("abc")), false, "got 18446744073709551615 bytes"},
	{"string-utf8", scalars(kString, "a\xc0"), false, "valid UTF-8"},
	{"array-count-huge", scalars(kArray, kU64, uint64(1)<<61), false, "length: got 2305843009213693952"},
	{"array-strings-huge", scalars(kArray, kString, uint64(1)<<40, []byte("abc")), false, "length: got 1099511627776"},
	{"array-long", func() []byte {
		return newBuilder().key("k", kArray, kBool, uint64(gguf.MaxArray+1), make([]byte, gguf.MaxArray+1)).bytes()
	}, true, "length: 4194305 is not supported"},
	{"array-nested", scalars(kArray, kArray, kU8, uint64(1), uint8(1)), true, "an array of arrays"},
	{"array-bool", scalars(kArray, kBool, uint64(2), uint8(1), uint8(0xff)), false, "0xff, want 0x00 or 0x01"},
	{"array-type", scalars(kArray, uint32(99), uint64(1), uint64(1)), false, "got 99"},
	{"header-long", func() []byte {
		b := newBuilder()
		for _, k := range []string{"a", "b", "c", "d", "e"} {
			b.key(k, kString, strings.Repeat("x", 7<<20))
		}
		return b.bytes()
	}, true, "a header of more than 33554432 bytes"},
	{"alignment-zero", func() []byte { return newBuilder().key("general.alignment", kU32, uint32(0)).bytes() }, false, "a power of two"},
	{"alignment-48", func() []byte { return newBuilder().key("general.alignment", kU32, uint32(48)).bytes() }, false, "got 48, want a power of two"},
	{"alignment-huge", func() []byte { return newBuilder().key("general.alignment", kU32, uint32(1)<<31).bytes() }, true, "2147483648 is not supported"},
	{"alignment-type", func() []byte { return newBuilder().key("general.alignment", kString, "32").bytes() }, false, "got string, want uint32"},
	{"alignment-array", func() []byte {
		return newBuilder().key("general.alignment", kArray, kU32, uint64(1), uint32(32)).bytes()
	}, false, "got array of uint32, want uint32"},
	{"name-empty", with(func(b *builder) { b.tensors[1].name = "" }), false, "an empty one"},
	{"name-long", with(func(b *builder) { b.tensors[1].name = strings.Repeat("n", 65) }), false, "65 bytes, want at most 64"},
	{"name-control", with(func(b *builder) { b.tensors[1].name = "a\x1b[2J" }), false, "no control characters"},
	{"name-duplicate", with(func(b *builder) { b.tensors[1].name = "b.weight" }), false, "each name once"},
	{"dims-none", with(func(b *builder) { b.tensors[1].ne = nil }), false, "dimensions: got 0"},
	{"dims-five", with(func(b *builder) { b.tensors[1].ne = []uint64{2, 1, 1, 1, 1} }), false, "dimensions: got 5"},
	{"dims-huge", func() []byte {
		return append(le([]byte("GGUF"), uint32(3), uint64(1), uint64(0), "w", uint32(math.MaxUint32)), make([]byte, 64)...)
	}, false, "dimensions: got 4294967295"},
	{"shape-zero", weight(0, nil, 0), false, "got 0 along dimension 0"},
	{"shape-negative", weight(0, make([]byte, 4), huge), false, "along dimension 0"},
	{"shape-overflow", weight(0, make([]byte, 4), 1<<32, 1<<32), false, "along dimension 1"},
	{"shape-wraps-to-one", weight(0, make([]byte, 4), 1<<63, 2, 1<<63, 2), false, "along dimension 0"},
	{"shape-past-end", weight(0, make([]byte, 4), 1<<40), false, "data: got 4398046511104 bytes"},
	{"shape-block-tq2", weight(35, make([]byte, 66), 255), false, "a multiple of 256, the block of TQ2_0"},
	{"shape-block-q8", weight(8, make([]byte, 34), 16, 2), false, "a multiple of 32, the block of Q8_0"},
	{"shape-block-i2s", weight(36, make([]byte, 64), 64, 2), false, "a multiple of 128, the block of I2_S"},
	{"i2s-no-scale", func() []byte {
		b := newBuilder().tensor("w", 36, make([]byte, 32), 128)
		return b.bytes()
	}, false, "data: got 64 bytes"},
	{"type-unknown", weight(77, make([]byte, 4), 1), false, "type: got 77"},
	{"type-removed", weight(4, make([]byte, 32), 32), false, "type: got 4"},
	{"type-q4", weight(12, make([]byte, 144), 256), true, "Q4_K is not supported"},
	{"offset-overlap", with(func(b *builder) { b.tensors[1].offset = u64(0) }), false, `"a.weight": offset: got 0, want 64`},
	{"offset-hole", with(func(b *builder) { b.tensors[1].offset = u64(128) }), false, "offset: got 128, want 64"},
	{"offset-unaligned", with(func(b *builder) { b.tensors[1].offset = u64(24) }), false, "offset: got 24, want 64"},
	{"offset-huge", with(func(b *builder) { b.tensors[1].offset = u64(huge - 31) }), false, "offset: got"},
	{"order-swapped", with(func(b *builder) {
		b.tensors[0].offset, b.tensors[1].offset = u64(64), u64(0)
	}), false, "offset: got 64, want 0"},
	{"padding-header", func() []byte {
		d := small().bytes()
		d[len(d)-3*64-64-1] = 1
		return d
	}, false, "padding: got 0x01"},
	{"padding-between", func() []byte {
		d := small().bytes()
		d[len(d)-3*64-1] = 7
		return d
	}, false, "padding: got 0x07"},
	{"padding-last", func() []byte {
		d := small().bytes()
		d[len(d)-1] = 7
		return d
	}, false, "padding: got 0x07"},
	{"trailing", func() []byte { return append(small().bytes(), make([]byte, 64)...) }, false, "end of the file"},
	{"data-missing", func() []byte { return small().bytes()[:len(small().bytes())-100] }, false, "data: got 66 bytes"},
}

func TestAttacks(t *testing.T) {
	require.GreaterOrEqual(t, len(attacks), 20)
	seen := map[string]bool{}
	for _, a := range attacks {
		require.False(t, seen[a.name], a.name)
		seen[a.name] = true
		t.Run(a.name, func(t *testing.T) {
			data := a.data()
			var before, after goruntime.MemStats
			goruntime.ReadMemStats(&before)
			start := time.Now()
			_, err := open(t, data)
			took := time.Since(start)
			goruntime.ReadMemStats(&after)
			require.ErrorContains(t, err, a.err)
			// A hostile file may cost 256 MB and 2 s; a slow machine is allowed its share.
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(256<<20))
			require.Less(t, took, 2*time.Second)
			var malformed *tensor.FormatError
			var unsupported *tensor.UnsupportedError
			if a.unsupported {
				require.True(t, errors.As(err, &unsupported), err)
			} else {
				require.True(t, errors.As(err, &malformed), err)
				require.GreaterOrEqual(t, malformed.Offset, int64(0))
				require.LessOrEqual(t, malformed.Offset, int64(len(data)))
			}
		})
	}
}

// TestAttacksAreExplained: the README says what every file does, and of no other.
func TestAttacksAreExplained(t *testing.T) {
	text, err := os.ReadFile("../../../testdata/attacks/gguf/README.md")
	require.NoError(t, err)
	var explained, have []string
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(line, "| ") && name != "file" && name != "---" {
			explained = append(explained, name)
		}
	}
	for _, a := range attacks {
		have = append(have, a.name)
	}
	require.ElementsMatch(t, have, explained)
}

func FuzzGGUF(f *testing.F) {
	f.Add(small().bytes())
	for _, a := range attacks {
		if data := a.data(); len(data) < 4096 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := open(t, data)
		if err != nil {
			var malformed *tensor.FormatError
			var unsupported *tensor.UnsupportedError
			require.True(t, errors.As(err, &malformed) || errors.As(err, &unsupported), err)
			return
		}
		for _, key := range r.Keys() {
			_, ok := r.Meta(key)
			require.True(t, ok)
		}
		for _, w := range r.Tensors() {
			require.LessOrEqual(t, w.Offset()+w.Size, int64(len(data)))
			_, err := w.ReadAt(make([]byte, w.Size), 0)
			require.NoError(t, err)
		}
	})
}
