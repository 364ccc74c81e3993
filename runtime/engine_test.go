package runtime_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/runtime"
)

// TestLogitsDoNotDependOnSplitting is the promise of the package: however tokens
// are split into calls, batches, forks and threads, every logit has the same bits.
func TestLogitsDoNotDependOnSplitting(t *testing.T) {
	for name := range shapes {
		t.Run(name, func(t *testing.T) { splitting(t, name, runtime.Options{}, 1, 3, 63, 64, 65, 129) })
	}
	for name, opt := range map[string]runtime.Options{
		"f16":         {KV: kernels.KVF16},
		"int8":        {KV: kernels.KVInt8},
		"int4":        {KV: kernels.KVInt4},
		"window":      {Window: 40, Sinks: 3},
		"window int4": {KV: kernels.KVInt4, Window: 23, Sinks: 70},
		"window of 1": {Window: 1},
	} {
		t.Run(name, func(t *testing.T) { splitting(t, "bitnet", opt, 1, 65) })
	}
}

func splitting(t *testing.T, name string, opt runtime.Options, steps ...int) {
	m := tiny(t, name)
	vocab := m.Config.VocabSize
	with := func(threads int, ops kernels.Ops) runtime.Engine {
		o := opt
		o.Threads, o.Kernels = threads, ops
		return engine(t, m, o)
	}
	tokens := ids(150, vocab, 1)
	judge, counts := kernels.Ops(ref.New()), []int{1, 2, 3, 7}
	if runtime.RaceEnabled { // plain Go takes minutes under the detector, and races are not about kernels
		judge, counts = cpu.New(), []int{3}
	}
	one := with(2, judge)
	seq := one.NewSequence()
	want := forward(t, one, runtime.Span{Seq: seq, Tokens: tokens, Logits: runtime.PositionAll})[0].Logits
	require.Len(t, want, len(tokens)*vocab)
	require.Equal(t, len(tokens), seq.Len())

	var fast []runtime.Engine
	for i, threads := range counts {
		for _, ops := range cpu.Implementations() {
			if (i == 0 || ops.Name() != "ref") && (!runtime.RaceEnabled || ops.Name() == judge.Name()) {
				fast = append(fast, with(threads, ops))
			}
		}
	}
	for _, e := range fast {
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
	e := with(2, nil)
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
		rewind(t, e, a, tokens, at)
		f := a.Fork()
		forward(t, e, runtime.Span{Seq: a, Tokens: ids(40, vocab, 5)})
		r = forward(t, e, runtime.Span{Seq: f, Tokens: tokens[at:], Logits: runtime.PositionLast})
		require.Equal(t, want[149*vocab:], r[0].Logits, "fork at %d", at)
		a.Close()
		a = f
	}
	// Truncate, and go on elsewhere.
	rewind(t, e, a, tokens, 10)
	r = forward(t, e, runtime.Span{Seq: a, Tokens: tokens[10:80], Logits: runtime.PositionLast})
	require.Equal(t, want[79*vocab:80*vocab], r[0].Logits)
}

// rewind truncates s, which begins with tokens, to n positions, by way of none where
// a window has let go of what those need.
func rewind(t *testing.T, e runtime.Engine, s runtime.Sequence, tokens []int, n int) {
	if n >= s.Oldest() {
		s.Truncate(n)
		return
	}
	require.Panics(t, func() { s.Truncate(n) })
	s.Truncate(0)
	forward(t, e, runtime.Span{Seq: s, Tokens: tokens[:n]})
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
	for want, opt := range map[string]runtime.Options{
		"KV format is 9, want KVF32, KVF16, KVInt8 or KVInt4":                                                  {KV: 9},
		"window is -1 with 0 sinks, want 0 or more of both":                                                    {Window: -1},
		"sinks is 4 without a window; set a window, or no sinks":                                               {Sinks: 4},
		"a window of 297 and 4 sinks are 301 positions, want at most 300, the model's max_position_embeddings": {Window: 297, Sinks: 4},
		"context is 16777217, want 1 to 16777216, the greatest position there is":                              {Window: 10, Context: 1<<24 + 1},
	} {
		_, err := runtime.NewCPU(m, opt)
		require.EqualError(t, err, want)
	}
	e := engine(t, m, runtime.Options{Context: 100})
	p := e.Plan()
	require.Equal(t, int64(2*2*12*2*4), p.PerToken, "layers x kv heads x head_dim x (key, value) x 4 bytes")
	require.Equal(t, 128*p.PerToken, p.Cache, "whole pages")
	require.Equal(t, "f32", p.KV)
	require.Equal(t, "cpu/"+cpu.New().Name(), e.Name())

	p = engine(t, m, runtime.Options{KV: kernels.KVInt4, Window: 100, Sinks: 4}).Plan()
	require.Equal(t, int64(2*(2*(12+4)+4)), p.PerToken, "layers x (kv heads x (key, value and two f16) and two f16)")
	require.Equal(t, 1<<24, p.Context)
	require.Less(t, p.Cache, 64*10*p.PerToken)
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
