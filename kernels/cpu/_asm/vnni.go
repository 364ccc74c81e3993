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
//
// and decode of the 2B shape with one thread of a Zen 5 core, tokens a second:
//
//	3  pages asked for before they are reached: see fetchPages  from 29.4 to 31.6
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
	half := halfRow(rowBytes)
	loop("gemv512_row", tileRows, func() {
		fetchPages(start, half)
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

// secondPanel is where the second panel begins: 16 rows of 1,024 columns after the first.
const secondPanel = 16 << 10

// ternaryGEMM512 generates the product of two panels, 32 rows, with up to twelve tokens.
// A broadcast serves both panels: with one panel the loads, one for each product and
// two a cycle, would bound it.
//
// The ladder, 128 tokens and 2,560 columns on a Zen 4 core at 3.7 GHz, where
// VPDPBUSD alone reaches 236 G MAC/s:
//
//	1  four rows x four tokens, columns in lanes, a sum across lanes a pair  186 G MAC/s
//	2  16 rows in lanes x eight tokens, broadcast activations                195
//	3  1,024 columns at a time, so that a panel stays in the first cache     213
//
// and prefill of 128 tokens of the 2B shape with one thread of a Zen 5 core, where the
// product alone reaches 436 G MAC/s:
//
//	3                                                                        133 tokens/s
//	4  32 rows x twelve tokens, panels decoded in 512 bits, to trit + 2       161
func ternaryGEMM512() {
	const most = 12
	text("ternaryGEMM512", "func(sums *int32, panel *byte, q *int8, stride int, n int, tokens int)", fmt.Sprintf("ternaryGEMM512 multiplies two panels of 4 n columns, 16 KiB apart, n even, by up to %d tokens, stride bytes apart, and adds the products (trit+2)*q to sums, 32 for each token.", most))
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
		acc := func(i int) VecPhysical { return zmm.reg(i) }
		w, a := []VecPhysical{Z24, Z25}, []VecPhysical{Z26, Z27, Z28, Z29}
		for i := range 2 * t {
			VMOVDQU32(Mem{Base: sums, Disp: 64 * i}, acc(i))
		}
		loop(name+"_columns", n, func() {
			for step := range 2 {
				for i, z := range w {
					VMOVDQU32(Mem{Base: panel, Disp: secondPanel*i + 64*step}, z)
				}
				for i := range t {
					VPBROADCASTD(tokenAt(q, stride, i, 4*step), a[i%4])
					for j, z := range w {
						VPDPBUSD(a[i%4], z, acc(2*i+j))
					}
				}
			}
			ADDQ(U32(128), panel)
			for _, p := range q[:(t+2)/3] {
				ADDQ(Imm(8), p)
			}
		})
		for i := range 2 * t {
			VMOVDQU32(acc(i), Mem{Base: sums, Disp: 64 * i})
		}
		JMP(LabelRef("gemm512_done"))
		Label(name + "_not")
	}
	Label("gemm512_done")
	VZEROUPPER()
	RET()
}

// ternaryPanel512 is ternaryPanel for the products that take trit + 2. Eight registers hold two
// rows each; two permutations and two shuffles bring the words of a column together, row by row.
func ternaryPanel512() {
	text("ternaryPanel512", "func(panel *byte, tiles0 *byte, tiles1 *byte, tiles2 *byte, tiles3 *byte, n int)", "ternaryPanel512 decodes n tiles of four rows of tiles into a panel of trit+2.")
	dst, n := Load(Param("panel"), RDI), Load(Param("n"), RCX)
	tiles := []Register{Load(Param("tiles0"), RSI), Load(Param("tiles1"), RDX), Load(Param("tiles2"), R8), Load(Param("tiles3"), R9)}
	low, high, flip, mask := Z24, Z25, Z26, Z27
	VMOVDQU32(permutation("panelLow", func(i int) int { return i%4*8 + i/4 }), low)
	VMOVDQU32(permutation("panelHigh", func(i int) int { return i%4*8 + i/4 + 4 }), high)
	broadcast32(0xaaaaaaaa, flip)
	broadcast32(0x03030303, mask)
	loop("panel512_tile", n, func() {
		// Of rows 4 i to 4 i + 3: columns' words 0 to 3 in quarters of register i, words 4 to 7 in those of 4 + i.
		for i, t := range tiles {
			VMOVDQA64(low, zmm.reg(i))
			VMOVDQA64(high, zmm.reg(4+i))
			VMOVDQU32(Mem{Base: t}, Z16)
			VMOVDQU32(Mem{Base: t, Disp: 64}, Z17)
			VPERMI2D(Z17, Z16, zmm.reg(i))
			VPERMI2D(Z17, Z16, zmm.reg(4+i))
			ADDQ(U32(128), t)
		}
		// A 4 x 4 matrix of quarters is transposed, twice.
		for half := range 2 {
			from, to := 4*half, 8+4*half
			for i := range 2 {
				VSHUFI32X4(Imm(uint64(0x44+0xaa*i)), zmm.reg(from+1), zmm.reg(from), zmm.reg(16+2*i))
				VSHUFI32X4(Imm(uint64(0x44+0xaa*i)), zmm.reg(from+3), zmm.reg(from+2), zmm.reg(17+2*i))
				VSHUFI32X4(Imm(0x88), zmm.reg(17+2*i), zmm.reg(16+2*i), zmm.reg(to+2*i))
				VSHUFI32X4(Imm(0xdd), zmm.reg(17+2*i), zmm.reg(16+2*i), zmm.reg(to+2*i+1))
			}
		}
		for j := range 4 {
			for p := range 8 {
				z := zmm.reg(8 + p)
				if j > 0 {
					VPSRLD(Imm(uint64(2*j)), z, zmm.reg(p))
				} else {
					VMOVDQA64(z, zmm.reg(p))
				}
				VPTERNLOGD(Imm(0x28), mask, flip, zmm.reg(p)) // (x XOR flip) AND mask
				VMOVDQU32(zmm.reg(p), Mem{Base: dst, Disp: 64 * (8*j + p)})
			}
		}
		ADDQ(U32(64*32), dst)
	})
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
