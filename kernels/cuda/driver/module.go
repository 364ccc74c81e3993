package driver

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"
)

// Module is compiled PTX.
type Module struct {
	// InfoLog is what the compiler remarked, often nothing. The driver keeps a
	// cache of compiled code, and remarks nothing where it takes from there.
	InfoLog string

	r *resource
}

// Values of CUjit_option, and the size of each log.
const (
	jitInfoLog      = 3
	jitInfoLogSize  = 4
	jitErrorLog     = 5
	jitErrorLogSize = 6
	jitLogSize      = 16 << 10
)

// jitFrame is what cuModuleLoadDataEx reads and writes.
type jitFrame struct {
	options [4]uint32
	values  [4]uintptr
	info    [jitLogSize]byte
	errors  [jitLogSize]byte
}

// compilation is one text on its way to a module.
type compilation struct {
	frame  jitFrame
	module uintptr
	failed symbol
	code   int
}

// run compiles the text on the current thread, to which the context belongs.
func (j *compilation) run(d *Device, text string) {
	image := append([]byte(text), 0)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&image[0])
	pin.Pin(j)
	// SAFETY: image and j are pinned for the time of the call; sizes are passed in
	// place of pointers, as the reference says.
	f := &j.frame
	f.options = [4]uint32{jitInfoLog, jitInfoLogSize, jitErrorLog, jitErrorLogSize}
	f.values = [4]uintptr{uintptr(unsafe.Pointer(&f.info)), jitLogSize, uintptr(unsafe.Pointer(&f.errors)), jitLogSize}
	j.failed = cuModuleLoadDataEx
	j.code = invoke(d.drv.fn[cuModuleLoadDataEx], []uintptr{uintptr(unsafe.Pointer(&j.module)), uintptr(unsafe.Pointer(&image[0])), uintptr(len(f.options)),
		uintptr(unsafe.Pointer(&f.options)), uintptr(unsafe.Pointer(&f.values))})
}

// LoadModule compiles PTX for the device. PTX that is refused is a *[ModuleError]
// with the compiler's log.
func (c *Context) LoadModule(ptx string) (*Module, error) {
	m, err := c.LoadModules(ptx)
	if err != nil {
		return nil, err
	}
	return m[0], nil
}

// LoadModules is LoadModule for several texts, which are compiled beside each other:
// the compiler takes seconds for a megabyte. Where one is refused there is no module.
func (c *Context) LoadModules(texts ...string) ([]*Module, error) {
	d := c.d
	if !d.busy.Load() {
		return nil, fmt.Errorf("%s: %w", symbols[cuModuleLoadDataEx].name, ErrOutsideDo)
	}
	for _, text := range texts {
		if strings.IndexByte(text, 0) >= 0 {
			return nil, errors.New("PTX holds a zero byte, at which the driver would end it")
		}
	}
	all := make([]*compilation, len(texts))
	for i := range all {
		all[i] = new(compilation)
	}
	if len(texts) == 1 {
		all[0].run(d, texts[0])
	} else {
		var wait sync.WaitGroup
		slots := make(chan struct{}, runtime.GOMAXPROCS(0))
		for i, j := range all {
			wait.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				j.failed = cuCtxSetCurrent
				if j.code = invoke(d.drv.fn[cuCtxSetCurrent], []uintptr{d.ctx}); j.code == 0 {
					j.run(d, texts[i])
					invoke(d.drv.fn[cuCtxSetCurrent], []uintptr{0})
				}
			})
		}
		wait.Wait()
	}
	var modules []*Module
	var errs []error
	for _, j := range all {
		info := strings.TrimSpace(cString(j.frame.info[:]))
		if j.code != 0 {
			err := d.failure(j.failed, j.code)
			errs = append(errs, &ModuleError{Err: err, ErrorLog: strings.TrimSpace(cString(j.frame.errors[:])), InfoLog: info, Hint: d.hint(err)})
			continue
		}
		modules = append(modules, &Module{InfoLog: info, r: d.keep(j.module, cuModuleUnload)})
	}
	if len(errs) == 0 {
		return modules, nil
	}
	for _, m := range modules {
		errs = append(errs, m.Unload())
	}
	return nil, errors.Join(errs...)
}

