// Package ptx reads PTX text as far as a launch depends on it: version, target,
// and the parameters of each entry. Tests hold the checked-in PTX with it to the
// launch table ([File.Check]) and to the sources that it was compiled from
// ([Manifest.Check]), on machines that have neither nvcc nor a GPU.
//
// The grammar is that of the PTX ISA reference,
// https://docs.nvidia.com/cuda/parallel-thread-execution/.
package ptx

import (
	"fmt"
	"strconv"
	"strings"
)

// File is what a PTX text declares.
type File struct {
	Version     string // "7.8"
	Target      string // "sm_80"
	AddressSize int    // bits
	Entries     []Entry
}

// Entry is a kernel.
type Entry struct {
	Name   string
	Params []Param
}

// Param is a parameter of an entry. A type of more than one element is an array,
// as which a struct is passed.
type Param struct {
	Name  string
	Type  string // "u64", "f32", "b8"
	Size  int    // bytes of the whole
	Align int    // bytes
}

// typeSizes are the bytes of the fundamental types.
var typeSizes = map[string]int{
	"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "b32": 4, "u32": 4, "s32": 4, "f32": 4,
	"f16x2": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8, "b128": 16,
}

// maxParamBytes bounds what an entry may declare: the most that the ISA allows.
const maxParamBytes = 32764

// Parse reads a PTX text. The error names the line.
func Parse(text string) (*File, error) {
	p := parser{scanner: scanner{text: text, line: 1}}
	f := &p.file
	for {
		token, err := p.next()
		switch {
		case err != nil:
			return nil, err
		case token == "":
			if f.Version == "" || f.Target == "" || f.AddressSize == 0 {
				return nil, p.errorf("the text has .version %q, .target %q and .address_size %d, want all three", f.Version, f.Target, f.AddressSize)
			}
			return f, nil
		case token == ".version":
			f.Version, err = p.next()
		case token == ".target":
			f.Target, err = p.next()
		case token == ".address_size":
			f.AddressSize, err = p.number()
		case token == ".entry":
			err = p.entry()
		}
		if err != nil {
			return nil, err
		}
	}
}

type parser struct {
	scanner
	file File
}

func (p *parser) number() (int, error) {
	token, err := p.next()
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(token)
	if err != nil || n < 0 || n > 1<<20 {
		return 0, p.errorf("%q, want a number up to %d", token, 1<<20)
	}
	return n, nil
}

// entry reads a name and a list of parameters, if there is one.
func (p *parser) entry() error {
	name, err := p.next()
	if err != nil {
		return err
	}
	if name == "" || strings.ContainsAny(name[:1], ".({") {
		return p.errorf("%q after .entry, want a name", name)
	}
	for _, e := range p.file.Entries {
		if e.Name == name {
			return p.errorf("entry %s is there twice", name)
		}
	}
	e := Entry{Name: name}
	open, err := p.next()
	if err != nil {
		return err
	}
	for separator := open; separator == "(" || separator == ","; {
		token, err := p.next()
		if err != nil {
			return err
		}
		if separator == "(" && token == ")" {
			break
		}
		if token != ".param" {
			return p.errorf("%q in the parameters of %s, want .param", token, name)
		}
		var param Param
		if param, separator, err = p.param(); err != nil {
			return err
		}
		e.Params = append(e.Params, param)
		if separator != "," && separator != ")" {
			return p.errorf("%q after parameter %s of %s, want a comma or a closing parenthesis", separator, param.Name, name)
		}
	}
	if n := e.Size(); n > maxParamBytes {
		return p.errorf("%d bytes of parameters of %s, want at most %d", n, name, maxParamBytes)
	}
	p.file.Entries = append(p.file.Entries, e)
	return nil
}

