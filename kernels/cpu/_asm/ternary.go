package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// XOR with 0xaa turns the codes 00, 01, 11 into 2, 3, 1: trit + 2, unsigned, which
// VPMADDUBSW multiplies by signed activations. A pair of products lies within
// +-762, a tile adds four pairs to a 16-bit sum, and 8 tiles make at most 24,384.
func ternary() {
	mask, flip := constant32("mask03", 0x03030303), constant32("flipAA", 0xaaaaaaaa)
	ones8, ones16 := constant32("ones8", 0x01010101), constant32("ones16", 0x00010001)

	text("ternaryGEMV", "func(sums *[4]int32, tiles *byte, n int, q *int8)", "ternaryGEMV multiplies n tiles, four rows, by the activations of one token: the sums of (trit+2)*q.")
	sums, tiles, n, q := Load(Param("sums"), RDI), Load(Param("tiles"), RSI), Load(Param("n"), RCX), Load(Param("q"), RDX)
	acc := []VecPhysical{Y0, Y1, Y2, Y3}
	wide := []VecPhysical{Y4, Y5, Y6, Y7}
	acts := []VecPhysical{Y8, Y9, Y10, Y11}
	VMOVDQU(mask, Y12)
	VMOVDQU(flip, Y13)
	zero(wide...)
	Label("gemv_group")
	CMPQ(n, Imm(0))
	JE(LabelRef("gemv_done"))
	zero(acc...)
	MOVQ(n, R8)
	CMPQ(R8, Imm(8))
	JLE(LabelRef("gemv_few"))
	MOVQ(U32(8), R8)
	Label("gemv_few")
	SUBQ(R8, n)
	loop("gemv_tile", R8, func() {
		for j, a := range acts {
			VMOVDQU(Mem{Base: q, Disp: 32 * j}, a)
		}
		for r, sum := range acc {
			VPXOR(Mem{Base: tiles, Disp: 32 * r}, Y13, Y15)
			for j, a := range acts {
				if j == 0 {
					VPAND(Y12, Y15, Y14)
				} else {
					VPSRLW(Imm(uint64(2*j)), Y15, Y14)
					VPAND(Y12, Y14, Y14)
				}
				VPMADDUBSW(a, Y14, Y14)
				VPADDW(Y14, sum, sum)
			}
		}
		ADDQ(U32(128), tiles)
		ADDQ(U32(128), q)
	})
	for r := range acc {
		VPMADDWD(ones16, acc[r], Y14)
		VPADDD(Y14, wide[r], wide[r])
	}
	JMP(LabelRef("gemv_group"))
	Label("gemv_done")
	for r, w := range wide {
		sum32(w, []VecPhysical{X4, X5, X6, X7}[r], X14)
		VMOVD([]VecPhysical{X4, X5, X6, X7}[r], Mem{Base: sums, Disp: 4 * r})
	}
	VZEROUPPER()
	RET()

	text("sumInt8", "func(q *int8, n int) int32", "sumInt8 adds 128 n codes.")
	q, n = Load(Param("q"), RDX), Load(Param("n"), RCX)
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
	sum32(Y0, X0, X1)
	VMOVD(X0, EAX)
	VZEROUPPER()
	Store(EAX, ReturnIndex(0))
	RET()

	text("ternaryPanel", "func(panel *byte, stride int, tiles *byte, n int)", "ternaryPanel unpacks n tiles into four rows of bytes trit+2, stride bytes apart.")
	panel, stride := Load(Param("panel"), RDI), Load(Param("stride"), RBX)
	tiles, n = Load(Param("tiles"), RSI), Load(Param("n"), RCX)
	VMOVDQU(mask, Y12)
	VMOVDQU(flip, Y13)
	loop("panel_tile", n, func() {
		MOVQ(panel, R8)
		for r := range 4 {
			VPXOR(Mem{Base: tiles, Disp: 32 * r}, Y13, Y15)
			for j := range 4 {
				if j == 0 {
					VPAND(Y12, Y15, Y14)
				} else {
					VPSRLW(Imm(uint64(2*j)), Y15, Y14)
					VPAND(Y12, Y14, Y14)
				}
				VMOVDQU(Y14, Mem{Base: R8, Disp: 32 * j})
			}
			ADDQ(stride, R8)
		}
		ADDQ(U32(128), tiles)
		ADDQ(U32(128), panel)
	})
	VZEROUPPER()
	RET()

	text("ternaryGEMM", "func(sums *[8]int32, panel *byte, stride int, q0 *int8, q1 *int8, n int)", "ternaryGEMM multiplies four rows of a panel, 32 n columns, by two tokens: the sums of (trit+2)*q, four for each token.")
	sums, panel, stride = Load(Param("sums"), RDI), Load(Param("panel"), RSI), Load(Param("stride"), RBX)
	q0, q1 := Load(Param("q0"), RDX), Load(Param("q1"), R9)
	n = Load(Param("n"), RCX)
	wideMem := AllocLocal(256)
	rows := []Register{RSI, R10, R11, R12}
	LEAQ(Mem{Base: RSI, Index: RBX, Scale: 1}, R10)
	LEAQ(Mem{Base: R10, Index: RBX, Scale: 1}, R11)
	LEAQ(Mem{Base: R11, Index: RBX, Scale: 1}, R12)
	sum := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7}
	zero(Y0)
	for i := range 8 {
		VMOVDQU(Y0, wideMem.Offset(32*i))
	}
	XORQ(RAX, RAX) // column
	Label("gemm_group")
	CMPQ(n, Imm(0))
	JE(LabelRef("gemm_done"))
	zero(sum...)
	MOVQ(n, R8)
	CMPQ(R8, Imm(40)) // 40 pairs of products fit 16 bits
	JLE(LabelRef("gemm_few"))
	MOVQ(U32(40), R8)
	Label("gemm_few")
	SUBQ(R8, n)
	loop("gemm_block", R8, func() {
		for r, row := range rows {
			VMOVDQU(Mem{Base: row, Index: RAX, Scale: 1}, Y8)
			VPMADDUBSW(Mem{Base: q0, Index: RAX, Scale: 1}, Y8, Y9)
			VPADDW(Y9, sum[r], sum[r])
			VPMADDUBSW(Mem{Base: q1, Index: RAX, Scale: 1}, Y8, Y10)
			VPADDW(Y10, sum[4+r], sum[4+r])
		}
		ADDQ(U32(32), RAX)
	})
	for i, s := range sum {
		VPMADDWD(ones16, s, Y9)
		VPADDD(wideMem.Offset(32*i), Y9, Y9)
		VMOVDQU(Y9, wideMem.Offset(32*i))
	}
	JMP(LabelRef("gemm_group"))
	Label("gemm_done")
	for i := range 8 {
		VMOVDQU(wideMem.Offset(32*i), Y0)
		sum32(Y0, X0, X1)
		VMOVD(X0, Mem{Base: sums, Disp: 4 * i})
	}
	VZEROUPPER()
	RET()
}
