package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// TensorInfo is a tensor's record in the directory (spec/trit-v1.md, 3.1).
// Offsets count from the start of the file, lengths are in bytes.
type TensorInfo struct {
	Name        string
	Encoding    Encoding
	Rule        Rule
	Granularity Granularity
	Dims        []int // [n] or [out, in]
	Group       int   // columns that share a scale, 0 unless Granularity is ScaleGroup

	Offset, Length           int64
	ScaleOffset, ScaleLength int64 // both 0 when there are no scales
	SHA256                   [32]byte
	ScaleSHA256              [32]byte // zero when there are no scales
}

// Section is a section's record in the directory (spec/trit-v1.md, 3.2).
type Section struct {
	Name           string
	Offset, Length int64
	SHA256         [32]byte
}

// Header is the prelude and the directory of a file. It belongs to whoever
// read it; a File's own must not be changed.
type Header struct {
	Major, Minor uint16
	Required     []string // features a reader must know, ascending
	Optional     []string // features a reader may ignore, ascending
	FileLength   int64
	HeaderLength int64 // prelude, directory and their padding
	Tensors      []TensorInfo
	Sections     []Section // ascending by name
	SHA256       [32]byte  // over the header with this field zero; stands for the whole file
}

// Offsets of the prelude's fields (spec/trit-v1.md, 2).
const (
	preMajor        = 8
	preMinor        = 10
	preZero1        = 12
	preFileLength   = 16
	preHeaderLength = 24
	preTensors      = 32
	preSections     = 36
	preZero2        = 40
	preRequired     = 64
	preOptional     = 192
	preSHA          = 320
	preZero3        = 352
)

// Offsets of the fields of a section's record (spec/trit-v1.md, 3.2).
const (
	secOffset = 32
	secLength = 40
	secSHA    = 48
	secZero   = 80
)

// ReadHeader reads and verifies prelude and directory of a file of the given
// size: every rule of spec/trit-v1.md, 2 to 4, the header's SHA-256 included,
// except the bytes between extents. It reads the header only and allocates in
// proportion to the bytes that are there, whatever the fields claim. The
// error is a *FormatError, an *UnsupportedError, or r's own.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	var prelude [PreludeSize]byte
	have := min(size, PreludeSize)
	if err := readFull(r, prelude[:max(have, 0)], 0); err != nil {
		return nil, err
	}
	h, tensors, sections, err := readPrelude(prelude[:max(have, 0)], size)
	if err != nil {
		return nil, err
	}
	head := make([]byte, h.HeaderLength)
	if err := readFull(r, head, 0); err != nil {
		return nil, err
	}
	copy(h.SHA256[:], head[preSHA:])
	if got := headerHash(head); got != h.SHA256 {
		return nil, &FormatError{ClassChecksum, preSHA, "SHA-256 of the header", hexHash(h.SHA256), hexHash(got), "the header was damaged or edited; fetch the file again"}
	}
	if err := h.readFeatures(head); err != nil {
		return nil, err
	}
	p := &directory{head: head, h: h, end: h.HeaderLength}
	if err := p.read(tensors, sections); err != nil {
		return nil, err
	}
	return h, nil
}

// readPrelude checks everything that is needed to read the whole header.
func readPrelude(b []byte, size int64) (h *Header, tensors, sections int, err error) {
	if len(b) < len(Magic) || string(b[:len(Magic)]) != Magic {
		return nil, 0, 0, notTrit(b)
	}
	truncated := func() error {
		return &FormatError{ClassBounds, int64(len(b)), "file length", fmt.Sprintf("%d bytes", size), fmt.Sprintf("at least %d", PreludeSize), "the file ends inside the prelude: an interrupted download?"}
	}
	if len(b) < preZero1 {
		return nil, 0, 0, truncated()
	}
	le := binary.LittleEndian
	h = &Header{Major: le.Uint16(b[preMajor:]), Minor: le.Uint16(b[preMinor:])}
	if h.Major != Major {
		return nil, 0, 0, &UnsupportedError{preMajor, fmt.Sprintf("version %d.%d", h.Major, h.Minor), fmt.Sprintf("version %d", Major), "a newer tritter may read it"}
	}
	if len(b) < PreludeSize {
		return nil, 0, 0, truncated()
	}
	if v := le.Uint64(b[preFileLength:]); v != uint64(size) {
		hint := "bytes follow the end of the file"
		if v > uint64(size) {
			hint = "the end of the file is missing: an interrupted download?"
		}
		return nil, 0, 0, &FormatError{ClassBounds, preFileLength, "file length", fmt.Sprint(v), fmt.Sprintf("%d, the size of the file", size), hint}
	}
	nt, ns := le.Uint32(b[preTensors:]), le.Uint32(b[preSections:])
	if nt < 1 || nt > MaxTensors {
		return nil, 0, 0, &FormatError{ClassHeader, preTensors, "tensor count", fmt.Sprint(nt), fmt.Sprintf("1..%d", MaxTensors), ""}
	}
	if ns < 1 || ns > MaxSections {
		return nil, 0, 0, &FormatError{ClassHeader, preSections, "section count", fmt.Sprint(ns), fmt.Sprintf("1..%d", MaxSections), ""}
	}
	h.FileLength = size
	h.HeaderLength = headerLength(int(nt), int(ns))
	if v := le.Uint64(b[preHeaderLength:]); v != uint64(h.HeaderLength) {
		return nil, 0, 0, &FormatError{ClassHeader, preHeaderLength, "header length", fmt.Sprint(v), fmt.Sprintf("%d for %d tensors and %d sections", h.HeaderLength, nt, ns), ""}
	}
	if h.HeaderLength > size {
		return nil, 0, 0, &FormatError{ClassBounds, preHeaderLength, "header length", fmt.Sprint(h.HeaderLength), fmt.Sprintf("at most %d, the size of the file", size), "the file ends inside the directory: an interrupted download?"}
	}
	return h, int(nt), int(ns), nil
}

