package verify

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// compared are the sections that make two files one model. Provenance and
// self-test say how a file was made and differ between encodings of one model.
var compared = []string{format.SectionConfig, format.SectionTokenizer, format.SectionGeneration}

// checkCompare holds the file to another one: the same config, tokenizer and
// generation defaults, and in every tensor the same values: the same trits in
// either encoding and the same bits of everything else.
func (v *verifier) checkCompare() (string, error) {
	other, err := format.Open(v.opt.Compare)
	if fe, ok := errors.AsType[*format.FormatError](err); ok { // not a finding: it is the other file that is wrong
		err = errors.New(fe.Error())
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", v.opt.Compare, err)
	}
	defer other.Close()
	var damage error
	if err := other.Check(v.ctx, v.opt.Workers, func(p format.Problem) {
		if damage == nil {
			damage = fmt.Errorf("%s: %v; verify that file first", v.opt.Compare, p)
		}
	}, nil); err != nil {
		return "", fmt.Errorf("%s: %w", v.opt.Compare, err)
	}
	if damage != nil {
		return "", damage
	}
	if other.Header().SHA256 == v.file.Header().SHA256 {
		return "the headers are equal, and with them all hashes", nil
	}
	for _, name := range compared {
		if err := v.compareSection(other, name); err != nil {
			return "", err
		}
	}
	h := other.Header()
	for i := range h.Tensors {
		if name := h.Tensors[i].Name; !v.has(name) {
			v.findTensor("compare", name, 0, "no such tensor", name, "", "%s has a tensor %s, which this file does not have", v.opt.Compare, name)
		}
	}
	h = v.file.Header()
	findings, errs := make([]*Finding, len(h.Tensors)), make([]error, len(h.Tensors))
	done := int64(0)
	v.each(len(h.Tensors), func(i int) {
		errs[i] = format.Guard(func() (err error) {
			findings[i], err = v.compareTensor(other, &h.Tensors[i])
			return err
		})
	}, func(i int) {
		done += h.Tensors[i].Length
		v.progress("compare", done, h.FileLength)
	})
	for i, f := range findings {
		if errs[i] != nil {
			return "", errs[i]
		}
		if f != nil {
			f.Check, f.Tensor = "compare", h.Tensors[i].Name
			v.report.Findings = append(v.report.Findings, *f)
		}
	}
	return fmt.Sprintf("%d tensors and %d sections against %s", len(h.Tensors), len(compared), v.opt.Compare), nil
}

func (v *verifier) has(name string) bool {
	_, ok := v.file.Tensor(name)
	return ok
}

func (v *verifier) compareSection(other *format.File, name string) error {
	ours, errA := v.file.Section(name)
	theirs, errB := other.Section(name)
	for _, err := range []error{errA, errB} {
		if err != nil && !errors.Is(err, format.ErrNoSection) {
			return err
		}
	}
	if (errA == nil) != (errB == nil) || !bytes.Equal(ours, theirs) {
		describe := func(b []byte, err error) string {
			if err != nil {
				return "no section"
			}
			return fmt.Sprintf("%d bytes", len(b))
		}
		a, b := describe(ours, errA), describe(theirs, errB)
		v.report.Findings = append(v.report.Findings, Finding{Check: "compare", Section: name, Actual: a, Expected: b,
			Message: fmt.Sprintf("section %s (%s) is not that of %s (%s)", name, a, v.opt.Compare, b)})
	}
	return nil
}

