package cuda

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// Device is a GPU with the kernels loaded. It serves one call at a time. Close it.
type Device struct {
	dev       *driver.Device
	dependent bool // kernels may start before the one before them has ended
	newer     bool // compute capability 9.0 or later, with a driver that knows its copies
	hopper    bool // the kernels of src/hopper.cu are there
	portable  bool // kernels for less shared memory are to be used, for tests
	part      int  // tokens of a part of multiplyParts, for tests; 0 for what is best

	// The rest is used inside dev.Do.
	ctx     *driver.Context
	stream  *driver.Stream
	fn      [numKernels]*driver.Function // nil until need
	bytes   [numKernels]int              // length of each parameter list
	args    driver.Args
	config  driver.LaunchConfig
	err     error
	up      uploader
	down    *driver.Host
	profile *profile   // nil: launches are not measured
	bad     driver.Ptr // least site where a value was not finite
	fault   driver.Ptr // what a KV format cannot hold, as src/pages.cu tells it, behind bad
}

// Open opens a device of the CUDA library. Kernels are compiled for it when they are needed, which takes some seconds the first time
// and is remembered by the driver. The errors are those of package driver.
func Open(ordinal int) (*Device, error) {
	lib, err := driver.Load("")
	if err != nil {
		return nil, err
	}
	dev, err := lib.Open(ordinal)
	if err != nil {
		return nil, err
	}
	// Captured streams keep programmatic launches from CUDA 12.3 on; the PTX for what compute capability 9.0 brought is that of CUDA 12.0.
	newer := dev.Info.Major >= 9 && lib.Version() >= 12000
	d := &Device{dev: dev, dependent: newer && lib.Version() >= 12030, newer: newer, hopper: newer && dev.Info.Major == 9 && dev.Info.Minor == 0}
	if dev.Info.Major < 8 {
		return nil, errors.Join(fmt.Errorf("%s has compute capability %d.%d, want at least 8.0 (Ampere)", dev.Info.Name, dev.Info.Major, dev.Info.Minor), dev.Close())
	}
	if err := d.do(func() error { return d.start() }); err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return d, nil
}

func (d *Device) start() (err error) {
	if d.stream, err = d.ctx.NewStream(); err != nil {
		return err
	}
	if d.bad, err = d.ctx.Alloc(16); err != nil {
		return err
	}
	d.fault = d.bad + 8
	for k := range numKernels {
		d.bytes[k] = paramBytes(table[k].params)
	}
	if d.down, err = d.ctx.AllocHost(stagingBytes); err != nil {
		return err
	}
	return d.up.open(d)
}

// Portable leaves out the kernels that only some devices can run, so that tests reach those of all others.
func (d *Device) Portable() { d.hopper, d.portable = false, true }

// Info describes the device.
func (d *Device) Info() driver.Info { return d.dev.Info }

// Close frees everything on the device.
func (d *Device) Close() error { return d.dev.Close() }

// do runs fn on the thread of the device.
func (d *Device) do(fn func() error) error {
	return d.dev.Do(func(c *driver.Context) error {
		d.ctx = c
		return errors.Join(fn(), d.took())
	})
}

// stagingBytes is the length of a pinned buffer: long enough that a copy is as fast as the bus.
const stagingBytes = 16 << 20

// uploader copies from memory of the host, a part at a time, through two pinned buffers that take turns.
type uploader struct {
	d       *Device
	host    [2]*driver.Host
	raw     [2]driver.Ptr // on the device, for what is packed there
	event   [2]*driver.Event
	pending [2]bool
	turn    int
}

func (u *uploader) open(d *Device) (err error) {
	u.d = d
	for i := range u.host {
		if u.host[i], err = d.ctx.AllocHost(stagingBytes); err != nil {
			return err
		}
		if u.raw[i], err = d.ctx.Alloc(stagingBytes); err != nil {
			return err
		}
		if u.event[i], err = d.ctx.NewEvent(false); err != nil {
			return err
		}
	}
	return nil
}

// next waits until a buffer is free again and returns it.
func (u *uploader) next() (*driver.Host, driver.Ptr) {
	u.turn ^= 1
	if u.pending[u.turn] {
		u.pending[u.turn] = false
		u.d.fail(u.event[u.turn].Synchronize())
	}
	return u.host[u.turn], u.raw[u.turn]
}

