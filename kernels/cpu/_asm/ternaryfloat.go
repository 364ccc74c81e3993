package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// ternaryFloat generates the products of trits and f32 activations in the order of
// spec/numerics.md, section 3: byte m of a tile holds four columns of lane m. VPERMILPS looks
// at two bits of an index only, so a code, shifted into place among its
// neighbours, selects its trit from a table, and a fused multiply-add rounds once,
// the product being exact.
//
// The ladder, on a Zen 4 core at 3.7 GHz (FMA 59 G MAC/s), for one token and many:
//
//	1  the reference                                     LADDER5
//	2  eight lanes of four rows x up to three tokens     LADDER6
func ternaryFloat() {
	table := GLOBL("tritTable", RODATA|NOPTR)
	for i, v := range []float32{0, 1, 0, -1, 0, 1, 0, -1} {
		DATA(4*i, F32(v))
	}
	const most = 3
	text("ternaryFloat", "func(sums *float32, tiles *byte, n int, x *float32, ldx int, tokens int, lanes *float32)", fmt.Sprintf("ternaryFloat adds the products of a block of up to 8 tiles, four rows, with up to %d tokens, ldx bytes apart, to four sums for each token. lanes, 128 for each token, is its own.", most))
	sums, tiles, n, ldx := Load(Param("sums"), RDI), Load(Param("tiles"), RSI), Load(Param("n"), R9), Load(Param("ldx"), RBX)
	x := Load(Param("x"), RDX)
	tokens, counter, tile, col := Load(Param("tokens"), RAX), RCX, R10, R11
	lanes := Mem{Base: Load(Param("lanes"), R8)}
	VMOVUPS(table, Y15)
	for t := most; t > 0; t-- {
		name := fmt.Sprintf("float%d", t)
		if t > 1 {
			CMPQ(tokens, Imm(uint64(t)))
			JNE(LabelRef(name + "_not"))
		}
		acc := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11}[:4*t]
		code, trit := Y12, Y13
		for lane := range 4 {
			zero(acc...)
			MOVQ(tiles, tile)
			MOVQ(x, col)
			MOVQ(n, counter)
			loop(fmt.Sprintf("%s_%d", name, lane), counter, func() {
				for r := range 4 {
					VPMOVZXBD(Mem{Base: tile, Disp: 32*r + 8*lane}, code)
					for j := range 4 {
						VPERMILPS(code, Y15, trit)
						if j < 3 {
							VPSRLD(Imm(2), code, code)
						}
						for i := range t {
							m := Mem{Base: col, Disp: 4 * (32*j + 8*lane)}
							if i > 0 {
								m.Index, m.Scale = ldx, uint8(i)
							}
							VFMADD231PS(m, trit, acc[4*i+r])
						}
					}
				}
				ADDQ(U32(128), tile)
				ADDQ(U32(512), col)
			})
			for i, y := range acc {
				VMOVUPS(y, lanes.Offset(128*i+32*lane))
			}
		}
		for i := range t {
			for r := range 4 {
				at := lanes.Offset(128 * (4*i + r))
				y, z := []VecPhysical{Y0, Y1, Y2, Y3}[r], Y4
				VMOVUPS(at, y)
				VADDPS(at.Offset(64), y, y)
				VMOVUPS(at.Offset(32), z)
				VADDPS(at.Offset(96), z, z)
				VADDPS(z, y, y)
				VEXTRACTF128(Imm(1), y, X4)
				VADDPS(X4, []VecPhysical{X0, X1, X2, X3}[r], []VecPhysical{X0, X1, X2, X3}[r])
			}
			// Four lanes are left in each of four rows: turned around, four rows in each of four lanes.
			VUNPCKLPS(X1, X0, X4)
			VUNPCKHPS(X1, X0, X5)
			VUNPCKLPS(X3, X2, X6)
			VUNPCKHPS(X3, X2, X7)
			VMOVLHPS(X6, X4, X0)
			VMOVHLPS(X4, X6, X1)
			VMOVLHPS(X7, X5, X2)
			VMOVHLPS(X5, X7, X3)
			VADDPS(X2, X0, X0)
			VADDPS(X3, X1, X1)
			VADDPS(X1, X0, X0)
			VADDPS(Mem{Base: sums, Disp: 16 * i}, X0, X0)
			VMOVUPS(X0, Mem{Base: sums, Disp: 16 * i})
		}
		JMP(LabelRef("float_done"))
		Label(name + "_not")
	}
	Label("float_done")
	VZEROUPPER()
	RET()
}
