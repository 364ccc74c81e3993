//go:build amd64 && !purego

package cpu

import "github.com/tritter-ai/tritter/kernels"

// Gate leaves what does not fill a register to the reference.
func (a avx2) Gate(h, g, u []float32, act kernels.Activation) {
	kernels.CheckGate(h, g, u, act)
	whole := len(h) / 8 * 8
	if whole > 0 {
		if act == kernels.SiLU {
			gateSiLU(&h[0], &g[0], &u[0], whole/8)
		} else {
			gateReLU2(&h[0], &g[0], &u[0], whole/8)
		}
	}
	a.Ops.Gate(h[whole:], g[whole:], u[whole:], act)
}

// Add leaves what does not fill a register to the reference.
func (a avx2) Add(x, y []float32) {
	kernels.CheckAdd(x, y)
	whole := len(x) / 8 * 8
	if whole > 0 {
		addTo(&x[0], &y[0], whole/8)
	}
	a.Ops.Add(x[whole:], y[whole:])
}

// Rope rotates eight pairs at a time.
func (avx2) Rope(x []float32, headDim int, cos, sin []float32) {
	kernels.CheckRope(x, headDim, cos, sin)
	half := headDim / 2
	whole := half / 8 * 8
	for ; len(x) > 0; x = x[headDim:] {
		if whole > 0 {
			rotate(&x[0], &x[half], &cos[0], &sin[0], whole/8)
		}
		for i := whole; i < half; i++ {
			a, b := x[i], x[i+half]
			x[i] = float32(a*cos[i]) - float32(b*sin[i])
			x[i+half] = float32(b*cos[i]) + float32(a*sin[i])
		}
	}
}
