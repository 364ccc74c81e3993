package safetensors

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// metadataKey is the one key of a header that is not a tensor.
const metadataKey = "__metadata__"

// A header is the checked content of a file's JSON header.
type header struct {
	metadata map[string]string
	entries  []entry // in the order of the data
}

// An entry describes one tensor; begin and end count from the end of the
// header, at is the index of its key in the header.
type entry struct {
	name       string
	dtype      tensor.DType
	shape      []int64
	begin, end int64
	at         int
}

// parseHeader reads text, the header of a file of size bytes, and checks it
// against that size.
func parseHeader(file string, text []byte, size int64) (*header, error) {
	s := &scanner{file: file, base: prefix, text: text}
	top := field{part: "header"}
	h := &header{metadata: map[string]string{}}
	seen := map[string]bool{}
	if s.peek() != '{' {
		return nil, s.fail(0, top, s.found()+" at its start", "'{'")
	}
	err := s.object(top, func(key string, at int) error {
		if seen[key] {
			return s.fail(at, top, "key "+tensor.Quote(key)+" twice", "every key once")
		}
		if key == metadataKey {
			seen[key] = true
			return h.readMetadata(s)
		}
		if len(h.entries) == MaxTensors {
			return s.limit(at, top, "a further tensor", fmt.Sprintf("at most %d", MaxTensors))
		}
		if err := s.checkName(key, at); err != nil {
			return err
		}
		seen[key] = true
		e, err := s.entry(key, at)
		h.entries = append(h.entries, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	for s.peek() == ' ' {
		s.pos++
	}
	if s.pos < len(text) {
		return nil, s.fail(s.pos, top, s.found()+" after its end", "nothing but spaces")
	}
	return h, s.checkTiling(h, size)
}

func (h *header) readMetadata(s *scanner) error {
	f := field{part: metadataKey}
	return s.object(f, func(key string, at int) error {
		if _, dup := h.metadata[key]; dup {
			return s.fail(at, f, "key "+tensor.Quote(key)+" twice", "every key once")
		}
		if len(h.metadata) == MaxMetadata {
			return s.limit(at, f, "a further key", fmt.Sprintf("at most %d", MaxMetadata))
		}
		value, err := s.string(f, "a string as the value of "+tensor.Quote(key))
		h.metadata[key] = value
		return err
	})
}

// checkName checks a tensor's name, which is valid UTF-8 by being a string.
func (s *scanner) checkName(name string, at int) error {
	if len(name) > MaxName {
		f := field{part: "tensor name"}
		return s.limit(at, f, tensor.Quote(name), fmt.Sprintf("at most %d bytes", MaxName))
	}
	if got, want := badName(name); got != "" {
		return s.fail(at, field{part: "tensor name"}, got, want)
	}
	return nil
}

// badName says what is wrong with the name of a tensor or a shard and what is
// wanted instead; got is empty when nothing is.
func badName(name string) (got, want string) {
	switch {
	case name == "":
		return "an empty name", "at least one character"
	case !utf8.ValidString(name):
		return tensor.Quote(name), "valid UTF-8"
	case strings.ContainsFunc(name, unicode.IsControl):
		return tensor.Quote(name), "no control characters"
	}
	return "", ""
}

// entry reads the value of one tensor's key.
func (s *scanner) entry(name string, at int) (entry, error) {
	e := entry{name: name, at: at}
	quoted := tensor.Quote(name)
	top := field{quoted, "description"}
	var dtype, shape, offsets bool // which keys have been seen
	once := func(key string, at int, seen *bool) error {
		if *seen {
			return s.fail(at, top, "key "+tensor.Quote(key)+" twice", "every key once")
		}
		*seen = true
		return nil
	}
	err := s.object(top, func(key string, at int) error {
		switch key {
		case "dtype":
			if err := once(key, at, &dtype); err != nil {
				return err
			}
			return s.dtype(&e, field{quoted, key})
		case "shape":
			if err := once(key, at, &shape); err != nil {
				return err
			}
			return s.shape(&e, field{quoted, key})
		case "data_offsets":
			if err := once(key, at, &offsets); err != nil {
				return err
			}
			return s.offsets(&e, field{quoted, key})
		}
		return s.fail(at, top, "key "+tensor.Quote(key), "dtype, shape and data_offsets only")
	})
	if err != nil {
		return e, err
	}
	for _, k := range []struct {
		name string
		seen bool
	}{{"dtype", dtype}, {"shape", shape}, {"data_offsets", offsets}} {
		if !k.seen {
			return e, s.fail(at, top, "no "+k.name, "dtype, shape and data_offsets")
		}
	}
	return e, s.checkSize(e)
}

func (s *scanner) dtype(e *entry, f field) error {
	at := s.pos
	v, err := s.string(f, "a string")
	if err != nil {
		return err
	}
	e.dtype = tensor.DType(v)
	if e.dtype.Size() == 0 {
		return s.limit(at, f, tensor.Quote(v), "one of "+tensor.DTypes)
	}
	return nil
}

func (s *scanner) shape(e *entry, f field) error {
	e.shape = []int64{}
	return s.array(f, func() error {
		if len(e.shape) == MaxRank {
			return s.limit(s.pos, f, "a further dimension", fmt.Sprintf("at most %d", MaxRank))
		}
		d, err := s.integer(f)
		e.shape = append(e.shape, d)
		return err
	})
}

func (s *scanner) offsets(e *entry, f field) error {
	at, n := s.pos, 0
	err := s.array(f, func() error {
		v, err := s.integer(f)
		switch n {
		case 0:
			e.begin = v
		case 1:
			e.end = v
		default:
			return s.fail(s.pos, f, "a third offset", "begin and end")
		}
		n++
		return err
	})
	if err == nil && n != 2 {
		return s.fail(at, f, fmt.Sprintf("%d offsets", n), "begin and end")
	}
	if err == nil && e.begin > e.end {
		return s.fail(at, f, fmt.Sprintf("[%d,%d]", e.begin, e.end), "begin at or before end")
	}
	return err
}

// checkSize holds the span of the offsets against dtype and shape.
func (s *scanner) checkSize(e entry) error {
	size, ok := sizeOf(e.dtype, e.shape)
	if !ok {
		return s.fail(e.at, field{tensor.Quote(e.name), "shape"}, fmt.Sprintf("%v of %s", e.shape, e.dtype), "a size below 2^63 bytes")
	}
	if size != e.end-e.begin {
		return s.fail(e.at, field{tensor.Quote(e.name), "data_offsets"},
			fmt.Sprintf("[%d,%d], %d bytes", e.begin, e.end, e.end-e.begin),
			fmt.Sprintf("%d bytes for shape %v of %s", size, e.shape, e.dtype))
	}
	return nil
}

// sizeOf returns the bytes of a tensor, and whether they can be counted. Zeros
// among the dimensions do not hide an overflow among the others, so that any
// part of the shape can be multiplied safely.
func sizeOf(d tensor.DType, shape []int64) (int64, bool) {
	size, empty := int64(d.Size()), false
	for _, dim := range shape {
		if dim == 0 {
			empty = true
			continue
		}
		if size > math.MaxInt64/dim {
			return 0, false
		}
		size *= dim
	}
	if empty {
		size = 0
	}
	return size, true
}

// checkTiling sorts the entries by place and checks that they cover the data
// part of the file exactly.
func (s *scanner) checkTiling(h *header, size int64) error {
	slices.SortFunc(h.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	start := prefix + int64(len(s.text))
	data := size - start
	var covered int64
	before := "the start of the data"
	for _, e := range h.entries {
		if e.begin != covered {
			what := "a hole"
			if e.begin < covered {
				what = "an overlap"
			}
			return s.fail(e.at, field{tensor.Quote(e.name), "data_offsets"},
				fmt.Sprintf("[%d,%d], %s after %s", e.begin, e.end, what, before),
				fmt.Sprintf("to begin at %d", covered))
		}
		covered, before = e.end, "tensor "+tensor.Quote(e.name)
	}
	switch {
	case covered > data:
		return &tensor.FormatError{
			File: s.file, Offset: size, Field: "file length",
			Got:  fmt.Sprintf("%d bytes", size),
			Want: fmt.Sprintf("%d more, for the data that the header promises", covered-data), Hint: interrupted,
		}
	case covered < data:
		return &tensor.FormatError{
			File: s.file, Offset: start + covered, Field: "file length",
			Got:  fmt.Sprintf("%d bytes after the last tensor", data-covered),
			Want: fmt.Sprintf("the file to end at %d", start+covered),
		}
	}
	return nil
}
