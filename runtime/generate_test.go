package runtime_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

var greedy = runtime.Sampling{TopP: 1, RepetitionPenalty: 1}

func generate(t *testing.T, e runtime.Engine, requests ...runtime.Request) ([][]int, []runtime.Finish) {
	t.Helper()
	out := make([][]int, len(requests))
	finish, err := e.Generate(context.Background(), requests, func(i, id int) bool {
		out[i] = append(out[i], id)
		return true
	})
	require.NoError(t, err)
	return out, finish
}

func TestGenerateIsGreedyForward(t *testing.T) {
	m := tiny(t, "bitnet")
	e := engine(t, m, runtime.Options{})
	prompt := ids(10, m.Config.VocabSize, 1)
	out, finish := generate(t, e, runtime.Request{Tokens: prompt, MaxNewTokens: 20, Sampling: greedy})
	require.Equal(t, []runtime.Finish{runtime.FinishLength}, finish)
	require.Len(t, out[0], 20)
	s := e.NewSequence()
	feed := prompt
	for _, id := range out[0] {
		logits := forward(t, e, runtime.Span{Seq: s, Tokens: feed, Logits: runtime.PositionLast})[0].Logits
		for other, l := range logits {
			require.True(t, l < logits[id] || l == logits[id] && other >= id)
		}
		feed = []int{id}
	}
}

// TestBatchesDoNotMixSequences: a request gives the same tokens alone and beside
// others that begin, sample and end differently.
func TestBatchesDoNotMixSequences(t *testing.T) {
	m := tiny(t, "llama")
	e := engine(t, m, runtime.Options{Threads: 2})
	var requests []runtime.Request
	for i := range 5 {
		requests = append(requests, runtime.Request{Tokens: ids(3+20*i, m.Config.VocabSize, i), MaxNewTokens: 5 + 7*i,
			Sampling: runtime.Sampling{Temperature: 1, TopP: 0.95, RepetitionPenalty: 1.1, Seed: uint64(i)}})
	}
	together, _ := generate(t, e, requests...)
	for i, r := range requests {
		alone, _ := generate(t, e, r)
		require.Equal(t, alone[0], together[i])
		require.Len(t, alone[0], r.MaxNewTokens)
	}
}

func TestGenerateEnds(t *testing.T) {
	m := tiny(t, "bitnet")
	e := engine(t, m, runtime.Options{Context: 30})
	prompt := ids(10, m.Config.VocabSize, 1)
	full, finish := generate(t, e, runtime.Request{Tokens: prompt, MaxNewTokens: 1000, Sampling: greedy})
	require.Equal(t, runtime.FinishContext, finish[0])
	require.Len(t, full[0], 21, "twenty positions more, and the token after the last")

	drawn := runtime.Sampling{Temperature: 2, TopP: 1, RepetitionPenalty: 5, Seed: 3}
	full, _ = generate(t, e, runtime.Request{Tokens: prompt, MaxNewTokens: 1000, Sampling: drawn})
	first := 1
	for slices.Contains(full[0][:first], full[0][first]) {
		first++
	}
	eos := full[0][first]
	out, finish := generate(t, e, runtime.Request{Tokens: prompt, MaxNewTokens: 1000, Sampling: drawn, EOS: []int{eos}})
	require.Equal(t, runtime.FinishEOS, finish[0])
	require.Equal(t, full[0][:first], out[0], "the end token is not part of the text")

	n := 0
	finish, err := e.Generate(context.Background(), []runtime.Request{{Tokens: prompt, MaxNewTokens: 1000, Sampling: greedy}}, func(int, int) bool {
		n++
		return n < 3
	})
	require.NoError(t, err)
	require.Equal(t, runtime.FinishStopped, finish[0])
	require.Equal(t, 3, n)

	for want, r := range map[string]runtime.Request{
		"the prompt has no tokens":          {MaxNewTokens: 1, Sampling: greedy},
		"max_new_tokens must be at least 1": {Tokens: prompt, Sampling: greedy},
		"top_p must be in (0, 1]":           {Tokens: prompt, MaxNewTokens: 1, Sampling: runtime.Sampling{}},
		"token id 97 is outside":            {Tokens: []int{97}, MaxNewTokens: 1, Sampling: greedy},
		"31 more do not fit in a context":   {Tokens: ids(31, 97, 0), MaxNewTokens: 1, Sampling: greedy},
	} {
		_, err := e.Generate(context.Background(), []runtime.Request{r}, func(int, int) bool { return true })
		require.ErrorContains(t, err, want)
	}
}

func openDemo(t *testing.T) (*runtime.Model, *tokenizer.Tokenizer) {
	t.Helper()
	f, err := format.OpenBytes(demo.Model())
	require.NoError(t, err)
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	tok, err := m.Tokenizer()
	require.NoError(t, err)
	return m, tok
}

// TestGenerateText: the pieces together are the decoded tokens, a seed is a text,
// and stop strings cut where they begin, however tokens straddle them.
func TestGenerateText(t *testing.T) {
	m, tok := openDemo(t)
	e := engine(t, m, runtime.Options{})
	prompt, err := tok.Encode("func (b *Buffer) Write(", tokenizer.EncodeOptions{AddSpecial: true, Modality: tokenizer.Code})
	require.NoError(t, err)
	require.Equal(t, []int{1, 5}, prompt[:2])
	request := runtime.TextRequest{Tokens: prompt, MaxNewTokens: 40, EOS: m.Generation.EOS, Sampling: runtime.Sampling{Temperature: 0.7, TopP: 0.9, RepetitionPenalty: 1.1, Seed: 1}}
	run := func(r runtime.TextRequest) (string, runtime.TextStats) {
		var b strings.Builder
		stats, err := runtime.GenerateText(context.Background(), e, tok, r, func(piece string) bool {
			b.WriteString(piece)
			return true
		})
		require.NoError(t, err)
		return b.String(), stats
	}
	text, stats := run(request)
	require.Equal(t, 40, stats.NewTokens)
	require.Equal(t, len(prompt), stats.PromptTokens)
	require.Equal(t, runtime.FinishLength, stats.Finish)
	again, _ := run(request)
	require.Equal(t, text, again)

	for _, stop := range []string{text[20:26], text[7:30], text[40:41]} {
		r := request
		r.Stop = []string{"never there", stop}
		got, stats := run(r)
		before, _, found := strings.Cut(text, stop)
		require.True(t, found)
		require.Equal(t, before, got)
		require.Equal(t, runtime.FinishStopped, stats.Finish)
	}
	r := request
	r.Stop = []string{text[len(text)-3:] + "x"} // the end of the text begins this one
	got, _ := run(r)
	require.Equal(t, text, got)
}
