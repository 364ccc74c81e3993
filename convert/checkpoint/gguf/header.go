package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// scanner reads a header front to back. The buffer grows with what is read, never
// with what a field claims.
type scanner struct {
	name string
	file io.ReaderAt
	size int64  // of the file
	buf  []byte // the file up to some offset, at least at
	at   int64
}

// readStep is how much of a header is read at once.
const readStep = 64 << 10

func (s *scanner) malformed(at int64, field, got, want, hint string) error {
	return &tensor.FormatError{File: s.name, Offset: at, Field: field, Got: got, Want: want, Hint: hint}
}

func (s *scanner) unsupported(at int64, field, got, want, hint string) error {
	return &tensor.UnsupportedError{File: s.name, Offset: at, Field: field, Got: got, Want: want, Hint: hint}
}

const interrupted = "was the download interrupted? fetch the file again"

// take returns the next n bytes, which stay valid and unchanged.
func (s *scanner) take(n uint64, field string) ([]byte, error) {
	left := uint64(s.size - s.at)
	if n > left {
		return nil, s.malformed(s.at, field, fmt.Sprintf("%d bytes, in a file with %d left", n, left), "what lies inside the file", interrupted)
	}
	if n > MaxHeader || uint64(s.at)+n > MaxHeader {
		return nil, s.unsupported(s.at, field, fmt.Sprintf("a header of more than %d bytes", MaxHeader), fmt.Sprintf("at most %d", MaxHeader), "")
	}
	end := s.at + int64(n)
	for have := int64(len(s.buf)); have < end; have = int64(len(s.buf)) {
		step := min(max(end-have, readStep), s.size-have)
		s.buf = append(s.buf, make([]byte, step)...)
		if err := s.readFull(s.buf[have:], have, field); err != nil {
			return nil, err
		}
	}
	p := s.buf[s.at:end:end]
	s.at = end
	return p, nil
}

func (s *scanner) readFull(p []byte, off int64, field string) error {
	n, err := s.file.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file became shorter while it was being read: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%s: offset %d: %s: %w", s.name, off+int64(n), field, err)
}

func (s *scanner) u32(field string) (uint32, error) {
	p, err := s.take(4, field)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(p), nil
}

func (s *scanner) u64(field string) (uint64, error) {
	p, err := s.take(8, field)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(p), nil
}

// text reads a string and holds it to UTF-8.
func (s *scanner) text(field string) ([]byte, error) {
	n, err := s.u64(field)
	if err != nil {
		return nil, err
	}
	p, err := s.take(n, field)
	if err == nil && !utf8.Valid(p) {
		err = s.malformed(s.at-int64(n), field, tensor.Quote(string(p)), "valid UTF-8", "")
	}
	return p, err
}

// identifier reads a key or a name of at most limit bytes.
func (s *scanner) identifier(field string, limit int, tooLong func(at int64, field, got, want, hint string) error) (string, error) {
	at := s.at
	p, err := s.text(field)
	if err != nil {
		return "", err
	}
	if len(p) == 0 {
		return "", s.malformed(at, field, "an empty one", "at least 1 byte", "")
	}
	if len(p) > limit {
		return "", tooLong(at, field, fmt.Sprintf("%d bytes", len(p)), fmt.Sprintf("at most %d", limit), "")
	}
	for i, c := range p {
		if c < 0x20 || c == 0x7f {
			return "", s.malformed(at+8+int64(i), field, tensor.Quote(string(p)), "no control characters", "")
		}
	}
	return string(p), nil
}

// leastKey and leastTensor are the fewest bytes that a key with its value and a
// tensor's record take; counts that cannot fit are refused before anything is read.
const (
	leastKey    = 8 + 1 + 4 + 1
	leastTensor = 8 + 1 + 4 + 8 + 4 + 8
)

