package format

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// scanner verifies the data extent of one tensor as its bytes pass by: every
// value is legal and every place without a weight is zero (spec/trit-v1.md,
// 5). It looks at 8 bytes at a time and becomes exact about a tile only when
// the tile has something wrong.
type scanner struct {
	t   *TensorInfo
	pos int64 // bytes of the extent seen so far

	tileBytes   int64
	tilesPerRow int64
	lastRow     int64 // number of the first tile of the last tile row
	colMask     [4]uint64
	ragged      bool // the last tile of a tile row has columns without a weight
	rowsLeft    int  // rows of the last tile row that exist, 1..4
	edgeLimit   [26]byte
	illegal     finding
	padding     finding
	exps, ones  uint64 // dense: exponent mask, its lowest bit; lanes as wide as an element
	width       int64
}

// finding counts the places where one rule is broken.
type finding struct {
	count       int64
	first, last int64 // offsets in the extent
	got, want   string
	field       string
}

func (f *finding) at(off int64) bool {
	f.count++
	f.last = off
	if f.count == 1 {
		f.first = off
	}
	return f.count == 1
}

// chunk is how many bytes a scanner takes at a time: whole tiles of both
// encodings, and small enough to be hashed and scanned while in the cache.
const chunk = 13 * Trit2TileBytes * 157

func newScanner(t *TensorInfo) *scanner {
	s := &scanner{t: t}
	switch t.Encoding {
	case Trit2, Trit3:
		s.tileBytes = Trit2TileBytes
		if t.Encoding == Trit3 {
			s.tileBytes = Trit3TileBytes
		}
		out, in := int64(t.Dims[0]), int64(t.Dims[1])
		s.tilesPerRow = (in + TileCols - 1) / TileCols
		tileRows := (out + TileRows - 1) / TileRows
		s.lastRow = (tileRows - 1) * s.tilesPerRow
		s.rowsLeft = int(out - (tileRows-1)*TileRows)
		cols := int(in - (s.tilesPerRow-1)*TileCols)
		s.ragged = cols < TileCols
		s.colMask = trit2Mask(cols)
		s.edgeLimit = trit3Limit(cols)
	case F32:
		s.exps, s.ones, s.width = 0x7f800000_7f800000, 0x00800000_00800000, 4
	case F16:
		s.exps, s.ones, s.width = 0x7c00_7c00_7c00_7c00, 0x0400_0400_0400_0400, 2
	case BF16:
		s.exps, s.ones, s.width = 0x7f80_7f80_7f80_7f80, 0x0080_0080_0080_0080, 2
	case Int8:
		s.width = 1
	}
	return s
}

// trit2Mask has ones at the codes of a run of 32 bytes whose columns are below
// cols.
func trit2Mask(cols int) (mask [4]uint64) {
	for c := range cols {
		m := c % 32
		mask[m/8] |= 3 << (8*(m%8) + 2*(c/32))
	}
	return mask
}

// trit3Limit gives the greatest legal value of each byte of a run of 26: a
// byte m holds the columns m, m+26, m+52, ... of which k are below cols, and
// k digits make 3^k values.
func trit3Limit(cols int) (limit [26]byte) {
	for m := range limit {
		v := 1
		for c := m; c < cols; c += 26 {
			v *= 3
		}
		limit[m] = byte(v - 1)
	}
	return limit
}

var (
	fullMask  = trit2Mask(TileCols)
	fullLimit = trit3Limit(TileCols)
)

// feed verifies the next bytes. All calls but the last give whole tiles, or
// whole groups of 8 bytes.
func (s *scanner) feed(b []byte) {
	switch s.t.Encoding {
	case Trit2:
		s.trit2(b)
	case Trit3:
		s.trit3(b)
	case Int8:
		s.int8(b)
	default:
		s.dense(b)
	}
	s.pos += int64(len(b))
}

// edge reports whether tile n has columns or rows without a weight, and how
// many of its rows exist.
func (s *scanner) edge(n int64) (cols bool, rows int) {
	rows = TileRows
	if n >= s.lastRow {
		rows = s.rowsLeft
	}
	return s.ragged && n%s.tilesPerRow == s.tilesPerRow-1, rows
}

