package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

const (
	gemvStreams = 4    // the most
	gemvGroup   = 5    // tiles, from one stream before the next
	gemvAhead   = 1280 // bytes: what is asked for of a stream before it is read
)

// ternaryGEMV generates the product of one token with weights that are decoded in
// registers, four rows of a tile at once. XOR with 0xaa turns the codes 00, 01, 11
// into 2, 3, 1: trit + 2, unsigned, which VPMADDUBSW multiplies by signed
// activations.
//
// Fields 1 and 3 of a byte are not shifted into place: their products are four
// times too large, so they have sums of their own, which are shifted once. A pair
// of products is within +-762, one of those within +-3,048; a tile adds two of them
// to each 16-bit sum, and 5 tiles make at most 30,480.
//
// A processor makes few reads ahead of one place in memory, and ends with the page; a
// core of Zen 3 reads half as much again in several places, some lines of each at a time,
// asked for a little before they are read. Whole rows of each gave less.
//
// The ladder, 2,560 columns on a Zen 4 core at 3.7 GHz, from a cache and from memory:
//
//	1  every field shifted into place, a call for four rows  81 G MAC/s, 94
//	2  one shift for four fields, a call for 64 rows        105, 96
//
// and on a Zen 3 core at 3.1 GHz, whose memory gives 13 GB/s in one place and 18 in three:
//
//	2                                                        88 G MAC/s, 43
//	3  three streams, activations as operands from memory    92, 66
//	4  four streams, lines asked for                             79
func ternaryGEMV() {
	text("ternaryGEMV", "func(sums *int32, tiles *byte, n int, streams int, tileRows int, rowBytes int, q *int8)", fmt.Sprintf("ternaryGEMV multiplies the first n tiles of each row of tiles by the activations of one token: the sums of (trit+2)*q, four for each row of tiles. The rows of tiles, rowBytes apart, are read in up to %d streams at once, of tileRows each, one after the other.", gemvStreams))
	sums, start := Load(Param("sums"), RDI), Load(Param("tiles"), RSI)
	tileRows, rowBytes := Load(Param("tileRows"), R9), Load(Param("rowBytes"), RBX)
	n, group, stream := RCX, RDX, R8
	streamStart, groupActs, streamBytes := R10, R11, R12
	count, tiles, q := R13, R14, R15
	even, odd := []VecPhysical{Y0, Y1, Y2, Y3}, []VecPhysical{Y4, Y5, Y6, Y7}
	codes, x, flip := []VecPhysical{Y8, Y9, Y10, Y13}, Y12, Y11
	wide, sum := AllocLocal(128*gemvStreams), RAX
	MOVQ(rowBytes, streamBytes)
	IMULQ(tileRows, streamBytes)
	VMOVDQU(mask03, Y14)
	VMOVDQU(mask0C, Y15)
	VMOVDQU(flipAA, flip)
	loop("gemv_row", tileRows, func() {
		zero(x)
		for r := range 4 * gemvStreams {
			VMOVDQU(x, wide.Offset(32*r))
		}
		Load(Param("q"), groupActs)
		Load(Param("n"), n)
		Label("gemv_group")
		MOVQ(U32(gemvGroup), group)
		CMPQ(group, n)
		CMOVQGT(n, group)
		SUBQ(group, n)
		Load(Param("streams"), stream)
		MOVQ(start, streamStart)
		LEAQ(wide, sum)
		Label("gemv_stream")
		MOVQ(streamStart, tiles)
		MOVQ(groupActs, q)
		zero(even...)
		zero(odd...)
		MOVQ(group, count)
		loop("gemv_tile", count, func() {
			for line := range 2 {
				PREFETCHT0(Mem{Base: tiles, Disp: gemvAhead + 64*line})
			}
			for r := range 4 {
				VPXOR(Mem{Base: tiles, Disp: 32 * r}, flip, x)
				for j, code := range codes {
					if j == 2 {
						VPSRLW(Imm(4), x, x)
					}
					VPAND([]VecPhysical{Y14, Y15}[j%2], x, code)
				}
				for j, code := range codes {
					VPMADDUBSW(Mem{Base: q, Disp: 32 * j}, code, code)
				}
				for j, code := range codes {
					sum := [][]VecPhysical{even, odd}[j%2][r]
					VPADDW(code, sum, sum)
				}
			}
			ADDQ(U32(128), tiles)
			ADDQ(U32(128), q)
		})
		for r := range 4 {
			VPSRAW(Imm(2), odd[r], odd[r])
			VPADDW(odd[r], even[r], even[r])
			VPMADDWD(ones16, even[r], even[r])
			VPADDD(Mem{Base: sum, Disp: 32 * r}, even[r], even[r])
			VMOVDQU(even[r], Mem{Base: sum, Disp: 32 * r})
		}
		ADDQ(U32(128), sum)
		ADDQ(streamBytes, streamStart)
		DECQ(stream)
		JNZ(LabelRef("gemv_stream"))
		MOVQ(q, groupActs)
		SHLQ(Imm(7), group)
		ADDQ(group, start)
		TESTQ(n, n)
		JNZ(LabelRef("gemv_group"))

		Load(Param("n"), n) // from the end of a row to the next
		SHLQ(Imm(7), n)
		SUBQ(n, start)
		ADDQ(rowBytes, start)
		Load(Param("streams"), stream)
		Load(Param("tileRows"), group)
		SHLQ(Imm(4), group)
		MOVQ(sums, q)
		LEAQ(wide, sum)
		loop("gemv_sums", stream, func() {
			for r, y := range even {
				VMOVDQU(Mem{Base: sum, Disp: 32 * r}, y)
			}
			fourSums(even, X4)
			VMOVDQU(X0, Mem{Base: q})
			ADDQ(U32(128), sum)
			ADDQ(group, q)
		})
		ADDQ(U32(16), sums)
	})
	VZEROUPPER()
	RET()
}