// sent marks the buffer in use until the stream gets here.
func (u *uploader) sent() {
	u.d.fail(u.event[u.turn].Record(u.d.stream))
	u.pending[u.turn] = true
}

// copy puts data into device memory.
func (u *uploader) copy(to driver.Ptr, data []byte) {
	for len(data) > 0 && u.d.err == nil {
		host, _ := u.next()
		n := copy(host.Bytes(), data)
		u.d.fail(u.d.ctx.CopyToDevice(to, host, 0, n, u.d.stream))
		u.sent()
		to, data = to+driver.Ptr(n), data[n:]
	}
}

// floats puts values into device memory.
func (u *uploader) floats(to driver.Ptr, values []float32) {
	for len(values) > 0 && u.d.err == nil {
		host, _ := u.next()
		n := min(len(values), stagingBytes/4)
		copy(floatsOf(host.Bytes()), values[:n])
		u.d.fail(u.d.ctx.CopyToDevice(to, host, 0, 4*n, u.d.stream))
		u.sent()
		to, values = to+driver.Ptr(4*n), values[n:]
	}
}

// words puts values into device memory.
func words[T uint32 | uint64](u *uploader, to driver.Ptr, values []T) {
	size := binary.Size(T(0))
	for len(values) > 0 && u.d.err == nil {
		host, _ := u.next()
		n := min(len(values), stagingBytes/size)
		b := host.Bytes()
		for i, v := range values[:n] {
			if size == 4 {
				binary.LittleEndian.PutUint32(b[4*i:], uint32(v))
			} else {
				binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
			}
		}
		u.d.fail(u.d.ctx.CopyToDevice(to, host, 0, size*n, u.d.stream))
		u.sent()
		to, values = to+driver.Ptr(size*n), values[n:]
	}
}

// floatsOf is pinned memory as floats of the host, which are little-endian wherever the driver is.
func floatsOf(b []byte) []float32 {
	// SAFETY: the driver aligns pinned memory to a page, and the result is used before the next copy to it.
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// read waits for the stream and copies values from device memory.
func (d *Device) read(values []float32, from driver.Ptr) {
	for len(values) > 0 {
		n := min(len(values), stagingBytes/4)
		b := d.fetch(from, 4*n)
		if d.err != nil {
			return
		}
		copy(values, floatsOf(b))
		from, values = from+driver.Ptr(4*n), values[n:]
	}
}

// fetch waits for the stream and returns a view of n bytes, at most stagingBytes, valid until the next call.
func (d *Device) fetch(from driver.Ptr, n int) []byte {
	if d.err == nil {
		d.fail(d.ctx.CopyToHost(d.down, 0, from, n, d.stream))
		d.fail(d.stream.Synchronize())
	}
	return d.down.Bytes()[:n]
}

// noSite is what bad holds when every value was finite.
const noSite = math.MaxUint32

// clearBad empties bad and fault.
func (d *Device) clearBad() { d.fail(d.ctx.Memset32(d.bad, noSite, 4, d.stream)) }

// readBad waits for the stream and returns the least site where a value was not finite, or noSite.
func (d *Device) readBad() uint32 {
	b := d.fetch(d.bad, 4)
	if d.err != nil {
		return noSite
	}
	return binary.LittleEndian.Uint32(b)
}

// readFault waits for the stream and returns the first key or value that the format cannot hold, and its layer, or nil.
func (d *Device) readFault(f kernels.KVFormat) (layer int, err *kernels.KVRangeError) {
	b := d.fetch(d.fault, 8)
	if d.err != nil {
		return 0, nil
	}
	word := binary.LittleEndian.Uint64(b)
	if word == math.MaxUint64 {
		return 0, nil
	}
	return int(word >> 52), &kernels.KVRangeError{Format: f, What: [2]string{"key", "value"}[word>>50&1], Index: int(word >> 32 & (1<<18 - 1)), Value: math.Float32frombits(uint32(word))}
}

// nonFinite is the error of a site; the device keeps no more than that.
func nonFinite(op string) error {
	return &kernels.NonFiniteError{Op: op, What: "a value", Index: -1, Value: float32(math.NaN())}
}
