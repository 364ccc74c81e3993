//go:build amd64 && !purego

package cpu

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
)

const (
	gemvRows    = 64 // rows of one token at a time
	panelRows   = 16 // rows of a panel
	panelTokens = 6  // fewer tokens do not pay for decoding a panel, unless groups end the sums of rows early
	panelTiles  = 8  // of a panel: it is to stay in the first cache
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

func (u unit) gemv(sums *int32, tiles *byte, n, tileRows, rowBytes int, q *int8) {
	if u == maddubs || n > gemvTiles512 {
		ternaryGEMV(sums, tiles, n, tileRows, rowBytes, q)
	} else {
		ternaryGEMV512(sums, tiles, n, tileRows, rowBytes, q)
	}
}

// gemm multiplies the panel, n tiles, by the tokens that begin at q, and adds to sums.
func (p *product) gemm(sums *int32, q *int8, n, tokens int) {
	n *= kernels.TileCols / 4
	panel := &p.panel[0]
	switch p.unit {
	case maddubs:
		ternaryGEMM(sums, panel, q, p.x.Stride, n, tokens)
	case dpbusd:
		ternaryGEMM512(sums, panel, q, p.x.Stride, n, tokens)
	case tdpbsud:
		p.config.set(tokens)
		ternaryGEMMAMX(sums, panel, q, p.x.Stride, n, tokens, (*[64]byte)(&p.config))
	}
}

// count is how many of m tokens gemm is to take at once.
func (u unit) count(m int) int {
	switch u {
	case maddubs:
		return share(m, 6)
	case dpbusd:
		return share(m, 8)
	}
	return min(m, 4*amxTokens)
}

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
	excess := grow(&p.excess, x.M*p.groups)
	for m := range x.M {
		for g := range p.groups {
			excess[m*p.groups+g] = sumInt8(&x.Codes[m*x.Stride+g*w.Group], p.groupTiles(g))
		}
	}
	if x.M == 1 || p.groups == 1 && x.M < panelTokens {
		p.few(lo, hi)
	} else {
		p.many(lo, hi)
	}
}

// groupTiles is the length of group g in tiles.
func (p *product) groupTiles(g int) int { return min(p.tiles, p.w.ColTiles()-g*p.tiles) }

// few multiplies tiles as they are.
func (p *product) few(lo, hi int) {
	rowTiles := p.w.ColTiles()
	for row := lo; row < hi; row += gemvRows {
		n := min(gemvRows, hi-row)
		p.rowScales(row, n, gemvRows)
		tileRow := row / kernels.TileRows * rowTiles
		sums := grow(&p.sums, gemvRows)
		for m := range p.x.M {
			clear(p.out[:])
			for g := range p.groups {
				q := &p.x.Codes[m*p.x.Stride+g*p.w.Group]
				p.unit.gemv(&sums[0], &p.w.Tiles[(tileRow+g*p.tiles)*kernels.TileBytes], p.groupTiles(g), (n+kernels.TileRows-1)/kernels.TileRows, rowTiles*kernels.TileBytes, q)
				p.scale(&p.out[0], &sums[0], m, g, gemvRows, 2*p.excess[m*p.groups+g], (n+7)/8) // codes are trit + 2
			}
			p.store(p.y[m*p.ldy+row:][:n], p.out[:], m, row)
		}
	}
}

// many decodes a panel at a time and multiplies it by all tokens.
func (p *product) many(lo, hi int) {
	sums, acc := grow(&p.sums, p.x.M*panelRows), grow(&p.acc, p.x.M*panelRows)
	for row := lo; row < hi; row += panelRows {
		n := min(panelRows, hi-row)
		p.rowScales(row, n, panelRows)
		clear(acc)
		for g := range p.groups {
			clear(sums)
			first := g * p.tiles
			for end := first + p.groupTiles(g); first < end; first += panelTiles {
				p.block(row, hi, first, min(panelTiles, end-first))
			}
			for m := range p.x.M {
				p.scale(&acc[m*panelRows], &sums[m*panelRows], m, g, panelRows, p.excess[m*p.groups+g], panelRows/8) // codes are trit + 1
			}
		}
		for m := range p.x.M {
			p.store(p.y[m*p.ldy+row:][:n], acc[m*panelRows:], m, row)
		}
	}
}

// block decodes n tiles, from first on, of the rows from row on, and multiplies them by all
// tokens.
func (p *product) block(row, hi, first, n int) {
	var tiles [panelRows / kernels.TileRows]*byte
	for i := range tiles { // rows past the last are computed from others, and dropped
		tileRow := min(row+i*kernels.TileRows, hi-1) / kernels.TileRows
		tiles[i] = &p.w.Tiles[(tileRow*p.w.ColTiles()+first)*kernels.TileBytes]
	}
	ternaryPanel(&p.panel[0], tiles[0], tiles[1], tiles[2], tiles[3], n)
	for m := 0; m < p.x.M; {
		count := p.unit.count(p.x.M - m)
		p.gemm(&p.sums[m*panelRows], &p.x.Codes[m*p.x.Stride+first*kernels.TileCols], n, count)
		m += count
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
