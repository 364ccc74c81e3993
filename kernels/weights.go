package kernels

// Ternary is a matrix of trits with its scales, as a view: it owns nothing and usually points into a mapped file.
type Ternary struct {
	Rows, Cols int

	// Tiles holds TernaryBytes(Rows, Cols) bytes of 2-bit codes in the canonical order: tiles of TileRows x
	// TileCols follow each other along the columns, then down the rows; a tile is four runs of 32 bytes, one
	// a row; byte m of a run holds columns m, m+32, m+64, m+96 in bits 0-1, 2-3, 4-5, 6-7. Code 0 is 0, 1 is
	// +1, 3 is -1. Code 2 is illegal and padding is code 0; whoever opens the file has seen to both.
	Tiles []byte

	// Scales multiply: one for the tensor, one a row, or, with Group > 0, ceil(Cols/Group) a row, row-major.
	Scales []float32
	Group  int // columns of a scale group, a multiple of TileCols; 0 when scales are per tensor or row

	Bias []float32 // nil, or one a row
}

// ColTiles is the number of tiles along a row.
func (w *Ternary) ColTiles() int { return PadCols(w.Cols) / TileCols }

// Groups is the number of scale groups of a row, 0 when Group is 0.
func (w *Ternary) Groups() int {
	if w.Group == 0 {
		return 0
	}
	return (w.Cols + w.Group - 1) / w.Group
}

// PadCols rounds a number of columns up to whole tiles.
func PadCols(cols int) int { return (cols + TileCols - 1) / TileCols * TileCols }

// PadLanes rounds a number of columns up to whole groups of lanes.
func PadLanes(cols int) int { return (cols + Lanes - 1) / Lanes * Lanes }

// TernaryBytes is the length of Ternary.Tiles for a shape.
func TernaryBytes(rows, cols int) int {
	return (rows + TileRows - 1) / TileRows * (PadCols(cols) / TileCols) * TileBytes
}

// DType is the element type of a dense matrix. The zero value is none of them.
type DType uint8

// The element types of Dense, all little-endian.
const (
	F32  DType = iota + 1 // IEEE binary32
	F16                   // IEEE binary16
	BF16                  // the upper half of a binary32
	I8                    // two's complement in [-127, 127], with an f32 scale per row
)

// Size is the type's bytes an element, 0 for an unknown type.
func (t DType) Size() int {
	switch t {
	case F32:
		return 4
	case F16, BF16:
		return 2
	case I8:
		return 1
	}
	return 0
}

// String is the type's short name.
func (t DType) String() string {
	switch t {
	case F32:
		return "f32"
	case F16:
		return "f16"
	case BF16:
		return "bf16"
	case I8:
		return "i8"
	}
	return "dtype(unknown)"
}

// Dense is a row-major matrix without padding, as a view that owns nothing. Data may start at any address.
type Dense struct {
	Rows, Cols int
	Type       DType
	Data       []byte    // Rows*Cols*Type.Size() bytes
	Scales     []float32 // I8 only: one a row
}
