package verify

import (
	"fmt"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// checkSymmetry holds every tensor of the absmean rule to quantize(dequantize(q))
// having the trits of q. The dequantized weights are 0 and +-s only, so their mean
// follows from the number of trits that are not zero, and the whole stretch is
// symmetric exactly when s itself rounds to +1 under that mean.
func (v *verifier) checkSymmetry() (string, error) {
	n := 0
	h := v.file.Header()
	for i := range h.Tensors {
		info := &h.Tensors[i]
		if info.Rule != format.AbsMean || !info.Encoding.Ternary() {
			continue
		}
		n++
		if err := v.ctx.Err(); err != nil {
			return "", err
		}
		if err := v.symmetric(info); err != nil {
			return "", err
		}
	}
	if n == 0 {
		return "no tensor was quantized by the absmean rule", errSkipped
	}
	return fmt.Sprintf("%d tensors quantize to themselves again", n), nil
}

func (v *verifier) symmetric(info *format.TensorInfo) error {
	t, _ := v.file.Tensor(info.Name)
	data, err := t.Data()
	if err != nil {
		return err
	}
	scales, err := t.Scales()
	if err != nil {
		return err // a finding of the payload check as well
	}
	rows, cols := info.Dims[0], info.Dims[1]
	group := cols
	if info.Granularity == format.ScaleGroup {
		group = info.Group
	}
	groups := (cols + group - 1) / group
	asymmetric, first := 0, 0
	check := func(at int, nonzero, n int64) {
		if !Symmetric(scales[at], nonzero, n) {
			if asymmetric++; asymmetric == 1 {
				first = at
			}
		}
	}
	var total int64
	for row := range rows {
		for g := range groups {
			lo, hi := g*group, min((g+1)*group, cols)
			nonzero := countNonzero(data, info.Encoding, row, lo, hi, cols)
			total += nonzero
			switch info.Granularity {
			case format.ScaleRow:
				check(row, nonzero, int64(cols))
			case format.ScaleGroup:
				check(row*groups+g, nonzero, int64(hi-lo))
			}
		}
	}
	if info.Granularity == format.ScaleTensor {
		check(0, total, int64(rows)*int64(cols))
	}
	if asymmetric > 0 {
		v.findTensor("symmetry", info.Name, info.ScaleOffset+4*int64(first), fmt.Sprint(scales[first]), fmt.Sprintf("a scale of at least %v that quantizes to itself", quantize.MinScale), "the scale was changed after quantization, or inverted",
			"scale %d is %v, which the absmean rule cannot have given: quantizing the dequantized weights gives other trits (%d of %d scales); want a scale of at least %v",
			first, scales[first], asymmetric, len(scales), quantize.MinScale)
	}
	return nil
}

// Symmetric reports whether n weights, of which nonzero are +-scale and the rest
// zero, quantize to the trits that they were dequantized from. The sum of nonzero
// equal float32 values is exact in float64 up to 2^29 of them, in any order; past
// that its error cannot matter, because the mean only has to stay below twice the
// scale.
func Symmetric(scale float32, nonzero, n int64) bool {
	if nonzero == 0 {
		return true
	}
	gamma := quantize.AbsMean(float64(scale)*float64(nonzero), n)
	trit := make([]int8, 1)
	quantize.Trits(trit, []float32{scale}, gamma)
	return trit[0] == 1
}

// countNonzero counts the trits of one row, columns lo to hi, that are not zero.
// lo is a multiple of a tile's columns, and hi is another or the end of the row:
// the padding after that is zero.
func countNonzero(data []byte, e format.Encoding, row, lo, hi, cols int) (n int64) {
	tiles := quantize.Tiles(cols)
	size := quantize.TileBytes2
	if e == format.Trit3 {
		size = quantize.TileBytes3
	}
	run := size / quantize.TileRows
	for tile := lo / quantize.TileCols; tile < quantize.Tiles(hi); tile++ {
		at := (row/quantize.TileRows*tiles+tile)*size + row%quantize.TileRows*run
		plus, minus := countRun(data[at:at+run], e)
		n += plus + minus
	}
	return n
}
