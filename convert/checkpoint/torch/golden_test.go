package torch_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"

	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
	"github.com/tritter-ai/tritter/convert/checkpoint/torch"
)

const fixtures = "../../../testdata/fixtures"

// open opens a file of the fixtures.
func open(t testing.TB, parts ...string) *torch.Reader {
	r, err := torch.Open(filepath.Join(append([]string{fixtures}, parts...)...))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// content reads a whole tensor.
func content(t testing.TB, tn *tensor.Tensor) []byte {
	data, err := io.ReadAll(io.NewSectionReader(tn, 0, tn.Size))
	require.NoError(t, err)
	require.Len(t, data, int(tn.Size))
	return data
}

// element returns element i of data as torch's float() would.
func element(t testing.TB, data []byte, d tensor.DType, i int) float64 {
	le := binary.LittleEndian
	b := data[i*d.Size():]
	switch d {
	case tensor.F64:
		return math.Float64frombits(le.Uint64(b))
	case tensor.F32:
		return float64(math.Float32frombits(le.Uint32(b)))
	case tensor.F16:
		return float64(float16.Frombits(le.Uint16(b)).Float32())
	case tensor.BF16:
		return float64(math.Float32frombits(uint32(le.Uint16(b)) << 16))
	case tensor.I64:
		return float64(int64(le.Uint64(b)))
	case tensor.I32:
		return float64(int32(le.Uint32(b)))
	case tensor.I16:
		return float64(int16(le.Uint16(b)))
	case tensor.I8:
		return float64(int8(b[0]))
	case tensor.U8, tensor.Bool:
		return float64(b[0])
	case tensor.F8E4M3:
		return float8(b[0], 3, 7)
	case tensor.F8E5M2:
		return float8(b[0], 2, 15)
	}
	require.Fail(t, "dtype", d)
	return 0
}

// float8 decodes a finite float of a sign, an exponent and so many bits of
// mantissa.
func float8(b byte, mantissa, bias int) float64 {
	e, m := int(b&0x7f)>>mantissa, float64(int(b)&(1<<mantissa-1))/float64(int(1)<<mantissa)
	v := math.Ldexp(1+m, e-bias)
	if e == 0 {
		v = math.Ldexp(m, 1-bias)
	}
	if b&0x80 != 0 {
		return -v
	}
	return v
}

func TestPickles(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(fixtures, "torch-pickles", "manifest.json"))
	require.NoError(t, err)
	var manifest map[string]map[string]struct {
		Shape  []int64
		DType  string
		Values []float64
	}
	require.NoError(t, json.Unmarshal(text, &manifest))
	dtypes := map[string]tensor.DType{
		"float64": tensor.F64, "float32": tensor.F32, "float16": tensor.F16, "bfloat16": tensor.BF16, "int64": tensor.I64,
		"int32": tensor.I32, "int16": tensor.I16, "int8": tensor.I8, "uint8": tensor.U8, "bool": tensor.Bool,
	}
	listing, err := filepath.Glob(filepath.Join(fixtures, "torch-pickles", "*.pt*"))
	require.NoError(t, err)
	require.Len(t, manifest, len(listing))
	for file, want := range manifest {
		t.Run(file, func(t *testing.T) {
			r := open(t, "torch-pickles", file)
			require.Equal(t, []string{file}, r.Files())
			require.Len(t, r.Tensors(), len(want))
			for name, w := range want {
				tn, ok := r.Lookup(name)
				require.True(t, ok, name)
				require.Equal(t, w.Shape, tn.Shape)
				d := dtypes[w.DType]
				// The manifest widened float8, which numpy lacks.
				if strings.Contains(file, "e4m3") {
					d = tensor.F8E4M3
				} else if strings.Contains(file, "e5m2") {
					d = tensor.F8E5M2
				}
				require.Equal(t, d, tn.DType)
				require.Equal(t, int64(len(w.Values)*d.Size()), tn.Size)
				require.Equal(t, file, tn.File)
				data := content(t, tn)
				for i, v := range w.Values {
					require.Equal(t, v, element(t, data, d, i), "%s[%d]", name, i)
				}
			}
		})
	}
}

