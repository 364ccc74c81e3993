package cuda_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/internal/emulator"
	"github.com/tritter-ai/tritter/kernels/cuda"
	"github.com/tritter-ai/tritter/kernels/optest"
)

func TestOps(t *testing.T) {
	emulator.Run(t, func(t *testing.T) {
		d, err := cuda.Open(0)
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		ops, err := cuda.NewOps(d)
		require.NoError(t, err)
		optest.Run(t, ops)
	})
}
