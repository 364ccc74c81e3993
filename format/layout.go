package format

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Layout is the plan of a file: which tensors and sections it has, and where
// every tensor stands. It follows from the shapes alone, before any value is
// known. It does not change and may be shared.
type Layout struct {
	tensors  []TensorInfo
	sections []string // ascending
	header   int64    // length of prelude and directory
	end      int64    // of the last tensor extent
}

// NewLayout plans a file with the given tensors, in this order, and the given
// sections, in any order; SectionConfig must be among them. It fails where the
// format does not allow a tensor or a section.
func NewLayout(tensors []TensorSpec, sections ...string) (*Layout, error) {
	if len(tensors) < 1 || len(tensors) > MaxTensors {
		return nil, fmt.Errorf("layout of %d tensors, want 1..%d", len(tensors), MaxTensors)
	}
	l := &Layout{sections: slices.Sorted(slices.Values(sections))}
	if len(l.sections) > MaxSections {
		return nil, fmt.Errorf("layout of %d sections, want at most %d", len(l.sections), MaxSections)
	}
	for i, name := range l.sections {
		if f := nameFault(name, MaxSectionKey, dashNameByte, "[a-z0-9-]"); f != nil {
			return nil, fmt.Errorf("section %q: %s is %s, want %s", name, f.field, f.got, f.want)
		}
		if i > 0 && name == l.sections[i-1] {
			return nil, fmt.Errorf("section %q is in the layout twice, want once", name)
		}
	}
	if !slices.Contains(l.sections, SectionConfig) {
		return nil, fmt.Errorf("layout with the sections %q, want %q among them", l.sections, SectionConfig)
	}
	l.header = headerLength(len(tensors), len(sections))
	l.end = l.header
	seen := make(map[string]bool, len(tensors))
	for i := range tensors {
		t := &tensors[i]
		if f := t.fault(); f != nil {
			return nil, fmt.Errorf("tensor %d (%s): %s is %s, want %s", i, t.Name, f.field, f.got, f.want)
		}
		if seen[t.Name] {
			return nil, fmt.Errorf("tensor %d (%s): another tensor has the same name", i, t.Name)
		}
		seen[t.Name] = true
		if err := l.place(t.info()); err != nil {
			return nil, fmt.Errorf("tensor %d (%s): %w", i, t.Name, err)
		}
	}
	return l, nil
}

// place appends the extents of a tensor.
func (l *Layout) place(t TensorInfo) error {
	t.Dims = slices.Clone(t.Dims)
	t.Offset = alignUp(l.end)
	l.end = t.Offset + t.Length
	if t.ScaleLength > 0 {
		t.ScaleOffset = alignUp(l.end)
		l.end = t.ScaleOffset + t.ScaleLength
	}
	if l.end > 1<<62 {
		return fmt.Errorf("ends at %d, want a file below 2^62 bytes", l.end)
	}
	l.tensors = append(l.tensors, t)
	return nil
}

// Tensors returns the tensors with their places, without hashes. The slice is
// a copy; its Dims must not be changed.
func (l *Layout) Tensors() []TensorInfo { return slices.Clone(l.tensors) }

// Sections returns the names of the sections, ascending. The slice is a copy.
func (l *Layout) Sections() []string { return slices.Clone(l.sections) }

// HeaderLength returns the length of prelude and directory in bytes.
func (l *Layout) HeaderLength() int64 { return l.header }

// DataEnd returns the offset at which the last tensor ends; the sections
// follow.
func (l *Layout) DataEnd() int64 { return l.end }

// encode returns prelude and directory, and sets h.SHA256.
func (h *Header) encode() []byte {
	b := make([]byte, h.HeaderLength)
	le := binary.LittleEndian
	copy(b, Magic)
	le.PutUint16(b[preMajor:], h.Major)
	le.PutUint16(b[preMinor:], h.Minor)
	le.PutUint64(b[preFileLength:], uint64(h.FileLength))
	le.PutUint64(b[preHeaderLength:], uint64(h.HeaderLength))
	le.PutUint32(b[preTensors:], uint32(len(h.Tensors)))
	le.PutUint32(b[preSections:], uint32(len(h.Sections)))
	for i := range h.Tensors {
		h.Tensors[i].encode(b[recordOffset(i):])
	}
	for i := range h.Sections {
		s := &h.Sections[i]
		rec := b[recordOffset(len(h.Tensors))+SectionRecordSize*int64(i):]
		copy(rec, s.Name)
		le.PutUint64(rec[secOffset:], uint64(s.Offset))
		le.PutUint64(rec[secLength:], uint64(s.Length))
		copy(rec[secSHA:], s.SHA256[:])
	}
	h.SHA256 = headerHash(b)
	copy(b[preSHA:], h.SHA256[:])
	return b
}

func (t *TensorInfo) encode(rec []byte) {
	le := binary.LittleEndian
	copy(rec, t.Name)
	le.PutUint16(rec[recEncoding:], uint16(t.Encoding))
	le.PutUint16(rec[recRule:], uint16(t.Rule))
	le.PutUint16(rec[recGranularity:], uint16(t.Granularity))
	le.PutUint16(rec[recRank:], uint16(len(t.Dims)))
	for i, d := range t.Dims {
		le.PutUint32(rec[recDim0+4*i:], uint32(d))
	}
	le.PutUint32(rec[recGroup:], uint32(t.Group))
	le.PutUint64(rec[recOffset:], uint64(t.Offset))
	le.PutUint64(rec[recLength:], uint64(t.Length))
	le.PutUint64(rec[recScaleOffset:], uint64(t.ScaleOffset))
	le.PutUint64(rec[recScaleLength:], uint64(t.ScaleLength))
	copy(rec[recSHA:], t.SHA256[:])
	copy(rec[recScaleSHA:], t.ScaleSHA256[:])
}
