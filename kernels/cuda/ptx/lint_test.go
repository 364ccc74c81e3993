package ptx

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// lintHead begins a kernel in which a statement is tried.
const lintHead = `.version 7.8
.target sm_80
.address_size 64
.global .align 4 .b8 table[8] = {1, 2, 3, 4, 5, 6, 7, 8};
.visible .entry k(.param .u64 k_param_0, .param .u32 k_param_1)
.maxntid 256, 1, 1
{
	.reg .pred %p<3>;
	.reg .b16 %rs<3>;
	.reg .b32 %r<20>;
	.reg .f32 %f<5>;
	.reg .b64 %rd<5>;
	.shared .align 16 .b8 part[64];
	.loc 1 5 3
`

const lintTail = "\n$L__end:\n\tret;\n}\n"

func TestLintAccepts(t *testing.T) {
	for _, name := range []string{"testdata/clang16.ptx", "../driver/testdata/add.ptx"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		require.NoError(t, Lint(string(text)), name)
	}
	for statement := range strings.SplitSeq(`
		ld.param.u64 %rd1, [k_param_0]; ld.param.u32 %r1, [k_param_1]; cvta.to.global.u64 %rd2, %rd1;
		@%p1 bra $L__end; @!%p1 bra.uni $L__end; mov.u32 %r1, %tid.x; mov.u64 %rd1, table; mov.u32 %r1, part; mov.pred %p1, -1;
		mad.lo.s32 %r1, %r2, %r3, -4; mul.wide.u32 %rd1, %r1, 4; fma.rn.f32 %f1, %f2, %f3, 0f3F800000; mov.b32 %f1, %r1; mov.b32 %r1, %f1;
		shl.b64 %rd1, %rd2, 3; setp.lt.u32 %p1, %r1, %r2; setp.ge.and.s32 %p1|%p2, %r1, 7, !%p0; selp.f32 %f1, %f2, %f3, %p1; and.pred %p1, %p2, !%p0;
		ld.global.nc.L1::no_allocate.v4.u32 {%r1, %r2, %r3, %r4}, [%rd1+16]; ld.global.u8 %rs1, [%rd1]; ld.u8 %r1, [%rd1+-1]; ld.shared.f32 %f1, [part+4]; ld.shared.v2.f32 {%f1, %f2}, [%r1];
		st.global.u8 [%rd1], %rs1; st.shared.v4.b32 [part], {%r1, %r2, %r3, 0}; cvt.u16.u32 %rs1, %r1; cvt.u32.u16 %r1, %rs1; cvt.rn.f32.s32 %f1, %r1; cvt.rzi.s32.f32 %r1, %f1;
		shfl.sync.bfly.b32 %r1, %r2, %r3, 31, 0xffffffff; shfl.sync.up.b32 %r1|%p1, %r2, 1, 0, -1; atom.global.add.u32 %r1, [%rd1], 1; red.release.gpu.global.add.u32 [%rd1], 1;
		mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r0, %r1, %r2, %r3}, {%r4, %r5, %r6, %r7}, {%r8, %r9}, {%r10, %r11, %r12, %r13};
		cp.async.cg.shared.global [%r1], [%rd1], 16; cp.async.cg.shared.global [%r1], [%rd1], 16, %r2; cp.async.wait_group 0; cp.async.commit_group; bar.sync 0; bar.sync 1, 64; prefetch.global.L2 [%rd1];
		createpolicy.fractional.L2::evict_first.b64 %rd1; cp.async.cg.shared.global.L2::cache_hint [%r1], [%rd1], 16, %rd2; ld.global.nc.L1::no_allocate.L2::cache_hint.v2.b32 {%r1, %r2}, [%rd1], %rd2;
		ld.global.v2.b64 {%rd1, %rd2}, [table]; bfi.b32 %r1, %r2, %r3, 8, 8; dp4a.s32.u32 %r1, %r2, %r3, %r4; exit`, "; ") {
		statement = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(statement), ";"))
		require.NoError(t, Lint(lintHead+statement+";"+lintTail), statement)
	}
	require.NoError(t, Lint(lintHead+"{\n.reg .b32 lo, hi; mov.b32 lo, %r1; { add.u32 %r1, lo, lo; } }\nexit;"+lintTail))
	called := strings.Replace(lintHead, ".visible", ".func (.param .b32 r) f(.param .b32 f_param_0)\n{\nret;\n}\n.visible", 1)
	require.NoError(t, Lint(called+"{ .param .b32 r0; .param .b32 p0; st.param.b32 [p0], %r1; call.uni (r0), f, (p0); ld.param.b32 %r1, [r0]; }"+lintTail))
	silent := strings.Replace(lintHead, ".visible", ".func f(.param .b32 f_param_0)\n{\nret;\n}\n.visible", 1)
	require.NoError(t, Lint(silent+"{ .param .b32 p0; st.param.b32 [p0], %r1; call.uni f, (p0); }"+lintTail))
	newer := strings.NewReplacer("sm_80", "sm_90").Replace(lintHead)
	require.NoError(t, Lint(newer+"griddepcontrol.wait;"+lintTail))
}

