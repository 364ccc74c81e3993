//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// amx is the implementation for AMX with int8: avx512 with other products of panels
// and many tokens.
type amx struct{ vnni }

func (amx) Name() string { return "amx" }

// TernaryInt8 multiplies panels as tiles, 16 rows by 64 columns, by up to 64 tokens.
func (amx) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	ternaryInt8(y, ldy, w, x, lo, hi, tdpbsud)
}

// tileConfig is what LDTILECFG reads, for so many tokens: see ternaryGEMMAMX in _asm.
type tileConfig [64]byte

func (c *tileConfig) set(tokens int) {
	*c = tileConfig{0: 1} // the palette
	last := (tokens - 1) / amxTokens
	tile := func(i, rows int) {
		c[16+2*i] = 64 // bytes of a row
		c[48+i] = byte(rows)
	}
	for i := range last {
		tile(i, amxTokens)
	}
	tile(last, tokens-last*amxTokens)
	tile(4, amxTokens)
	tile(5, tokens-last*amxTokens)
	tile(6, panelRows)
}

const amxTokens = 16 // of a tile
