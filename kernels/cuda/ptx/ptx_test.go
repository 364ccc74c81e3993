package ptx

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

func read(t testing.TB, name string) string {
	data, err := os.ReadFile("testdata/" + name)
	require.NoError(t, err)
	return string(data)
}

func TestParseNVCC(t *testing.T) {
	f, err := Parse(read(t, "nvcc.ptx"))
	require.NoError(t, err)
	require.Equal(t, &File{Version: "9.0", Target: "sm_90a", AddressSize: 64, Entries: []Entry{
		{"gemv", []Param{{"gemv_param_0", "u64", 8, 8}, {"gemv_param_1", "u32", 4, 4}, {"gemv_param_2", "u64", 8, 8},
			{"gemv_param_3", "f32", 4, 4}, {"gemv_param_4", "b8", 24, 8}, {"gemv_param_5", "s32", 4, 4}}},
		{"nothing", nil},
		{"empty", nil},
	}}, f)
	require.Equal(t, []int{0, 8, 16, 24, 32, 56}, f.Entries[0].Offsets())
	require.Equal(t, 60, f.Entries[0].Size())
	require.Zero(t, f.Entries[1].Size())
}

// TestParseClang reads what clang 16 made of a kernel and of one with a struct and
// small integers.
func TestParseClang(t *testing.T) {
	f, err := Parse(read(t, "clang16.ptx"))
	require.NoError(t, err)
	require.Equal(t, "7.0", f.Version)
	require.Equal(t, "sm_80", f.Target)
	require.Len(t, f.Entries, 2)
	require.Equal(t, []Param{{"add_param_0", "u64", 8, 8}, {"add_param_1", "u64", 8, 8}, {"add_param_2", "u32", 4, 4}, {"add_param_3", "f32", 4, 4}}, f.Entries[0].Params)
	require.Equal(t, []int{0, 16, 24, 32}, f.Entries[1].Offsets())
	require.Equal(t, 33, f.Entries[1].Size())
}