func TestLintRefuses(t *testing.T) {
	for statement, want := range map[string]string{
		"add.u32x %r1, %r2, %r3":                      "add.u32x is no instruction that the check knows",
		"fma.f32 %f1, %f2, %f3, %f4":                  "fma.f32 is no instruction",
		"cvt.s32.f32 %r1, %f1":                        "cvt.s32.f32 is no instruction", // no rounding
		"ld.global.nc.L1::no_alocate.u32 %r1, [%rd1]": "no instruction",
		"griddepcontrol.wait":                         "griddepcontrol.wait needs .version 7.8 and sm_90",
		"add.u32 %r1, %r2":                            "2 operands, want 3",
		"add.u32 %r1, %r2, %r3, %r4":                  "4 operands, want 3",
		"add.u32 %r1, , %r3":                          "operand 2: nothing",
		"add.u32 %r1, %r2, %r20":                      "operand 3: %r20 is not declared",
		"add.u32 %r1, %r2, %x":                        "%x is not declared",
		"add.u32 %r1, %r2, %rd1":                      "operand 3: %rd1 is .b64, want .u32",
		"add.rn.f32 %f1, %f2, %rs1":                   "%rs1 is .b16, want .f32",
		"add.u32 %r1, %f1, %r2":                       "%f1 is .f32, want .u32",
		"add.u32 %r1, %p1, %r2":                       "%p1 is .pred, want .u32",
		"add.u32 %r1, {%r1}, %r2":                     "want one register or constant",
		"mul.wide.u32 %r1, %r2, %r3":                  "operand 1: %r1 is .b32, want .u64",
		"setp.eq.u32 %r1, %r2, %r3":                   "operand 1: %r1 is .b32, want .pred",
		"setp.eq.u32 %p1|%r1, %r2, %r3":               "%r1 is .b32, want .pred",
		"shfl.sync.up.b32 %r1|%r2, %r2, 1, 0, -1":     "%r2 is .b32, want .pred",
		"selp.u32 %r1, %r2, %r3, %r4":                 "operand 4: %r4 is .b32, want .pred",
		"shl.b64 %rd1, %rd2, %rd3":                    "operand 3: %rd3 is .b64, want .u32",
		"mov.u16 %rs1, table":                         "table is a variable, whose address has no type u16",
		"ld.global.u32 %rs1, [%rd1]":                  "%rs1 is .b16, want .u32",
		"ld.global.u32 %r1, %rd1":                     "%rd1, want an address in brackets",
		"ld.global.u32 %r1, [%rd9]":                   "%rd9 is not declared",
		"ld.global.u32 %r1, [nowhere]":                "nowhere is not declared",
		"ld.global.u32 %r1, [%f1]":                    "%f1 is .f32, want an address of 32 or 64 bits",
		"ld.global.u32 %r1, [%rd1 4]":                 "want an offset after + or -",
		"ld.global.v4.u32 {%r1, %r2}, [%rd1]":         "2 elements, want 4",
		"ld.global.v2.u32 %r1, [%rd1]":                "want a list in braces",
		"ld.global.v2.u32 {%r1, %p1}, [%rd1]":         "%p1 is .pred, want .u32",
		"call.uni (part), g, (part)":                  "operand 2: g is no function",
		"call.uni (part), table, (%r1)":               "operand 3: %r1 is not declared",
		"bra $L__nowhere":                             "a jump to $L__nowhere, which is no label of the function",
		"@%r1 bra $L__end":                            "the guard is no declared predicate",
		"@%p7 bra $L__end":                            "the guard is no declared predicate",
		"@%p1":                                        "the guard is no declared predicate",
		"{ .reg .b32 lo; } mov.b32 lo, %r1":           "lo is not declared",
		".reg .b31 %x":                                "want .reg, a type and names",
	} {
		err := Lint(lintHead + statement + ";" + lintTail)
		require.ErrorContains(t, err, want, statement)
		require.ErrorContains(t, err, "PTX line 15: ", statement)
	}
	require.ErrorContains(t, Lint(lintHead), "the text ends inside a function")
	require.ErrorContains(t, Lint(""), "want all three")
	err := Lint(lintHead + strings.Repeat("none;\n", 100) + lintTail)
	require.ErrorContains(t, err, "more problems are not listed")
	require.Equal(t, maxProblems+1, strings.Count(err.Error(), "\n")+1)
}

// TestForms: no row hides a later one, and each row has a type where it needs one.
func TestForms(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range forms {
		require.False(t, seen[f.pattern], f.pattern)
		seen[f.pattern] = true
		require.Empty(t, strings.Trim(f.operands, "trTwsipaldmLPf_24?"), f.pattern)
		require.Positive(t, f.version*f.target, fmt.Sprint(f.form))
	}
}