func (s *scanner) count(field string, least, limit uint64) (int, error) {
	at := s.at
	n, err := s.u64(field)
	if err != nil {
		return 0, err
	}
	if left := uint64(s.size-s.at) / least; n > left {
		return 0, s.malformed(at, field, fmt.Sprint(n), fmt.Sprintf("at most %d, which is what fits in the rest of the file", left), interrupted)
	}
	if n > limit {
		return 0, s.unsupported(at, field, fmt.Sprint(n), fmt.Sprintf("at most %d", limit), "")
	}
	return int(n), nil
}

// parse reads the whole header and checks the places of all tensors.
func (r *Reader) parse(s *scanner) error {
	beginning := make([]byte, min(s.size, 64))
	if err := s.readFull(beginning, 0, "magic"); err != nil {
		return err
	}
	if err := foreignFile(s.name, beginning); err != nil {
		return err
	}
	s.at = 4
	var err error
	if r.version, err = s.u32("version"); err != nil {
		return err
	}
	switch {
	case r.version == 1:
		return s.unsupported(4, "version", "version 1", "2 or 3", "it is out of use; convert the original checkpoint again with a current tool")
	case r.version&0xffff == 0 && r.version != 0:
		return s.unsupported(4, "version", "a big-endian file", "a little-endian one", "convert the checkpoint again on or for a little-endian machine")
	case r.version != 2 && r.version != 3:
		return s.unsupported(4, "version", fmt.Sprintf("version %d", r.version), "2 or 3", "")
	}
	tensors, err := s.count("tensor count", leastTensor, MaxTensors)
	if err != nil {
		return err
	}
	keys, err := s.count("metadata count", leastKey, MaxKeys)
	if err != nil {
		return err
	}
	if err := r.readMetadata(s, keys); err != nil {
		return err
	}
	return r.readTensors(s, tensors)
}

