package driver

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"
)

// LibraryEnv names the environment variable that replaces the default library.
const LibraryEnv = "TRITTER_LIBCUDA"

const defaultLibrary = "libcuda.so.1"

// Driver is the loaded and initialized library. It is safe for concurrent use.
type Driver struct {
	path    string
	version int
	fn      [numSymbols]uintptr
}

// Load opens the library and initializes it. An empty path is the one that
// TRITTER_LIBCUDA names, or libcuda.so.1 as dlopen finds it. The error is of the kind
// [ErrUnavailable], [ErrNoDriver], [ErrOldDriver] or [ErrNoDevice], or an *[Error].
// The library is never unloaded: its threads may live as long as the process.
func Load(path string) (*Driver, error) {
	if path == "" {
		path = os.Getenv(LibraryEnv)
	}
	if path == "" {
		path = defaultLibrary
	}
	library, err := openLibrary(path)
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w (%v; %s may name its library)", ErrNoDriver, err, LibraryEnv)
	}
	d := &Driver{path: path}
	for s := range d.fn {
		d.fn[s] = lookup(library, symbols[s].name)
	}
	if err := d.need(cuInit, cuDriverGetVersion); err != nil {
		return nil, err
	}
	var version out[int32]
	if err := version.get(d, cuDriverGetVersion); err != nil {
		return nil, err
	}
	d.version = int(version.value)
	if err := d.need(listing...); err != nil {
		return nil, err
	}
	if err := d.call(cuInit, 0); err != nil {
		if errors.Is(err, ErrNoDevice) {
			err = noDevice{err}
		}
		return nil, err
	}
	return d, nil
}

// noDevice words a failed cuInit for people.
type noDevice struct{ error }

func (e noDevice) Error() string {
	return fmt.Sprintf("%v: the driver is loaded and finds none (%v); look at nvidia-smi and CUDA_VISIBLE_DEVICES", ErrNoDevice, e.error)
}

func (e noDevice) Unwrap() error { return e.error }

// need returns an error for the first function that the library lacks.
func (d *Driver) need(wanted ...symbol) error {
	for _, s := range wanted {
		if d.fn[s] == 0 {
			return &SymbolError{d.path, symbols[s].name, d.version, symbols[s].since}
		}
	}
	return nil
}

// Version returns the newest CUDA version that the driver speaks: 13000 is 13.0.
func (d *Driver) Version() int { return d.version }

