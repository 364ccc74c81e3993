package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// kind is the type of a value of the metadata, a number of the format.
type kind uint32

const (
	kindU8 kind = iota
	kindI8
	kindU16
	kindI16
	kindU32
	kindI32
	kindF32
	kindBool
	kindString
	kindArray
	kindU64
	kindI64
	kindF64
)

// kinds holds name and size in bytes of each kind; 0 where it varies.
var kinds = [...]struct {
	name string
	size uint64
}{
	{"uint8", 1}, {"int8", 1}, {"uint16", 2}, {"int16", 2}, {"uint32", 4}, {"int32", 4}, {"float32", 4}, {"bool", 1},
	{"string", 0}, {"array", 0}, {"uint64", 8}, {"int64", 8}, {"float64", 8},
}

// value is a checked value, still as the file has it: strings with their lengths.
type value struct {
	kind  kind // of the elements of an array
	array bool
	count int // elements; 1 outside arrays
	raw   []byte
}

func (v value) describe() string {
	if v.array {
		return "array of " + kinds[v.kind].name
	}
	return kinds[v.kind].name
}

func (s *scanner) kind(field string) (kind, error) {
	at := s.at
	n, err := s.u32(field + ": type")
	if err == nil && n >= uint32(len(kinds)) {
		err = s.malformed(at, field+": type", fmt.Sprint(n), fmt.Sprintf("0 to %d", len(kinds)-1), "")
	}
	return kind(n), err
}

// value reads a value of the metadata and checks all of it.
func (s *scanner) value(field string) (v value, err error) {
	if v.kind, err = s.kind(field); err != nil {
		return v, err
	}
	v.count = 1
	if v.kind == kindArray {
		v.array = true
		at := s.at
		if v.kind, err = s.kind(field); err != nil {
			return v, err
		}
		if v.kind == kindArray {
			return v, s.unsupported(at, field, "an array of arrays", "one of numbers, booleans or strings", "")
		}
		least := kinds[v.kind].size
		if v.kind == kindString {
			least = 8
		}
		if v.count, err = s.count(field+": length", least, MaxArray); err != nil {
			return v, err
		}
	}
	begin := s.at
	switch v.kind {
	case kindString:
		for range v.count {
			if _, err := s.text(field); err != nil {
				return v, err
			}
		}
	default:
		p, err := s.take(uint64(v.count)*kinds[v.kind].size, field)
		if err != nil {
			return v, err
		}
		for i, b := range p {
			if v.kind == kindBool && b > 1 {
				return v, s.malformed(begin+int64(i), field, fmt.Sprintf("0x%02x", b), "0x00 or 0x01, a bool", "")
			}
		}
	}
	// Not a view of the scanner's buffer, which is larger than what is kept.
	v.raw = append([]byte(nil), s.buf[begin:s.at]...)
	return v, nil
}

func (v value) decode() any {
	le := binary.LittleEndian
	switch v.kind {
	case kindU8:
		return decoded(v, func(p []byte) (uint8, int) { return p[0], 1 })
	case kindI8:
		return decoded(v, func(p []byte) (int8, int) { return int8(p[0]), 1 })
	case kindU16:
		return decoded(v, func(p []byte) (uint16, int) { return le.Uint16(p), 2 })
	case kindI16:
		return decoded(v, func(p []byte) (int16, int) { return int16(le.Uint16(p)), 2 })
	case kindU32:
		return decoded(v, func(p []byte) (uint32, int) { return le.Uint32(p), 4 })
	case kindI32:
		return decoded(v, func(p []byte) (int32, int) { return int32(le.Uint32(p)), 4 })
	case kindF32:
		return decoded(v, func(p []byte) (float32, int) { return math.Float32frombits(le.Uint32(p)), 4 })
	case kindBool:
		return decoded(v, func(p []byte) (bool, int) { return p[0] == 1, 1 })
	case kindString:
		return decoded(v, func(p []byte) (string, int) {
			n := int(le.Uint64(p))
			return string(p[8 : 8+n]), 8 + n
		})
	case kindU64:
		return decoded(v, func(p []byte) (uint64, int) { return le.Uint64(p), 8 })
	case kindI64:
		return decoded(v, func(p []byte) (int64, int) { return int64(le.Uint64(p)), 8 })
	case kindF64:
		return decoded(v, func(p []byte) (float64, int) { return math.Float64frombits(le.Uint64(p)), 8 })
	}
	panic(fmt.Sprintf("gguf: a value of kind %d", v.kind))
}

// decoded returns the one element of v, or a slice of all. next decodes the first
// element of p and says how many bytes it takes.
func decoded[T any](v value, next func(p []byte) (T, int)) any {
	if !v.array {
		t, _ := next(v.raw)
		return t
	}
	out := make([]T, v.count)
	p, n := v.raw, 0
	for i := range out {
		out[i], n = next(p)
		p = p[n:]
	}
	return out
}
