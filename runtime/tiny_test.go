package runtime_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
)

// shapes are small models that between them use everything an architecture can
// have, at sizes that do not fit tiles or lanes.
var shapes = map[string]struct {
	shape   synth.Shape
	storage synth.Storage
	opt     convert.Options
}{
	"bitnet": {synth.Shape{Class: "BitNetForCausalLM", Hidden: 72, Layers: 2, Heads: 6, KVHeads: 2, Intermediate: 132, Vocab: 97, Context: 300, Tied: true, AttentionBias: true},
		synth.Online, convert.Options{}},
	"llama": {synth.Shape{Class: "LlamaForCausalLM", Hidden: 48, Layers: 2, Heads: 3, KVHeads: 1, HeadDim: 20, Intermediate: 140, Vocab: 101, Context: 300, MLPBias: true},
		synth.Divide, convert.Options{Encoding: "trit3"}},
	"dense": {synth.Shape{Class: "LlamaForCausalLM", Hidden: 200, Layers: 2, Heads: 4, KVHeads: 4, Intermediate: 150, Vocab: 64, Context: 300},
		synth.Dense, convert.Options{Rule: "absmean-group=128", Head: "int8"}},
}

// tiny converts a random checkpoint and opens it.
func tiny(t testing.TB, name string) *runtime.Model {
	t.Helper()
	s := shapes[name]
	path := tinyFile(t, s.shape, s.storage, s.opt)
	f, err := format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	return m
}

func tinyFile(t testing.TB, s synth.Shape, storage synth.Storage, opt convert.Options) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, storage, checkpoint.BF16, 7))
	plan, err := convert.Open(dir, opt)
	require.NoError(t, err)
	defer plan.Close()
	path := filepath.Join(dir, "tiny.trit")
	_, err = plan.Write(context.Background(), path, nil)
	require.NoError(t, err)
	return path
}

func engine(t testing.TB, m *runtime.Model, opt runtime.Options) runtime.Engine {
	t.Helper()
	e, err := runtime.NewCPU(m, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// ids returns n ids of a vocabulary, different ones for different seeds.
func ids(n, vocab, seed int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = (i*i*7 + i*13 + seed*31) % vocab
	}
	return out
}

func forward(t testing.TB, e runtime.Engine, spans ...runtime.Span) []runtime.Result {
	t.Helper()
	r, err := e.Forward(context.Background(), spans)
	require.NoError(t, err)
	return r
}
