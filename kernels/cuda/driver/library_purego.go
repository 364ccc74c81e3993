//go:build linux && (amd64 || arm64) && !nocuda

package driver

import (
	"syscall"

	"github.com/ebitengine/purego"
)

// openLibrary opens a shared library by the rules of dlopen.
func openLibrary(path string) (uintptr, error) {
	return purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
}

// lookup returns the address of a function of the library, or 0.
func lookup(library uintptr, name string) uintptr {
	fn, err := purego.Dlsym(library, name)
	if err != nil {
		return 0
	}
	return fn
}

// invoke calls a C function of integers and pointers that returns an int. Pointers
// into Go's memory must be pinned. args escapes: where calls must not allocate, it
// is a slice of memory that is there already.
func invoke(fn uintptr, args []uintptr) int {
	r, _, _ := purego.SyscallN(fn, args...)
	return int(int32(r))
}

// threadID names the operating system's thread that the caller runs on.
func threadID() int64 { return int64(syscall.Gettid()) }
