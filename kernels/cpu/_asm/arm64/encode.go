package main

import "fmt"

// v is a vector register of 128 bits.
type v int

// The instructions that Go's assembler does not have are words: encodings from the
// Arm Architecture Reference Manual (DDI 0487), section C7.2.
func (a *asm) word(code uint32, format string, args ...any) {
	a.line("WORD $0x%08x // %s", code, fmt.Sprintf(format, args...))
}

func three(code uint32, d, n, m v) uint32 { return code | uint32(m)<<16 | uint32(n)<<5 | uint32(d) }
func two(code uint32, d, n v) uint32      { return code | uint32(n)<<5 | uint32(d) }

// op3 emits an instruction of three registers of equal lanes.
func (a *asm) op3(name string, code uint32, lanes string, d, n, m v) {
	a.word(three(code, d, n, m), "%s V%d.%s, V%d.%s, V%d.%s", name, d, lanes, n, lanes, m, lanes)
}

func (a *asm) fadd(d, n, m v)  { a.op3("FADD", 0x4e20d400, "4S", d, n, m) }
func (a *asm) fsub(d, n, m v)  { a.op3("FSUB", 0x4ea0d400, "4S", d, n, m) }
func (a *asm) fmul(d, n, m v)  { a.op3("FMUL", 0x6e20dc00, "4S", d, n, m) }
func (a *asm) fdiv(d, n, m v)  { a.op3("FDIV", 0x6e20fc00, "4S", d, n, m) }
func (a *asm) fmla(d, n, m v)  { a.op3("FMLA", 0x4e20cc00, "4S", d, n, m) } // d = fma(n, m, d)
func (a *asm) fmls(d, n, m v)  { a.op3("FMLS", 0x4ea0cc00, "4S", d, n, m) } // d = fma(-n, m, d)
func (a *asm) fcmgt(d, n, m v) { a.op3("FCMGT", 0x6ea0e400, "4S", d, n, m) }
func (a *asm) add(d, n, m v)   { a.op3("ADD", 0x4ea08400, "4S", d, n, m) }
func (a *asm) umax(d, n, m v)  { a.op3("UMAX", 0x6ea06400, "4S", d, n, m) }
func (a *asm) and(d, n, m v)   { a.op3("AND", 0x4e201c00, "16B", d, n, m) }
func (a *asm) bic(d, n, m v)   { a.op3("BIC", 0x4e601c00, "16B", d, n, m) }
func (a *asm) bit(d, n, m v)   { a.op3("BIT", 0x6ea01c00, "16B", d, n, m) } // bits of n where m is set
func (a *asm) mov(d, n v)      { a.op3("ORR", 0x4ea01c00, "16B", d, n, n) }
func (a *asm) zero(regs ...v) {
	for _, d := range regs {
		a.op3("EOR", 0x6e201c00, "16B", d, d, d)
	}
}

// sdot adds four products of int8 to each int32 lane.
func (a *asm) sdot(d, n, m v) {
	a.word(three(0x4e809400, d, n, m), "SDOT V%d.4S, V%d.16B, V%d.16B", d, n, m)
}

func (a *asm) op2(name string, code uint32, to, from string, d, n v) {
	a.word(two(code, d, n), "%s V%d.%s, V%d.%s", name, d, to, n, from)
}

func (a *asm) fneg(d, n v)   { a.op2("FNEG", 0x6ea0f800, "4S", "4S", d, n) }
func (a *asm) frintn(d, n v) { a.op2("FRINTN", 0x4e218800, "4S", "4S", d, n) } // ties to even
func (a *asm) fcvtns(d, n v) { a.op2("FCVTNS", 0x4e21a800, "4S", "4S", d, n) } // ties to even
func (a *asm) scvtf(d, n v)  { a.op2("SCVTF", 0x4e21d800, "4S", "4S", d, n) }
func (a *asm) fcmle0(d, n v) { a.op2("FCMLE #0.0", 0x6ea0d800, "4S", "4S", d, n) }

// Narrowing and widening; the second of each pair writes or reads the upper half.
func (a *asm) sqxtn16(d, n v)  { a.op2("SQXTN", 0x0e614800, "4H", "4S", d, n) }
func (a *asm) sqxtn16h(d, n v) { a.op2("SQXTN2", 0x4e614800, "8H", "4S", d, n) }
func (a *asm) sqxtn8(d, n v)   { a.op2("SQXTN", 0x0e214800, "8B", "8H", d, n) }
func (a *asm) sqxtn8h(d, n v)  { a.op2("SQXTN2", 0x4e214800, "16B", "8H", d, n) }
func (a *asm) sxtl8(d, n v)    { a.op2("SXTL", 0x0f08a400, "8H", "8B", d, n) }
func (a *asm) sxtl8h(d, n v)   { a.op2("SXTL2", 0x4f08a400, "8H", "16B", d, n) }
func (a *asm) sxtl16(d, n v)   { a.op2("SXTL", 0x0f10a400, "4S", "4H", d, n) }
func (a *asm) sxtl16h(d, n v)  { a.op2("SXTL2", 0x4f10a400, "4S", "8H", d, n) }
func (a *asm) shll16(d, n v)   { a.op2("SHLL #16", 0x2e613800, "4S", "4H", d, n) }
func (a *asm) shll16h(d, n v)  { a.op2("SHLL2 #16", 0x6e613800, "4S", "8H", d, n) }
func (a *asm) fcvtl(d, n v)    { a.op2("FCVTL", 0x0e217800, "4S", "4H", d, n) }
func (a *asm) fcvtlh(d, n v)   { a.op2("FCVTL2", 0x4e217800, "4S", "8H", d, n) }

func (a *asm) shl8(d, n v, by uint32) {
	a.word(two(0x4f005400|(8+by)<<16, d, n), "SHL V%d.16B, V%d.16B, #%d", d, n, by)
}
func (a *asm) sshr8(d, n v, by uint32) {
	a.word(two(0x4f000400|(16-by)<<16, d, n), "SSHR V%d.16B, V%d.16B, #%d", d, n, by)
}
func (a *asm) shl32(d, n v, by uint32) {
	a.word(two(0x4f005400|(32+by)<<16, d, n), "SHL V%d.4S, V%d.4S, #%d", d, n, by)
}

// swap exchanges the halves of n.
func (a *asm) swap(d, n v) {
	a.word(three(0x6e004000, d, n, n), "EXT V%d.16B, V%d.16B, V%d.16B, #8", d, n, n)
}

// dup copies one 32-bit lane to all.
func (a *asm) dup(d, n v, lane uint32) {
	a.word(two(0x4e000400|(lane<<3|4)<<16, d, n), "DUP V%d.4S, V%d.S[%d]", d, n, lane)
}

// addv and umaxv reduce four lanes to the first.
func (a *asm) addv(d, n v)  { a.word(two(0x4eb1b800, d, n), "ADDV S%d, V%d.4S", d, n) }
func (a *asm) umaxv(d, n v) { a.word(two(0x6eb0a800, d, n), "UMAXV S%d, V%d.4S", d, n) }

// spread loads one 32-bit word into all lanes.
func (a *asm) spread(d v, from int) {
	a.word(0x4d40c800|uint32(from)<<5|uint32(d), "LD1R {V%d.4S}, [R%d]", d, from)
}
