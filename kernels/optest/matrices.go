package optest

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// scaleKinds name how scales are given where there are no groups.
var scaleKinds = []string{"tensor", "row"}

type ternaryCase struct {
	rows, cols, tokens int
	group              int // columns; 0: scales says how
	scales             string
	bias               bool
	trits, acts        string // patterns
}

func (c *comparison) ternary(t *testing.T) {
	seed := uint64(0)
	for _, rows := range []int{1, 3, 4, 5, 9} {
		for _, cols := range lengths {
			for _, tokens := range []int{1, 2, 5} {
				for _, group := range []int{0, 128, 256, 1280} {
					seed++
					c.oneTernary(t, seed, ternaryCase{rows, cols, tokens, group, scaleKinds[seed%2], seed%3 == 0, "random", "random"})
				}
			}
		}
	}
	for _, trits := range tritPatterns {
		for _, acts := range patterns {
			for _, cols := range []int{1, 129, 1025} {
				seed++
				c.oneTernary(t, seed, ternaryCase{5, cols, 2, int(seed%2) * 128, "row", seed%3 == 0, trits, acts})
			}
		}
	}
	// Numbers of tokens and rows around the blocks of matrix kernels.
	for _, tokens := range []int{3, 4, 6, 7, 8, 9, 11, 13, 15, 16, 17, 31, 32, 33, 47, 65} {
		for _, rows := range []int{15, 16, 17} {
			seed++
			c.oneTernary(t, seed, ternaryCase{rows, []int{127, 130, 256, 300}[seed%4], tokens, int(seed%3/2) * 128, scaleKinds[seed%2], seed%3 == 0, "random", "random"})
		}
	}
	// And those around panels of rows, with columns of several panels.
	for _, tokens := range []int{6, 12, 13, 25, 33, 65} {
		for _, rows := range []int{31, 32, 33, 65} {
			seed++
			c.oneTernary(t, seed, ternaryCase{rows, []int{1024, 1025, 1200, 2100}[seed%4], tokens, 0, scaleKinds[seed%2], seed%3 == 0, "random", "random"})
		}
	}
	// And around blocks of panels.
	for _, rows := range []int{255, 257, 525} {
		seed++
		c.oneTernary(t, seed, ternaryCase{rows, 1160, 7, 0, scaleKinds[seed%2], seed%3 == 0, "random", "random"})
	}
	// Rows around what a kernel for one token takes at once, and shapes of real models.
	for _, rows := range []int{13, 16, 17, 28, 63, 64, 65, 130, 1021, 1024, 1025, 1045} {
		seed++
		c.oneTernary(t, seed, ternaryCase{rows, []int{200, 640, 1400}[seed%3], 1, int(seed%2) * 128, scaleKinds[seed%2], true, "random", "random"})
	}
	c.oneTernary(t, 1, ternaryCase{7, 384, 70, 0, "tensor", false, "random", "random"})
	c.oneTernary(t, 1, ternaryCase{20, 2560, 7, 1280, "row", false, "random", "random"})
	if !testing.Short() {
		c.oneTernary(t, 2, ternaryCase{640, 2560, 2, 0, "tensor", false, "random", "random"})
		c.oneTernary(t, 3, ternaryCase{64, 6912, 3, 0, "tensor", false, "random", "random"})
		c.oneTernary(t, 4, ternaryCase{64, 8640, 1, 0, "row", true, "random", "wide"})
	}
	// The greatest sums that int8 codes can reach: 16-bit accumulators must be emptied in time.
	for _, trits := range []string{"ones", "minus ones"} {
		for _, acts := range []string{"ones", "minus ones"} {
			c.oneTernary(t, 5, ternaryCase{4, 640, 7, 0, "tensor", false, trits, acts})
			c.oneTernary(t, 6, ternaryCase{1, 8704, 7, 0, "tensor", false, trits, acts})
			c.oneTernary(t, 7, ternaryCase{4, 16384, 1, 0, "tensor", false, trits, acts})
		}
	}
}