func (r *Reader) readMetadata(s *scanner, keys int) error {
	r.values = map[string]value{}
	r.alignment = DefaultAlignment
	for i := range keys {
		at := s.at
		key, err := s.identifier(fmt.Sprintf("metadata key %d", i), MaxKey, s.unsupported)
		if err != nil {
			return err
		}
		field := "metadata " + tensor.Quote(key)
		if _, dup := r.values[key]; dup {
			return s.malformed(at, field, "the key a second time", "each key once", "")
		}
		at = s.at
		v, err := s.value(field)
		if err != nil {
			return err
		}
		r.values[key] = v
		r.keys = append(r.keys, key)
		if key == "general.alignment" {
			if err := r.setAlignment(s, at, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Reader) setAlignment(s *scanner, at int64, v value) error {
	const field = "metadata general.alignment"
	n, ok := v.decode().(uint32)
	if !ok {
		return s.malformed(at, field, v.describe(), "uint32", "")
	}
	if bits.OnesCount32(n) != 1 {
		return s.malformed(at, field, fmt.Sprint(n), "a power of two", "")
	}
	if n > MaxAlignment {
		return s.unsupported(at, field, fmt.Sprint(n), fmt.Sprintf("at most %d", MaxAlignment), "")
	}
	r.alignment = int64(n)
	return nil
}

// record is a tensor's record in the header.
type record struct {
	name   string
	typ    Type
	shape  []int64 // outermost first, as elsewhere; the file has it the other way round
	size   int64   // bytes
	at     int64   // of the record in the file
	offset uint64  // of the data, from the beginning of all data
}

func (r *Reader) readTensors(s *scanner, n int) error {
	r.byName = map[string]*tensor.Tensor{}
	var records []record
	for i := range n {
		rec, err := s.record(i)
		if err != nil {
			return err
		}
		records = append(records, rec)
	}
	start := r.aligned(s.at)
	if len(records) == 0 {
		start = s.at
	}
	if start > s.size {
		return s.malformed(s.at, "padding before the data", fmt.Sprintf("a file that ends at %d", s.size), fmt.Sprintf("data from %d on", start), interrupted)
	}
	end := start // of the data so far
	if err := s.zero(s.at, start); err != nil {
		return err
	}
	for _, rec := range records {
		field := "tensor " + tensor.Quote(rec.name)
		begin := r.aligned(end)
		if want := uint64(begin - start); rec.offset != want {
			return s.malformed(rec.at, field+": offset", fmt.Sprint(rec.offset), fmt.Sprintf("%d, where the tensor before it ends, padded to %d", want, r.alignment), "")
		}
		if begin > s.size || rec.size > s.size-begin {
			return s.malformed(rec.at, field+": data", fmt.Sprintf("%d bytes at %d, in a file of %d", rec.size, begin, s.size), "data inside the file", interrupted)
		}
		if err := s.zero(end, begin); err != nil {
			return err
		}
		end = begin + rec.size
		t := tensor.New(tensor.Tensor{Name: rec.name, DType: rec.typ.DType(), Shape: rec.shape, File: s.name, Size: rec.size}, s.file, begin)
		if _, dup := r.byName[rec.name]; dup {
			return s.malformed(rec.at, field, "the name a second time", "each name once", "")
		}
		r.byName[rec.name] = t
		r.tensors = append(r.tensors, t)
	}
	// Writers differ in whether they pad the last tensor too.
	if s.size != end && s.size != r.aligned(end) {
		return s.malformed(end, "end of the file", fmt.Sprintf("%d more bytes", s.size-end), fmt.Sprintf("none, or padding to %d", r.alignment), "")
	}
	return s.zero(end, s.size)
}

// aligned returns n, or the next multiple of the alignment. n lies inside the file
// or just behind a tensor that does, and cannot overflow.
func (r *Reader) aligned(n int64) int64 { return (n + r.alignment - 1) &^ (r.alignment - 1) }

// zero checks that padding is zero: a hole is a place to hide things in. It is less
// than an alignment long.
func (s *scanner) zero(from, to int64) error {
	var room [MaxAlignment]byte
	p := room[:to-from]
	if err := s.readFull(p, from, "padding"); err != nil {
		return err
	}
	for i, b := range p {
		if b != 0 {
			return s.malformed(from+int64(i), "padding", fmt.Sprintf("0x%02x", b), "0x00", "")
		}
	}
	return nil
}

func (s *scanner) record(i int) (rec record, err error) {
	rec.at = s.at
	if rec.name, err = s.identifier(fmt.Sprintf("tensor %d: name", i), MaxName, s.malformed); err != nil {
		return rec, err
	}
	field := "tensor " + tensor.Quote(rec.name)
	at := s.at
	dims, err := s.u32(field + ": dimensions")
	if err != nil {
		return rec, err
	}
	if dims < 1 || dims > MaxDims {
		return rec, s.malformed(at, field+": dimensions", fmt.Sprint(dims), fmt.Sprintf("1 to %d", MaxDims), "")
	}
	rec.shape = make([]int64, dims)
	count := uint64(1)
	for d := range rec.shape {
		at := s.at
		n, err := s.u64(field + ": shape")
		if err != nil {
			return rec, err
		}
		high, product := bits.Mul64(count, n)
		if n == 0 || high != 0 || product > math.MaxInt64/8 {
			return rec, s.malformed(at, field+": shape", fmt.Sprintf("%d along dimension %d", n, d), "at least 1, and fewer than 2^60 elements together", "")
		}
		count = product
		rec.shape[len(rec.shape)-1-d] = int64(n)
	}
	at = s.at
	number, err := s.u32(field + ": type")
	if err != nil {
		return rec, err
	}
	rec.typ = Type(number)
	f, ok := formats[rec.typ]
	if !ok {
		if name, known := foreign[rec.typ]; known {
			return rec, s.unsupported(at, field+": type", name, supported, "convert from the checkpoint that this file was made of, or from an F16 file")
		}
		return rec, s.malformed(at, field+": type", fmt.Sprint(number), supported, "")
	}
	row := rec.shape[len(rec.shape)-1]
	if row%f.block != 0 {
		return rec, s.malformed(at, field+": shape", fmt.Sprintf("rows of %d", row), fmt.Sprintf("a multiple of %d, the block of %s", f.block, f.name), "")
	}
	rec.size = int64(count) / f.block * f.size
	if rec.typ == I2S {
		rec.size += i2sTrailer
	}
	rec.offset, err = s.u64(field + ": offset")
	return rec, err
}
