package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
)

// FormatError says that a tokenizer.json breaks the rules of its format: it
// is not JSON, a value has the wrong type or is out of range, or two values
// contradict each other.
type FormatError struct {
	Path   string // the value, such as "model.merges[12]"; "" when the JSON itself is broken
	Offset int    // the byte in the file where the value begins; -1 when the fault has no single place
	Got    string // what the file holds
	Want   string // what it should hold, or how to repair it
}

// Error gives place, value found and value expected.
func (e *FormatError) Error() string {
	return "tokenizer.json: " + place(e.Path, e.Offset) + "got " + e.Got + ", want " + e.Want
}

// UnsupportedError says that a tokenizer.json is well formed but asks for
// something that this package does not implement.
type UnsupportedError struct {
	Path      string // where it is asked for, such as "pre_tokenizer.type"
	Offset    int    // the byte in the file where that value begins; -1 when there is no single place
	Component string // the component, key or option asked for
	Supported string // what may stand in its place
}

// Error names the component and the alternatives.
func (e *UnsupportedError) Error() string {
	return "tokenizer.json: " + place(e.Path, e.Offset) + e.Component + " is not supported; supported: " + e.Supported
}

func place(path string, offset int) string {
	var b strings.Builder
	b.WriteString(path)
	if offset >= 0 {
		if path != "" {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "at byte %d", offset)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	return b.String()
}

// quote shortens what an error repeats from a file, which may be long.
func quote(s string) string {
	const limit = 60
	if len(s) > limit {
		cut := limit
		for cut > 0 && s[cut]&0xC0 == 0x80 {
			cut--
		}
		return strconv.Quote(s[:cut]) + "..."
	}
	return strconv.Quote(s)
}
