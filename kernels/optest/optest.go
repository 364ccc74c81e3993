// Package optest is the one test body that every implementation of kernels.Ops runs: it compares each operation with
// kernels/ref, bit for bit, over shapes around every width that matters and inputs chosen to hurt.
//
//	func TestOps(t *testing.T) { optest.Run(t, cpu.New()) }
//	func FuzzOps(f *testing.F) { optest.Fuzz(f, cpu.New()) }
//
// There is no tolerance: spec/numerics.md determines every bit but those of a NaN. Where the system can, each buffer
// ends at an unreadable page, so that reading one element too many is a fault, and outputs stand between sentinels.
package optest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// Run compares impl with kernels/ref on every operation, and with the vectors of the specification. With -short it leaves
// out the largest shapes.
func Run(t *testing.T, impl kernels.Ops) {
	t.Run("Golden", func(t *testing.T) { Golden(t, impl) })
	c := &comparison{impl: impl, ref: ref.New()}
	for _, op := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"Norm", c.norm},
		{"NormQuant", c.normQuant},
		{"Ternary", c.ternary},
		{"Dense", c.dense},
		{"DotInt16", c.dotInt16},
		{"EmbedRow", c.embedRow},
		{"Rope", c.rope},
		{"Attention", c.attention},
		{"Gate", c.gate},
		{"Add", c.add},
		{"Panics", c.panics},
	} {
		t.Run(op.name, op.run)
	}
}

// Fuzz lets the fuzzer choose the operation, the shape and the inputs of the comparison, which every implementation
// has to pass.
func Fuzz(f *testing.F, impls ...kernels.Ops) {
	for op := range uint8(8) {
		f.Add(uint64(op), op, uint16(33), uint16(7), uint8(op))
		f.Add(uint64(op), op, uint16(1025), uint16(65), uint8(0))
	}
	f.Fuzz(func(t *testing.T, seed uint64, op uint8, long, short uint16, pattern uint8) {
		for _, impl := range impls {
			c := &comparison{impl: impl, ref: ref.New()}
			c.one(t, seed, op, int(long%2100)+1, int(short%200)+1, patterns[int(pattern)%len(patterns)])
		}
	})
}

// one compares one operation on a shape that n and k determine.
func (c *comparison) one(t *testing.T, seed uint64, op uint8, n, k int, p string) {
	switch op % 8 {
	case 0:
		c.oneNorm(t, seed, n, normKinds[k%len(normKinds)], p)
	case 1:
		c.oneNormQuant(t, seed, n, normKinds[k%len(normKinds)], p)
		c.oneNormQuant(t, seed, n, "none", p)
	case 2:
		c.oneTernary(t, seed, ternaryCase{rows: k%23 + 1, cols: n, tokens: k%19 + 1, group: k % 4 * 128, scales: scaleKinds[k%2], bias: k%5 == 0, trits: "random", acts: p})
	case 3:
		c.oneDense(t, seed, k%5+1, n, k%7+1, dtypes[k%4], p)
	case 4:
		c.oneEmbedRow(t, seed, n, dtypes[k%4])
	case 5:
		c.oneRope(t, seed, k%4+1, 2*(n%80+1), n)
	case 6:
		x := attentionCase{format: kernels.KVFormats[n/130%4], n: k, d: n%130 + 1, kvHeads: k%3 + 1, rows: n%5%k + 1, heads: k%6 + 1, pattern: p}
		if n%3 == 0 {
			x.window, x.sinks = n%90+1, n%7*12
		}
		c.oneAttention(t, seed, x)
	case 7:
		c.oneGate(t, seed, n, kernels.Activation(k%2)+kernels.SiLU, p)
	}
}

// comparison holds the implementation under test and the one that is right.
type comparison struct {
	impl, ref kernels.Ops
	onlyCodes bool // of the products of ternary matrices
}

func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x7472697474)) }

// sentinel marks elements that an operation must leave alone.
const sentinel = 0x7fc0dead

// output is a guarded buffer full of sentinels.
func output(a *arena, n int) []float32 {
	y := floats(a, n)
	for i := range y {
		y[i] = math.Float32frombits(sentinel)
	}
	return y
}

