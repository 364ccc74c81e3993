package tensor

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// NoOffset is the Offset of an error that no position in the file explains.
const NoOffset = -1

// A FormatError says that a file breaks the rules of its format: it is damaged,
// incomplete, hostile, or not what its name says.
type FormatError struct {
	File   string // base name
	Offset int64  // byte position of what is wrong, or NoOffset
	Field  string // what is wrong, such as `tensor "norm.weight": shape`
	Got    string // what the file holds
	Want   string // what the format asks for
	Hint   string // what to do about it; may be empty
}

// Error returns "file: offset N: field: got G, want W; hint".
func (e *FormatError) Error() string {
	return position(e.File, e.Offset, e.Field) + "got " + e.Got + ", want " + e.Want + hint(e.Hint)
}

// An UnsupportedError says that a file may well be in order but asks for
// something that this reader does not do, or exceeds a limit that the reader
// sets for itself.
type UnsupportedError struct {
	File   string // base name
	Offset int64  // byte position of what is not supported, or NoOffset
	Field  string // what is not supported, such as `tensor "norm.weight": dtype`
	Got    string // what the file holds
	Want   string // what is supported
	Hint   string // what to do about it; may be empty
}

// Error returns "file: offset N: field: G is not supported, want W; hint".
func (e *UnsupportedError) Error() string {
	return position(e.File, e.Offset, e.Field) + e.Got + " is not supported, want " + e.Want + hint(e.Hint)
}

func position(file string, offset int64, field string) string {
	if offset < 0 {
		return fmt.Sprintf("%s: %s: ", file, field)
	}
	return fmt.Sprintf("%s: offset %d: %s: ", file, offset, field)
}

func hint(h string) string {
	if h == "" {
		return ""
	}
	return "; " + h
}

// quoteMax bounds, in bytes, how much of a string from a file an error repeats.
const quoteMax = 80

// Quote returns s as a Go string literal for an error message, cut short after
// 80 bytes so that a hostile file cannot fill the terminal.
func Quote(s string) string {
	if len(s) <= quoteMax {
		return strconv.Quote(s)
	}
	cut := quoteMax
	for cut > quoteMax-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes)", strconv.Quote(s[:cut]), len(s))
}

// Placeholder recognises the beginning of a file that is not the file itself
// but something a download left in its place. For a Git LFS pointer or a web
// page it returns the FormatError to report; otherwise nil. The beginning may
// be as short as the file is; 64 bytes are enough.
func Placeholder(file string, beginning []byte) error {
	s := string(beginning)
	got, hint := "", ""
	lower := strings.ToLower(strings.TrimLeft(s, " \r\n\t"))
	switch {
	case strings.HasPrefix(s, "version https://git-lfs"):
		got = "a Git LFS pointer"
		hint = "this is a Git LFS pointer, the file itself was not downloaded: git lfs pull"
	case strings.HasPrefix(lower, "<!doctype html"), strings.HasPrefix(lower, "<html"):
		got = "a web page"
		hint = "the download saved a page instead of the file: download it again, and log in first if the model asks for it"
	default:
		return nil
	}
	return &FormatError{File: file, Field: "content", Got: got, Want: "the file itself", Hint: hint}
}
