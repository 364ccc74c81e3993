package main

import "math"

// plane decodes bit pair i of the codes in n to int8: the upper two bits of a byte
// are the trit's two's complement.
func (a *asm) plane(d, n v, i int) {
	if i < 3 {
		a.shl8(d, n, uint32(6-2*i))
		n = d
	}
	a.sshr8(d, n, 6)
}

func (a *asm) ternary() {
	a.fn("ternaryGEMV", "(sums *[4]int32, tiles *byte, n int, q *int8)", "ternaryGEMV multiplies n tiles, four rows, by the activations of one token: the sums of trit*q.")
	a.arg("sums", 0)
	a.arg("tiles", 1)
	a.arg("n", 2)
	a.arg("q", 3)
	a.zero(registers(0, 8)...) // two chains a row
	a.loop(2, func() {
		a.load(3, 0, registers(16, 8)...)
		for r := range 4 {
			a.load(1, 32*r, 24, 25)
			for i := range 4 {
				for h := range v(2) {
					a.plane(26+h, 24+h, i)
					a.sdot(v(2*r)+h, 26+h, 16+v(2*i)+h)
				}
			}
		}
		a.advance(1, 128)
		a.advance(3, 128)
	})
	for r := range v(4) {
		a.add(2*r, 2*r, 2*r+1)
		a.addv(2*r, 2*r)
		a.line("FMOVS F%d, %d(R0)", 2*r, 4*r)
	}
	a.ret()

	a.fn("ternaryGEMM", "(sums *[16]int32, tiles *byte, n int, q *int8, stride int)", "ternaryGEMM is ternaryGEMV for four tokens, stride codes apart: four sums for each.")
	a.arg("sums", 0)
	a.arg("tiles", 1)
	a.arg("n", 2)
	a.arg("q", 3)
	a.arg("stride", 7)
	for t := 4; t <= 6; t++ {
		a.line("ADD R7, R%d, R%d", t-1, t)
	}
	a.zero(registers(0, 16)...)
	a.loop(2, func() {
		for r := range v(4) {
			a.load(1, int(32*r), 24, 25)
			for i := range 4 {
				for h := range v(2) {
					a.plane(16+v(2*i)+h, 24+h, i)
				}
			}
			for t := range v(4) {
				for i := 0; i < 8; i += 4 {
					a.load(int(3+t), 16*i, registers(26, 4)...)
					for j := range v(4) {
						a.sdot(4*t+r, 16+v(i)+j, 26+j)
					}
				}
			}
		}
		a.advance(1, 128)
		for t := 3; t <= 6; t++ {
			a.advance(t, 128)
		}
	})
	for i := range v(16) {
		a.addv(i, i)
		a.line("FMOVS F%d, %d(R0)", i, 4*i)
	}
	a.ret()
}

// blocks emits a vector sum: body takes in the next group of lanes into V0..V7,
// perBlock groups make a block. R2 counts groups.
func (a *asm) blocks(perBlock int, body func()) {
	a.line("MOVD ZR, R10") // blocks so far
	a.label(a.name + "_block")
	a.line("MOVD $%d, R9", perBlock)
	a.line("CMP R9, R2")
	a.line("CSEL LT, R2, R9, R9")
	a.line("SUB R9, R2, R2")
	a.zero(registers(0, 8)...)
	a.loop(9, body)
	a.fold()
	a.line("CBZ R10, %s_first", a.name)
	a.line("FADDS F0, F31, F31")
	a.line("B %s_next", a.name)
	a.label(a.name + "_first")
	a.line("FMOVS F0, F31")
	a.label(a.name + "_next")
	a.advance(10, 1)
	a.line("CBNZ R2, %s_block", a.name)
	a.ret32(31)
}

