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
		t := &h.Tensors[i]
		if t.Encoding == format.Trit3 {
			sum += t.Length / quantize.TileBytes3 * quantize.TileBytes2
		} else {
			sum += t.Length
		}
		sum += t.ScaleLength
	}
	return sum
}
