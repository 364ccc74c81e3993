package main

import (
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

// ternaryGEMMAMX generates the product of two panels, 32 rows, with many tokens. 64 columns of
// a panel are what TDPBSUD takes: 16 rows of four columns for each of 16 rows. Tiles 0 and 1
// are the sums of 16 tokens with both panels, 2 and 3 those of 16 more; 4 and 5 are activations,
// 6 and 7 weights: four products for four loads, half of them from the panels, which the first
// cache holds.
//
// The ladder, prefill of 128 tokens of the 2B shape with one thread of a Xeon with AMX, whose
// AVX-512 reaches 108 to 115 tokens a second:
//
//	1  16 rows x 64 tokens, five loads for four products, a panel decoded in 256 bits  169 to 184
//	2  32 rows x 32 tokens, panels decoded in 512 bits, all tokens scaled in a call    229 to 258
func ternaryGEMMAMX() {
	text("ternaryGEMMAMX", "func(sums *int32, panel *byte, q *int8, stride int, n int, tokens int, config *[128]byte)", "ternaryGEMMAMX is ternaryGEMM512 with AMX, for any number of tokens; config describes the tiles of 32 tokens and of those that are left after all 32s.")
	const sumsRow = 4 * 32
	sums, q, stride, tokens := RDI, RDX, RBX, RAX
	sumsStride, panelStride, count := R8, R10, R13
	q0, q1, panel0, panel1 := R11, R12, R9, RCX
	Load(Param("sums"), sums)
	Load(Param("panel"), RSI)
	Load(Param("q"), q)
	Load(Param("stride"), stride)
	Load(Param("tokens"), tokens)
	MOVQ(U32(sumsRow), sumsStride)
	MOVQ(U32(64), panelStride)
	Load(Param("config"), R9)
	tileConfig(R9)
	block := func(name string, halves int) {
		each := func(do func(tile byte, base, stride GPPhysical)) {
			for i := range 2 * halves {
				LEAQ(Mem{Base: sums, Disp: i/2*16*sumsRow + i%2*64}, R9)
				do(byte(i), R9, sumsStride)
			}
		}
		each(tileLoad)
		MOVQ(q, q0)
		MOVQ(stride, q1)
		SHLQ(Imm(4), q1)
		ADDQ(q0, q1)
		MOVQ(RSI, panel0)
		LEAQ(Mem{Base: RSI, Disp: secondPanel}, panel1)
		Load(Param("n"), count)
		SHRQ(Imm(4), count)
		loop(name, count, func() {
			tileLoad(6, panel0, panelStride)
			tileLoad(4, q0, stride)
			tileDot(0, 4, 6)
			tileLoad(7, panel1, panelStride)
			tileDot(1, 4, 7)
			if halves == 2 {
				tileLoad(5, q1, stride)
				tileDot(2, 5, 6)
				tileDot(3, 5, 7)
				ADDQ(Imm(64), q1)
			}
			ADDQ(Imm(64), q0)
			ADDQ(U32(1024), panel0)
			ADDQ(U32(1024), panel1)
		})
		each(tileStore)
	}
	Label("amx_next")
	CMPQ(tokens, Imm(32))
	JGE(LabelRef("amx_two"))
	TESTQ(tokens, tokens)
	JLE(LabelRef("amx_done"))
	Load(Param("config"), R9)
	ADDQ(Imm(64), R9)
	tileConfig(R9)
	CMPQ(tokens, Imm(16))
	JLE(LabelRef("amx_one"))
	Label("amx_two")
	block("amx_columns2", 2)
	ADDQ(U32(32*sumsRow), sums)
	MOVQ(stride, q0)
	SHLQ(Imm(5), q0)
	ADDQ(q0, q)
	SUBQ(Imm(32), tokens)
	JMP(LabelRef("amx_next"))
	Label("amx_one")
	block("amx_columns1", 1)
	Label("amx_done")
	tileRelease()
	RET()
}
