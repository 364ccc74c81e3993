//go:build amd64 && !purego

package cpu

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

const (
	gemvRows    = 64   // rows of a few tokens at a time
	streams     = 4    // of ternaryGEMV
	streamRows  = 1024 // rows of one token at a time, where they are read in streams
	panelRows   = 16   // rows of a panel
	panelTokens = 6    // fewer tokens do not pay for decoding a panel, unless groups end the sums of rows early
	panelTiles  = 8    // of a panel: it is to stay in the first cache

	scaledTokens = 16 // whose outputs for several panels are written together: each lies in pages of its own
)

// unit is the part of a processor that multiplies trits by int8 activations.
type unit uint8

const (
	maddubs unit = iota // VPMADDUBSW of AVX2
	dpbusd              // VPDPBUSD of AVX-512 with VNNI
	tdpbsud             // TDPBSUD of AMX, and dpbusd for few tokens
)

// gemvTiles512 bounds the tiles of a row in ternaryGEMV512, whose lanes add at most
// 4 x 192 x 127 a tile.
const gemvTiles512 = math.MaxInt32 / (4 * 192 * 127)

// gemv multiplies the first n tiles of rows of tiles, rowBytes apart, by a token: four
// sums for each.
func (u unit) gemv(sums []int32, tiles []byte, n, tileRows, rowBytes int, q *int8) {
	if u != maddubs && n <= gemvTiles512 {
		ternaryGEMV512(&sums[0], &tiles[0], n, tileRows, rowBytes, q)
		return
	}
	if each := tileRows / streams; each > 0 {
		ternaryGEMV(&sums[0], &tiles[0], n, streams, each, rowBytes, q)
	}
	if rest := tileRows % streams; rest > 0 {
		first := tileRows - rest
		ternaryGEMV(&sums[first*kernels.TileRows], &tiles[first*rowBytes], n, rest, 1, rowBytes, q)
	}
}

// gemm multiplies the panels, n tiles, by the tokens that begin at q, and adds to sums.
func (p *product) gemm(sums *int32, q *int8, n, tokens int) {
	n *= kernels.TileCols / 4
	panel := &p.panels[0][0]
	switch p.unit {
	case maddubs:
		ternaryGEMM(sums, panel, q, p.x.Stride, n, tokens)
	case dpbusd:
		ternaryGEMM512(sums, panel, q, p.x.Stride, n, tokens)
	case tdpbsud:
		ternaryGEMMAMX(sums, panel, q, p.x.Stride, n, tokens, (*[2 * tileConfigLen]byte)(&p.config))
	}
}

// calls is how many calls of gemm m tokens take.
func (u unit) calls(m int) int {
	switch u {
	case maddubs:
		return (m + 5) / 6
	case dpbusd:
		return (m + 11) / 12
	}
	return 1
}

// rows is how many rows gemm multiplies: those of one panel or of two.
func (u unit) rows() int {
	if u == maddubs {
		return panelRows
	}
	return 2 * panelRows
}

// blockRows is how many rows are multiplied by some columns before the next columns.
func (u unit) blockRows() int {
	if u == maddubs {
		return 16 * panelRows
	}
	return u.rows()
}

// offset is what the codes of panels have more than trits. VPMADDUBSW adds in 16 bits,
// where small codes leave room for more sums; for the others trit + 2 is less work.
func (u unit) offset() int32 {
	if u == maddubs {
		return 1
	}
	return tileOffset
}

// tileOffset is what the codes of tiles have more than trits, once decoded.
const tileOffset = 2

// TernaryInt8 multiplies tiles in place for few tokens, and panels for more.
func (avx2) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	ternaryInt8(y, ldy, w, x, lo, hi, maddubs)
}

// product is a call of TernaryInt8.
type product struct {
	*scratch
	y      []float32
	ldy    int
	w      *kernels.Ternary
	x      *kernels.Acts
	groups int // of columns: at least one
	tiles  int // of each group but the last
	unit   unit
}

func ternaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int, u unit) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	if x.M == 0 || lo == hi {
		return
	}
	p := product{scratch: scratches.Get().(*scratch), y: y, ldy: ldy, w: w, x: x, groups: 1, tiles: w.ColTiles(), unit: u}
	defer scratches.Put(p.scratch)
	if w.Group > 0 {
		p.groups, p.tiles = w.Groups(), w.Group/kernels.TileCols
	}
	if x.M == 1 || p.groups == 1 && x.M < panelTokens {
		p.sumCodes(tileOffset)
		p.few(lo, hi)
	} else {
		p.sumCodes(u.offset())
		p.many(lo, hi)
	}
}

// sumCodes computes what the sums of products have too much where codes are trit + offset.
func (p *product) sumCodes(offset int32) {
	excess := grow(&p.excess, p.x.M*p.groups)
	for m := range p.x.M {
		for g := range p.groups {
			excess[m*p.groups+g] = offset * sumInt8(&p.x.Codes[m*p.x.Stride+g*p.w.Group], p.groupTiles(g))
		}
	}
}

// groupTiles is the length of group g in tiles.
func (p *product) groupTiles(g int) int { return min(p.tiles, p.w.ColTiles()-g*p.tiles) }

// few multiplies tiles as they are.
func (p *product) few(lo, hi int) {
	rowTiles, most := p.w.ColTiles(), gemvRows
	if p.unit == maddubs && p.x.M == 1 && p.groups == 1 {
		most = streamRows
	}
	for row := lo; row < hi; row += most {
		n := min(most, hi-row)
		p.rowScales(row, n, most)
		tileRow := row / kernels.TileRows * rowTiles
		sums := grow(&p.sums, most)
		for m := range p.x.M {
			clear(p.out[:n])
			for g := range p.groups {
				q := &p.x.Codes[m*p.x.Stride+g*p.w.Group]
				p.unit.gemv(sums, p.w.Tiles[(tileRow+g*p.tiles)*kernels.TileBytes:], p.groupTiles(g), (n+kernels.TileRows-1)/kernels.TileRows, rowTiles*kernels.TileBytes, q)
				p.scale(&p.out[0], &sums[0], m, g, most, p.excess[m*p.groups+g], (n+7)/8)
			}
			p.store(p.y[m*p.ldy+row:][:n], p.out[:], m, row)
		}
	}
}

// many decodes panels of some rows at a time and multiplies them by all tokens.
func (p *product) many(lo, hi int) {
	rows, most := p.unit.rows(), p.unit.blockRows()
	grow(&p.sums, p.x.M*most)
	p.factors()
	if p.unit == tdpbsud {
		p.config.set(p.x.M)
	}
	if p.w.Group > 0 {
		for row := lo; row < hi; row += rows {
			p.grouped(row, hi, min(rows, hi-row))
		}
		return
	}
	for ; lo < hi; lo += most {
		end := min(lo+most, hi)
		p.multiply(lo, end, hi, 0)
		tokens := p.x.M
		if end > lo+rows {
			tokens = min(tokens, scaledTokens)
		}
		for m := 0; m < p.x.M; m += tokens {
			for row := lo; row < end; row += rows {
				p.scaleTokens(row, min(rows, end-row), p.sums[(row-lo)*p.x.M:], m, min(m+tokens, p.x.M))
			}
		}
	}
}

// scaleTokens turns the sums of n rows from row on into the outputs of the tokens from first to last.
func (p *product) scaleTokens(row, n int, sums []int32, first, last int) {
	rows := p.unit.rows()
	if n < rows || len(p.w.Scales) > 1 || p.w.Bias != nil {
		p.rowScales(row, n, rows)
		for m := first; m < last; m++ {
			p.scale(&p.out[0], &sums[m*rows], m, 0, rows, p.excess[m], rows/8)
			p.store(p.y[m*p.ldy+row:][:n], p.out[:], m, row)
		}
		return
	}
	y, at := &p.y[first*p.ldy+row], &sums[first*rows]
	if p.unit == maddubs {
		scaleTokens(y, 4*p.ldy, at, &p.excess[first], &p.factor[first], last-first)
	} else {
		scaleTokens512(y, 4*p.ldy, at, &p.excess[first], &p.factor[first], last-first)
	}
}

// factors computes what the sums of each token are to be multiplied by, where all rows have one scale.
func (p *product) factors() {
	if p.w.Group > 0 || len(p.w.Scales) > 1 {
		return
	}
	for m := range grow(&p.factor, p.x.M) {
		p.factor[m] = float32(p.w.Scales[0]*p.x.Max[m]) / 127
	}
}

