package convert

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

// q8 is the dtype of GGUF's 8-bit blocks: 32 weights and an f16 scale, whose
// products a float32 holds exactly.
const q8 checkpoint.DType = "Q8_0"

// i2sX86 is the value of the option i2s-layout.
const i2sX86 = "x86"

// tqBlock is how many weights of TQ1_0 and TQ2_0 share a scale.
const tqBlock = 256

// rowBytes returns the bytes of a row of cols elements, whole blocks where the
// type stores blocks.
func rowBytes(d checkpoint.DType, cols int) int {
	if size := d.Size(); size > 0 {
		return cols * size
	}
	typ, _ := gguf.TypeOf(d)
	return typ.RowBytes(cols)
}

// blockOf returns how many elements a type stores together.
func blockOf(d checkpoint.DType) int {
	if d.Size() > 0 {
		return 1
	}
	typ, _ := gguf.TypeOf(d)
	n, _ := typ.Block()
	return n
}

// ggufMatrix assigns a projection of a GGUF file.
func (a *assignment) ggufMatrix(t model.Tensor, base string) {
	scale, ok := a.ggufScale(base)
	if !ok {
		return
	}
	w, _ := a.plan.dir.Weights.Lookup(base + ".weight")
	switch {
	case w == nil || isFloat(w.DType):
		n := len(a.plan.Targets)
		a.matrix(t, base)
		if scale == nil || len(a.plan.Targets) == n {
			return
		}
		target := &a.plan.Targets[n]
		if target.Rule != model.RuleValues {
			a.bad("%s: tensor %s multiplies %s, which holds ordinary floats and not trits; convert from the Hugging Face checkpoint", scale.File, scale.Name, w.Name)
			return
		}
		target.Scale = scale
	case w.DType == gguf.TQ1.DType() || w.DType == gguf.TQ2.DType():
		a.blocks(t, base, scale)
	case w.DType == gguf.I2S.DType():
		a.i2s(t, base, scale)
	default:
		a.used[w.Name] = true
		a.errs = append(a.errs, &checkpoint.UnsupportedError{File: w.File, Offset: noOffset, Field: "tensor " + w.Name, Got: string(w.DType),
			Want: "F32, F16, BF16, TQ1_0, TQ2_0 or I2_S in a projection", Hint: "its rounding is not a ternary model's; convert from a GGUF file of one of those types, or from the original checkpoint"})
	}
}

// ggufScale finds the scale that llama.cpp's graphs for BitNet multiply a
// projection by; nil without one. ok is false when it is not one float.
func (a *assignment) ggufScale(base string) (scale *checkpoint.Tensor, ok bool) {
	scale, found := a.plan.dir.Weights.Lookup(base + ".scale")
	if !found {
		return nil, true
	}
	a.used[scale.Name] = true
	if n := len(scale.Shape); !isFloat(scale.DType) || n > 1 || n == 1 && scale.Shape[0] != 1 {
		a.bad("%s: tensor %s is %s %v, want one float", scale.File, scale.Name, scale.DType, scale.Shape)
		return nil, false
	}
	return scale, true
}

// ggufTable assigns an embedding or a head of blocks; false leaves it to others.
func (a *assignment) ggufTable(t model.Tensor, base string) bool {
	w, ok := a.plan.dir.Weights.Lookup(base + ".weight")
	switch {
	case ok && w.DType == q8:
		if src := a.lookup(w.Name, t.Shape); src != nil {
			a.addTable(t, src)
		}
		return true
	case ok && t.Role == model.RoleHead && (w.DType == gguf.TQ1.DType() || w.DType == gguf.TQ2.DType()):
		a.blocks(t, base, nil)
		return true
	}
	return false
}

// keeps reports whether trits may be kept: nothing asks to quantize them.
func (a *assignment) keeps(w *checkpoint.Tensor) bool {
	if a.plan.options.Rule != "" {
		a.bad("%s: tensor %s already holds trits, which are kept; leave out --rule", w.File, w.Name)
		return false
	}
	return true
}

// blocks assigns a matrix of TQ1_0 or TQ2_0.
func (a *assignment) blocks(t model.Tensor, base string, scale *checkpoint.Tensor) {
	w := a.lookup(base+".weight", t.Shape)
	if w == nil || !a.keeps(w) {
		return
	}
	granularity, group, err := ternaryBlocks(w)
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	a.add(Target{Source: w, Scale: scale, Rule: model.RuleBlocks, Spec: format.TensorSpec{Name: t.Name, Encoding: a.encoding, Rule: format.Verbatim,
		Granularity: granularity, Group: group, Dims: t.Shape}})
}

