package export

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/x448/float16"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
)

// Numbers of the kinds of values in GGUF's metadata.
const (
	kindU32    = 4
	kindI32    = 5
	kindF32    = 6
	kindBool   = 7
	kindString = 8
	kindArray  = 9
)

// metadata collects the keys of a GGUF file as they stand in it.
type metadata struct {
	buf  []byte
	keys uint64
}

func appendText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func (m *metadata) key(key string, kinds ...uint32) {
	m.keys++
	m.buf = appendText(m.buf, key)
	for _, k := range kinds {
		m.buf = binary.LittleEndian.AppendUint32(m.buf, k)
	}
}

func (m *metadata) u32(key string, v uint32) {
	m.key(key, kindU32)
	m.buf = binary.LittleEndian.AppendUint32(m.buf, v)
}

// count writes a size of a model, whose limits are far below 32 bits.
func (m *metadata) count(key string, n int) { m.u32(key, uint32(n)) }

func (m *metadata) f32(key string, v float32) {
	m.key(key, kindF32)
	m.buf = binary.LittleEndian.AppendUint32(m.buf, math.Float32bits(v))
}

func (m *metadata) flag(key string, v bool) {
	m.key(key, kindBool)
	m.buf = append(m.buf, map[bool]byte{false: 0, true: 1}[v])
}

func (m *metadata) text(key, v string) {
	m.key(key, kindString)
	m.buf = appendText(m.buf, v)
}

func (m *metadata) texts(key string, list []string) {
	m.key(key, kindArray, kindString)
	m.buf = binary.LittleEndian.AppendUint64(m.buf, uint64(len(list)))
	for _, s := range list {
		m.buf = appendText(m.buf, s)
	}
}

func (m *metadata) i32s(key string, list []int32) {
	m.key(key, kindArray, kindI32)
	m.buf = binary.LittleEndian.AppendUint64(m.buf, uint64(len(list)))
	for _, v := range list {
		m.buf = binary.LittleEndian.AppendUint32(m.buf, uint32(v))
	}
}

func (m *metadata) f32s(key string, list []float32) {
	m.key(key, kindArray, kindF32)
	m.buf = binary.LittleEndian.AppendUint64(m.buf, uint64(len(list)))
	for _, v := range list {
		m.buf = binary.LittleEndian.AppendUint32(m.buf, math.Float32bits(v))
	}
}

func padded(n int64) int64 {
	const a = gguf.DefaultAlignment
	return (n + a - 1) / a * a
}

// layoutGGUF gives every tensor its place and returns the header and the size of
// the file. Every tensor is padded, the last one too, as ggml writes it.
func layoutGGUF(m *metadata, tensors []outTensor) (header []byte, size int64) {
	le := binary.LittleEndian
	header = append(header, "GGUF"...)
	header = le.AppendUint32(header, 3)
	header = le.AppendUint64(header, uint64(len(tensors)))
	header = le.AppendUint64(header, m.keys)
	header = append(header, m.buf...)
	for i := range tensors {
		t := &tensors[i]
		header = appendText(header, t.name)
		header = le.AppendUint32(header, uint32(len(t.dims)))
		rows := int64(1)
		for d := len(t.dims) - 1; d >= 0; d-- { // innermost first
			header = le.AppendUint64(header, uint64(t.dims[d]))
			if d < len(t.dims)-1 {
				rows *= int64(t.dims[d])
			}
		}
		header = le.AppendUint32(header, uint32(t.typ))
		header = le.AppendUint64(header, uint64(size))
		t.at, t.size = size, rows*int64(t.typ.RowBytes(t.dims[len(t.dims)-1]))
		size = padded(size + t.size)
	}
	start := padded(int64(len(header)))
	for i := range tensors {
		tensors[i].at += start
	}
	return header, start + size
}

// section writes the bytes of one tensor to its place, in large pieces. The first
// error lasts.
type section struct {
	ctx     context.Context
	f       io.WriterAt
	at, end int64
	buf     []byte
	err     error
}

// tqBlock is how many weights of TQ1_0 and TQ2_0 share a scale.
const tqBlock = 256

// sectionBuffer is how much is written at once.
const sectionBuffer = 1 << 20

