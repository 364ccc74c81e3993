package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// directory reads the records of a header whose hash is right.
type directory struct {
	head []byte
	h    *Header
	end  int64 // of the last extent so far
	kind string
	i    int   // number of the record being read, among its kind
	at   int64 // its offset
}

// record returns the bytes of the record being read.
func (d *directory) record() []byte {
	if d.kind == "tensor" {
		return d.head[d.at : d.at+TensorRecordSize]
	}
	return d.head[d.at : d.at+SectionRecordSize]
}

// fail describes a fault of the record being read.
func (d *directory) fail(class Class, f *fault) error {
	size := MaxName
	if d.kind == "section" {
		size = MaxSectionKey
	}
	return &FormatError{class, d.at + f.off, fmt.Sprintf("%s %d (%s): %s", d.kind, d.i, printable(d.record()[:size]), f.field), f.got, f.want, f.hint}
}

// zero refuses a byte other than zero in record[from:to].
func (d *directory) zero(from, to int64, field string) error {
	for i, v := range d.record()[from:to] {
		if v != 0 {
			return d.fail(ClassDirectory, &fault{from + int64(i), field, fmt.Sprintf("0x%02x", v), "0x00", ""})
		}
	}
	return nil
}

func (d *directory) read(tensors, sections int) error {
	d.h.Tensors = make([]TensorInfo, tensors)
	seen := make(map[string]int, tensors)
	for i := range d.h.Tensors {
		t := &d.h.Tensors[i]
		if err := d.tensor(i, t); err != nil {
			return err
		}
		if j, dup := seen[t.Name]; dup {
			return d.fail(ClassDirectory, &fault{0, "name", fmt.Sprintf("%q", t.Name), "a name of its own", fmt.Sprintf("tensor %d has the same", j)})
		}
		seen[t.Name] = i
	}
	d.h.Sections = make([]Section, sections)
	base := recordOffset(tensors)
	for i := range d.h.Sections {
		if err := d.section(i, base+int64(i)*SectionRecordSize); err != nil {
			return err
		}
	}
	if err := d.needConfig(base); err != nil {
		return err
	}
	used := int(base) + sections*SectionRecordSize
	if err := wantZero(d.head, used, len(d.head), ClassDirectory, "padding of the directory"); err != nil {
		return err
	}
	if d.end != d.h.FileLength {
		return &FormatError{ClassBounds, d.end, "end of the last extent", fmt.Sprint(d.end), fmt.Sprintf("%d, the file length", d.h.FileLength), "bytes belong to no extent"}
	}
	return nil
}

func (d *directory) needConfig(base int64) error {
	for i := range d.h.Sections {
		if d.h.Sections[i].Name == SectionConfig {
			return nil
		}
	}
	return &FormatError{ClassDirectory, base, "section " + SectionConfig, "missing", "present", "a model without its config cannot be run"}
}

// recordOffset is where the record of tensor i stands.
func recordOffset(i int) int64 { return PreludeSize + TensorRecordSize*int64(i) }

func (d *directory) tensor(i int, t *TensorInfo) error {
	d.kind, d.i, d.at = "tensor", i, recordOffset(i)
	rec := d.record()
	le := binary.LittleEndian
	name, f := fixedName(rec[:MaxName])
	if f != nil {
		return d.fail(ClassDirectory, f)
	}
	rank, dim0, dim1 := le.Uint16(rec[recRank:]), le.Uint32(rec[recDim0:]), le.Uint32(rec[recDim1:])
	group := le.Uint32(rec[recGroup:])
	if rank < 1 || rank > MaxRank {
		return d.fail(ClassDirectory, &fault{recRank, "rank", fmt.Sprint(rank), "1 or 2", ""})
	}
	// Compared before the conversion, which would wrap where int has 32 bits.
	for _, v := range [...]struct {
		off   int64
		field string
		v     uint32
	}{{recDim0, "dim 0", dim0}, {recDim1, "dim 1", dim1}, {recGroup, "group", group}} {
		if v.v > MaxDim {
			return d.fail(ClassDirectory, &fault{v.off, v.field, fmt.Sprint(v.v), fmt.Sprintf("at most %d", MaxDim), ""})
		}
	}
	dims := []int{int(dim0), int(dim1)}
	if rank == 1 {
		if dim1 != 0 {
			return d.fail(ClassDirectory, &fault{recDim1, "dim 1", fmt.Sprint(dim1), "0", "rank is 1"})
		}
		dims = dims[:1:1]
	}
	spec := TensorSpec{
		Name: name, Encoding: Encoding(le.Uint16(rec[recEncoding:])), Rule: Rule(le.Uint16(rec[recRule:])),
		Granularity: Granularity(le.Uint16(rec[recGranularity:])), Dims: dims, Group: int(group),
	}
	if f := spec.fault(); f != nil {
		return d.fail(ClassDirectory, f)
	}
	for _, z := range [...][2]int64{{recZero1, recOffset}, {recZero2, TensorRecordSize}} {
		if err := d.zero(z[0], z[1], "reserved byte"); err != nil {
			return err
		}
	}
	*t = spec.info()
	copy(t.SHA256[:], rec[recSHA:])
	copy(t.ScaleSHA256[:], rec[recScaleSHA:])

	var err error
	if t.Offset, err = d.extent(recOffset, recLength, t.Length, "data"); err != nil {
		return err
	}
	if t.ScaleLength > 0 {
		t.ScaleOffset, err = d.extent(recScaleOffset, recScaleLength, t.ScaleLength, "scale")
		return err
	}
	for _, z := range [...][2]int64{{recScaleOffset, recSHA}, {recScaleSHA, recZero2}} {
		if err := d.zero(z[0], z[1], "byte of an absent scale extent"); err != nil {
			return err
		}
	}
	return nil
}

