package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// A panel is 16 rows of weights, decoded once and multiplied by many tokens. For
// every four columns it holds 64 bytes: the four of row 0, of row 1, and so on. So
// a row is a 32-bit lane, a broadcast brings the four activations to all of them, and
// no sum is ever made across lanes. The bytes are trit + 1, 0 to 2: a pair of
// products is within +-508.
func panel() {
	text("ternaryPanel", "func(panel *byte, tiles0 *byte, tiles1 *byte, tiles2 *byte, tiles3 *byte, n int, ahead int)", "ternaryPanel decodes n tiles of four rows of tiles into a panel, and asks for those ahead bytes later.")
	dst, n := Load(Param("panel"), RDI), Load(Param("n"), RCX)
	tiles := []Register{Load(Param("tiles0"), RSI), Load(Param("tiles1"), RDX), Load(Param("tiles2"), R8), Load(Param("tiles3"), R9)}
	ahead := Load(Param("ahead"), R10)
	row := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7}
	half := []VecPhysical{Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}
	loop("panel_tile", n, func() {
		for _, t := range tiles {
			for line := range 2 {
				PREFETCHT0(Mem{Base: t.(GPPhysical), Index: ahead, Scale: 1, Disp: 64 * line})
			}
		}
		for side := range 2 {
			for r, y := range row {
				VMOVDQU(Mem{Base: tiles[2*side+r/4], Disp: 32 * (r % 4)}, y)
				VPXOR(flipAA, y, y)
				VPSUBB(ones55, y, y) // trit + 2 to trit + 1, in every field
			}
			// The 8 x 8 matrix of 32-bit words is transposed while four columns share a byte.
			for i := 0; i < 8; i += 2 {
				VPUNPCKLDQ(row[i+1], row[i], half[i])
				VPUNPCKHDQ(row[i+1], row[i], half[i+1])
			}
			for i := 0; i < 8; i += 4 {
				VPUNPCKLQDQ(half[i+2], half[i], row[i])
				VPUNPCKHQDQ(half[i+2], half[i], row[i+1])
				VPUNPCKLQDQ(half[i+3], half[i+1], row[i+2])
				VPUNPCKHQDQ(half[i+3], half[i+1], row[i+3])
			}
			for i := range 4 {
				VPERM2I128(Imm(0x20), row[i+4], row[i], half[i])
				VPERM2I128(Imm(0x31), row[i+4], row[i], half[i+4])
			}
			for j := range 4 {
				for p, y := range half {
					VPAND(mask03, y, row[p])
					VMOVDQU(row[p], Mem{Base: dst, Disp: 64*(8*j+p) + 32*side})
					if j < 3 {
						VPSRLW(Imm(2), y, y)
					}
				}
			}
		}
		for _, t := range tiles {
			ADDQ(U32(128), t)
		}
		ADDQ(U32(64*32), dst)
	})
	VZEROUPPER()
	RET()
}

