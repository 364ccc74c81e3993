package ref

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
)

// The golden values of the specification's section 16 are this package's results; those of sampling are not its
// business.
func TestSpecificationGoldenValues(t *testing.T) {
	text, err := os.ReadFile("../../spec/numerics.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## 16. Golden values\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	seen := map[string]int{}
	for _, line := range strings.Split(section, "\n") {
		if !strings.HasPrefix(line, "    ") {
			continue
		}
		left, want, found := strings.Cut(strings.TrimSpace(line), " = ")
		require.True(t, found, line)
		name, rest, _ := strings.Cut(left, " ")
		seen[name]++
		if name == "fma" || name == "exp" || name == "silu" {
			x := parse(t, rest)
			var got float32
			switch name {
			case "fma":
				got = FMA32(x[0], x[1], x[2])
			case "exp":
				got = Exp32(x[0])
			case "silu":
				got = SiLU(x[0])
			}
			require.Equal(t, want, show(got), line)
			continue
		}
		if name == "philox" || name == "sample" {
			continue
		}
		if name == "half" {
			require.Equal(t, want, fmt.Sprintf("%04x", narrowF16(parse(t, rest)[0])), line)
			continue
		}
		format := "f32"
		if name == "window" {
			format, rest, _ = strings.Cut(rest, " ")
		}
		var n []int
		for _, f := range strings.Fields(rest) {
			v, err := strconv.Atoi(f)
			require.NoError(t, err, line)
			n = append(n, v)
		}
		require.Equal(t, want, golden16(t, name, format, n), line)
	}
	for _, name := range []string{"fma", "exp", "silu", "sum", "sumsq", "rmsquant", "rope", "attention", "window", "half", "int8", "int4", "philox", "sample"} {
		require.NotZero(t, seen[name], name)
	}
	require.Len(t, seen, 14)
}

func golden16(t *testing.T, name, format string, n []int) string {
	r := rng(n[0])
	switch name {
	case "sum":
		return show(Sum(r.floats(n[1], 20)))
	case "sumsq":
		x := r.floats(n[1], 20)
		return show(Dot(x, x))
	case "rmsquant":
		x := r.floats(n[1], 20)
		w := make([]float32, n[1])
		for i := range w {
			w[i] = 1
		}
		q := make([]int8, kernels.PadCols(n[1]))
		a, err := New().NormQuant(q, x, &kernels.Norm{Kind: kernels.RMS, Weight: w, Eps: 0x1.4f8b58p-17})
		require.NoError(t, err)
		s := show(a)
		for _, c := range q[:5] {
			s += " " + strconv.Itoa(int(c))
		}
		return s
	case "rope":
		cos, sin := make([]float32, n[1]/2), make([]float32, n[1]/2)
		require.NoError(t, RopeAngles(cos, sin, n[2], kernels.RopeSpec{Type: kernels.RopeDefault, Theta: float64(n[0])}))
		return show(append(cos, sin...)...)
	case "attention":
		return show(goldenAttention(t, &r, n[1], n[2])...)
	case "window":
		f, err := kernels.ParseKVFormat(format)
		require.NoError(t, err)
		return show(goldenWindow(t, &r, f, n[1], n[2], n[3], n[4])...)
	case "int8", "int4":
		scale, codes, affine, pairs := stored(t, r.floats(n[1], 22))
		if name == "int8" {
			return scale + " " + join(codes)
		}
		return affine + " " + join(pairs)
	}
	require.Fail(t, "unknown golden value", name)
	return ""
}

func join(n []int) string { return strings.Trim(fmt.Sprint(n), "[]") }
