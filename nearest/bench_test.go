package nearest_test

import (
	"fmt"
	goruntime "runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/nearest"
)

// BenchmarkSearch finds the token nearest to one hidden state in the embedding
// matrix of the 7B shape, 65,536 x 4,096.
func BenchmarkSearch(b *testing.B) {
	const rows, cols = 65536, 4096
	for _, dtype := range []kernels.DType{kernels.BF16, kernels.I8} {
		var w *kernels.Dense
		var table *nearest.Table
		z := make([]float32, cols)
		for _, metric := range []nearest.Metric{nearest.Euclidean, nearest.Cosine} {
			for _, k := range []int{1, 8} {
				b.Run(fmt.Sprintf("%v/%v/k=%d", dtype, metric, k), func(b *testing.B) {
					if table == nil {
						w = randomTable(1, rows, cols, dtype)
						cpu.New().EmbedRow(z, w, 12345)
						var err error
						table, err = nearest.New(w, cpu.New(), nearest.Threads(goruntime.GOMAXPROCS(0), nil))
						require.NoError(b, err)
					}
					b.SetBytes(int64(len(w.Data)))
					for b.Loop() {
						found, err := table.Search(z, metric, k)
						require.NoError(b, err)
						require.Equal(b, 12345, found[0].ID)
					}
				})
			}
		}
	}
}
