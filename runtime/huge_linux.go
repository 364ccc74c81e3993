package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// allocHuge returns memory of zeros that the system is asked to hold in pages of
// 2 MiB.
func allocHuge(size int64) (*huge, error) {
	mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || bytes.Contains(mode, []byte("[never]")) {
		return nil, errors.New("this system has none, or they are turned off")
	}
	n := int((size + 2*hugePage - 1) / hugePage * hugePage)
	all, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", n, err)
	}
	// SAFETY: only the address is used, as a number.
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(all))) % hugePage)
	data := all[skip : len(all)-(hugePage-skip)%hugePage]
	if err := syscall.Madvise(data, syscall.MADV_HUGEPAGE); err != nil {
		return nil, fmt.Errorf("madvise: %w", errors.Join(err, syscall.Munmap(all)))
	}
	return &huge{data: data, free: func() error { return syscall.Munmap(all) }}, nil
}

// hugeBytes returns how much memory of this process is in huge pages, 0 where the
// system does not tell.
func hugeBytes() int64 {
	data, _ := os.ReadFile("/proc/self/smaps_rollup")
	return field(data, "AnonHugePages:") << 10
}
