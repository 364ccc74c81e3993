package tokenizer

import (
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

type kind uint8

const (
	kindNull kind = iota
	kindTrue
	kindFalse
	kindNumber
	kindString
	kindArray
	kindObject
)

var kindNames = [...]string{"null", "true", "false", "a number", "a string", "an array", "an object"}

// node is a JSON value of one of the small parts of the file: a component
// or an added token.
type node struct {
	kind    kind
	off     int
	path    string
	text    string // of a string, a number or a literal
	elems   []*node
	members map[string]*node
}

// node builds the value at hand.
func (s *scanner) node(path string, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, s.wrong(path, "at most "+strconv.Itoa(maxDepth)+" levels of nesting")
	}
	if s.nodes++; s.nodes > maxNodes {
		return nil, s.wrong(path, "at most "+strconv.Itoa(maxNodes)+" values in one component")
	}
	n := &node{path: path}
	switch s.next() {
	case '{':
		n.kind, n.off, n.members = kindObject, s.pos, map[string]*node{}
		return n, s.object(path, func(key []byte, off int) error {
			name := string(key)
			if _, dup := n.members[name]; dup {
				return duplicate(path, name, off)
			}
			child, err := s.node(join(path, name), depth+1)
			n.members[name] = child
			return err
		})
	case '[':
		n.kind, n.off = kindArray, s.pos
		return n, s.array(path, func(i int) error {
			child, err := s.node(element(path, i), depth+1)
			n.elems = append(n.elems, child)
			return err
		})
	}
	return s.scalar(path)
}

// join keeps paths short: they only serve error messages, and a hostile key
// nested a hundred times would otherwise be copied a hundred times over.
func join(path, key string) string {
	const limit = 200
	if len(path)+len(key) > limit {
		return path + ".…"
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

func element(path string, i int) string {
	const limit = 200
	if len(path) > limit {
		return path
	}
	return path + "[" + strconv.Itoa(i) + "]"
}

func duplicate(path, key string, off int) error {
	return &FormatError{Path: path, Offset: off, Got: "the key " + quote(key) + " a second time", Want: "every key once"}
}

func (n *node) describe() string {
	switch n.kind {
	case kindString:
		return quote(n.text)
	case kindNumber:
		return n.text[:min(len(n.text), 40)]
	}
	return kindNames[n.kind]
}

func (n *node) wrong(want string) error {
	return &FormatError{Path: n.path, Offset: n.off, Got: n.describe(), Want: want}
}

func (n *node) unsupported(supported string) error {
	return &UnsupportedError{Path: n.path, Offset: n.off, Component: n.describe(), Supported: supported}
}

// fields reads the members of an object one by one, keeps the first error,
// and in the end refuses the members that nobody asked for.
type fields struct {
	n    *node
	seen map[string]bool
	err  error
}

func (n *node) fields() *fields {
	f := &fields{n: n, seen: map[string]bool{}}
	if n.kind != kindObject {
		f.err = n.wrong("an object")
	}
	return f
}

func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// opt returns a member, or nil when it is absent.
func (f *fields) opt(key string) *node {
	f.seen[key] = true
	return f.n.members[key]
}

// need returns a member; one that is absent reads as null, after the error.
func (f *fields) need(key string) *node {
	n := f.opt(key)
	if n == nil {
		f.fail(&FormatError{Path: join(f.n.path, key), Offset: f.n.off, Got: "nothing", Want: "this key"})
		return &node{path: join(f.n.path, key), off: f.n.off}
	}
	return n
}

func (f *fields) str(key string) string {
	n := f.need(key)
	if n.kind != kindString {
		f.fail(n.wrong("a string"))
	}
	return n.text
}

func (f *fields) char(key string) rune {
	s := f.str(key)
	r, size := utf8.DecodeRuneInString(s)
	if f.err == nil && (size == 0 || size != len(s)) {
		f.fail(f.need(key).wrong("one character"))
	}
	return r
}

func (f *fields) bool(key string) bool {
	n := f.need(key)
	if n.kind != kindTrue && n.kind != kindFalse {
		f.fail(n.wrong("true or false"))
	}
	return n.kind == kindTrue
}

// boolOr reads a flag that the format lets absent mean a value.
func (f *fields) boolOr(key string, absent bool) bool {
	if f.opt(key) == nil {
		return absent
	}
	return f.bool(key)
}

// nullable drops a member that is null, for keys where null means absent.
func (f *fields) nullable(key string) *node {
	if n := f.opt(key); n != nil && n.kind != kindNull {
		return n
	}
	return nil
}

// count reads a non-negative integer.
func (f *fields) count(key string, limit int) int {
	n := f.need(key)
	v, err := strconv.Atoi(n.text)
	if n.kind != kindNumber || err != nil || v < 0 || v > limit {
		f.fail(n.wrong("an integer from 0 to " + strconv.Itoa(limit)))
	}
	return v
}

func (f *fields) array(key string) []*node {
	n := f.need(key)
	if n.kind != kindArray {
		f.fail(n.wrong("an array"))
	}
	return n.elems
}

// done returns the first error, counting a member that was not asked for.
func (f *fields) done() error {
	if f.err != nil {
		return f.err
	}
	var extra []string
	for key := range f.n.members {
		if !f.seen[key] {
			extra = append(extra, key)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	sort.Strings(extra)
	var known []string
	for key := range f.seen {
		known = append(known, key)
	}
	sort.Strings(known)
	n := f.n.members[extra[0]]
	return &UnsupportedError{Path: n.path, Offset: n.off, Component: "the key " + quote(extra[0]), Supported: strings.Join(known, ", ")}
}
