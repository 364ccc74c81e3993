package codebook

import "fmt"

// FormatError says that an image or a sound is wrong: damaged, cut short, hostile.
type FormatError struct {
	Field string // what is wrong, such as "WAV: data chunk"
	Got   string
	Want  string
}

// Error gives the field, the value seen and the one expected.
func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: got %s, want %s", e.Field, e.Got, e.Want)
}

// UnsupportedError says that an image or a sound may be fine, but that this
// package does not read its kind.
type UnsupportedError struct {
	Field string
	Got   string
	Want  string // what is supported
}

// Error names what is not supported and what is.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("%s: %s is not supported, want %s", e.Field, e.Got, e.Want)
}
