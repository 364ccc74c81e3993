// Package gguf reads GGUF files, the container of llama.cpp: its tensors lazily,
// its metadata by type, and the rows of the element types that a ternary model can
// come from.
//
// A file is refused unless every byte of it is accounted for: the counts and
// lengths fit into the bytes that are left, keys and names are there once, each
// tensor begins where the one before ends, padding is zero, and nothing follows
// the last one. Everything wrong is a [tensor.FormatError]; what the format allows
// and this reader does not do is a [tensor.UnsupportedError].
//
// Versions 2 and 3 are read, little-endian. GGUF carries no checksum of any kind:
// damage inside a tensor is found only where its type has illegal codes.
//
// Types of blocks (Q8_0, TQ1_0, TQ2_0, I2_S) are tensors with the shape of their
// weights and a dtype of the type's name, whose Size method gives 0; [TypeOf] tells
// them, [Floats], [Trits] and [TritsI2SX86] decode their rows. Rows of plain types
// are read as those of any other source.
//
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Limits of this reader; a file beyond one of them is refused as unsupported. They
// are far above what real files hold and bound what a header can ask for.
const (
	MaxHeader    = 32 << 20 // bytes before the tensor data: metadata with its vocabulary, and tensor records
	MaxTensors   = 65_536
	MaxKeys      = 65_536
	MaxKey       = 256     // bytes of a key
	MaxArray     = 4 << 20 // elements of one array
	MaxAlignment = 4096
)

// Limits of the format.
const (
	MaxDims = 4
	MaxName = 64 // bytes of a tensor's name
)

// DefaultAlignment is the alignment of tensors in a file that states none.
const DefaultAlignment = 32

// A Reader is an opened file. It implements [tensor.Source]. It keeps the file
// open, reads it with ReadAt and never maps it.
type Reader struct {
	name      string
	file      io.ReaderAt
	version   uint32
	alignment int64
	keys      []string // in the order of the file
	values    map[string]value
	tensors   []*tensor.Tensor
	byName    map[string]*tensor.Tensor
	closer    io.Closer // nil when the file is not the Reader's
}

var _ tensor.Source = (*Reader)(nil)

