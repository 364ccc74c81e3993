package convert

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/quantize"
)

// Sink receives one tensor of a .trit file: its payload in order, and its scales.
type Sink interface {
	io.Writer
	SetScales([]float32) error
}

// sourceSums are what is known of a source tensor after it has been read.
type sourceSums struct {
	source, scale [32]byte
	rounding      Rounding
	strange       int // rows of TQ1_0 with bytes that no quantizer writes
}

// chunkBytes is how much of a source tensor is read at once: small enough that
// hashing, summing and quantizing find it in the second-level cache.
const chunkBytes = 256 << 10

// deriver streams one tensor. Its buffers hold a few rows and are reused by the
// worker that owns it.
type deriver struct {
	ctx      context.Context
	progress func(n int64) // source bytes read
	measure  bool          // the quantization error is wanted

	raw    []byte
	floats []float32
	trits  [][]int8
	packed []byte
}

// Rounding is what quantizing a tensor lost, summed over its weights: the squared
// error |w - trit x scale|^2 and the squared norm |w|^2.
type Rounding struct{ Err2, Norm2 float64 }

// Relative returns the relative error |w - trit x scale| / |w|, and whether there
// is one: not for tensors whose values were kept.
func (r Rounding) Relative() (float64, bool) {
	return math.Sqrt(r.Err2 / r.Norm2), r.Norm2 > 0
}

// Derive writes the payload and the scales of target i, computed from the source,
// to sink. It is safe for concurrent use.
func (p *Plan) Derive(ctx context.Context, i int, sink Sink) (Rounding, error) {
	d := &deriver{ctx: ctx, progress: func(int64) {}, measure: true}
	sums, err := d.derive(&p.Targets[i], sink)
	return sums.rounding, err
}

func (d *deriver) derive(t *Target, sink Sink) (sums sourceSums, err error) {
	switch t.Rule {
	case model.RuleAbsMean, model.RuleAbsMeanRow, model.RuleAbsMeanGroup:
		sums, err = d.absMean(t, sink)
	case model.RuleThreshold:
		sums, err = d.threshold(t, sink)
	case model.RuleValues:
		sums, err = d.values(t, sink)
	case model.RulePacked:
		sums, err = d.unpack(t, sink)
	case model.RulePackedRows:
		sums, err = d.unpackRows(t, sink)
	case model.RuleBlocks:
		sums, err = d.blocks(t, sink)
	case model.RuleI2SX86:
		sums, err = d.i2s(t, sink)
	case model.RuleCopy:
		sums, err = d.copy(t, sink)
	case model.RuleFloat32, model.RuleScaledBias:
		sums, err = d.float32s(t, sink)
	case model.RuleInt8Row:
		sums, err = d.int8Rows(t, sink)
	default:
		panic(fmt.Sprintf("convert: rule %q", t.Rule))
	}
	return sums, err
}

// grown returns a slice of n elements, keeping the memory of s where it suffices.
func grown[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}

// rows calls fn with the raw bytes of consecutive rows of t, from row lo to hi, a
// multiple of four rows at a time but for the last.
func (d *deriver) rows(t *checkpoint.Tensor, lo, hi, cols int, fn func(row, n int, raw []byte) error) error {
	width := rowBytes(t.DType, cols)
	step := max(chunkBytes/width/quantize.TileRows, 1) * quantize.TileRows
	for row := lo; row < hi; row += step {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		n := min(step, hi-row)
		raw := grown(&d.raw, n*width)
		if _, err := t.ReadAt(raw, int64(row)*int64(width)); err != nil {
			return err
		}
		d.progress(int64(len(raw)))
		if err := fn(row, n, raw); err != nil {
			return err
		}
	}
	return nil
}

// shape returns rows and columns; a vector is one row.
func shape(dims []int) (rows, cols int) {
	if len(dims) == 1 {
		return 1, dims[0]
	}
	return dims[0], dims[1]
}

// nonFinite finds the first element of raw, rows from row on, that is not finite.
func nonFinite(t *checkpoint.Tensor, row, cols int, raw []byte) error {
	values := make([]float32, len(raw)/rowBytes(t.DType, cols)*cols)
	widen(values, raw, t.DType)
	for i, v := range values {
		if quantize.CheckFinite(values[i:i+1]) != nil {
			block := i / blockOf(t.DType) * blockOf(t.DType)
			at := int64(row)*int64(rowBytes(t.DType, cols)) + int64(rowBytes(t.DType, block))
			return &checkpoint.FormatError{File: t.File, Offset: noOffset, Field: fmt.Sprintf("tensor %s: row %d, column %d (byte %d of the tensor)", t.Name, row+i/cols, i%cols, at),
				Got: fmt.Sprint(v), Want: "a finite weight", Hint: "the checkpoint is damaged or its training diverged"}
		}
	}
	return nil
}

