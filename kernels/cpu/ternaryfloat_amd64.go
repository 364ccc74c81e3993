//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

const (
	floatTokens      = 3 // that kernels take at once
	floatPanelTokens = 6 // fewer do not pay for a panel
	blockTiles       = kernels.BlockLen / kernels.TileCols
)

// TernaryFloat multiplies four rows by up to three tokens at a time, a block of the
// sum's columns after the other.
func (avx2) TernaryFloat(y []float32, ldy int, w *kernels.Ternary, x []float32, m, ldx, lo, hi int) {
	kernels.CheckTernaryFloat(y, ldy, w, x, m, ldx, lo, hi)
	if m == 0 || lo == hi {
		return
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	f := floatProduct{scratch: s, w: w, x: x, ldx: ldx, groups: 1, tiles: w.ColTiles()}
	if w.Group > 0 {
		f.groups, f.tiles = w.Groups(), w.Group/kernels.TileCols
	}
	f.padLast(m)
	for row := lo; row < hi; row += kernels.TileRows {
		n := min(kernels.TileRows, hi-row)
		f.rows(row, n, m)
		for k := range m {
			f.store(y[k*ldy+row:][:n], f.acc[k*kernels.TileRows:], row)
		}
	}
}

// floatProduct is a call of TernaryFloat.
type floatProduct struct {
	*scratch
	w      *kernels.Ternary
	x      []float32
	ldx    int
	groups int // of columns: at least one
	tiles  int // of each group but the last
	last   int // tile where the last block begins if columns are missing in it, else -1
}

// padLast copies each token's last block of columns, where it does not fill its
// tiles, and fills them with zeros, whose products with the zero trits there change nothing.
func (f *floatProduct) padLast(m int) {
	f.last = -1
	if f.w.Cols%kernels.TileCols == 0 {
		return
	}
	group := (f.groups - 1) * f.tiles
	f.last = group + (f.w.ColTiles()-1-group)/blockTiles*blockTiles
	padded := grow(&f.floats, m*kernels.BlockLen)
	clear(padded)
	for k := range m {
		copy(padded[k*kernels.BlockLen:], f.x[k*f.ldx+f.last*kernels.TileCols:k*f.ldx+f.w.Cols])
	}
}

// rows computes the sums of a row of tiles, n rows, for m tokens into acc, four for each token.
func (f *floatProduct) rows(row, n, m int) {
	rowTiles := f.w.ColTiles()
	tiles := f.w.Tiles[row/kernels.TileRows*rowTiles*kernels.TileBytes:]
	acc, group := grow(&f.acc, m*kernels.TileRows), grow(&f.group, m*kernels.TileRows)
	sums := acc
	if f.w.Group > 0 {
		clear(acc)
		sums = group
	}
	for g := range f.groups {
		for i := range sums {
			sums[i] = negativeZero
		}
		end := min((g+1)*f.tiles, rowTiles)
		for at := g * f.tiles; at < end; at += blockTiles {
			f.block(sums, tiles[at*kernels.TileBytes:], at, min(blockTiles, end-at), m)
		}
		if f.w.Group > 0 {
			for r := range n {
				f.out[r] = f.w.Scales[(row+r)*f.groups+g]
			}
			addGroupFloats(&acc[0], &sums[0], &f.out[0], m)
		}
	}
}

// block adds the products of n tiles, which are number at of their row and those after it, to sums.
func (f *floatProduct) block(sums []float32, tiles []byte, at, n, m int) {
	x, ldx := f.x[at*kernels.TileCols:], f.ldx
	if at == f.last {
		x, ldx = f.floats, kernels.BlockLen
	}
	panel := m >= floatPanelTokens
	if panel {
		ternaryFloatPanel(&f.floatPanel[0], &tiles[0], n)
	}
	for k := 0; k < m; {
		count := share(m-k, floatTokens)
		if panel {
			ternaryFloatGEMM(&sums[k*kernels.TileRows], &f.floatPanel[0], n, &x[k*ldx], 4*ldx, count, &f.lanes[0])
		} else {
			ternaryFloat(&sums[k*kernels.TileRows], &tiles[0], n, &x[k*ldx], 4*ldx, count, &f.lanes[0])
		}
		k += count
	}
}

// store scales sums where there are no groups, and writes outputs.
func (f *floatProduct) store(y, sums []float32, row int) {
	for r := range y {
		v := sums[r]
		if f.w.Group == 0 {
			scale := f.w.Scales[0]
			if len(f.w.Scales) > 1 {
				scale = f.w.Scales[row+r]
			}
			v = float32(scale * v)
		}
		if f.w.Bias != nil {
			v += f.w.Bias[row+r]
		}
		y[r] = v
	}
}
