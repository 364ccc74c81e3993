package driver

import (
	"errors"
	"fmt"
)

// Kinds of failure, for errors.Is.
var (
	// ErrUnavailable: this build has no CUDA (build tag nocuda, or a system that
	// the binding is not for).
	ErrUnavailable = errors.New("this build has no CUDA: it is for linux on amd64 and arm64, without the build tag nocuda")
	// ErrNoDriver: there is no CUDA library.
	ErrNoDriver = errors.New("no NVIDIA driver")
	// ErrOldDriver: the library lacks functions that the engine needs.
	ErrOldDriver = errors.New("the NVIDIA driver is too old")
	// ErrNoDevice: the driver is there and finds no GPU.
	ErrNoDevice = errors.New("no CUDA device")
	// ErrOutOfMemory: an allocation on the device or of pinned memory failed.
	ErrOutOfMemory = errors.New("out of memory")
	// ErrLost: a fault ended the context, and only Close works on the device.
	ErrLost = errors.New("the device is lost")
	// ErrClosed: the device or the object was closed, freed or destroyed before.
	ErrClosed = errors.New("closed")
	// ErrOutsideDo: a method of a device's object was called while no Do runs.
	ErrOutsideDo = errors.New("called outside Device.Do; move the call into the function given to Do")
	// ErrInsideDo: Do or Close was called from inside Do of the same device.
	ErrInsideDo = errors.New("called inside Device.Do of the same device, which would wait for itself; use the Context at hand")
)

// Values of CUresult that the package tells apart.
const (
	codeOutOfMemory    = 2
	codeNotInitialized = 3
	codeDeinitialized  = 4
	codeStubLibrary    = 34
	codeNoDevice       = 100
	codeECC            = 214
	codeInvalidPTX     = 218
	codeNVLink         = 220
	codePTXVersion     = 222
	codeNoBinary       = 209
	codeNotReady       = 600
	codeIllegalAddress = 700
	codeLaunchTimeout  = 702
	codeDestroyed      = 709
	codeAssert         = 710
	codeHardwareStack  = 714
	codeInstruction    = 715
	codeMisaligned     = 716
	codeAddressSpace   = 717
	codeInvalidPC      = 718
	codeLaunchFailed   = 719
)

// lost reports whether a code ends the context: the reference says of these that
// the process must be relaunched to use CUDA further.
func lost(code int) bool {
	switch code {
	case codeDeinitialized, codeECC, codeNVLink, codeIllegalAddress, codeLaunchTimeout, codeDestroyed, codeAssert,
		codeHardwareStack, codeInstruction, codeMisaligned, codeAddressSpace, codeInvalidPC, codeLaunchFailed:
		return true
	}
	return false
}

// Error is a call of the driver that failed.
type Error struct {
	Call string // function, with its version: "cuMemAlloc_v2"
	Code int    // CUresult
	Name string // "CUDA_ERROR_OUT_OF_MEMORY"
	Text string // "out of memory"
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s (%d): %s", e.Call, e.Name, e.Code, e.Text)
}

// Is gives the kinds [ErrOutOfMemory], [ErrNoDevice], [ErrNoDriver] (the
// toolkit's stub library in place of the driver's) and [ErrLost].
func (e *Error) Is(kind error) bool {
	switch kind {
	case ErrOutOfMemory:
		return e.Code == codeOutOfMemory
	case ErrNoDevice:
		return e.Code == codeNoDevice
	case ErrNoDriver:
		return e.Code == codeStubLibrary
	case ErrLost:
		return lost(e.Code)
	}
	return false
}

// SymbolError reports a function that the library lacks. It is an [ErrOldDriver].
type SymbolError struct {
	Library string
	Symbol  string
	Have    int // CUDA version of the library: 11040 is 11.4; 0 where it cannot tell
	Need    int // CUDA version that brought the function
}

func (e *SymbolError) Error() string {
	if e.Have == 0 {
		return fmt.Sprintf("%s has no %s: it is no CUDA driver, or one far too old; install NVIDIA driver %s or later", e.Library, e.Symbol, minimumRelease)
	}
	return fmt.Sprintf("%s (CUDA %s) has no %s, which came with CUDA %s; install NVIDIA driver %s or later",
		e.Library, VersionString(e.Have), e.Symbol, VersionString(e.Need), minimumRelease)
}

// Is gives the kind [ErrOldDriver].
func (e *SymbolError) Is(kind error) bool { return kind == ErrOldDriver }

// VersionString spells a CUDA version: 13000 is "13.0".
func VersionString(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// ModuleError is PTX that the driver refused, with what its compiler said.
type ModuleError struct {
	Err      error  // the failed call
	ErrorLog string // the compiler's errors
	InfoLog  string // its remarks
	Hint     string // what to do, where that is known
}

func (e *ModuleError) Error() string {
	s := e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	if e.ErrorLog != "" {
		s += "\n" + e.ErrorLog
	}
	if e.InfoLog != "" {
		s += "\n" + e.InfoLog
	}
	return s
}

func (e *ModuleError) Unwrap() error { return e.Err }

// Panic is what [Device.Do] panics with when the function given to it does: the
// value, and the stack of the goroutine that it left.
type Panic struct {
	Value any
	Stack []byte
}

func (p *Panic) Error() string {
	return fmt.Sprintf("panic inside Device.Do: %v\n\n%s", p.Value, p.Stack)
}

// Unwrap returns the value where it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// addresser is what the run-time system panics with at a memory fault.
type addresser interface {
	error
	RuntimeError()
	Addr() uintptr
}

// faultPanic is a Panic that still tells the address of a memory fault, so that
// a guard around Do sees a truncated map as one inside Do would.
type faultPanic struct {
	*Panic
	fault addresser
}

func (p faultPanic) RuntimeError() {}
func (p faultPanic) Addr() uintptr { return p.fault.Addr() }