// hint says what to do about PTX that was refused.
func (d *Device) hint(err error) string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return ""
	}
	switch e.Code {
	case codePTXVersion:
		return fmt.Sprintf("the driver speaks CUDA %s: install a newer NVIDIA driver", VersionString(d.drv.version))
	case codeInvalidPTX, codeNoBinary:
		return fmt.Sprintf("the device is of compute capability %d.%d: the .target of the PTX must not be above it", d.Info.Major, d.Info.Minor)
	}
	return ""
}

// Function returns a kernel of the module by its entry name.
func (m *Module) Function(name string) (*Function, error) {
	h, err := m.r.use("module")
	if err != nil {
		return nil, err
	}
	if name == "" || strings.IndexByte(name, 0) >= 0 {
		return nil, fmt.Errorf("kernel name %q, want the name of an .entry", name)
	}
	d, text := m.r.d, append([]byte(name), 0)
	var pin runtime.Pinner
	pin.Pin(&text[0])
	defer pin.Unpin()
	// SAFETY: text is pinned for the time of the call.
	if err := d.call(cuModuleGetFunction, d.result(0), h, uintptr(unsafe.Pointer(&text[0]))); err != nil {
		return nil, fmt.Errorf("kernel %s: %w", name, err)
	}
	return &Function{name, uintptr(d.frame.out[0]), m.r}, nil
}

// Unload gives the module back and with it its functions. A second Unload does
// nothing.
func (m *Module) Unload() error { return m.r.release() }

// Function is a kernel. It lives as long as its module.
type Function struct {
	name   string
	handle uintptr
	module *resource
}

// Name returns the entry name.
func (f *Function) Name() string { return f.name }

func (f *Function) use() (uintptr, error) {
	if f == nil {
		return 0, fmt.Errorf("no kernel: %w", ErrClosed)
	}
	if _, err := f.module.use("module of the kernel"); err != nil {
		return 0, err
	}
	return f.handle, nil
}

// FuncAttr are the needs of a compiled kernel.
type FuncAttr struct {
	Registers    int // of 32 bits, a thread
	SharedStatic int // bytes a block
	Local        int // bytes a thread, spilled registers included
	MaxThreads   int // a block may have
}

// Values of CUfunction_attribute.
const (
	funcMaxThreads    = 0
	funcSharedStatic  = 1
	funcLocal         = 3
	funcRegisters     = 4
	funcDynamicShared = 8
)

// Attributes asks for the needs of the kernel.
func (f *Function) Attributes() (FuncAttr, error) {
	var a FuncAttr
	h, err := f.use()
	if err != nil {
		return a, err
	}
	d := f.module.d
	for _, q := range []struct {
		to        *int
		attribute uintptr
	}{{&a.Registers, funcRegisters}, {&a.SharedStatic, funcSharedStatic}, {&a.Local, funcLocal}, {&a.MaxThreads, funcMaxThreads}} {
		if err := d.call(cuFuncGetAttribute, d.result(0), q.attribute, h); err != nil {
			return a, fmt.Errorf("kernel %s: %w", f.name, err)
		}
		*q.to = int(int32(d.frame.out[0]))
	}
	return a, nil
}

// SetMaxDynamicShared allows launches with up to n bytes of dynamic shared memory,
// which more than 48 KiB needs. The bound is [Info].SharedPerBlockOptin.
func (f *Function) SetMaxDynamicShared(n int) error {
	h, err := f.use()
	if err != nil {
		return err
	}
	if n < 0 || n > f.module.d.Info.SharedPerBlockOptin {
		return fmt.Errorf("kernel %s: %d bytes of shared memory, want 0 to %d on this device", f.name, n, f.module.d.Info.SharedPerBlockOptin)
	}
	if err := f.module.d.call(cuFuncSetAttribute, h, funcDynamicShared, uintptr(n)); err != nil {
		return fmt.Errorf("kernel %s: %w", f.name, err)
	}
	return nil
}

// ActiveBlocksPerSM returns how many blocks of so many threads and bytes of
// dynamic shared memory run on one SM at a time.
func (f *Function) ActiveBlocksPerSM(threads, shared int) (int, error) {
	h, err := f.use()
	if err != nil {
		return 0, err
	}
	d := f.module.d
	if err := d.call(cuOccupancyMaxActiveBlocks, d.result(0), h, uintptr(threads), uintptr(shared)); err != nil {
		return 0, fmt.Errorf("kernel %s: %w", f.name, err)
	}
	return int(int32(d.frame.out[0])), nil
}
