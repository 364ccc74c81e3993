package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// denseTypes are the elements of a dense matrix, and how they become f32: as many as fill the register.
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
// folded as a tree, in blocks of 1,024. A row is read from beginning to end and
// widened once for up to three tokens: two rows at a time give more chains of
// additions to overlap, but read memory in two places, at half the rate.
//
// The ladder, 2,560 columns of bf16 on a Zen 4 core at 3.7 GHz, for 12 tokens:
//
//	1  a row and a token       24.8 G MAC/s
//	2  a row and three tokens  33.0
func dots() {
	for _, t := range denseTypes {
		for tokens := 1; tokens <= 3; tokens++ {
			name := fmt.Sprintf("dot%d%s", tokens, t.name)
			text(name, "func(sums *float32, w *byte, x *float32, ldx int, n int, end *[512]byte)", fmt.Sprintf("%s adds the dots of a row and %d tokens, ldx bytes apart, to sums: 32 n elements and, unless end is nil, those in there.", name, tokens))
			sums, w := Load(Param("sums"), RDI), Load(Param("w"), RSI)
			x, ldx, n := Load(Param("x"), RDX), Load(Param("ldx"), R9), Load(Param("n"), RCX)
			acc := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11}[:4*tokens]
			begin := nothing
			if tokens == 1 {
				begin = func() { PREFETCHT0(Mem{Base: w, Disp: pageAhead}) }
			}
			vectorSums(sums, n, acc, begin, func() {
				for i, y := range []VecPhysical{Y12, Y13, Y14, Y15} {
					t.load(Mem{Base: w, Disp: 8 * t.size * i}, y)
					for k := range tokens {
						m := Mem{Base: x, Disp: 32 * i}
						if k > 0 {
							m.Index, m.Scale = ldx, uint8(k)
						}
						VFMADD231PS(m, y, acc[4*k+i])
					}
				}
				ADDQ(U32(uint32(32*t.size)), w)
				ADDQ(U32(128), x)
			}, func() {
				MOVQ(R10, w)
				LEAQ(Mem{Base: R10, Disp: 128}, x)
				MOVQ(U32(128), ldx)
			})
		}
	}

	text("sum", "func(sums *float32, x *float32, n int, end *[512]byte)", "sum adds the sum of x to sums[0]: 32 n elements and, unless end is nil, the activations in there.")
	sums, x, n := Load(Param("sums"), RDI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	acc := []VecPhysical{Y0, Y1, Y2, Y3}
	vectorSums(sums, n, acc, nothing, func() {
		for i, a := range acc {
			VADDPS(Mem{Base: x, Disp: 32 * i}, a, a)
		}
		ADDQ(U32(128), x)
	}, func() { LEAQ(Mem{Base: R10, Disp: 128}, x) })

	text("sumSquares", "func(sums *float32, x *float32, n int, end *[512]byte)", "sumSquares is sum of the squares of x.")
	sums, x, n = Load(Param("sums"), RDI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	vectorSums(sums, n, acc, nothing, func() {
		for i, a := range acc {
			y := []VecPhysical{Y4, Y5, Y6, Y7}[i]
			VMOVUPS(Mem{Base: x, Disp: 32 * i}, y)
			VFMADD231PS(y, y, a)
		}
		ADDQ(U32(128), x)
	}, func() { LEAQ(Mem{Base: R10, Disp: 128}, x) })
}

// vectorSums ends a function that adds vector sums to what stands at sums: step
// takes in 32 elements, four registers of acc for each sum, and is run n times;
// then, unless the parameter end is nil, once more after toTail, which finds it in
// R10. Each block starts with begin.
func vectorSums(sums, n Register, acc []VecPhysical, begin, step, toTail func()) {
	count, end := R8, R10
	Load(Param("end"), end)
	TESTQ(end, end)
	JZ(LabelRef("block"))
	INCQ(n)
	Label("block")
	TESTQ(n, n)
	JZ(LabelRef("done"))
	begin()
	zero(acc...)
	take(count, n, 32, "few")
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

func nothing() {}

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
