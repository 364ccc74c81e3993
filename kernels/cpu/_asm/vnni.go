package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// ternaryGEMV512 is ternaryGEMV for AVX-512 with VNNI, whose VPDPBUSD adds four
// products straight to 32 bits: nothing is widened, and codes may stay where they
// are in a byte. Those of the upper bits are 4, 16 and 64 times too large, and so
// are their sums, which are divided at the end.
//
// The ladder, 2,560 columns on a Zen 4 core at 3.7 GHz:
//
//	1  codes shifted to the lowest bits  113 G MAC/s from memory
//	2  codes where they are              127 from memory
func ternaryGEMV512() {
	text("ternaryGEMV512", "func(sums *int32, tiles *byte, n int, tileRows int, rowBytes int, q *int8)", "ternaryGEMV512 is ternaryGEMV in 512-bit registers, two rows in each.")
	sums, start := Load(Param("sums"), RDI), Load(Param("tiles"), RSI)
	tileRows, rowBytes := Load(Param("tileRows"), R9), Load(Param("rowBytes"), RBX)
	tiles, q, n := R10, R11, RCX
	acc := [2][]VecPhysical{{Z0, Z1, Z2, Z3}, {Z4, Z5, Z6, Z7}} // of rows 0 and 1, of rows 2 and 3: one for each two bits of a byte
	acts := []VecPhysical{Z8, Z9, Z10, Z11}
	x, code := []VecPhysical{Z12, Z13}, []VecPhysical{Z14, Z15, Z16, Z17}
	masks, flip := []VecPhysical{Z18, Z20, Z21, Z22}, Z19
	for j, mask := range masks {
		broadcast32(0x03030303<<(2*j), mask)
	}
	broadcast32(0xaaaaaaaa, flip)
	loop("gemv512_row", tileRows, func() {
		MOVQ(start, tiles)
		Load(Param("q"), q)
		Load(Param("n"), n)
		zero512(acc[0]...)
		zero512(acc[1]...)
		loop("tile512", n, func() {
			for j, a := range acts {
				VBROADCASTI64X4(Mem{Base: q, Disp: 32 * j}, a)
			}
			for p, sums := range acc {
				VPXORD(Mem{Base: tiles, Disp: 64 * p}, flip, x[p])
				for j, sum := range sums {
					VPANDD(masks[j], x[p], code[j])
					VPDPBUSD(acts[j], code[j], sum)
				}
			}
			ADDQ(U32(128), tiles)
			ADDQ(U32(128), q)
		})
		for _, sums := range acc {
			for j, sum := range sums[1:] {
				VPSRAD(Imm(uint64(2*j+2)), sum, sum)
			}
			VPADDD(sums[1], sums[0], sums[0])
			VPADDD(sums[3], sums[2], sums[2])
			VPADDD(sums[2], sums[0], sums[0])
		}
		VMOVDQA64(Z4, Z2)
		VEXTRACTI64X4(Imm(1), Z0, Y1)
		VEXTRACTI64X4(Imm(1), Z2, Y3)
		fourSums([]VecPhysical{Y0, Y1, Y2, Y3}, X4)
		VMOVDQU(X0, Mem{Base: sums})
		ADDQ(U32(16), sums)
		ADDQ(rowBytes, start)
	})
	VZEROUPPER()
	RET()
}

// ternaryGEMM512 generates the product of a panel with up to eight tokens.
//
// The ladder, 128 tokens and 2,560 columns on a Zen 4 core at 3.7 GHz, where
// VPDPBUSD alone reaches 236 G MAC/s:
//
//	1  four rows x four tokens, columns in lanes, a sum across lanes a pair  186 G MAC/s
//	2  16 rows in lanes x eight tokens, broadcast activations                195
//	3  1,024 columns at a time, so that a panel stays in the first cache     213
func ternaryGEMM512() {
	const most = 8
	text("ternaryGEMM512", "func(sums *int32, panel *byte, q *int8, stride int, n int, tokens int)", fmt.Sprintf("ternaryGEMM512 is ternaryGEMM in 512-bit registers, for up to %d tokens.", most))
	sums, panel, stride, n := Load(Param("sums"), RDI), Load(Param("panel"), RSI), Load(Param("stride"), RBX), Load(Param("n"), RCX)
	tokens := Load(Param("tokens"), RAX)
	q := tokenBases(stride, most)
	SHRQ(Imm(1), n)
	for t := most; t > 0; t-- {
		name := fmt.Sprintf("gemm512_%d", t)
		if t > 1 {
			CMPQ(tokens, Imm(uint64(t)))
			JNE(LabelRef(name + "_not"))
		}
		acc := []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7}[:t]
		w, a := Z8, []VecPhysical{Z9, Z10, Z11, Z12}
		for i, z := range acc {
			VMOVDQU32(Mem{Base: sums, Disp: 64 * i}, z)
		}
		loop(name+"_columns", n, func() {
			for step := range 2 {
				VMOVDQU32(Mem{Base: panel, Disp: 64 * step}, w)
				for i, sum := range acc {
					VPBROADCASTD(tokenAt(q, stride, i, 4*step), a[i%4])
					VPDPBUSD(a[i%4], w, sum)
				}
			}
			ADDQ(U32(128), panel)
			for _, p := range q[:(t+2)/3] {
				ADDQ(Imm(8), p)
			}
		})
		for i, z := range acc {
			VMOVDQU32(z, Mem{Base: sums, Disp: 64 * i})
		}
		JMP(LabelRef("gemm512_done"))
		Label(name + "_not")
	}
	Label("gemm512_done")
	VZEROUPPER()
	RET()
}

// broadcast32 fills a register with a 32-bit word.
func broadcast32(v uint32, z VecPhysical) {
	MOVL(U32(v), EAX)
	VPBROADCASTD(EAX, z)
}

func zero512(regs ...VecPhysical) {
	for _, r := range regs {
		VPXORD(r, r, r)
	}
}