// Release returns the release of the driver, such as "580.65.06", or "" where the
// system does not tell.
func (d *Driver) Release() string {
	data, err := os.ReadFile("/sys/module/nvidia/version")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// call calls a function whose arguments hold no pointer into Go's memory that is
// not pinned.
func (d *Driver) call(s symbol, args ...uintptr) error {
	if code := invoke(d.fn[s], args); code != 0 {
		return d.failure(s, code)
	}
	return nil
}

// failure words a code that s returned.
func (d *Driver) failure(s symbol, code int) *Error {
	e := &Error{Call: symbols[s].name, Code: code, Name: "CUDA_ERROR", Text: "the driver has no text for this code"}
	if name := d.text(cuGetErrorName, code); name != "" {
		e.Name = name
	}
	if text := d.text(cuGetErrorString, code); text != "" {
		e.Text = text
	}
	return e
}

// text asks for a constant string.
func (d *Driver) text(s symbol, code int) string {
	if d.fn[s] == 0 {
		return ""
	}
	p := new(unsafe.Pointer)
	var pin runtime.Pinner
	pin.Pin(p)
	defer pin.Unpin()
	if invoke(d.fn[s], []uintptr{uintptr(code), uintptr(unsafe.Pointer(p))}) != 0 || *p == nil {
		return ""
	}
	// SAFETY: the driver returns strings of static storage that end with a zero;
	// the bound keeps a broken library from leading the loop far away.
	const most = 1024
	n := 0
	for n < most && *(*byte)(unsafe.Add(*p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(*p), n))
}

// out is a result that the driver stores through its first argument.
type out[T any] struct{ value T }

// get calls s with the address of the value before args.
func (o *out[T]) get(d *Driver, s symbol, args ...uintptr) error {
	p := new(T)
	var pin runtime.Pinner
	pin.Pin(p)
	defer pin.Unpin()
	// SAFETY: p is pinned for the time of the call.
	err := d.call(s, append([]uintptr{uintptr(unsafe.Pointer(p))}, args...)...)
	o.value = *p
	return err
}

// Info describes a device.
type Info struct {
	Ordinal             int    // number within the process, as CUDA_VISIBLE_DEVICES orders them
	Name                string // "NVIDIA H200"
	UUID                string // "GPU-" and 32 hexadecimal digits; empty before CUDA 11.4
	PCI                 string // "0000:18:00.0"
	Major, Minor        int    // compute capability
	SMs                 int    // streaming multiprocessors
	TotalMemory         int64  // bytes
	L2                  int    // bytes
	SharedPerBlockOptin int    // bytes, after SetMaxDynamicShared
	SharedPerSM         int    // bytes
	RegsPerSM           int    // registers of 32 bits
	MaxThreadsPerSM     int
}

// Values of CUdevice_attribute.
const (
	attrSMs             = 16
	attrL2              = 38
	attrMaxThreadsPerSM = 39
	attrMajor           = 75
	attrMinor           = 76
	attrSharedPerSM     = 81
	attrRegsPerSM       = 82
	attrSharedOptin     = 97
)

// Devices lists the devices of the process. None is no error.
func (d *Driver) Devices() ([]Info, error) {
	var n out[int32]
	if err := n.get(d, cuDeviceGetCount); err != nil {
		return nil, err
	}
	infos := make([]Info, n.value)
	for i := range infos {
		info, err := d.info(i)
		if err != nil {
			return nil, fmt.Errorf("device %d: %w", i, err)
		}
		infos[i] = info
	}
	return infos, nil
}

// handle returns the CUdevice of an ordinal.
func (d *Driver) handle(ordinal int) (uintptr, error) {
	var dev out[int32]
	err := dev.get(d, cuDeviceGet, uintptr(ordinal))
	return uintptr(dev.value), err
}

func (d *Driver) info(ordinal int) (Info, error) {
	info := Info{Ordinal: ordinal}
	dev, err := d.handle(ordinal)
	if err != nil {
		return info, err
	}
	if info.Name, err = d.deviceString(cuDeviceGetName, dev); err != nil {
		return info, err
	}
	if info.PCI, err = d.deviceString(cuDeviceGetPCIBusID, dev); err != nil {
		return info, err
	}
	if d.fn[cuDeviceGetUUID] != 0 {
		var id out[[16]byte]
		if err := id.get(d, cuDeviceGetUUID, dev); err != nil {
			return info, err
		}
		u := id.value
		info.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	}
	var total out[uintptr]
	if err := total.get(d, cuDeviceTotalMem, dev); err != nil {
		return info, err
	}
	info.TotalMemory = int64(total.value)
	for _, a := range []struct {
		to        *int
		attribute uintptr
	}{
		{&info.Major, attrMajor}, {&info.Minor, attrMinor}, {&info.SMs, attrSMs}, {&info.L2, attrL2},
		{&info.SharedPerBlockOptin, attrSharedOptin}, {&info.SharedPerSM, attrSharedPerSM},
		{&info.RegsPerSM, attrRegsPerSM}, {&info.MaxThreadsPerSM, attrMaxThreadsPerSM},
	} {
		var v out[int32]
		if err := v.get(d, cuDeviceGetAttribute, a.attribute, dev); err != nil {
			return info, err
		}
		*a.to = int(v.value)
	}
	return info, nil
}

// deviceString calls one of the functions (char *text, int length, CUdevice).
func (d *Driver) deviceString(s symbol, dev uintptr) (string, error) {
	var text out[[256]byte]
	if err := text.get(d, s, uintptr(len(text.value)), dev); err != nil {
		return "", err
	}
	return cString(text.value[:]), nil
}

// cString returns the text before the first zero.
func cString(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}
