// Package conformance makes the conformance vectors of testdata/vectors: one
// small generator each, over a builder that writes whatever it is told, right or
// wrong. It shares no code with package format.
package conformance

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// The numbers of spec/trit-v1.md, 2 and 3.
const (
	magic = "\x89TRIT\r\n\x1a"

	preludeSize = 384
	recordSize  = 256
	sectionSize = 128

	f32, f16, bf16, int8s, trit2, trit3  = 1, 2, 3, 4, 5, 6
	absmean, threshold, verbatim         = 1, 2, 3
	perTensor, perRow, perGroup          = 1, 2, 3
	majorAt, minorAt, lengthAt, headerAt = 8, 10, 16, 24
	tensorsAt, sectionsAt                = 32, 36
	requiredAt, optionalAt, headerHashAt = 64, 192, 320
	encodingAt, ruleAt, granularityAt    = 128, 130, 132
	rankAt, dim0At, dim1At, groupAt      = 134, 136, 140, 144
	offsetAt, sizeAt                     = 152, 160
	scaleOffsetAt, scaleSizeAt           = 168, 176
	hashAt, scaleHashAt                  = 184, 216
	sectionOffsetAt, sectionLengthAt     = 32, 40
	sectionHashAt, sectionReservedAt     = 48, 80
)

// tensor is a tensor as its record will have it, and its extents.
type tensor struct {
	name                              string
	encoding, rule, granularity, rank uint16
	dim0, dim1, group                 uint32
	data, scales                      []byte // encoded
	values, factors                   []byte // what they stand for, as Release writes it
}

// section is a section as its record will have it, and its bytes.
type section struct {
	name string
	data []byte
}

// file is the content of a file in the order of its directory.
type file struct {
	tensors  []*tensor
	sections []*section
	required []string
	optional []string
	minor    uint16
}

// tensor returns the tensor of that name.
func (f *file) tensor(name string) *tensor {
	for _, t := range f.tensors {
		if t.name == name {
			return t
		}
	}
	panic("conformance: no tensor " + name)
}

// section returns the section of that name.
func (f *file) section(name string) *section {
	for _, s := range f.sections {
		if s.name == name {
			return s
		}
	}
	panic("conformance: no section " + name)
}

// image is a file's bytes and where its parts are.
type image struct {
	b        []byte
	header   int // length
	tensors  []place
	sections []place
}

// place is where a record and its extents begin.
type place struct{ record, data, scales, end int }

func up(n int) int { return (n + 255) / 256 * 256 }

var le = binary.LittleEndian

// image lays the file out. Records say what the tensors say of themselves, and
// the lengths that their bytes have; every hash is right.
func (f *file) image() *image {
	m := &image{header: up(preludeSize + recordSize*len(f.tensors) + sectionSize*len(f.sections))}
	m.b = make([]byte, m.header)
	extent := func(data []byte) int {
		m.b = append(m.b, make([]byte, up(len(m.b))-len(m.b))...)
		m.b = append(m.b, data...)
		return len(m.b) - len(data)
	}
	at := preludeSize
	for _, t := range f.tensors {
		p := place{record: at, data: extent(t.data)}
		if t.scales != nil {
			p.scales = extent(t.scales)
		}
		p.end = len(m.b)
		m.tensors = append(m.tensors, p)
		r := m.b[at : at+recordSize]
		copy(r, t.name)
		for i, v := range []uint16{t.encoding, t.rule, t.granularity, t.rank} {
			le.PutUint16(r[encodingAt+2*i:], v)
		}
		for i, v := range []uint32{t.dim0, t.dim1, t.group} {
			le.PutUint32(r[dim0At+4*i:], v)
		}
		le.PutUint64(r[offsetAt:], uint64(p.data))
		le.PutUint64(r[sizeAt:], uint64(len(t.data)))
		le.PutUint64(r[scaleOffsetAt:], uint64(p.scales))
		le.PutUint64(r[scaleSizeAt:], uint64(len(t.scales)))
		at += recordSize
	}
	for _, s := range f.sections {
		p := place{record: at, data: extent(s.data)}
		p.end = len(m.b)
		m.sections = append(m.sections, p)
		r := m.b[at : at+sectionSize]
		copy(r, s.name)
		le.PutUint64(r[sectionOffsetAt:], uint64(p.data))
		le.PutUint64(r[sectionLengthAt:], uint64(len(s.data)))
		at += sectionSize
	}
	copy(m.b, magic)
	le.PutUint16(m.b[majorAt:], 1)
	le.PutUint16(m.b[minorAt:], f.minor)
	le.PutUint64(m.b[lengthAt:], uint64(len(m.b)))
	le.PutUint64(m.b[headerAt:], uint64(m.header))
	le.PutUint32(m.b[tensorsAt:], uint32(len(f.tensors)))
	le.PutUint32(m.b[sectionsAt:], uint32(len(f.sections)))
	for i, name := range f.required {
		copy(m.b[requiredAt+16*i:], name)
	}
	for i, name := range f.optional {
		copy(m.b[optionalAt+16*i:], name)
	}
	m.hashExtents()
	m.hashHeader()
	return m
}

