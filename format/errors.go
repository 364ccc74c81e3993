package format

import (
	"errors"
	"fmt"
	"strings"
)

// Class is the kind of a failure, as conformance vectors and reports name it
// (spec/trit-v1.md, 14).
type Class string

// The classes of failure.
const (
	ClassNotTrit     Class = "not-trit"            // the magic is missing
	ClassUnsupported Class = "unsupported-version" // another major version or an unknown required feature
	ClassHeader      Class = "header"              // a field of the prelude
	ClassDirectory   Class = "directory"           // a field of a tensor's or a section's record
	ClassBounds      Class = "bounds"              // file length, places and lengths of extents, bytes between them
	ClassChecksum    Class = "checksum"            // a SHA-256 of the header, of an extent or of a section
	ClassCode        Class = "code"                // an illegal weight value, or padding inside a tile
	ClassScale       Class = "scale"               // a scale that is not finite or has a wrong sign
	ClassConfig      Class = "config"              // a JSON section
	ClassTokenizer   Class = "tokenizer"           // the tokenizer section
)

// ErrNoSection is returned for a section that the file does not have.
var ErrNoSection = errors.New("the file has no such section")

// FormatError says that the file is wrong.
type FormatError struct {
	Class  Class
	Offset int64  // of the offending byte or field, from the start of the file (of the data, for DecodeJSON)
	Field  string // what stands there, such as "tensor 3 (head.weight): group"
	Got    string
	Want   string
	Hint   string // what to do about it; may be empty
}

// Error gives the class, the offset, the field, the values seen and expected,
// and the hint, in one line.
func (e *FormatError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: offset %d: %s is %s, want %s", e.Class, e.Offset, e.Field, e.Got, e.Want)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// UnsupportedError says that the file may be fine, but that this reader cannot
// open it.
type UnsupportedError struct {
	Offset  int64  // where the file asks for it
	Feature string // what is missing: "version 2.0", "feature trit5"
	Want    string // what this reader supports
	Hint    string
}

// Error names the missing feature, what is supported, and the hint.
func (e *UnsupportedError) Error() string {
	s := fmt.Sprintf("%s: offset %d: the file needs %s, this reader supports %s", ClassUnsupported, e.Offset, e.Feature, e.Want)
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

// ClassOf returns the class of a *FormatError or *UnsupportedError anywhere in
// err's chain, and "" when there is none.
func ClassOf(err error) Class {
	if fe, ok := errors.AsType[*FormatError](err); ok {
		return fe.Class
	}
	if _, ok := errors.AsType[*UnsupportedError](err); ok {
		return ClassUnsupported
	}
	return ""
}

// Problem is one finding of a check. A rule that a tensor breaks in many
// places is one Problem with a count, so that the findings of a file stay few
// however damaged it is.
type Problem struct {
	Tensor  string // the tensor's name, or ""
	Section string // the section's name, or ""
	Count   int64  // in how many bytes or values the rule is broken, at least 1
	Last    int64  // the offset of the last of them
	Err     *FormatError
}

// Error describes the first place, and how many more there are.
func (p Problem) Error() string {
	s := p.Err.Error()
	if p.Count > 1 {
		s += fmt.Sprintf("; %d such places up to offset %d", p.Count, p.Last)
	}
	return s
}

// Unwrap returns the *FormatError of the first place.
func (p Problem) Unwrap() error { return p.Err }
