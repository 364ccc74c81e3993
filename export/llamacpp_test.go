package export_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
)

// verified is the model that llama.cpp was run on: biases everywhere, grouped
// heads, Llama 3's RoPE scaling, a byte-level tokenizer. Its embedding is made a
// tenth and its matrices five times as large as those of synth, so that the blocks
// and not the embedding decide about the logits.
func verified(t *testing.T) *format.File {
	t.Helper()
	s := llama()
	s.AttentionBias, s.MLPBias = true, true
	s.Extra = map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, synth.Divide, checkpoint.F32, 7))
	r, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	require.NoError(t, err)
	var tensors []safetensors.WriteTensor
	for _, w := range r.Tensors() {
		data := make([]byte, w.Size)
		_, err := w.ReadAt(data, 0)
		require.NoError(t, err)
		factor := float32(1)
		if strings.HasSuffix(w.Name, "weight_scale") {
			factor = 0.2 // this scale divides
		} else if strings.Contains(w.Name, "embed_tokens") {
			factor = 0.1
		}
		if w.DType == checkpoint.F32 {
			for i := 0; i < len(data); i += 4 {
				v := math.Float32frombits(binary.LittleEndian.Uint32(data[i:])) * factor
				binary.LittleEndian.PutUint32(data[i:], math.Float32bits(v))
			}
		}
		tensors = append(tensors, safetensors.WriteTensor{Name: w.Name, DType: w.DType, Shape: w.Shape, Data: bytes.NewReader(data)})
	}
	require.NoError(t, r.Close())
	var out bytes.Buffer
	require.NoError(t, safetensors.Write(&out, tensors, map[string]string{"format": "pt"}))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "model.safetensors"), out.Bytes(), 0o644))
	return open(t, converted(t, dir, convert.Options{Tokenizer: bytelevel, Activations: "none", NoSelfTest: true}))
}

// TestAgainstLlamaCpp: the exported bytes are those that llama.cpp was run on
// (docs/gguf.md), and the logits that it gave are near enough to ours. When the bytes
// change, llama.cpp has to be run again.
func TestAgainstLlamaCpp(t *testing.T) {
	data, err := os.ReadFile("testdata/llama.cpp.json")
	require.NoError(t, err)
	var golden struct {
		IDs   []int
		Files map[string]struct {
			SHA256 string
			Logits []float32 // after the last id
		}
	}
	require.NoError(t, json.Unmarshal(data, &golden))
	f := verified(t)
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	e, err := runtime.NewCPU(m, runtime.Options{})
	require.NoError(t, err)
	defer e.Close()
	seq := e.NewSequence()
	defer seq.Close()
	result, err := e.Forward(context.Background(), []runtime.Span{{Seq: seq, Tokens: golden.IDs, Logits: runtime.PositionLast}})
	require.NoError(t, err)
	// Under TQ1_0 and TQ2_0 llama.cpp rounds activations to 8 bits in blocks of 256.
	for encoding, least := range map[string]float64{"f16": 0.999, "tq2_0": 0.99, "tq1_0": 0.99} {
		path := filepath.Join(t.TempDir(), "model.gguf")
		_, err := export.GGUF(context.Background(), f, path, export.GGUFOptions{Encoding: encoding})
		require.NoError(t, err)
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		want := golden.Files[encoding]
		require.Equal(t, want.SHA256, fmt.Sprintf("%x", sha256.Sum256(file)), encoding)
		require.Greater(t, cosine(result[0].Logits, want.Logits), least, encoding)
	}
}
