// Package format reads, checks and writes the .trit container of
// spec/trit-v1.md: a prelude and a fixed-size directory, the extents of the
// tensors, and named sections. It owns the encoding numbers, the sizes of
// payloads and the legality of their codes. It knows bytes and no model: which
// tensors a model has, and what a section says, is decided above it.
//
// Reading has two levels. Open, OpenBytes, OpenReaderAt and ReadHeader verify
// everything about the prelude and the directory, their SHA-256 included, and
// never touch a tensor. File.Check reads every other byte of the file once and
// verifies hashes, codes, scales and padding.
//
// # Errors
//
// A *FormatError says that the file is wrong, and carries the offset, the
// field, the value seen and the value expected. An *UnsupportedError says that
// the file may be fine but needs something this reader does not have. Any
// other error comes from the operating system or from the caller.
//
// # Caveats
//
// Open maps the file. The views that Tensor.Data returns are the map itself:
// they are valid until File.Close, must not be written, and fault when another
// program truncates the file. The methods of this package turn such a fault
// into a *FormatError; code that reads a view by itself must run inside Guard,
// or it crashes the program. C code cannot recover from a fault at all: copy
// from a view in Go, and never hand the view to C or to a driver.
//
// The data of go:embed is not aligned and neither is any view of it; read it
// by bytes or with encoding/binary, or copy it into aligned memory first.
package format