// oneTernary compares TernaryInt8 and, unless onlyCodes, TernaryFloat, whole and by parts.
func (c *comparison) oneTernary(t *testing.T, seed uint64, k ternaryCase) {
	a := new(arena)
	defer a.free()
	r := random(seed)
	w := ternaryMatrix(a, k.rows, k.cols, k.trits, r)
	w.Group = k.group
	switch {
	case k.group > 0:
		w.Scales = floats(a, k.rows*w.Groups())
	case k.scales == "row":
		w.Scales = floats(a, k.rows)
	default:
		w.Scales = floats(a, 1)
	}
	fill(w.Scales, "random", r)
	if k.bias {
		w.Bias = floats(a, k.rows)
		fill(w.Bias, "random", r)
	}

	ldx := k.cols + 3
	x := floats(a, (k.tokens-1)*ldx+k.cols)
	fill(x, k.acts, r)
	q := &kernels.Acts{M: k.tokens, K: k.cols, Stride: kernels.PadCols(k.cols)}
	q.Codes, q.Max = int8s(a, q.M*q.Stride), floats(a, q.M)
	row := make([]float32, k.cols)
	for m := range k.tokens {
		copy(row, x[m*ldx:])
		var err error
		if q.Max[m], err = c.ref.NormQuant(q.Token(m), row, nil); err != nil {
			fill(row, "random", r) // what is not finite has no codes
			if q.Max[m], err = c.ref.NormQuant(q.Token(m), row, nil); err != nil {
				t.Fatal(err)
			}
		}
	}

	for _, span := range spans(k.rows) {
		lo, hi, ldy := span[0], span[1], k.rows+2
		what := label("rows %d..%d of %+v", lo, hi, k)
		got, want := output(a, (k.tokens-1)*ldy+hi), output(a, (k.tokens-1)*ldy+hi)
		c.impl.TernaryInt8(got, ldy, w, q, lo, hi)
		c.ref.TernaryInt8(want, ldy, w, q, lo, hi)
		same(t, "TernaryInt8, "+what, got, want)

		if c.onlyCodes {
			continue
		}
		got, want = output(a, (k.tokens-1)*ldy+hi), output(a, (k.tokens-1)*ldy+hi)
		c.impl.TernaryFloat(got, ldy, w, x, k.tokens, ldx, lo, hi)
		c.ref.TernaryFloat(want, ldy, w, x, k.tokens, ldx, lo, hi)
		same(t, "TernaryFloat, "+what, got, want)
	}
}

// spans are the ranges of rows that a matrix is computed in: all, none, and the parts after and before row 4.
func spans(rows int) [][2]int {
	s := [][2]int{{0, rows}, {0, 0}}
	if rows > kernels.TileRows {
		s = append(s, [2]int{kernels.TileRows, rows}, [2]int{0, kernels.TileRows})
	}
	return s
}

func (c *comparison) dense(t *testing.T) {
	c.denseMidpoints(t)
	seed := uint64(0)
	for _, dt := range dtypes {
		for _, cols := range lengths {
			for _, rows := range []int{1, 2, 5} {
				seed++
				c.oneDense(t, seed, rows, cols, int(seed%3)+1, dt, "random")
			}
		}
		for tokens := 4; tokens < 10; tokens++ { // and rows around a block of them
			seed++
			c.oneDense(t, seed, 15+tokens%3, 60+tokens, tokens, dt, "random")
		}
		for _, rows := range []int{3, 4, 7, 11} { // that are read in several places at once
			for _, cols := range []int{32, 96, 1024, 2080} {
				seed++
				c.oneDense(t, seed, rows, cols, 1, dt, "random")
			}
		}
		for _, p := range patterns {
			for _, cols := range []int{1, 33, 1025} {
				seed++
				c.oneDense(t, seed, 3, cols, 2, dt, p)
			}
		}
	}
}