// i2s assigns a matrix of bitnet.cpp's I2_S.
func (a *assignment) i2s(t model.Tensor, base string, scale *checkpoint.Tensor) {
	w := a.lookup(base+".weight", t.Shape)
	if w == nil || !a.keeps(w) {
		return
	}
	if a.plan.options.I2SLayout == "" {
		if !a.refused {
			a.refused = true
			a.errs = append(a.errs, &checkpoint.UnsupportedError{File: w.File, Offset: noOffset, Field: "tensor " + w.Name, Got: "I2_S of an unknown layout", Want: "--i2s-layout x86 where that is known",
				Hint: "bitnet.cpp writes this type in three layouts of the same size, by the machine that it was built for, and the file does not say which; a wrong one gives a model that speaks nonsense"})
		}
		return
	}
	a.add(Target{Source: w, Scale: scale, i2s: a.plan.gguf, Rule: model.RuleI2SX86, Spec: format.TensorSpec{Name: t.Name, Encoding: a.encoding, Rule: format.Verbatim,
		Granularity: format.ScaleTensor, Dims: t.Shape}})
}

// sampledBlockRows is how many rows decide about the scales of a matrix of
// blocks: more than for floats, because scales of rows that f16 has rounded can be
// equal by chance.
const sampledBlockRows = 64

// ternaryBlocks looks at rows from all over a matrix and returns the coarsest
// granularity in which their scales are one. A block without a weight counts for
// any: quantizers give it the scale 0.
func ternaryBlocks(t *checkpoint.Tensor) (format.Granularity, int, error) {
	rows, cols := int(t.Shape[0]), int(t.Shape[1])
	b := newBlockRow(t, cols)
	raw := make([]byte, b.typ.RowBytes(cols))
	tensor := blockScale{}
	granularity := format.ScaleTensor
	for i := range min(rows, sampledBlockRows) {
		at := i * (rows - 1) / max(min(rows, sampledBlockRows)-1, 1)
		if _, err := t.ReadAt(raw, int64(at)*int64(len(raw))); err != nil {
			return format.ScaleNone, 0, err
		}
		if err := b.read(at, raw); err != nil {
			return format.ScaleNone, 0, err
		}
		row := blockScale{}
		for n, scale := range b.scales {
			if !row.joins(scale, b.empty(n)) {
				return format.ScaleGroup, tqBlock, nil
			}
			if !tensor.joins(scale, b.empty(n)) {
				granularity = format.ScaleRow
			}
		}
	}
	return granularity, 0, nil
}

// blockScale is the one scale of several blocks.
type blockScale struct {
	value        float32
	seen, weighs bool // there was a block; one with a weight
}

// joins adds a block and reports whether its scale is that of the others. That of
// an empty one does not matter, and stands only where all are empty.
func (s *blockScale) joins(scale float32, empty bool) bool {
	if !s.seen || !empty && !s.weighs {
		s.value, s.seen, s.weighs = scale, true, !empty
	}
	return empty || scale == s.value
}

// blockRow decodes rows of blocks.
type blockRow struct {
	source *checkpoint.Tensor
	typ    gguf.Type
	trits  []int8
	scales []float32

	canonical bool
}

func newBlockRow(t *checkpoint.Tensor, cols int) *blockRow {
	typ, _ := gguf.TypeOf(t.DType)
	return &blockRow{source: t, typ: typ, trits: make([]int8, cols), scales: make([]float32, cols/tqBlock)}
}

func (b *blockRow) fault(row int, what, got, want, hint string) error {
	return &checkpoint.FormatError{File: b.source.File, Offset: noOffset, Field: fmt.Sprintf("tensor %s: row %d%s", b.source.Name, row, what), Got: got, Want: want, Hint: hint}
}

// read decodes a row into trits and scales.
func (b *blockRow) read(row int, raw []byte) (err error) {
	if b.canonical, err = gguf.Trits(b.trits, b.scales, raw, b.typ); err != nil {
		return b.fault(row, "", err.Error(), "codes of trits", "the file is damaged, or not of a ternary model")
	}
	for n, s := range b.scales {
		if f := float64(s); math.IsNaN(f) || math.IsInf(f, 0) {
			return b.fault(row, fmt.Sprintf(", block %d", n), fmt.Sprintf("the scale %v", s), "a finite one", "the file is damaged")
		}
	}
	return nil
}

