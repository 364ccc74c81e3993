package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The assembler does not know AMX: its instructions are written as bytes, in the
// encoding of Intel's manual (VEX.128, opcode map 0F38, W0).
const (
	noPrefix = 0
	prefixF3 = 2
	prefixF2 = 3
)

func amx(prefix, opcode byte, x, b, vvvv byte, operands ...byte) {
	code := append([]byte{0xc4, 0x80 | (^x>>3&1)<<6 | (^b>>3&1)<<5 | 2, ^vvvv&15<<3 | prefix, opcode}, operands...)
	for _, c := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{U8(c)}})
	}
}

// amxMemory is an instruction on a tile and base + index, base neither RBP nor R13; tileConfig wants neither those nor RSP or R12.
func amxMemory(prefix, opcode, tile byte, base, index GPPhysical) {
	x, b := byte(index.PhysicalIndex()), byte(base.PhysicalIndex())
	amx(prefix, opcode, x, b, 0, tile<<3|4, x&7<<3|b&7)
}

func tileLoad(tile byte, base, stride GPPhysical)  { amxMemory(prefixF2, 0x4b, tile, base, stride) }
func tileStore(tile byte, base, stride GPPhysical) { amxMemory(prefixF3, 0x4b, tile, base, stride) }
func tileRelease()                                 { amx(noPrefix, 0x49, 0, 0, 0, 0xc0) }
func tileConfig(at GPPhysical) {
	amx(noPrefix, 0x49, 0, byte(at.PhysicalIndex()), 0, byte(at.PhysicalIndex())&7)
}

// tileDot is TDPBSUD: signed bytes of a, unsigned ones of b.
func tileDot(sum, a, b byte) { amx(prefixF3, 0x5e, 0, 0, b, 0xc0|sum<<3|a) }

// ternaryGEMMAMX generates the product of a panel with up to 64 tokens. 64 columns of a panel are
// what TDPBSUD takes: 16 rows of four columns for each of 16 rows. Tiles 0 to 3 are
// the sums of 16 tokens each, 4 and 5 activations, the second those of the last
// tokens, perhaps fewer; 6 is the weights.
func ternaryGEMMAMX() {
	text("ternaryGEMMAMX", "func(sums *int32, panel *byte, q *int8, stride int, n int, tokens int, config *[64]byte)", "ternaryGEMMAMX is ternaryGEMM with AMX, for up to 64 tokens; config describes the tiles.")
	Load(Param("sums"), RDI)
	Load(Param("panel"), RSI)
	Load(Param("stride"), RBX)
	Load(Param("n"), RCX)
	Load(Param("tokens"), RAX)
	Load(Param("config"), R9)
	tileConfig(R9)
	q := []GPPhysical{RDX, R9, R10, R11}
	Load(Param("q"), q[0])
	MOVQ(RBX, R8)
	SHLQ(Imm(4), R8)
	for i := range 3 {
		LEAQ(Mem{Base: q[i], Index: R8, Scale: 1}, q[i+1])
	}
	MOVQ(U32(64), R8)
	SHRQ(Imm(4), RCX)
	for tiles := 4; tiles > 0; tiles-- {
		name := fmt.Sprintf("amx%d", tiles)
		if tiles > 1 {
			CMPQ(RAX, Imm(uint64(16*(tiles-1))))
			JLE(LabelRef(name + "_not"))
		}
		for i := range tiles {
			if i > 0 {
				ADDQ(U32(1024), RDI)
			}
			tileLoad(byte(i), RDI, R8)
		}
		loop(name+"_columns", RCX, func() {
			tileLoad(6, RSI, R8)
			for i := range tiles {
				a := byte(4)
				if i == tiles-1 {
					a = 5
				}
				tileLoad(a, q[i], RBX)
				tileDot(byte(i), a, 6)
			}
			ADDQ(U32(1024), RSI)
			for _, p := range q[:tiles] {
				ADDQ(Imm(64), p)
			}
		})
		for i := tiles - 1; i >= 0; i-- {
			tileStore(byte(i), RDI, R8)
			if i > 0 {
				SUBQ(U32(1024), RDI)
			}
		}
		JMP(LabelRef("amx_done"))
		Label(name + "_not")
	}
	Label("amx_done")
	tileRelease()
	RET()
}
