package ptx

import (
	"fmt"
	"regexp"
	"strings"
)

// form is a family of instructions: those whose whole name fits the pattern.
//
// Each letter of operands is one of them: t a register or constant of the last type
// of the name, r the same as a result that may bring a predicate (a|p), T the same or
// wider, also as a list where the name has .v2 or .v4, w of twice the bits, s of the
// type behind the result's or wider, i an integer of 32 bits, p a predicate, a an
// address, l a label, 2 and 4 lists of so many registers of 32 bits, m one of 64 bits
// or a list of two halves, d a register of 64 bits, L a list of half as many registers
// of 32 bits as the name has columns (n160), P parameters in parentheses, f a function,
// _ no result. What follows ? may be left
// out.
type form struct {
	pattern  string
	operands string
	version  int // least .version, 78 for 7.8
	target   int // least sm

	// Filled in for one instruction.
	typ, source string
	vector      int
}

const (
	integer  = `(u16|s16|u32|s32|u64|s64)`
	bits     = `(b16|b32|b64)`
	words    = `(b32|b64|u32|u64|s32|s64|f32|f64)`
	held     = `(b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64)`          // in registers
	stored   = `(b8|u8|s8|b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64)` // in memory
	whole    = `([us](8|16|32|64))`
	space    = `(\.(global|shared|local|const|param))?`
	caching  = `(\.(ca|cg|cs|lu|cv|wb|wt))?`
	residing = `(\.L1::(no_allocate|evict_first|evict_last))?(\.L2::(64B|128B|256B))?`
	ordering = `(\.(relaxed|acquire|release|acq_rel)\.(cta|gpu|sys))?`
	compare  = `(eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan)`
)

