package runtime_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/runtime"
)

// TestPerplexity holds Perplexity to its definition, token by token.
func TestPerplexity(t *testing.T) {
	m := tiny(t, "bitnet")
	tokens := ids(120, m.Config.VocabSize, 3)
	for _, c := range []struct{ context, stride, effective int }{{300, 0, 150}, {40, 0, 20}, {40, 7, 7}, {70, 69, 69}, {2, 1, 1}, {120, 5, 5}} {
		e := engine(t, m, runtime.Options{Context: c.context})
		nats := 0.0
		for i := 1; i < len(tokens); i++ {
			lo := 0
			for lo+c.context <= i {
				lo += c.effective
			}
			seq := e.NewSequence()
			logits := forward(t, e, runtime.Span{Seq: seq, Tokens: tokens[lo:i], Logits: runtime.PositionLast})[0].Logits
			seq.Close()
			sum := 0.0
			for _, v := range logits {
				sum += math.Exp(float64(v))
			}
			nats += math.Log(sum) - float64(logits[tokens[i]])
		}
		done := 0
		r, err := runtime.Perplexity(context.Background(), e, tokens, runtime.PerplexityOptions{Stride: c.stride, Progress: func(n int) {
			require.Greater(t, n, done)
			done = n
		}})
		require.NoError(t, err)
		require.Equal(t, len(tokens)-1, r.Tokens)
		require.Equal(t, len(tokens)-1, done)
		require.InDelta(t, nats/float64(r.Tokens), r.NatsPerToken, 1e-9, "%+v", c)
		require.InDelta(t, math.Exp(r.NatsPerToken), r.Perplexity, 1e-9)
		require.Nil(t, r.LogitMax)
	}
	e := engine(t, m, runtime.Options{Context: 50})
	for want, opt := range map[string]runtime.PerplexityOptions{
		"stride is 50, want 1 to 49, one less than the context":    {Stride: 50},
		"stride is -1, want 1 to 49, one less than the context":    {Stride: -1},
		"the reference has a context of 49, want 50 as the engine": {Reference: engine(t, m, runtime.Options{Context: 49})},
	} {
		_, err := runtime.Perplexity(context.Background(), e, tokens, opt)
		require.EqualError(t, err, want)
	}
	_, err := runtime.Perplexity(context.Background(), e, tokens[:1], runtime.PerplexityOptions{})
	require.ErrorContains(t, err, "1 tokens, want at least 2")
}

// Every format's logits are compared with those of f32, and coarser formats are
// farther off.
func TestPerplexityReference(t *testing.T) {
	m := tiny(t, "bitnet")
	tokens := ids(120, m.Config.VocabSize, 3)
	exact := engine(t, m, runtime.Options{})
	before := -1.0
	for _, f := range kernels.KVFormats {
		r, err := runtime.Perplexity(context.Background(), engine(t, m, runtime.Options{KV: f}), tokens, runtime.PerplexityOptions{Reference: exact})
		require.NoError(t, err)
		require.Greater(t, *r.LogitRMS, before, "%v", f)
		require.GreaterOrEqual(t, *r.LogitMax, *r.LogitRMS)
		require.Equal(t, *r.LogitRMS == 0, f == kernels.KVF32)
		require.Equal(t, *r.Reference == r.NatsPerToken, f == kernels.KVF32)
		before = *r.LogitRMS
	}
}
