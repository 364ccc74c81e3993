package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func attention() {
	acc := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7}

	text("scores", "func(s *float32, q *float32, k *float32, dim int)", "scores are the dots of a query with the 64 keys of a page, k[dim][64]: one chain over dim for each key.")
	s, q, k, n := Load(Param("s"), RDI), Load(Param("q"), RSI), Load(Param("k"), RDX), Load(Param("dim"), RCX)
	zero(acc...)
	loop("scores_dim", n, func() {
		VBROADCASTSS(Mem{Base: q}, Y8)
		for i, a := range acc {
			VFMADD231PS(Mem{Base: k, Disp: 32 * i}, Y8, a)
		}
		ADDQ(U32(4), q)
		ADDQ(U32(256), k)
	})
	for i, a := range acc {
		VMOVUPS(a, Mem{Base: s, Disp: 32 * i})
	}
	VZEROUPPER()
	RET()

	lo := float32s("expLo", -0x1.5d589ep+6)
	log2e, ln2Hi, ln2Lo, one := float32s("log2e", 0x1.715476p+0), float32s("ln2Hi", 0x1.62e43p-1), float32s("ln2Lo", -0x1.05c61p-29), float32s("one", 1)
	var poly []Mem
	for _, c := range []struct {
		name string
		v    float32
	}{{"exp5", 0x1.12398p-7}, {"exp4", 0x1.5558aep-5}, {"exp3", 0x1.555492p-3}, {"exp2", 0x1.fffffcp-2}} {
		poly = append(poly, float32s(c.name, c.v))
	}
	exp6 := float32s("exp6", 0x1.6a4f26p-10)

	text("expSum", "func(p *float32, m float32) float32", "expSum replaces 64 scores, none greater than m, by exp(p[i] - m) and returns their vector sum.")
	p := Load(Param("p"), RDI)
	VBROADCASTSS(NewParamAddr("m", 8), Y15)
	sum := []VecPhysical{Y0, Y1, Y2, Y3}
	zero(sum...)
	for i := range 8 {
		x, nn, r, y, keep := Y4, Y5, Y6, Y7, Y8
		VMOVUPS(Mem{Base: p, Disp: 32 * i}, x)
		VSUBPS(Y15, x, x)
		VCMPPS(Imm(5), lo, x, keep) // not less than, or unordered
		VMULPS(log2e, x, nn)
		VROUNDPS(Imm(8), nn, nn) // to nearest even
		VMOVAPS(x, r)
		VFNMADD231PS(ln2Hi, nn, r)
		VFNMADD231PS(ln2Lo, nn, r)
		VMOVUPS(exp6, y)
		for _, c := range poly {
			VFMADD213PS(c, r, y)
		}
		VFMADD213PS(one, r, y)
		VFMADD213PS(one, r, y)
		VCVTPS2DQ(nn, nn)
		VPSLLD(Imm(23), nn, nn)
		VPADDD(nn, y, y)
		VANDPS(keep, y, y)
		VMOVUPS(y, Mem{Base: p, Disp: 32 * i})
		VADDPS(y, sum[i%4], sum[i%4])
	}
	fold(X4)
	VZEROUPPER()
	Store(X0, ReturnIndex(0))
	RET()

	text("weighted", "func(o *float32, p *float32, v *float32, count int, dim int, n int)", "weighted is the sum of p[j] v[j][i] over count positions, ascending, for 8 n elements i of rows of dim.")
	o, pp, v := Load(Param("o"), RDI), Load(Param("p"), RSI), Load(Param("v"), RDX)
	count, dim, n := Load(Param("count"), RCX), Load(Param("dim"), RBX), Load(Param("n"), R9)
	SHLQ(Imm(2), dim)
	for _, width := range []int{8, 1} {
		name := map[int]string{8: "wide", 1: "narrow"}[width]
		Label(name)
		CMPQ(n, U32(uint32(width)))
		JL(LabelRef(name + "_over"))
		zero(acc[:width]...)
		MOVQ(pp, R10)
		MOVQ(v, R11)
		MOVQ(count, R8)
		loop(name+"_position", R8, func() {
			VBROADCASTSS(Mem{Base: R10}, Y8)
			for i, a := range acc[:width] {
				VFMADD231PS(Mem{Base: R11, Disp: 32 * i}, Y8, a)
			}
			ADDQ(U32(4), R10)
			ADDQ(dim, R11)
		})
		for i, a := range acc[:width] {
			VMOVUPS(a, Mem{Base: o, Disp: 32 * i})
		}
		ADDQ(U32(uint32(32*width)), o)
		ADDQ(U32(uint32(32*width)), v)
		SUBQ(U32(uint32(width)), n)
		JMP(LabelRef(name))
		Label(name + "_over")
	}
	VZEROUPPER()
	RET()

	text("merge", "func(out *float32, o *float32, a float32, b float32, n int)", "merge is out[i] = fma(o[i], b, out[i]*a) for 8 n elements.")
	out, o := Load(Param("out"), RDI), Load(Param("o"), RSI)
	VBROADCASTSS(NewParamAddr("a", 16), Y1)
	VBROADCASTSS(NewParamAddr("b", 20), Y2)
	n = Load(Param("n"), RCX)
	loop("merge_next", n, func() {
		VMULPS(Mem{Base: out}, Y1, Y0)
		VFMADD231PS(Mem{Base: o}, Y2, Y0)
		VMOVUPS(Y0, Mem{Base: out})
		ADDQ(U32(32), out)
		ADDQ(U32(32), o)
	})
	VZEROUPPER()
	RET()
}
