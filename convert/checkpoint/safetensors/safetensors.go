// Package safetensors reads and writes the safetensors container, one file or
// a folder of shards joined by an index, as strictly as the format allows.
//
// A file is an 8-byte little-endian header length, a JSON header of that
// length, and the tensors' bytes:
//
//	{"__metadata__": {"format": "pt"},
//	 "norm.weight": {"dtype": "BF16", "shape": [128], "data_offsets": [0, 256]}}
//
// Opening a file reads its header only; see [Reader]. What is accepted is what
// every implementation reads alike: the header begins with '{' and is padded
// with spaces, keys are unique at every level, lengths are plain decimal
// integers, and the tensors cover the data without hole or overlap to the last
// byte. Everything else is a [tensor.FormatError], or a
// [tensor.UnsupportedError] where the format would allow it and only this
// reader does not.
//
// Format: https://github.com/huggingface/safetensors (README, "Format").
package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// Limits. All but FormatMaxHeader are this reader's own, and beyond them a file
// is refused as unsupported; they are far above what real checkpoints hold and
// bound the memory that a header can ask for.
const (
	// FormatMaxHeader is the longest header the format permits, in bytes.
	FormatMaxHeader = 100_000_000
	// MaxHeader is the longest header read, in bytes; index files have the
	// same limit.
	MaxHeader = 25_000_000
	// MaxTensors bounds the tensors of one file and of all shards together.
	MaxTensors = 65_536
	// MaxMetadata bounds the keys of __metadata__.
	MaxMetadata = 4_096
	// MaxRank bounds the length of a shape.
	MaxRank = 8
	// MaxName bounds a tensor's name, in bytes.
	MaxName = 1_024
	// MaxShards bounds the files that an index names.
	MaxShards = 1_024
)

// prefix is the length of the header length that begins a file.
const prefix = 8

// A Reader is an opened checkpoint: one file or all shards of an index. It
// implements [tensor.Source]. It keeps its files open, reads them with ReadAt
// and never maps them, so that a file that shrinks is an error and not a
// fault, and so that tensors that were read do not stay resident.
type Reader struct {
	tensors  []*tensor.Tensor
	byName   map[string]*tensor.Tensor
	metadata map[string]string
	files    []string
	closers  []io.Closer
}

var _ tensor.Source = (*Reader)(nil)

// Open opens one safetensors file and checks its header against its size. The
// caller closes the Reader.
func Open(path string) (*Reader, error) {
	f, size, err := tensor.OpenRegular(path)
	if err != nil {
		return nil, err
	}
	r, err := New(filepath.Base(path), f, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closers = []io.Closer{f}
	return r, nil
}

// New reads a safetensors file of size bytes from r; name is the base name that
// errors and tensors give as their file. Closing the Reader does not close r.
func New(name string, r io.ReaderAt, size int64) (*Reader, error) {
	buf, err := readHeader(name, r, size)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(name, buf, size)
	if err != nil {
		return nil, err
	}
	rd := &Reader{metadata: h.metadata, files: []string{name}}
	dataStart := int64(prefix + len(buf))
	rd.tensors = make([]*tensor.Tensor, len(h.entries))
	for i, e := range h.entries {
		rd.tensors[i] = tensor.New(tensor.Tensor{
			Name: e.name, DType: e.dtype, Shape: e.shape, File: name, Size: e.end - e.begin,
		}, r, dataStart+e.begin)
	}
	rd.index()
	return rd, nil
}

// index sorts the tensors and builds the table that Lookup uses.
func (r *Reader) index() {
	slices.SortFunc(r.tensors, func(a, b *tensor.Tensor) int { return cmp.Compare(a.Name, b.Name) })
	r.byName = make(map[string]*tensor.Tensor, len(r.tensors))
	for _, t := range r.tensors {
		r.byName[t.Name] = t
	}
}

// Tensors returns every tensor, sorted by name. The slice is the Reader's own.
func (r *Reader) Tensors() []*tensor.Tensor { return r.tensors }

// Lookup returns the tensor of that exact name.
func (r *Reader) Lookup(name string) (*tensor.Tensor, bool) {
	t, ok := r.byName[name]
	return t, ok
}

// Metadata returns a copy of the strings under __metadata__. Of several shards
// it returns the keys on which all that have them agree.
func (r *Reader) Metadata() map[string]string { return maps.Clone(r.metadata) }

// Files returns the base names of the files that were opened, sorted; of a
// sharded checkpoint these are the shards, without the index.
func (r *Reader) Files() []string { return r.files }

// Close closes the files. Reading a tensor afterwards gives os.ErrClosed.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// readHeader returns the JSON header of a file of size bytes. Nothing is
// allocated before the claimed length has been checked against size.
func readHeader(name string, r io.ReaderAt, size int64) ([]byte, error) {
	beginning := make([]byte, min(max(size, 0), 64))
	if err := readFull(name, r, beginning, 0); err != nil {
		return nil, err
	}
	if err := tensor.Placeholder(name, beginning); err != nil {
		return nil, err
	}
	if err := foreign(name, beginning); err != nil {
		return nil, err
	}
	if size < prefix {
		return nil, &tensor.FormatError{
			File: name, Offset: size, Field: "file length",
			Got: fmt.Sprintf("%d bytes", size), Want: "at least 8, the header length", Hint: interrupted,
		}
	}
	length := binary.LittleEndian.Uint64(beginning)
	got := fmt.Sprintf("%d bytes", length)
	switch {
	case length == 0:
		return nil, &tensor.FormatError{File: name, Field: "header length", Got: got, Want: "at least 2, for {}"}
	case length > FormatMaxHeader:
		return nil, &tensor.FormatError{
			File: name, Field: "header length", Got: got, Want: fmt.Sprintf("at most %d", FormatMaxHeader),
			Hint: "is this a safetensors file?",
		}
	case length > uint64(size-prefix):
		return nil, &tensor.FormatError{
			File: name, Field: "header length",
			Got:  fmt.Sprintf("a header that ends at %d in a file that ends at %d", prefix+length, size),
			Want: "a header inside the file", Hint: interrupted,
		}
	case length > MaxHeader:
		return nil, &tensor.UnsupportedError{
			File: name, Field: "header length", Got: got, Want: fmt.Sprintf("at most %d", MaxHeader),
			Hint: "split the checkpoint into shards",
		}
	}
	buf := make([]byte, length)
	if err := readFull(name, r, buf, prefix); err != nil {
		return nil, err
	}
	return buf, nil
}

const interrupted = "was the download interrupted? fetch the file again"

// foreign recognises other containers of weights by their first bytes, which
// as a header length would be over any limit.
func foreign(name string, beginning []byte) error {
	got, hint := "", ""
	switch {
	case bytes.HasPrefix(beginning, []byte("PK\x03\x04")):
		got, hint = "a zip archive, as PyTorch writes", "convert the checkpoint to safetensors first"
	case bytes.HasPrefix(beginning, []byte("GGUF")):
		got, hint = "a GGUF file", "use the safetensors checkpoint that it was made from"
	default:
		return nil
	}
	return &tensor.FormatError{File: name, Field: "content", Got: got, Want: "a safetensors file", Hint: hint}
}

// readFull fills p from off, or says where the file turned out to end.
func readFull(name string, r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file became shorter while it was being read: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%s: offset %d: header: %w", name, off+int64(n), err)
}
