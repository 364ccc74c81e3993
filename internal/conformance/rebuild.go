package conformance

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/tritter-ai/tritter/format"
)

// Rebuild writes what f holds with the builder of this package. There is one file
// of a given content, so the bytes are those of f.
func Rebuild(f *format.File) ([]byte, error) {
	h := f.Header()
	out := &file{required: h.Required, optional: h.Optional, minor: h.Minor}
	for i := range h.Tensors {
		info := &h.Tensors[i]
		t, _ := f.Tensor(info.Name)
		data, err := t.Data()
		if err != nil {
			return nil, err
		}
		scales, err := t.Scales()
		if err != nil {
			return nil, err
		}
		x := &tensor{name: info.Name, encoding: uint16(info.Encoding), rule: uint16(info.Rule), granularity: uint16(info.Granularity), rank: uint16(len(info.Dims)), dim0: uint32(info.Dims[0]), group: uint32(info.Group), data: data}
		if len(info.Dims) == 2 {
			x.dim1 = uint32(info.Dims[1])
		}
		for _, s := range scales {
			x.scales = binary.LittleEndian.AppendUint32(x.scales, math.Float32bits(s))
		}
		out.tensors = append(out.tensors, x)
	}
	for _, s := range h.Sections {
		data, err := f.Section(s.Name)
		if err != nil {
			return nil, err
		}
		out.sections = append(out.sections, &section{s.Name, data})
	}
	return out.image().b, nil
}

// Rehash makes the header's hash right, and with extents those of the extents and
// sections whose records still point into the file.
func Rehash(b []byte, extents bool) {
	if len(b) < preludeSize {
		return
	}
	tensors, sections := int(le.Uint32(b[tensorsAt:])), int(le.Uint32(b[sectionsAt:]))
	sum := func(at int, offset, length uint64) {
		if size := uint64(len(b)); offset <= size && length <= size-offset {
			hash := sha256.Sum256(b[offset : offset+length])
			copy(b[at:], hash[:])
		}
	}
	at := preludeSize
	if extents {
		for ; tensors > 0 && at+recordSize <= len(b); tensors-- {
			r := b[at : at+recordSize]
			sum(at+hashAt, le.Uint64(r[offsetAt:]), le.Uint64(r[sizeAt:]))
			if le.Uint16(r[granularityAt:]) != 0 {
				sum(at+scaleHashAt, le.Uint64(r[scaleOffsetAt:]), le.Uint64(r[scaleSizeAt:]))
			}
			at += recordSize
		}
		for ; sections > 0 && at+sectionSize <= len(b); sections-- {
			r := b[at : at+sectionSize]
			sum(at+sectionHashAt, le.Uint64(r[sectionOffsetAt:]), le.Uint64(r[sectionLengthAt:]))
			at += sectionSize
		}
	}
	if n := le.Uint64(b[headerAt:]); n >= preludeSize && n <= uint64(len(b)) {
		m := image{b: b, header: int(n)}
		m.hashHeader()
	}
}
