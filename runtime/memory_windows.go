package runtime

import (
	"fmt"
	"syscall"
	"unsafe"
)

var globalMemoryStatusEx = syscall.NewLazyDLL("kernel32.dll").NewProc("GlobalMemoryStatusEx")

// HostMemory returns how many bytes of memory this machine has, and how many of
// them are free.
func HostMemory() (total, available int64, err error) {
	var status struct { // MEMORYSTATUSEX
		length, load                                     uint32
		totalPhys, availPhys, totalPage, availPage       uint64
		totalVirtual, availVirtual, availExtendedVirtual uint64
	}
	status.length = uint32(unsafe.Sizeof(status))
	// SAFETY: the system writes status.length bytes, which is the size of status.
	if ok, _, err := globalMemoryStatusEx.Call(uintptr(unsafe.Pointer(&status))); ok == 0 {
		return 0, 0, fmt.Errorf("memory of this machine: GlobalMemoryStatusEx: %w", err)
	}
	return int64(status.totalPhys), int64(status.availPhys), nil
}
