package runtime_test

import (
	"cmp"
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/nearest"
	"github.com/tritter-ai/tritter/runtime"
)

// embedding views the embedding matrix of a model.
func embedding(t *testing.T, m *runtime.Model) *kernels.Dense {
	t.Helper()
	x, ok := m.File().Tensor("embed.weight")
	require.True(t, ok)
	data, err := x.Data()
	require.NoError(t, err)
	scales, err := x.Scales()
	require.NoError(t, err)
	types := map[format.Encoding]kernels.DType{format.F32: kernels.F32, format.F16: kernels.F16, format.BF16: kernels.BF16, format.Int8: kernels.I8}
	return &kernels.Dense{Rows: m.Config.VocabSize, Cols: m.Config.HiddenSize, Type: types[x.Info().Encoding], Data: data, Scales: scales}
}

// withCodebook is a small model whose file holds a codebook of hidden states.
func withCodebook(t *testing.T, h codebook.Header) *runtime.Model {
	t.Helper()
	s := shapes["bitnet"]
	path := filepath.Join(t.TempDir(), "codes.safetensors")
	require.NoError(t, synth.WriteCodebook(path, h))
	s.opt.Codebooks = []string{path}
	f, err := format.Open(tinyFile(t, s.shape, s.storage, s.opt))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	return m
}

var hiddenCodes = codebook.Header{Kind: codebook.Embedding, Codes: 40, Dim: 72, FirstID: 11}

// The embedding of every token rounds to it, on every engine, and hidden states
// to the rows that a plain look at all of them finds, in float64.
func TestRounderFindsTheNearest(t *testing.T) {
	for name := range shapes {
		m := tiny(t, name)
		w := embedding(t, m)
		row := make([]float32, w.Cols)
		for _, ops := range cpu.Implementations() {
			e := engine(t, m, runtime.Options{Threads: 3, Kernels: ops})
			states, err := runtime.Embed(context.Background(), e, ids(20, m.Config.VocabSize, 3), true)
			require.NoError(t, err)
			for _, metric := range []nearest.Metric{nearest.Cosine, nearest.Euclidean} {
				r, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN, Metric: metric, K: 5, Temperature: 1})
				require.NoError(t, err)
				hard, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN, Metric: metric})
				require.NoError(t, err)
				for id := range w.Rows {
					ref.New().EmbedRow(row, w, id)
					got, err := hard.Round(row, 1, 2)
					require.NoError(t, err)
					require.Equal(t, id, got, "%s %v", name, metric)
				}
				for ; len(states) > 0; states = states[w.Cols:] {
					near, err := r.Neighbours(states[:w.Cols])
					require.NoError(t, err)
					want := plainNearest(w, states[:w.Cols], metric)[:5]
					var sum float64
					for i, n := range near {
						require.Equal(t, want[i].id, n.Token, "%s %v", name, metric)
						require.InDelta(t, want[i].value, n.Value, 1e-3*math.Abs(want[0].value)) // rounding of the sums
						sum += float64(n.Weight)
						require.True(t, i == 0 || n.Weight <= near[i-1].Weight)
					}
					require.InDelta(t, 1, sum, 1e-6) // five roundings
				}
				states, err = runtime.Embed(context.Background(), e, ids(20, m.Config.VocabSize, 4), true)
				require.NoError(t, err)
			}
		}
	}
}

type distance struct {
	id    int
	value float64
}

func plainNearest(w *kernels.Dense, z []float32, metric nearest.Metric) []distance {
	all := make([]distance, w.Rows)
	row := make([]float32, w.Cols)
	for id := range all {
		ref.New().EmbedRow(row, w, id)
		var apart, product, a, b float64
		for i := range row {
			d := float64(row[i]) - float64(z[i])
			apart += float64(d * d)
			product += float64(row[i]) * float64(z[i])
			a += float64(row[i]) * float64(row[i])
			b += float64(z[i]) * float64(z[i])
		}
		all[id] = distance{id, apart}
		if metric == nearest.Cosine {
			all[id].value = product / math.Sqrt(a*b)
		}
	}
	slices.SortStableFunc(all, func(x, y distance) int {
		if metric == nearest.Cosine {
			return cmp.Compare(y.value, x.value)
		}
		return cmp.Compare(x.value, y.value)
	})
	return all
}

// A soft rounder draws its K tokens, and about as often as their weights say.
func TestSoftRounding(t *testing.T) {
	m := tiny(t, "bitnet")
	e := engine(t, m, runtime.Options{})
	state, err := runtime.Embed(context.Background(), e, []int{1, 2, 3}, false)
	require.NoError(t, err)
	r, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN, Metric: nearest.Cosine, K: 4, Temperature: 0.2})
	require.NoError(t, err)
	near, err := r.Neighbours(state)
	require.NoError(t, err)
	count := map[int]int{}
	const draws = 2000
	for i := range draws {
		id, err := r.Round(state, 7, i)
		require.NoError(t, err)
		again, err := r.Round(state, 7, i)
		require.NoError(t, err)
		require.Equal(t, id, again)
		count[id]++
	}
	total := 0
	for _, n := range near {
		// Five standard deviations: one run in two million by chance, and the seed is fixed.
		require.InDelta(t, float64(n.Weight)*draws, count[n.Token], 5*math.Sqrt(draws*float64(n.Weight)))
		total += count[n.Token]
	}
	require.Equal(t, draws, total)
	cold, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN, K: 4})
	require.NoError(t, err)
	id, err := cold.Round(state, 7, 1)
	require.NoError(t, err)
	require.Equal(t, near[0].Token, id)
}

func TestVQRounding(t *testing.T) {
	m := withCodebook(t, hiddenCodes)
	book, err := m.Codebook(codebook.Embedding)
	require.NoError(t, err)
	e := engine(t, m, runtime.Options{})
	r, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundVQ})
	require.NoError(t, err)
	row := make([]float32, book.Dim)
	for code := range book.Codes {
		ref.New().EmbedRow(row, book.Rows(), code)
		row[0] += .01
		id, err := r.Round(row, 0, 0)
		require.NoError(t, err)
		require.Equal(t, 11+code, id)
	}
	_, err = m.Codebook(codebook.Image)
	require.EqualError(t, err, "the file holds no codebook of kind image; convert the checkpoint with tritter-convert --codebook FILE.safetensors, which stores one")
}

func TestRounderErrors(t *testing.T) {
	e := engine(t, tiny(t, "llama"), runtime.Options{})
	for want, opt := range map[string]runtime.RounderOptions{
		"k is -1, want at least 1":                      {Rounding: runtime.RoundKNN, K: -1},
		"temperature must be in [0, 2.0], got 3":        {Rounding: runtime.RoundKNN, Temperature: 3},
		`rounding "logits", want knn or vq`:             {Rounding: runtime.RoundLogits},
		"metric cosine with a codebook, want euclidean": {Rounding: runtime.RoundVQ, Metric: nearest.Cosine},
		"the file holds no codebook of kind embedding":  {Rounding: runtime.RoundVQ},
	} {
		_, err := runtime.NewEmbeddingRounder(e, opt)
		require.ErrorContains(t, err, want)
	}
	r, err := runtime.NewEmbeddingRounder(e, runtime.RounderOptions{Rounding: runtime.RoundKNN})
	require.NoError(t, err)
	_, err = r.Round(make([]float32, 3), 0, 0)
	require.ErrorContains(t, err, "a vector of 3 elements, want 48")
}
