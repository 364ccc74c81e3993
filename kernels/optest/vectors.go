package optest

import (
	"math"
	"slices"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// lengths surround the widths of tiles, lanes and blocks; the last is a model's hidden size.
var lengths = []int{1, 3, 4, 5, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129, 257, 1023, 1024, 1025, 2049, 2560}

// normKinds name the normalizations; the huge weight overflows on some inputs, which has to be an error.
var normKinds = []string{"rms", "rms with a huge weight", "layer", "layer with bias"}

func normOf(a *arena, n int, kind string, seed uint64) *kernels.Norm {
	r := random(seed + 1)
	norm := &kernels.Norm{Kind: kernels.RMS, Weight: floats(a, n), Eps: 1e-5}
	fill(norm.Weight, "random", r)
	switch kind {
	case "rms with a huge weight":
		norm.Weight[r.IntN(n)] = math.MaxFloat32
	case "layer":
		norm.Kind = kernels.Layer
	case "layer with bias":
		norm.Kind = kernels.Layer
		norm.Bias = floats(a, n)
		fill(norm.Bias, "random", r)
	}
	return norm
}

func (c *comparison) norm(t *testing.T) {
	for _, n := range lengths {
		for _, kind := range normKinds {
			for i, p := range patterns {
				c.oneNorm(t, uint64(n*100+i), n, kind, p)
			}
		}
	}
}

func (c *comparison) oneNorm(t *testing.T, seed uint64, n int, kind, pattern string) {
	a := new(arena)
	defer a.free()
	what := label("Norm, %s of %d, %s", kind, n, pattern)
	norm := normOf(a, n, kind, seed)
	x, got, want := floats(a, n), output(a, n), output(a, n)
	fill(x, pattern, random(seed))
	before := slices.Clone(x)
	errGot, errWant := c.impl.Norm(got, x, norm), c.ref.Norm(want, x, norm)
	sameError(t, what, errGot, errWant)
	unchanged(t, what, x, before)
	if errWant == nil {
		same(t, what, got, want)
		sameError(t, what, c.impl.Norm(x, x, norm), nil)
		same(t, what+", in place", x, want)
	}
}

func (c *comparison) normQuant(t *testing.T) {
	for _, n := range lengths {
		for _, kind := range append(normKinds, "none") {
			for i, p := range patterns {
				c.oneNormQuant(t, uint64(n*100+i), n, kind, p)
			}
		}
	}
}

func (c *comparison) oneNormQuant(t *testing.T, seed uint64, n int, kind, pattern string) {
	a := new(arena)
	defer a.free()
	what := label("NormQuant, %s of %d, %s", kind, n, pattern)
	var norm *kernels.Norm
	if kind != "none" {
		norm = normOf(a, n, kind, seed)
	}
	x := floats(a, n)
	fill(x, pattern, random(seed))
	got, want := int8s(a, kernels.PadCols(n)), int8s(a, kernels.PadCols(n))
	for i := range got {
		got[i], want[i] = 99, 99
	}
	before := slices.Clone(x)
	aGot, errGot := c.impl.NormQuant(got, x, norm)
	aWant, errWant := c.ref.NormQuant(want, x, norm)
	sameError(t, what, errGot, errWant)
	unchanged(t, what, x, before)
	if errWant == nil {
		same(t, what+", the maximum", []float32{aGot}, []float32{aWant})
		for i := range want {
			if got[i] != want[i] {
				t.Fatalf("%s: code %d is %d, want %d", what, i, got[i], want[i])
			}
		}
	}
}

func (c *comparison) rope(t *testing.T) {
	for _, headDim := range []int{2, 4, 6, 16, 30, 32, 34, 64, 66, 100, 128, 256} {
		for _, heads := range []int{0, 1, 2, 5} {
			for _, pos := range []int{0, 1, 63, 4095, 1<<24 - 1} {
				c.oneRope(t, uint64(headDim+heads), heads, headDim, pos)
			}
		}
	}
}

func (c *comparison) oneRope(t *testing.T, seed uint64, heads, headDim, pos int) {
	a := new(arena)
	defer a.free()
	cos, sin := floats(a, headDim/2), floats(a, headDim/2)
	if err := ref.RopeAngles(cos, sin, pos, kernels.RopeSpec{Type: kernels.RopeDefault, Theta: 1e4}); err != nil {
		t.Fatal(err)
	}
	got, want := floats(a, heads*headDim), floats(a, heads*headDim)
	if heads > 0 {
		fill(got, "random", random(seed))
		copy(want, got)
	}
	c.impl.Rope(got, headDim, cos, sin)
	c.ref.Rope(want, headDim, cos, sin)
	same(t, label("Rope, %d heads of %d at %d", heads, headDim, pos), got, want)
}

func (c *comparison) gate(t *testing.T) {
	for _, n := range append([]int{0}, lengths...) {
		for _, act := range []kernels.Activation{kernels.SiLU, kernels.ReLU2} {
			for i, p := range patterns {
				c.oneGate(t, uint64(n*100+i), n, act, p)
			}
		}
	}
	// The whole range of exp, both ends included.
	g := make([]float32, 0, 40000)
	for x := -100.0; x < 100; x += 0.005 {
		g = append(g, float32(x))
	}
	inf := float32(math.Inf(1))
	g = append(g, inf, -inf, float32(math.NaN()), 0, float32(math.Copysign(0, -1)), 87.33654, 87.33655, -88.72283, -88.72284)
	u := make([]float32, len(g))
	fill(u, "ones", nil)
	got, want := make([]float32, len(g)), make([]float32, len(g))
	for _, act := range []kernels.Activation{kernels.SiLU, kernels.ReLU2} {
		c.impl.Gate(got, g, u, act)
		c.ref.Gate(want, g, u, act)
		same(t, label("Gate, %v over the range of exp", act), got, want)
	}
}

func (c *comparison) oneGate(t *testing.T, seed uint64, n int, act kernels.Activation, pattern string) {
	a := new(arena)
	defer a.free()
	what := label("Gate, %v of %d, %s", act, n, pattern)
	g, u, got, want := floats(a, n), floats(a, n), output(a, n), output(a, n)
	if n > 0 {
		r := random(seed)
		fill(g, pattern, r)
		fill(u, pattern, r)
	}
	c.ref.Gate(want, g, u, act)
	c.impl.Gate(got, g, u, act)
	same(t, what, got, want)
	gBefore := slices.Clone(g)
	c.impl.Gate(g, g, u, act)
	same(t, what+", h is g", g, want)
	c.impl.Gate(u, gBefore, u, act)
	same(t, what+", h is u", u, want)
}

func (c *comparison) add(t *testing.T) {
	for _, n := range append([]int{0}, lengths...) {
		for i, p := range patterns {
			a := new(arena)
			got, want, y := floats(a, n), floats(a, n), floats(a, n)
			if n > 0 {
				r := random(uint64(n*100 + i))
				fill(got, p, r)
				fill(y, p, r)
				copy(want, got)
			}
			c.impl.Add(got, y)
			c.ref.Add(want, y)
			same(t, label("Add of %d, %s", n, p), got, want)
			a.free()
		}
	}
}
