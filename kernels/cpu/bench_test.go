package cpu_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
)

// The benchmarks use the shapes of bitnet-b1.58-2B-4T. Matrices of one token are as many as it takes
// to read them from memory and not from a cache.

const bytesFromMemory = 96 << 20

// each runs a benchmark for every implementation but the reference.
func each(b *testing.B, run func(b *testing.B, ops kernels.Ops)) {
	for _, ops := range cpu.Implementations()[1:] {
		b.Run(ops.Name(), func(b *testing.B) { run(b, ops) })
	}
}

func benchTernary(rows, cols, group int, r *rand.Rand) *kernels.Ternary {
	w := &kernels.Ternary{Rows: rows, Cols: cols, Group: group, Tiles: make([]byte, kernels.TernaryBytes(rows, cols)), Scales: []float32{0.5}}
	for i := range w.Tiles {
		u := byte(r.Uint32())
		w.Tiles[i] = u &^ (^u << 1 & 0xaa) // never 10
	}
	if group > 0 {
		w.Scales = benchFloats(rows*w.Groups(), r)
	}
	return w
}

func benchFloats(n int, r *rand.Rand) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func benchActs(b *testing.B, ops kernels.Ops, m, k int, r *rand.Rand) *kernels.Acts {
	x := new(kernels.Acts)
	x.Resize(m, k)
	for t := range m {
		var err error
		if x.Max[t], err = ops.NormQuant(x.Token(t), benchFloats(k, r), nil); err != nil {
			b.Fatal(err)
		}
	}
	return x
}

// measure runs f and reports the rate of its best run, which others on the machine disturb
// least.
func measure(b *testing.B, per float64, unit string, f func(i int)) {
	best := time.Duration(math.MaxInt64)
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		f(i)
		best = min(best, time.Since(start))
	}
	b.ReportMetric(per/float64(best), unit)
}

func BenchmarkTernaryInt8(b *testing.B) {
	each(b, func(b *testing.B, ops kernels.Ops) {
		r := rand.New(rand.NewPCG(1, 2))
		for _, s := range []struct{ rows, cols, group int }{{640, 2560, 0}, {640, 6912, 0}, {640, 2560, 128}} {
			for _, m := range []int{1, 2, 3, 4, 6, 8, 32, 128} {
				if m > 1 && m < 128 && (s.cols != 2560 || s.group > 0) {
					continue
				}
				b.Run(fmt.Sprintf("%dx%d/group=%d/M=%d", s.rows, s.cols, s.group, m), func(b *testing.B) {
					n := 1
					if m == 1 {
						n = bytesFromMemory / (s.rows * s.cols / 4)
					}
					ws := make([]*kernels.Ternary, n)
					for i := range ws {
						ws[i] = benchTernary(s.rows, s.cols, s.group, r)
					}
					x, y := benchActs(b, ops, m, s.cols, r), make([]float32, m*s.rows)
					measure(b, float64(m*s.rows*s.cols), "G-MAC/s", func(i int) { ops.TernaryInt8(y, s.rows, ws[i%n], x, 0, s.rows) })
				})
			}
		}
	})
}

func BenchmarkTernaryFloat(b *testing.B) {
	each(b, func(b *testing.B, ops kernels.Ops) {
		r := rand.New(rand.NewPCG(1, 2))
		const rows, cols = 160, 2560
		for _, group := range []int{0, 128} {
			w := benchTernary(rows, cols, group, r)
			for _, m := range []int{1, 2, 3, 32} {
				b.Run(fmt.Sprintf("group=%d/M=%d", group, m), func(b *testing.B) {
					x, y := benchFloats(m*cols, r), make([]float32, m*rows)
					measure(b, float64(m*rows*cols), "G-MAC/s", func(int) { ops.TernaryFloat(y, rows, w, x, m, cols, 0, rows) })
				})
			}
		}
	})
}

func BenchmarkDense(b *testing.B) {
	each(b, func(b *testing.B, ops kernels.Ops) {
		r := rand.New(rand.NewPCG(1, 2))
		const cols = 2560
		for _, dt := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16, kernels.I8} {
			for _, m := range []int{1, 2, 12} {
				rows := bytesFromMemory / cols / dt.Size()
				if m > 1 {
					rows = 256
				}
				w := &kernels.Dense{Rows: rows, Cols: cols, Type: dt, Data: make([]byte, rows*cols*dt.Size()), Scales: make([]float32, rows)}
				for i := range w.Data { // 0x3c: 1 in f16, about 1/64 in the others
					w.Data[i] = 0x3c
				}
				if dt != kernels.I8 {
					w.Scales = nil
				}
				b.Run(fmt.Sprintf("%v/M=%d", dt, m), func(b *testing.B) {
					x, y := benchFloats(m*cols, r), make([]float32, m*rows)
					measure(b, float64(m*rows*cols), "G-MAC/s", func(int) { ops.Dense(y, rows, w, x, m, cols, 0, rows) })
				})
			}
		}
	})
}

func BenchmarkElementwise(b *testing.B) {
	each(b, func(b *testing.B, ops kernels.Ops) {
		r := rand.New(rand.NewPCG(1, 2))
		const hidden, ffn, headDim = 2560, 6912, 128
		x, g, u := benchFloats(hidden, r), benchFloats(ffn, r), benchFloats(ffn, r)
		y, h, q := make([]float32, hidden), make([]float32, ffn), make([]int8, hidden)
		cos, sin := benchFloats(headDim/2, r), benchFloats(headDim/2, r)
		rms := &kernels.Norm{Kind: kernels.RMS, Weight: benchFloats(hidden, r), Eps: 1e-5}
		layer := &kernels.Norm{Kind: kernels.Layer, Weight: rms.Weight, Bias: benchFloats(hidden, r), Eps: 1e-5}
		check := func(err error) {
			if err != nil {
				b.Fatal(err)
			}
		}
		for _, op := range []struct {
			name string
			n    int
			run  func()
		}{
			{"NormRMS", hidden, func() { check(ops.Norm(y, x, rms)) }},
			{"NormLayer", hidden, func() { check(ops.Norm(y, x, layer)) }},
			{"NormQuantRMS", hidden, func() { _, err := ops.NormQuant(q, x, rms); check(err) }},
			{"NormQuantLayer", hidden, func() { _, err := ops.NormQuant(q, x, layer); check(err) }},
			{"GateSiLU", ffn, func() { ops.Gate(h, g, u, kernels.SiLU) }},
			{"GateReLU2", ffn, func() { ops.Gate(h, g, u, kernels.ReLU2) }},
			{"Add", hidden, func() { ops.Add(y, x) }},
			{"Rope", hidden, func() { ops.Rope(y, headDim, cos, sin) }},
		} {
			b.Run(op.name, func(b *testing.B) {
				const times = 100 // what a clock measures well
				measure(b, times*float64(op.n), "G-elements/s", func(int) {
					for range times {
						op.run()
					}
				})
			})
		}
	})
}
