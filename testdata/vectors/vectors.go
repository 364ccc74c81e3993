// Package vectors holds the conformance vectors of the .trit format and of its
// arithmetic, for any implementation to run: spec/trit-v1-vectors.md describes
// them.
//
// FS has container/NAME.vector, one scenario a file, and numerics/NAME.json.
package vectors

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// FS holds every vector.
//
//go:embed container/*.vector numerics/*.json
var FS embed.FS

// Success is what Vector.Expect says of a file that a reader accepts.
const Success = "success"

// The stages at which a file is refused.
const (
	Opening   = "opening"   // by its header and its size
	Verifying = "verifying" // by the bytes of extents and sections
	Content   = "content"   // by what a section says
)

// Vector is one scenario: a file and what a reader does with it.
type Vector struct {
	Name     string // of the file, without folder and extension
	Expect   string // Success, or the class of failure (spec/trit-v1.md, 14)
	Stage    string // when it is refused: Opening, Verifying or Content; empty on success
	Released string // on success, the SHA-256 of what may be released, in hexadecimal
	Comment  string // what is special about the file
	File     []byte // the file itself
}

// classes are the failures that a vector can expect.
var classes = []string{"not-trit", "unsupported-version", "header", "directory", "bounds", "checksum", "code", "scale", "config", "tokenizer"}

// Parse reads a vector: lines "key: value", an empty line, the file. It refuses
// an unknown key, a key that occurs twice or is missing, and a value that is not
// one of those described above, so that a reader of vectors never skips what it
// does not understand.
func Parse(name string, data []byte) (*Vector, error) {
	head, file, ok := bytes.Cut(data, []byte("\n\n"))
	if !ok {
		return nil, fmt.Errorf("vector %s: there is no empty line, want one between the text and the file", name)
	}
	v := &Vector{Name: name, File: file}
	fields := map[string]*string{"expect": &v.Expect, "stage": &v.Stage, "released": &v.Released, "comment": &v.Comment}
	for line := range strings.SplitSeq(string(head), "\n") {
		key, value, ok := strings.Cut(line, ": ")
		field := fields[key]
		switch {
		case !ok || value == "":
			return nil, fmt.Errorf("vector %s: line %q, want \"key: value\"", name, line)
		case field == nil:
			return nil, fmt.Errorf("vector %s: key %q is unknown, want expect, stage, released or comment", name, key)
		case *field != "":
			return nil, fmt.Errorf("vector %s: key %q occurs twice, want once", name, key)
		}
		*field = value
	}
	return v, v.check()
}

func (v *Vector) check() error {
	if v.Comment == "" {
		return fmt.Errorf("vector %s: there is no comment, want one", v.Name)
	}
	if v.Expect == Success {
		if sum, err := hex.DecodeString(v.Released); v.Stage != "" || err != nil || len(sum) != 32 {
			return fmt.Errorf("vector %s: stage %q and released %q, want no stage and the 64 digits of a SHA-256 with %q", v.Name, v.Stage, v.Released, Success)
		}
		return nil
	}
	if !slices.Contains(classes, v.Expect) {
		return fmt.Errorf("vector %s: expect %q, want %q or one of %q", v.Name, v.Expect, Success, classes)
	}
	if v.Stage != Opening && v.Stage != Verifying && v.Stage != Content || v.Released != "" {
		return fmt.Errorf("vector %s: stage %q and released %q, want %q, %q or %q and nothing released", v.Name, v.Stage, v.Released, Opening, Verifying, Content)
	}
	return nil
}

// Encode is the reverse of Parse.
func (v *Vector) Encode() []byte {
	var b bytes.Buffer
	for _, f := range [][2]string{{"expect", v.Expect}, {"stage", v.Stage}, {"released", v.Released}, {"comment", v.Comment}} {
		if f[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
		}
	}
	b.WriteByte('\n')
	b.Write(v.File)
	return b.Bytes()
}

// Container returns the vectors of the container, by ascending name.
func Container() ([]*Vector, error) {
	names, err := fs.Glob(FS, "container/*.vector")
	if err != nil {
		return nil, err
	}
	var list []*Vector
	for _, file := range names {
		data, err := FS.ReadFile(file)
		if err != nil {
			return nil, err
		}
		v, err := Parse(strings.TrimSuffix(path.Base(file), ".vector"), data)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b *Vector) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}
