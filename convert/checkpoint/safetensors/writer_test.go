package safetensors

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

func TestWriteBytes(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Write(&b, []WriteTensor{
		{"b", tensor.U8, []int64{3}, strings.NewReader("bbb")},
		{"c", tensor.F32, []int64{}, strings.NewReader("cccc")},
		{"a", tensor.U8, []int64{2, 1}, strings.NewReader("aa")},
	}, map[string]string{"y": "2", "x": "1.0"}))
	header := `{"__metadata__":{"x":"1.0","y":"2"},` +
		`"a":{"dtype":"U8","shape":[2,1],"data_offsets":[4,6]},` +
		`"b":{"dtype":"U8","shape":[3],"data_offsets":[6,9]},` +
		`"c":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}      `
	require.Equal(t, 0, len(header)%8)
	require.Equal(t, string(build(header, 0))+"ccccaabbb", b.String())
	r, err := openBytes(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, 3, len(r.Tensors()))
}

// TestWriteFixtures rewrites the fixtures: the same tensors come back.
func TestWriteFixtures(t *testing.T) {
	for _, name := range []string{"bitnet-packed", "llama-bitlinear-packed"} {
		path := filepath.Join(testdata, "fixtures", name, fileName)
		r, err := Open(path)
		require.NoError(t, err)
		defer r.Close()
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		again, err := openBytes(rewrite(t, r))
		require.NoError(t, err)
		requireSame(t, again, map[string]plainFile{fileName: parsePlainly(t, file)})
	}
}

// rewrite writes what a Reader holds.
func rewrite(t testing.TB, r *Reader) []byte {
	var tensors []WriteTensor
	for _, tn := range r.Tensors() {
		tensors = append(tensors, WriteTensor{tn.Name, tn.DType, tn.Shape, io.NewSectionReader(tn, 0, tn.Size)})
	}
	var b bytes.Buffer
	require.NoError(t, Write(&b, tensors, r.Metadata()))
	return b.Bytes()
}

func TestWriteRefuses(t *testing.T) {
	data := func(s string) io.Reader { return strings.NewReader(s) }
	for _, c := range []struct {
		name     string
		tensors  []WriteTensor
		metadata map[string]string
		want     string
	}{
		{"short data", []WriteTensor{{"a", tensor.F32, []int64{2}, data("12345")}}, nil, `tensor "a": got 5 bytes of data, want 8`},
		{"long data", []WriteTensor{{"a", tensor.F32, []int64{1}, data("12345")}}, nil, `tensor "a": got more than 4 bytes`},
		{"failing data", []WriteTensor{{"a", tensor.F32, []int64{1}, iotest.ErrReader(errors.New("disk"))}}, nil, "disk"},
		{"failing after the data", []WriteTensor{{"a", tensor.U8, []int64{0}, iotest.ErrReader(errors.New("disk"))}}, nil, "disk"},
		{"unknown dtype", []WriteTensor{{"a", "F4", []int64{1}, data("1")}}, nil, `shape [1] of "F4"`},
		{"negative", []WriteTensor{{"a", tensor.U8, []int64{-1}, data("")}}, nil, "shape [-1]"},
		{"overflow", []WriteTensor{{"a", tensor.F16, []int64{1 << 62}, data("")}}, nil, "shape [4611686018427387904]"},
		{"overflow together", []WriteTensor{{"a", tensor.U8, []int64{1 << 62}, data("")}, {"b", tensor.U8, []int64{1 << 62}, data("")}}, nil, `tensor "b"`},
		{"rank 9", []WriteTensor{{"a", tensor.U8, make([]int64, 9), data("")}}, nil, "at most 8 dimensions"},
		{"same name", []WriteTensor{{"a", tensor.U8, []int64{0}, data("")}, {"a", tensor.F16, []int64{0}, data("")}}, nil, `got "a", want each name once`},
		{"reserved name", []WriteTensor{{"__metadata__", tensor.U8, []int64{0}, data("")}}, nil, "want each name once"},
		{"long name", []WriteTensor{{strings.Repeat("n", 1025), tensor.U8, []int64{0}, data("")}}, nil, "(1025 bytes)"},
		{"no name", []WriteTensor{{"", tensor.U8, []int64{0}, data("")}}, nil, "got an empty name"},
		{"control character", []WriteTensor{{"\n", tensor.U8, []int64{0}, data("")}}, nil, `got "\n", want no control`},
		{"invalid UTF-8", []WriteTensor{{"\xff", tensor.U8, []int64{0}, data("")}}, nil, `got "\xff", want valid UTF-8`},
		{"invalid metadata", nil, map[string]string{"k": "\xff"}, "want valid UTF-8"},
		{"long header", nil, map[string]string{"k": strings.Repeat("v", MaxHeader)}, "a header of 25000"},
	} {
		require.ErrorContains(t, Write(io.Discard, c.tensors, c.metadata), c.want, c.name)
	}
	require.ErrorContains(t, Write(failingWriter{}, nil, nil), "disk full")
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestWriteProperties: whatever is written is read back, an input in another
// order gives the same bytes, and every tensor is aligned to its elements.
func TestWriteProperties(t *testing.T) {
	dtypes := strings.Split(tensor.DTypes, ", ")
	require.Len(t, dtypes, 15)
	rapid.Check(t, func(rt *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[\pL\pS."\\/<&\x{2028} ]{1,20}`), 0, 8, rapid.ID).Draw(rt, "names")
		metadata := rapid.MapOfN(rapid.String(), rapid.String(), 0, 4).Draw(rt, "metadata")
		var tensors, shuffled []WriteTensor
		want := map[string]string{}
		for _, name := range names {
			d := tensor.DType(rapid.SampledFrom(dtypes).Draw(rt, "dtype"))
			shape := rapid.SliceOfN(rapid.Int64Range(0, 4), 0, 4).Draw(rt, "shape")
			size, ok := sizeOf(d, shape)
			require.True(rt, ok)
			data := string(rapid.SliceOfN(rapid.Byte(), int(size), int(size)).Draw(rt, "data"))
			want[name] = data
			tensors = append(tensors, WriteTensor{name, d, shape, strings.NewReader(data)})
			shuffled = append([]WriteTensor{{name, d, shape, iotest.OneByteReader(strings.NewReader(data))}}, shuffled...)
		}
		var a, b bytes.Buffer
		require.NoError(rt, Write(&a, tensors, metadata))
		require.NoError(rt, Write(&b, shuffled, metadata))
		require.Equal(rt, a.Bytes(), b.Bytes())

		r, err := openBytes(a.Bytes())
		require.NoError(rt, err)
		require.Equal(rt, metadata, r.Metadata())
		require.Equal(rt, len(tensors), len(r.Tensors()))
		for _, w := range tensors {
			tn, ok := r.Lookup(w.Name)
			require.True(rt, ok)
			require.Equal(rt, w.DType, tn.DType)
			require.Equal(rt, len(w.Shape), len(tn.Shape))
			for i := range w.Shape {
				require.Equal(rt, w.Shape[i], tn.Shape[i])
			}
			require.Zero(rt, tn.Offset()%int64(tn.DType.Size()))
			got, err := io.ReadAll(io.NewSectionReader(tn, 0, tn.Size))
			require.NoError(rt, err)
			require.Equal(rt, want[w.Name], string(got))
		}
	})
}
