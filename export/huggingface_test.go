package export_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
)

// requireSame holds a second .trit to the first: configuration, generation defaults,
// tokenizer, and every bit of every tensor. How trits came to be is another story.
func requireSame(t *testing.T, want, got *format.File) {
	t.Helper()
	require.Len(t, got.Header().Tensors, len(want.Header().Tensors))
	for i, w := range want.Header().Tensors {
		g := got.Header().Tensors[i]
		require.Equal(t, w.Name, g.Name)
		require.Equal(t, w.Encoding, g.Encoding, w.Name)
		require.Equal(t, w.Granularity, g.Granularity, w.Name)
		require.Equal(t, w.Dims, g.Dims, w.Name)
		require.Equal(t, w.SHA256, g.SHA256, w.Name)
		require.Equal(t, w.ScaleSHA256, g.ScaleSHA256, w.Name)
	}
	for _, name := range []string{format.SectionConfig, format.SectionGeneration, format.SectionTokenizer, format.SectionChat} {
		a, errA := want.Section(name)
		b, errB := got.Section(name)
		require.Equal(t, errA == nil, errB == nil, name)
		require.Equal(t, string(a), string(b), name)
	}
}

func roundTrip(t *testing.T, f *format.File, opt convert.Options) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "hf")
	require.NoError(t, export.HuggingFace(context.Background(), f, dir))
	opt.NoSelfTest = true
	requireSame(t, f, open(t, converted(t, dir, opt)))
	return dir
}

func TestHuggingFaceRoundTrip(t *testing.T) {
	for _, name := range []string{"bitnet-online", "bitnet-packed", "llama-bitlinear-packed", "made-bitnet-packed"} {
		t.Run(name, func(t *testing.T) {
			f := open(t, converted(t, filepath.Join(fixtures, name), convert.Options{NoSelfTest: true}))
			dir := roundTrip(t, f, convert.Options{})
			// The base-3 encoding comes from the same files.
			three := open(t, converted(t, filepath.Join(fixtures, name), convert.Options{NoSelfTest: true, Encoding: "trit3"}))
			again := roundTrip(t, three, convert.Options{Encoding: "trit3"})
			for _, file := range []string{"model.safetensors", "config.json", "generation_config.json"} {
				a, err := os.ReadFile(filepath.Join(dir, file))
				require.NoError(t, err)
				b, err := os.ReadFile(filepath.Join(again, file))
				require.NoError(t, err)
				require.Equal(t, a, b, file)
			}
		})
	}
}

func TestHuggingFaceSynthetic(t *testing.T) {
	// Planes of rows that do not begin at a tile; RoPE scaling; generation defaults.
	s := llama()
	s.Hidden, s.Intermediate, s.HeadDim, s.Tied, s.Vocab = 132, 36, 10, true, 512
	s.Extra = map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 2.0}}
	f := made(t, s, synth.Multiply, checkpoint.F16, convert.Options{Tokenizer: sentencepiece,
		Generation: map[string]string{"eos": "7,2", "temperature": "0", "top_p": "0.5", "min_p": "0.1", "repetition_penalty": "1.1", "max_new_tokens": "12", "top_k": "3"}})
	dir := roundTrip(t, f, convert.Options{})
	var generation map[string]any
	data, err := os.ReadFile(filepath.Join(dir, "generation_config.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &generation))
	require.Equal(t, map[string]any{"eos_token_id": []any{2., 7.}, "do_sample": false, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.1, "max_new_tokens": 12., "top_k": 3.}, generation)
	data, err = os.ReadFile(filepath.Join(dir, "config.json"))
	require.NoError(t, err)
	require.Contains(t, string(data), `"rope_theta": 500000.0`)
	require.Contains(t, string(data), `"linear_class": "autobitlinear"`)
}

// TestHuggingFaceFolder: only a new or an empty folder is written to.
func TestHuggingFaceFolder(t *testing.T) {
	f := made(t, llama(), synth.Multiply, checkpoint.BF16, convert.Options{Tokenizer: bytelevel})
	dir := t.TempDir()
	require.NoError(t, export.HuggingFace(context.Background(), f, dir+"/"))
	err := export.HuggingFace(context.Background(), f, dir)
	require.ErrorContains(t, err, "want an empty or a new one")
	entries, err := os.ReadDir(filepath.Dir(dir))
	require.NoError(t, err)
	for _, e := range entries {
		require.NotContains(t, e.Name(), ".tmp-")
	}
}

// TestHuggingFaceBiases: a bias is stored divided by its scale, and comes back to
// the bit or not at all.
func TestHuggingFaceBiases(t *testing.T) {
	s := llama()
	s.AttentionBias, s.MLPBias = true, true
	// What transformers packed has biases that are products with the scale.
	roundTrip(t, made(t, s, synth.Multiply, checkpoint.BF16, convert.Options{Tokenizer: bytelevel}), convert.Options{})
	// bitlinear adds its biases unscaled, and some are no product of any float.
	f := open(t, converted(t, filepath.Join(fixtures, "made-llama-packed"), convert.Options{NoSelfTest: true}))
	err := export.HuggingFace(context.Background(), f, filepath.Join(t.TempDir(), "hf"))
	require.ErrorContains(t, err, "AutoBitLinear scales its biases")
}

func TestQuotientIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := float32(rapid.Float64Range(-100, 100).Draw(t, "x"))
		scale := float32(rapid.Float64Range(1e-4, 10).Draw(t, "scale"))
		if v := x * scale; math.Abs(float64(v)) > 1e-30 {
			got, ok := export.Quotient(v, scale)
			require.True(t, ok)
			require.Equal(t, v, got*scale)
		}
	})
	_, ok := export.Quotient(1, 0)
	require.False(t, ok)
}

func TestHuggingFaceRefuses(t *testing.T) {
	rows := llama()
	rows.Intermediate = 510
	odd := llama()
	odd.Extra = map[string]any{"hidden_act": "relu2"}
	for _, c := range []struct {
		name    string
		shape   synth.Shape
		storage synth.Storage
		opt     convert.Options
		reason  string
	}{
		{"scales a row", llama(), synth.Dense, convert.Options{Rule: "absmean-row", Activations: "int8"}, "has its scales by row"},
		{"scales a group", llama(), synth.Dense, convert.Options{Rule: "absmean-group=128", Activations: "int8"}, "has its scales by group"},
		{"rows", rows, synth.Online, convert.Options{}, "has 510 rows"},
		{"activations", llama(), synth.Dense, convert.Options{Rule: "absmean"}, `its activations are "none"`},
		{"int8 head", llama(), synth.Multiply, convert.Options{Head: "int8"}, "tensor head.weight is int8"},
		{"relu2", odd, synth.Multiply, convert.Options{}, "its activation is relu2; LlamaForCausalLM"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := made(t, c.shape, c.storage, checkpoint.BF16, c.opt)
			dir := filepath.Join(t.TempDir(), "hf")
			err := export.HuggingFace(context.Background(), f, dir)
			var refused *export.RefusedError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, c.reason)
			_, err = os.Stat(dir)
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
	f := open(t, converted(t, filepath.Join(fixtures, "made-qwen3"), convert.Options{NoSelfTest: true, Rule: "absmean", Activations: "int8"}))
	require.ErrorContains(t, export.HuggingFace(context.Background(), f, t.TempDir()), `it has norms at ["attn" "k" "mlp" "q"]`)
}
