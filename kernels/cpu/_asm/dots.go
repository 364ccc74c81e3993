package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// denseTypes are the elements of a dense matrix, and how eight of them become f32.
var denseTypes = []struct {
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
}

// dots generates the vector sums of spec/numerics.md: 32 lanes in four registers,
// folded as a tree, in blocks of 1,024. One token is multiplied by two rows, which
// gives eight chains of additions to overlap; two or three tokens by a row that is
// widened once.
//
// The ladder, on a Zen 4 core at 3.7 GHz, bf16, for one token and for 12:
//
//	1  a row and a token    LADDER7
//	2  this                 LADDER8
func dots() {
	for _, t := range denseTypes {
		for _, shape := range []struct {
			name         string
			rows, tokens int
			doc          string
		}{
			{"Rows", 2, 1, "two rows, wstride bytes apart, with a token"},
			{"Tokens2", 1, 2, "a row with two tokens, ldx bytes apart"},
			{"Tokens3", 1, 3, "a row with three tokens, ldx bytes apart"},
		} {
			name := "dot" + shape.name + t.name
			text(name, "func(sums *float32, w *byte, wstride int, x *float32, ldx int, n int, end *[640]byte)", name+" adds the dots of "+shape.doc+", to sums: 32 n elements and, unless end is nil, those in there.")
			sums, w, wstride := Load(Param("sums"), RDI), Load(Param("w"), RSI), Load(Param("wstride"), RBX)
			x, ldx, n := Load(Param("x"), RDX), Load(Param("ldx"), R9), Load(Param("n"), RCX)
			acc := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11}[:4*shape.rows*shape.tokens]
			vectorSums(sums, n, acc, func() {
				if shape.rows == 2 { // the next two rows
					LEAQ(Mem{Base: w, Index: wstride, Scale: 2}, R11)
					for line := 0; line < 32*t.size; line += 64 {
						PREFETCHT0(Mem{Base: R11, Disp: line})
						PREFETCHT0(Mem{Base: R11, Index: wstride, Scale: 1, Disp: line})
					}
				}
				for i := range 4 {
					for r := range shape.rows {
						m := Mem{Base: w, Disp: 8 * t.size * i}
						if r > 0 {
							m.Index, m.Scale = wstride, 1
						}
						y := []VecPhysical{Y12, Y13, Y14, Y15}[(2*i+r)%4]
						t.load(m, y)
						for k := range shape.tokens {
							m := Mem{Base: x, Disp: 32 * i}
							if k > 0 {
								m.Index, m.Scale = ldx, uint8(k)
							}
							VFMADD231PS(m, y, acc[4*(r+k)+i])
						}
					}
				}
				ADDQ(U32(uint32(32*t.size)), w)
				ADDQ(U32(128), x)
			}, func() {
				MOVQ(R10, w)
				LEAQ(Mem{Base: R10, Disp: 256}, x)
				MOVQ(U32(128), wstride)
				MOVQ(U32(128), ldx)
			})
		}
	}

	text("sum", "func(sums *float32, x *float32, n int, end *[640]byte)", "sum adds the sum of x to sums[0]: 32 n elements and, unless end is nil, the activations in there.")
	sums, x, n := Load(Param("sums"), RDI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	acc := []VecPhysical{Y0, Y1, Y2, Y3}
	vectorSums(sums, n, acc, func() {
		for i, a := range acc {
			VADDPS(Mem{Base: x, Disp: 32 * i}, a, a)
		}
		ADDQ(U32(128), x)
	}, func() { LEAQ(Mem{Base: R10, Disp: 256}, x) })

	text("sumSquares", "func(sums *float32, x *float32, n int, end *[640]byte)", "sumSquares is sum of the squares of x.")
	sums, x, n = Load(Param("sums"), RDI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	vectorSums(sums, n, acc, func() {
		for i, a := range acc {
			y := []VecPhysical{Y4, Y5, Y6, Y7}[i]
			VMOVUPS(Mem{Base: x, Disp: 32 * i}, y)
			VFMADD231PS(y, y, a)
		}
		ADDQ(U32(128), x)
	}, func() { LEAQ(Mem{Base: R10, Disp: 256}, x) })
}

// vectorSums ends a function that adds vector sums to what stands at sums: step
// takes in 32 elements, four registers of acc for each sum, and is run n times;
// then, unless the parameter end is nil, once more after toTail, which finds it in
// R10.
func vectorSums(sums, n Register, acc []VecPhysical, step, toTail func()) {
	count, end := R8, R10
	Load(Param("end"), end)
	TESTQ(end, end)
	JZ(LabelRef("block"))
	INCQ(n)
	Label("block")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	zero(acc...)
	MOVQ(n, count)
	CMPQ(count, U32(32))
	JLE(LabelRef("few"))
	MOVQ(U32(32), count)
	Label("few")
	SUBQ(count, n)
	JNZ(LabelRef("whole")) // not the last block
	TESTQ(end, end)
	JZ(LabelRef("whole"))
	DECQ(count)
	Label("whole")
	loop("lanes", count, step)
	TESTQ(n, n)
	JNZ(LabelRef("fold"))
	TESTQ(end, end)
	JZ(LabelRef("fold"))
	toTail()
	step()
	Label("fold")
	for i := 0; i < len(acc); i += 4 {
		foldLanes(acc[i:i+4], X15)
		x, at := acc[i].(Vec).AsX(), Mem{Base: sums, Disp: i}
		VADDSS(at, x, x)
		VMOVSS(x, at)
	}
	JMP(LabelRef("block"))
	Label("done")
	VZEROUPPER()
	RET()
}

// fold adds the lanes of Y0 to Y3 into the low element of X0, as a tree.
func fold(tx VecPhysical) { foldLanes([]VecPhysical{Y0, Y1, Y2, Y3}, tx) }

// foldLanes adds the lanes of four registers into the low element of the first, as a tree.
func foldLanes(y []VecPhysical, tx VecPhysical) {
	x := y[0].(Vec).AsX()
	VADDPS(y[2], y[0], y[0])
	VADDPS(y[3], y[1], y[1])
	VADDPS(y[1], y[0], y[0])
	VEXTRACTF128(Imm(1), y[0], tx)
	VADDPS(tx, x, x)
	VMOVHLPS(x, x, tx)
	VADDPS(tx, x, x)
	VMOVSHDUP(x, tx)
	VADDSS(tx, x, x)
}