// ternaryGEMM generates the product of a panel with up to six tokens.
//
// The ladder, 128 tokens and 2,560 columns on a Zen 4 core at 3.7 GHz, where
// VPMADDUBSW alone reaches 235 G MAC/s, and 189 with a VPADDW for each:
//
//	1  four rows x two tokens, columns in lanes, a sum across lanes a pair  117 G MAC/s
//	2  16 rows in lanes x six tokens, broadcast activations                 157
//	3  1,024 columns at a time, so that a panel stays in the first cache    164
//
// and on a Zen 3 core at 3.1 GHz, where VPMADDUBSW with a VPADDW for each reaches 156:
//
//	3                                                                       137
//	4  both products of a token before their sums, four steps unrolled    145
//
// With 6,912 columns version 4 makes 138, and 142 where the rows of 16 panels are multiplied
// by 1,024 columns before the next. Tried there without a gain: sums of four columns by
// tables in the first cache (Four Russians), which its random reads hold to 113 to 166; 24
// and 32 rows in lanes, and fewer tokens with more products under way (119 to 142).
func ternaryGEMM() {
	const most = 6
	text("ternaryGEMM", "func(sums *int32, panel *byte, q *int8, stride int, n int, tokens int)", fmt.Sprintf("ternaryGEMM multiplies a panel of 4 n columns, n a multiple of 32, by up to %d tokens, stride bytes apart, and adds the products (trit+1)*q to sums, 16 for each token.", most))
	sums, panel, stride, n := Load(Param("sums"), RDI), Load(Param("panel"), RSI), Load(Param("stride"), RBX), Load(Param("n"), RCX)
	tokens, block := Load(Param("tokens"), RAX), R8
	q := tokenBases(stride, most)
	for t := most; t > 0; t-- {
		name := fmt.Sprintf("gemm%d", t)
		if t > 1 {
			CMPQ(tokens, Imm(uint64(t)))
			JNE(LabelRef(name + "_not"))
		}
		acc := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11}[:2*t]
		w, a, product := []VecPhysical{Y12, Y13}, Y14, Y15
		Label(name + "_block")
		CMPQ(n, Imm(0))
		JE(LabelRef("gemm_done"))
		zero(acc...)
		take(block, n, 64, name+"_few") // 64 pairs of products fit 16 bits
		SHRQ(Imm(2), block)
		loop(name+"_columns", block, func() {
			for step := range 4 {
				for r, y := range w {
					VMOVDQU(Mem{Base: panel, Disp: 64*step + 32*r}, y)
				}
				for i := range t {
					VPBROADCASTD(tokenAt(q, stride, i, 4*step), a)
					VPMADDUBSW(a, w[0], product)
					VPMADDUBSW(a, w[1], a)
					VPADDW(product, acc[2*i], acc[2*i])
					VPADDW(a, acc[2*i+1], acc[2*i+1])
				}
			}
			ADDQ(U32(256), panel)
			for _, p := range q[:(t+2)/3] {
				ADDQ(Imm(16), p)
			}
		})
		for i, y := range acc {
			VPMADDWD(ones16, y, y)
			VPADDD(Mem{Base: sums, Disp: 32 * i}, y, y)
			VMOVDQU(y, Mem{Base: sums, Disp: 32 * i})
		}
		JMP(LabelRef(name + "_block"))
		Label(name + "_not")
	}
	Label("gemm_done")
	VZEROUPPER()
	RET()
}

// tokenBases loads the addresses of tokens 0, 3, 6 ...: an address reaches three.
func tokenBases(stride Register, most int) []Register {
	q := []Register{RDX, R9, R10, R11}[:(most+2)/3]
	Load(Param("q"), q[0])
	for i := range q[1:] {
		LEAQ(Mem{Base: q[i].(GPPhysical), Index: stride, Scale: 2}, q[i+1].(GPPhysical))
		ADDQ(stride, q[i+1].(GPPhysical))
	}
	return q
}

func tokenAt(q []Register, stride Register, token, disp int) Mem {
	m := Mem{Base: q[token/3].(GPPhysical), Disp: disp}
	if i := token % 3; i > 0 {
		m.Index, m.Scale = stride, uint8(i)
	}
	return m
}