// forms are the instructions of the kernels, with the versions and targets of the ISA
// reference. A row stands before those that would also fit.
var forms = compileForms([]form{
	{pattern: `(add|sub|min|max|mul\.lo|mul\.hi|div|rem)\.` + integer, operands: "ttt", version: 10, target: 10},
	{pattern: `(add|sub)\.(cc\.)?(u32|s32|u64|s64)`, operands: "ttt", version: 43, target: 20},
	{pattern: `mul\.wide\.(u16|s16|u32|s32)`, operands: "wtt", version: 10, target: 10},
	{pattern: `mad\.lo\.` + integer, operands: "tttt", version: 10, target: 10},
	{pattern: `mad\.wide\.(u16|s16|u32|s32)`, operands: "wttw", version: 10, target: 10},
	{pattern: `(add|sub|mul|div)\.rn\.(f32|f64)`, operands: "ttt", version: 14, target: 20},
	{pattern: `(add|sub|mul)\.f32`, operands: "ttt", version: 10, target: 10},
	{pattern: `fma\.rn\.(f32|f64)`, operands: "tttt", version: 20, target: 20},
	{pattern: `(sqrt|rcp)\.rn\.(f32|f64)`, operands: "tt", version: 14, target: 20},
	{pattern: `(ex2|lg2|rcp|sqrt|rsqrt)\.approx(\.ftz)?\.f32`, operands: "tt", version: 14, target: 10},
	{pattern: `div\.(full|approx)(\.ftz)?\.f32`, operands: "ttt", version: 14, target: 10},
	{pattern: `(min|max)\.NaN\.f32`, operands: "ttt", version: 70, target: 80},
	{pattern: `(min|max)\.(f32|f64)`, operands: "ttt", version: 10, target: 10},
	{pattern: `(neg|abs)\.(s16|s32|s64|f32|f64)`, operands: "tt", version: 10, target: 10},
	{pattern: `(and|or|xor)\.` + bits, operands: "ttt", version: 10, target: 10},
	{pattern: `(and|or|xor)\.pred`, operands: "ppp", version: 10, target: 10},
	{pattern: `not\.` + bits, operands: "tt", version: 10, target: 10},
	{pattern: `not\.pred`, operands: "pp", version: 10, target: 10},
	{pattern: `shl\.` + bits, operands: "tti", version: 10, target: 10},
	{pattern: `shr\.(b16|b32|b64|u16|u32|u64|s16|s32|s64)`, operands: "tti", version: 10, target: 10},
	{pattern: `shf\.[lr]\.(clamp|wrap)\.b32`, operands: "ttti", version: 31, target: 32},
	{pattern: `bfe\.(u32|s32|u64|s64)`, operands: "ttii", version: 20, target: 20},
	{pattern: `bfi\.b(32|64)`, operands: "tttii", version: 20, target: 20},
	{pattern: `prmt\.b32`, operands: "tttt", version: 20, target: 20},
	{pattern: `lop3\.b32`, operands: "tttti", version: 43, target: 50},
	{pattern: `(popc|clz)\.b32`, operands: "it", version: 20, target: 20},
	{pattern: `setp\.` + compare + `\.` + held, operands: "ptt", version: 10, target: 10},
	{pattern: `setp\.` + compare + `\.(and|or|xor)\.` + held, operands: "pttp", version: 10, target: 10},
	{pattern: `selp\.` + held, operands: "tttp", version: 10, target: 10},
	{pattern: `mov\.pred`, operands: "pp", version: 10, target: 10},
	{pattern: `mov\.b64`, operands: "mm", version: 10, target: 10},
	{pattern: `mov\.` + held, operands: "tt", version: 10, target: 10},
	{pattern: `cvt(\.sat)?\.` + whole + `\.` + whole, operands: "Ts", version: 10, target: 10},
	{pattern: `cvt\.(rn|rz)\.(f16|f32|f64)\.` + whole, operands: "Ts", version: 14, target: 13},
	{pattern: `cvt\.(rni|rzi|rmi|rpi)(\.sat)?\.` + whole + `\.(f16|f32|f64)`, operands: "Ts", version: 14, target: 13},
	{pattern: `cvt\.(f32\.f16|f64\.f16|f64\.f32)|cvt\.rn\.(f16\.f32|f16\.f64|f32\.f64)`, operands: "Ts", version: 14, target: 13},
	{pattern: `cvt\.rn\.(bf16x2|f16x2)\.f32`, operands: "itt", version: 70, target: 80},
	{pattern: `cvt\.(rni|rzi|rmi|rpi)\.f32\.f32`, operands: "Ts", version: 14, target: 13},
	{pattern: `cvta(\.to)?\.(global|shared|local|const|param)\.u64`, operands: "tt", version: 20, target: 20},
	{pattern: `dp4a\.(u32|s32)\.(u32|s32)`, operands: "tttt", version: 50, target: 61},

	{pattern: `ld\.global\.nc` + residing + `(\.v[24])?\.` + stored, operands: "Ta", version: 74, target: 75},
	{pattern: `ld\.global\.nc` + residing + `\.L2::cache_hint(\.v[24])?\.` + stored, operands: "Tad", version: 74, target: 80},
	{pattern: `createpolicy\.fractional\.L2::evict_(first|normal|last)\.b64`, operands: "d", version: 74, target: 80},
	{pattern: `ld` + ordering + space + caching + `(\.v[24])?\.` + stored, operands: "Ta", version: 60, target: 70},
	{pattern: `ld\.volatile` + space + `\.` + stored, operands: "Ta", version: 11, target: 10},
	{pattern: `st` + ordering + space + caching + `(\.v[24])?\.` + stored, operands: "aT", version: 60, target: 70},
	{pattern: `atom` + ordering + space + `\.(add|min|max|exch|and|or)\.` + words, operands: "rat", version: 60, target: 70},
	{pattern: `atom` + ordering + space + `\.cas\.` + words, operands: "ratt", version: 60, target: 70},
	{pattern: `red` + ordering + space + `\.(add|min|max|and|or)\.` + words, operands: "at", version: 60, target: 70},
	{pattern: `prefetch\.global\.L[12]`, operands: "a", version: 20, target: 20},
	{pattern: `cp\.async\.(ca|cg)\.shared\.global(\.L2::(64B|128B|256B))?`, operands: "aai?i", version: 70, target: 80},
	{pattern: `cp\.async\.cg\.shared\.global\.L2::cache_hint`, operands: "aaid", version: 74, target: 80},
	{pattern: `cp\.async\.commit_group|cp\.async\.wait_all`, version: 70, target: 80},
	{pattern: `cp\.async\.wait_group`, operands: "i", version: 70, target: 80},

	{pattern: `shfl\.sync\.(up|down|bfly|idx)\.b32`, operands: "rtiii", version: 60, target: 30},
	{pattern: `vote\.sync\.(all|any)\.pred`, operands: "ppi", version: 60, target: 30},
	{pattern: `vote\.sync\.ballot\.b32`, operands: "tpi", version: 60, target: 30},
	{pattern: `redux\.sync\.(add|min|max)\.(u32|s32)`, operands: "tti", version: 70, target: 80},
	{pattern: `mma\.sync\.aligned\.m16n8k32\.row\.col(\.satfinite)?\.s32\.[su]8\.s8\.s32`, operands: "4424", version: 70, target: 80},
	{pattern: `mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.(bf16\.bf16|f16\.f16)\.f32`, operands: "4424", version: 70, target: 80},
	{pattern: `mma\.sync\.aligned\.m16n8k8\.row\.col\.f32\.tf32\.tf32\.f32`, operands: "4424", version: 70, target: 80},
	{pattern: `ldmatrix\.sync\.aligned\.m8n8\.x4(\.trans)?\.shared\.b16`, operands: "4a", version: 65, target: 75},
	{pattern: `ldmatrix\.sync\.aligned\.m8n8\.x2(\.trans)?\.shared\.b16`, operands: "2a", version: 65, target: 75},

	{pattern: `mbarrier\.init\.shared\.b64`, operands: "ai", version: 70, target: 80},
	{pattern: `mbarrier\.arrive\.shared\.b64`, operands: "_a", version: 70, target: 80},
	{pattern: `mbarrier\.arrive\.expect_tx\.shared\.b64`, operands: "_ai", version: 80, target: 90},
	{pattern: `mbarrier\.try_wait\.parity\.shared\.b64`, operands: "pai", version: 78, target: 90},
	{pattern: `fence\.mbarrier_init\.release\.cluster`, version: 80, target: 90},
	{pattern: `cp\.async\.bulk\.shared::cluster\.global\.mbarrier::complete_tx::bytes`, operands: "aaia", version: 80, target: 90},
	{pattern: `cp\.async\.bulk\.shared::cluster\.global\.mbarrier::complete_tx::bytes\.L2::cache_hint`, operands: "aaiad", version: 80, target: 90},
	{pattern: `setmaxnreg\.(inc|dec)\.sync\.aligned\.u32`, operands: "i", version: 80, target: 90},
	{pattern: `wgmma\.(fence|commit_group)\.sync\.aligned`, version: 80, target: 90},
	{pattern: `wgmma\.wait_group\.sync\.aligned`, operands: "i", version: 80, target: 90},
	{pattern: `wgmma\.mma_async\.sync\.aligned\.m64n(8|16|24|32|48|64|80|96|112|128|144|160|176|192|208|224|240|256)k32\.s32\.s8\.s8`, operands: "L4di", version: 80, target: 90},
	{pattern: `wgmma\.mma_async\.sync\.aligned\.m64n(64|128)k16\.f32\.bf16\.bf16`, operands: "L4diiii", version: 80, target: 90},
	{pattern: `mbarrier\.test_wait\.parity\.shared\.b64`, operands: "pai", version: 71, target: 80},
	{pattern: `cp\.async\.mbarrier\.arrive\.noinc\.shared\.b64`, operands: "a", version: 70, target: 80},
	{pattern: `bar\.arrive`, operands: "ii", version: 20, target: 20},
	{pattern: `fence\.proxy\.async\.shared::cta`, version: 80, target: 90},
	{pattern: `bar\.sync|barrier\.sync`, operands: "i?i", version: 60, target: 30},
	{pattern: `bar\.warp\.sync`, operands: "i", version: 60, target: 30},
	{pattern: `membar\.(cta|gl|sys)`, version: 14, target: 10},
	{pattern: `fence\.(sc|acq_rel)\.(cta|gpu|sys)`, version: 60, target: 70},
	{pattern: `griddepcontrol\.(wait|launch_dependents)`, version: 78, target: 90},
	{pattern: `nanosleep\.u32`, operands: "t", version: 63, target: 70},
	{pattern: `bra(\.uni)?`, operands: "l", version: 10, target: 10},
	{pattern: `call(\.uni)?`, operands: "PfP", version: 20, target: 20},
	{pattern: `ret(\.uni)?|exit|trap`, version: 10, target: 10},
})

// compiledForm is a row with its pattern, which fits whole names only.
type compiledForm struct {
	form
	name *regexp.Regexp
}

func compileForms(rows []form) []compiledForm {
	all := make([]compiledForm, len(rows))
	for i, f := range rows {
		all[i] = compiledForm{f, regexp.MustCompile(`^(?:` + f.pattern + `)$`)}
	}
	return all
}

// findForm returns the form of an instruction with its types, or nil.
func findForm(op string) *form {
	for _, c := range forms {
		if !c.name.MatchString(op) {
			continue
		}
		f := c.form
		var types []string
		for part := range strings.SplitSeq(op, ".") {
			switch {
			case typeSizes[part] > 0:
				types = append(types, part)
			case strings.HasPrefix(part, "m64n"):
				fmt.Sscanf(part, "m64n%dk", &f.vector)
			case part == "v2" || part == "v4":
				f.vector = int(part[1] - '0')
			}
		}
		if n := len(types); n > 0 {
			f.typ = types[n-1]
			if n > 1 && strings.HasSuffix(f.operands, "s") { // cvt: result, then source
				f.typ, f.source = types[n-2], types[n-1]
			}
		}
		return &f
	}
	return nil
}
