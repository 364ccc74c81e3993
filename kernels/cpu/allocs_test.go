package cpu_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
)

// ragged returns a number of columns that do not fill a tile. NEON leaves what does
// not fill its lanes to the reference, which allocates.
func ragged(ops kernels.Ops) int {
	if ops.Name() == "neon" {
		return kernels.Lanes
	}
	return 68
}

// TestNoAllocations: once an implementation has its scratch memory, no operation allocates, whatever the shape.
func TestNoAllocations(t *testing.T) {
	const headDim, positions = 128, 130
	for _, ops := range cpu.Implementations()[1:] {
		for _, cols := range []int{2560, 2560 + ragged(ops)} {
			x, y, out := make([]float32, 9*cols), make([]float32, 9*cols), make([]float32, 9*64)
			weight := make([]float32, cols)
			for i := range x {
				x[i] = float32(i%17) - 8
			}
			for i := range weight {
				weight[i] = 1
			}
			var queries []*kernels.Queries
			for _, f := range kernels.KVFormats {
				for _, rows := range []int{1, 3} {
					q := &kernels.Queries{Q: x, Stride: 2 * headDim, Rows: rows, Heads: 2, Pos: positions}
					for range q.Chunks() {
						q.Pages = append(q.Pages, kernels.NewPage(f, 1, headDim))
					}
					queries = append(queries, q)
				}
			}
			parts := make([]float32, 3*2*kernels.AttentionPart(headDim))
			norms := []*kernels.Norm{nil, {Kind: kernels.RMS, Weight: weight}, {Kind: kernels.Layer, Weight: weight}, {Kind: kernels.Layer, Weight: weight, Bias: weight}}
			var matrices []*kernels.Ternary
			for _, group := range []int{0, 256} {
				w := &kernels.Ternary{Rows: 64, Cols: cols, Group: group, Tiles: make([]byte, kernels.TernaryBytes(64, cols)), Scales: make([]float32, 64)}
				if group > 0 {
					w.Scales = make([]float32, 64*w.Groups())
				}
				matrices = append(matrices, w)
			}
			var dense []*kernels.Dense
			for _, dt := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16, kernels.I8} {
				w := &kernels.Dense{Rows: 64, Cols: cols, Type: dt, Data: make([]byte, 64*cols*dt.Size())}
				if dt == kernels.I8 {
					w.Scales = make([]float32, 64)
				}
				dense = append(dense, w)
			}
			acts := make([]kernels.Acts, 0, 2)
			for _, m := range []int{1, 9} {
				a := kernels.Acts{}
				a.Resize(m, cols)
				acts = append(acts, a)
			}
			allocs := testing.AllocsPerRun(3, func() {
				for _, n := range norms {
					if n != nil {
						if err := ops.Norm(y[:cols], x[:cols], n); err != nil {
							panic(err)
						}
					}
					for i := range acts {
						for m := range acts[i].M {
							a, err := ops.NormQuant(acts[i].Token(m), x[m*cols:(m+1)*cols], n)
							if err != nil {
								panic(err)
							}
							acts[i].Max[m] = a
						}
					}
				}
				for _, w := range matrices {
					for i := range acts {
						ops.TernaryInt8(out, w.Rows, w, &acts[i], 0, w.Rows)
						ops.TernaryFloat(out, w.Rows, w, x, acts[i].M, cols, 0, w.Rows)
					}
				}
				for _, w := range dense {
					ops.Dense(out, w.Rows, w, x, 1, cols, 0, w.Rows)
					ops.Dense(out, w.Rows, w, x, 9, cols, 0, w.Rows)
					ops.EmbedRow(y[:cols], w, 3)
				}
				ops.Rope(y[:cols/headDim*headDim], headDim, weight[:headDim/2], weight[:headDim/2])
				ops.Gate(y, x, x, kernels.SiLU)
				ops.Gate(y, x, x, kernels.ReLU2)
				ops.Add(y, x)
				for _, q := range queries {
					if err := ops.StoreKV(q.Pages[0], 5, x[:headDim], x[:headDim]); err != nil {
						panic(err)
					}
					parts := parts[:q.Rows*q.Heads*kernels.AttentionPart(headDim)]
					ops.Attention(parts, q, 0, q.Chunks())
					ops.MergeAttention(out[:headDim], parts, kernels.AttentionPart(headDim), 1)
				}
			})
			require.Zero(t, math.Floor(allocs), "%s, %d columns", ops.Name(), cols)
		}
	}
}