// grouped computes n rows from row on, whose columns have scales in groups.
func (p *product) grouped(row, hi, n int) {
	rows := p.unit.rows()
	acc := grow(&p.acc, p.x.M*rows)
	clear(acc)
	p.rowScales(row, n, rows)
	for g := range p.groups {
		p.multiply(row, row+n, hi, g)
		for m := range p.x.M {
			p.scale(&acc[m*rows], &p.sums[m*rows], m, g, rows, p.excess[m*p.groups+g], rows/8)
		}
	}
	for m := range p.x.M {
		p.store(p.y[m*p.ldy+row:][:n], acc[m*rows:], m, row)
	}
}

// multiply sets sums to the products of the rows from row to end with all tokens, over
// the columns of group g. As many columns as a panel has are taken at a time, of all
// these rows: the tokens' codes for them stay in the second cache meanwhile.
func (p *product) multiply(row, end, hi, g int) {
	rows := p.unit.rows()
	clear(p.sums[:(end-row+rows-1)/rows*rows*p.x.M])
	calls := p.unit.calls(p.x.M)
	each, more := p.x.M/calls, p.x.M%calls // tokens of a call; some take one more
	first := g * p.tiles
	for last := first + p.groupTiles(g); first < last; first += panelTiles {
		n := min(panelTiles, last-first)
		for at := row; at < end; at += rows {
			for i := range rows / panelRows {
				p.decode(i, at+i*panelRows, hi, first, n)
			}
			sums := p.sums[(at-row)*p.x.M:]
			for m, left := 0, calls; left > 0; left-- {
				count := each
				if left <= more {
					count++
				}
				p.gemm(&sums[m*rows], &p.x.Codes[m*p.x.Stride+first*kernels.TileCols], n, count)
				m += count
			}
		}
	}
}

// decode fills a panel with n tiles, from first on, of the rows from row on.
func (p *product) decode(panel, row, hi, first, n int) {
	rowBytes := p.w.ColTiles() * kernels.TileBytes
	var tiles [panelRows / kernels.TileRows]*byte
	for i := range tiles { // rows past the last are computed from others, and dropped
		tileRow := min(row+i*kernels.TileRows, hi-1) / kernels.TileRows
		tiles[i] = &p.w.Tiles[tileRow*rowBytes+first*kernels.TileBytes]
	}
	dst := &p.panels[panel][0]
	if p.unit == maddubs {
		ternaryPanel(dst, tiles[0], tiles[1], tiles[2], tiles[3], n, panelRows/kernels.TileRows*rowBytes)
	} else {
		ternaryPanel512(dst, tiles[0], tiles[1], tiles[2], tiles[3], n)
	}
}

// rowScales brings the scales of n rows together, group by group, stride elements apart.
func (p *product) rowScales(row, n, stride int) {
	dst := grow(&p.scales, p.groups*stride)
	if p.w.Group == 0 {
		if len(p.w.Scales) > 1 {
			copy(dst, p.w.Scales[row:row+n])
		}
		return
	}
	for r := range n {
		for g, s := range p.w.Scales[(row+r)*p.groups:][:p.groups] {
			dst[g*stride+r] = s
		}
	}
}

// scale turns the sums of 8 n rows, from which excess is to be taken, into outputs, or with
// groups of columns adds those of group g to out (spec/numerics.md, section 8).
func (p *product) scale(out *float32, sums *int32, m, g, stride int, excess int32, n int) {
	a := p.x.Max[m]
	switch {
	case p.w.Group > 0:
		addGroup(out, sums, &p.scales[g*stride], excess, n)
	case len(p.w.Scales) == 1:
		scaleSums(out, sums, excess, float32(p.w.Scales[0]*a)/127, n)
	default:
		scaleSumsRows(out, sums, &p.scales[0], excess, a, n)
	}
}

// store writes the outputs of token m for the rows from row on.
func (p *product) store(y, out []float32, m, row int) {
	copy(y, out)
	if p.w.Group > 0 {
		f := p.x.Max[m] / 127
		for r := range y {
			y[r] *= f
		}
	}
	if p.w.Bias != nil {
		for r, b := range p.w.Bias[row:][:len(y)] {
			y[r] += b
		}
	}
}
