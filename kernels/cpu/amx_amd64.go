//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// amx is the implementation for AMX with int8: avx512 with other products of panels
// and many tokens.
type amx struct{ vnni }

func (amx) Name() string { return "amx" }

// TernaryInt8 multiplies panels as tiles, 16 rows by 64 columns, by 16 tokens each.
func (amx) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	ternaryInt8(y, ldy, w, x, lo, hi, tdpbsud)
}

// tileConfigs are what LDTILECFG reads: for 32 tokens, and for those that are left
// after all 32s. See ternaryGEMMAMX in _asm.
type tileConfigs [2 * tileConfigLen]byte

const (
	tileConfigLen = 64
	amxTokens     = 16 // of a tile
	amxRows       = 16 // of a tile of a panel
)

func (c *tileConfigs) set(tokens int) {
	rest := tokens % (2 * amxTokens)
	c.one(0, amxTokens, amxTokens)
	c.one(tileConfigLen, min(rest, amxTokens), max(rest-amxTokens, 1)) // there are no tiles without rows
}

// one describes, at byte at, the tiles for so many tokens of a first half and a second one.
func (c *tileConfigs) one(at, first, second int) {
	clear(c[at:][:tileConfigLen])
	c[at] = 1 // the palette
	for tile, rows := range [...]int{first, first, second, second, first, second, amxRows, amxRows} {
		c[at+16+2*tile] = 64 // bytes of a row
		c[at+48+tile] = byte(rows)
	}
}
