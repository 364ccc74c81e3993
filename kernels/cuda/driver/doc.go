// Package driver binds the part of the CUDA driver API that an inference engine
// needs, without cgo and without the toolkit: libcuda.so.1, which every NVIDIA
// driver installs, is opened while the program runs. The package knows memory,
// streams, events, modules, launches and graphs, and nothing of models.
//
// [Load] opens the library, [Driver.Devices] lists what there is, and
// [Driver.Open] makes the primary context of one device current on a thread of
// its own. [Device.Do] runs a function there; everything that takes or hangs on a
// [Context] is valid only inside such a function:
//
//	d, err := driver.Load("")
//	dev, err := d.Open(0)
//	defer dev.Close()
//	err = dev.Do(func(c *driver.Context) error {
//		free, total, err := c.MemInfo()
//		...
//	})
//
// # Caveats
//
// Copies and launches are asynchronous: the memory that they name must live until
// the stream has passed them, and an error of one may be reported by any later
// call. The slice of [Host.Bytes] is memory of the driver: it is gone after
// [Host.Free] and [Device.Close]. A kernel that faults loses the whole context
// ([ErrLost]); nothing but Close works after that. A function inside Do must not
// wait for another goroutine that calls Do of the same device, and must not hand
// its Context or what hangs on it to another goroutine: the context is current on
// one thread, and the memory through which arguments travel has no lock.
//
// The binding is for linux on amd64 and arm64. Elsewhere, and with the build tag
// nocuda, everything compiles and Load returns [ErrUnavailable].
//
// Names, constants and layouts are those of the CUDA driver API reference,
// https://docs.nvidia.com/cuda/cuda-driver-api/.
package driver
