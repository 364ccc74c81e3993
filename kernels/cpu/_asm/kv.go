package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// storage generates what keys and values go through before they are stored.
func storage() {
	text("narrowF16", "func(h *uint16, x *float32, n int)", "narrowF16 is h[i] = f16(x[i]) for 8 n elements.")
	h, x, n := Load(Param("h"), RDI), Load(Param("x"), RSI), Load(Param("n"), RCX)
	loop("narrow_next", n, func() {
		VMOVUPS(Mem{Base: x}, Y0)
		VCVTPS2PH(Imm(0), Y0, Mem{Base: h}) // to nearest even
		ADDQ(U32(32), x)
		ADDQ(U32(16), h)
	})
	VZEROUPPER()
	RET()

	text("minMax", "func(x *float32, n int, lo *float32, hi *float32)", "minMax finds the least and the greatest of 8 n finite elements.")
	x, n = Load(Param("x"), RSI), Load(Param("n"), RCX)
	lo, hi := Load(Param("lo"), RDI), Load(Param("hi"), RDX)
	VMOVUPS(Mem{Base: x}, Y0)
	VMOVAPS(Y0, Y1)
	loop("minmax_next", n, func() {
		VMOVUPS(Mem{Base: x}, Y2)
		VMINPS(Y2, Y0, Y0)
		VMAXPS(Y2, Y1, Y1)
		ADDQ(U32(32), x)
	})
	for _, r := range []struct {
		x, half VecPhysical
		op      func(...Op)
	}{{Y0, X0, func(o ...Op) { VMINPS(o[0], o[1], o[2]) }}, {Y1, X1, func(o ...Op) { VMAXPS(o[0], o[1], o[2]) }}} {
		VEXTRACTF128(Imm(1), r.x, X3)
		r.op(X3, r.half, r.half)
		VSHUFPS(Imm(0x4e), r.half, r.half, X3)
		r.op(X3, r.half, r.half)
		VSHUFPS(Imm(0xb1), r.half, r.half, X3)
		r.op(X3, r.half, r.half)
	}
	VMOVSS(X0, Mem{Base: lo})
	VMOVSS(X1, Mem{Base: hi})
	VZEROUPPER()
	RET()

	least, most := float32s("leastInt8", -127), float32s("mostInt8", 127)
	text("divideInt8", "func(q *byte, x *float32, s float32, n int)", "divideInt8 is q[i] = x[i]/s rounded half to even and kept within +-127, for 32 n elements.")
	q, x := Load(Param("q"), RDI), Load(Param("x"), RSI)
	VBROADCASTSS(NewParamAddr("s", 16), Y8)
	n = Load(Param("n"), RCX)
	VMOVDQU(packOrder, Y9)
	loop("divide8_next", n, func() {
		quotients(x, func(r VecPhysical) {
			VMAXPS(least, r, r)
			VMINPS(most, r, r)
		})
		VMOVDQU(Y0, Mem{Base: q})
		ADDQ(U32(32), q)
	})
	VZEROUPPER()
	RET()

	least, most = float32s("leastInt4", -8), float32s("mostInt4", 7)
	eights, weights := constant32("eights", 0x08080808), constant32("halves", 0x01100110)
	text("divideInt4", "func(q *byte, x *float32, s float32, o float32, n int)", "divideInt4 is the codes 8 + x[i]/s + o, the quotient and o rounded half to even and kept within -8 and 7, for 32 n elements, two a byte, the even ones in the upper half.")
	q, x = Load(Param("q"), RDI), Load(Param("x"), RSI)
	VBROADCASTSS(NewParamAddr("s", 16), Y8)
	VBROADCASTSS(NewParamAddr("o", 20), Y10)
	n = Load(Param("n"), RCX)
	VMOVDQU(packOrder, Y9)
	loop("divide4_next", n, func() {
		quotients(x, func(r VecPhysical) {
			VADDPS(Y10, r, r)
			VMAXPS(least, r, r)
			VMINPS(most, r, r)
		})
		VPADDB(eights, Y0, Y0)
		VPMADDUBSW(weights, Y0, Y0)
		VEXTRACTI128(Imm(1), Y0, X1)
		VPACKUSWB(X1, X0, X0)
		VMOVDQU(X0, Mem{Base: q})
		ADDQ(U32(16), q)
	})
	VZEROUPPER()
	RET()
}

// quotients leaves 32 bytes in Y0, the elements at x, which moves on, divided by Y8, put through then and rounded. Y9
// is the order that packing needs.
func quotients(x Register, then func(VecPhysical)) {
	for i, r := range []VecPhysical{Y0, Y1, Y2, Y3} {
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, r)
		VDIVPS(Y8, r, r)
		then(r)
		VCVTPS2DQ(r, r)
	}
	VPACKSSDW(Y1, Y0, Y0)
	VPACKSSDW(Y3, Y2, Y2)
	VPACKSSWB(Y2, Y0, Y0)
	VPERMD(Y0, Y9, Y0)
	ADDQ(U32(128), x)
}
