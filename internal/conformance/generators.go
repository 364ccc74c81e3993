package conformance

import (
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/testdata/vectors"
)

// generator makes one vector. Rules are the identifiers of the rules that the
// file breaks, or shows where it is right; see Rules.
type generator struct {
	vector vectors.Vector
	rules  []string
}

// accepted is a vector that every reader accepts.
func accepted(name, comment string, f *file, rules ...string) generator {
	return generator{vectors.Vector{Name: name, Expect: vectors.Success, Released: f.released(), Comment: comment, File: f.image().b}, rules}
}

// refused is a vector that is refused at a stage with a class.
func refused(name, stage, class, comment string, file []byte, rules ...string) generator {
	return generator{vectors.Vector{Name: name, Expect: class, Stage: stage, Comment: comment, File: file}, rules}
}

// header changes the header of the least container and makes its hash right
// again, so that the rule itself is reached.
func header(name, class, comment string, change func(m *image), rules ...string) generator {
	m := two().image()
	change(m)
	m.hashHeader()
	return refused(name, vectors.Opening, class, comment, m.b, rules...)
}

// opening changes the content of the least container before it is laid out.
func opening(name, class, comment string, change func(f *file), rules ...string) generator {
	f := two()
	change(f)
	return refused(name, vectors.Opening, class, comment, f.image().b, rules...)
}

// payload changes the bytes of a model before they are hashed.
func payload(name, class, comment string, f *file, change func(f *file), rules ...string) generator {
	change(f)
	return refused(name, vectors.Verifying, class, comment, f.image().b, rules...)
}

// damage changes the bytes of a model after they are hashed.
func damage(name, class, comment string, f *file, change func(m *image), rules ...string) generator {
	m := f.image()
	change(m)
	return refused(name, vectors.Verifying, class, comment, m.b, rules...)
}

// Vectors makes every container vector, by ascending name, and says for each
// rule which vectors it has.
func Vectors() (list []vectors.Vector, byRule map[string][]string) {
	byRule = map[string][]string{}
	for _, group := range [][]generator{successes(), preludes(), directories(), extents(), payloads(), canonical(), configs(), sections(), codebooks()} {
		for _, g := range group {
			list = append(list, g.vector)
			if len(g.rules) == 0 {
				panic(fmt.Sprintf("conformance: vector %s has no rule", g.vector.Name))
			}
			for _, r := range g.rules {
				byRule[r] = append(byRule[r], g.vector.Name)
			}
		}
	}
	slices.SortFunc(list, func(a, b vectors.Vector) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name == b.Name:
			panic("conformance: two vectors are called " + a.Name)
		}
		return 1
	})
	return list, byRule
}

// put8 to put64 write a value at an offset of the file.
func put8(at int, v byte) func(m *image)    { return func(m *image) { m.b[at] = v } }
func put16(at int, v uint16) func(m *image) { return func(m *image) { le.PutUint16(m.b[at:], v) } }
func put32(at int, v uint32) func(m *image) { return func(m *image) { le.PutUint32(m.b[at:], v) } }
func put64(at int, v uint64) func(m *image) { return func(m *image) { le.PutUint64(m.b[at:], v) } }

// add64 adds to a value at an offset of the file.
func add64(at int, d int64) func(m *image) {
	return func(m *image) { le.PutUint64(m.b[at:], le.Uint64(m.b[at:])+uint64(d)) }
}

// putText writes a zero-padded field.
func putText(at, size int, text string) func(m *image) {
	return func(m *image) {
		clear(m.b[at : at+size])
		copy(m.b[at:at+size], text)
	}
}

// all applies several changes.
func all(changes ...func(m *image)) func(m *image) {
	return func(m *image) {
		for _, change := range changes {
			change(m)
		}
	}
}

// first, second and named are offsets of fields of the least container's records.
func first(field int) int  { return preludeSize + field }
func second(field int) int { return preludeSize + recordSize + field }
func named(field int) int  { return preludeSize + 2*recordSize + field }
