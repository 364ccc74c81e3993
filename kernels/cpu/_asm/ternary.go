package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// ternaryGEMV generates the product of one token with weights that are decoded in
// registers, four rows of a tile at once. XOR with 0xaa turns the codes 00, 01, 11
// into 2, 3, 1: trit + 2, unsigned, which VPMADDUBSW multiplies by signed
// activations.
//
// Fields 1 and 3 of a byte are not shifted into place: their products are four
// times too large, so they have sums of their own, which are shifted once. A pair
// of products is within +-762, one of those within +-3,048; a tile adds two of them
// to each 16-bit sum, and 5 tiles make at most 30,480.
//
// The ladder, 2,560 columns on a Zen 4 core at 3.7 GHz, from a cache and from memory:
//
//	1  every field shifted into place, a call for four rows  81 G MAC/s, 94
//	2  one shift for four fields, a call for 64 rows        105, 96
//
// (From a cache: two tokens one after the other. Asking for every line, 2 kB ahead,
// takes more than it gives: the tiles are read in order.)
func ternaryGEMV() {
	text("ternaryGEMV", "func(sums *int32, tiles *byte, n int, tileRows int, rowBytes int, q *int8)", "ternaryGEMV multiplies the first n tiles of each row of tiles by the activations of one token: the sums of (trit+2)*q, four for each row of tiles. Rows of tiles are rowBytes apart.")
	sums, start := Load(Param("sums"), RDI), Load(Param("tiles"), RSI)
	tileRows, rowBytes := Load(Param("tileRows"), R9), Load(Param("rowBytes"), RBX)
	tiles, q, n, group := R10, R11, RCX, R8
	even, odd := []VecPhysical{Y0, Y1, Y2, Y3}, []VecPhysical{Y4, Y5, Y6, Y7}
	acts := []VecPhysical{Y8, Y9, Y10, Y11}
	x, product := Y12, Y13
	wide := AllocLocal(128)
	VMOVDQU(mask03, Y14)
	VMOVDQU(mask0C, Y15)
	half := halfRow(rowBytes)
	loop("gemv_row", tileRows, func() {
		fetchPages(start, half)
		MOVQ(start, tiles)
		Load(Param("q"), q)
		Load(Param("n"), n)
		zero(x)
		for r := range 4 {
			VMOVDQU(x, wide.Offset(32*r))
		}
		Label("gemv_group")
		CMPQ(n, Imm(0))
		JE(LabelRef("gemv_sums"))
		zero(even...)
		zero(odd...)
		MOVQ(n, group)
		CMPQ(group, Imm(5))
		JLE(LabelRef("gemv_few"))
		MOVQ(U32(5), group)
		Label("gemv_few")
		SUBQ(group, n)
		loop("gemv_tile", group, func() {
			for j, a := range acts {
				VMOVDQU(Mem{Base: q, Disp: 32 * j}, a)
			}
			for r := range 4 {
				VMOVDQU(Mem{Base: tiles, Disp: 32 * r}, x)
				VPXOR(flipAA, x, x)
				for j, a := range acts {
					if j == 2 {
						VPSRLW(Imm(4), x, x)
					}
					sum, mask := even[r], Y14
					if j%2 == 1 {
						sum, mask = odd[r], Y15
					}
					VPAND(mask, x, product)
					VPMADDUBSW(a, product, product)
					VPADDW(product, sum, sum)
				}
			}
			ADDQ(U32(128), tiles)
			ADDQ(U32(128), q)
		})
		for r := range 4 {
			VPSRAW(Imm(2), odd[r], odd[r])
			VPADDW(odd[r], even[r], even[r])
			VPMADDWD(ones16, even[r], even[r])
			VPADDD(wide.Offset(32*r), even[r], even[r])
			VMOVDQU(even[r], wide.Offset(32*r))
		}
		JMP(LabelRef("gemv_group"))
		Label("gemv_sums")
		for r, y := range even {
			VMOVDQU(wide.Offset(32*r), y)
		}
		fourSums(even, X4)
		VMOVDQU(X0, Mem{Base: sums})
		ADDQ(U32(16), sums)
		ADDQ(rowBytes, start)
	})
	VZEROUPPER()
	RET()
}

// pageAhead is how far ahead of what they read kernels ask for a line of each page: the
// processor's own prefetching ends with a page, and waits for the address of the next.
// 8 KiB gave half as much as this, 16 KiB nothing, and so did more lines of a page.
const pageAhead = 4096

// halfRow is half the bytes of a row of tiles, in R12.
func halfRow(rowBytes Register) Register {
	MOVQ(rowBytes, R12)
	SHRQ(Imm(1), R12)
	return R12
}

// fetchPages asks for two lines of the row of tiles that comes a page later.
func fetchPages(start, half Register) {
	PREFETCHT0(Mem{Base: start, Disp: pageAhead})
	PREFETCHT0(Mem{Base: start, Disp: pageAhead, Index: half, Scale: 1})
}

// fourSums adds the eight int32 of each of the registers Y0 to Y3 into one element of X0.
func fourSums(y []VecPhysical, tx VecPhysical) {
	VPHADDD(y[1], y[0], y[0])
	VPHADDD(y[3], y[2], y[2])
	VPHADDD(y[2], y[0], y[0])
	VEXTRACTI128(Imm(1), y[0], tx)
	VPADDD(tx, X0, X0)
}

// sumInt8 generates what the sum of a token's codes takes.
func sumInt8() {
	text("sumInt8", "func(q *int8, n int) int32", "sumInt8 adds 128 n codes.")
	q, n := Load(Param("q"), RDX), Load(Param("n"), RCX)
	zero(Y0)
	VMOVDQU(ones8, Y2)
	loop("sum_tile", n, func() {
		for j := range 4 {
			VPMADDUBSW(Mem{Base: q, Disp: 32 * j}, Y2, Y1)
			VPMADDWD(ones16, Y1, Y1)
			VPADDD(Y1, Y0, Y0)
		}
		ADDQ(U32(128), q)
	})
	VEXTRACTI128(Imm(1), Y0, X1)
	VPADDD(X1, X0, X0)
	VPSHUFD(Imm(0x4e), X0, X1)
	VPADDD(X1, X0, X0)
	VPSHUFD(Imm(0xb1), X0, X1)
	VPADDD(X1, X0, X0)
	VMOVD(X0, EAX)
	VZEROUPPER()
	Store(EAX, ReturnIndex(0))
	RET()
}
