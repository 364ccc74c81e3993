package format

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
)

// TensorWriter writes one tensor of a Writer. It belongs to one goroutine.
type TensorWriter struct {
	w      *Writer
	info   TensorInfo
	sum    hash.Hash
	scan   *scanner
	buf    *[chunk]byte
	used   int   // bytes in buf
	pos    int64 // bytes hashed, verified and written
	scaled bool
	err    error // the first, for good
}

// Info returns the tensor's record as far as it is known. It must not be
// changed.
func (t *TensorWriter) Info() *TensorInfo { return &t.info }

// Write appends encoded bytes to the tensor's data, in any portions, up to
// exactly the length of the data extent; the last byte completes it. Bytes are
// buffered, hashed, verified as File.CheckTensor does, and written in large
// pieces. The first error lasts.
func (t *TensorWriter) Write(p []byte) (int, error) {
	if t.err == nil && int64(len(p)) > t.info.Length-t.pos-int64(t.used) {
		t.err = fmt.Errorf("tensor %s: %d bytes after %d, want %d in all", t.info.Name, len(p), t.pos+int64(t.used), t.info.Length)
	}
	n := 0
	for t.err == nil && n < len(p) {
		if t.used == 0 && len(p)-n >= chunk {
			t.flush(p[n : n+chunk])
			n += chunk
			continue
		}
		if t.buf == nil {
			t.buf = buffers.Get().(*[chunk]byte)
		}
		c := copy(t.buf[t.used:], p[n:])
		n += c
		t.used += c
		if t.used == chunk || t.pos+int64(t.used) == t.info.Length {
			t.flush(t.buf[:t.used])
			t.used = 0
		}
	}
	if t.buf != nil && t.used == 0 {
		buffers.Put(t.buf)
		t.buf = nil
	}
	if t.err != nil {
		return 0, t.err
	}
	return n, nil
}

// flush hashes, verifies and writes the next bytes: a whole chunk or the rest.
func (t *TensorWriter) flush(b []byte) {
	if t.scan == nil {
		t.sum, t.scan = sha256.New(), newScanner(&t.info)
	}
	t.sum.Write(b)
	t.scan.feed(b)
	t.scan.problems(func(p Problem) {
		if t.err == nil {
			t.err = fmt.Errorf("tensor %s: %w", t.info.Name, p)
		}
	})
	if t.err != nil {
		return
	}
	if _, t.err = t.w.out.WriteAt(b, t.info.Offset+t.pos); t.err != nil {
		return
	}
	t.pos += int64(len(b))
	if t.pos == t.info.Length {
		t.sum.Sum(t.info.SHA256[:0])
	}
}

// SetScales writes the tensor's scales, [1], [out] or [out, ceil(in/G)], once.
// It refuses another number of them, one that is not finite, and a sign that
// the tensor's rule excludes.
func (t *TensorWriter) SetScales(scales []float32) error {
	if want := t.info.ScaleLength / 4; int64(len(scales)) != want || want == 0 {
		return fmt.Errorf("tensor %s: %d scales, want %d", t.info.Name, len(scales), want)
	}
	if t.scaled {
		return fmt.Errorf("tensor %s: scales are set a second time, want once", t.info.Name)
	}
	b := make([]byte, 0, t.info.ScaleLength)
	for i, s := range scales {
		if want := t.info.scaleFault(s); want != "" {
			return t.info.scaleError(i, s, want)
		}
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s))
	}
	if _, err := t.w.out.WriteAt(b, t.info.ScaleOffset); err != nil {
		return err
	}
	t.info.ScaleSHA256 = sha256.Sum256(b)
	t.scaled = true
	return nil
}
