package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dots512 generates the dots of a row with eight tokens, whose sums fill half of
// AVX-512's registers: a row is widened once for all of them. A call takes one block
// of 1,024 columns, of which the tokens' activations stay in the first cache.
func dots512() {
	const tokens = 8
	for _, t := range denseTypes {
		name := "dot8" + t.name + "512"
		text(name, "func(sums *[8]float32, w *byte, x *float32, ldx int, n int)", fmt.Sprintf("%s adds to sums the dots of a row and 8 tokens, ldx bytes apart, over a block: 32 n elements, n from 1 to 32.", name))
		sums, w := Load(Param("sums"), RDI), Load(Param("w"), RSI)
		x0, n := Load(Param("x"), RDX), Load(Param("n"), RCX)
		Load(Param("ldx"), R9)
		x3, x6 := R10, R11
		LEAQ(Mem{Base: RDX, Index: R9, Scale: 2}, x3)
		ADDQ(R9, x3)
		LEAQ(Mem{Base: x3, Index: R9, Scale: 2}, x6)
		ADDQ(R9, x6)
		token := []Mem{{Base: RDX}, {Base: RDX, Index: R9, Scale: 1}, {Base: RDX, Index: R9, Scale: 2}, {Base: x3}, {Base: x3, Index: R9, Scale: 1}, {Base: x3, Index: R9, Scale: 2}, {Base: x6}, {Base: x6, Index: R9, Scale: 1}}
		acc := []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15}
		row := []VecPhysical{Z16, Z17}
		zero512(acc...)
		loop("lanes", n, func() {
			for i, z := range row {
				t.load(Mem{Base: w, Disp: 16 * t.size * i}, z)
			}
			for k, m := range token {
				for i, z := range row {
					m.Disp = 64 * i
					VFMADD231PS(m, z, acc[2*k+i])
				}
			}
			ADDQ(U32(uint32(32*t.size)), w)
			for _, r := range []Register{x0, x3, x6} {
				ADDQ(U32(128), r)
			}
		})
		for k := range tokens {
			foldLanes512(acc[2*k], acc[2*k+1])
		}
		for k := range tokens {
			x := acc[2*k].(Vec).AsX()
			VADDSS(Mem{Base: sums, Disp: 4 * k}, x, x)
			VMOVSS(x, Mem{Base: sums, Disp: 4 * k})
		}
		VZEROUPPER()
		RET()
	}
}

// foldLanes512 adds the lanes of two registers into the low element of the first, as a tree. The other is lost.
func foldLanes512(z, other VecPhysical) {
	y, x, tx := z.(Vec).AsY(), z.(Vec).AsX(), other.(Vec).AsX()
	VADDPS(other, z, z)
	VEXTRACTF64X4(Imm(1), z, other.(Vec).AsY())
	VADDPS(other.(Vec).AsY(), y, y)
	VEXTRACTF128(Imm(1), y, tx)
	VADDPS(tx, x, x)
	VMOVHLPS(x, x, tx)
	VADDPS(tx, x, x)
	VMOVSHDUP(x, tx)
	VADDSS(tx, x, x)
}
