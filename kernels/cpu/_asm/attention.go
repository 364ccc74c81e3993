package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Ladder, as GMAC/s of BenchmarkAttention/prefill/f32 on one busy core of a Zen 4 (AVX2, AVX-512), whose bare scores and
// weighted sums do 53 and 58 from the first cache:
//
//	1  four queries share every load of a key or value; codes widen in registers    32, 34
//	2  sums start by clearing, the exps of a merge share a register                 37, 42
//	3  AVX2 fetches whole rows ahead of its first pass over the keys                decode of f32 from 13 to 22
//
// and on a Zen 5:
//
//	3                                                                               38, 71
//	4  all scores of a chunk before all weights before all sums                     40, 71

// vectors is a width of vector registers.
type vectors struct {
	suffix string
	lanes  int
	reg    func(i int) VecPhysical
}

var (
	xmm = vectors{"", 4, func(i int) VecPhysical {
		return []VecPhysical{X0, X1, X2, X3, X4, X5, X6, X7, X8, X9, X10, X11, X12, X13, X14, X15}[i]
	}}
	ymm = vectors{"", 8, func(i int) VecPhysical {
		return []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}[i]
	}}
	zmm = vectors{"512", 16, func(i int) VecPhysical {
		return []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15,
			Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31}[i]
	}}
)

func (v vectors) zero(r VecPhysical) {
	if v.lanes == 16 {
		VPXORD(r, r, r)
	} else {
		VPXOR(r, r, r)
	}
}

// kvFormat is how keys and values are stored.
type kvFormat struct {
	name string
	bits int
}

var kvFormats = []kvFormat{{"F32", 32}, {"F16", 16}, {"I8", 8}, {"I4", 4}}

// pairs reports whether a byte holds two dimensions.
func (f kvFormat) pairs() bool { return f.bits == 4 }

// load widens the elements at m: one register of them or, of pairs, the even and the odd ones. mask holds 15 in
// every lane for pairs.
func (f kvFormat) load(v vectors, m Mem, even, odd, mask VecPhysical) {
	switch f.name {
	case "F32":
		VMOVUPS(m, even)
	case "F16":
		VCVTPH2PS(m, even)
	case "I8":
		VPMOVSXBD(m, even)
		VCVTDQ2PS(even, even)
	case "I4":
		VPMOVZXBD(m, odd)
		VPSRLD(Imm(4), odd, even)
		if v.lanes == 16 {
			VPANDD(mask, odd, odd)
		} else {
			VPAND(mask, odd, odd)
		}
		VCVTDQ2PS(even, even)
		VCVTDQ2PS(odd, odd)
	}
}

// loadMask puts 15 into every lane.
func (f kvFormat) loadMask(v vectors, mask VecPhysical) {
	if !f.pairs() {
		return
	}
	MOVL(U32(15), EAX)
	VMOVD(EAX, X15)
	VPBROADCASTD(X15, mask)
}

// repeat runs body n times, at least once, counting n down.
func repeat(name string, n Register, body func()) {
	Label(name)
	body()
	DECQ(n)
	JNZ(LabelRef(name))
}

func attention() {
	for _, v := range []vectors{ymm, zmm} {
		for _, f := range kvFormats {
			for _, queries := range []int{1, 4} {
				scores(v, f, queries)
				weighted(v, f, queries)
			}
		}
	}
	softmax()
	int4Factors()

	text("multiply64", "func(p *float32, s *float32)", "multiply64 is p[j] *= s[j] for 64 elements.")
	p, s := Load(Param("p"), RDI), Load(Param("s"), RSI)
	for i := range 8 {
		VMOVUPS(Mem{Base: p, Disp: 32 * i}, Y0)
		VMULPS(Mem{Base: s, Disp: 32 * i}, Y0, Y0)
		VMOVUPS(Y0, Mem{Base: p, Disp: 32 * i})
	}
	VZEROUPPER()
	RET()

	text("merge", "func(out *float32, o *float32, a float32, b float32, n int)", "merge is out[i] = fma(o[i], b, out[i]*a) for 8 n elements.")
	out, o := Load(Param("out"), RDI), Load(Param("o"), RSI)
	VBROADCASTSS(NewParamAddr("a", 16), Y1)
	VBROADCASTSS(NewParamAddr("b", 20), Y2)
	n := Load(Param("n"), RCX)
	loop("merge_next", n, func() {
		VMULPS(Mem{Base: out}, Y1, Y0)
		VFMADD231PS(Mem{Base: o}, Y2, Y0)
		VMOVUPS(Y0, Mem{Base: out})
		ADDQ(U32(32), out)
		ADDQ(U32(32), o)
	})
	VZEROUPPER()
	RET()

	text("multiplyBy", "func(out *float32, o *float32, f float32, n int)", "multiplyBy is out[i] = o[i]*f for 8 n elements.")
	out, o = Load(Param("out"), RDI), Load(Param("o"), RSI)
	VBROADCASTSS(NewParamAddr("f", 16), Y1)
	n = Load(Param("n"), RCX)
	loop("multiplyBy_next", n, func() {
		VMULPS(Mem{Base: o}, Y1, Y0)
		VMOVUPS(Y0, Mem{Base: out})
		ADDQ(U32(32), out)
		ADDQ(U32(32), o)
	})
	VZEROUPPER()
	RET()
}