// compareTensor returns where info differs from the tensor of the same name in
// other, nil if it does not.
func (v *verifier) compareTensor(other *format.File, info *format.TensorInfo) (*Finding, error) {
	if err := v.ctx.Err(); err != nil {
		return nil, err
	}
	t, _ := v.file.Tensor(info.Name)
	u, ok := other.Tensor(info.Name)
	if !ok {
		return &Finding{Actual: info.Name, Expected: "no such tensor", Message: fmt.Sprintf("%s has no tensor %s", v.opt.Compare, info.Name)}, nil
	}
	theirs := u.Info()
	kind := func(i *format.TensorInfo) string {
		if i.Encoding.Ternary() {
			return fmt.Sprintf("trits, scales by %s %d, %v", i.Granularity, i.Group, i.Dims)
		}
		return fmt.Sprintf("%s %v", i.Encoding, i.Dims)
	}
	if a, b := kind(info), kind(theirs); a != b {
		return &Finding{Offset: info.Offset, Actual: a, Expected: b, Message: fmt.Sprintf("the tensor is %s, there it is %s", a, b)}, nil
	}
	ours, err := t.Scales()
	if err != nil {
		return nil, err
	}
	scales, err := u.Scales()
	if err != nil {
		return nil, err
	}
	if i := firstDifference(ours, scales); i >= 0 {
		return &Finding{Offset: info.ScaleOffset + 4*int64(i), Actual: fmt.Sprint(ours[i]), Expected: fmt.Sprint(scales[i]), Message: fmt.Sprintf("scale %d is %v, there it is %v", i, ours[i], scales[i])}, nil
	}
	a, err := t.Data()
	if err != nil {
		return nil, err
	}
	b, err := u.Data()
	if err != nil {
		return nil, err
	}
	if info.Encoding == theirs.Encoding {
		return compareBytes(info, a, b), nil
	}
	return compareTrits(info, theirs, a, b)
}

func firstDifference(a, b []float32) int {
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// differences counts the bytes in which a and b, of equal length, differ, and returns
// the index of the first.
func differences(a, b []byte) (n, first int) {
	for i := range a {
		if a[i] != b[i] {
			if n++; n == 1 {
				first = i
			}
		}
	}
	return n, first
}

func compareBytes(info *format.TensorInfo, a, b []byte) *Finding {
	if bytes.Equal(a, b) {
		return nil
	}
	n, first := differences(a, b)
	got, want := fmt.Sprintf("0x%02x", a[first]), fmt.Sprintf("0x%02x", b[first])
	return &Finding{Offset: info.Offset + int64(first), Actual: got, Expected: want, Message: fmt.Sprintf("%d of %d bytes differ, the first is %s, there %s", n, len(a), got, want)}
}

// compareTrits compares matrices of two encodings, a row of tiles at a time.
func compareTrits(info, theirs *format.TensorInfo, a, b []byte) (*Finding, error) {
	rows, cols := info.Dims[0], info.Dims[1]
	x, err := newUnpacker(info, a)
	if err != nil {
		return nil, err
	}
	y, err := newUnpacker(theirs, b)
	if err != nil {
		return nil, err
	}
	for row := 0; row < rows; row += quantize.TileRows {
		n := min(quantize.TileRows, rows-row)
		p, err := x.next(n)
		if err != nil {
			return nil, err
		}
		q, err := y.next(n)
		if err != nil {
			return nil, err
		}
		for r := range n {
			if slices.Equal(p[r], q[r]) {
				continue
			}
			col := 0
			for col < cols-1 && p[r][col] == q[r][col] {
				col++
			}
			return &Finding{Offset: info.Offset, Actual: fmt.Sprint(p[r][col]), Expected: fmt.Sprint(q[r][col]),
				Message: fmt.Sprintf("the trit at row %d, column %d is %d, there it is %d", row+r, col, p[r][col], q[r][col])}, nil
		}
	}
	return nil, nil
}

// unpacker gives the trits of a matrix by rows of tiles.
type unpacker struct {
	unpack func(rows [][]int8, src []byte, cols int) error
	data   []byte
	size   int // bytes of a row of tiles
	cols   int
	rows   [][]int8
}

func newUnpacker(info *format.TensorInfo, data []byte) (*unpacker, error) {
	u := &unpacker{unpack: quantize.Unpack2, data: data, cols: info.Dims[1], size: quantize.TileRowBytes2(info.Dims[1])}
	if info.Encoding == format.Trit3 {
		u.unpack, u.size = quantize.Unpack3, quantize.TileRowBytes3(info.Dims[1])
	}
	for range quantize.TileRows {
		u.rows = append(u.rows, make([]int8, u.cols))
	}
	if want := (info.Dims[0] + quantize.TileRows - 1) / quantize.TileRows * u.size; len(data) != want {
		return nil, fmt.Errorf("tensor %s has %d bytes, want %d", info.Name, len(data), want)
	}
	return u, nil
}

func (u *unpacker) next(n int) ([][]int8, error) {
	rows := u.rows[:n]
	if err := u.unpack(rows, u.data[:u.size], u.cols); err != nil {
		return nil, err
	}
	u.data = u.data[u.size:]
	return rows, nil
}
