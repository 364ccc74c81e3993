package runtime_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/nearest"
	"github.com/tritter-ai/tritter/runtime"
)

func latent(t *testing.T, e runtime.Engine, r runtime.LatentRequest) ([]int, runtime.Finish) {
	t.Helper()
	var out []int
	finish, err := runtime.GenerateLatent(context.Background(), e, r, func(id int) bool {
		out = append(out, id)
		return true
	})
	require.NoError(t, err)
	return out, finish
}

// Rounding each step by the head is the generation of transformers: the greedy
// tokens of the fixture, as far as its margins decide them.
func TestLatentWithoutStepsIsTokenGeneration(t *testing.T) {
	plan, err := convert.Open("../testdata/fixtures/tritter/model.safetensors", convert.Options{})
	require.NoError(t, err)
	defer plan.Close()
	path := filepath.Join(t.TempDir(), "tritter.trit")
	_, err = plan.Write(context.Background(), path, nil)
	require.NoError(t, err)
	f, err := format.Open(path)
	require.NoError(t, err)
	defer f.Close()
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	e := engine(t, m, runtime.Options{})
	data, err := os.ReadFile("../testdata/fixtures/tritter/expected.json")
	require.NoError(t, err)
	var want struct {
		Prompts []struct {
			IDs, Greedy []int
			Margin      []float64 `json:"greedy_margin"`
		}
	}
	require.NoError(t, json.Unmarshal(data, &want))
	require.NotEmpty(t, want.Prompts)
	for _, p := range want.Prompts {
		got, _ := latent(t, e, runtime.LatentRequest{Request: runtime.Request{Tokens: p.IDs, MaxNewTokens: len(p.Greedy), Sampling: greedy}})
		for i, id := range p.Greedy {
			if p.Margin[i] < 1e-3 { // the logits agree to 1e-4 of their spread
				break
			}
			require.Equal(t, id, got[i], "step %d", i)
		}
	}
	for name := range shapes {
		m := tiny(t, name)
		e := engine(t, m, runtime.Options{Threads: 2})
		for _, s := range []runtime.Sampling{greedy, {Temperature: 0.9, TopP: 0.95, RepetitionPenalty: 1.2, Seed: 5}} {
			request := runtime.Request{Tokens: ids(7, m.Config.VocabSize, 1), MaxNewTokens: 15, EOS: []int{3}, Sampling: s}
			want, finish := generate(t, e, request)
			got, end := latent(t, e, runtime.LatentRequest{Request: request})
			require.Equal(t, want[0], got)
			require.Equal(t, finish[0], end)
		}
	}
}

// The loop is the one of the specification, position by position.
func TestLatentSteps(t *testing.T) {
	for name := range shapes {
		m := tiny(t, name)
		e := engine(t, m, runtime.Options{Threads: 2})
		other := engine(t, m, runtime.Options{Threads: 1})
		prompt := ids(9, m.Config.VocabSize, 2)
		sampling := runtime.Sampling{Temperature: 0.8, TopP: 0.9, RepetitionPenalty: 1.3, Seed: 11}
		soft, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN, Metric: nearest.Euclidean, K: 6, Temperature: 1})
		require.NoError(t, err)
		for _, steps := range []int{0, 1, 3} {
			for _, rounder := range []*runtime.EmbeddingRounder{nil, soft} {
				if steps == 0 && rounder == nil {
					continue // ordinary generation
				}
				got, finish := latent(t, e, runtime.LatentRequest{Request: runtime.Request{Tokens: prompt, MaxNewTokens: 12, Sampling: sampling}, LatentSteps: steps, Rounder: rounder})
				require.Equal(t, runtime.FinishLength, finish)
				require.Len(t, got, 12)

				// The same with one position a call, and the state asked for apart.
				s := other.NewSequence()
				seen := map[int]bool{}
				var result runtime.Result
				feed := func(sp runtime.Span) {
					sp.Seq, sp.Hidden, sp.Logits = s, runtime.PositionLast, runtime.PositionLast
					result = forward(t, other, sp)[0]
				}
				for _, id := range prompt {
					feed(runtime.Span{Tokens: []int{id}})
					seen[id] = true
				}
				for n, want := range got {
					for range steps {
						feed(runtime.Span{Embeddings: result.Hidden})
					}
					require.Equal(t, len(prompt)+n*(steps+1)+steps, s.Len())
					var id int
					if rounder == nil {
						id, err = sampling.Sample(result.Logits, seen, s.Len())
					} else {
						id, err = rounder.Round(result.Hidden, sampling.Seed, s.Len())
					}
					require.NoError(t, err)
					require.Equal(t, want, id, "%s, %d steps, token %d", name, steps, n)
					seen[id] = true
					feed(runtime.Span{Tokens: []int{id}})
				}
				s.Close()
			}
		}
	}
}

func TestLatentEnds(t *testing.T) {
	m := tiny(t, "bitnet")
	e := engine(t, m, runtime.Options{Context: 30})
	request := runtime.LatentRequest{Request: runtime.Request{Tokens: ids(5, m.Config.VocabSize, 1), MaxNewTokens: 100, Sampling: greedy}, LatentSteps: 2}
	all, finish := latent(t, e, request)
	require.Equal(t, runtime.FinishContext, finish)
	require.Len(t, all, 8) // 5 + 2, and then three positions a token up to 28
	request.EOS = []int{all[3]}
	cut := 0
	for all[cut] != all[3] {
		cut++
	}
	got, finish := latent(t, e, request)
	require.Equal(t, runtime.FinishEOS, finish)
	require.Equal(t, all[:cut], append([]int{}, got...))
	request.EOS = nil
	finish, err := runtime.GenerateLatent(context.Background(), e, request, func(int) bool { return false })
	require.NoError(t, err)
	require.Equal(t, runtime.FinishStopped, finish)

	// A sequence of the caller's goes on where it was and stays open.
	seq := e.NewSequence()
	defer seq.Close()
	forward(t, e, runtime.Span{Seq: seq, Tokens: request.Tokens[:3]})
	request.Seq, request.Tokens, request.MaxNewTokens = seq, request.Tokens[3:], 2
	got, _ = latent(t, e, request)
	require.Equal(t, all[:2], got)
	require.Equal(t, 5+2+3, seq.Len())

	for want, change := range map[string]func(*runtime.LatentRequest){
		"latent_steps is -1, want 0 or more":         func(r *runtime.LatentRequest) { r.LatentSteps = -1 },
		"the prompt has no tokens":                   func(r *runtime.LatentRequest) { r.Tokens = nil },
		"max_new_tokens must be at least 1, got 0":   func(r *runtime.LatentRequest) { r.MaxNewTokens = 0 },
		"token id 97 is outside the vocabulary, wan": func(r *runtime.LatentRequest) { r.Penalized = []int{97} },
		"temperature must be in":                     func(r *runtime.LatentRequest) { r.Sampling.Temperature = -1 },
		"do not fit in a context of 30":              func(r *runtime.LatentRequest) { r.Tokens = ids(29, 97, 1) },
	} {
		bad := request
		bad.Seq = nil
		change(&bad)
		_, err := runtime.GenerateLatent(context.Background(), e, bad, func(int) bool { return true })
		require.ErrorContains(t, err, want)
	}
}
