package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// rows generates the dots of three rows with one token that are far from each other in
// memory: see ternaryGEMV. A row alone is bound by the latency of its chains of additions.
//
// The ladder, 2,560 columns of int8 from memory, G elements/s, on a Zen 4 core at 3.7 GHz
// and a Zen 3 core at 3.1 GHz:
//
//	1  a row                                      13.5
//	2  two adjacent rows                           7.5
//	3  two adjacent rows, those after asked for   22.9, 10.6
//	4  three rows in three places                       12.9
//	5  lines asked for before they are read             15.4
//
// and of bf16 on Zen 3: 3.9, 6.9 and 8.8 in versions 1, 4 and 5. Some lines of each row at a
// time, 256 bytes to a whole block, and places nearer to each other gave no more.
func rows() {
	const rowsAhead = 1024 // bytes; half of it gave half as much more, twice as much the same

	for _, t := range denseTypes {
		name := "rows3" + t.name
		text(name, "func(sums *[3]float32, w *byte, stride int, x *float32, n int)", name+" adds the dots of three rows, stride bytes apart, and one token to sums: 32 n elements, n > 0.")
		sums := Load(Param("sums"), RDI)
		Load(Param("stride"), RBX)
		x, n := Load(Param("x"), RDX), Load(Param("n"), RCX)
		w, count := []Register{Load(Param("w"), RSI), R10, R11}, R8
		LEAQ(Mem{Base: RSI, Index: RBX, Scale: 1}, R10)
		LEAQ(Mem{Base: R10, Index: RBX, Scale: 1}, R11)
		acc := [3][]VecPhysical{{Y0, Y1, Y2, Y3}, {Y4, Y5, Y6, Y7}, {Y8, Y9, Y10, Y11}}
		token, elements := Y12, []VecPhysical{Y13, Y14, Y15}
		Label("block")
		take(count, n, 32, "few")
		for _, a := range acc {
			zero(a...)
		}
		loop("lanes", count, func() {
			for i := range 4 {
				VMOVUPS(Mem{Base: x, Disp: 32 * i}, token)
				for r, y := range elements {
					t.load(Mem{Base: w[r].(GPPhysical), Disp: 8 * t.size * i}, y)
					VFMADD231PS(token, y, acc[r][i])
				}
			}
			for _, row := range w {
				for line := 0; line < 32*t.size; line += 64 {
					PREFETCHT0(Mem{Base: row.(GPPhysical), Disp: rowsAhead + line})
				}
				ADDQ(U32(uint32(32*t.size)), row)
			}
			ADDQ(U32(128), x)
		})
		for r, a := range acc {
			foldLanes(a, X15)
			at, total := Mem{Base: sums, Disp: 4 * r}, a[0].(Vec).AsX()
			VADDSS(at, total, total)
			VMOVSS(total, at)
		}
		TESTQ(n, n)
		JNZ(LabelRef("block"))
		VZEROUPPER()
		RET()
	}
}

// row512 generates the dots of one row of int8. The processor overlaps the chains of a
// block, two registers, with those of the next, and finds by itself what a row in one
// place needs next.
//
// The ladder, 2,560 columns from memory on a Zen 5 core, which can read 31 GB/s:
//
//	1  two rows in 256 bits                 23.0 GB/s
//	2  two and four rows, some asked for    11 to 24
//	3  a row, and pages asked for: see fetchPages  27.7 before
func row512() {
	text("rowI8512", "func(w *byte, x *float32, n int) float32", "rowI8512 is the vector sum of w[i]*x[i] of a row of int8 over 64 n elements, n > 0.")
	w, x, n := Load(Param("w"), RSI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	count, total := R8, X8
	broadcast32(1<<31, Z8) // -0, which added to the first block leaves it as it is
	Label("block")
	take(count, n, 16, "few")
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
