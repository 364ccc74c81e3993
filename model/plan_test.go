package model_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/model"
)

const gb = 1_000_000_000

// TestPlan7B holds what the 7B shape was chosen for: 131,072 positions beside the
// weights in half of a 16 GB card, which 32 key-value heads would overflow.
func TestPlan7B(t *testing.T) {
	c, err := model.Preset("7B")
	require.NoError(t, err)
	opt := model.PlanOptions{Context: 131072, KV: model.KVInt4, Batch: 1}
	p, err := c.Plan(opt)
	require.NoError(t, err)
	require.LessOrEqual(t, p.Total, int64(8*gb))
	require.True(t, p.Fits(16*gb))
	require.Equal(t, int64(32*(8*128+8*4+4)), p.PerPosition, "by hand: two half bytes an element, 4 bytes a key head, 4 for the values")
	require.Equal(t, 131072*p.PerPosition, p.Cache)
	require.InEpsilon(t, 2.49e9, float64(p.Weights), 0.01, "5.67 G weights in 2 bits, two tables in bf16")
	require.Equal(t, p.Weights+p.Cache+p.Activations, p.Total)
	require.Less(t, p.Activations, int64(gb/10))

	c.NumKVHeads = 32
	p, err = c.Plan(opt)
	require.NoError(t, err)
	require.False(t, p.Fits(16*gb))
	n, err := c.LargestContext(opt, 16*gb)
	require.NoError(t, err)
	require.Greater(t, n, 65536)
	require.Less(t, n, 131072)
}

// TestPlanGrows: a plan never shrinks as it is asked for more, and the largest
// context and batch are the last that fit.
func TestPlanGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := model.Preset(rapid.SampledFrom(model.Presets()).Draw(t, "preset"))
		require.NoError(t, err)
		opt := model.PlanOptions{
			Context: rapid.IntRange(1, c.MaxPositionEmbeddings).Draw(t, "context"), Batch: rapid.IntRange(1, 64).Draw(t, "batch"),
			KV: rapid.SampledFrom(model.KVFormats()).Draw(t, "kv"), Head: rapid.SampledFrom([]string{"", "bf16", "f16", "f32", "int8", "ternary"}).Draw(t, "head"),
		}
		p, err := c.Plan(opt)
		require.NoError(t, err)
		require.Zero(t, p.Cache%(model.PageLen*p.PerPosition*int64(opt.Batch)), "whole pages")
		memory := rapid.Int64Range(0, 200*gb).Draw(t, "memory")
		for _, x := range []struct {
			largest func(model.PlanOptions, int64) (int, error)
			limit   int
			set     func(*model.PlanOptions, int)
		}{
			{c.LargestContext, c.MaxPositionEmbeddings, func(o *model.PlanOptions, n int) { o.Context = n }},
			{c.LargestBatch, model.MaxBatch, func(o *model.PlanOptions, n int) { o.Batch = n }},
		} {
			n, err := x.largest(opt, memory)
			require.NoError(t, err)
			fits := func(n int) bool {
				o := opt
				x.set(&o, n)
				p, err := c.Plan(o)
				require.NoError(t, err)
				return p.Fits(memory)
			}
			require.True(t, n == 0 || fits(n))
			require.True(t, n == x.limit || !fits(n+1))
		}
	})
}

func TestPlanRefuses(t *testing.T) {
	c, err := model.Preset("test")
	require.NoError(t, err)
	for want, opt := range map[string]model.PlanOptions{
		"context is 131073, want 1 to 131072, the model's max_position_embeddings": {Context: 131073},
		"context is -1":                {Context: -1},
		"batch is -2, want 1 to 65536": {Batch: -2},
		`kv is "int2", want one of ["f32" "f16" "int8" "int4"]`: {KV: "int2"},
		"weights is -1 bytes": {Weights: -1},
		`head is "trit3", want bf16, f16, f32, int8 or ternary`: {Head: "trit3"},
	} {
		_, err := c.Plan(opt)
		require.ErrorContains(t, err, want)
	}
	_, err = c.LargestContext(model.PlanOptions{Batch: -1}, gb)
	require.ErrorContains(t, err, "batch is -1")
	_, err = c.LargestBatch(model.PlanOptions{Context: -1}, gb)
	require.ErrorContains(t, err, "context is -1")

	// The greatest shape that a Config allows does not overflow.
	c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim, c.MaxPositionEmbeddings = 4096, 4096, 4096, 4096, model.MaxPosition
	c.Norms = []model.NormPosition{}
	p, err := c.Plan(model.PlanOptions{Batch: model.MaxBatch, Weights: math.MaxInt64 / 2})
	require.NoError(t, err)
	require.Equal(t, int64(math.MaxInt64), p.Total)
	require.False(t, p.Fits(math.MaxInt64-1))
}
