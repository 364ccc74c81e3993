package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"sync/atomic"
)

// File is an open .trit whose prelude and directory have been verified. All
// methods but Close may be called from many goroutines at once.
type File struct {
	header *Header
	index  map[string]int
	data   []byte            // the whole file, or nil: then r is read
	r      io.ReaderAt       // the whole file
	mapped bool              // data is a map, and reading it can fault
	held   map[string][]byte // sections that are not in the file yet, see Writer.Preview
	closer func() error
	closed atomic.Bool
}

// Open opens the file at path: on Linux and macOS as a read-only shared map,
// elsewhere by reading it into memory. It verifies prelude and directory, and
// nothing else. The caller closes it.
func Open(path string) (*File, error) {
	st, err := os.Stat(path) // before opening: that of a pipe would wait for a writer
	switch {
	case err != nil:
		return nil, err
	case st.IsDir():
		return nil, fmt.Errorf("%s is a folder, want a .trit file; if it is a checkpoint, convert it first: tritter-convert %s", path, path)
	case !st.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file (%v); a .trit is read at any offset, so save it to a disk first", path, st.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return nil, err
	}
	// The header is read, not mapped: it costs two small reads and cannot fault.
	h, err := ReadHeader(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return openMapped(f, h, st.Size())
}

// openMapped makes a File of h over the first size bytes of f.
func openMapped(f *os.File, h *Header, size int64) (*File, error) {
	if size > math.MaxInt {
		return nil, &UnsupportedError{preFileLength, fmt.Sprintf("%d bytes of address space", size), fmt.Sprint(math.MaxInt), "use a 64-bit machine"}
	}
	data, mapped, unmap, err := mapFile(f, int(size))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	file := newFile(h)
	file.data, file.r, file.mapped, file.closer = data, bytes.NewReader(data), mapped, unmap
	return file, nil
}

// OpenBytes opens a file that is in memory, such as one of go:embed. data is
// not copied and must not change while the File is in use. It need not be
// aligned.
func OpenBytes(data []byte) (*File, error) {
	r := bytes.NewReader(data)
	h, err := ReadHeader(r, int64(len(data)))
	if err != nil {
		return nil, err
	}
	f := newFile(h)
	f.data, f.r = data, r
	return f, nil
}

// OpenReaderAt opens a file of the given size that is read through r, which
// must allow calls from many goroutines at once. Close does not close r.
func OpenReaderAt(r io.ReaderAt, size int64) (*File, error) {
	h, err := ReadHeader(r, size)
	if err != nil {
		return nil, err
	}
	f := newFile(h)
	f.r = r
	return f, nil
}

func newFile(h *Header) *File {
	f := &File{header: h, index: make(map[string]int, len(h.Tensors))}
	for i := range h.Tensors {
		f.index[h.Tensors[i].Name] = i
	}
	return f
}

// Header returns the file's header, which belongs to the File and must not be
// changed.
func (f *File) Header() *Header { return f.header }

// Tensor returns the tensor of that name, and whether there is one.
func (f *File) Tensor(name string) (*Tensor, bool) {
	i, ok := f.index[name]
	if !ok {
		return nil, false
	}
	return &Tensor{f, &f.header.Tensors[i]}, true
}

// Section returns a copy of a section's bytes after verifying its SHA-256, or
// an error that wraps ErrNoSection.
func (f *File) Section(name string) ([]byte, error) {
	s, ok := f.section(name)
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoSection, name)
	}
	if b, ok := f.held[name]; ok {
		return bytes.Clone(b), nil
	}
	b, err := f.copyExtent(s.Offset, s.Length)
	if err != nil {
		return nil, err
	}
	if sum := sha256.Sum256(b); sum != s.SHA256 {
		return nil, s.checksumError(sum)
	}
	return b, nil
}

func (f *File) section(name string) (*Section, bool) {
	for i := range f.header.Sections {
		if s := &f.header.Sections[i]; s.Name == name {
			return s, true
		}
	}
	return nil, false
}

func (s *Section) checksumError(got [32]byte) *FormatError {
	return &FormatError{ClassChecksum, s.Offset, "SHA-256 of section " + s.Name, hexHash(got), hexHash(s.SHA256), "the file was damaged; fetch it again"}
}