// requireEqual holds the tensors of two checkpoints to be the same bytes under
// the same names.
func requireEqual(t *testing.T, want, got tensor.Source) {
	require.Len(t, got.Tensors(), len(want.Tensors()))
	for _, w := range want.Tensors() {
		g, ok := got.Lookup(w.Name)
		require.True(t, ok, w.Name)
		require.Equal(t, w.DType, g.DType, w.Name)
		require.Equal(t, w.Shape, g.Shape, w.Name)
		require.Equal(t, content(t, w), content(t, g), w.Name)
	}
}

func TestShards(t *testing.T) {
	r, err := torch.OpenIndex(filepath.Join(fixtures, "llama-dense-bin", "pytorch_model.bin.index.json"))
	require.NoError(t, err)
	ix, err := safetensors.ReadIndex(filepath.Join(fixtures, "llama-dense-sharded", "model.safetensors.index.json"))
	require.NoError(t, err)
	want, err := ix.Open()
	require.NoError(t, err)
	requireEqual(t, want, r)
	require.Equal(t, []string{"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"}, r.Files())
	require.NoError(t, want.Close())
	require.NoError(t, r.Close())
	_, err = r.Tensors()[0].ReadAt(make([]byte, 1), 0)
	require.ErrorIs(t, err, os.ErrClosed)
}

func TestTritter(t *testing.T) {
	st, err := safetensors.Open(filepath.Join(fixtures, "tritter", "model.safetensors"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, st.Close()) })

	r := open(t, "tritter", "checkpoint.pt")
	requireEqual(t, st, r)
	require.Equal(t, map[string]any{"metadata": map[string]any{
		"model_size": "test", "hidden_size": int64(128), "num_layers": int64(2), "num_heads": int64(4), "num_kv_heads": int64(2),
		"vocab_size": int64(320), "max_position_embeddings": int64(512), "use_bitnet": true, "training_step": int64(10), "tokens_seen": int64(1000),
	}}, r.Config())
	// What the safetensors file says as strings, the pickle says in the same.
	for k, v := range st.Metadata() {
		require.Equal(t, v, r.Metadata()[k], k)
	}

	packed := open(t, "tritter", "packed.pt")
	require.Equal(t, "1.0", packed.Config()["format_version"])
	layers := packed.Config()["packed_layers_info"].(map[string]any)
	require.Len(t, layers, 15)
	require.Equal(t, map[string]any{"in_features": int64(128), "out_features": int64(64), "has_bias": true}, layers["layers.0.attention.k_proj"])
	require.Equal(t, map[string]any{"in_features": int64(128), "out_features": int64(320), "has_bias": false}, layers["lm_head"])
	require.Empty(t, packed.Metadata())
	for name, info := range layers {
		w, ok := packed.Lookup(name + ".packed_weight")
		require.True(t, ok, name)
		require.Equal(t, tensor.U8, w.DType)
		in, out := info.(map[string]any)["in_features"].(int64), info.(map[string]any)["out_features"].(int64)
		require.Equal(t, []int64{out, (in + 3) / 4}, w.Shape)
		scale, ok := packed.Lookup(name + ".scale")
		require.True(t, ok)
		other, ok := st.Lookup(name + ".scale")
		require.True(t, ok)
		require.Equal(t, content(t, other), content(t, scale))
	}
	require.True(t, slices.IsSortedFunc(packed.Tensors(), func(a, b *tensor.Tensor) int { return strings.Compare(a.Name, b.Name) }))
}

func TestOptimizerIsLeftAlone(t *testing.T) {
	r := open(t, "torch-pickles", "optimizer.pt")
	require.Empty(t, r.Config())
	require.Len(t, r.Tensors(), 4)
}
