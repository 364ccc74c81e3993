package torch

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// A source is a file that is being opened: its bytes, and the name that its
// errors give.
type source struct {
	name string
	r    io.ReaderAt
	size int64
}

const interrupted = "was the download interrupted? fetch the file again"

// wrong returns the error of a file that breaks its format at off.
func (s *source) wrong(off int64, field, got, want, hint string) error {
	return &tensor.FormatError{File: s.name, Offset: off, Field: field, Got: got, Want: want, Hint: hint}
}

// limit returns the error of a file that is beyond this reader.
func (s *source) limit(off int64, field, got, want, hint string) error {
	return &tensor.UnsupportedError{File: s.name, Offset: off, Field: field, Got: got, Want: want, Hint: hint}
}

// read fills p from off, or says where the file turned out to end.
func (s *source) read(p []byte, off int64) error {
	n, err := s.r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("the file became shorter while it was being read: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("%s: offset %d: %w", s.name, off+int64(n), err)
}

// foreign says what a file is that begins like neither layout.
func (s *source) foreign(beginning []byte) error {
	const want = "a PyTorch file, zip or legacy"
	switch {
	case len(beginning) < 8:
		return s.wrong(s.size, "file length", fmt.Sprintf("%d bytes", s.size), want, interrupted)
	case len(beginning) >= 262 && bytes.Equal(beginning[257:262], []byte("ustar")):
		return s.limit(0, "content", "a tar archive, as PyTorch wrote before 0.1.10,", want, "load it with PyTorch and save it again")
	case bytes.HasPrefix(beginning, []byte("GGUF")):
		return s.wrong(0, "content", "a GGUF file", want, "name it .gguf")
	case bytes.HasPrefix(beginning, []byte("\x80")):
		return s.limit(0, "content", "a pickle without PyTorch's magic number", want, "load it with Python and torch.save the tensors")
	case len(beginning) > 8 && beginning[8] == '{':
		return s.wrong(0, "content", "what looks like a safetensors file", want, "name it .safetensors")
	}
	return s.wrong(0, "content", fmt.Sprintf("% x", beginning[:8]), want, "")
}
