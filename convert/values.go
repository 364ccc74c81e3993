package convert

import (
	"crypto/sha256"
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// Some checkpoints of ternary models hold their weights as floats, trit x scale,
// with a scale for each part of a matrix that one device held in training: blocks
// of rows, or blocks of columns (SpectraSuite's TriLM, "Unpacked"). One absmean
// over the matrix would change them.

// sampledRows is how many rows decide whether a matrix is such a one. A row of
// real floats has as many magnitudes as columns.
const sampledRows = 8

// ternaryValues looks at rows from all over a matrix of floats and returns the
// granularity of its scales when they hold one magnitude each, or one in each of
// equal groups of columns; ScaleNone when they are ordinary floats.
func ternaryValues(t *checkpoint.Tensor) (format.Granularity, int, error) {
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	sample := make([][]float32, min(rows, sampledRows))
	raw, nonzero := make([]byte, cols*t.DType.Size()), false
	for i := range sample {
		at := i * (rows - 1) / max(len(sample)-1, 1)
		if _, err := t.ReadAt(raw, int64(at)*int64(len(raw))); err != nil {
			return format.ScaleNone, 0, err
		}
		sample[i] = make([]float32, cols)
		widen(sample[i], raw, t.DType)
		nonzero = nonzero || magnitude(sample[i]) != 0
	}
	group := cols
	for group > 0 && slices.ContainsFunc(sample, func(row []float32) bool { return !uniform(row, group) }) {
		group = narrower(cols, group)
	}
	switch {
	case group == 0 || !nonzero:
		return format.ScaleNone, 0, nil
	case group == cols:
		return format.ScaleRow, 0, nil
	}
	return format.ScaleGroup, group, nil
}

// narrower returns the widest group of columns below group that divides cols
// evenly into whole tiles, or 0.
func narrower(cols, group int) int {
	for parts := cols/group + 1; cols/parts >= quantize.TileCols; parts++ {
		if cols%(parts*quantize.TileCols) == 0 {
			return cols / parts
		}
	}
	return 0
}

// magnitude returns the absolute value of the first element that is not zero.
func magnitude(w []float32) float32 {
	for _, v := range w {
		if v != 0 {
			return max(v, -v)
		}
	}
	return 0
}

// uniform reports whether each group of row holds one magnitude beside zero.
func uniform(row []float32, group int) bool {
	for lo := 0; lo < len(row); lo += group {
		part := row[lo : lo+group]
		m := magnitude(part)
		for _, v := range part {
			if v != 0 && v != m && v != -m {
				return false
			}
		}
	}
	return true
}

// values keeps trits and scales of floats that are trit x scale.
func (d *deriver) values(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	group := cols
	if t.Spec.Granularity == format.ScaleGroup {
		group = t.Spec.Group
	}
	scales := make([]float32, 0, rows*(cols/group))
	sum, done := sha256.New(), 0
	factor := float32(1)
	if t.Scale != nil {
		if factor, err = readScale(t, &sums); err != nil {
			return sums, err
		}
	}
	err = d.finiteRows(t.Source, rows, cols, sum, func(n int, raw []byte) error {
		values := grown(&d.floats, n*cols)
		widen(values, raw, t.Source.DType)
		for r := range n {
			if row := values[r*cols : (r+1)*cols]; !uniform(row, group) {
				return &checkpoint.FormatError{File: t.Source.File, Offset: noOffset, Field: fmt.Sprintf("tensor %s: row %d", t.Source.Name, done+r), Got: "several magnitudes",
					Want: fmt.Sprintf("one in each %d columns, as in the other rows: the matrix looked ternary", group), Hint: "pass --rule absmean to quantize the model if its weights are not ternary"}
			}
		}
		done += n
		return d.tileRows(t, sink, n, cols, func(r int, trits []int8) {
			row := values[r*cols : (r+1)*cols]
			for lo := 0; lo < cols; lo += group {
				scales = append(scales, magnitude(row[lo:lo+group])*factor)
			}
			quantize.Threshold(trits, row, 0)
		})
	})
	if err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])
	return sums, sink.SetScales(scales)
}