// absMean quantizes float weights. One scale for the tensor needs two passes: the
// mean decides trits. Rows and groups need one.
func (d *deriver) absMean(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	src, sum := t.Source, sha256.New()
	group := cols
	if t.Spec.Granularity == format.ScaleGroup {
		group = t.Spec.Group
	}
	scales := []float32{}
	if t.Spec.Granularity == format.ScaleTensor {
		var total float64
		if err := d.rows(src, 0, rows, cols, func(row, n int, raw []byte) error {
			if !allFinite(raw, src.DType) {
				return nonFinite(src, row, cols, raw)
			}
			sum.Write(raw)
			d.sumRows(raw, n, cols, src.DType, &total)
			return nil
		}); err != nil {
			return sums, err
		}
		scales = append(scales, quantize.AbsMean(total, int64(rows)*int64(cols)))
	}
	if err := d.rows(src, 0, rows, cols, func(row, n int, raw []byte) error {
		if t.Spec.Granularity != format.ScaleTensor {
			if !allFinite(raw, src.DType) {
				return nonFinite(src, row, cols, raw)
			}
			sum.Write(raw)
		}
		values := grown(&d.floats, n*cols)
		widen(values, raw, src.DType)
		return d.tileRows(t, sink, n, cols, func(r int, trits []int8) {
			row := values[r*cols : (r+1)*cols]
			for lo := 0; lo < cols; lo += group {
				part, out := row[lo:min(lo+group, cols)], trits[lo:min(lo+group, cols)]
				if t.Spec.Granularity != format.ScaleTensor {
					scales = append(scales, quantize.AbsMean(quantize.SumAbs(part), int64(len(part))))
				}
				scale := scales[len(scales)-1]
				quantize.Trits(out, part, scale)
				if d.measure {
					e, n := quantize.RelativeError(part, out, scale)
					sums.rounding.Err2, sums.rounding.Norm2 = sums.rounding.Err2+e, sums.rounding.Norm2+n
				}
			}
		})
	}); err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])
	return sums, sink.SetScales(scales)
}

// sumRows adds the absolute sums of n rows to total by ascending row.
func (d *deriver) sumRows(raw []byte, n, cols int, dtype checkpoint.DType, total *float64) {
	values := grown(&d.floats, n*cols)
	widen(values, raw, dtype)
	row := func(r int) []float32 { return values[r*cols : (r+1)*cols] }
	r := 0
	for ; r+4 <= n; r += 4 {
		s0, s1, s2, s3 := quantize.SumAbs4(row(r), row(r+1), row(r+2), row(r+3))
		*total += s0
		*total += s1
		*total += s2
		*total += s3
	}
	for ; r < n; r++ {
		*total += quantize.SumAbs(row(r))
	}
}

// tileRows packs n rows, whose trits fill provides, four at a time.
func (d *deriver) tileRows(t *Target, sink Sink, n, cols int, fill func(r int, trits []int8)) error {
	pack, size := quantize.Pack2, quantize.TileRowBytes2(cols)
	if t.Spec.Encoding == format.Trit3 {
		pack, size = quantize.Pack3, quantize.TileRowBytes3(cols)
	}
	d.trits = grown(&d.trits, quantize.TileRows)
	for r := range d.trits {
		d.trits[r] = grown(&d.trits[r], cols)
	}
	for row := 0; row < n; row += quantize.TileRows {
		k := min(quantize.TileRows, n-row)
		for r := range k {
			fill(row+r, d.trits[r])
		}
		packed := grown(&d.packed, size)
		pack(packed, d.trits[:k], cols)
		if _, err := sink.Write(packed); err != nil {
			return err
		}
	}
	return nil
}

