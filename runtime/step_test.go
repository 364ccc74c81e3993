package runtime_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/runtime"
)

// synthetic opens a model of random weights.
func synthetic(t testing.TB, s synth.Shape, head format.Encoding) *runtime.Model {
	t.Helper()
	path := filepath.Join(t.TempDir(), "synthetic.trit")
	require.NoError(t, synth.WriteModel(path, s.Config(), head))
	f, err := format.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	return m
}

// small has sizes that every kernel likes.
var small = synth.Shape{Class: "BitNetForCausalLM", Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 512, Vocab: 96, Context: 2048, Tied: true}

const bf16 = format.BF16

// wide is two layers of the width of bitnet-b1.58-2B-4T.
var wide = synth.Shape{Class: "BitNetForCausalLM", Hidden: 2560, Layers: 2, Heads: 20, KVHeads: 5, Intermediate: 6912, Vocab: 160, Context: 64, Tied: true}

// TestWideModel: at the width of a real model, whose rows take several blocks of a
// sum, every implementation, number of threads and way to split the tokens gives
// the logits of the reference.
func TestWideModel(t *testing.T) {
	if runtime.RaceEnabled {
		t.Skip("minutes under the race detector, which TestLogitsDoNotDependOnSplitting serves")
	}
	m := synthetic(t, wide, format.BF16)
	tokens := ids(11, wide.Vocab, 3)
	run := func(e runtime.Engine, lengths ...int) (logits []float32) {
		s := e.NewSequence()
		defer s.Close()
		rest := tokens
		for len(rest) > 0 {
			n := min(lengths[0], len(rest))
			logits = append(logits, forward(t, e, runtime.Span{Seq: s, Tokens: rest[:n], Logits: runtime.PositionAll})[0].Logits...)
			rest = rest[n:]
			if len(lengths) > 1 {
				lengths = lengths[1:]
			}
		}
		return logits
	}
	want := run(engine(t, m, runtime.Options{Threads: 2, Kernels: ref.New()}), len(tokens))
	require.Len(t, want, len(tokens)*wide.Vocab)
	for _, ops := range cpu.Implementations() {
		if ops.Name() == "ref" && len(cpu.Implementations()) > 1 {
			continue // what it is compared with
		}
		for _, threads := range []int{1, 2, 3, 7} {
			e := engine(t, m, runtime.Options{Threads: threads, Kernels: ops})
			for _, lengths := range [][]int{{11}, {1}, {4, 3}, {9, 1}} {
				require.True(t, slices.Equal(want, run(e, lengths...)), "%s, %d threads, spans of %d", e.Name(), threads, lengths)
			}
		}
	}
}

// steps returns a function that decodes one token of each of n sequences, as a
// token loop does.
func steps(t testing.TB, e runtime.Engine, n int) func() {
	spans := make([]runtime.Span, n)
	token := []int{1}
	for i := range spans {
		spans[i] = runtime.Span{Seq: e.NewSequence(), Tokens: token, Logits: runtime.PositionLast}
	}
	var results []runtime.Result
	return func() {
		for i := range spans {
			if spans[i].Seq.Len() >= 60 { // stay inside a page: the next one would be allocated
				spans[i].Seq.Truncate(1)
			}
		}
		var err error
		if results, err = e.ForwardInto(context.Background(), spans, results); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStepsAllocateNothing: the decode of a token, alone or in a batch, with one
// thread or several, allocates nothing.
func TestStepsAllocateNothing(t *testing.T) {
	if len(cpu.Implementations()) == 1 {
		t.Skip("the reference kernels, the only ones here, allocate")
	}
	if runtime.RaceEnabled {
		t.Skip("sync.Pool allocates under the race detector")
	}
	options := []runtime.Options{{}, {Window: 40, Sinks: 4}}
	for _, f := range kernels.KVFormats {
		options = append(options, runtime.Options{KV: f, Window: 100, Sinks: 4})
	}
	for _, head := range []format.Encoding{format.BF16, format.Int8} {
		m := synthetic(t, small, head)
		for _, opt := range options {
			for _, opt.Threads = range []int{1, 2} {
				for _, n := range []int{1, 3} {
					step := steps(t, engine(t, m, opt), n)
					for range 70 {
						step()
					}
					require.Zero(t, testing.AllocsPerRun(100, step), "head %s, %d sequences, %+v", head, n, opt)
				}
			}
		}
	}
}

// BenchmarkStep decodes one token with two layers of the width of a 2B model.
func BenchmarkStep(b *testing.B) {
	m := synthetic(b, wide, format.BF16)
	for name, n := range map[string]int{"alone": 1, "batch of 8": 8} {
		b.Run(name, func(b *testing.B) {
			step := steps(b, engine(b, m, runtime.Options{}), n)
			for range 70 {
				step()
			}
			b.ReportAllocs()
			for b.Loop() {
				step()
			}
		})
	}
}
