package vocab

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A FormatError says that a file breaks the rules of its format, or that the
// arguments contradict it.
type FormatError struct {
	Kind   string // "SentencePiece model" or "tiktoken file"
	Offset int    // the byte where the fault is, -1 where a line tells it or there is no single place
	Line   int    // the line from 1, 0 in binary files
	Field  string // what was read, such as "piece 12: score"
	Got    string
	Want   string
	Hint   string // what to do about it; may be empty
}

// Error returns "kind: place: field: got G, want W; hint".
func (e *FormatError) Error() string {
	return where(e.Kind, e.Offset, e.Line, e.Field) + "got " + e.Got + ", want " + e.Want + hint(e.Hint)
}

// An UnsupportedError says that a file is in order but has what no
// tokenizer.json of package tokenizer can express, or is beyond a limit.
type UnsupportedError struct {
	Kind   string // as in FormatError
	Offset int
	Line   int
	Field  string
	Got    string
	Want   string // what is supported
	Hint   string
}

// Error returns "kind: place: field: G is not supported, want W; hint".
func (e *UnsupportedError) Error() string {
	return where(e.Kind, e.Offset, e.Line, e.Field) + e.Got + " is not supported, want " + e.Want + hint(e.Hint)
}

func where(kind string, offset, line int, field string) string {
	var b strings.Builder
	b.WriteString(kind)
	if offset >= 0 {
		fmt.Fprintf(&b, ": offset %d", offset)
	}
	if line > 0 {
		fmt.Fprintf(&b, ": line %d", line)
	}
	if field != "" {
		b.WriteString(": " + field)
	}
	b.WriteString(": ")
	return b.String()
}

func hint(s string) string {
	if s == "" {
		return ""
	}
	return "; " + s
}

// quote shortens what an error repeats from a file, which may be long.
func quote[T string | []byte](s T) string {
	const limit = 60
	if len(s) <= limit {
		return strconv.Quote(string(s))
	}
	cut := limit
	for cut > limit-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(string(s[:cut])) + "..."
}
