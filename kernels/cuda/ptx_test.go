package cuda

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels/cuda/ptx"
)

// loose are instructions that the driver's compiler may fuse: a sum or a product that does not say how it rounds.
var loose = regexp.MustCompile(`\b(add|sub|mul|mad|div|sqrt)\.f32`)

// corrected are approximations that a step makes exact by their remainders: ordinary_inverse and ordinary_root of src/numerics.cuh.
var corrected = []string{"rcp.approx.ftz.f32", "rsqrt.approx.ftz.f32"}

// TestPTX holds what is checked in to its sources, to the launch table, and to exact instructions.
func TestPTX(t *testing.T) {
	m, err := ptx.ReadManifest(os.DirFS("."))
	require.NoError(t, err)
	require.NoError(t, m.Check(os.DirFS(".")))
	kinds := map[rune]ptx.Kind{'p': ptx.Ptr, 'U': ptx.U64, 'u': ptx.U32, 'f': ptx.F32}
	tables := map[string]ptx.Table{}
	for k := range numKernels {
		row := table[k]
		var list []ptx.Kind
		size := 0
		for _, p := range row.params {
			list = append(list, kinds[p])
		}
		for _, file := range []string{row.file + ".ptx", row.file + "_sm90.ptx"} {
			if tables[file] == nil {
				tables[file] = ptx.Table{}
			}
			tables[file][row.name] = list
		}
		for _, kind := range list {
			size = (size+kind.Size()-1)/kind.Size()*kind.Size() + kind.Size()
		}
		require.Equal(t, size, paramBytes(row.params), row.name)
	}
	require.Len(t, m.Units, 26)
	for _, u := range m.Units {
		text, err := compiled.ReadFile("ptx/" + u.File)
		require.NoError(t, err)
		f, err := ptx.Parse(string(text))
		require.NoError(t, err)
		require.NoError(t, f.Check(tables[u.File]), u.File)
		require.NoError(t, ptx.Lint(string(text)), u.File)
		inexact, err := ptx.Inexact(string(text))
		require.NoError(t, err)
		switch {
		case strings.HasPrefix(u.File, "fast"): // which says that it is not exact
		case strings.HasPrefix(u.File, "step"):
			require.Subset(t, corrected, inexact, u.File)
		default:
			require.Empty(t, inexact, u.File)
		}
		require.Empty(t, loose.FindString(string(text)), u.File)
		require.NotContains(t, string(text), ".local", "%s: an array that is not in registers", u.File)
	}
}
