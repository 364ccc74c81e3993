package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// norms generates the parts of normalization and quantization (spec/numerics.md,
// sections 6 and 7). What writes normalized elements returns the greatest bit
// pattern of their absolute values, which detects what is not finite and is what
// quantization needs.
func norms() {
	text("subtract", "func(d *float32, x *float32, mean float32, n int)", "subtract is d[i] = x[i] - mean for 8 n elements.")
	d, x := Load(Param("d"), RDI), Load(Param("x"), RSI)
	VBROADCASTSS(NewParamAddr("mean", 16), Y1)
	n := Load(Param("n"), RCX)
	loop("subtract_next", n, func() {
		VMOVUPS(Mem{Base: x}, Y0)
		VSUBPS(Y1, Y0, Y0)
		VMOVUPS(Y0, Mem{Base: d})
		ADDQ(U32(32), x)
		ADDQ(U32(32), d)
	})
	VZEROUPPER()
	RET()

	for _, kind := range []struct {
		name, params, doc string
		r                 int // offset of r
		step              func(x, w, b Register)
	}{
		{"scaleRMS", "w *float32, r float32", "(x[i]*w[i])*r", 24, func(x, w, _ Register) {
			VMOVUPS(Mem{Base: x}, Y0)
			VMULPS(Mem{Base: w}, Y0, Y0)
			VMULPS(Y1, Y0, Y0)
		}},
		{"scaleLayer", "w *float32, r float32", "(x[i]*r)*w[i]", 24, func(x, w, _ Register) {
			VMULPS(Mem{Base: x}, Y1, Y0)
			VMULPS(Mem{Base: w}, Y0, Y0)
		}},
		{"scaleLayerBias", "w *float32, b *float32, r float32", "((x[i]*r)*w[i]) + b[i]", 32, func(x, w, b Register) {
			VMULPS(Mem{Base: x}, Y1, Y0)
			VMULPS(Mem{Base: w}, Y0, Y0)
			VADDPS(Mem{Base: b}, Y0, Y0)
		}},
	} {
		text(kind.name, "func(y *float32, x *float32, "+kind.params+", n int) uint32", kind.name+" is y[i] = "+kind.doc+" for 8 n elements. It returns the greatest bit pattern of |y[i]|.")
		y, x, w := Load(Param("y"), RDI), Load(Param("x"), RSI), Load(Param("w"), RDX)
		b := R9
		if kind.r == 32 {
			Load(Param("b"), b)
		}
		VBROADCASTSS(NewParamAddr("r", kind.r), Y1)
		n := Load(Param("n"), RCX)
		startMax()
		loop(kind.name+"_next", n, func() {
			kind.step(x, w, b)
			VMOVUPS(Y0, Mem{Base: y})
			VPAND(Y2, Y0, Y0)
			VPMAXUD(Y0, Y3, Y3)
			for _, r := range []Register{x, w, y} {
				ADDQ(U32(32), r)
			}
			if kind.r == 32 {
				ADDQ(U32(32), b)
			}
		})
		endMax()
	}

	text("absMax", "func(x *float32, n int) uint32", "absMax is the greatest bit pattern of |x[i]| of 8 n elements.")
	x, n = Load(Param("x"), RSI), Load(Param("n"), RCX)
	startMax()
	loop("max_next", n, func() {
		VPAND(Mem{Base: x}, Y2, Y1)
		VPMAXUD(Y1, Y3, Y3)
		ADDQ(U32(32), x)
	})
	endMax()

	text("roundInt8", "func(q *int8, x *float32, k float32, n int)", "roundInt8 is q[i] = x[i]*k rounded half to even, for 32 n elements within +-127.")
	q, x := Load(Param("q"), RDI), Load(Param("x"), RSI)
	VBROADCASTSS(NewParamAddr("k", 16), Y8)
	n = Load(Param("n"), RCX)
	VMOVDQU(packOrder, Y9)
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
}

// startMax prepares Y2, which clears signs, and Y3, the maximum; endMax returns it.
func startMax() {
	zero(Y3)
	VPCMPEQD(Y2, Y2, Y2)
	VPSRLD(Imm(1), Y2, Y2)
}

func endMax() {
	VEXTRACTI128(Imm(1), Y3, X1)
	VPMAXUD(X1, X3, X3)
	VPSHUFD(Imm(0x4e), X3, X1)
	VPMAXUD(X1, X3, X3)
	VPSHUFD(Imm(0xb1), X3, X1)
	VPMAXUD(X1, X3, X3)
	VMOVD(X3, EAX)
	VZEROUPPER()
	Store(EAX, ReturnIndex(0))
	RET()
}
