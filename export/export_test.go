package export_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
)

const fixtures = "../testdata/fixtures"

// Tokenizers of the fixtures, both of 512 ids.
const (
	bytelevel     = fixtures + "/bitnet-packed/tokenizer.json"
	sentencepiece = fixtures + "/llama-bitlinear-packed/tokenizer.json"
)

// llama is the smallest shape that all encodings can hold.
func llama() synth.Shape {
	return synth.Shape{Class: "LlamaForCausalLM", Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 512, Vocab: 520, Context: 256}
}

// converted converts a checkpoint and returns the path of the .trit.
func converted(t *testing.T, source string, opt convert.Options) string {
	t.Helper()
	plan, err := convert.Open(source, opt)
	require.NoError(t, err)
	defer plan.Close()
	path := filepath.Join(t.TempDir(), "model.trit")
	_, err = plan.Write(context.Background(), path, nil)
	require.NoError(t, err)
	return path
}

func open(t *testing.T, path string) *format.File {
	t.Helper()
	f, err := format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}

// made writes a random checkpoint, converts it and opens the result.
func made(t *testing.T, s synth.Shape, storage synth.Storage, dtype checkpoint.DType, opt convert.Options) *format.File {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, storage, dtype, 1))
	opt.NoSelfTest = true
	return open(t, converted(t, dir, opt))
}

func TestNothingIsLeftBehind(t *testing.T) {
	f := made(t, llama(), synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: bytelevel})
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := export.GGUF(ctx, f, filepath.Join(dir, "m.gguf"), export.GGUFOptions{Encoding: "tq2_0"})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, export.HuggingFace(ctx, f, filepath.Join(dir, "hf")), context.Canceled)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// TestDamageIsFound: no tensor is exported whose hash is wrong.
func TestDamageIsFound(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, llama(), synth.Divide, checkpoint.BF16, 1))
	path := converted(t, dir, convert.Options{Tokenizer: bytelevel, NoSelfTest: true})
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	whole, err := format.OpenBytes(data)
	require.NoError(t, err)
	info, ok := whole.Tensor("layers.1.up.weight")
	require.True(t, ok)
	data[info.Info().Offset+1000] ^= 1
	f, err := format.OpenBytes(data)
	require.NoError(t, err)
	out := t.TempDir()
	_, err = export.GGUF(context.Background(), f, filepath.Join(out, "m.gguf"), export.GGUFOptions{Encoding: "tq2_0"})
	require.ErrorContains(t, err, "layers.1.up.weight")
	require.ErrorContains(t, export.HuggingFace(context.Background(), f, filepath.Join(out, "hf")), "layers.1.up.weight")
	entries, err := os.ReadDir(out)
	require.NoError(t, err)
	require.Empty(t, entries)
}

// cosine is how closely two vectors point in one direction.
func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	return ab / math.Sqrt(aa*bb)
}
