package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// dotInt16 generates the products of the filter before an exact head. They run at
// the speed at which memory gives the codes: 32 columns take 7 instructions.
func dotInt16() {
	text("dotInt16", "func(row *int8, x *int16, n int) int32", "dotInt16 is the dot of 32 n codes.")
	row, x, n := Load(Param("row"), RSI), Load(Param("x"), RDX), Load(Param("n"), RCX)
	zero(Y0, Y1)
	loop("int16_next", n, func() {
		for i, sum := range []VecPhysical{Y0, Y1} {
			w := []VecPhysical{Y2, Y3}[i]
			VPMOVSXBW(Mem{Base: row, Disp: 16 * i}, w)
			VPMADDWD(Mem{Base: x, Disp: 32 * i}, w, w)
			VPADDD(w, sum, sum)
		}
		ADDQ(U32(32), row)
		ADDQ(U32(64), x)
	})
	VPADDD(Y1, Y0, Y0)
	VEXTRACTI128(Imm(1), Y0, X1)
	for _, half := range []uint64{0x4e, 0xb1} {
		VPADDD(X1, X0, X0)
		VPSHUFD(Imm(half), X0, X1)
	}
	VPADDD(X1, X0, X0)
	VMOVD(X0, EAX)
	VZEROUPPER()
	Store(EAX, ReturnIndex(0))
	RET()
}
