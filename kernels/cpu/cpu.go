// Package cpu provides the operations of package kernels on the vector units of
// the machine, with the bits of spec/numerics.md.
//
// [New] picks the best implementation that the processor has; without one, or
// with the build tag purego, that is kernels/ref, the portable twin of all of
// them. What an implementation does not speed up it takes from there as well.
// The assembly is generated: see _asm.
package cpu

import (
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

//go:generate go run -C _asm . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg cpu
//go:generate go run -C _asm ./arm64 -out ../kernels_arm64.s -stubs ../kernels_arm64.go

// New returns the fastest implementation for this machine.
func New() kernels.Ops {
	all := Implementations()
	return all[len(all)-1]
}

// Implementations returns every implementation that this machine can run, the
// reference first and the fastest last.
func Implementations() []kernels.Ops {
	return append([]kernels.Ops{ref.New()}, native()...)
}