// scores generates the dots of queries with the 64 keys of a page: one chain over the dimensions for each pair.
// Registers hold some keys of all queries; the rest take further passes.
func scores(v vectors, f kvFormat, queries int) {
	name := fmt.Sprintf("scores%d%s%s", queries, f.name, v.suffix)
	text(name, "func(s *float32, q *float32, k *byte, dim int)",
		fmt.Sprintf("%s are the dots of %s with the 64 keys of a page. dim is even.", name, map[int]string{1: "a query, q[dim],", 4: "four queries, q[dim][4],"}[queries]))
	s := Load(Param("s"), RDI)
	width := 64 / v.lanes // registers of keys in a pass
	if queries == 4 && v.lanes == 8 {
		width = 2
	}
	acc := func(q, i int) VecPhysical { return v.reg(q*width + i) }
	even, odd, x, mask := v.reg(8), v.reg(9), v.reg(10), v.reg(11)
	wide := v.lanes == 16 && queries == 4 // 16 sums; ymm uses eight at most
	single := []VecPhysical{v.reg(10), v.reg(12)}
	keys := []VecPhysical{v.reg(8), v.reg(9), v.reg(12), v.reg(13)}
	if wide {
		x, mask = v.reg(18), v.reg(19)
		keys = nil
		for i := range 2 * width {
			keys = append(keys, v.reg(20+i))
		}
	}
	f.loadMask(v, mask)
	row := 64 * f.bits / 8 // bytes of a dimension's keys
	if f.pairs() {
		row = 64
	}
	for pass := range 64 / (width * v.lanes) {
		q, k, n := Load(Param("q"), RSI), Load(Param("k"), RDX), Load(Param("dim"), RCX)
		if pass > 0 {
			ADDQ(U32(uint32(pass*width*v.lanes*row/64)), k)
		}
		SHRQ(Imm(1), n) // two dimensions a turn
		for i := range queries * width {
			v.zero(v.reg(i))
		}
		repeat(fmt.Sprintf("%s_pass%d", name, pass), n, func() {
			at := func(i int) Mem { return Mem{Base: k, Disp: i * v.lanes * row / 64} }
			step := 1 // dimensions of a row
			if f.pairs() {
				step = 2
			}
			for d := 0; d < 2; d += step {
				// The first pass reads a part of each row and fetches all of it, some rows ahead: the others find
				// theirs in the cache. Fetching past the keys reads nothing.
				for line := 0; pass == 0 && width*v.lanes < 64 && line < row; line += 64 {
					PREFETCHT0(Mem{Base: k, Disp: (d+8)*row + line})
				}
				if queries == 1 {
					for i := range step {
						VBROADCASTSS(Mem{Base: q, Disp: 4 * (d + i)}, single[i])
					}
					for i := range width {
						f.load(v, offset(at(i), d*row), even, odd, mask)
						VFMADD231PS(single[0], even, acc(0, i))
						if f.pairs() {
							VFMADD231PS(single[1], odd, acc(0, i))
						}
					}
					continue
				}
				for i := range width {
					f.load(v, offset(at(i), d*row), keys[i], keys[width+i], mask)
				}
				for half := range step {
					for j := range queries {
						VBROADCASTSS(Mem{Base: q, Disp: 4 * ((d+half)*queries + j)}, x)
						for i := range width {
							VFMADD231PS(x, keys[half*width+i], acc(j, i))
						}
					}
				}
			}
			ADDQ(U32(uint32(2/step*row)), k)
			ADDQ(U32(uint32(8*queries)), q)
		})
		for j := range queries {
			for i := range width {
				VMOVUPS(acc(j, i), Mem{Base: s, Disp: 256*j + 4*v.lanes*(pass*width+i)})
			}
		}
	}
	VZEROUPPER()
	RET()
}

