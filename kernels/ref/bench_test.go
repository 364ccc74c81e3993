package ref

import (
	"testing"

	"github.com/tritter-ai/tritter/kernels"
)

func BenchmarkDot(b *testing.B) {
	w, x := make([]float32, 1024), make([]float32, 1024)
	for i := range w {
		w[i], x[i] = float32(i%37)*0.173-2, float32(i%41)*0.291-5
	}
	for b.Loop() {
		Dot(w, x)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/MAC")
}

func BenchmarkTernaryDot(b *testing.B) {
	w, x := make([]float32, 1024), make([]float32, 1024)
	for i := range w {
		w[i], x[i] = float32(i%3)-1, float32(i%41)*0.291-5
	}
	for b.Loop() {
		ternaryDot(w, x)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/MAC")
}

func BenchmarkDotInt8(b *testing.B) {
	w, x := make([]int8, 1024), make([]int8, 1024)
	for b.Loop() {
		dotInt8(w, x)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1024, "ns/MAC")
}

func BenchmarkTernaryInt8(b *testing.B) {
	const n, k = 640, 2560
	w := &kernels.Ternary{Rows: n, Cols: k, Tiles: make([]byte, kernels.TernaryBytes(n, k)), Scales: []float32{1}}
	var x kernels.Acts
	x.Resize(1, k)
	y := make([]float32, n)
	for b.Loop() {
		New().TernaryInt8(y, n, w, &x, 0, n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n/k, "ns/MAC")
}

func BenchmarkTernaryFloat(b *testing.B) {
	const n, k = 640, 2560
	w := &kernels.Ternary{Rows: n, Cols: k, Tiles: make([]byte, kernels.TernaryBytes(n, k)), Scales: []float32{1}}
	x, y := make([]float32, k), make([]float32, n)
	for b.Loop() {
		New().TernaryFloat(y, n, w, x, 1, k, 0, n)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n/k, "ns/MAC")
}
