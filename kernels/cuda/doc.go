// Package cuda computes models on NVIDIA GPUs: kernels that give the bits of spec/numerics.md, the memory that their
// weights and key-value pages live in, and the order in which they are launched.
//
// The kernels are in src, and in ptx what src/generate.sh made of them, which the driver compiles for the GPU at hand:
// no toolkit is needed to build or to run. [Open] finds a device, [Device.Load] puts the weights of a model there, and
// [Engine.Forward] computes positions of sequences, a single one with a few fused kernels per layer as one graph
// (src/step.cuh). [Engine.Decode] lets the device draw tokens and feed itself. [NewOps] is the general kernels one by
// one, for the tests of package optest. The package knows no files and no model configuration.
//
// Where there is no GPU, the library that emulator builds runs the same kernels on the processor, so that their
// arithmetic is held to kernels/ref everywhere; it says nothing about speed, about memory that is not coherent, or about
// what the driver's compiler does. measure.sh holds all of it to the reference, and times it, where a GPU is.
package cuda