func (a *asm) dots() {
	lanes := registers(0, 8)
	for _, k := range []struct {
		name  string
		bytes int
		widen func() // 32 elements at R0 into V16..V23
	}{
		{"dotF32", 128, func() { a.load(0, 0, registers(16, 8)...) }},
		{"dotBF16", 64, func() {
			a.load(0, 0, registers(24, 4)...)
			for i := range v(4) {
				a.shll16(16+2*i, 24+i)
				a.shll16h(17+2*i, 24+i)
			}
		}},
		{"dotF16", 64, func() {
			a.load(0, 0, registers(24, 4)...)
			for i := range v(4) {
				a.fcvtl(16+2*i, 24+i)
				a.fcvtlh(17+2*i, 24+i)
			}
		}},
		{"dotI8", 32, func() {
			a.load(0, 0, 24, 25)
			for h := range v(2) {
				a.floats(16+4*h, 24+h)
			}
		}},
	} {
		a.fn(k.name, "(w *byte, x *float32, n int) float32", k.name+" is the vector sum of w[i]*x[i] over 32 n elements, n > 0.")
		a.arg("w", 0)
		a.arg("x", 1)
		a.arg("n", 2)
		a.blocks(32, func() {
			k.widen()
			a.load(1, 0, registers(8, 8)...)
			for _, l := range lanes {
				a.fmla(l, 16+l, 8+l)
			}
			a.advance(0, k.bytes)
			a.advance(1, 128)
		})
	}

	a.fn("dotTernary", "(run *byte, x *float32, n int) float32", "dotTernary is the vector sum of trit*x[i] over 128 n columns of one row, n > 0; run is the row's part of the first of n tiles.")
	a.arg("run", 0)
	a.arg("x", 1)
	a.arg("n", 2)
	a.blocks(8, func() {
		a.load(0, 0, 24, 25)
		for i := range 4 {
			for h := range v(2) {
				a.plane(26, 24+h, i)
				a.floats(16, 26)
				a.load(1, 128*i+64*int(h), registers(8, 4)...)
				for j := range v(4) {
					a.fmla(4*h+j, 16+j, 8+j)
				}
			}
		}
		a.advance(0, 128)
		a.advance(1, 512)
	})

	a.fn("sumSquares", "(x *float32, n int) float32", "sumSquares is the vector sum of x[i]*x[i] over 32 n elements, n > 0.")
	a.arg("x", 1)
	a.arg("n", 2)
	a.blocks(32, func() {
		a.load(1, 0, registers(16, 8)...)
		for _, l := range lanes {
			a.fmla(l, 16+l, 16+l)
		}
		a.advance(1, 128)
	})
}

// sums generates what a Layer norm needs besides.
func (a *asm) sums() {
	lanes := registers(0, 8)
	a.fn("sumFloats", "(x *float32, n int) float32", "sumFloats is the vector sum of x[i] over 32 n elements, n > 0.")
	a.arg("x", 1)
	a.arg("n", 2)
	a.blocks(32, func() {
		a.load(1, 0, registers(16, 8)...)
		for _, l := range lanes {
			a.fadd(l, l, 16+l)
		}
		a.advance(1, 128)
	})

	a.fn("subtract", "(y *float32, x *float32, mean float32, n int)", "subtract is y[i] = x[i] - mean for 8 n elements.")
	a.arg("y", 0)
	a.arg("x", 1)
	a.argf("mean", 16)
	a.arg("n", 2)
	a.loop(2, func() {
		a.load(1, 0, 0, 1)
		a.fsub(0, 0, 16)
		a.fsub(1, 1, 16)
		a.store(0, 0, 0, 1)
		a.advance(0, 32)
		a.advance(1, 32)
	})
	a.ret()
}

// floats widens the 16 int8 of n to floats in d..d+3; V28 and V29 are lost.
func (a *asm) floats(d, n v) {
	a.sxtl8(28, n)
	a.sxtl8h(29, n)
	for i, half := range []v{28, 29} {
		lo := d + 2*v(i)
		a.sxtl16(lo, half)
		a.sxtl16h(lo+1, half)
		a.scvtf(lo, lo)
		a.scvtf(lo+1, lo+1)
	}
}

