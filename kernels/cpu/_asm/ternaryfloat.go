package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const blockTiles = 8 // of a block of a vector sum

// tritTable is the trit of each code.
var tritTable = func() Mem {
	m := GLOBL("tritTable", RODATA|NOPTR)
	for i, v := range []float32{0, 1, 0, -1, 0, 1, 0, -1} {
		DATA(4*i, F32(v))
	}
	return m
}()

// ternaryFloat generates the products of trits and f32 activations in the order of
// spec/numerics.md, section 3: byte m of a tile holds four columns of lane m. VPERMILPS looks
// at two bits of an index only, so a code, shifted into place among its
// neighbours, selects its trit from a table, and a fused multiply-add rounds once,
// the product being exact.
//
// The ladder, 2,560 columns on a Zen 4 core at 3.7 GHz, where FMA alone reaches 59 G
// MAC/s, for 1, 3 and 32 tokens:
//
//	1  the reference                                  1.1, 1.4, 1.4 G MAC/s
//	2  eight lanes of four rows x up to three tokens  24.6, 39.3, 38.1
//	3  for six tokens or more, trits decoded once     24.6, 39.3, 44.6
func ternaryFloat() {
	const most = 3
	text("ternaryFloat", "func(sums *float32, tiles *byte, n int, x *float32, ldx int, tokens int, lanes *float32)", fmt.Sprintf("ternaryFloat adds the products of a block of up to 8 tiles, four rows, with up to %d tokens, ldx bytes apart, to four sums for each token. lanes, 128 for each token, is its own.", most))
	sums, tiles, n, ldx := Load(Param("sums"), RDI), Load(Param("tiles"), RSI), Load(Param("n"), R9), Load(Param("ldx"), RBX)
	x := Load(Param("x"), RDX)
	tokens, counter, tile, col := Load(Param("tokens"), RAX), RCX, R10, R11
	lanes := Mem{Base: Load(Param("lanes"), R8)}
	VMOVUPS(tritTable, Y15)
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
		foldRows(sums, lanes, t)
		JMP(LabelRef("float_done"))
		Label(name + "_not")
	}
	Label("float_done")
	VZEROUPPER()
	RET()
}

// ternaryFloatPanel generates the same for trits that are decoded once, for more
// tokens: an f32 each, in the order in which the kernel takes them. The first
// eight lanes have 32 columns times four rows of them, and so on to the fourth eight lanes.
func ternaryFloatPanel() {
	const part = blockTiles * 4 * 128 // bytes of eight lanes
	text("ternaryFloatPanel", "func(panel *float32, tiles *byte, n int)", "ternaryFloatPanel decodes a block of up to 8 tiles, four rows.")
	panel, tiles, n := Load(Param("panel"), RDI), Load(Param("tiles"), RSI), Load(Param("n"), RCX)
	code, trit := Y12, Y13
	VMOVUPS(tritTable, Y15)
	loop("float_panel_tile", n, func() {
		for lane := range 4 {
			for r := range 4 {
				VPMOVZXBD(Mem{Base: tiles, Disp: 32*r + 8*lane}, code)
				for j := range 4 {
					VPERMILPS(code, Y15, trit)
					if j < 3 {
						VPSRLD(Imm(2), code, code)
					}
					VMOVUPS(trit, Mem{Base: panel, Disp: part*lane + 128*j + 32*r})
				}
			}
		}
		ADDQ(U32(128), tiles)
		ADDQ(U32(512), panel)
	})
	VZEROUPPER()
	RET()

	text("ternaryFloatGEMM", "func(sums *float32, panel *float32, n int, x *float32, ldx int, tokens int, lanes *float32)", "ternaryFloatGEMM is ternaryFloat for a panel of n tiles and two or three tokens.")
	sums, panel, x := Load(Param("sums"), RDI), Load(Param("panel"), RSI), Load(Param("x"), RDX)
	ldx, tokens, n := Load(Param("ldx"), RBX), Load(Param("tokens"), RAX), Load(Param("n"), R9)
	lanes := Mem{Base: Load(Param("lanes"), R8)}
	counter, w, col := RCX, R10, R11
	SHLQ(Imm(2), n)
	for t := 3; t > 1; t-- {
		name := fmt.Sprintf("float_gemm%d", t)
		if t > 2 {
			CMPQ(tokens, Imm(uint64(t)))
			JNE(LabelRef(name + "_not"))
		}
		acc := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11}[:4*t]
		acts, trit := []VecPhysical{Y12, Y13, Y14}[:t], Y15
		for lane := range 4 {
			zero(acc...)
			LEAQ(Mem{Base: panel, Disp: part * lane}, w)
			LEAQ(Mem{Base: x, Disp: 32 * lane}, col)
			MOVQ(n, counter)
			loop(fmt.Sprintf("%s_%d", name, lane), counter, func() {
				for i, a := range acts {
					m := Mem{Base: col}
					if i > 0 {
						m.Index, m.Scale = ldx, uint8(i)
					}
					VMOVUPS(m, a)
				}
				for r := range 4 {
					VMOVUPS(Mem{Base: w, Disp: 32 * r}, trit)
					for i, a := range acts {
						VFMADD231PS(a, trit, acc[4*i+r])
					}
				}
				ADDQ(U32(128), w)
				ADDQ(U32(128), col)
			})
			for i, y := range acc {
				VMOVUPS(y, lanes.Offset(128*i+32*lane))
			}
		}
		foldRows(sums, lanes, t)
		JMP(LabelRef("float_gemm_done"))
		Label(name + "_not")
	}
	Label("float_gemm_done")
	VZEROUPPER()
	RET()
}

// foldRows adds the 32 lanes of four rows, for each token, to sums.
func foldRows(sums Register, lanes Mem, tokens int) {
	for i := range tokens {
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
}
