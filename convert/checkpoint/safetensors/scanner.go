package safetensors

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A scanner reads JSON (RFC 8259) in the order of the text. encoding/json
// would do less than is needed here: it keeps the last of duplicate keys,
// replaces invalid UTF-8 and lone surrogates without a word, and reports no
// position for a value of the wrong kind.
type scanner struct {
	file string
	base int64 // position of text[0] in the file
	text []byte
	pos  int
}

// maxDepth bounds the nesting of values that are skipped.
const maxDepth = 32

// A field names what is being read, for errors; formatted only when one occurs.
type field struct {
	tensor string // quoted name of the tensor, or empty
	part   string
}

func (f field) String() string {
	if f.tensor == "" {
		return f.part
	}
	return "tensor " + f.tensor + ": " + f.part
}

// fail reports that the text at index at is not what the format asks for.
func (s *scanner) fail(at int, f field, got, want string) error {
	return &tensor.FormatError{File: s.file, Offset: s.base + int64(at), Field: f.String(), Got: got, Want: want}
}

// limit reports that what is at index at exceeds a limit of this reader.
func (s *scanner) limit(at int, f field, got, want string) error {
	return &tensor.UnsupportedError{File: s.file, Offset: s.base + int64(at), Field: f.String(), Got: got, Want: want}
}

// peek returns the byte at the scanner's position, or -1 at the end.
func (s *scanner) peek() int {
	if s.pos == len(s.text) {
		return -1
	}
	return int(s.text[s.pos])
}

func (s *scanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// found describes what stands at the scanner's position.
func (s *scanner) found() string {
	if s.pos == len(s.text) {
		return "the end of the text"
	}
	switch c := s.text[s.pos]; c {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	default:
		if word := s.word(); len(word) > 0 {
			return tensor.Quote(string(word))
		}
		if c > ' ' && c < 0x7f {
			return strconv.QuoteRune(rune(c))
		}
		return fmt.Sprintf("0x%02x", c)
	}
}

// word returns the number or literal, well formed or not, at the position.
func (s *scanner) word() []byte {
	end := s.pos
	for end < len(s.text) {
		c := s.text[end]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.' {
			end++
			continue
		}
		break
	}
	return s.text[s.pos:end]
}

func (s *scanner) expect(c byte, f field, want string) error {
	if s.peek() != int(c) {
		return s.fail(s.pos, f, s.found(), want)
	}
	s.pos++
	return nil
}

// object reads an object and calls member at the value of each key, with the
// index at which the key stands. Member must consume the value; telling
// duplicate keys apart is left to it, because what it stores shows them.
func (s *scanner) object(f field, member func(key string, at int) error) error {
	if err := s.expect('{', f, "an object"); err != nil {
		return err
	}
	s.space()
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		s.space()
		at := s.pos
		key, err := s.string(f, "a key in double quotes")
		if err != nil {
			return err
		}
		s.space()
		if err := s.expect(':', f, "':' after the key"); err != nil {
			return err
		}
		s.space()
		if err := member(key, at); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return s.fail(s.pos, f, s.found(), "',' or '}'")
		}
	}
}

// array reads an array and calls element at each value, which it must consume.
func (s *scanner) array(f field, element func() error) error {
	if err := s.expect('[', f, "an array"); err != nil {
		return err
	}
	s.space()
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		s.space()
		if err := element(); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return s.fail(s.pos, f, s.found(), "',' or ']'")
		}
	}
}

// integer reads a whole number from 0 to 2^63 - 1, written without sign,
// fraction or exponent.
func (s *scanner) integer(f field) (int64, error) {
	word := s.word()
	var v int64
	for _, c := range word {
		if c < '0' || c > '9' || len(word) > 1 && word[0] == '0' {
			return 0, s.fail(s.pos, f, s.found(), "a non-negative integer in plain digits")
		}
		d := int64(c - '0')
		if v > (math.MaxInt64-d)/10 {
			return 0, s.fail(s.pos, f, s.found(), "an integer below 2^63")
		}
		v = v*10 + d
	}
	if len(word) == 0 {
		return 0, s.fail(s.pos, f, s.found(), "a non-negative integer in plain digits")
	}
	s.pos += len(word)
	return v, nil
}

// string reads a string; want says what it is for, in case there is none.
func (s *scanner) string(f field, want string) (string, error) {
	if err := s.expect('"', f, want); err != nil {
		return "", err
	}
	start := s.pos
	var unescaped []byte // what came before start, once an escape was seen
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			run := s.text[start:s.pos]
			s.pos++
			if unescaped == nil {
				return string(run), nil
			}
			return string(append(unescaped, run...)), nil
		case c == '\\':
			unescaped = append(unescaped, s.text[start:s.pos]...)
			r, err := s.escape(f)
			if err != nil {
				return "", err
			}
			unescaped = utf8.AppendRune(unescaped, r)
			start = s.pos
		case c < ' ':
			return "", s.fail(s.pos, f, fmt.Sprintf("0x%02x in a string", c), "control characters written as escapes")
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, n := utf8.DecodeRune(s.text[s.pos:])
			if r == utf8.RuneError && n == 1 {
				return "", s.fail(s.pos, f, fmt.Sprintf("0x%02x in a string", c), "valid UTF-8")
			}
			s.pos += n
		}
	}
	return "", s.fail(s.pos, f, "the end of the text in a string", "a closing double quote")
}

// escape reads one escape sequence, both halves of a surrogate pair included.
func (s *scanner) escape(f field) (rune, error) {
	at := s.pos
	s.pos++
	c := s.peek()
	s.pos = min(s.pos+1, len(s.text))
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, ok := s.hex4()
		if ok && utf16.IsSurrogate(r) {
			ok = false
			if s.pos+2 <= len(s.text) && s.text[s.pos] == '\\' && s.text[s.pos+1] == 'u' {
				s.pos += 2
				if low, lowOK := s.hex4(); lowOK {
					r = utf16.DecodeRune(r, low)
					ok = r != utf8.RuneError
				}
			}
		}
		if ok {
			return r, nil
		}
	}
	return 0, s.fail(at, f, tensor.Quote(string(s.text[at:s.pos])), "a JSON escape of a Unicode character")
}

func (s *scanner) hex4() (rune, bool) {
	if len(s.text)-s.pos < 4 {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s.text[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.pos += 4
	return rune(v), true
}

// skip reads over one value of any kind, nested at most maxDepth deep.
func (s *scanner) skip(f field, depth int) error {
	switch s.peek() {
	case '{', '[':
		if depth == maxDepth {
			return s.limit(s.pos, f, "deeper nesting", fmt.Sprintf("at most %d levels", maxDepth))
		}
		if s.peek() == '{' {
			return s.object(f, func(string, int) error { return s.skip(f, depth+1) })
		}
		return s.array(f, func() error { return s.skip(f, depth+1) })
	case '"':
		_, err := s.string(f, "a string")
		return err
	}
	word := s.word()
	if !json.Valid(word) {
		return s.fail(s.pos, f, s.found(), "a JSON value")
	}
	s.pos += len(word)
	return nil
}
