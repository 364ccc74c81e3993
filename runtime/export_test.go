package runtime

import "slices"

// PlainLaunches makes a CUDA engine launch kernel by kernel where it would launch a graph.
func PlainLaunches(e Engine, plain bool) { e.(*cudaEngine).engine.PlainLaunches(plain) }

// CanDecode reports whether a CUDA engine has its short path for one token.
func CanDecode(e Engine) bool { return e.(*cudaEngine).engine.CanDecode() }

// ScaleKeys makes the keys of layer 1 that much greater.
func ScaleKeys(m *Model, factor float32) {
	k := m.layers[1].k.Ternary
	k.Scales = slices.Clone(k.Scales)
	for i := range k.Scales {
		k.Scales[i] *= factor
	}
}

// Portable makes an engine on a GPU use the kernels that every device has.
func Portable(e Engine) error { return e.(*cudaEngine).engine.Portable() }
