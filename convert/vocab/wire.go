package vocab

import (
	"encoding/binary"
	"math"
	"strconv"
)

const kindSentencePiece = "SentencePiece model"

// message is a stretch of a protobuf file that holds the fields of one message
// (https://protobuf.dev/programming-guides/encoding).
type message struct {
	file       []byte
	start, end int
	name       string // for errors
	index      int    // of a repeated message, -1 for others
}

// value is one field of a message as it stands in the file.
type value struct {
	in         *message
	field      int
	wire       wireType
	off        int    // of the tag
	n          uint64 // of a varint or a fixed-size value
	start, end int    // of the bytes, where wire is wireBytes
}

type wireType int

const (
	wireVarint  wireType = 0
	wireFixed64 wireType = 1
	wireBytes   wireType = 2
	wireFixed32 wireType = 5
)

// maxField is the greatest field number of the format.
const maxField = 1<<29 - 1

func (m *message) label(field string) string {
	name := m.name
	if m.index >= 0 {
		name += " " + strconv.Itoa(m.index)
	}
	if field == "" {
		return name
	}
	return name + ": " + field
}

func (m *message) wrong(off int, field, got, want string) error {
	return &FormatError{Kind: kindSentencePiece, Offset: off, Field: m.label(field), Got: got, Want: want}
}

// fields calls visit for every field. Fields that visit does not know are to be
// passed over: the format asks for that, and their length has been checked.
func (m *message) fields(visit func(v value) error) error {
	for pos := m.start; pos < m.end; {
		v := value{in: m, off: pos}
		tag, n, err := m.varint(pos)
		if err != nil {
			return err
		}
		pos += n
		v.wire = wireType(tag & 7)
		if tag>>3 == 0 || tag>>3 > maxField {
			return m.wrong(v.off, "", "field number "+strconv.FormatUint(tag>>3, 10), "1 to "+strconv.Itoa(maxField))
		}
		v.field = int(tag >> 3)
		size := 0
		switch v.wire {
		case wireVarint:
			if v.n, n, err = m.varint(pos); err != nil {
				return err
			}
			size = n
		case wireFixed64:
			size = 8
		case wireFixed32:
			size = 4
		case wireBytes:
			length, n, err := m.varint(pos)
			if err != nil {
				return err
			}
			pos += n
			if length > uint64(m.end-pos) {
				return m.wrong(v.off, "", strconv.FormatUint(length, 10)+" bytes in field "+strconv.Itoa(v.field), "at most the "+strconv.Itoa(m.end-pos)+" that are left: the file is cut off or damaged")
			}
			size = int(length)
			v.start, v.end = pos, pos+size
		default:
			return m.wrong(v.off, "", "wire type "+strconv.Itoa(int(v.wire))+" in field "+strconv.Itoa(v.field), "0, 1, 2 or 5")
		}
		if size > m.end-pos {
			return m.wrong(v.off, "", strconv.Itoa(m.end-pos)+" bytes in field "+strconv.Itoa(v.field), strconv.Itoa(size)+": the file is cut off")
		}
		switch v.wire {
		case wireFixed32:
			v.n = uint64(binary.LittleEndian.Uint32(m.file[pos:]))
		case wireFixed64:
			v.n = binary.LittleEndian.Uint64(m.file[pos:])
		}
		pos += size
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}

func (m *message) varint(pos int) (v uint64, n int, err error) {
	v, n = binary.Uvarint(m.file[pos:m.end])
	switch {
	case n == 0:
		return 0, 0, m.wrong(pos, "", "the end inside a number", "its last byte: the file is cut off")
	case n < 0:
		return 0, 0, m.wrong(pos, "", "a number of more than 64 bits", "at most 64")
	}
	return v, n, nil
}

func (v value) expect(name string, wire wireType) error {
	if v.wire != wire {
		return v.in.wrong(v.off, name, "wire type "+strconv.Itoa(int(v.wire)), strconv.Itoa(int(wire)))
	}
	return nil
}

func (v value) bytes(name string) ([]byte, error) {
	return v.in.file[v.start:v.end], v.expect(name, wireBytes)
}

func (v value) bool(name string) (bool, error) {
	return v.n != 0, v.expect(name, wireVarint)
}

// enum reads a number of which only small ones mean anything.
func (v value) enum(name string) (int, error) {
	return int(min(v.n, math.MaxInt32)), v.expect(name, wireVarint)
}

func (v value) float(name string) (float32, error) {
	return math.Float32frombits(uint32(v.n)), v.expect(name, wireFixed32)
}

// message reads a field as a message of its own.
func (v value) message(name string, index int) (*message, error) {
	return &message{file: v.in.file, start: v.start, end: v.end, name: name, index: index}, v.expect(name, wireBytes)
}
