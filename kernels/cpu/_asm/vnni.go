package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// vnni generates the kernels for AVX-512 with VNNI, whose VPDPBUSD adds four
// products straight to 32 bits: nothing overflows, nothing is widened.
func vnni() {
	text("ternaryGEMV512", "func(sums *[4]int32, tiles *byte, n int, q *int8)", "ternaryGEMV512 is ternaryGEMV in 512-bit registers, two rows in each.")
	sums, tiles, n, q := Load(Param("sums"), RDI), Load(Param("tiles"), RSI), Load(Param("n"), RCX), Load(Param("q"), RDX)
	acc := [2][4]VecPhysical{{Z0, Z1, Z2, Z3}, {Z4, Z5, Z6, Z7}} // a chain for each pair of rows and bit plane
	acts := []VecPhysical{Z8, Z9, Z10, Z11}
	MOVL(U32(0x03030303), EAX)
	VPBROADCASTD(EAX, Z12)
	MOVL(U32(0xaaaaaaaa), EAX)
	VPBROADCASTD(EAX, Z13)
	for _, pair := range acc {
		zero512(pair[:]...)
	}
	loop("tile512", n, func() {
		for j, a := range acts {
			VBROADCASTI64X4(Mem{Base: q, Disp: 32 * j}, a)
		}
		for p, pair := range acc {
			VPXORD(Mem{Base: tiles, Disp: 64 * p}, Z13, Z15)
			for j, sum := range pair {
				if j == 0 {
					VPANDD(Z12, Z15, Z14)
				} else {
					VPSRLW(Imm(uint64(2*j)), Z15, Z14)
					VPANDD(Z12, Z14, Z14)
				}
				VPDPBUSD(acts[j], Z14, sum)
			}
		}
		ADDQ(U32(128), tiles)
		ADDQ(U32(128), q)
	})
	for p, pair := range acc {
		VPADDD(pair[1], pair[0], pair[0])
		VPADDD(pair[3], pair[2], pair[2])
		VPADDD(pair[2], pair[0], pair[0])
		low := []VecPhysical{Y0, Y4}[p]
		VEXTRACTI64X4(Imm(1), pair[0], Y14)
		sum32(low, []VecPhysical{X0, X4}[p], X15)
		sum32(Y14, X14, X15)
		VMOVD([]VecPhysical{X0, X4}[p], Mem{Base: sums, Disp: 8 * p})
		VMOVD(X14, Mem{Base: sums, Disp: 8*p + 4})
	}
	VZEROUPPER()
	RET()

	text("ternaryGEMM512", "func(sums *[16]int32, panel *byte, q *int8, stride int, n int)", "ternaryGEMM512 multiplies four rows of a panel, 64 n columns, by four tokens: the sums of (trit+2)*q, four for each token. Rows and tokens are stride bytes apart.")
	sums, panel, q := Load(Param("sums"), RDI), Load(Param("panel"), RSI), Load(Param("q"), RDX)
	stride := Load(Param("stride"), RBX)
	n = Load(Param("n"), RCX)
	rows, tokens := []Register{RSI, R10, R11, R12}, []Register{RDX, R13, R14, R15}
	for i := range 3 {
		LEAQ(Mem{Base: rows[i].(GPPhysical), Index: stride, Scale: 1}, rows[i+1])
		LEAQ(Mem{Base: tokens[i].(GPPhysical), Index: stride, Scale: 1}, tokens[i+1])
	}
	_, _ = panel, q
	grid := []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15} // [token][row]
	w, a := []VecPhysical{Z16, Z17, Z18, Z19}, []VecPhysical{Z20, Z21, Z22, Z23}
	zero512(grid...)
	XORQ(RAX, RAX) // column
	loop("block512", n, func() {
		for i := range 4 {
			VMOVDQU32(Mem{Base: rows[i], Index: RAX, Scale: 1}, w[i])
			VMOVDQU32(Mem{Base: tokens[i], Index: RAX, Scale: 1}, a[i])
		}
		for t := range 4 {
			for r := range 4 {
				VPDPBUSD(a[t], w[r], grid[4*t+r])
			}
		}
		ADDQ(U32(64), RAX)
	})
	for i, z := range grid {
		VEXTRACTI64X4(Imm(1), z, Y16)
		VMOVDQU64(z, Z17)
		VPADDD(Y16, Y17, Y17)
		VEXTRACTI32X4(Imm(1), Y17, X16)
		VPADDD(X16, X17, X17)
		VPSHUFD(Imm(0x4e), X17, X16)
		VPADDD(X16, X17, X17)
		VPSHUFD(Imm(0xb1), X17, X16)
		VPADDD(X16, X17, X17)
		VMOVD(X17, Mem{Base: sums, Disp: 4 * i})
	}
	VZEROUPPER()
	RET()
}

func zero512(regs ...VecPhysical) {
	for _, r := range regs {
		VPXORD(r, r, r)
	}
}
