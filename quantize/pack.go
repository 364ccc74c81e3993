package quantize

import "fmt"

// The tile of the .trit format: 4 rows x 128 columns, one contiguous run a row.
// Tiles follow each other along the columns, then down the rows; rows and
// columns are padded with zero trits (spec/trit-v1.md, "Ternary payloads").
const (
	TileRows = 4
	TileCols = 128
	run2     = TileCols / 4 // bytes of a row in a 2-bit tile
	run3     = 26           // bytes of a row in a base-3 tile: ceil(128/5)

	TileBytes2 = TileRows * run2 // 2-bit tile
	TileBytes3 = TileRows * run3 // base-3 tile
)

// Tiles returns the number of tiles along a row of cols columns.
func Tiles(cols int) int { return (cols + TileCols - 1) / TileCols }

// TileRowBytes2 returns the size in bytes of the tiles that hold four rows of
// cols columns in the 2-bit encoding, TileRowBytes3 in the base-3 encoding.
func TileRowBytes2(cols int) int { return Tiles(cols) * TileBytes2 }

// TileRowBytes3 is documented at TileRowBytes2.
func TileRowBytes3(cols int) int { return Tiles(cols) * TileBytes3 }

// CodeError reports a byte that no trit encodes to, or padding that is not zero.
type CodeError struct {
	Offset int  // of the byte in the packed data given
	Byte   byte // its value
	Reason string
}

func (e *CodeError) Error() string {
	return fmt.Sprintf("byte %d is 0x%02x: %s", e.Offset, e.Byte, e.Reason)
}

// Pack2 packs up to four rows of trits, each of the same length, into 2-bit tiles:
// codes 00 = 0, 01 = +1, 11 = -1. dst has TileRowBytes2 bytes. Absent rows and
// columns become zeros.
func Pack2(dst []byte, rows [][]int8, cols int) {
	clear(dst[:TileRowBytes2(cols)])
	for r, row := range rows {
		row = row[:cols]
		for tile := 0; len(row) > 0; tile++ {
			out := dst[tile*TileBytes2+r*run2:][:run2]
			n := min(len(row), TileCols)
			if n == TileCols {
				a, b, c, d := row[:run2], row[run2:][:run2], row[2*run2:][:run2], row[3*run2:][:run2]
				for m := range out {
					out[m] = byte(a[m]&3) | byte(b[m]&3)<<2 | byte(c[m]&3)<<4 | byte(d[m])<<6
				}
			} else {
				for i, t := range row[:n] {
					out[i%run2] |= byte(t&3) << (i / run2 * 2)
				}
			}
			row = row[n:]
		}
	}
}

// Unpack2 is the inverse of [Pack2]: it writes cols trits to each of rows. The
// error is a *CodeError for the code 10 and for padding that is not zero;
// len(rows) < 4 says that the remaining rows of the tile are padding.
func Unpack2(rows [][]int8, src []byte, cols int) error {
	src = src[:TileRowBytes2(cols)]
	for at, b := range src {
		if b&0xaa&^(b<<1) != 0 {
			return &CodeError{at, b, "the code 10 is illegal, want 00 (0), 01 (+1) or 11 (-1)"}
		}
	}
	for at, b := range src {
		tile, r, m := at/TileBytes2, at%TileBytes2/run2, at%run2
		for j := range 4 {
			code := b >> (2 * j) & 3
			col := tile*TileCols + j*run2 + m
			if r < len(rows) && col < cols {
				rows[r][col] = int8(code<<6) >> 6
			} else if code != 0 {
				return &CodeError{at, b, "padding is not zero"}
			}
		}
	}
	return nil
}

// Pack3 packs up to four rows of trits into base-3 tiles: byte m of a run holds
// columns m, m+26, m+52, m+78 and m+104 as base-3 digits, least significant
// first, with digit 0 = 0, 1 = +1, 2 = -1. dst has TileRowBytes3 bytes.
func Pack3(dst []byte, rows [][]int8, cols int) {
	clear(dst[:TileRowBytes3(cols)])
	for r, row := range rows {
		for tile := range Tiles(cols) {
			out := dst[tile*TileBytes3+r*run3:][:run3]
			part := row[tile*TileCols : min(cols, (tile+1)*TileCols)]
			for i := len(part) - 1; i >= 0; i-- { // descending: Horner's rule builds each byte from its top digit
				out[i%run3] = out[i%run3]*3 + byte(part[i]+3)%3
			}
		}
	}
}

// digits3 holds the five trits of every legal base-3 byte.
var digits3 = func() (table [243][5]int8) {
	for b := range table {
		for j, v := 0, b; j < 5; j, v = j+1, v/3 {
			table[b][j] = int8(v%3) - int8(v%3/2*3)
		}
	}
	return table
}()

// Unpack3 is the inverse of [Pack3], with the errors of [Unpack2]: bytes above
// 242 are illegal, digits beyond column 127 of a tile are padding.
func Unpack3(rows [][]int8, src []byte, cols int) error {
	src = src[:TileRowBytes3(cols)]
	for at, b := range src {
		if b > 242 {
			return &CodeError{at, b, "bytes above 242 are illegal in the base-3 encoding"}
		}
		tile, r, m := at/TileBytes3, at%TileBytes3/run3, at%run3
		for j, t := range digits3[b] {
			in := j*run3 + m
			col := tile*TileCols + in
			if in < TileCols && r < len(rows) && col < cols {
				rows[r][col] = t
			} else if t != 0 {
				return &CodeError{at, b, "padding is not zero"}
			}
		}
	}
	return nil
}

// Repack3To2 turns base-3 tiles into 2-bit tiles of the same trits. dst has
// TileBytes2 bytes for every TileBytes3 of src. The error is a *CodeError.
func Repack3To2(dst, src []byte) error {
	var trits [TileRows][TileCols]int8
	rows := [][]int8{trits[0][:], trits[1][:], trits[2][:], trits[3][:]}
	for tile := range len(src) / TileBytes3 {
		if err := Unpack3(rows, src[tile*TileBytes3:], TileCols); err != nil {
			err.(*CodeError).Offset += tile * TileBytes3
			return err
		}
		Pack2(dst[tile*TileBytes2:], rows, TileCols)
	}
	return nil
}
