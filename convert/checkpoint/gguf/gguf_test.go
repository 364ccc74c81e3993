package gguf_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

func TestReader(t *testing.T) {
	for _, version := range []uint32{2, 3} {
		b := small()
		b.version = version
		path := writeFile(t, b.bytes())
		r, err := gguf.Open(path)
		require.NoError(t, err)
		require.Equal(t, int(version), r.Version())
		require.Equal(t, 64, r.Alignment())
		require.Equal(t, []string{"test.gguf"}, r.Files())
		require.Equal(t, map[string]string{"general.architecture": "llama"}, r.Metadata())
		require.Len(t, r.Keys(), 16)
		require.Equal(t, "general.architecture", r.Keys()[0])

		var names []string
		for _, tt := range r.Tensors() {
			names = append(names, tt.Name)
		}
		require.Equal(t, []string{"a.weight", "b.weight", "c.weight"}, names)
		w, ok := r.Lookup("b.weight")
		require.True(t, ok)
		require.Equal(t, tensor.F32, w.DType)
		require.Equal(t, []int64{2, 3}, w.Shape, "outermost first")
		require.Equal(t, int64(24), w.Size)
		got := make([]byte, 24)
		_, err = w.ReadAt(got, 0)
		require.NoError(t, err)
		require.Equal(t, le([]float32{1, 2, 3, 4, 5, 6}), got)
		c, ok := r.Lookup("c.weight")
		require.True(t, ok)
		require.Equal(t, tensor.DType("TQ2_0"), c.DType)
		require.Zero(t, c.DType.Size())
		typ, ok := gguf.TypeOf(c.DType)
		require.True(t, ok)
		require.Equal(t, gguf.TQ2, typ)
		require.Equal(t, []int64{1, 256}, c.Shape)
		require.Equal(t, int64(66), c.Size)
		_, ok = r.Lookup("d.weight")
		require.False(t, ok)

		require.NoError(t, r.Close())
		_, err = w.ReadAt(got, 0)
		require.ErrorIs(t, err, os.ErrClosed)
	}
}

func TestMeta(t *testing.T) {
	r := mustOpen(t, small().bytes())
	for key, want := range map[string]any{
		"general.architecture": "llama", "general.alignment": uint32(64), "a.bool": true, "a.f32": float32(1.5), "a.f64": math.Pi, "a.u8": uint8(200), "a.i8": int8(-3),
		"a.u16": uint16(60000), "a.i16": int16(-4), "a.i32": int32(-5), "a.u64": uint64(1) << 63, "a.i64": int64(-6),
		"tokens": []string{"a", "", "é"}, "types": []int32{1, -1}, "flags": []bool{false, true}, "none": []float32{},
	} {
		got, ok := r.Meta(key)
		require.True(t, ok, key)
		require.Equal(t, want, got, key)
	}
	_, ok := r.Meta("b")
	require.False(t, ok)

	n, err := r.Int("a.u8")
	require.NoError(t, err)
	require.Equal(t, int64(200), n)
	for key, want := range map[string]int64{"a.i8": -3, "a.u16": 60000, "a.i16": -4, "general.alignment": 64, "a.i32": -5, "a.i64": -6} {
		n, err := r.Int(key)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	_, err = r.Int("a.u64")
	require.ErrorContains(t, err, "below 2^63")
	_, err = r.Int("a.f32")
	require.EqualError(t, err, "test.gguf: metadata a.f32: got float32, want an integer")
	_, err = r.Int("b")
	require.EqualError(t, err, "test.gguf: metadata b: got no such key, want an integer")

	tokens, err := gguf.Get[[]string](r, "tokens")
	require.NoError(t, err)
	require.Len(t, tokens, 3)
	_, err = gguf.Get[[]uint32](r, "types")
	require.EqualError(t, err, "test.gguf: metadata types: got []int32, want []uint32")
	_, err = gguf.Get[string](r, "b")
	require.ErrorContains(t, err, "no such key")
}

// TestPlacement: the last tensor may be padded or not; a file may have no tensors.
func TestPlacement(t *testing.T) {
	b := small()
	b.noPadding = true
	require.Len(t, mustOpen(t, b.bytes()).Tensors(), 3)
	require.Empty(t, mustOpen(t, newBuilder().bytes()).Tensors())
	require.Empty(t, mustOpen(t, newBuilder().key("k", kU8, uint8(1)).bytes()).Tensors())
	r := mustOpen(t, newBuilder().tensor("t", 0, le(float32(1)), 1).bytes())
	require.Equal(t, gguf.DefaultAlignment, r.Alignment())
	require.NoError(t, r.Close())
}

// TestTruncation cuts a file at every byte. Only the padding of the last tensor can
// be missing.
func TestTruncation(t *testing.T) {
	data := small().bytes()
	last := len(data) - (64 - 66%64)
	for n := range data {
		_, err := open(t, data[:n])
		if n == last {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, n)
		var malformed *tensor.FormatError
		require.ErrorAs(t, err, &malformed, n)
		require.LessOrEqual(t, malformed.Offset, int64(n))
	}
	_, err := open(t, append(data, 0))
	require.ErrorContains(t, err, "end of the file: got")
}

// TestShrinkingFile: a file that becomes shorter is an error of reading.
func TestShrinkingFile(t *testing.T) {
	data := small().bytes()
	for _, have := range []int{2, 100, len(data) - 200} {
		_, err := gguf.New("f", bytes.NewReader(data[:have]), int64(len(data)))
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}

func TestOpenErrors(t *testing.T) {
	_, err := gguf.Open(filepath.Join(t.TempDir(), "none.gguf"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = gguf.Open(t.TempDir())
	require.ErrorContains(t, err, "regular file")
	path := writeFile(t, []byte("GG"))
	_, err = gguf.Open(path)
	var malformed *tensor.FormatError
	require.True(t, errors.As(err, &malformed), err)
}

func TestTypes(t *testing.T) {
	for _, typ := range []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.F64, gguf.I8, gguf.I16, gguf.I32, gguf.I64, gguf.Q8_0, gguf.TQ1, gguf.TQ2, gguf.I2S} {
		back, ok := gguf.TypeOf(typ.DType())
		require.True(t, ok)
		require.Equal(t, typ, back)
		weights, bytes := typ.Block()
		require.Equal(t, 3*bytes, typ.RowBytes(3*weights))
		if weights == 1 {
			require.Equal(t, bytes, typ.DType().Size(), typ)
		} else {
			require.Zero(t, typ.DType().Size(), typ)
		}
	}
	_, ok := gguf.TypeOf(tensor.U8)
	require.False(t, ok)
	require.Equal(t, "Q4_K", gguf.Type(12).String())
	require.Equal(t, "type 99", gguf.Type(99).String())
}

func TestI2SScale(t *testing.T) {
	build := func(scale float32) (*gguf.Reader, *tensor.Tensor) {
		data := append(bytes.Repeat([]byte{0x55}, 64), le(scale)...)
		r := mustOpen(t, newBuilder().tensor("w", 36, append(data, make([]byte, 28)...), 128, 2).bytes())
		w, _ := r.Lookup("w")
		return r, w
	}
	r, w := build(0.25)
	require.Equal(t, int64(96), w.Size)
	scale, err := r.I2SScale(w)
	require.NoError(t, err)
	require.Equal(t, float32(0.25), scale)
	r, w = build(float32(math.Inf(1)))
	_, err = r.I2SScale(w)
	require.ErrorContains(t, err, "want a finite number")
	f := mustOpen(t, small().bytes())
	other, _ := f.Lookup("a.weight")
	require.Panics(t, func() { _, _ = f.I2SScale(other) })
}
