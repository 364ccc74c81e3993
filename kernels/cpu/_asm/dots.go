package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dots generates the vector sums of spec/numerics.md: 32 lanes in four registers,
// folded as a tree, in blocks of 1,024.
func dots() {
	for _, t := range []struct {
		name string
		size int
		load func(Mem, VecPhysical)
	}{
		{"F32", 4, func(m Mem, y VecPhysical) { VMOVUPS(m, y) }},
		{"BF16", 2, func(m Mem, y VecPhysical) {
			VPMOVZXWD(m, y)
			VPSLLD(Imm(16), y, y)
		}},
		{"F16", 2, func(m Mem, y VecPhysical) { VCVTPH2PS(m, y) }},
		{"I8", 1, func(m Mem, y VecPhysical) {
			VPMOVSXBD(m, y)
			VCVTDQ2PS(y, y)
		}},
	} {
		text("dot"+t.name, "func(w *byte, x *float32, n int) float32", "dot"+t.name+" is the vector sum of w[i]*x[i] over 32 n elements.")
		w, x, n := Load(Param("w"), RSI), Load(Param("x"), RDX), Load(Param("n"), RCX)
		vectorSum(n, func(i int, a VecPhysical) {
			y := []VecPhysical{Y4, Y5, Y6, Y7}[i]
			t.load(Mem{Base: w, Disp: 8 * t.size * i}, y)
			VFMADD231PS(Mem{Base: x, Disp: 32 * i}, y, a)
		}, func() {
			ADDQ(U32(uint32(32*t.size)), w)
			ADDQ(U32(128), x)
		})
	}
	squares()
}

// vectorSum ends a function that returns the vector sum over 32 n elements: lane
// adds eight of them to one of four registers, next moves on by 32.
func vectorSum(n Register, lane func(i int, acc VecPhysical), next func()) {
	acc := []VecPhysical{Y0, Y1, Y2, Y3}
	// -0 + b = b for every b: the first block's sum is itself.
	MOVL(U32(0x80000000), EAX)
	VMOVD(EAX, X15)
	Label("block")
	CMPQ(n, U32(0))
	JE(LabelRef("done"))
	zero(acc...)
	MOVQ(n, R8)
	CMPQ(R8, U32(32))
	JLE(LabelRef("few"))
	MOVQ(U32(32), R8)
	Label("few")
	SUBQ(R8, n)
	loop("lanes", R8, func() {
		for i, a := range acc {
			lane(i, a)
		}
		next()
	})
	fold(X4)
	VADDSS(X0, X15, X15)
	JMP(LabelRef("block"))
	Label("done")
	VZEROUPPER()
	Store(X15, ReturnIndex(0))
	RET()
}

// squares is the vector sum of the squares of a vector.
func squares() {
	text("sumSquares", "func(x *float32, n int) float32", "sumSquares is the vector sum of x[i]*x[i] over 32 n elements.")
	x, n := Load(Param("x"), RDX), Load(Param("n"), RCX)
	vectorSum(n, func(i int, a VecPhysical) {
		y := []VecPhysical{Y4, Y5, Y6, Y7}[i]
		VMOVUPS(Mem{Base: x, Disp: 32 * i}, y)
		VFMADD231PS(y, y, a)
	}, func() { ADDQ(U32(128), x) })
}

// fold adds the lanes of Y0 to Y3 into the low element of X0, as a tree.
func fold(tx VecPhysical) {
	VADDPS(Y2, Y0, Y0)
	VADDPS(Y3, Y1, Y1)
	VADDPS(Y1, Y0, Y0)
	VEXTRACTF128(Imm(1), Y0, tx)
	VADDPS(tx, X0, X0)
	VMOVHLPS(X0, X0, tx)
	VADDPS(tx, X0, X0)
	VMOVSHDUP(X0, tx)
	VADDSS(tx, X0, X0)
}
