package driver

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Device is the primary context of one device, current on one thread. Its methods
// are safe for concurrent use. Close it.
type Device struct {
	Info Info

	drv      *Driver
	dev, ctx uintptr

	mu       sync.Mutex // held through each Do
	closed   bool
	requests chan request
	answers  chan answer

	owner atomic.Int64 // thread that the context is current on; 0 between two owners
	busy  atomic.Bool  // a Do runs

	// The rest belongs to the owner.
	context Context
	frame   *frame
	pin     runtime.Pinner
	lost    error // why only Close works
	live    map[*resource]struct{}
	memory  map[Ptr]*resource // of Alloc
	created int
}

// Context is the device as the function inside [Device.Do] sees it.
type Context struct{ d *Device }

// frame is pinned memory through which the owner talks to the driver.
type frame struct {
	args   [6]uintptr // as many as any function here takes
	out    [2]uint64
	host   unsafe.Pointer
	config launchConfig
	attrs  [2]launchAttribute
	extra  [5]uintptr
	size   uintptr
	params [MaxArgs]byte

	pointers [MaxArgs / 4]uintptr // to each of params
}

type request struct {
	fn           func(*Context) error
	last         bool // of Close: served also when the device is lost
	panicOnFault bool
}

type answer struct {
	err    error
	panics *Panic
	exits  bool // fn called runtime.Goexit
}

// Open makes the primary context of a device current on a thread of its own. It
// costs some hundred megabytes of the device's memory and some tenths of a second,
// the first time in a process. The error is of the kind [ErrOldDriver],
// [ErrNoDevice] or [ErrOutOfMemory], or an *[Error].
func (d *Driver) Open(ordinal int) (*Device, error) {
	for s := range symbol(numSymbols) {
		if err := d.need(s); err != nil {
			return nil, err
		}
	}
	var n out[int32]
	if err := n.get(d, cuDeviceGetCount); err != nil {
		return nil, err
	}
	if ordinal < 0 || ordinal >= int(n.value) {
		return nil, fmt.Errorf("device %d: %w of that number; there are %d, counted from 0", ordinal, ErrNoDevice, n.value)
	}
	info, err := d.info(ordinal)
	if err != nil {
		return nil, fmt.Errorf("device %d: %w", ordinal, err)
	}
	dev, err := d.handle(ordinal)
	if err != nil {
		return nil, fmt.Errorf("device %d: %w", ordinal, err)
	}
	v := &Device{Info: info, drv: d, dev: dev, requests: make(chan request), answers: make(chan answer), frame: new(frame), live: map[*resource]struct{}{}, memory: map[Ptr]*resource{}}
	v.context.d = v
	v.pin.Pin(v.frame)
	var ctx out[uintptr]
	if err := ctx.get(d, cuDevicePrimaryCtxRetain, dev); err != nil {
		v.pin.Unpin()
		return nil, fmt.Errorf("device %d: %w", ordinal, err)
	}
	v.ctx = ctx.value
	go v.own()
	if err := v.Do(func(*Context) error { return nil }); err != nil {
		v.Close()
		return nil, fmt.Errorf("device %d: %w", ordinal, err)
	}
	return v, nil
}

// own serves requests on a thread of its own until there are no more.
func (d *Device) own() {
	// Never unlocked: a thread with a context that is not torn down well should
	// end with its goroutine and not serve others.
	runtime.LockOSThread()
	if err := d.drv.call(cuCtxSetCurrent, d.ctx); err != nil && d.lost == nil {
		d.lost = err
	}
	d.owner.Store(threadID())
	for r := range d.requests {
		d.serve(r)
	}
}

// serve runs one request and answers it, also when it panics or ends its goroutine.
func (d *Device) serve(r request) {
	var a answer
	returned := false
	defer func() {
		d.busy.Store(false)
		if !returned {
			if v := recover(); v != nil {
				a.panics = &Panic{v, debug.Stack()}
			} else {
				// A test that fails inside Do does this. The thread goes with the
				// goroutine; the context moves to a new one.
				a.exits = true
				d.owner.Store(0)
				go d.own()
			}
		}
		d.answers <- a
	}()
	d.busy.Store(true)
	debug.SetPanicOnFault(r.panicOnFault)
	if d.lost != nil && !r.last {
		a.err = fmt.Errorf("device %d: %w: %w; close it and start the program again", d.Info.Ordinal, ErrLost, d.lost)
	} else {
		a.err = r.fn(&d.context)
	}
	returned = true
}

