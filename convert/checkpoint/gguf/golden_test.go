package gguf_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
)

// TestLlamaQuantize reads files that llama.cpp wrote (docs/gguf.md): the same model
// in both ternary types.
func TestLlamaQuantize(t *testing.T) {
	one, err := gguf.Open("testdata/llama-quantize-tq1_0.gguf")
	require.NoError(t, err)
	defer one.Close()
	two, err := gguf.Open("testdata/llama-quantize-tq2_0.gguf")
	require.NoError(t, err)
	defer two.Close()
	require.Equal(t, "llama", one.Metadata()["general.architecture"])
	require.Len(t, one.Tensors(), 11)
	ternary := 0
	for _, a := range one.Tensors() {
		b, ok := two.Lookup(a.Name)
		require.True(t, ok)
		require.Equal(t, a.Shape, b.Shape)
		typA, _ := gguf.TypeOf(a.DType)
		typB, _ := gguf.TypeOf(b.DType)
		dataA, dataB := make([]byte, a.Size), make([]byte, b.Size)
		_, err := a.ReadAt(dataA, 0)
		require.NoError(t, err)
		_, err = b.ReadAt(dataB, 0)
		require.NoError(t, err)
		if typA != gguf.TQ1 {
			require.Equal(t, typA, typB)
			require.Equal(t, dataA, dataB)
			continue
		}
		ternary++
		require.Equal(t, gguf.TQ2, typB)
		n := int(a.Shape[0] * a.Shape[1]) // rows are whole blocks
		tritsA, tritsB, scalesA, scalesB := make([]int8, n), make([]int8, n), make([]float32, n/256), make([]float32, n/256)
		canonical, err := gguf.Trits(tritsA, scalesA, dataA, gguf.TQ1)
		require.NoError(t, err)
		require.True(t, canonical)
		_, err = gguf.Trits(tritsB, scalesB, dataB, gguf.TQ2)
		require.NoError(t, err)
		require.Equal(t, tritsA, tritsB)
		require.Equal(t, scalesA, scalesB)
		for _, s := range scalesA {
			require.Equal(t, scalesA[0], s, "one scale a tensor")
		}
	}
	require.Equal(t, 7, ternary)
}