func offset(m Mem, by int) Mem {
	m.Disp += by
	return m
}

// weighted generates the sums of weighted values, which continue those in o. The columns are taken in tiles of as many
// registers as fit, then of fewer.
func weighted(v vectors, f kvFormat, queries int) {
	name := fmt.Sprintf("weighted%d%s%s", queries, f.name, v.suffix)
	multiple := map[int]int{8: 8, 16: 64}[v.lanes]
	text(name, "func(o *float32, p *float32, v *byte, count int, dim int)",
		fmt.Sprintf("%s adds p[j] v[j][i] to o[i], for count > 0 positions j, ascending, and dim columns, a multiple of %d%s.", name, multiple,
			map[int]string{1: "", 4: ", for four queries: p[4][64], o[4][dim]"}[queries]))
	o, p, values, stride := Load(Param("o"), RDI), Load(Param("p"), RSI), Load(Param("v"), RDX), Load(Param("dim"), R9)
	left := Load(Param("dim"), RBX)
	oStride := R12
	MOVQ(stride, oStride)
	SHLQ(Imm(2), oStride) // bytes from query to query in o
	switch f.bits {
	case 32:
		SHLQ(Imm(2), stride)
	case 16:
		SHLQ(Imm(1), stride)
	case 4:
		SHRQ(Imm(1), stride)
	}
	if v.lanes == 8 {
		f.loadMask(ymm, Y11) // xmm's as well
	} else {
		f.loadMask(zmm, Z19)
	}
	type tile struct {
		v     vectors
		width int
	}
	tiles := []tile{{ymm, 8}, {ymm, 1}}
	switch {
	case v.lanes == 16:
		tiles = []tile{{zmm, 4}}
	case f.pairs() && queries == 4:
		tiles = []tile{{ymm, 2}, {xmm, 2}}
	case f.pairs():
		tiles = []tile{{ymm, 8}, {ymm, 2}, {xmm, 2}}
	case queries == 4:
		tiles = []tile{{ymm, 2}, {ymm, 1}}
	}
	for t, x := range tiles {
		part := fmt.Sprintf("%s_tile%d", name, t)
		columns := x.width * x.v.lanes
		Label(part)
		CMPQ(left, U32(uint32(columns)))
		JL(LabelRef(part + "_over"))
		weightedTile(x.v, f, queries, x.width, part, o, p, values, stride, oStride)
		ADDQ(U32(uint32(4*columns)), o)
		ADDQ(U32(uint32(columns*f.bits/8)), values)
		SUBQ(U32(uint32(columns)), left)
		JMP(LabelRef(part))
		Label(part + "_over")
	}
	VZEROUPPER()
	RET()
}

func weightedTile(v vectors, f kvFormat, queries, width int, name string, o, p, values, stride, oStride Register) {
	acc := func(q, i int) VecPhysical { return v.reg(q*width + i) }
	even, odd, x, mask := v.reg(8), v.reg(9), v.reg(10), v.reg(11)
	keys := []VecPhysical{v.reg(8), v.reg(9)}
	tmp := []VecPhysical{v.reg(12), v.reg(13)}
	if v.lanes == 16 {
		even, odd, x, mask = v.reg(16), v.reg(17), v.reg(18), v.reg(19)
		keys = []VecPhysical{v.reg(20), v.reg(21), v.reg(22), v.reg(23)}
		tmp = []VecPhysical{v.reg(24), v.reg(25)}
	}
	MOVQ(o, R10)
	for j := range queries {
		for i := 0; i < width; i++ {
			at := Mem{Base: R10, Disp: 4 * v.lanes * i}
			if !f.pairs() {
				VMOVUPS(at, acc(j, i))
				continue
			}
			VMOVUPS(at, tmp[0])
			VMOVUPS(offset(at, 4*v.lanes), tmp[1])
			separate(v, tmp[0], tmp[1], acc(j, i), acc(j, i+1))
			i++
		}
		if j+1 < queries {
			ADDQ(oStride, R10)
		}
	}
	MOVQ(p, R10)
	MOVQ(values, R11)
	n := Load(Param("count"), RCX)
	repeat(name+"_position", n, func() {
		if queries == 1 {
			VBROADCASTSS(Mem{Base: R10}, x)
		}
		switch {
		case f.pairs():
			for i := 0; i < width; i += 2 {
				f.load(v, Mem{Base: R11, Disp: i / 2 * v.lanes}, even, odd, mask)
				for j := range queries {
					if queries > 1 {
						VBROADCASTSS(Mem{Base: R10, Disp: 256 * j}, x)
					}
					VFMADD231PS(x, even, acc(j, i))
					VFMADD231PS(x, odd, acc(j, i+1))
				}
			}
		case queries == 1:
			for i := range width {
				f.load(v, Mem{Base: R11, Disp: i * v.lanes * f.bits / 8}, even, nil, mask)
				VFMADD231PS(x, even, acc(0, i))
			}
		default:
			for i := range width {
				f.load(v, Mem{Base: R11, Disp: i * v.lanes * f.bits / 8}, keys[i], nil, mask)
			}
			for j := range queries {
				VBROADCASTSS(Mem{Base: R10, Disp: 256 * j}, x)
				for i := range width {
					VFMADD231PS(x, keys[i], acc(j, i))
				}
			}
		}
		ADDQ(U32(4), R10)
		ADDQ(stride, R11)
	})
	MOVQ(o, R10)
	for j := range queries {
		for i := 0; i < width; i++ {
			at := Mem{Base: R10, Disp: 4 * v.lanes * i}
			if !f.pairs() {
				VMOVUPS(acc(j, i), at)
				continue
			}
			join(v, acc(j, i), acc(j, i+1), tmp[0], tmp[1])
			VMOVUPS(tmp[0], at)
			VMOVUPS(tmp[1], offset(at, 4*v.lanes))
			i++
		}
		if j+1 < queries {
			ADDQ(oStride, R10)
		}
	}
}