func (a *asm) quantizer() {
	for _, k := range []struct {
		name, what string
		product    func(i v)
	}{
		{"scaleNorm", "(x[i]*w[i])*r", func(i v) {
			a.fmul(i, i, 2+i)
			a.fmul(i, i, 16)
		}},
		{"scaleLayer", "(x[i]*r)*w[i]", func(i v) {
			a.fmul(i, i, 16)
			a.fmul(i, i, 2+i)
		}},
	} {
		a.fn(k.name, "(y *float32, x *float32, w *float32, r float32, n int)", k.name+" is y[i] = "+k.what+" for 8 n elements.")
		a.arg("y", 0)
		a.arg("x", 1)
		a.arg("w", 2)
		a.argf("r", 16)
		a.arg("n", 3)
		a.loop(3, func() {
			a.load(1, 0, 0, 1)
			a.load(2, 0, 2, 3)
			for i := range v(2) {
				k.product(i)
			}
			a.store(0, 0, 0, 1)
			for r := range 3 {
				a.advance(r, 32)
			}
		})
		a.ret()
	}

	a.fn("absMax", "(x *float32, n int) uint32", "absMax is the greatest bit pattern of |x[i]| of 8 n elements.")
	a.arg("x", 0)
	a.arg("n", 1)
	a.zero(0, 1)
	a.constant(4, 0x7fffffff)
	a.loop(1, func() {
		a.load(0, 0, 2, 3)
		for i := range v(2) {
			a.and(2+i, 2+i, 4)
			a.umax(i, i, 2+i)
		}
		a.advance(0, 32)
	})
	a.umax(0, 0, 1)
	a.umaxv(0, 0)
	a.ret32(0)

	a.fn("roundInt8", "(q *int8, x *float32, k float32, n int)", "roundInt8 is q[i] = x[i]*k rounded half to even, for 32 n elements within +-127.")
	a.arg("q", 0)
	a.arg("x", 1)
	a.argf("k", 16)
	a.arg("n", 2)
	a.loop(2, func() {
		a.load(1, 0, registers(0, 8)...)
		for i := range v(8) {
			a.fmul(i, i, 16)
			a.fcvtns(i, i)
		}
		for i := range v(4) {
			a.sqxtn16(8+i, 2*i)
			a.sqxtn16h(8+i, 2*i+1)
		}
		for i := range v(2) {
			a.sqxtn8(12+i, 8+2*i)
			a.sqxtn8h(12+i, 9+2*i)
		}
		a.store(0, 0, 12, 13)
		a.advance(0, 32)
		a.advance(1, 128)
	})
	a.ret()
}

// expConstants loads what exp needs into V16..V25.
func (a *asm) expConstants() {
	for i, c := range []float32{-0x1.5d589ep+6, 0x1.715476p+0, 0x1.62e43p-1, -0x1.05c61p-29, 0x1.6a4f26p-10, 0x1.12398p-7, 0x1.5558aep-5, 0x1.555492p-3, 0x1.fffffcp-2, 1} {
		a.constant(16+v(i), math.Float32bits(c))
	}
}

// exp replaces V8 by its exponential (spec/numerics.md, section 4) for arguments
// that are not above its upper limit. V9..V12 are lost.
func (a *asm) exp() {
	const x, n, p, next, low = 8, 9, 10, 11, 12
	a.fcmgt(low, 16, x)
	a.fmul(n, x, 17)
	a.frintn(n, n)
	a.fmls(x, n, 18)
	a.fmls(x, n, 19)
	a.mov(p, 20)
	for _, c := range []v{21, 22, 23, 24, 25, 25} {
		a.mov(next, c)
		a.fmla(next, p, x)
		a.mov(p, next)
	}
	a.fcvtns(n, n)
	a.shl32(n, n, 23)
	a.add(p, p, n)
	a.bic(x, p, low)
}

func (a *asm) attention() {
	a.fn("scores", "(s *float32, q *float32, k *float32, dim int)", "scores are the dots of a query with the 64 keys of a page, k[dim][64]: one chain over dim for each key.")
	a.arg("s", 0)
	a.arg("q", 1)
	a.arg("k", 2)
	a.arg("dim", 3)
	a.zero(registers(0, 16)...)
	a.loop(3, func() {
		a.spread(16, 1)
		for i := v(0); i < 16; i += 4 {
			a.load(2, 16*int(i), registers(17, 4)...)
			for j := range v(4) {
				a.fmla(i+j, 17+j, 16)
			}
		}
		a.advance(1, 4)
		a.advance(2, 256)
	})
	a.store(0, 0, registers(0, 16)...)
	a.ret()

	a.fn("expSum", "(p *float32, m float32) float32", "expSum replaces 64 scores, none greater than m, by exp(p[i] - m) and returns their vector sum.")
	a.arg("p", 0)
	a.argf("m", 26)
	a.expConstants()
	a.zero(registers(0, 8)...)
	for i := range 16 {
		a.load(0, 16*i, 8)
		a.fsub(8, 8, 26)
		a.exp()
		a.store(0, 16*i, 8)
		a.fadd(v(i%8), v(i%8), 8)
	}
	a.fold()
	a.ret32(0)

	a.fn("weighted", "(o *float32, p *float32, v *float32, count int, dim int, n int)", "weighted is the sum of p[j] v[j][i] over count positions, ascending, for 8 n elements i of rows of dim.")
	a.arg("o", 0)
	a.arg("p", 1)
	a.arg("v", 2)
	a.arg("count", 3)
	a.arg("dim", 4)
	a.arg("n", 5)
	a.line("LSL $2, R4, R4")
	for _, wide := range []int{4, 1} { // times 8 elements
		name := map[int]string{4: "wide", 1: "narrow"}[wide]
		acc := registers(0, 2*wide)
		a.label("weighted_" + name)
		a.line("CMP $%d, R5", wide)
		a.line("BLT weighted_%s_over", name)
		a.zero(acc...)
		a.line("MOVD R1, R6")
		a.line("MOVD R2, R7")
		a.line("MOVD R3, R8")
		a.loop(8, func() {
			a.spread(16, 6)
			a.load(7, 0, registers(17, 2*wide)...)
			for _, r := range acc {
				a.fmla(r, 17+r, 16)
			}
			a.advance(6, 4)
			a.line("ADD R4, R7, R7")
		})
		a.store(0, 0, acc...)
		a.advance(0, 32*wide)
		a.advance(2, 32*wide)
		a.line("SUB $%d, R5, R5", wide)
		a.line("B weighted_%s", name)
		a.label("weighted_" + name + "_over")
	}
	a.ret()

	a.fn("merge", "(out *float32, o *float32, a float32, b float32, n int)", "merge is out[i] = fma(o[i], b, out[i]*a) for 8 n elements.")
	a.arg("out", 0)
	a.arg("o", 1)
	a.argf("a", 16)
	a.argf("b", 17)
	a.arg("n", 2)
	a.loop(2, func() {
		a.load(0, 0, 0, 1)
		a.load(1, 0, 2, 3)
		for i := range v(2) {
			a.fmul(i, i, 16)
			a.fmla(i, 2+i, 17)
		}
		a.store(0, 0, 0, 1)
		a.advance(0, 32)
		a.advance(1, 32)
	})
	a.ret()
}

