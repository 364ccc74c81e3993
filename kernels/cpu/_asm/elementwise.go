package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// elementwise generates what treats every element alike: gates, rotation, the
// residual, and rows of the embedding.
func elementwise() {
	h, g, u := Register(RDI), Register(RSI), Register(RDX)
	gate := func(name, doc string, step func()) {
		text(name, "func(h *float32, gate *float32, u *float32, n int)", name+" is "+doc+" for 8 n elements.")
		Load(Param("h"), RDI)
		Load(Param("gate"), RSI)
		Load(Param("u"), RDX)
		n := Load(Param("n"), RCX)
		loop(name+"_next", n, func() {
			step()
			VMULPS(Mem{Base: u}, Y0, Y0)
			VMOVUPS(Y0, Mem{Base: h})
			for _, r := range []Register{h, g, u} {
				ADDQ(U32(32), r)
			}
		})
		VZEROUPPER()
		RET()
	}

	// exp of spec/numerics.md, section 4, over the whole range.
	sign := constant32("signBit", 0x80000000)
	lo, hi := float32s("expLeast", -0x1.5d589ep+6), float32s("expGreatest", 0x1.62e42ep+6)
	inf := constant32("infinity", 0x7f800000)
	log2e, ln2Hi, ln2Lo := float32s("expLog2e", 0x1.715476p+0), float32s("expLn2Hi", 0x1.62e43p-1), float32s("expLn2Lo", -0x1.05c61p-29)
	one := float32s("f1", 1)
	first := float32s("expC6", 0x1.6a4f26p-10)
	rest := []Mem{float32s("expC5", 0x1.12398p-7), float32s("expC4", 0x1.5558aep-5), float32s("expC3", 0x1.555492p-3), float32s("expC2", 0x1.fffffcp-2), one, one}
	gate("gateSiLU", "h[i] = gate[i] / (1 + exp(-gate[i])) * u[i]", func() {
		v, x, n, r, y, keep, over := Y1, Y2, Y3, Y4, Y5, Y6, Y7
		VMOVUPS(Mem{Base: g}, v)
		VXORPS(sign, v, x)
		VCMPPS(Imm(5), lo, x, keep)    // not less than, or unordered
		VCMPPS(Imm(0x1e), hi, x, over) // greater than
		VMULPS(log2e, x, n)
		VROUNDPS(Imm(8), n, n) // to nearest even
		VMOVAPS(x, r)
		VFNMADD231PS(ln2Hi, n, r)
		VFNMADD231PS(ln2Lo, n, r)
		VMOVUPS(first, y)
		for _, c := range rest {
			VFMADD213PS(c, r, y)
		}
		VCVTPS2DQ(n, n)
		VPSLLD(Imm(23), n, n)
		VPADDD(n, y, y)
		VANDPS(keep, y, y)
		VBLENDVPS(over, inf, y, y)
		VADDPS(one, y, y)
		VDIVPS(y, v, Y0)
	})
	gate("gateReLU2", "h[i] = max(gate[i], 0)^2 * u[i], a NaN staying one,", func() {
		zero(Y2)
		VMOVUPS(Mem{Base: g}, Y0)
		VCMPPS(Imm(6), Y2, Y0, Y1) // not less than or equal, or unordered
		VANDPS(Y1, Y0, Y0)
		VMULPS(Y0, Y0, Y0)
	})

	text("addTo", "func(x *float32, y *float32, n int)", "addTo adds 8 n elements of y to x.")
	x, y := Load(Param("x"), RDI), Load(Param("y"), RSI)
	n := Load(Param("n"), RCX)
	loop("add_next", n, func() {
		VMOVUPS(Mem{Base: x}, Y0)
		VADDPS(Mem{Base: y}, Y0, Y0)
		VMOVUPS(Y0, Mem{Base: x})
		ADDQ(U32(32), x)
		ADDQ(U32(32), y)
	})
	VZEROUPPER()
	RET()

	text("rotate", "func(a *float32, b *float32, cos *float32, sin *float32, n int)", "rotate is a[i], b[i] = a[i]*cos[i] - b[i]*sin[i], b[i]*cos[i] + a[i]*sin[i] for 8 n elements.")
	a, b := Load(Param("a"), RDI), Load(Param("b"), RSI)
	cos, sin := Load(Param("cos"), RDX), Load(Param("sin"), RBX)
	n = Load(Param("n"), RCX)
	loop("rotate_next", n, func() {
		VMOVUPS(Mem{Base: a}, Y0)
		VMOVUPS(Mem{Base: b}, Y1)
		VMOVUPS(Mem{Base: cos}, Y2)
		VMOVUPS(Mem{Base: sin}, Y3)
		VMULPS(Y2, Y0, Y4)
		VMULPS(Y3, Y1, Y5)
		VSUBPS(Y5, Y4, Y4)
		VMULPS(Y2, Y1, Y1)
		VMULPS(Y3, Y0, Y0)
		VADDPS(Y0, Y1, Y1)
		VMOVUPS(Y4, Mem{Base: a})
		VMOVUPS(Y1, Mem{Base: b})
		for _, r := range []Register{a, b, cos, sin} {
			ADDQ(U32(32), r)
		}
	})
	VZEROUPPER()
	RET()

	for _, t := range denseTypes {
		name := "widen" + t.name
		text(name, "func(dst *float32, w *byte, n int)", name+" converts 8 n elements.")
		dst, w, n := Load(Param("dst"), RDI), Load(Param("w"), RSI), Load(Param("n"), RCX)
		loop(name+"_next", n, func() {
			t.load(Mem{Base: w}, Y0)
			VMOVUPS(Y0, Mem{Base: dst})
			ADDQ(U32(32), dst)
			ADDQ(U32(uint32(8*t.size)), w)
		})
		VZEROUPPER()
		RET()
	}
}