// info returns the record of a spec without faults, with its lengths and
// without its places.
func (t *TensorSpec) info() TensorInfo {
	length, _ := DataSize(t.Encoding, t.Dims)
	scales, _ := ScaleCount(t.Granularity, t.Dims, t.Group)
	return TensorInfo{
		Name: t.Name, Encoding: t.Encoding, Rule: t.Rule, Granularity: t.Granularity,
		Dims: t.Dims, Group: t.Group, Length: length, ScaleLength: 4 * scales,
	}
}

// extent reads an offset and a length at the given places of the record,
// requires the length and the one offset that leaves neither hole nor overlap,
// and moves the end of the extents.
func (d *directory) extent(offField, lenField, want int64, what string) (int64, error) {
	le, rec := binary.LittleEndian, d.record()
	off, length := le.Uint64(rec[offField:]), le.Uint64(rec[lenField:])
	if length != uint64(want) {
		return 0, d.fail(ClassBounds, &fault{lenField, what + " length", fmt.Sprint(length), fmt.Sprint(want), "the length follows from encoding and dims"})
	}
	next := alignUp(d.end)
	if off != uint64(next) {
		hint := "a hole before the extent"
		if off < uint64(d.end) {
			hint = "the extent overlaps the one before it"
		} else if off%Align != 0 {
			hint = "the extent is not aligned to 256 bytes"
		}
		return 0, d.fail(ClassBounds, &fault{offField, what + " offset", fmt.Sprint(off), fmt.Sprint(next), hint})
	}
	// next is at most a file length and want at most 2^62: the sum fits.
	if end := next + want; end > d.h.FileLength {
		return 0, d.fail(ClassBounds, &fault{lenField, what + " end", fmt.Sprint(end), fmt.Sprintf("at most %d, the file length", d.h.FileLength), "the extent does not fit the file"})
	}
	d.end = next + want
	return next, nil
}

func (d *directory) section(i int, at int64) error {
	d.kind, d.i, d.at = "section", i, at
	rec := d.record()
	name, f := fixedName(rec[:MaxSectionKey])
	if f == nil {
		f = nameFault(name, MaxSectionKey, dashNameByte, "[a-z0-9-]")
	}
	if f != nil {
		return d.fail(ClassDirectory, f)
	}
	if i > 0 {
		if prev := d.h.Sections[i-1].Name; name <= prev {
			return d.fail(ClassDirectory, &fault{0, "name", fmt.Sprintf("%q", name), fmt.Sprintf("a name after %q", prev), "sections are in strictly ascending order of their names"})
		}
	}
	length := binary.LittleEndian.Uint64(rec[secLength:])
	if length < 1 || length > MaxSection {
		return d.fail(ClassDirectory, &fault{secLength, "length", fmt.Sprint(length), fmt.Sprintf("1..%d", MaxSection), ""})
	}
	if err := d.zero(secZero, SectionRecordSize, "reserved byte"); err != nil {
		return err
	}
	s := &d.h.Sections[i]
	s.Name, s.Length = name, int64(length)
	copy(s.SHA256[:], rec[secSHA:])
	var err error
	s.Offset, err = d.extent(secOffset, secLength, s.Length, "section")
	return err
}

// fixedName returns the bytes of a zero-padded name field before its padding,
// and refuses a byte after the first zero.
func fixedName(b []byte) (string, *fault) {
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		end = len(b)
	}
	for i := end; i < len(b); i++ {
		if b[i] != 0 {
			return "", &fault{int64(i), "name", fmt.Sprintf("byte 0x%02x after its first zero byte", b[i]), "zeros after the name", ""}
		}
	}
	return string(b[:end]), nil
}

// printable shows a name field in an error, whatever it holds.
func printable(b []byte) string {
	if end := bytes.IndexByte(b, 0); end >= 0 {
		b = b[:end]
	}
	for _, c := range b {
		if !tensorNameByte(c) && c != '-' {
			return fmt.Sprintf("%q", b)
		}
	}
	return string(b)
}

// scaleFault returns what a scale should have been, or "" when it is legal
// (spec/trit-v1.md, 5.4).
func (t *TensorInfo) scaleFault(s float32) string {
	switch f := float64(s); {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return "a finite number"
	case t.Rule == AbsMean && s <= 0:
		return "above 0 under the absmean rule"
	case t.Encoding == Int8 && s < 0:
		return "at least 0 for int8"
	}
	return ""
}
