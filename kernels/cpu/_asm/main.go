// Command _asm generates the kernels of package cpu for amd64: go generate in that
// package runs it.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64,!purego")
	ternaryGEMV()
	sumInt8()
	panel()
	ternaryGEMM()
	scaleSums()
	ternaryFloat()
	ternaryFloatPanel()
	dots()
	dotInt16()
	rows()
	row512()
	dots512()
	norms()
	elementwise()
	attention()
	storage()
	ternaryGEMV512()
	ternaryPanel512()
	ternaryGEMM512()
	ternaryGEMMAMX()
	Generate()
}

// text begins a function whose arguments do not escape.
func text(name, signature, doc string) {
	TEXT(name, NOSPLIT, signature)
	Doc(doc)
	Pragma("noescape")
}

// loop runs body with the counter n, which is decremented to zero; a count of zero
// runs nothing.
func loop(name string, n Register, body func()) {
	TESTQ(n, n)
	JZ(LabelRef(name + "_end"))
	Label(name)
	body()
	DECQ(n)
	JNZ(LabelRef(name))
	Label(name + "_end")
}

// take sets count to the least of n and most, and takes it off n: the flags are those of
// what is left.
func take(count, n Register, most uint8, label string) {
	MOVQ(n, count)
	CMPQ(count, Imm(uint64(most)))
	JLE(LabelRef(label))
	MOVQ(U32(uint32(most)), count)
	Label(label)
	SUBQ(count, n)
}

func zero(regs ...VecPhysical) {
	for _, r := range regs {
		VPXOR(r, r, r)
	}
}