// separate puts the elements of a and then b with even numbers into even, the others into odd. a is lost.
func separate(v vectors, a, b, even, odd VecPhysical) {
	if v.lanes == 16 {
		VMOVDQU32(permutation("evens", func(i int) int { return 2 * i }), even)
		VMOVDQU32(permutation("odds", func(i int) int { return 2*i + 1 }), odd)
		VPERMI2PS(b, a, even)
		VPERMI2PS(b, a, odd)
		return
	}
	VSHUFPS(Imm(0x88), b, a, even)
	VSHUFPS(Imm(0xdd), b, a, odd)
	if v.lanes == 8 {
		VPERMQ(Imm(0xd8), even, even)
		VPERMQ(Imm(0xd8), odd, odd)
	}
}

// join is the inverse of separate. even is lost.
func join(v vectors, even, odd, a, b VecPhysical) {
	if v.lanes == 16 {
		VMOVDQU32(permutation("firsts", func(i int) int { return i/2 + i%2*16 }), a)
		VMOVDQU32(permutation("seconds", func(i int) int { return 8 + i/2 + i%2*16 }), b)
		VPERMI2PS(odd, even, a)
		VPERMI2PS(odd, even, b)
		return
	}
	if v.lanes == 4 {
		VUNPCKLPS(odd, even, a)
		VUNPCKHPS(odd, even, b)
		return
	}
	VUNPCKLPS(odd, even, a)
	VUNPCKHPS(odd, even, even)
	VPERM2F128(Imm(0x31), even, a, b)
	VPERM2F128(Imm(0x20), even, a, a)
}

var permutations = map[string]Mem{}

// permutation is a global of the 16 indices that index gives.
func permutation(name string, index func(i int) int) Mem {
	if m, ok := permutations[name]; ok {
		return m
	}
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 16 {
		DATA(4*i, U32(uint32(index(i))))
	}
	permutations[name] = m
	return m
}

