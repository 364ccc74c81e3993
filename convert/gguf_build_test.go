package convert_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// ggufFile is a GGUF file in memory, which tests make or change.
type ggufFile struct {
	keys    []string
	values  map[string]any
	tensors []ggufTensor
}

type ggufTensor struct {
	name string
	typ  gguf.Type
	dims []int64 // outermost first
	data []byte
}

func (f *ggufFile) set(key string, value any) {
	if f.values == nil {
		f.values = map[string]any{}
	}
	if _, ok := f.values[key]; !ok {
		f.keys = append(f.keys, key)
	}
	f.values[key] = value
}

func (f *ggufFile) unset(key string) {
	delete(f.values, key)
	f.keys = slices.DeleteFunc(f.keys, func(k string) bool { return k == key })
}

func (f *ggufFile) add(name string, typ gguf.Type, data []byte, dims ...int64) {
	f.tensors = append(f.tensors, ggufTensor{name, typ, dims, data})
}

func (f *ggufFile) drop(name string) {
	f.tensors = slices.DeleteFunc(f.tensors, func(t ggufTensor) bool { return t.name == name })
}

func (f *ggufFile) tensor(t *testing.T, name string) *ggufTensor {
	t.Helper()
	i := slices.IndexFunc(f.tensors, func(x ggufTensor) bool { return x.name == name })
	require.GreaterOrEqual(t, i, 0, name)
	return &f.tensors[i]
}

// loadGGUF reads a file to be changed.
func loadGGUF(t *testing.T, path string) *ggufFile {
	t.Helper()
	r, err := gguf.Open(path)
	require.NoError(t, err)
	defer r.Close()
	f := &ggufFile{}
	for _, key := range r.Keys() {
		v, _ := r.Meta(key)
		f.set(key, v)
	}
	for _, x := range r.Tensors() {
		typ, ok := gguf.TypeOf(x.DType)
		require.True(t, ok)
		data := make([]byte, x.Size)
		_, err := x.ReadAt(data, 0)
		require.NoError(t, err)
		f.add(x.Name, typ, data, x.Shape...)
	}
	return f
}

// ggufKind returns the number of the type of a value.
func ggufKind(v any) uint32 {
	switch v.(type) {
	case uint32, []uint32:
		return 4
	case int32, []int32:
		return 5
	case float32, []float32:
		return 6
	case bool:
		return 7
	case string, []string:
		return 8
	}
	panic(v)
}

// write writes the file and returns its path.
func (f *ggufFile) write(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	put := func(vs ...any) {
		for _, v := range vs {
			if s, ok := v.(string); ok {
				require.NoError(t, binary.Write(&b, binary.LittleEndian, uint64(len(s))))
				b.WriteString(s)
				continue
			}
			require.NoError(t, binary.Write(&b, binary.LittleEndian, v))
		}
	}
	pad := func() {
		for b.Len()%32 != 0 {
			b.WriteByte(0)
		}
	}
	b.WriteString("GGUF")
	put(uint32(3), uint64(len(f.tensors)), uint64(len(f.keys)))
	for _, key := range f.keys {
		v := f.values[key]
		put(key)
		switch v := v.(type) {
		case []string:
			put(uint32(9), ggufKind(v), uint64(len(v)))
			for _, s := range v {
				put(s)
			}
		case []int32:
			put(uint32(9), ggufKind(v), uint64(len(v)), v)
		case []float32:
			put(uint32(9), ggufKind(v), uint64(len(v)), v)
		default:
			put(ggufKind(v), v)
		}
	}
	offset := uint64(0)
	for _, x := range f.tensors {
		put(x.name, uint32(len(x.dims)))
		for i := len(x.dims) - 1; i >= 0; i-- {
			put(uint64(x.dims[i]))
		}
		put(uint32(x.typ), offset)
		offset += uint64(len(x.data)+31) / 32 * 32
	}
	pad()
	for _, x := range f.tensors {
		b.Write(x.data)
		pad()
	}
	path := filepath.Join(t.TempDir(), "model.gguf")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	return path
}

// ternary is a matrix of a .trit.
type ternary struct {
	rows   [][]int8
	scales []float32
	info   format.TensorInfo
}

func readTernary(t *testing.T, f *format.File, name string) ternary {
	t.Helper()
	w, ok := f.Tensor(name)
	require.True(t, ok, name)
	data, err := w.Data()
	require.NoError(t, err)
	out := ternary{info: *w.Info()}
	out.scales, err = w.Scales()
	require.NoError(t, err)
	n, cols := out.info.Dims[0], out.info.Dims[1]
	size, unpack := quantize.TileRowBytes2(cols), quantize.Unpack2
	if out.info.Encoding == format.Trit3 {
		size, unpack = quantize.TileRowBytes3(cols), quantize.Unpack3
	}
	for r := 0; r < n; r += 4 {
		tile := make([][]int8, min(4, n-r))
		for i := range tile {
			tile[i] = make([]int8, cols)
		}
		require.NoError(t, unpack(tile, data[r/4*size:][:size], cols))
		out.rows = append(out.rows, tile...)
	}
	return out
}

// flat returns the trits one after the other.
func (m ternary) flat() []int8 { return slices.Concat(m.rows...) }

func openTrit(t *testing.T, path string) *format.File {
	t.Helper()
	f, err := format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// sameTensors holds two files to the same tensors, bit for bit.
func sameTensors(t *testing.T, want, got *format.File) {
	t.Helper()
	a, b := tensorsOf(t, want), tensorsOf(t, got)
	require.Len(t, b, len(a))
	for i := range a {
		x, y := a[i].Info(), b[i].Info()
		require.Equal(t, x.Name, y.Name)
		require.Equal(t, []any{x.Encoding, x.Granularity, x.Dims, x.Group}, []any{y.Encoding, y.Granularity, y.Dims, y.Group}, x.Name)
		dx, err := a[i].Data()
		require.NoError(t, err)
		dy, err := b[i].Data()
		require.NoError(t, err)
		require.True(t, bytes.Equal(dx, dy), x.Name)
		if x.Encoding == format.F32 || x.Encoding == format.F16 || x.Encoding == format.BF16 {
			continue
		}
		sx, err := a[i].Scales()
		require.NoError(t, err)
		sy, err := b[i].Scales()
		require.NoError(t, err)
		require.Equal(t, sx, sy, x.Name)
	}
}

// tensorsOf returns the tensors of a file in order.
func tensorsOf(t *testing.T, f *format.File) []*format.Tensor {
	t.Helper()
	var out []*format.Tensor
	for _, info := range f.Header().Tensors {
		w, ok := f.Tensor(info.Name)
		require.True(t, ok)
		out = append(out, w)
	}
	return out
}
