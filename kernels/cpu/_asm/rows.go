package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// rows generates the dots of two adjacent int8 rows with one token. A row alone is
// bound by the latency of its chains of additions: its bytes come four times as
// fast as those of f32. But reading in two places confuses the processor's own
// prefetching, so the rows after these two are asked for, from the beginning of
// one to the end of the other.
//
// The ladder, 2,560 columns from memory on a Zen 4 core at 3.7 GHz:
//
//	1  a row                            13.5 G elements/s
//	2  two rows                          7.5
//	3  two rows, those after asked for  22.9
//	4  four rows in 512 bits            18.4
//
// In 512 bits and on Zen 5 a row alone is best: see row512.
func rows() {
	text("rows2I8", "func(sums *[2]float32, w *byte, stride int, x *float32, n int)", "rows2I8 are the vector sums of w[i]*x[i] of two rows of int8, stride bytes apart, over 32 n elements, n > 0.")
	sums, w := Load(Param("sums"), RDI), Load(Param("w"), RSI)
	Load(Param("stride"), RBX)
	x, n := Load(Param("x"), RDX), Load(Param("n"), RCX)
	second, ahead, count := R10, R11, R8
	LEAQ(Mem{Base: RSI, Index: RBX, Scale: 1}, second)
	LEAQ(Mem{Base: second, Index: RBX, Scale: 1}, ahead)
	acc := [2][]VecPhysical{{Y0, Y1, Y2, Y3}, {Y4, Y5, Y6, Y7}}
	xs, ws := []VecPhysical{Y8, Y9, Y10, Y11}, []VecPhysical{Y12, Y13, Y14, Y15}
	XORQ(R9, R9) // blocks so far
	Label("block")
	MOVQ(n, count)
	CMPQ(count, U32(32))
	JLE(LabelRef("few"))
	MOVQ(U32(32), count)
	Label("few")
	SUBQ(count, n)
	zero(acc[0]...)
	zero(acc[1]...)
	loop("lanes", count, func() {
		for i, y := range xs {
			VMOVUPS(Mem{Base: x, Disp: 32 * i}, y)
		}
		for r, row := range []Register{w, second} {
			for i, y := range ws {
				VPMOVSXBD(Mem{Base: row, Disp: 8 * i}, y)
				VCVTDQ2PS(y, y)
				VFMADD231PS(xs[i], y, acc[r][i])
			}
			ADDQ(U32(32), row)
		}
		PREFETCHT0(Mem{Base: ahead})
		ADDQ(U32(64), ahead)
		ADDQ(U32(128), x)
	})
	foldLanes(acc[0], X12)
	foldLanes(acc[1], X13)
	TESTQ(R9, R9)
	JZ(LabelRef("first"))
	VADDSS(Mem{Base: sums}, X0, X0)
	VADDSS(Mem{Base: sums, Disp: 4}, X4, X4)
	Label("first")
	VMOVSS(X0, Mem{Base: sums})
	VMOVSS(X4, Mem{Base: sums, Disp: 4})
	INCQ(R9)
	TESTQ(n, n)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// row512 generates the dots of one row of int8. The processor overlaps the chains of a
// block, two registers, with those of the next, and finds by itself what a row in one
// place needs next.
//
// The ladder, 2,560 columns from memory on a Zen 5 core, which can read 31 GB/s:
//
//	1  rows2I8                              23.0 GB/s
//	2  two and four rows, some asked for    11 to 24
//	3  a row, and pages asked for: see fetchPages  27.7 before
func row512() {
	text("rowI8512", "func(w *byte, x *float32, n int) float32", "rowI8512 is the vector sum of w[i]*x[i] of a row of int8 over 64 n elements, n > 0.")
	w, x, n := Load(Param("w"), RSI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	count, total := R8, X8
	broadcast32(1<<31, Z8) // -0, which added to the first block leaves it as it is
	Label("block")
	MOVQ(n, count)
	CMPQ(count, Imm(16))
	JLE(LabelRef("few"))
	MOVQ(U32(16), count)
	Label("few")
	SUBQ(count, n)
	PREFETCHT0(Mem{Base: w, Disp: pageAhead})
	acc, xs, ws := []VecPhysical{Z0, Z1}, []VecPhysical{Z2, Z3}, []VecPhysical{Z4, Z5}
	zero512(acc...)
	loop("lanes", count, func() {
		for half := range 2 {
			for i, z := range ws {
				VMOVUPS(Mem{Base: x, Disp: 128*half + 64*i}, xs[i])
				VPMOVSXBD(Mem{Base: w, Disp: 32*half + 16*i}, z)
				VCVTDQ2PS(z, z)
				VFMADD231PS(xs[i], z, acc[i])
			}
		}
		ADDQ(U32(64), w)
		ADDQ(U32(256), x)
	})
	foldLanes512(acc[0], acc[1])
	VADDSS(X0, total, total)
	TESTQ(n, n)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	Store(total, ReturnIndex(0))
	RET()
}