// same compares two outputs by their bits; a NaN equals every NaN but the sentinel.
func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		g, w := math.Float32bits(got[i]), math.Float32bits(want[i])
		if g == w || g != sentinel && w != sentinel && got[i] != got[i] && want[i] != want[i] {
			continue
		}
		t.Fatalf("%s: element %d of %d is %v (%#08x), want %v (%#08x)", what, i, len(want), got[i], g, want[i], w)
	}
}

func sameError(t *testing.T, what string, got, want error) {
	t.Helper()
	var nf *kernels.NonFiniteError
	if (got == nil) != (want == nil) || got != nil && !errors.As(got, &nf) {
		t.Fatalf("%s: error is %v, want one like %v", what, got, want)
	}
}

// sameRange compares errors of StoreKV.
func sameRange(t *testing.T, what string, got, want error) {
	t.Helper()
	var g, w *kernels.KVRangeError
	if (got == nil) != (want == nil) || got != nil && (!errors.As(got, &g) || !errors.As(want, &w) || g.Format != w.Format || g.What != w.What || g.Index != w.Index) {
		t.Fatalf("%s: error is %v, want %v", what, got, want)
	}
}

func unchanged[T comparable](t *testing.T, what string, now, before []T) {
	t.Helper()
	for i := range before {
		if now[i] != before[i] && before[i] == before[i] {
			t.Fatalf("%s: input element %d was changed from %v to %v", what, i, before[i], now[i])
		}
	}
}

// panics holds an implementation to checking its arguments; which arguments are wrong is the Check functions' own test.
func (c *comparison) panics(t *testing.T) {
	x, y := make([]float32, 3), make([]float32, 2)
	for name, call := range map[string]func(){
		"Norm":      func() { _ = c.impl.Norm(y, x, &kernels.Norm{Kind: kernels.RMS, Weight: x}) },
		"NormQuant": func() { _, _ = c.impl.NormQuant(make([]int8, 3), x, nil) },
		"TernaryInt8": func() {
			c.impl.TernaryInt8(y, 2, &kernels.Ternary{Rows: 2, Cols: 3, Scales: x[:1]}, &kernels.Acts{}, 0, 2)
		},
		"TernaryFloat": func() { c.impl.TernaryFloat(y, 2, &kernels.Ternary{Rows: 2, Cols: 3, Scales: x[:1]}, x, 1, 3, 0, 2) },
		"Dense":        func() { c.impl.Dense(y, 2, &kernels.Dense{Rows: 2, Cols: 3, Type: kernels.F32}, x, 1, 3, 0, 2) },
		"EmbedRow": func() {
			c.impl.EmbedRow(y, &kernels.Dense{Rows: 1, Cols: 3, Type: kernels.I8, Data: make([]byte, 3)}, 0)
		},
		"DotInt16": func() { c.impl.DotInt16(nil, nil, make([]int16, 33), 0, 0) },
		"Rope":     func() { c.impl.Rope(x, 2, x[:1], x[:1]) },
		"StoreKV":  func() { _ = c.impl.StoreKV(kernels.NewPage(kernels.KVF32, 1, 3), 0, x, y) },
		"Attention": func() {
			c.impl.Attention(x, &kernels.Queries{Rows: 1, Heads: 1, Pages: []*kernels.Page{kernels.NewPage(kernels.KVF32, 1, 1)}}, 0, 1)
		},
		"MergeAttention": func() { c.impl.MergeAttention(x, x, 3, 1) },
		"Gate":           func() { c.impl.Gate(y, x, x, kernels.SiLU) },
		"Add":            func() { c.impl.Add(x, y) },
	} {
		func() {
			defer func() {
				if r := recover(); r == nil {
					t.Errorf("%s with wrong sizes does not panic", name)
				} else if _, ok := r.(string); !ok {
					t.Errorf("%s with wrong sizes panics with %v, want the message of its Check function", name, r)
				}
			}()
			call()
		}()
	}
}

func label(format string, args ...any) string { return fmt.Sprintf(format, args...) }
