package tokenizer

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nesting, as the JSON reader of the tokenizers library does.
const maxDepth = 128

// maxNodes bounds the values of one component, so that a hostile file cannot
// turn two bytes of JSON into a hundred of memory.
const maxNodes = 1 << 17

// scanner reads strict JSON (RFC 8259) front to back. Duplicate keys, lone
// surrogates and invalid UTF-8 are refused. encoding/json reads a vocabulary
// of 128,000 entries at a third of the speed and accepts all of those.
type scanner struct {
	data    []byte
	pos     int
	scratch []byte // the last string that had escapes
	nodes   int    // values built since the component began
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\n', '\t', '\r':
			s.pos++
		default:
			return
		}
	}
}

// next skips white space and returns the byte at hand, 0 at the end.
func (s *scanner) next() byte {
	s.space()
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) wrong(path, want string) error {
	return s.wrongAt(path, s.pos, want)
}

func (s *scanner) wrongAt(path string, pos int, want string) error {
	got := "the end of the file"
	if pos < len(s.data) {
		got = quote(string(s.data[pos:min(pos+16, len(s.data))]))
	}
	return &FormatError{Path: path, Offset: pos, Got: got, Want: want}
}

// object reads an object; member must consume the value of its key, which is
// valid until the scanner moves on. Checking for duplicate keys is left to it.
func (s *scanner) object(path string, member func(key []byte, off int) error) error {
	if s.next() != '{' {
		return s.wrong(path, "an object")
	}
	s.pos++
	if s.next() == '}' {
		s.pos++
		return nil
	}
	for {
		off := s.pos
		key, err := s.str(path)
		if err != nil {
			return err
		}
		if s.next() != ':' {
			return s.wrong(path, `":"`)
		}
		s.pos++
		if err := member(key, off); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.pos++
			s.space()
		case '}':
			s.pos++
			return nil
		default:
			return s.wrong(path, `"," or "}"`)
		}
	}
}

// array reads an array; element must consume the i-th value.
func (s *scanner) array(path string, element func(i int) error) error {
	if s.next() != '[' {
		return s.wrong(path, "an array")
	}
	s.pos++
	if s.next() == ']' {
		s.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		switch s.next() {
		case ',':
			s.pos++
			s.space()
		case ']':
			s.pos++
			return nil
		default:
			return s.wrong(path, `"," or "]"`)
		}
	}
}

// str reads a string. The result is a view of the file or of the scratch
// buffer, valid until the next call.
func (s *scanner) str(path string) ([]byte, error) {
	if s.next() != '"' {
		return nil, s.wrong(path, "a string")
	}
	start := s.pos + 1
	var high byte
	for i := start; i < len(s.data); i++ {
		switch c := s.data[i]; {
		case c == '"':
			view := s.data[start:i]
			if high >= utf8.RuneSelf && !utf8.Valid(view) {
				return nil, s.wrongAt(path, s.pos, "a string in UTF-8")
			}
			s.pos = i + 1
			return view, nil
		case c == '\\':
			return s.escaped(path, start, i)
		case c < ' ':
			return nil, s.wrongAt(path, i, "control characters escaped as \\u00XX")
		default:
			high |= c
		}
	}
	return nil, s.wrongAt(path, len(s.data), `the closing '"' of a string`)
}

