package conformance

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"math"

	"github.com/tritter-ai/tritter/format"
)

var (
	encodingNames    = []string{"", "f32", "f16", "bf16", "int8", "trit2", "trit3"}
	ruleNames        = []string{"none", "absmean", "threshold", "verbatim"}
	granularityNames = []string{"none", "tensor", "row", "group"}
)

// released is the SHA-256 of what a reader may release of f, from the values that
// the file was made of.
func (f *file) released() string {
	h := sha256.New()
	for _, t := range f.tensors {
		fmt.Fprintf(h, "%s %s %s %s %d %d %d\n", t.name, encodingNames[t.encoding], ruleNames[t.rule], granularityNames[t.granularity], t.group, t.dim0, t.dim1)
		h.Write(t.values)
		h.Write(t.factors)
	}
	for _, s := range f.sections {
		fmt.Fprintf(h, "%s %d\n", s.name, len(s.data))
		h.Write(s.data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Release returns the SHA-256, in hexadecimal, of what a file that was verified
// holds, as spec/trit-v1-vectors.md describes it: the values of every tensor,
// decoded, and the bytes of every section. Two encodings of the same values differ
// only in the line that names the encoding.
func Release(f *format.File) (string, error) {
	sum := sha256.New()
	h := f.Header()
	for i := range h.Tensors {
		info := &h.Tensors[i]
		dim1 := 0
		if len(info.Dims) == 2 {
			dim1 = info.Dims[1]
		}
		fmt.Fprintf(sum, "%s %s %s %s %d %d %d\n", info.Name, info.Encoding, info.Rule, info.Granularity, info.Group, info.Dims[0], dim1)
		t, _ := f.Tensor(info.Name)
		if err := format.Guard(func() error { return releaseTensor(sum, t) }); err != nil {
			return "", err
		}
	}
	for i := range h.Sections {
		s := &h.Sections[i]
		data, err := f.Section(s.Name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n", s.Name, len(data))
		sum.Write(data)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func releaseTensor(sum hash.Hash, t *format.Tensor) error {
	data, err := t.Data()
	if err != nil {
		return err
	}
	scales, err := t.Scales()
	if err != nil {
		return err
	}
	info := t.Info()
	switch info.Encoding {
	case format.Trit2, format.Trit3:
		releaseTrits(sum, info, data)
	case format.BF16:
		for ; len(data) > 0; data = data[2:] {
			sum.Write([]byte{0, 0, data[0], data[1]})
		}
	case format.F16:
		for ; len(data) > 0; data = data[2:] {
			sum.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(widen(binary.LittleEndian.Uint16(data)))))
		}
	default:
		sum.Write(data)
	}
	for _, s := range scales {
		sum.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(s)))
	}
	return nil
}

// releaseTrits writes the trits of a matrix row by row, a byte each.
func releaseTrits(sum hash.Hash, info *format.TensorInfo, data []byte) {
	out, in := info.Dims[0], info.Dims[1]
	tiles, width := (in+127)/128, len(data)/((out+3)/4*((in+127)/128)*4)
	row := make([]byte, in)
	power := [5]int{1, 3, 9, 27, 81}
	for r := range out {
		for c := range in {
			b := data[((r/4*tiles+c/128)*4+r%4)*width+c%128%width]
			digit := int(b) >> (c % 128 / width * 2) & 3 // 3 is -1
			if info.Encoding == format.Trit3 {
				digit = int(b) / power[c%128/width] % 3 // 2 is -1
				digit += digit / 2
			}
			row[c] = [4]byte{0, 1, 0, 0xff}[digit]
		}
		sum.Write(row)
	}
}

// widen is a finite binary16 as a float32, exactly.
func widen(h uint16) float32 {
	exp, frac := int(h>>10&31), float64(h&1023)
	v := math.Ldexp(1024+frac, exp-25)
	if exp == 0 {
		v = math.Ldexp(frac, -24)
	}
	return float32(math.Copysign(v, 0.5-float64(h>>15)))
}