// pageAhead is how far ahead of what they read kernels ask for a line of each page: the
// processor's own prefetching ends with a page, and waits for the address of the next.
// 8 KiB gave half as much as this, 16 KiB nothing, and so did more lines of a page.
const pageAhead = 4096

// halfRow is half the bytes of a row of tiles, in R12.
func halfRow(rowBytes Register) Register {
	MOVQ(rowBytes, R12)
	SHRQ(Imm(1), R12)
	return R12
}

// fetchPages asks for two lines of the row of tiles that comes a page later.
func fetchPages(start, half Register) {
	PREFETCHT0(Mem{Base: start, Disp: pageAhead})
	PREFETCHT0(Mem{Base: start, Disp: pageAhead, Index: half, Scale: 1})
}

// fourSums adds the eight int32 of each of the registers Y0 to Y3 into one element of X0.
func fourSums(y []VecPhysical, tx VecPhysical) {
	VPHADDD(y[1], y[0], y[0])
	VPHADDD(y[3], y[2], y[2])
	VPHADDD(y[2], y[0], y[0])
	VEXTRACTI128(Imm(1), y[0], tx)
	VPADDD(tx, X0, X0)
}

// sumInt8 generates what the sum of a token's codes takes.
func sumInt8() {
	text("sumInt8", "func(q *int8, n int) int32", "sumInt8 adds 128 n codes.")
	q, n := Load(Param("q"), RDX), Load(Param("n"), RCX)
	zero(Y0)
	VMOVDQU(ones8, Y2)
	loop("sum_tile", n, func() {
		for j := range 4 {
			VPMADDUBSW(Mem{Base: q, Disp: 32 * j}, Y2, Y1)
			VPMADDWD(ones16, Y1, Y1)
			VPADDD(Y1, Y0, Y0)
		}
		ADDQ(U32(128), q)
	})
	VEXTRACTI128(Imm(1), Y0, X1)
	VPADDD(X1, X0, X0)
	VPSHUFD(Imm(0x4e), X0, X1)
	VPADDD(X1, X0, X0)
	VPSHUFD(Imm(0xb1), X0, X1)
	VPADDD(X1, X0, X0)
	VMOVD(X0, EAX)
	VZEROUPPER()
	Store(EAX, ReturnIndex(0))
	RET()
}