// Do runs fn on the thread that owns the context and returns its error. Calls are
// served one at a time. A panic inside fn goes on in the caller as a *[Panic], and
// runtime.Goexit ends the caller; debug.SetPanicOnFault counts as the caller set it.
// The error is of the kind [ErrClosed] after Close, [ErrLost] after a fault on the
// device and [ErrInsideDo] inside another Do of the device.
func (d *Device) Do(fn func(*Context) error) error {
	return d.do(fn, false)
}

// do hands fn to the owner. After the last one there are no more.
func (d *Device) do(fn func(*Context) error, last bool) error {
	if d.owner.Load() == threadID() {
		return ErrInsideDo
	}
	a, err := d.ask(fn, last)
	switch {
	case err != nil:
		return err
	case a.exits:
		runtime.Goexit()
	case a.panics != nil:
		if fault, ok := a.panics.Value.(addresser); ok {
			panic(faultPanic{a.panics, fault})
		}
		panic(a.panics)
	}
	return a.err
}

func (d *Device) ask(fn func(*Context) error, last bool) (answer, error) {
	onFault := debug.SetPanicOnFault(false)
	debug.SetPanicOnFault(onFault)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return answer{}, fmt.Errorf("device %d: %w", d.Info.Ordinal, ErrClosed)
	}
	d.requests <- request{fn, last, onFault}
	a := <-d.answers
	if last {
		d.closed = true
		close(d.requests)
	}
	return a, nil
}

// Close waits for the device, destroys what was not destroyed, the newest first,
// and releases the context. A second Close does nothing and returns nil. The error is
// of the kind [ErrInsideDo], and then nothing was closed, or that of the first
// call of the driver that failed.
func (d *Device) Close() error {
	err := d.do((*Context).tearDown, true)
	if errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// tearDown leaves nothing of the device behind. It goes on after errors, and
// returns the first.
func (c *Context) tearDown() error {
	d := c.d
	errs := []error{d.call(cuCtxSynchronize)}
	left := make([]*resource, 0, len(d.live))
	for r := range d.live {
		left = append(left, r)
	}
	slices.SortFunc(left, func(a, b *resource) int { return cmp.Compare(b.number, a.number) })
	for _, r := range left {
		errs = append(errs, r.release())
	}
	errs = append(errs, d.call(cuCtxSetCurrent, 0), d.call(cuDevicePrimaryCtxRelease, d.dev))
	d.pin.Unpin()
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("device %d: %w", d.Info.Ordinal, err)
		}
	}
	return nil
}

// call calls a function of the library inside Do.
func (d *Device) call(s symbol, args ...uintptr) error {
	if !d.busy.Load() {
		return fmt.Errorf("%s: %w", symbols[s].name, ErrOutsideDo)
	}
	if code := d.invoke(s, args...); code != 0 {
		return d.failure(s, code)
	}
	return nil
}

// invoke hands the arguments over in memory of the frame, so that they are not
// allocated.
func (d *Device) invoke(s symbol, args ...uintptr) int {
	n := copy(d.frame.args[:], args)
	return invoke(d.drv.fn[s], d.frame.args[:n])
}

// failure words a code, and remembers the one that lost the context.
func (d *Device) failure(s symbol, code int) error {
	err := d.drv.failure(s, code)
	if d.lost == nil && lost(code) {
		d.lost = err
	}
	return err
}

// result returns the address of the i-th result in pinned memory.
func (d *Device) result(i int) uintptr {
	d.frame.out[i] = 0
	return uintptr(unsafe.Pointer(&d.frame.out[i]))
}

// resource is something of the driver that must be given back.
type resource struct {
	d       *Device
	handle  uintptr // 0 once destroyed
	destroy symbol
	number  int    // order of creation
	gone    func() // called when it is destroyed; nil for most
}

// keep counts a new thing among what Close destroys.
func (d *Device) keep(handle uintptr, destroy symbol) *resource {
	d.created++
	r := &resource{d: d, handle: handle, destroy: destroy, number: d.created}
	d.live[r] = struct{}{}
	return r
}

// release destroys the thing, once.
func (r *resource) release() error {
	if r.handle == 0 {
		return nil
	}
	err := r.d.call(r.destroy, r.handle)
	if errors.Is(err, ErrOutsideDo) {
		return err
	}
	r.handle = 0
	delete(r.d.live, r)
	if r.gone != nil {
		r.gone()
	}
	return err
}

// use returns the handle, or an error when the thing is gone.
func (r *resource) use(what string) (uintptr, error) {
	if r == nil || r.handle == 0 {
		return 0, fmt.Errorf("%s: %w", what, ErrClosed)
	}
	return r.handle, nil
}
