package driver

import (
	"errors"
	"fmt"
	"unsafe"
)

// Ptr is an address on the device. Arithmetic on it counts bytes.
type Ptr uint64

// MemInfo returns the free and the total memory of the device in bytes. Free is
// what all processes together leave.
func (c *Context) MemInfo() (free, total int64, err error) {
	d := c.d
	if err := d.call(cuMemGetInfo, d.result(0), d.result(1)); err != nil {
		return 0, 0, err
	}
	return int64(d.frame.out[0]), int64(d.frame.out[1]), nil
}

// Alloc reserves n bytes of device memory, aligned to at least 256. They hold
// what was there before. The error is of the kind [ErrOutOfMemory] where n is more
// than there is.
func (c *Context) Alloc(n int64) (Ptr, error) {
	if n <= 0 {
		return 0, fmt.Errorf("allocating %d bytes of device memory, want at least 1", n)
	}
	d := c.d
	if err := d.call(cuMemAlloc, d.result(0), uintptr(n)); err != nil {
		if errors.Is(err, ErrOutOfMemory) {
			if free, total, e := c.MemInfo(); e == nil {
				return 0, fmt.Errorf("%d bytes of device memory, where %d of %d are free: %w", n, free, total, err)
			}
		}
		return 0, fmt.Errorf("%d bytes of device memory: %w", n, err)
	}
	p := Ptr(d.frame.out[0])
	r := d.keep(uintptr(p), cuMemFree)
	r.gone = func() { delete(d.memory, p) }
	d.memory[p] = r
	return p, nil
}

// Free gives memory of [Context.Alloc] back; 0 is no memory and no error. The
// driver waits for work in flight first.
func (c *Context) Free(p Ptr) error {
	if p == 0 {
		return nil
	}
	r, ok := c.d.memory[p]
	if !ok {
		return fmt.Errorf("freeing device memory at %#x: %w, or never allocated", uint64(p), ErrClosed)
	}
	return r.release()
}

// Host is memory of the host that does not move and that the device reaches too:
// copies from and to it are asynchronous and as fast as the bus.
type Host struct {
	r     *resource
	bytes []byte
	at    Ptr
}

// Flags of cuMemHostAlloc.
const (
	hostPortable = 1 // pinned for every context
	hostMapped   = 2 // in the address space of the device
)

// AllocHost reserves n bytes of pinned memory, portable and mapped. What it holds
// first is not defined. The error is of the kind [ErrOutOfMemory] where n is more
// than the system lets a process pin.
func (c *Context) AllocHost(n int) (*Host, error) {
	if n <= 0 {
		return nil, fmt.Errorf("allocating %d bytes of pinned memory, want at least 1", n)
	}
	d := c.d
	// SAFETY: the frame is pinned; its host pointer is set by the driver to memory
	// that is not Go's and that lives until cuMemFreeHost.
	if err := d.call(cuMemHostAlloc, uintptr(unsafe.Pointer(&d.frame.host)), uintptr(n), hostPortable|hostMapped); err != nil {
		return nil, fmt.Errorf("%d bytes of pinned memory: %w", n, err)
	}
	at := d.frame.host
	d.frame.host = nil
	h := &Host{r: d.keep(uintptr(at), cuMemFreeHost), bytes: unsafe.Slice((*byte)(at), n)}
	h.r.gone = func() { h.bytes, h.at = nil, 0 }
	if err := d.call(cuMemHostGetDevicePointer, d.result(0), uintptr(at), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("mapping %d bytes of pinned memory: %w", n, err), h.Free())
	}
	h.at = Ptr(d.frame.out[0])
	return h, nil
}

// Bytes returns the memory. It may be used outside Do, while no copy or kernel
// uses it, and must not be after Free or the device's Close. It is nil after those.
func (h *Host) Bytes() []byte { return h.bytes }

// DevicePtr returns the address at which kernels see the memory.
func (h *Host) DevicePtr() Ptr { return h.at }

// Free gives the memory back. A second Free does nothing.
func (h *Host) Free() error { return h.r.release() }

// span checks that n bytes from off lie in the memory, and returns their address.
func (h *Host) span(off, n int) (uintptr, error) {
	at, err := h.r.use("pinned memory")
	if err != nil {
		return 0, err
	}
	if off < 0 || n < 0 || off > len(h.bytes)-n {
		return 0, fmt.Errorf("%d bytes from offset %d do not lie in pinned memory of %d", n, off, len(h.bytes))
	}
	return at + uintptr(off), nil
}

// CopyToDevice copies n bytes from offset off of src to dst, asynchronously.
func (c *Context) CopyToDevice(dst Ptr, src *Host, off, n int, s *Stream) error {
	from, err := src.span(off, n)
	if err != nil || n == 0 {
		return err
	}
	stream, err := s.use()
	if err != nil {
		return err
	}
	return c.d.call(cuMemcpyHtoDAsync, uintptr(dst), from, uintptr(n), stream)
}

// CopyToHost copies n bytes from src to offset off of dst, asynchronously: they
// are there after [Stream.Synchronize] or an event behind the copy.
func (c *Context) CopyToHost(dst *Host, off int, src Ptr, n int, s *Stream) error {
	to, err := dst.span(off, n)
	if err != nil || n == 0 {
		return err
	}
	stream, err := s.use()
	if err != nil {
		return err
	}
	return c.d.call(cuMemcpyDtoHAsync, to, uintptr(src), uintptr(n), stream)
}

// CopyDevice copies n bytes within the device, asynchronously. The two areas must
// not overlap.
func (c *Context) CopyDevice(dst, src Ptr, n int64, s *Stream) error {
	stream, err := s.use()
	if err != nil || n == 0 {
		return err
	}
	if n < 0 {
		return fmt.Errorf("copying %d bytes on the device, want at least 0", n)
	}
	return c.d.call(cuMemcpyDtoDAsync, uintptr(dst), uintptr(src), uintptr(n), stream)
}

// Memset8 sets n bytes to v, asynchronously.
func (c *Context) Memset8(dst Ptr, v byte, n int64, s *Stream) error {
	return c.memset(cuMemsetD8Async, dst, uint32(v), n, s)
}

// Memset32 sets words of 32 bits to v, asynchronously. dst is aligned to 4.
func (c *Context) Memset32(dst Ptr, v uint32, words int64, s *Stream) error {
	return c.memset(cuMemsetD32Async, dst, v, words, s)
}

func (c *Context) memset(set symbol, dst Ptr, v uint32, n int64, s *Stream) error {
	stream, err := s.use()
	if err != nil || n == 0 {
		return err
	}
	if n < 0 {
		return fmt.Errorf("setting %d elements of device memory, want at least 0", n)
	}
	return c.d.call(set, uintptr(dst), uintptr(v), uintptr(n), stream)
}