// headerLength is the length of prelude and directory, padded.
func headerLength(tensors, sections int) int64 {
	return alignUp(PreludeSize + TensorRecordSize*int64(tensors) + SectionRecordSize*int64(sections))
}

// headerHash is the SHA-256 of a header with its own field taken as zero.
func headerHash(head []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(head[:preSHA])
	h.Write(make([]byte, sha256.Size))
	h.Write(head[preSHA+sha256.Size:])
	h.Sum(sum[:0])
	return sum
}

func hexHash(h [32]byte) string { return fmt.Sprintf("%x", h) }

// notTrit describes the first bytes of something else.
func notTrit(b []byte) error {
	b = b[:min(len(b), len(Magic))]
	hint := ""
	switch {
	case len(b) == 0:
		hint = "the file is empty"
	case bytes.HasPrefix(b, []byte("GGUF")):
		hint = "this is a GGUF file; convert the original checkpoint with tritter-convert"
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		hint = "this is a zip archive, perhaps a PyTorch checkpoint; convert it with tritter-convert"
	case len(b) == 8 && b[7] == 0 && b[6] == 0:
		hint = "this may be a safetensors file; convert it with tritter-convert"
	case bytes.Contains(b, []byte("TRIT")):
		hint = "the file was changed by a transfer in text mode; fetch it again in binary mode"
	}
	return &FormatError{ClassNotTrit, 0, "magic", fmt.Sprintf("% x", b), fmt.Sprintf("% x", Magic), hint}
}

// readFeatures reads the two feature lists and the prelude's zero bytes. An
// unknown required feature ends reading before the directory, whose enums it
// may extend.
func (h *Header) readFeatures(head []byte) error {
	for _, z := range [][2]int{{preZero1, preFileLength}, {preZero2, preRequired}, {preZero3, PreludeSize}} {
		if err := wantZero(head, z[0], z[1], ClassHeader, "reserved byte of the prelude"); err != nil {
			return err
		}
	}
	var err error
	if h.Required, err = features(head, preRequired, "required feature"); err != nil {
		return err
	}
	if h.Optional, err = features(head, preOptional, "optional feature"); err != nil {
		return err
	}
	if len(h.Required) > 0 {
		return &UnsupportedError{preRequired, "feature " + strings.Join(h.Required, ", feature "), fmt.Sprintf("version %d.%d without features", Major, Minor), "a newer tritter may read it"}
	}
	return nil
}

func features(head []byte, at int, field string) ([]string, error) {
	var list []string
	for i := range MaxFeatures {
		off := at + i*MaxFeature
		slot := head[off : off+MaxFeature]
		name := string(bytes.TrimRight(slot, "\x00"))
		if name == "" {
			end := at + MaxFeatures*MaxFeature
			return list, wantZero(head, off, end, ClassHeader, "byte of an unused "+field+" slot")
		}
		if f := nameFault(name, MaxFeature, dashNameByte, "[a-z0-9-]"); f != nil {
			return nil, &FormatError{ClassHeader, int64(off) + f.off, field, f.got, f.want, ""}
		}
		if i > 0 && name <= list[i-1] {
			return nil, &FormatError{ClassHeader, int64(off), field, fmt.Sprintf("%q", name), fmt.Sprintf("a name after %q", list[i-1]), "features are in strictly ascending order"}
		}
		list = append(list, name)
	}
	return list, nil
}

// wantZero refuses a byte other than zero in head[from:to].
func wantZero(head []byte, from, to int, class Class, field string) error {
	for i := from; i < to; i++ {
		if head[i] != 0 {
			return &FormatError{class, int64(i), field, fmt.Sprintf("0x%02x", head[i]), "0x00", ""}
		}
	}
	return nil
}

// readFull reads len(b) bytes; an early end is a *FormatError, since the
// caller was told the size.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &FormatError{ClassBounds, off + int64(n), "file length", fmt.Sprintf("%d bytes", off+int64(n)), fmt.Sprintf("at least %d", off+int64(len(b))), "the file was truncated while in use"}
	}
	return fmt.Errorf("read %d bytes at offset %d: %w", len(b), off, err)
}
