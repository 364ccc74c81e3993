//go:build linux || darwin

package format

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// mapFile maps the first size bytes of f read-only. The map outlives f.
func mapFile(f *os.File, size int) (data []byte, mapped bool, unmap func() error, err error) {
	data, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, false, nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	// SAFETY: only the address is kept, as a number to compare faults with.
	base := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	maps.add(base, mapping{size, f.Name()})
	return data, true, func() error {
		maps.remove(base)
		return syscall.Munmap(data)
	}, nil
}