func (s *scanner) trit2(b []byte) {
	const hi = 0xaaaaaaaaaaaaaaaa
	n := s.pos / Trit2TileBytes
	for ; len(b) >= Trit2TileBytes; n++ {
		tile := b[:Trit2TileBytes]
		b = b[Trit2TileBytes:]
		var bad uint64
		for i := 0; i < Trit2TileBytes; i += 32 {
			w0 := binary.LittleEndian.Uint64(tile[i:])
			w1 := binary.LittleEndian.Uint64(tile[i+8:])
			w2 := binary.LittleEndian.Uint64(tile[i+16:])
			w3 := binary.LittleEndian.Uint64(tile[i+24:])
			// A code is illegal when its high bit is set and its low bit is not.
			bad |= w0&^(w0<<1) | w1&^(w1<<1) | w2&^(w2<<1) | w3&^(w3<<1)
		}
		bad &= hi
		if s.ragged || n >= s.lastRow {
			ragged, rows := s.edge(n)
			if ragged || rows < TileRows {
				mask := fullMask
				if ragged {
					mask = s.colMask
				}
				for r := range TileRows {
					if r >= rows {
						mask = [4]uint64{}
					}
					for i, m := range mask {
						bad |= binary.LittleEndian.Uint64(tile[32*r+8*i:]) &^ m
					}
				}
			}
		}
		if bad != 0 {
			s.trit2Exact(tile, n)
		}
	}
}

// trit2Exact finds the bytes of a tile that have something wrong.
func (s *scanner) trit2Exact(tile []byte, n int64) {
	ragged, rows := s.edge(n)
	for i, v := range tile {
		r, m := i/32, i%32
		mask := byte(0xff)
		if ragged {
			mask = byte(s.colMask[m/8] >> (8 * (m % 8)))
		}
		if r >= rows {
			mask = 0
		}
		off := n*Trit2TileBytes + int64(i)
		if bad := v & 0xaa &^ (v << 1) & mask; bad != 0 {
			if s.illegal.at(off) {
				col := m
				for bad&2 == 0 {
					bad >>= 2
					col += 32
				}
				s.illegal.field = s.place("code", n, r, col)
				s.illegal.got, s.illegal.want = "10", "00, 01 or 11"
			}
		}
		if over := v &^ mask; over != 0 && s.padding.at(off) {
			s.padding.field = s.place("padding", n, r, m+32*(bits.TrailingZeros8(over)/2))
			s.padding.got, s.padding.want = fmt.Sprintf("0x%02x", v), fmt.Sprintf("no bits outside 0x%02x", mask)
		}
	}
}

// place names what stands at a row and column of tile n.
func (s *scanner) place(what string, n int64, r, c int) string {
	return fmt.Sprintf("%s: %s at row %d, column %d", s.t.Name, what, n/s.tilesPerRow*TileRows+int64(r), n%s.tilesPerRow*TileCols+int64(c))
}

// The bytes of a tile of 13 words that hold four digits and not five: numbers
// 24 and 25 of each run of 26. Their greatest legal value is 80, that of the
// others 242. trit3Add carries a byte's lower 7 bits into its high bit when
// they reach the bound's, and trit3Four marks the bytes of four digits.
var trit3Add, trit3Four = trit3Words()

func trit3Words() (add, four [13]uint64) {
	for i := range Trit3TileBytes {
		a, f := uint64(0x80-(243&0x7f)), uint64(0)
		if i%26 >= 24 {
			a, f = 0x80-81, 0xff
		}
		add[i/8] |= a << (8 * (i % 8))
		four[i/8] |= f << (8 * (i % 8))
	}
	return add, four
}

func (s *scanner) trit3(b []byte) {
	const hi, lo = 0x8080808080808080, 0x7f7f7f7f7f7f7f7f
	n := s.pos / Trit3TileBytes
	for ; len(b) >= Trit3TileBytes; n++ {
		tile := b[:Trit3TileBytes]
		b = b[Trit3TileBytes:]
		var bad uint64
		for i := range trit3Add {
			w := binary.LittleEndian.Uint64(tile[8*i:])
			t := w&lo + trit3Add[i]
			// 243 and above: high bit set and the rest too great. 81 and above:
			// either of the two.
			bad |= t&w | (t|w)&trit3Four[i]
		}
		bad &= hi
		if s.ragged || n >= s.lastRow {
			ragged, rows := s.edge(n)
			if ragged || rows < TileRows {
				bad |= s.trit3Edge(tile, ragged, rows)
			}
		}
		if bad != 0 {
			s.trit3Exact(tile, n)
		}
	}
}

