package cuda_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/internal/emulator"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda"
	"github.com/tritter-ai/tritter/kernels/optest"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// impl is the device where it has an operation, and the reference for the rest.
type impl struct {
	reference
	*cuda.Ops
}

// reference are the operations that the device does not have as kernels.Ops has them. Its attention is held to that of the device.
type reference struct {
	t      *testing.T
	ops    kernels.Ops
	device *cuda.Ops
}

func newImpl(t *testing.T, device *cuda.Ops) impl {
	return impl{reference{t, ref.New(), device}, device}
}

func (r reference) DotInt16(y []int32, rows []int8, x []int16, lo, hi int) {
	r.ops.DotInt16(y, rows, x, lo, hi)
}

// Attention is that of the reference. Where there is no window, it also compares what the device makes of all chunks.
func (r reference) Attention(parts []float32, a *kernels.Queries, lo, hi int) {
	r.ops.Attention(parts, a, lo, hi)
	if a.Window > 0 || lo > 0 {
		return
	}
	d, n := a.Pages[0].HeadDim, a.Rows*a.Heads
	size := kernels.AttentionPart(d)
	whole, want, got := make([]float32, n*size), make([]float32, n*d), make([]float32, n*d)
	r.ops.Attention(whole, a, 0, a.Chunks())
	for i := range n {
		r.ops.MergeAttention(want[i*d:][:d], whole[i*size:], n*size, 1)
	}
	for _, apart := range []bool{false, true} {
		if apart && a.Pages[0].Format == kernels.KVF32 {
			continue
		}
		r.device.Attend(got, a, apart)
		for i := range want {
			if g, w := got[i], want[i]; math.Float32bits(g) != math.Float32bits(w) && (g == g || w == w) {
				r.t.Errorf("attention of %d rows to position %d, %v, apart %v: element %d is %v, want %v", a.Rows, a.Pos+a.Rows-1, a.Pages[0].Format, apart, i, g, w)
				return
			}
		}
	}
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
		optest.Run(t, newImpl(t, ops))
		for _, tokens := range []int{64, 128, 160} {
			d.SetPart(tokens)
			t.Run(fmt.Sprintf("parts of %d", tokens), func(t *testing.T) { optest.Products(t, newImpl(t, ops), tokens == 64) })
		}
		d.Portable()
		t.Run("portable", func(t *testing.T) { optest.Run(t, newImpl(t, ops)) })
	})
}
