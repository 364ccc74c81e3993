package safetensors

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

const testdata = "../../../testdata"

// A plainFile is a file parsed by encoding/json and slicing, independently of
// the reader.
type plainFile struct {
	metadata map[string]string
	tensors  map[string]plainTensor
}

type plainTensor struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
	data    []byte
}

func parsePlainly(t testing.TB, file []byte) plainFile {
	n := binary.LittleEndian.Uint64(file)
	text, data := file[8:8+n], file[8+n:]
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &members))
	p := plainFile{tensors: map[string]plainTensor{}}
	for name, raw := range members {
		if name == "__metadata__" {
			require.NoError(t, json.Unmarshal(raw, &p.metadata))
			continue
		}
		var pt plainTensor
		require.NoError(t, json.Unmarshal(raw, &pt))
		pt.data = data[pt.Offsets[0]:pt.Offsets[1]]
		p.tensors[name] = pt
	}
	return p
}

// requireSame holds a Source against the plain parses of its files.
func requireSame(t testing.TB, src tensor.Source, files map[string]plainFile) {
	count := 0
	for file, p := range files {
		for name, want := range p.tensors {
			count++
			got, ok := src.Lookup(name)
			require.True(t, ok, name)
			require.Equal(t, name, got.Name)
			require.Equal(t, file, got.File, name)
			require.Equal(t, want.DType, string(got.DType), name)
			require.Equal(t, want.Shape, got.Shape, name)
			require.Equal(t, int64(len(want.data)), got.Size, name)
			data, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size))
			require.NoError(t, err, name)
			require.Equal(t, string(want.data), string(data), name)
		}
		if len(files) == 1 {
			require.Len(t, src.Metadata(), len(p.metadata))
		}
		for k, v := range p.metadata {
			require.Equal(t, v, src.Metadata()[k])
		}
	}
	require.Len(t, src.Tensors(), count)
	for i, tn := range src.Tensors() {
		byName, _ := src.Lookup(tn.Name)
		require.Same(t, tn, byName)
		if i > 0 {
			require.Less(t, src.Tensors()[i-1].Name, tn.Name)
		}
	}
}

// TestGoldenFiles reads every safetensors file that torch and transformers
// wrote for the project's fixtures, byte for byte.
func TestGoldenFiles(t *testing.T) {
	counts := map[string]int{ // tensors per file, so that an empty glob cannot pass
		"demo/model.safetensors":                                        146,
		"fixtures/bitnet-online/model.safetensors":                      24,
		"fixtures/bitnet-packed/model.safetensors":                      38,
		"fixtures/llama-bitlinear-packed/model.safetensors":             35,
		"fixtures/llama-dense-sharded/model-00001-of-00009.safetensors": 1,
		"fixtures/llama-dense-sharded/model-00002-of-00009.safetensors": 4,
		"fixtures/llama-dense-sharded/model-00003-of-00009.safetensors": 1,
		"fixtures/llama-dense-sharded/model-00004-of-00009.safetensors": 1,
		"fixtures/llama-dense-sharded/model-00005-of-00009.safetensors": 5,
		"fixtures/llama-dense-sharded/model-00006-of-00009.safetensors": 3,
		"fixtures/llama-dense-sharded/model-00007-of-00009.safetensors": 1,
		"fixtures/llama-dense-sharded/model-00008-of-00009.safetensors": 4,
		"fixtures/llama-dense-sharded/model-00009-of-00009.safetensors": 1,
	}
	for name, count := range counts {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(testdata, filepath.FromSlash(name))
			file, err := os.ReadFile(path)
			require.NoError(t, err)
			r, err := Open(path)
			require.NoError(t, err)
			defer r.Close()
			requireSame(t, r, map[string]plainFile{filepath.Base(path): parsePlainly(t, file)})
			require.Equal(t, count, len(r.Tensors()))
			require.Equal(t, map[string]string{"format": "pt"}, r.Metadata())
			require.Equal(t, []string{filepath.Base(path)}, r.Files())
		})
	}
}

func TestGoldenShards(t *testing.T) {
	dir := filepath.Join(testdata, "fixtures", "llama-dense-sharded")
	ix, err := ReadIndex(filepath.Join(dir, "model.safetensors.index.json"))
	require.NoError(t, err)
	r, err := ix.Open()
	require.NoError(t, err)
	defer r.Close()
	require.Len(t, r.Files(), 9)
	require.Equal(t, ix.Shards(), r.Files())
	files := map[string]plainFile{}
	for _, shard := range r.Files() {
		file, err := os.ReadFile(filepath.Join(dir, shard))
		require.NoError(t, err)
		files[shard] = parsePlainly(t, file)
	}
	requireSame(t, r, files)
	require.Equal(t, 21, len(r.Tensors()))
}