// param reads what follows .param, and the token behind it.
func (p *parser) param() (param Param, after string, err error) {
	pointer := false
	for {
		token, err := p.next()
		if err != nil {
			return param, "", err
		}
		size, isType := typeSizes[strings.TrimPrefix(token, ".")]
		switch {
		case token == ".ptr":
			pointer = true // what follows tells of the memory pointed to
		case token == ".align":
			n, err := p.number()
			if err != nil {
				return param, "", err
			}
			if n == 0 || n&(n-1) != 0 {
				return param, "", p.errorf(".align %d, want a power of two", n)
			}
			if !pointer {
				param.Align = n
			}
		case strings.HasPrefix(token, ".") && isType && param.Type == "":
			param.Type, param.Size = token[1:], size
			param.Align = max(param.Align, size)
		case pointer && (token == ".global" || token == ".shared" || token == ".const" || token == ".local"):
		case strings.HasPrefix(token, ".") || token == "" || strings.Contains("(){},;[]", token) || param.Type == "":
			return param, "", p.errorf("%q in a parameter, want a type and a name", token)
		default:
			param.Name = token
			return p.array(param)
		}
	}
}

// array multiplies the size by the count in brackets, if there is one.
func (p *parser) array(param Param) (Param, string, error) {
	token, err := p.next()
	if err != nil || token != "[" {
		return param, token, err
	}
	n, err := p.number()
	if err != nil {
		return param, "", err
	}
	if token, err = p.next(); err == nil && token != "]" {
		err = p.errorf("%q after the length of %s, want a closing bracket", token, param.Name)
	}
	if err != nil {
		return param, "", err
	}
	param.Size *= n
	token, err = p.next()
	return param, token, err
}

// Offsets returns where each parameter begins in the packed arguments.
func (e *Entry) Offsets() []int {
	offsets, at := make([]int, len(e.Params)), 0
	for i, p := range e.Params {
		at = alignUp(at, p.Align)
		offsets[i] = at
		at += p.Size
	}
	return offsets
}

// Size returns the bytes of the packed arguments, without padding at the end.
func (e *Entry) Size() int {
	n := 0
	for _, p := range e.Params {
		n = alignUp(n, p.Align) + p.Size
	}
	return n
}

func alignUp(n, align int) int { return (n + align - 1) / align * align }

// scanner cuts a text into words, numbers, strings and single punctuation marks.
type scanner struct {
	text string
	line int
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("PTX line %d: %s", s.line, fmt.Sprintf(format, args...))
}

// next returns the next token, or "" at the end.
func (s *scanner) next() (string, error) {
	for s.text != "" {
		switch {
		case s.text[0] == '\n':
			s.line++
			s.text = s.text[1:]
		case strings.IndexByte(" \t\r\f\v", s.text[0]) >= 0:
			s.text = s.text[1:]
		case strings.HasPrefix(s.text, "//"):
			_, rest, _ := strings.Cut(s.text, "\n")
			s.line++
			s.text = rest
		case strings.HasPrefix(s.text, "/*"):
			comment, rest, ok := strings.Cut(s.text[2:], "*/")
			if !ok {
				return "", s.errorf("a comment without an end")
			}
			s.line += strings.Count(comment, "\n")
			s.text = rest
		case s.text[0] == '"':
			i := strings.IndexAny(s.text[1:], "\"\n")
			if i < 0 || s.text[1+i] == '\n' {
				return "", s.errorf("a string without an end")
			}
			return s.take(i + 2), nil
		case strings.IndexByte("(){}[],;:=<>+-!|@&^~*/?\\#'`", s.text[0]) >= 0:
			return s.take(1), nil
		default:
			return s.take(wordLen(s.text)), nil
		}
	}
	return "", nil
}

// wordLen returns the length of the word that a text begins with. A double colon,
// as in .L1::no_allocate, is part of it.
func wordLen(text string) int {
	for n := 0; ; n += len("::") {
		i := strings.IndexAny(text[n:], " \t\r\f\v\n(){}[],;:=<>+-!|@&^~*/?\\#'`\"")
		if i < 0 {
			return len(text)
		}
		if n += i; !strings.HasPrefix(text[n:], "::") {
			return n
		}
	}
}

func (s *scanner) take(n int) string {
	token := s.text[:n]
	s.text = s.text[n:]
	return token
}