// escaped reads the rest of a string whose first backslash is at i.
func (s *scanner) escaped(path string, start, i int) ([]byte, error) {
	out := append(s.scratch[:0], s.data[start:i]...)
	for i < len(s.data) {
		c := s.data[i]
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, s.wrongAt(path, s.pos, "a string in UTF-8")
			}
			s.scratch, s.pos = out, i+1
			return out, nil
		case c < ' ':
			return nil, s.wrongAt(path, i, "control characters escaped as \\u00XX")
		case c != '\\':
			out = append(out, c)
			i++
			continue
		}
		if i+1 >= len(s.data) {
			break
		}
		i += 2
		switch s.data[i-1] {
		case '"', '\\', '/':
			out = append(out, s.data[i-1])
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			r, ok := s.hex4(i)
			if !ok {
				return nil, s.wrongAt(path, i-2, "four hexadecimal digits after \\u")
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if i+1 < len(s.data) && s.data[i] == '\\' && s.data[i+1] == 'u' {
					low, ok = s.hex4(i + 2)
				}
				if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
					return nil, s.wrongAt(path, i-6, "a surrogate pair, high then low")
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			return nil, s.wrongAt(path, i-2, `an escape: one of \" \\ \/ \b \f \n \r \t \uXXXX`)
		}
	}
	return nil, s.wrongAt(path, len(s.data), `the closing '"' of a string`)
}

func (s *scanner) hex4(i int) (rune, bool) {
	if i+4 > len(s.data) {
		return 0, false
	}
	var r rune
	for _, c := range s.data[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// id reads a token id.
func (s *scanner) id(path string) (int, error) {
	s.space()
	start := s.pos
	n := 0
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		n = n*10 + int(s.data[s.pos]-'0')
		s.pos++
		if n > maxID {
			return 0, s.wrongAt(path, start, "an id of at most "+strconv.Itoa(maxID))
		}
	}
	digits := s.pos - start
	if digits == 0 || digits > 1 && s.data[start] == '0' ||
		s.pos < len(s.data) && strings.IndexByte(".eE", s.data[s.pos]) >= 0 {
		return 0, s.wrongAt(path, start, "an id: an integer from 0 to "+strconv.Itoa(maxID))
	}
	return n, nil
}

// number reads a JSON number and returns its spelling.
func (s *scanner) number(path string) (string, error) {
	start, i := s.pos, s.pos
	digits := func() bool {
		from := i
		for i < len(s.data) && s.data[i] >= '0' && s.data[i] <= '9' {
			i++
		}
		return i > from
	}
	at := func(set string) bool { return i < len(s.data) && strings.IndexByte(set, s.data[i]) >= 0 }
	if at("-") {
		i++
	}
	zero := at("0")
	first := i
	ok := digits() && !(zero && i > first+1)
	if ok && at(".") {
		i++
		ok = digits()
	}
	if ok && at("eE") {
		i++
		if at("+-") {
			i++
		}
		ok = digits()
	}
	if !ok {
		return "", s.wrongAt(path, start, "a number")
	}
	s.pos = i
	return string(s.data[start:i]), nil
}

func (s *scanner) literal(path, word string) error {
	if !strings.HasPrefix(string(s.data[s.pos:min(s.pos+len(word), len(s.data))]), word) {
		return s.wrong(path, "a JSON value")
	}
	s.pos += len(word)
	return nil
}

// skip reads a value and forgets it.
func (s *scanner) skip(path string, depth int) error {
	if depth > maxDepth {
		return s.wrong(path, "at most "+strconv.Itoa(maxDepth)+" levels of nesting")
	}
	switch s.next() {
	case '{':
		return s.object(path, func([]byte, int) error { return s.skip(path, depth+1) })
	case '[':
		return s.array(path, func(int) error { return s.skip(path, depth+1) })
	}
	_, err := s.scalar(path)
	return err
}

func (s *scanner) scalar(path string) (*node, error) {
	c := s.next()
	n := &node{path: path, off: s.pos}
	var err error
	switch {
	case c == '"':
		var text []byte
		text, err = s.str(path)
		n.kind, n.text = kindString, string(text)
	case c == 't':
		n.kind, n.text = kindTrue, "true"
		err = s.literal(path, n.text)
	case c == 'f':
		n.kind, n.text = kindFalse, "false"
		err = s.literal(path, n.text)
	case c == 'n':
		n.kind, n.text = kindNull, "null"
		err = s.literal(path, n.text)
	case c == '-' || c >= '0' && c <= '9':
		n.kind = kindNumber
		n.text, err = s.number(path)
	default:
		err = s.wrong(path, "a JSON value")
	}
	return n, err
}
