package runtime

import (
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// WeightBytes returns the bytes that the tensors of a file take as a model uses
// them: in place, but for those in the base-3 encoding, which are unpacked. It is
// what Engine.Plan calls mapped and loaded, in all.
func WeightBytes(h *format.Header) (sum int64) {
	for i := range h.Tensors {
		sum += usedBytes(&h.Tensors[i]) + h.Tensors[i].ScaleLength
	}
	return sum
}

// usedBytes is what the data of a tensor takes as a model uses it.
func usedBytes(t *format.TensorInfo) int64 {
	if t.Encoding == format.Trit3 {
		return t.Length / quantize.TileBytes3 * quantize.TileBytes2
	}
	return t.Length
}
