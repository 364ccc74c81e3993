// Package ref is spec/numerics.md in obvious Go: the implementation that every other one must equal bit for bit.
//
// Where the specification fuses a multiply and an add, the code calls FMA32. Everywhere else a product that feeds
// an addition or a subtraction stands inside an explicit conversion, float32(a*b) + c: a Go compiler may fuse
// across anything but a conversion, and on arm64 and amd64 v3 it does. That goes for products that are passed to a
// function or returned by one, too, because inlining brings the two together. The package's tests read the assembly.
package ref

import "github.com/tritter-ai/tritter/kernels"

// Ops implements kernels.Ops. It has no state.
type Ops struct{}

var _ kernels.Ops = Ops{}

// New returns the reference operations.
func New() kernels.Ops { return Ops{} }

// Name is "ref".
func (Ops) Name() string { return "ref" }

// Add adds y to x in place.
func (Ops) Add(x, y []float32) {
	kernels.CheckAdd(x, y)
	for i, v := range y {
		x[i] += v
	}
}

// Gate writes act(g)*u to h (section 13).
func (Ops) Gate(h, g, u []float32, act kernels.Activation) {
	kernels.CheckGate(h, g, u, act)
	if act == kernels.ReLU2 {
		for i, v := range g {
			if v <= 0 { // false for a NaN, which stays one
				v = 0
			}
			h[i] = float32(v*v) * u[i]
		}
		return
	}
	for i, v := range g {
		h[i] = SiLU(v) * u[i]
	}
}
