package format

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// checkCanonical verifies in one pass, and without building anything, that
// data is one canonical JSON value. Sorted keys show duplicates too.
func checkCanonical(data []byte) *FormatError {
	s := &jsonScanner{data: data}
	s.value(0)
	if s.err == nil && s.off < len(data) {
		s.fail(s.off, quote(data[s.off:]), "the end of the data", "")
	}
	return s.err
}

// jsonScanner reads canonical JSON. After an error it stands still.
type jsonScanner struct {
	data []byte
	off  int
	err  *FormatError
}

func (s *jsonScanner) fail(at int, got, want, hint string) {
	if s.err == nil {
		s.err = &FormatError{ClassConfig, int64(at), "JSON", got, want, hint}
		s.off = len(s.data)
	}
}

// quote shows the beginning of what was found.
func quote(b []byte) string {
	if len(b) == 0 {
		return "the end of the data"
	}
	return fmt.Sprintf("%q", b[:min(len(b), 16)])
}

// peek returns the next byte, 0 at the end.
func (s *jsonScanner) peek() byte {
	if s.off < len(s.data) {
		return s.data[s.off]
	}
	return 0
}

// take consumes the next byte if it is c.
func (s *jsonScanner) take(c byte) bool {
	if s.off < len(s.data) && s.data[s.off] == c {
		s.off++
		return true
	}
	return false
}

// need consumes c or fails.
func (s *jsonScanner) need(c byte, hint string) {
	if !s.take(c) {
		s.fail(s.off, quote(s.data[s.off:]), fmt.Sprintf("%q", c), hint)
	}
}

const spaceHint = "canonical JSON has no spaces or line ends"

func (s *jsonScanner) value(depth int) {
	c := s.peek()
	if (c == '{' || c == '[') && depth == MaxJSONDepth {
		s.fail(s.off, "one more level", fmt.Sprintf("at most %d levels", MaxJSONDepth), "")
		return
	}
	switch c {
	case '{':
		s.object(depth)
	case '[':
		s.array(depth)
	case '"':
		s.str()
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		s.number()
	case ' ', '\t', '\n', '\r':
		s.fail(s.off, quote(s.data[s.off:]), "a value", spaceHint)
	default:
		s.fail(s.off, quote(s.data[s.off:]), "a value", "")
	}
}

func (s *jsonScanner) object(depth int) {
	s.off++
	if s.take('}') {
		return
	}
	prev, first := "", true
	for s.err == nil {
		at := s.off
		key := s.str()
		if s.err != nil {
			return
		}
		if !first {
			switch c := compareKeys(key, prev); {
			case c == 0:
				s.fail(at, fmt.Sprintf("a second key %q", key), "each key once", "")
				return
			case c < 0:
				s.fail(at, fmt.Sprintf("key %q after %q", key, prev), "sorted keys", "")
				return
			}
		}
		prev, first = key, false
		s.need(':', spaceHint)
		s.value(depth + 1)
		if s.take('}') {
			return
		}
		s.need(',', spaceHint)
	}
}

func (s *jsonScanner) array(depth int) {
	s.off++
	if s.take(']') {
		return
	}
	for s.err == nil {
		s.value(depth + 1)
		if s.take(']') {
			return
		}
		s.need(',', spaceHint)
	}
}

func (s *jsonScanner) literal(word string) {
	if !bytes.HasPrefix(s.data[s.off:], []byte(word)) {
		s.fail(s.off, quote(s.data[s.off:]), word, "")
		return
	}
	s.off += len(word)
}

// str reads a string with canonical escapes and returns its value.
func (s *jsonScanner) str() string {
	if !s.take('"') {
		s.fail(s.off, quote(s.data[s.off:]), "a string", spaceHint)
		return ""
	}
	start := s.off
	var plain strings.Builder
	escaped := false
	for s.off < len(s.data) {
		switch c := s.data[s.off]; {
		case c == '"':
			v := s.data[start:s.off]
			s.off++
			if escaped {
				plain.Write(v)
				return plain.String()
			}
			return string(v)
		case c == '\\':
			escaped = true
			plain.Write(s.data[start:s.off])
			plain.WriteByte(s.escape())
			start = s.off
		case c < 0x20:
			s.fail(s.off, fmt.Sprintf("the raw control character 0x%02x", c), "an escape", "")
		case c < utf8.RuneSelf:
			s.off++
		default:
			r, n := utf8.DecodeRune(s.data[s.off:])
			if r == utf8.RuneError && n == 1 {
				s.fail(s.off, fmt.Sprintf("the byte 0x%02x", c), "valid UTF-8", "")
				return ""
			}
			s.off += n
		}
	}
	s.fail(s.off, "the end of the data", `'"'`, "a string does not end")
	return ""
}

// escape reads one of the escapes that canonical JSON uses: the short ones,
// and four hexadecimal digits for the other control characters. All stand for
// one byte.
func (s *jsonScanner) escape() byte {
	const short, means = `"\bfnrt`, "\"\\\b\f\n\r\t"
	rest := s.data[s.off+1:]
	if len(rest) > 0 {
		if i := strings.IndexByte(short, rest[0]); i >= 0 {
			s.off += 2
			return means[i]
		}
	}
	if len(rest) >= 5 && string(rest[:3]) == "u00" {
		n, err := strconv.ParseUint(string(rest[3:5]), 16, 8)
		if err == nil && n < 0x20 && strings.IndexByte(means, byte(n)) < 0 && string(rest[3:5]) == fmt.Sprintf("%02x", n) {
			s.off += 6
			return byte(n)
		}
	}
	s.fail(s.off, quote(s.data[s.off:min(len(s.data), s.off+6)]), `\" \\ \b \f \n \r \t or \u00xx for another control character`, "every other character stands for itself")
	return 0
}

// number reads a number and requires it to be printed as ECMAScript does.
func (s *jsonScanner) number() {
	start := s.off
	for s.off < len(s.data) && strings.IndexByte("+-.0123456789eE", s.data[s.off]) >= 0 {
		s.off++
	}
	raw := s.data[start:s.off]
	// No canonical number is longer than 25 bytes: -1.7976931348623157e+308 has 24.
	f, err := strconv.ParseFloat(string(raw[:min(len(raw), 32)]), 64)
	var buf [32]byte
	want := buf[:0]
	if err == nil {
		want, err = appendFloat(want, f)
	}
	switch {
	case err != nil:
		s.fail(start, quote(raw), "a finite number", "")
	case !bytes.Equal(raw, want):
		i := 0
		for i < min(len(raw), len(want)) && raw[i] == want[i] {
			i++
		}
		s.fail(start+i, quote(raw), string(want), "numbers are written as ECMAScript prints them")
	}
}