// room returns n bytes to be filled next.
func (w *section) room(n int) []byte {
	if len(w.buf)+n > sectionBuffer {
		w.flush()
	}
	if cap(w.buf) < len(w.buf)+n {
		w.buf = append(make([]byte, 0, max(sectionBuffer, len(w.buf)+n)), w.buf...)
	}
	w.buf = w.buf[:len(w.buf)+n]
	return w.buf[len(w.buf)-n:]
}

func (w *section) flush() {
	if w.err == nil {
		w.err = w.ctx.Err()
	}
	if w.err == nil {
		_, w.err = w.f.WriteAt(w.buf, w.at)
	}
	w.at += int64(len(w.buf))
	w.buf = w.buf[:0]
}

func (w *section) finish(name string) error {
	w.flush()
	if w.err == nil && w.at != w.end {
		panic(fmt.Sprintf("export: %s was written up to %d, want %d", name, w.at, w.end))
	}
	return w.err
}

func (w *section) floats(values []float32) error {
	for _, v := range values {
		binary.LittleEndian.PutUint32(w.room(4), math.Float32bits(v))
	}
	return w.err
}

// permuted returns which row of a projection stands at row i of the file, where
// heads says that its order changes; heads 0 is no permutation.
func permuted(i, rows, heads int) int {
	if heads == 0 {
		return i
	}
	return gguf.HalfPairRow(i, rows, heads)
}

func (s *source) writeVector(w *section, name string, heads int) error {
	values, err := s.floats(name)
	if err != nil {
		return err
	}
	out := make([]float32, len(values))
	for i := range out {
		out[i] = values[permuted(i, len(values), heads)]
	}
	return w.floats(out)
}

// writeTernary writes a ternary matrix as TQ1_0, TQ2_0 or F16.
func (s *source) writeTernary(w *section, name string, typ gguf.Type, heads int) error {
	m, err := s.matrix(name)
	if err != nil {
		return err
	}
	group := m.group()
	blocks := make([]uint16, (m.cols+tqBlock-1)/tqBlock)
	for i := range m.rows {
		row := permuted(i, m.rows, heads)
		trits, err := m.trits(row)
		if err != nil {
			return err
		}
		out := w.room(typ.RowBytes(m.cols))
		for lo, g := 0, 0; lo < m.cols; lo, g = lo+group, g+1 {
			hi := min(lo+group, m.cols)
			scale, _, _ := halfScale(m.scale(row, g))
			if typ != gguf.F16 {
				for b := lo / tqBlock; b < hi/tqBlock; b++ {
					blocks[b] = scale
				}
				continue
			}
			// A zero is +0 whatever the sign of the scale.
			values := [3]uint16{scale ^ 0x8000, 0, scale}
			for c := lo; c < hi; c++ {
				binary.LittleEndian.PutUint16(out[2*c:], values[trits[c]+1])
			}
		}
		switch typ {
		case gguf.TQ1:
			gguf.PackTQ1(out, trits, blocks)
		case gguf.TQ2:
			gguf.PackTQ2(out, trits, blocks)
		}
		if w.err != nil {
			return w.err
		}
	}
	return nil
}

// writeInt8 writes an int8 table as F16.
func (s *source) writeInt8(w *section, name string) error {
	t, _ := s.file.Tensor(name)
	data, err := t.Data()
	if err != nil {
		return err
	}
	scales, err := t.Scales()
	if err != nil {
		return err
	}
	cols := t.Info().Dims[1]
	for r, scale := range scales {
		out := w.room(2 * cols)
		for c, q := range data[r*cols:][:cols] {
			v := float16.Fromfloat32(float32(int8(q)) * scale)
			if v.IsInf(0) {
				return &RefusedError{Format: "GGUF", Reasons: []string{fmt.Sprintf("tensor %s holds %g at row %d, column %d, which is outside of f16's range", name, float32(int8(q))*scale, r, c)}}
			}
			binary.LittleEndian.PutUint16(out[2*c:], v.Bits())
		}
		if w.err != nil {
			return w.err
		}
	}
	return nil
}

// copyTable writes a table of floats as it is.
func (s *source) copyTable(w *section, name string) error {
	t, _ := s.file.Tensor(name)
	data, err := t.Data()
	if err != nil {
		return err
	}
	for len(data) > 0 && w.err == nil {
		n := min(len(data), sectionBuffer)
		copy(w.room(n), data[:n])
		data = data[n:]
	}
	return w.err
}
