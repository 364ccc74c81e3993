package ref

import "github.com/tritter-ai/tritter/kernels"

// TernaryInt8 multiplies rows of trits by int8 activations (section 8).
func (Ops) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	trits := make([]int8, kernels.TileRows*x.Stride)
	for row := lo; row < hi; row++ {
		if row%kernels.TileRows == 0 {
			decode(trits, w, row/kernels.TileRows)
		}
		t := trits[row%kernels.TileRows*x.Stride:][:x.Stride]
		for m := range x.M {
			y[m*ldy+row] = addBias(w, row, rowInt8(w, row, t, x.Token(m), x.Max[m]))
		}
	}
}

func rowInt8(w *kernels.Ternary, row int, t, q []int8, a float32) float32 {
	if w.Group == 0 {
		return float32(dotInt8(t, q)) * (float32(rowScale(w, row)*a) / 127)
	}
	var acc float32
	for g, s := range w.Scales[row*w.Groups():][:w.Groups()] {
		lo := g * w.Group
		hi := min(lo+w.Group, len(q))
		acc = FMA32(float32(dotInt8(t[lo:hi], q[lo:hi])), s, acc)
	}
	return acc * (a / 127)
}

// TernaryFloat multiplies rows of trits by f32 activations (section 9).
func (Ops) TernaryFloat(y []float32, ldy int, w *kernels.Ternary, x []float32, m, ldx, lo, hi int) {
	kernels.CheckTernaryFloat(y, ldy, w, x, m, ldx, lo, hi)
	stride := kernels.PadCols(w.Cols)
	trits := make([]float32, kernels.TileRows*stride)
	for row := lo; row < hi; row++ {
		if row%kernels.TileRows == 0 {
			decode(trits, w, row/kernels.TileRows)
		}
		t := trits[row%kernels.TileRows*stride:][:w.Cols]
		for k := range m {
			y[k*ldy+row] = addBias(w, row, rowFloat(w, row, t, x[k*ldx:][:w.Cols]))
		}
	}
}

func rowFloat(w *kernels.Ternary, row int, t, x []float32) float32 {
	if w.Group == 0 {
		return rowScale(w, row) * ternaryDot(t, x)
	}
	var acc float32
	for g, s := range w.Scales[row*w.Groups():][:w.Groups()] {
		lo := g * w.Group
		hi := min(lo+w.Group, len(x))
		acc = FMA32(s, ternaryDot(t[lo:hi], x[lo:hi]), acc)
	}
	return acc
}

func rowScale(w *kernels.Ternary, row int) float32 {
	if len(w.Scales) == 1 {
		return w.Scales[0]
	}
	return w.Scales[row]
}

func addBias(w *kernels.Ternary, row int, y float32) float32 {
	if w.Bias == nil {
		return y
	}
	return float32(y) + w.Bias[row]
}

// decode writes the trits of one row of tiles, TileRows rows of padded columns.
func decode[T int8 | float32](dst []T, w *kernels.Ternary, tileRow int) {
	const run = kernels.TileBytes / kernels.TileRows
	trit := [4]T{0, 1, 0, -1} // code 2 is illegal
	stride := kernels.PadCols(w.Cols)
	tiles := w.Tiles[tileRow*w.ColTiles()*kernels.TileBytes:][:w.ColTiles()*kernels.TileBytes]
	for i := 0; i < len(tiles); i += run {
		tile, r := i/kernels.TileBytes, i/run%kernels.TileRows
		d := (*[kernels.TileCols]T)(dst[r*stride+tile*kernels.TileCols:])
		for m, b := range (*[run]byte)(tiles[i:]) {
			d[m] = trit[b&3]
			d[m+run] = trit[b>>2&3]
			d[m+2*run] = trit[b>>4&3]
			d[m+3*run] = trit[b>>6]
		}
	}
}

// dotInt8 is exact, so its order is free: 2^24 columns of products of at most 127 fit an int32. The vectors are
// whole tiles long.
func dotInt8(t, q []int8) int32 {
	const step = 16
	var s int32
	for len(t) >= step && len(q) >= step {
		a, b := (*[step]int8)(t), (*[step]int8)(q)
		s += int32(a[0])*int32(b[0]) + int32(a[1])*int32(b[1]) + int32(a[2])*int32(b[2]) + int32(a[3])*int32(b[3])
		s += int32(a[4])*int32(b[4]) + int32(a[5])*int32(b[5]) + int32(a[6])*int32(b[6]) + int32(a[7])*int32(b[7])
		s += int32(a[8])*int32(b[8]) + int32(a[9])*int32(b[9]) + int32(a[10])*int32(b[10]) + int32(a[11])*int32(b[11])
		s += int32(a[12])*int32(b[12]) + int32(a[13])*int32(b[13]) + int32(a[14])*int32(b[14]) + int32(a[15])*int32(b[15])
		t, q = t[step:], q[step:]
	}
	return s
}
