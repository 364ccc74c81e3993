package gguf_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
)

func TestRowOrder(t *testing.T) {
	var order []int
	for i := range 12 {
		order = append(order, gguf.HalfPairRow(i, 12, 2))
	}
	require.Equal(t, []int{0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11}, order)
	for _, shape := range [][2]int{{2, 1}, {12, 2}, {256, 4}, {2560, 20}} {
		for i := range shape[0] {
			require.Equal(t, i, gguf.FileRow(gguf.HalfPairRow(i, shape[0], shape[1]), shape[0], shape[1]))
		}
	}
}