// hashExtents writes the hash of every extent and section.
func (m *image) hashExtents() {
	put := func(at, from, to int) {
		sum := sha256.Sum256(m.b[from:to])
		copy(m.b[at:], sum[:])
	}
	for _, p := range m.tensors {
		r := m.b[p.record:]
		put(p.record+hashAt, p.data, p.data+int(le.Uint64(r[sizeAt:])))
		if p.scales > 0 {
			put(p.record+scaleHashAt, p.scales, p.end)
		}
	}
	for _, p := range m.sections {
		put(p.record+sectionHashAt, p.data, p.end)
	}
}

// hashHeader writes the header's hash, as far as there is a header.
func (m *image) hashHeader() {
	head := m.b[:min(m.header, len(m.b))]
	if len(head) < headerHashAt+sha256.Size {
		return
	}
	clear(head[headerHashAt : headerHashAt+sha256.Size])
	sum := sha256.Sum256(head)
	copy(head[headerHashAt:], sum[:])
}

// trit is the value at row r and column c of every ternary tensor: each of the
// three, in an order that shows a row or column out of place.
func trit(r, c int) int8 { return int8((c+r*r+c*c*r)%3) - 1 }

// ternary makes a matrix of trits. Its scales are 1/2, 1/4, 3/4, 5/4 and so on;
// rules other than absmean also have a negative one and a zero.
func ternary(name string, encoding, rule, granularity uint16, out, in, group int) *tensor {
	t := &tensor{name: name, encoding: encoding, rule: rule, granularity: granularity, rank: 2, dim0: uint32(out), dim1: uint32(in), group: uint32(group)}
	tiles := (in + 127) / 128
	if encoding == trit2 {
		t.data = make([]byte, (out+3)/4*tiles*128)
	} else {
		t.data = make([]byte, (out+3)/4*tiles*104)
	}
	power := [5]byte{1, 3, 9, 27, 81}
	for r := range out {
		for c := range in {
			v := trit(r, c)
			t.values = append(t.values, byte(v))
			tile := r/4*tiles + c/128
			if encoding == trit2 {
				t.data[tile*128+r%4*32+c%128%32] |= byte(v) & 3 << (c % 128 / 32 * 2)
			} else {
				t.data[tile*104+r%4*26+c%128%26] += byte(v+3) % 3 * power[c%128/26]
			}
		}
	}
	n := map[uint16]int{perTensor: 1, perRow: out, perGroup: out * ((in + group - 1) / max(group, 1))}[granularity]
	for i := range n {
		s := float32(2*i+1) / 4
		switch {
		case i == 0:
			s = 0.5
		case rule != absmean && i == 1:
			s = -0.25
		case rule != absmean && i == 2:
			s = 0
		}
		t.scales = le.AppendUint32(t.scales, math.Float32bits(s))
	}
	t.factors = t.scales
	return t
}

// dense makes a float matrix or, with in 0, a vector. Its values are multiples of
// 1/8 and have the same value in each encoding.
func dense(name string, encoding uint16, out, in int) *tensor {
	t := &tensor{name: name, encoding: encoding, rank: 2, dim0: uint32(out), dim1: uint32(in)}
	n := out * in
	if in == 0 {
		t.rank, n = 1, out
	}
	for i := range n {
		v := float32(i%13-5) / 8
		if in == 0 {
			v = float32(i%5+5) / 8
		}
		bits := math.Float32bits(v)
		t.values = le.AppendUint32(t.values, bits)
		switch encoding {
		case f32:
			t.data = le.AppendUint32(t.data, bits)
		case bf16:
			t.data = le.AppendUint16(t.data, uint16(bits>>16))
		case f16:
			t.data = le.AppendUint16(t.data, half(v))
		}
	}
	return t
}

// half is v, an exact multiple of 1/8 below 2, as a binary16.
func half(v float32) uint16 {
	if v == 0 {
		return 0
	}
	bits := math.Float32bits(v)
	return uint16(bits>>31<<15 | (bits>>23&255-112)<<10 | bits>>13&1023)
}

// rounded makes an int8 matrix, with the least and the greatest code in it.
func rounded(name string, out, in int) *tensor {
	t := &tensor{name: name, encoding: int8s, granularity: perRow, rank: 2, dim0: uint32(out), dim1: uint32(in)}
	for i := range out * in {
		v := int8(i*37%255 - 127)
		t.data = append(t.data, byte(v))
	}
	for r := range out {
		t.scales = le.AppendUint32(t.scales, math.Float32bits(float32(r)/64))
	}
	t.values, t.factors = t.data, t.scales
	return t
}
