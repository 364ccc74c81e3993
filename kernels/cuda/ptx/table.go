package ptx

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Kind is the kind of an argument, as kernels/cuda/driver.Args packs it.
type Kind uint8

// The kinds of arguments.
const (
	Ptr Kind = iota // address on the device
	U64
	U32
	I32
	F32
)

// kinds holds the spelling, the bytes, and the PTX types in which compilers write
// the kind: nvcc has .u32 for int as well.
var kinds = map[Kind]struct {
	name  string
	size  int
	types []string
}{
	Ptr: {"ptr", 8, []string{"u64", "b64"}},
	U64: {"u64", 8, []string{"u64", "b64", "s64"}},
	U32: {"u32", 4, []string{"u32", "b32", "s32"}},
	I32: {"i32", 4, []string{"u32", "b32", "s32"}},
	F32: {"f32", 4, []string{"f32"}},
}

func (k Kind) String() string {
	if d, ok := kinds[k]; ok {
		return d.name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Size returns the bytes of an argument of the kind, which is also its alignment.
func (k Kind) Size() int { return kinds[k].size }

// Table is a launch table: the arguments of each kernel, by entry name.
type Table map[string][]Kind

// Check holds the entries of the file to the table: no entry without a row, no row
// without an entry, and for each the same parameters at the same offsets. The
// error lists every difference.
func (f *File) Check(table Table) error {
	var errs []error
	seen := map[string]bool{}
	for i := range f.Entries {
		e := &f.Entries[i]
		seen[e.Name] = true
		row, ok := table[e.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("entry %s%s is not in the launch table", e.Name, e.list()))
			continue
		}
		if err := e.check(row); err != nil {
			errs = append(errs, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		if !seen[name] {
			errs = append(errs, fmt.Errorf("%s is in the launch table and no entry of the PTX; want one of that name", name))
		}
	}
	return errors.Join(errs...)
}

func (e *Entry) check(row []Kind) error {
	if len(row) != len(e.Params) {
		return fmt.Errorf("entry %s has %d parameters %s, and the launch table %d %v", e.Name, len(e.Params), e.list(), len(row), row)
	}
	at := 0
	for i, offset := range e.Offsets() {
		p, k := e.Params[i], row[i]
		at = alignUp(at, max(k.Size(), 1))
		if !slices.Contains(kinds[k].types, p.Type) || p.Size != k.Size() || offset != at {
			return fmt.Errorf("entry %s, parameter %d: .%s of %d bytes at offset %d, and in the launch table %v of %d at %d", e.Name, i, p.Type, p.Size, offset, k, k.Size(), at)
		}
		at += k.Size()
	}
	return nil
}

// list spells the parameters.
func (e *Entry) list() string {
	types := make([]string, len(e.Params))
	for i, p := range e.Params {
		types[i] = p.Type
		if n := p.Size / typeSizes[p.Type]; n != 1 {
			types[i] += fmt.Sprintf("[%d]", n)
		}
	}
	return "(" + strings.Join(types, ", ") + ")"
}

// Inexact returns the instructions of a text that round in a way the numerics do
// not know: those that flush subnormals (.ftz) or approximate (.approx, .full),
// each once, sorted.
func Inexact(text string) ([]string, error) {
	s := scanner{text: text, line: 1}
	found := map[string]bool{}
	for {
		token, err := s.next()
		if err != nil {
			return nil, err
		}
		if token == "" {
			return slices.Sorted(maps.Keys(found)), nil
		}
		for part := range strings.SplitSeq(token, ".") {
			if !strings.HasPrefix(token, "\"") && (part == "ftz" || part == "approx" || part == "full") {
				found[token] = true
			}
		}
	}
}