// unpack keeps the trits of Hugging Face's packing: byte (r, c) of a matrix of
// 4 P rows holds rows r, r+P, r+2P and r+3P of column c in its four pairs of
// bits, low bits first, as trit + 1.
func (d *deriver) unpack(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	src, plane := t.Source, rows/4
	sum := sha256.New()
	if err := d.rows(src, 0, plane, cols, func(row, n int, raw []byte) error {
		if at := code3(raw); at >= 0 {
			return &checkpoint.FormatError{File: src.File, Offset: noOffset, Field: fmt.Sprintf("tensor %s: byte (%d, %d)", src.Name, row+at/cols, at%cols),
				Got: fmt.Sprintf("0x%02x, which holds the code 3", raw[at]), Want: "codes 0, 1 and 2 for -1, 0 and +1", Hint: "the checkpoint is damaged, or packed in another way"}
		}
		sum.Write(raw)
		return nil
	}); err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])

	// Four strided passes in the order of the output. A tile may straddle two of
	// them, so its rows are gathered one by one.
	window := struct{ lo, hi, plane int }{plane: -1}
	step := max(chunkBytes/cols, quantize.TileRows)
	var buf []byte
	for n := 0; n < rows; n += quantize.TileRows {
		if err := d.tileRows(t, sink, quantize.TileRows, cols, func(r int, trits []int8) {
			k, row := (n+r)/plane, (n+r)%plane
			if k != window.plane || row >= window.hi {
				window.plane, window.lo, window.hi = k, row, min(row+step, plane)
				if err == nil {
					err = d.read(src, row*cols, grown(&buf, (window.hi-row)*cols))
				}
			}
			if err != nil {
				return
			}
			line := buf[(row-window.lo)*cols:][:cols]
			for c, b := range line {
				trits[c] = int8(b>>(2*k)&3) - 1
			}
		}); err != nil {
			return sums, err
		}
		if err != nil {
			return sums, err
		}
	}
	scale, err := readScale(t, &sums)
	if err != nil {
		return sums, err
	}
	return sums, sink.SetScales([]float32{scale})
}

func (d *deriver) read(t *checkpoint.Tensor, off int, buf []byte) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	_, err := t.ReadAt(buf, int64(off))
	return err
}

// code3 returns the index of the first byte that holds the code 3, or -1.
func code3(raw []byte) int {
	const low = 0x5555555555555555
	i := 0
	for ; i+8 <= len(raw); i += 8 {
		if w := binary.LittleEndian.Uint64(raw[i:]); w&(w>>1)&low != 0 {
			break
		}
	}
	for ; i < len(raw); i++ {
		if raw[i]&(raw[i]>>1)&0x55 != 0 {
			return i
		}
	}
	return -1
}

// threshold applies the rule of Tritter's TernaryWeight: the sign of what exceeds
// the row's mean absolute value, with a learned scale a row.
func (d *deriver) threshold(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	sum := sha256.New()
	if err := d.finiteRows(t.Source, rows, cols, sum, func(n int, raw []byte) error {
		values := grown(&d.floats, n*cols)
		widen(values, raw, t.Source.DType)
		return d.tileRows(t, sink, n, cols, func(r int, trits []int8) {
			row := values[r*cols : (r+1)*cols]
			quantize.Threshold(trits, row, quantize.MeanAbs(quantize.SumAbs(row), int64(cols)))
		})
	}); err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])
	scales, err := d.readScales(t, &sums)
	if err != nil {
		return sums, err
	}
	return sums, sink.SetScales(scales)
}

// unpackRows keeps the trits of Tritter's packing: four consecutive columns a
// byte, low bits first, as trit + 1; the columns after the last hold code 1.
func (d *deriver) unpackRows(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	width := (cols + 3) / 4
	src, sum := t.Source, sha256.New()
	bad := func(row, at int, raw []byte, want string) error {
		return &checkpoint.FormatError{File: src.File, Offset: noOffset, Field: fmt.Sprintf("tensor %s: byte (%d, %d)", src.Name, row+at/width, at%width),
			Got: fmt.Sprintf("0x%02x", raw[at]), Want: want, Hint: "the checkpoint is damaged, or packed in another way"}
	}
	if err := d.rows(src, 0, rows, width, func(row, n int, raw []byte) error {
		if at := code3(raw); at >= 0 {
			return bad(row, at, raw, "codes 0, 1 and 2 for -1, 0 and +1")
		}
		if pad := 4*width - cols; pad > 0 {
			for r := range n {
				at := (r+1)*width - 1
				if raw[at]>>(8-2*pad) != 0x55>>(8-2*pad) {
					return bad(row, at, raw, "code 1 (zero) in the columns after the last")
				}
			}
		}
		sum.Write(raw)
		return d.tileRows(t, sink, n, cols, func(r int, trits []int8) {
			line := raw[r*width:][:width]
			for c := range trits {
				trits[c] = int8(line[c/4]>>(c%4*2)&3) - 1
			}
		})
	}); err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])
	scales, err := d.readScales(t, &sums)
	if err != nil {
		return sums, err
	}
	return sums, sink.SetScales(scales)
}

// readScales reads the scales of the rows.
func (d *deriver) readScales(t *Target, sums *sourceSums) ([]float32, error) {
	raw := make([]byte, t.Scale.Size)
	if _, err := t.Scale.ReadAt(raw, 0); err != nil {
		return nil, err
	}
	if !allFinite(raw, t.Scale.DType) {
		return nil, nonFinite(t.Scale, 0, 1, raw)
	}
	sums.scale = sha256.Sum256(raw)
	scales := make([]float32, len(raw)/t.Scale.DType.Size())
	widen(scales, raw, t.Scale.DType)
	return scales, nil
}

