package export

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/x448/float16"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
)

// matrix gives the rows of a ternary tensor in any order. It belongs to one
// goroutine.
type matrix struct {
	info   *format.TensorInfo
	data   []byte
	scales []float32
	rows   int
	cols   int

	size   int // bytes of four rows
	unpack func(rows [][]int8, src []byte, cols int) error
	recent [quantize.TileRows]tileRow
	clock  int
}

// tileRow is four unpacked rows. The orders in which exports want rows touch four
// of them in turn, at most.
type tileRow struct {
	index int // -1: none
	used  int
	rows  [][]int8
}

func (s *source) matrix(name string) (*matrix, error) {
	t, _ := s.file.Tensor(name)
	m := &matrix{info: t.Info()}
	m.rows, m.cols = m.info.Dims[0], m.info.Dims[1]
	var err error
	if m.data, err = t.Data(); err != nil {
		return nil, err
	}
	if m.scales, err = t.Scales(); err != nil {
		return nil, err
	}
	m.size, m.unpack = quantize.TileRowBytes2(m.cols), quantize.Unpack2
	if m.info.Encoding == format.Trit3 {
		m.size, m.unpack = quantize.TileRowBytes3(m.cols), quantize.Unpack3
	}
	for i := range m.recent {
		m.recent[i].index = -1
		for range quantize.TileRows {
			m.recent[i].rows = append(m.recent[i].rows, make([]int8, m.cols))
		}
	}
	return m, nil
}

// trits returns a row. It is valid until rows of four other tiles are asked for.
func (m *matrix) trits(row int) ([]int8, error) {
	index, oldest := row/quantize.TileRows, &m.recent[0]
	m.clock++
	for i := range m.recent {
		t := &m.recent[i]
		if t.index == index {
			t.used = m.clock
			return t.rows[row%quantize.TileRows], nil
		}
		if t.used < oldest.used {
			oldest = t
		}
	}
	n := min(quantize.TileRows, m.rows-index*quantize.TileRows)
	oldest.index = -1
	if err := m.unpack(oldest.rows[:n], m.data[index*m.size:][:m.size], m.cols); err != nil {
		return nil, fmt.Errorf("tensor %s: %w", m.info.Name, err)
	}
	oldest.index, oldest.used = index, m.clock
	return oldest.rows[row%quantize.TileRows], nil
}

// group returns how many columns share a scale.
func (m *matrix) group() int {
	if m.info.Granularity == format.ScaleGroup {
		return m.info.Group
	}
	return m.cols
}

// scale returns the scale of group g of a row.
func (m *matrix) scale(row, g int) float32 {
	switch m.info.Granularity {
	case format.ScaleTensor:
		return m.scales[0]
	case format.ScaleRow:
		return m.scales[row]
	}
	return m.scales[row*((m.cols+m.info.Group-1)/m.info.Group)+g]
}

// halfScale rounds a scale to f16 and returns its bits, the value, and the relative
// error. ok is false when nothing of the scale is left, or it becomes infinite.
func halfScale(s float32) (bits uint16, relative float64, ok bool) {
	h := float16.Fromfloat32(s)
	v := h.Float32()
	if math.IsInf(float64(v), 0) || v == 0 && s != 0 {
		return 0, 0, false
	}
	if s != 0 {
		relative = math.Abs(float64(v)-float64(s)) / math.Abs(float64(s))
	}
	return h.Bits(), relative, true
}

// widen reads stored floats as float32.
func widen(dst []float32, src []byte, e format.Encoding) {
	le := binary.LittleEndian
	for i := range dst {
		switch e {
		case format.F32:
			dst[i] = math.Float32frombits(le.Uint32(src[4*i:]))
		case format.F16:
			dst[i] = float16.Frombits(le.Uint16(src[2*i:])).Float32()
		case format.BF16:
			dst[i] = math.Float32frombits(uint32(le.Uint16(src[2*i:])) << 16)
		}
	}
}

// floats returns a vector as float32.
func (s *source) floats(name string) ([]float32, error) {
	t, _ := s.file.Tensor(name)
	data, err := t.Data()
	if err != nil {
		return nil, err
	}
	out := make([]float32, t.Info().Dims[0])
	widen(out, data, t.Info().Encoding)
	return out, nil
}
