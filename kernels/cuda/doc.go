// Package cuda computes models on NVIDIA GPUs: kernels that give the bits of spec/numerics.md, the memory that their
// weights and key-value pages live in, and the order in which they are launched.
//
// The kernels are in src, and in ptx what a compiler made of them, which the driver compiles for the GPU at hand: no
// toolkit is needed to build or to run. [Open] finds a device, [Device.Load] puts the weights of a model there, and
// [Engine.Forward] computes positions of sequences. [NewOps] is the same kernels one by one, for the tests of package
// optest. The package knows no files and no model configuration.
//
// Where there is no GPU, the library that emulator builds runs the kernels on the processor, so that their arithmetic
// is held to kernels/ref everywhere; it says nothing about speed.
package cuda
