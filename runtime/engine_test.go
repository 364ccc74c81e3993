package runtime_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/runtime"
)

// TestLogitsDoNotDependOnSplitting is the promise of the package: however tokens
// are split into calls, batches, forks and threads, every logit has the same bits.
func TestLogitsDoNotDependOnSplitting(t *testing.T) {
	for name := range shapes {
		t.Run(name, func(t *testing.T) {
			m := tiny(t, name)
			vocab := m.Config.VocabSize
			tokens := ids(150, vocab, 1)
			one := engine(t, m, runtime.Options{Threads: 2, Kernels: ref.New()})
			seq := one.NewSequence()
			want := forward(t, one, runtime.Span{Seq: seq, Tokens: tokens, Logits: runtime.PositionAll})[0].Logits
			require.Len(t, want, len(tokens)*vocab)
			require.Equal(t, len(tokens), seq.Len())

			var fast []runtime.Engine
			for i, threads := range []int{1, 2, 3, 7} {
				for _, ops := range cpu.Implementations() {
					if i == 0 || ops.Name() != "ref" {
						fast = append(fast, engine(t, m, runtime.Options{Threads: threads, Kernels: ops}))
					}
				}
			}
			for _, e := range fast {
				steps := []int{1, 3, 63, 64, 65, 129}
				if testing.Short() {
					steps = []int{1, 65}
				}
				for _, step := range steps {
					s := e.NewSequence()
					var got []float32
					for lo := 0; lo < len(tokens); lo += step {
						part := tokens[lo:min(lo+step, len(tokens))]
						got = append(got, forward(t, e, runtime.Span{Seq: s, Tokens: part, Logits: runtime.PositionAll})[0].Logits...)
					}
					require.Equal(t, want, got, "%s, steps of %d", e.Name(), step)
					s.Close()
				}
			}

			// A batch: the neighbours of a sequence do not matter.
			e := engine(t, m, runtime.Options{Threads: 2})
			a, b, c := e.NewSequence(), e.NewSequence(), e.NewSequence()
			forward(t, e, runtime.Span{Seq: b, Tokens: ids(70, vocab, 2)})
			r := forward(t, e,
				runtime.Span{Seq: c, Tokens: ids(5, vocab, 3), Logits: runtime.PositionLast},
				runtime.Span{Seq: a, Tokens: tokens[:100], Logits: runtime.PositionLast},
				runtime.Span{Seq: b, Tokens: ids(90, vocab, 4)})
			require.Equal(t, want[99*vocab:100*vocab], r[1].Logits)
			require.Len(t, r[0].Logits, vocab)
			require.Empty(t, r[2].Logits)

			// Forks share pages until they part, in both directions.
			for _, at := range []int{100, 64, 33} {
				a.Truncate(at)
				f := a.Fork()
				forward(t, e, runtime.Span{Seq: a, Tokens: ids(40, vocab, 5)})
				r = forward(t, e, runtime.Span{Seq: f, Tokens: tokens[at:], Logits: runtime.PositionLast})
				require.Equal(t, want[149*vocab:], r[0].Logits, "fork at %d", at)
				a.Close()
				a = f
			}
			// Truncate, and go on elsewhere.
			a.Truncate(10)
			r = forward(t, e, runtime.Span{Seq: a, Tokens: tokens[10:80], Logits: runtime.PositionLast})
			require.Equal(t, want[79*vocab:80*vocab], r[0].Logits)
		})
	}
}

func TestHiddenAndEmbeddings(t *testing.T) {
	m := tiny(t, "bitnet")
	hidden := m.Config.HiddenSize
	e := engine(t, m, runtime.Options{})
	tokens := ids(20, m.Config.VocabSize, 1)
	a, b := e.NewSequence(), e.NewSequence()
	r := forward(t, e, runtime.Span{Seq: a, Tokens: tokens, Logits: runtime.PositionAll, Hidden: runtime.PositionAll})[0]
	require.Len(t, r.Hidden, 20*hidden)
	last := forward(t, e, runtime.Span{Seq: b, Tokens: tokens, Hidden: runtime.PositionLast})[0]
	require.Empty(t, last.Logits)
	require.Equal(t, r.Hidden[19*hidden:], last.Hidden)

	// Embeddings given are the embeddings looked up.
	embed, ok := m.File().Tensor("embed.weight")
	require.True(t, ok)
	data, err := embed.Data()
	require.NoError(t, err)
	var rows []float32
	for _, id := range tokens {
		for i := range hidden {
			at := 2 * (id*hidden + i)
			rows = append(rows, math.Float32frombits(uint32(data[at])<<16|uint32(data[at+1])<<24))
		}
	}
	c := e.NewSequence()
	got := forward(t, e, runtime.Span{Seq: c, Embeddings: rows, Logits: runtime.PositionAll})[0]
	require.Equal(t, r.Logits, got.Logits)
}

