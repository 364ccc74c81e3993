// Command _asm generates the AVX2 kernels of package cpu: go generate in that
// package runs it.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64,!purego")
	ternary()
	dots()
	dotInt16()
	attention()
	quantizer()
	vnni()
	Generate()
}

// text begins a function whose arguments do not escape.
func text(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Doc(doc)
	Pragma("noescape")
}

// constant32 defines eight equal 32-bit words as a global, float32s eight floats.
func constant32(name string, v uint32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(v))
	}
	return m
}

func float32s(name string, v float32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, F32(v))
	}
	return m
}

// loop runs body with the counter n, which is decremented to zero; a count of zero
// runs nothing.
func loop(name string, n Register, body func()) {
	Label(name)
	CMPQ(n, Imm(0))
	JE(LabelRef(name + "_end"))
	body()
	DECQ(n)
	JMP(LabelRef(name))
	Label(name + "_end")
}

func zero(regs ...VecPhysical) {
	for _, r := range regs {
		VPXOR(r, r, r)
	}
}

// sum32 adds the eight int32 of y into the low element of its lower half.
func sum32(y, x, tx VecPhysical) {
	VEXTRACTI128(Imm(1), y, tx)
	VPADDD(tx, x, x)
	VPSHUFD(Imm(0x4e), x, tx)
	VPADDD(tx, x, x)
	VPSHUFD(Imm(0xb1), x, tx)
	VPADDD(tx, x, x)
}
