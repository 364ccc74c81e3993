// Package tensor holds what every checkpoint reader hands out: named tensors
// whose bytes are fetched on demand, the Source that lists them, and the two
// errors a reader may return.
//
// It is a package of its own so that a reader of one container and
// checkpoint.Open, which picks the reader, can share these types; callers
// normally use them under their names in package checkpoint.
package tensor

import (
	"errors"
	"fmt"
	"io"
)

// A DType is an element type, spelled as safetensors spells it.
type DType string

// The element types that a Tensor can have. All are little-endian; BOOL is one
// byte an element.
const (
	Bool   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E4M3 DType = "F8_E4M3"
	F8E5M2 DType = "F8_E5M2"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	I64    DType = "I64"
	U64    DType = "U64"
	F64    DType = "F64"
)

// DTypes lists every known element type for messages, narrowest first.
const DTypes = "BOOL, U8, I8, F8_E4M3, F8_E5M2, I16, U16, F16, BF16, I32, U32, F32, I64, U64, F64"

// Size returns the bytes of one element, or 0 when d is not a known type.
func (d DType) Size() int {
	switch d {
	case Bool, U8, I8, F8E4M3, F8E5M2:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case I64, U64, F64:
		return 8
	}
	return 0
}

// A Tensor is a named array that still lies in its file: nothing but ReadAt
// reads its elements, which are row-major and little-endian.
//
// A reader guarantees that Size is the product of Shape times the element
// size, without overflow, and that these bytes lay inside the file when it was
// opened. Shape may be empty (a scalar) and may hold zeros; callers that want
// neither refuse them.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64
	File  string // base name of the file that holds the bytes
	Size  int64  // bytes

	r      io.ReaderAt
	offset int64
}

// New returns a copy of t whose bytes are the t.Size bytes at offset of r. It
// checks nothing: it is for readers, which have.
func New(t Tensor, r io.ReaderAt, offset int64) *Tensor {
	t.r, t.offset = r, offset
	return &t
}

// Offset returns where the tensor's first byte lies in its file, so that a
// caller can read many tensors in the order of the disk.
func (t *Tensor) Offset() int64 { return t.offset }

// ReadAt reads the tensor's bytes from off, as io.ReaderAt: it fills p, or
// returns an error that says why not, io.EOF alone meaning that p reaches past
// the tensor's end. A file that has become shorter since it was opened yields
// an error that wraps io.ErrUnexpectedEOF, never io.EOF, and names the file
// and the offset. Any number of goroutines may read at once.
func (t *Tensor) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("tensor %q: read at negative offset %d", t.Name, off)
	}
	if off > t.Size || off == t.Size && len(p) > 0 {
		return 0, io.EOF
	}
	past := int64(len(p)) > t.Size-off
	if past {
		p = p[:t.Size-off]
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := t.r.ReadAt(p, t.offset+off)
	if n == len(p) {
		if past {
			return n, io.EOF
		}
		return n, nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file became shorter while it was being read: %w", io.ErrUnexpectedEOF)
	}
	return n, fmt.Errorf("%s: offset %d: tensor %q: %w", t.File, t.offset+off+int64(n), t.Name, err)
}

// A Source is an opened checkpoint: its tensors and what else its files say.
// All methods but Close may be called from many goroutines; what they return
// belongs to the Source and must not be changed.
type Source interface {
	// Tensors returns every tensor, sorted by name.
	Tensors() []*Tensor
	// Lookup returns the tensor of that exact name.
	Lookup(name string) (*Tensor, bool)
	// Metadata returns the free-form strings that the files carry. Where
	// several files carry a key with different values, it is left out.
	Metadata() map[string]string
	// Files returns the base names of the files that hold tensors, sorted.
	Files() []string
	// Close closes the files; tensors cannot be read afterwards.
	Close() error
}