func TestForwardErrorsLeaveSequencesAlone(t *testing.T) {
	m := tiny(t, "bitnet")
	e := engine(t, m, runtime.Options{Context: 100})
	other := engine(t, m, runtime.Options{})
	s := e.NewSequence()
	tokens := ids(90, m.Config.VocabSize, 1)
	forward(t, e, runtime.Span{Seq: s, Tokens: tokens[:50]})
	closed := e.NewSequence()
	closed.Close()
	nan := make([]float32, m.Config.HiddenSize)
	nan[3] = float32(math.NaN())
	for _, c := range []struct {
		spans []runtime.Span
		want  string
	}{
		{[]runtime.Span{{Seq: s, Tokens: ids(51, 97, 0)}}, "50 positions and 51 more do not fit in a context of 100"},
		{[]runtime.Span{{Seq: s, Tokens: []int{1, 97}}}, "token 1 is id 97, want 0 to 96"},
		{[]runtime.Span{{Seq: s, Tokens: []int{-1}}}, "token 0 is id -1"},
		{[]runtime.Span{{Seq: s, Tokens: []int{1}}, {Seq: s, Tokens: []int{1}}}, "two spans"},
		{[]runtime.Span{{Seq: s}}, "at least one token"},
		{[]runtime.Span{{Seq: s, Embeddings: make([]float32, 73)}}, "73 values are not whole embeddings of hidden_size 72"},
		{[]runtime.Span{{Seq: s, Tokens: []int{1}, Embeddings: make([]float32, 72)}}, "not both"},
		{[]runtime.Span{{Seq: s, Embeddings: nan}}, "layer 0"},
		{[]runtime.Span{{Seq: closed, Tokens: []int{1}}}, "closed"},
		{[]runtime.Span{{Seq: other.NewSequence(), Tokens: []int{1}}}, "another engine"},
	} {
		_, err := e.Forward(context.Background(), c.spans)
		require.ErrorContains(t, err, c.want)
		require.Equal(t, 50, s.Len())
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := e.Forward(ended, []runtime.Span{{Seq: s, Tokens: tokens[50:]}})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 50, s.Len())

	want := forward(t, other, runtime.Span{Seq: other.NewSequence(), Tokens: tokens, Logits: runtime.PositionLast})[0].Logits
	require.Equal(t, want, forward(t, e, runtime.Span{Seq: s, Tokens: tokens[50:], Logits: runtime.PositionLast})[0].Logits)
}

func TestEngineOptions(t *testing.T) {
	m := tiny(t, "bitnet")
	_, err := runtime.NewCPU(m, runtime.Options{Context: 301})
	require.ErrorContains(t, err, "context is 301, want 1 to 300")
	_, err = runtime.NewCPU(m, runtime.Options{Threads: -1})
	require.ErrorContains(t, err, "threads is -1")
	e := engine(t, m, runtime.Options{Context: 100})
	p := e.Plan()
	require.Equal(t, int64(2*2*12*2*4), p.PerToken, "layers x kv heads x head_dim x (key, value) x 4 bytes")
	require.Equal(t, 128*p.PerToken, p.Cache, "whole pages")
	require.Equal(t, "cpu/"+cpu.New().Name(), e.Name())
}

// TestManifest: a file whose directory does not fit its config is refused, every
// difference named.
func TestManifest(t *testing.T) {
	m := tiny(t, "bitnet")
	h := *m.File().Header()
	require.NoError(t, runtime.CheckManifest(&m.Config, &h))
	h.Tensors = append([]format.TensorInfo{}, h.Tensors...)
	h.Tensors[1].Name = "layers.0.attn_normal.weight"
	h.Tensors[2].Dims = []int{72, 73}
	h.Tensors[0].Encoding = format.Trit2
	err := runtime.CheckManifest(&m.Config, &h)
	require.ErrorContains(t, err, "tensor layers.0.attn_norm.weight is no such tensor")
	require.ErrorContains(t, err, "tensor layers.0.attn_normal.weight is a tensor that the config does not imply")
	require.ErrorContains(t, err, "shape [72 73], want [72 72]")
	require.ErrorContains(t, err, "encoding trit2, want f32, f16, bf16 or int8")
	require.Equal(t, format.ClassConfig, format.ClassOf(err))
}