// softmax generates the weights of a chunk.
func softmax() {
	exp := exponential()
	text("softmax", "func(p *float32, z float32, m *float32) float32",
		"softmax replaces 64 numbers p[j] by exp(p[j]*z - m), where m, which it writes, is the greatest p[j]*z, and returns their vector sum. -Inf gives +0.")
	p, m := Load(Param("p"), RDI), Load(Param("m"), RSI)
	VBROADCASTSS(NewParamAddr("z", 8), Y15)
	x := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7}
	for i := range x {
		VMULPS(Mem{Base: p, Disp: 32 * i}, Y15, x[i])
	}
	VMAXPS(Y0, Y1, Y8)
	VMAXPS(Y2, Y3, Y9)
	VMAXPS(Y4, Y5, Y10)
	VMAXPS(Y6, Y7, Y11)
	VMAXPS(Y8, Y9, Y8)
	VMAXPS(Y10, Y11, Y10)
	VMAXPS(Y8, Y10, Y8)
	VPERM2F128(Imm(1), Y8, Y8, Y9)
	VMAXPS(Y8, Y9, Y8)
	VSHUFPS(Imm(0x4e), Y8, Y8, Y9)
	VMAXPS(Y8, Y9, Y8)
	VSHUFPS(Imm(0xb1), Y8, Y8, Y9)
	VMAXPS(Y8, Y9, Y15)
	VMOVSS(X15, Mem{Base: m})
	for i := range x {
		n, r, y, keep := Y8, Y9, Y10, Y11
		if i%2 == 1 { // two chains at a time
			n, r, y, keep = Y12, Y13, Y14, x[i-1]
		}
		VSUBPS(Y15, x[i], x[i])
		exp(x[i], n, r, y, keep)
		VMOVUPS(y, Mem{Base: p, Disp: 32 * i})
	}
	for i := range 4 {
		VMOVUPS(Mem{Base: p, Disp: 32 * i}, x[i])
		VADDPS(Mem{Base: p, Disp: 32 * (i + 4)}, x[i], x[i])
	}
	fold(X4)
	VZEROUPPER()
	Store(X0, ReturnIndex(0))
	RET()

	text("exp8", "func(x *float32, n int)", "exp8 replaces 8 n numbers, none greater than 0, by their exp.")
	p, n := Load(Param("x"), RDI), Load(Param("n"), RCX)
	loop("exp8_next", n, func() {
		VMOVUPS(Mem{Base: p}, Y0)
		exp(Y0, Y1, Y2, Y3, Y4)
		VMOVUPS(Y3, Mem{Base: p})
		ADDQ(U32(32), p)
	})
	VZEROUPPER()
	RET()
}

// exponential returns what writes the exp of section 4 of x, no greater than 0, to y. Others are lost, but x.
func exponential() func(x, n, r, y, keep VecPhysical) {
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

	return func(x, n, r, y, keep VecPhysical) {
		VMULPS(log2e, x, n)
		VROUNDPS(Imm(8), n, n) // to nearest even
		VMOVAPS(x, r)
		VFNMADD231PS(ln2Hi, n, r)
		VFNMADD231PS(ln2Lo, n, r)
		VMOVUPS(exp6, y)
		for _, c := range poly {
			VFMADD213PS(c, r, y)
		}
		VFMADD213PS(one, r, y)
		VFMADD213PS(one, r, y)
		VCVTPS2DQ(n, n)
		VPSLLD(Imm(23), n, n)
		VPADDD(n, y, y)
		VCMPPS(Imm(5), lo, x, keep) // not less than, or unordered
		VANDPS(keep, y, y)
	}
}

// int4Factors generates what the int4 format adds: a and b of section 12 from 64 scales and 64 zeros.
func int4Factors() {
	eight, sign := float32s("eight", 8), constant32("signs", 1<<31)
	a, b, t := Y4, Y5, Y6
	factors := func(s Register, i int) {
		VCVTPH2PS(Mem{Base: s, Disp: 16 * i}, a)
		VCVTPH2PS(Mem{Base: s, Disp: 128 + 16*i}, t)
		VADDPS(eight, t, b)
		VXORPS(sign, b, b)
		VMULPS(a, b, b)
		VCMPPS(Imm(0), Y7, a, Y8) // a constant
		VBLENDVPS(Y8, t, b, b)
	}

	text("affineScores", "func(p *float32, s *uint16, sum float32)", "affineScores is p[j] = fma(p[j], a[j], b[j]*sum) for 64 positions, whose scales and zeros s holds.")
	p, s := Load(Param("p"), RDI), Load(Param("s"), RSI)
	VBROADCASTSS(NewParamAddr("sum", 16), Y9)
	zero(Y7)
	for i := range 8 {
		factors(s, i)
		VMULPS(Y9, b, b)
		VFMADD231PS(Mem{Base: p, Disp: 32 * i}, a, b)
		VMOVUPS(b, Mem{Base: p, Disp: 32 * i})
	}
	VZEROUPPER()
	RET()

	text("affineWeights", "func(p *float32, s *uint16) float32", "affineWeights returns the vector sum of p[j]*b[j] and multiplies p[j] by a[j], for 64 positions, whose scales and zeros s holds.")
	p, s = Load(Param("p"), RDI), Load(Param("s"), RSI)
	acc := []VecPhysical{Y0, Y1, Y2, Y3}
	zero(acc...)
	zero(Y7)
	for i := range 8 {
		factors(s, i)
		VMOVUPS(Mem{Base: p, Disp: 32 * i}, Y9)
		VFMADD231PS(Y9, b, acc[i%4])
		VMULPS(Y9, a, a)
		VMOVUPS(a, Mem{Base: p, Disp: 32 * i})
	}
	fold(X4)
	VZEROUPPER()
	Store(X0, ReturnIndex(0))
	RET()
}