// empty reports whether block n has no weight but zeros.
func (b *blockRow) empty(n int) bool {
	for _, v := range b.trits[n*tqBlock:][:tqBlock] {
		if v != 0 {
			return false
		}
	}
	return true
}

// blocks keeps the trits of TQ1_0 and TQ2_0, and the scales of their blocks: as
// they are where each has its own, and as the one of a row or the tensor where all
// that have weights agree on it.
func (d *deriver) blocks(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	factor := float32(1)
	if t.Scale != nil {
		if factor, err = readScale(t, &sums); err != nil {
			return sums, err
		}
	}
	b, sum := newBlockRow(t.Source, cols), sha256.New()
	width := b.typ.RowBytes(cols)
	var scales []float32
	one := blockScale{}
	err = d.rows(t.Source, 0, rows, cols, func(row, n int, raw []byte) error {
		sum.Write(raw)
		var bad error
		err := d.tileRows(t, sink, n, cols, func(r int, trits []int8) {
			if bad != nil {
				return
			}
			if bad = b.read(row+r, raw[r*width:][:width]); bad != nil {
				return
			}
			copy(trits, b.trits)
			if !b.canonical {
				sums.strange++
			}
			if t.Spec.Granularity == format.ScaleGroup {
				for _, s := range b.scales {
					scales = append(scales, s*factor)
				}
				return
			}
			if t.Spec.Granularity == format.ScaleRow {
				one = blockScale{}
			}
			for i, s := range b.scales {
				if !one.joins(s, b.empty(i)) {
					bad = b.fault(row+r, fmt.Sprintf(", block %d", i), fmt.Sprintf("the scale %v", s), fmt.Sprintf("%v, as in the blocks before: the other rows have one scale a %s", one.value, t.Spec.Granularity),
						"the file is damaged, or this matrix was changed; convert from the file that it was made from")
					return
				}
			}
			if t.Spec.Granularity == format.ScaleRow {
				scales = append(scales, one.value*factor)
			}
		})
		if bad != nil {
			return bad
		}
		return err
	})
	if err != nil {
		return sums, err
	}
	if t.Spec.Granularity == format.ScaleTensor {
		scales = []float32{one.value * factor}
	}
	sum.Sum(sums.source[:0])
	return sums, sink.SetScales(scales)
}

// i2s keeps the trits and the scale of I2_S in its x86 layout.
func (d *deriver) i2s(t *Target, sink Sink) (sums sourceSums, err error) {
	rows, cols := shape(t.Spec.Dims)
	width := rowBytes(t.Source.DType, cols)
	factor := float32(1)
	if t.Scale != nil {
		if factor, err = readScale(t, &sums); err != nil {
			return sums, err
		}
	}
	scale, err := t.i2s.I2SScale(t.Source)
	if err != nil {
		return sums, err
	}
	sum := sha256.New()
	if err := d.rows(t.Source, 0, rows, cols, func(row, n int, raw []byte) error {
		if at := code3(raw); at >= 0 {
			return &checkpoint.FormatError{File: t.Source.File, Offset: noOffset, Field: fmt.Sprintf("tensor %s: row %d, byte %d", t.Source.Name, row+at/width, at%width),
				Got: fmt.Sprintf("0x%02x, which holds the code 3", raw[at]), Want: "codes 0, 1 and 2 for -1, 0 and +1", Hint: "the file is damaged, or not of the x86 layout"}
		}
		sum.Write(raw)
		return d.tileRows(t, sink, n, cols, func(r int, trits []int8) {
			if err := gguf.TritsI2SX86(trits, raw[r*width:][:width]); err != nil {
				panic(err) // the codes have been checked
			}
		})
	}); err != nil {
		return sums, err
	}
	// The scale, and what stands behind it.
	begin := int64(rows) * int64(width)
	if _, err := io.Copy(sum, io.NewSectionReader(t.Source, begin, t.Source.Size-begin)); err != nil {
		return sums, err
	}
	sum.Sum(sums.source[:0])
	return sums, sink.SetScales([]float32{scale * factor})
}