// DecodeSection decodes a JSON section into v as DecodeJSON does, after
// verifying its SHA-256. Offsets of its errors count from the start of the
// file.
func (f *File) DecodeSection(name string, v any) error {
	b, err := f.Section(name)
	if err != nil {
		return err
	}
	s, _ := f.section(name)
	if fe := decodeJSON(b, v); fe != nil {
		return fe.within(s)
	}
	return nil
}

// within moves an error about a section's data to its place in the file.
func (e *FormatError) within(s *Section) *FormatError {
	moved := *e
	moved.Offset += s.Offset
	moved.Field = "section " + s.Name + ": " + e.Field
	return &moved
}

// Close releases the map. Views of the file must not be used afterwards.
// Closing again does nothing.
func (f *File) Close() error {
	if f.closed.Swap(true) || f.closer == nil {
		return nil
	}
	return f.closer()
}

// view returns n bytes at off without copying, for a file that has data.
func (f *File) view(off, n int64) ([]byte, error) {
	if f.closed.Load() {
		return nil, fmt.Errorf("format: read of a closed file: %w", os.ErrClosed)
	}
	size := int64(len(f.data))
	if off < 0 || n < 0 || off > size || n > size-off {
		return nil, &FormatError{ClassBounds, off, "extent", fmt.Sprintf("%d bytes at %d", n, off), fmt.Sprintf("within %d bytes", size), ""}
	}
	return f.data[off : off+n : off+n], nil
}

// copyExtent returns a fresh copy of n bytes at off.
func (f *File) copyExtent(off, n int64) ([]byte, error) {
	if f.data == nil {
		if f.closed.Load() {
			return nil, fmt.Errorf("format: read of a closed file: %w", os.ErrClosed)
		}
		if off < 0 || n < 0 || n > f.header.FileLength || n > math.MaxInt {
			return nil, &FormatError{ClassBounds, off, "extent", fmt.Sprintf("%d bytes at %d", n, off), fmt.Sprintf("within %d bytes", f.header.FileLength), ""}
		}
		b := make([]byte, n)
		return b, readFull(f.r, b, off)
	}
	v, err := f.view(off, n)
	if err != nil {
		return nil, err
	}
	var b []byte
	err = f.guard(func() error {
		b = bytes.Clone(v)
		return nil
	})
	return b, err
}

// guard is Guard for files whose data can fault.
func (f *File) guard(fn func() error) error {
	if f.mapped {
		return Guard(fn)
	}
	return fn()
}

// Tensor is one tensor of an open file.
type Tensor struct {
	f    *File
	info *TensorInfo
}

// Info returns the tensor's record, which belongs to the File and must not be
// changed.
func (t *Tensor) Info() *TensorInfo { return t.info }

// Data returns the tensor's encoded values, unverified: see File.Check. The
// slice must not be written. For a mapped file and one in memory it is a view,
// valid until File.Close, possibly unaligned, and to be read inside Guard; for
// a file behind an io.ReaderAt it is a fresh copy.
func (t *Tensor) Data() ([]byte, error) {
	if t.f.data == nil {
		return t.f.copyExtent(t.info.Offset, t.info.Length)
	}
	return t.f.view(t.info.Offset, t.info.Length)
}

// Scales returns a fresh copy of the tensor's scales, nil when it has none. It
// refuses a scale that is not finite or has a sign that its rule excludes. The
// order is [1], [out] or [out, ceil(in/G)].
func (t *Tensor) Scales() ([]float32, error) {
	if t.info.ScaleLength == 0 {
		return nil, nil
	}
	b, err := t.f.copyExtent(t.info.ScaleOffset, t.info.ScaleLength)
	if err != nil {
		return nil, err
	}
	s := make([]float32, len(b)/4)
	for i := range s {
		s[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if want := t.info.scaleFault(s[i]); want != "" {
			return nil, t.info.scaleError(i, s[i], want)
		}
	}
	return s, nil
}

func (t *TensorInfo) scaleError(i int, s float32, want string) *FormatError {
	return &FormatError{ClassScale, t.ScaleOffset + 4*int64(i), fmt.Sprintf("%s: scale %d", t.Name, i), fmt.Sprint(s), want, ""}
}