// readScale reads the scale of packed weights in the multiplying convention.
func readScale(t *Target, sums *sourceSums) (float32, error) {
	raw := make([]byte, t.Scale.DType.Size())
	if _, err := t.Scale.ReadAt(raw, 0); err != nil {
		return 0, err
	}
	sums.scale = sha256.Sum256(raw)
	var s [1]float32
	widen(s[:], raw, t.Scale.DType)
	scale := s[0]
	if t.divide {
		scale = 1 / scale
	}
	if quantize.CheckFinite([]float32{s[0], scale}) != nil {
		return 0, &checkpoint.FormatError{File: t.Scale.File, Offset: noOffset, Field: "tensor " + t.Scale.Name, Got: fmt.Sprint(s[0]), Want: "a finite scale with, where it divides, a finite inverse"}
	}
	return scale, nil
}

// copy keeps floats as they are.
func (d *deriver) copy(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	sum := sha256.New()
	err = d.finiteRows(t.Source, rows, cols, sum, func(_ int, raw []byte) error {
		_, err := sink.Write(raw)
		return err
	})
	sum.Sum(sums.source[:0])
	return sums, err
}

// finiteRows is rows for tensors that are read once.
func (d *deriver) finiteRows(src *checkpoint.Tensor, rows, cols int, sum hash.Hash, fn func(n int, raw []byte) error) error {
	return d.rows(src, 0, rows, cols, func(row, n int, raw []byte) error {
		if !allFinite(raw, src.DType) {
			return nonFinite(src, row, cols, raw)
		}
		sum.Write(raw)
		return fn(n, raw)
	})
}

// float32s widens a bias, and multiplies it where its scale asks for that.
func (d *deriver) float32s(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	scale := float32(1)
	if t.Rule == model.RuleScaledBias {
		if scale, err = readScale(t, &sums); err != nil {
			return sums, err
		}
	}
	sum := sha256.New()
	err = d.finiteRows(t.Source, rows, cols, sum, func(n int, raw []byte) error {
		values := grown(&d.floats, n*cols)
		widen(values, raw, t.Source.DType)
		out := make([]byte, 0, 4*len(values))
		for _, v := range values {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v*scale))
		}
		_, err := sink.Write(out)
		return err
	})
	sum.Sum(sums.source[:0])
	return sums, err
}

// int8Rows rounds an embedding or head to int8 with a scale a row.
func (d *deriver) int8Rows(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	sum := sha256.New()
	scales := make([]float32, 0, rows)
	codes := make([]int8, cols)
	err = d.finiteRows(t.Source, rows, cols, sum, func(n int, raw []byte) error {
		values, out := grown(&d.floats, n*cols), grown(&d.packed, n*cols)
		widen(values, raw, t.Source.DType)
		for r := range n {
			scale, err := quantize.Int8Row(codes, values[r*cols:(r+1)*cols])
			if err != nil {
				return err
			}
			scales = append(scales, scale)
			for i, q := range codes {
				out[r*cols+i] = byte(q)
			}
		}
		_, err := sink.Write(out)
		return err
	})
	if err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])
	return sums, sink.SetScales(scales)
}

// hashTensor returns the SHA-256 of a tensor that is not used.
func (d *deriver) hashTensor(t *checkpoint.Tensor) (sum [32]byte, err error) {
	h := sha256.New()
	buf := grown(&d.raw, int(min(chunkBytes, t.Size)))
	for off := int64(0); off < t.Size; off += int64(len(buf)) {
		part := buf[:min(int64(len(buf)), t.Size-off)]
		if err := d.read(t, int(off), part); err != nil {
			return sum, err
		}
		d.progress(int64(len(part)))
		h.Write(part)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// equal compares two tensors.
func equal(a, b *checkpoint.Tensor) (bool, error) {
	if a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) {
		return false, nil
	}
	bufA, bufB := make([]byte, min(chunkBytes, a.Size)), make([]byte, min(chunkBytes, a.Size))
	for off := int64(0); off < a.Size; off += int64(len(bufA)) {
		n := min(int64(len(bufA)), a.Size-off)
		if _, err := a.ReadAt(bufA[:n], off); err != nil {
			return false, err
		}
		if _, err := b.ReadAt(bufB[:n], off); err != nil {
			return false, err
		}
		if !bytes.Equal(bufA[:n], bufB[:n]) {
			return false, nil
		}
	}
	return true, nil
}