// denseMidpoints adds to each lane a product that misses half an ulp by one part in 2^46 or less: an emulated fma that
// rounds twice goes wrong here, and on random numbers hardly ever. In the second and third scale half an ulp is 2^-150,
// and in the third the sums themselves are subnormal.
func (c *comparison) denseMidpoints(t *testing.T) {
	const rows, cols = 4, 96 // equal rows
	for _, scale := range []struct{ first, pair int }{{0, 0}, {-126, -126}, {-131, -126}, {-140, -130}} {
		for seed := range uint64(20) {
			a := new(arena)
			r := random(seed)
			w := &kernels.Dense{Rows: rows, Cols: cols, Type: kernels.F32, Data: a.bytes(4 * rows * cols)}
			x := floats(a, cols)
			for i := range x {
				d := math.Ldexp(float64(r.IntN(16)), -23)
				u, v, exponent := 1+math.Ldexp(float64(r.IntN(1<<23)), -23), 1.0, scale.first
				if i >= kernels.Lanes {
					u, v, exponent = 1+d, (1-d)*float64(1-2*r.IntN(2)), scale.pair-24
				}
				x[i] = float32(math.Ldexp(u, exponent/2))
				binary.LittleEndian.PutUint32(w.Data[4*i:], math.Float32bits(float32(math.Ldexp(v, exponent-exponent/2))))
			}
			for row := 1; row < rows; row++ {
				copy(w.Data[4*row*cols:], w.Data[:4*cols])
			}
			got, want := output(a, rows), output(a, rows)
			c.impl.Dense(got, rows, w, x, 1, cols, 0, rows)
			c.ref.Dense(want, rows, w, x, 1, cols, 0, rows)
			same(t, label("Dense, products of half an ulp, scale %v, seed %d", scale, seed), got, want)
			a.free()
		}
	}
}

func (c *comparison) oneDense(t *testing.T, seed uint64, rows, cols, tokens int, dt kernels.DType, pattern string) {
	a := new(arena)
	defer a.free()
	r := random(seed)
	elements := pattern
	if pattern == "hostile" { // a file's weights are finite, activations may be anything
		elements = "wide"
	}
	w := denseMatrix(a, rows, cols, dt, elements, r)
	ldx, ldy := cols+1, rows+2
	x := floats(a, (tokens-1)*ldx+cols)
	fill(x, pattern, r)
	for _, span := range [][2]int{{0, rows}, {rows / 2, rows}, {0, 0}} {
		lo, hi := span[0], span[1]
		got, want := output(a, (tokens-1)*ldy+hi), output(a, (tokens-1)*ldy+hi)
		c.impl.Dense(got, ldy, w, x, tokens, ldx, lo, hi)
		c.ref.Dense(want, ldy, w, x, tokens, ldx, lo, hi)
		same(t, label("Dense, rows %d..%d of %d x %d, %d tokens, %v, %s", lo, hi, rows, cols, tokens, dt, pattern), got, want)
	}
}

func (c *comparison) embedRow(t *testing.T) {
	for _, dt := range dtypes {
		for _, cols := range lengths {
			c.oneEmbedRow(t, uint64(cols), cols, dt)
		}
	}
}

func (c *comparison) oneEmbedRow(t *testing.T, seed uint64, cols int, dt kernels.DType) {
	a := new(arena)
	defer a.free()
	w := denseMatrix(a, 3, cols, dt, "wide", random(seed))
	for row := range w.Rows {
		got, want := output(a, cols), output(a, cols)
		c.impl.EmbedRow(got, w, row)
		c.ref.EmbedRow(want, w, row)
		same(t, label("EmbedRow %d of %d columns, %v", row, cols, dt), got, want)
	}
}

// Products compares products of ternary matrices and codes of many tokens (TernaryInt8) at sizes around blocks of 64, 128, 160 and 256: for an
// implementation with kernels of several sizes, once for each, and with floats, those of TernaryFloat too.
func Products(t *testing.T, impl kernels.Ops, floats bool) {
	c := &comparison{impl: impl, ref: ref.New(), onlyCodes: !floats}
	seed := uint64(1000)
	for _, rows := range []int{4, 252, 260, 524} {
		for _, tokens := range []int{33, 64, 65, 128, 129, 160, 161, 321} {
			seed++
			c.oneTernary(t, seed, ternaryCase{rows, []int{100, 128, 300, 1290}[seed%4], tokens, 0, scaleKinds[seed%2], seed%3 == 0, "random", "random"})
		}
	}
}