func (a *asm) elementwise() {
	a.fn("addFloats", "(x *float32, y *float32, n int)", "addFloats is x[i] += y[i] for 8 n elements.")
	a.arg("x", 0)
	a.arg("y", 1)
	a.arg("n", 2)
	a.loop(2, func() {
		a.load(0, 0, 0, 1)
		a.load(1, 0, 2, 3)
		a.fadd(0, 0, 2)
		a.fadd(1, 1, 3)
		a.store(0, 0, 0, 1)
		a.advance(0, 32)
		a.advance(1, 32)
	})
	a.ret()

	a.fn("gateReLU2", "(h *float32, gate *float32, u *float32, n int)", "gateReLU2 is h[i] = (v*v)*u[i] with v = max(gate[i], 0), for 4 n elements; a NaN stays one.")
	a.gate(func() {
		a.fcmle0(9, 8)
		a.bic(8, 8, 9)
		a.fmul(8, 8, 8)
	})

	a.fn("gateSiLU", "(h *float32, gate *float32, u *float32, n int)", "gateSiLU is h[i] = (gate[i] / (1 + exp(-gate[i])))*u[i] for 4 n elements.")
	a.expConstants()
	a.constant(26, math.Float32bits(0x1.62e42ep+6)) // the upper limit of exp
	a.constant(27, 0x7f800000)                      // infinity
	a.gate(func() {
		a.mov(13, 8)
		a.fneg(8, 8)
		a.fcmgt(14, 8, 26)
		a.exp()
		a.bit(8, 27, 14)
		a.fadd(8, 8, 25)
		a.fdiv(8, 13, 8)
	})

	a.fn("rotate", "(x *float32, cos *float32, sin *float32, half int, n int)", "rotate turns 4 n pairs x[i], x[i+half] of one head.")
	a.arg("x", 0)
	a.arg("cos", 1)
	a.arg("sin", 2)
	a.arg("half", 3)
	a.arg("n", 4)
	a.line("ADD R3<<2, R0, R3")
	a.loop(4, func() {
		a.load(0, 0, 0)
		a.load(3, 0, 1)
		a.load(1, 0, 2)
		a.load(2, 0, 3)
		a.fmul(4, 0, 2)
		a.fmul(5, 1, 3)
		a.fsub(4, 4, 5)
		a.fmul(6, 1, 2)
		a.fmul(7, 0, 3)
		a.fadd(6, 6, 7)
		a.store(0, 0, 4)
		a.store(3, 0, 6)
		for r := range 4 {
			a.advance(r, 16)
		}
	})
	a.ret()
}

// gate emits h = act(g)*u; act works on V8.
func (a *asm) gate(act func()) {
	a.arg("h", 0)
	a.arg("gate", 1)
	a.arg("u", 2)
	a.arg("n", 3)
	a.loop(3, func() {
		a.load(1, 0, 8)
		act()
		a.load(2, 0, 9)
		a.fmul(8, 8, 9)
		a.store(0, 0, 8)
		for r := range 3 {
			a.advance(r, 16)
		}
	})
	a.ret()
}