const head = ".version 7.8\n.target sm_80\n.address_size 64\n"

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       `PTX line 1: the text has .version "", .target "" and .address_size 0, want all three`,
		".version 7.8\n.target sm_80\n":          `.address_size 0, want all three`,
		".address_size x":                        `PTX line 1: "x", want a number`,
		head + "/* no end":                       "PTX line 4: a comment without an end",
		head + ".file 1 \"no end\n":              "PTX line 4: a string without an end",
		head + ".entry":                          `PTX line 4: "" after .entry, want a name`,
		head + ".entry (":                        `"(" after .entry, want a name`,
		head + ".entry f(\n.reg .u64 x)":         `PTX line 5: ".reg" in the parameters of f, want .param`,
		head + ".entry f(.param .u64 x":          `"" after parameter x of f, want a comma`,
		head + ".entry f(.param .u64 x,":         `"" in the parameters of f, want .param`,
		head + ".entry f(.param .u64 x,)":        `")" in the parameters of f, want .param`,
		head + ".entry f(.param .u64 x y)":       `"y" after parameter x of f`,
		head + ".entry f(.param .u64)":           `")" in a parameter, want a type and a name`,
		head + ".entry f(.param x)":              `"x" in a parameter, want a type`,
		head + ".entry f(.param .v64 x)":         `".v64" in a parameter`,
		head + ".entry f(.param .u64 .u32 x)":    `".u32" in a parameter`,
		head + ".entry f(.param .align 3 .b8 x)": `.align 3, want a power of two`,
		head + ".entry f(.param .b8 x[)":         `")", want a number`,
		head + ".entry f(.param .b8 x[4)":        `")" after the length of x, want a closing bracket`,
		head + ".entry f(.param .b8 x[40000])":   `40000 bytes of parameters of f, want at most 32764`,
		head + ".entry f(.param .b8 x[9999999])": `"9999999", want a number up to 1048576`,
		head + ".entry f()\n{ret;}\n.entry f {}": "PTX line 6: entry f is there twice",
	} {
		_, err := Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestCheck(t *testing.T) {
	f, err := Parse(head + ".entry a(.param .u64 p, .param .u32 n, .param .f32 x, .param .u64 q)\n{}\n.entry b\n{}\n")
	require.NoError(t, err)
	good := Table{"a": {Ptr, I32, F32, U64}, "b": nil}
	require.NoError(t, f.Check(good))
	for _, c := range []struct {
		table Table
		want  string
	}{
		{Table{"a": good["a"]}, "entry b() is not in the launch table"},
		{Table{"a": good["a"], "b": nil, "c": nil}, "c is in the launch table and no entry of the PTX"},
		{Table{"b": nil, "a": {Ptr, U32, F32}}, "entry a has 4 parameters (u64, u32, f32, u64), and the launch table 3 [ptr u32 f32]"},
		{Table{"b": nil, "a": {Ptr, U32, U32, Ptr}}, "entry a, parameter 2: .f32 of 4 bytes at offset 12, and in the launch table u32 of 4 at 12"},
		{Table{"b": nil, "a": {U32, U32, F32, Ptr}}, "entry a, parameter 0: .u64 of 8 bytes at offset 0, and in the launch table u32 of 4 at 0"},
		{Table{"b": nil, "a": {Ptr, F32, F32, Ptr}}, "entry a, parameter 1: .u32"},
		{Table{"b": nil, "a": {Ptr, U32, Kind(9), Ptr}}, "launch table kind 9 of 0"},
	} {
		require.ErrorContains(t, f.Check(c.table), c.want)
	}
	require.ErrorContains(t, f.Check(nil), "entry a(u64, u32, f32, u64) is not in the launch table\nentry b() is not", "every difference is told")

	whole, err := Parse(head + ".entry s(.param .align 4 .b8 s[4])\n{}\n")
	require.NoError(t, err)
	require.ErrorContains(t, whole.Check(Table{"s": {U32}}), "parameter 0: .b8 of 4 bytes", "a struct is no scalar")
}

// TestArgsAsDeclared: the binding packs arguments as the parameter list of an
// entry lays them out, for lists drawn at random.
func TestArgsAsDeclared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.SliceOfN(rapid.SampledFrom([]Kind{Ptr, U64, U32, I32, F32}), 0, 40).Draw(t, "row")
		var text strings.Builder
		text.WriteString(head + ".visible .entry k(")
		var args driver.Args
		var ends []int
		for i, k := range row {
			if i > 0 {
				text.WriteByte(',')
			}
			text.WriteString(" .param ." + kinds[k].types[0] + " p" + strings.Repeat("x", i))
			pack(&args, k)
			ends = append(ends, args.Len())
		}
		f, err := Parse(text.String() + ")\n{\nret;\n}\n")
		require.NoError(t, err)
		require.NoError(t, f.Check(Table{"k": row}))
		e := f.Entries[0]
		require.Equal(t, e.Size(), args.Len())
		for i, offset := range e.Offsets() {
			require.Equal(t, ends[i], offset+row[i].Size())
		}
	})
}

// pack appends an argument of a kind.
func pack(a *driver.Args, k Kind) {
	switch k {
	case Ptr:
		a.Ptr(1)
	case U64:
		a.U64(1)
	case U32:
		a.U32(1)
	case I32:
		a.I32(1)
	case F32:
		a.F32(1)
	}
}

func TestInexact(t *testing.T) {
	found, err := Inexact(read(t, "nvcc.ptx"))
	require.NoError(t, err)
	require.Equal(t, []string{"div.full.f32", "ex2.approx.ftz.f32"}, found)
	found, err = Inexact(read(t, "clang16.ptx"))
	require.NoError(t, err)
	require.Empty(t, found)
	found, err = Inexact(".file 1 \"a.approx.cu\" // x.ftz.f32\n")
	require.NoError(t, err)
	require.Empty(t, found)
}

func FuzzParse(f *testing.F) {
	f.Add(read(f, "nvcc.ptx"))
	f.Add(read(f, "clang16.ptx"))
	f.Add(head + ".entry f(.param .align 8 .b8 x[8], .param .u64 .ptr .align 1 y){}")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse(text)
		if err != nil {
			require.Error(t, Lint(text))
			return
		}
		Lint(text) // must end
		for _, e := range file.Entries {
			require.NotEmpty(t, e.Name)
			offsets := e.Offsets()
			for i, p := range e.Params {
				require.NotEmpty(t, p.Name)
				require.Zero(t, offsets[i]%p.Align)
				require.LessOrEqual(t, offsets[i]+p.Size, e.Size())
			}
		}
		require.Error(t, file.Check(Table{"no such entry": nil}))
	})
}
