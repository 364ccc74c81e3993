package runtime

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels/optest"
)

// TestSamplingVectors draws the tokens of sampling.json of the numerics vectors.
func TestSamplingVectors(t *testing.T) {
	var list []struct {
		N, Shift, Equal, Position, Token int
		Seed                             uint32
		Penalty, Temperature             float64
		TopK                             int     `json:"top_k"`
		TopP                             float64 `json:"top_p"`
		MinP                             float64 `json:"min_p"`
		RandomSeed                       string  `json:"random_seed"`
	}
	optest.Vectors(t, "sampling", &list)
	require.NotEmpty(t, list)
	for _, v := range list {
		g := optest.Generator(v.Seed)
		logits := g.Floats(v.N, v.Shift)
		for i := range v.Equal {
			logits[i] = logits[0]
		}
		seen := map[int]bool{}
		for i := 0; i < v.N; i += 3 {
			seen[i] = true
		}
		seed, err := strconv.ParseUint(v.RandomSeed, 10, 64)
		require.NoError(t, err)
		s := &Sampling{Temperature: v.Temperature, TopP: v.TopP, TopK: v.TopK, MinP: v.MinP, RepetitionPenalty: v.Penalty, Seed: seed}
		got, err := s.Sample(logits, seen, v.Position)
		require.NoError(t, err)
		require.Equal(t, v.Token, got, fmt.Sprintf("%+v", v))
	}
}
