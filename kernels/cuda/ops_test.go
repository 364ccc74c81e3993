package cuda_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/internal/emulator"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda"
	"github.com/tritter-ai/tritter/kernels/optest"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// impl is the device where it has an operation, and the reference for the rest, which TestCUDA of package runtime
// compares through the engine: attention and the storing of keys and values.
type impl struct {
	reference
	*cuda.Ops
}

// reference are the operations that the device does not have one by one.
type reference struct{ ops kernels.Ops }

func (r reference) DotInt16(y []int32, rows []int8, x []int16, lo, hi int) {
	r.ops.DotInt16(y, rows, x, lo, hi)
}
func (r reference) StoreKV(p *kernels.Page, slot int, k, v []float32) error {
	return r.ops.StoreKV(p, slot, k, v)
}
func (r reference) Attention(parts []float32, a *kernels.Queries, lo, hi int) {
	r.ops.Attention(parts, a, lo, hi)
}
func (r reference) MergeAttention(out, parts []float32, stride, n int) {
	r.ops.MergeAttention(out, parts, stride, n)
}

func TestOps(t *testing.T) {
	emulator.Run(t, func(t *testing.T) {
		d, err := cuda.Open(0)
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		ops, err := cuda.NewOps(d)
		require.NoError(t, err)
		optest.Run(t, impl{reference{ref.New()}, ops})
		for _, tokens := range []int{64, 128, 160} {
			d.SetPart(tokens)
			t.Run(fmt.Sprintf("parts of %d", tokens), func(t *testing.T) { optest.Products(t, impl{reference{ref.New()}, ops}) })
		}
		d.Portable()
		t.Run("portable", func(t *testing.T) { optest.Run(t, impl{reference{ref.New()}, ops}) })
	})
}