// Open opens the GGUF file at path and checks all of it but the values of its
// tensors. The caller closes the Reader.
func Open(path string) (*Reader, error) {
	f, size, err := tensor.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	r, err := New(filepath.Base(path), f, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closer = f
	return r, nil
}

// New reads a GGUF file of size bytes from file; name is the base name that errors
// and tensors give. Closing the Reader does not close file, whose ReadAt must allow
// calls from many goroutines.
func New(name string, file io.ReaderAt, size int64) (*Reader, error) {
	s := &scanner{name: name, file: file, size: size}
	r := &Reader{name: name, file: file}
	if err := r.parse(s); err != nil {
		return nil, err
	}
	slices.SortFunc(r.tensors, func(a, b *tensor.Tensor) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}

// Version returns the version of the format that the file is written in, 2 or 3.
func (r *Reader) Version() int { return int(r.version) }

// Alignment returns the alignment of tensors in bytes.
func (r *Reader) Alignment() int { return int(r.alignment) }

// Keys returns the keys of the metadata in the order of the file.
func (r *Reader) Keys() []string { return slices.Clone(r.keys) }

// Meta returns the value of a key of the metadata, and whether there is one. Its
// Go type is that of the file: uint8, int8, uint16, int16, uint32, int32, uint64,
// int64, float32, float64, bool, string, or a slice of one of these for an array.
// A slice is decoded anew by every call and belongs to the caller.
func (r *Reader) Meta(key string) (any, bool) {
	v, ok := r.values[key]
	if !ok {
		return nil, false
	}
	return v.decode(), true
}

// A MetaError reports a key of the metadata that is missing or of another type.
type MetaError struct {
	File, Key, Got, Want string
}

// Error says what the key holds and what it should.
func (e *MetaError) Error() string {
	return fmt.Sprintf("%s: metadata %s: got %s, want %s", e.File, e.Key, e.Got, e.Want)
}

// Get returns the value of a key that must be there and have the type T, one of
// those of [Reader.Meta]. The error is a [*MetaError]; an array is never taken for
// an array of another type.
func Get[T any](r *Reader, key string) (T, error) {
	var zero T
	want := fmt.Sprintf("%T", zero)
	v, ok := r.Meta(key)
	if !ok {
		return zero, &MetaError{r.name, key, "no such key", want}
	}
	t, ok := v.(T)
	if !ok {
		return zero, &MetaError{r.name, key, fmt.Sprintf("%T", v), want}
	}
	return t, nil
}

// Int returns an integer of the metadata, whatever its width: writers disagree on
// it. The error is a [*MetaError], also for a value beyond 63 bits.
func (r *Reader) Int(key string) (int64, error) {
	const want = "an integer"
	v, ok := r.Meta(key)
	if !ok {
		return 0, &MetaError{r.name, key, "no such key", want}
	}
	switch n := v.(type) {
	case uint8:
		return int64(n), nil
	case int8:
		return int64(n), nil
	case uint16:
		return int64(n), nil
	case int16:
		return int64(n), nil
	case uint32:
		return int64(n), nil
	case int32:
		return int64(n), nil
	case int64:
		return n, nil
	case uint64:
		if n <= math.MaxInt64 {
			return int64(n), nil
		}
		return 0, &MetaError{r.name, key, fmt.Sprint(n), "an integer below 2^63"}
	}
	return 0, &MetaError{r.name, key, fmt.Sprintf("%T", v), want}
}

// Tensors returns every tensor, sorted by name. The slice is the Reader's own.
func (r *Reader) Tensors() []*tensor.Tensor { return r.tensors }

// Lookup returns the tensor of that exact name.
func (r *Reader) Lookup(name string) (*tensor.Tensor, bool) {
	t, ok := r.byName[name]
	return t, ok
}

// Metadata returns those values of the metadata that are strings.
func (r *Reader) Metadata() map[string]string {
	out := map[string]string{}
	for key, v := range r.values {
		if v.kind == kindString && !v.array {
			out[key] = v.decode().(string)
		}
	}
	return out
}

// Files returns the base name of the file.
func (r *Reader) Files() []string { return []string{r.name} }

// Close closes the file. Reading a tensor afterwards gives os.ErrClosed.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	return r.closer.Close()
}

// I2SScale returns the scale of an I2_S tensor, which stands behind its codes. It
// is the same in all layouts of the type. The error is a [*tensor.FormatError] for
// a scale that is not finite, or one of reading.
func (r *Reader) I2SScale(t *tensor.Tensor) (float32, error) {
	if typ, ok := TypeOf(t.DType); !ok || typ != I2S {
		panic(fmt.Sprintf("gguf: I2SScale of %s, which is %s", t.Name, t.DType))
	}
	var b [4]byte
	at := t.Size - i2sTrailer
	if _, err := t.ReadAt(b[:], at); err != nil {
		return 0, err
	}
	scale := math.Float32frombits(binary.LittleEndian.Uint32(b[:]))
	if f := float64(scale); math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, &tensor.FormatError{File: r.name, Offset: t.Offset() + at, Field: fmt.Sprintf("tensor %s: scale", tensor.Quote(t.Name)), Got: fmt.Sprint(scale), Want: "a finite number"}
	}
	return scale, nil
}

// foreignFile recognises other containers, and GGUF's of the other byte order, by
// their first bytes.
func foreignFile(name string, beginning []byte) error {
	if err := tensor.Placeholder(name, beginning); err != nil {
		return err
	}
	got, hint := "", ""
	switch {
	case bytes.HasPrefix(beginning, []byte("FUGG")):
		return &tensor.UnsupportedError{File: name, Field: "magic", Got: "a big-endian file", Want: "a little-endian one", Hint: "convert the checkpoint again on or for a little-endian machine"}
	case bytes.HasPrefix(beginning, []byte("PK\x03\x04")):
		got, hint = "a zip archive, as PyTorch writes", "name the file .pt or .bin"
	case bytes.HasPrefix(beginning, []byte("lmgg")), bytes.HasPrefix(beginning, []byte("fmgg")), bytes.HasPrefix(beginning, []byte("tjgg")), bytes.HasPrefix(beginning, []byte("algg")):
		got, hint = "a GGML file from before GGUF", "convert the original checkpoint again with a current tool"
	case !bytes.HasPrefix(beginning, []byte("GGUF")):
		got = fmt.Sprintf("%q", beginning[:min(len(beginning), 4)])
	default:
		return nil
	}
	return &tensor.FormatError{File: name, Field: "magic", Got: got, Want: `"GGUF"`, Hint: hint}
}