// scaleSums generates what turns integer sums into outputs (spec/numerics.md, section 8).
func scaleSums() {
	less := func() { // the first eight sums without their excess
		VMOVDQU(Mem{Base: RSI}, Y0)
		VPSUBD(Y4, Y0, Y0)
		VCVTDQ2PS(Y0, Y0)
	}
	next := func(more ...Register) {
		ADDQ(U32(32), RDI)
		ADDQ(U32(32), RSI)
		for _, r := range more {
			ADDQ(U32(32), r)
		}
	}
	text("scaleSums", "func(y *float32, sums *int32, excess int32, f float32, n int)", "scaleSums is y[i] = f32(sums[i] - excess) * f for 8 n elements.")
	Load(Param("y"), RDI)
	Load(Param("sums"), RSI)
	VBROADCASTSS(NewParamAddr("excess", 16), Y4)
	VBROADCASTSS(NewParamAddr("f", 20), Y5)
	n := Load(Param("n"), RCX)
	loop("scale_next", n, func() {
		less()
		VMULPS(Y5, Y0, Y0)
		VMOVUPS(Y0, Mem{Base: RDI})
		next()
	})
	VZEROUPPER()
	RET()

	for _, v := range []vectors{ymm, zmm} {
		scaleTokens(v)
	}

	text("scaleSumsRows", "func(y *float32, sums *int32, scales *float32, excess int32, a float32, n int)", "scaleSumsRows is y[i] = f32(sums[i] - excess) * ((scales[i]*a) / 127) for 8 n elements.")
	Load(Param("y"), RDI)
	Load(Param("sums"), RSI)
	scales := Load(Param("scales"), RDX)
	VBROADCASTSS(NewParamAddr("excess", 24), Y4)
	VBROADCASTSS(NewParamAddr("a", 28), Y5)
	n = Load(Param("n"), RCX)
	loop("scale_row", n, func() {
		VMULPS(Mem{Base: scales}, Y5, Y1)
		VDIVPS(f127, Y1, Y1)
		less()
		VMULPS(Y1, Y0, Y0)
		VMOVUPS(Y0, Mem{Base: RDI})
		next(scales)
	})
	VZEROUPPER()
	RET()

	text("addGroup", "func(y *float32, sums *int32, scales *float32, excess int32, n int)", "addGroup is y[i] = fma(f32(sums[i] - excess), scales[i], y[i]) for 8 n elements.")
	Load(Param("y"), RDI)
	Load(Param("sums"), RSI)
	scales = Load(Param("scales"), RDX)
	VBROADCASTSS(NewParamAddr("excess", 24), Y4)
	n = Load(Param("n"), RCX)
	loop("add_group", n, func() {
		less()
		VMOVUPS(Mem{Base: RDI}, Y1)
		VFMADD231PS(Mem{Base: scales}, Y0, Y1)
		VMOVUPS(Y1, Mem{Base: RDI})
		next(scales)
	})
	VZEROUPPER()
	RET()

	text("addGroupFloats", "func(y *float32, sums *float32, scales *float32, n int)", "addGroupFloats is y[i] = fma(scales[i%4], sums[i], y[i]) for 4 n elements.")
	Load(Param("y"), RDI)
	Load(Param("sums"), RSI)
	scales = Load(Param("scales"), RDX)
	VMOVUPS(Mem{Base: scales}, X2)
	n = Load(Param("n"), RCX)
	loop("add_group_floats", n, func() {
		VMOVUPS(Mem{Base: RDI}, X1)
		VFMADD231PS(Mem{Base: RSI}, X2, X1)
		VMOVUPS(X1, Mem{Base: RDI})
		ADDQ(U32(16), RDI)
		ADDQ(U32(16), RSI)
	})
	VZEROUPPER()
	RET()
}

// scaleTokens generates scaleSums for a whole panel, or two in wider registers, and many tokens.
func scaleTokens(v vectors) {
	name := "scaleTokens" + v.suffix
	text(name, "func(y *float32, ldy int, sums *int32, excess *int32, f *float32, tokens int)", fmt.Sprintf("%s is y[i] = f32(sums[i] - excess[m]) * f[m] for the %d rows of each token m, whose outputs are ldy bytes apart.", name, 2*v.lanes))
	y, ldy, sums, excess, f := Load(Param("y"), RDI), Load(Param("ldy"), RBX), Load(Param("sums"), RSI), Load(Param("excess"), RDX), Load(Param("f"), R8)
	n := Load(Param("tokens"), RCX)
	loop(name+"_token", n, func() {
		VPBROADCASTD(Mem{Base: excess}, v.reg(2))
		VBROADCASTSS(Mem{Base: f}, v.reg(3))
		for i := range 2 {
			z := v.reg(i)
			if v.lanes == 16 {
				VMOVDQU32(Mem{Base: sums, Disp: 64 * i}, z)
			} else {
				VMOVDQU(Mem{Base: sums, Disp: 32 * i}, z)
			}
			VPSUBD(v.reg(2), z, z)
			VCVTDQ2PS(z, z)
			VMULPS(v.reg(3), z, z)
			VMOVUPS(z, Mem{Base: y, Disp: 4 * v.lanes * i})
		}
		ADDQ(Imm(4), excess)
		ADDQ(Imm(4), f)
		ADDQ(U32(uint32(8*v.lanes)), sums)
		ADDQ(ldy, y)
	})
	VZEROUPPER()
	RET()
}