// trit3Edge returns something other than 0 if a tile has padding that is not.
func (s *scanner) trit3Edge(tile []byte, ragged bool, rows int) (bad uint64) {
	limit := &fullLimit
	if ragged {
		limit = &s.edgeLimit
	}
	for r := range TileRows {
		if r >= rows {
			limit = &[26]byte{}
		}
		for m, v := range tile[26*r : 26*r+26] {
			if v > limit[m] {
				bad = 1
			}
		}
	}
	return bad
}

// trit3Exact finds the bytes of a tile that have something wrong.
func (s *scanner) trit3Exact(tile []byte, n int64) {
	ragged, rows := s.edge(n)
	for i, v := range tile {
		r, m := i/26, i%26
		limit := fullLimit[m]
		if ragged {
			limit = s.edgeLimit[m]
		}
		if r >= rows {
			limit = 0
		}
		off := n*Trit3TileBytes + int64(i)
		switch {
		case v > fullLimit[m]:
			if s.illegal.at(off) {
				s.illegal.field = s.place("byte", n, r, m)
				s.illegal.got, s.illegal.want = fmt.Sprint(v), fmt.Sprintf("at most %d", fullLimit[m])
			}
		case v > limit:
			if s.padding.at(off) {
				s.padding.field = s.place("padding in the byte", n, r, m)
				s.padding.got, s.padding.want = fmt.Sprint(v), fmt.Sprintf("at most %d", limit)
			}
		}
	}
}

func (s *scanner) int8(b []byte) {
	const hi, lo = 0x8080808080808080, 0x7f7f7f7f7f7f7f7f
	i := 0
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		// 0x80 is the byte whose lower 7 bits are zero and whose high bit is
		// set: adding 0x7f to the lower 7 bits leaves the high bit clear only
		// where they are zero.
		if w&hi&^(w&lo+lo) != 0 {
			s.int8Exact(b[i:i+8], i)
		}
	}
	s.int8Exact(b[i:], i)
}

func (s *scanner) int8Exact(b []byte, at int) {
	for i, v := range b {
		if v == 0x80 && s.illegal.at(s.pos+int64(at+i)) {
			s.element(s.illegal.first, "-128", "-127..127")
		}
	}
}

func (s *scanner) dense(b []byte) {
	high := s.exps + s.ones // the sign bit of each lane
	i := 0
	for ; i+8 <= len(b); i += 8 {
		// Infinities and NaNs have all exponent bits set, and only then does
		// adding one reach the sign's place.
		if (binary.LittleEndian.Uint64(b[i:])&s.exps+s.ones)&high != 0 {
			s.denseExact(b[i:i+8], i)
		}
	}
	s.denseExact(b[i:], i)
}

func (s *scanner) denseExact(b []byte, at int) {
	w := int(s.width)
	for i := 0; i+w <= len(b); i += w {
		v, exps := uint32(binary.LittleEndian.Uint16(b[i:])), uint32(s.exps&0xffff)
		if w == 4 {
			v, exps = binary.LittleEndian.Uint32(b[i:]), uint32(s.exps&0xffffffff)
		}
		if v&exps == exps && s.illegal.at(s.pos+int64(at+i)) {
			s.element(s.illegal.first, fmt.Sprintf("0x%0*x, an infinity or NaN", 2*w, v), "a finite number")
		}
	}
}

// element describes the illegal element at an offset of the extent.
func (s *scanner) element(off int64, got, want string) {
	i := off / s.width
	s.illegal.field = fmt.Sprintf("%s: element %d", s.t.Name, i)
	if len(s.t.Dims) == 2 {
		cols := int64(s.t.Dims[1])
		s.illegal.field = fmt.Sprintf("%s: value at row %d, column %d", s.t.Name, i/cols, i%cols)
	}
	s.illegal.got, s.illegal.want = got, want
}

// problems reports what was found.
func (s *scanner) problems(report func(Problem)) {
	for _, f := range []*finding{&s.illegal, &s.padding} {
		if f.count > 0 {
			report(Problem{Tensor: s.t.Name, Count: f.count, Last: s.t.Offset + f.last, Err: f.err(s.t.Offset)})
		}
	}
}

func (f *finding) err(base int64) *FormatError {
	return &FormatError{ClassCode, base + f.first, f.field, f.got, f.want, ""}
}
