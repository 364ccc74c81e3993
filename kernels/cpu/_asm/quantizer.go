package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func quantizer() {
	text("scaleNorm", "func(y *float32, x *float32, w *float32, r float32, n int)", "scaleNorm is y[i] = (x[i]*w[i])*r for 8 n elements.")
	y, x, w := Load(Param("y"), RDI), Load(Param("x"), RSI), Load(Param("w"), RDX)
	VBROADCASTSS(NewParamAddr("r", 24), Y1)
	n := Load(Param("n"), RCX)
	loop("norm_next", n, func() {
		VMOVUPS(Mem{Base: x}, Y0)
		VMULPS(Mem{Base: w}, Y0, Y0)
		VMULPS(Y1, Y0, Y0)
		VMOVUPS(Y0, Mem{Base: y})
		ADDQ(U32(32), x)
		ADDQ(U32(32), w)
		ADDQ(U32(32), y)
	})
	VZEROUPPER()
	RET()

	text("absMax", "func(x *float32, n int) uint32", "absMax is the greatest bit pattern of |x[i]| of 8 n elements.")
	x, n = Load(Param("x"), RSI), Load(Param("n"), RCX)
	zero(Y0)
	VPCMPEQD(Y2, Y2, Y2)
	VPSRLD(Imm(1), Y2, Y2)
	loop("max_next", n, func() {
		VPAND(Mem{Base: x}, Y2, Y1)
		VPMAXUD(Y1, Y0, Y0)
		ADDQ(U32(32), x)
	})
	VEXTRACTI128(Imm(1), Y0, X1)
	VPMAXUD(X1, X0, X0)
	VPSHUFD(Imm(0x4e), X0, X1)
	VPMAXUD(X1, X0, X0)
	VPSHUFD(Imm(0xb1), X0, X1)
	VPMAXUD(X1, X0, X0)
	VMOVD(X0, EAX)
	VZEROUPPER()
	Store(EAX, ReturnIndex(0))
	RET()

	order := GLOBL("packOrder", RODATA|NOPTR)
	for i, v := range []uint32{0, 4, 1, 5, 2, 6, 3, 7} {
		DATA(4*i, U32(v))
	}
	text("roundInt8", "func(q *int8, x *float32, k float32, n int)", "roundInt8 is q[i] = x[i]*k rounded half to even, for 32 n elements within +-127.")
	q, x := Load(Param("q"), RDI), Load(Param("x"), RSI)
	VBROADCASTSS(NewParamAddr("k", 16), Y8)
	n = Load(Param("n"), RCX)
	VMOVDQU(order, Y9)
	loop("round_next", n, func() {
		v := []VecPhysical{Y0, Y1, Y2, Y3}
		for i, r := range v {
			VMULPS(Mem{Base: x, Disp: 32 * i}, Y8, r)
			VCVTPS2DQ(r, r)
		}
		VPACKSSDW(Y1, Y0, Y0)
		VPACKSSDW(Y3, Y2, Y2)
		VPACKSSWB(Y2, Y0, Y0)
		VPERMD(Y0, Y9, Y0)
		VMOVDQU(Y0, Mem{Base: q})
		ADDQ(U32(128), x)
		ADDQ(U32(32), q)
	})
	VZEROUPPER()
	RET()

	storage(order)
}
