package runtime_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
)

// filterable has a vocabulary of which few tokens survive.
var filterable = synth.Shape{Class: "BitNetForCausalLM", Hidden: 200, Layers: 1, Heads: 4, KVHeads: 2, HeadDim: 48, Intermediate: 256, Vocab: 2001, Context: 256, Tied: true}

// TestFilterIsExact: with a filter before the head, greedy and top-k sampling give
// the tokens of the whole head, whatever the penalty and the cuts after top-k.
func TestFilterIsExact(t *testing.T) {
	for _, head := range []format.Encoding{format.BF16} {
		m := synthetic(t, filterable, head)
		for _, threads := range []int{1, 3} {
			whole, filtered := engine(t, m, runtime.Options{Threads: threads}), engine(t, m, runtime.Options{Threads: threads, Filter: true})
			for i, s := range []runtime.Sampling{
				greedy,
				{TopP: 1, RepetitionPenalty: 3},
				{TopP: 1, RepetitionPenalty: 0.5},
				{Temperature: 1.5, TopK: 5, TopP: 1, RepetitionPenalty: 1, Seed: 1},
				{Temperature: 0.7, TopK: 40, TopP: 0.8, MinP: 0.01, RepetitionPenalty: 1.3, Seed: 2},
				{Temperature: 2, TopK: 1, TopP: 1, RepetitionPenalty: 1, Seed: 3},
			} {
				r := runtime.Request{Tokens: ids(5, filterable.Vocab, i), MaxNewTokens: 12, Sampling: s}
				want, _ := generate(t, whole, r)
				got, _ := generate(t, filtered, r)
				require.Equal(t, want, got, "head %s, %d threads, %+v", head, threads, s)
			}
		}
	}
}

// TestFilterLeavesOut: the logits that stay are those of the head, to the bit, with
// the greatest among them; the others are absent, and are most of them.
func TestFilterLeavesOut(t *testing.T) {
	m := synthetic(t, filterable, format.BF16)
	whole, filtered := engine(t, m, runtime.Options{}), engine(t, m, runtime.Options{Filter: true})
	for seed := range 10 {
		tokens := ids(3, filterable.Vocab, seed)
		want := forward(t, whole, runtime.Span{Seq: whole.NewSequence(), Tokens: tokens, Logits: runtime.PositionLast})[0]
		require.False(t, want.Filtered)
		r := forward(t, filtered, runtime.Span{Seq: filtered.NewSequence(), Tokens: tokens, Logits: runtime.PositionLast, Top: 7, Keep: map[int]bool{9: true}})[0]
		require.True(t, r.Filtered)
		left := 0
		for id, l := range r.Logits {
			if !math.IsInf(float64(l), -1) {
				require.Equal(t, math.Float32bits(want.Logits[id]), math.Float32bits(l), "token %d", id)
				left++
			}
		}
		require.Less(t, left, filterable.Vocab/16)
		require.Equal(t, want.Logits[9], r.Logits[9], "a token to keep")
		order := slices.Clone(want.Logits)
		slices.Sort(order)
		for id, l := range want.Logits {
			if l >= order[len(order)-7] {
				require.Equal(t, l, r.Logits[id], "one of the seven greatest is missing")
			}
		}
		all := forward(t, filtered, runtime.Span{Seq: filtered.NewSequence(), Tokens: tokens, Logits: runtime.PositionLast})[0]
		require.False(t, all.Filtered)
		require.Equal(t, want.Logits, all.Logits)
	}
	s := greedy
	require.False(t, runtime.UseFilter(m, &s, 1000), "the vocabulary is small")
	_, err := runtime.NewCPU(synthetic(t, filterable, format.Int8), runtime.Options{Filter: true})
	require.ErrorContains(t, err, "this model's is int8")
	require.Greater(t, filtered.Plan().Loaded, whole.Plan().Loaded)
}

// TestFilterGivesUp: where too many rows survive, the whole head is used.
func TestFilterGivesUp(t *testing.T) {
	m := synthetic(t, small, format.BF16)
	e := engine(t, m, runtime.Options{Filter: true})
	seq := e.NewSequence()
	for range 6 {
		r := forward(t, e, runtime.Span{Seq: seq, Tokens: []int{1}, Logits: runtime.PositionLast, Top: 50})
		require.False(t, r[0].Filtered, "50 of 96 tokens are more than a sixteenth")
	}
}
