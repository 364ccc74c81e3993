package format

import (
	"context"
	"os"
	"syscall"
	"unsafe"
)

const (
	madvPopulateRead = 22       // since Linux 5.14
	prefaultStep     = 16 << 20 // bytes between two looks at the context
)

// Prefault asks the system to read a mapped file ahead, and then has its pages
// entered into the map, so that no later access waits for either. It returns when
// that is done, cannot be had, or ctx ends, and must have returned before Close. It
// reports nothing: what it does not do happens when the pages are used.
func (f *File) Prefault(ctx context.Context) {
	if !f.mapped {
		return
	}
	if syscall.Madvise(f.data, syscall.MADV_WILLNEED) != nil {
		return
	}
	for rest := f.data; len(rest) > 0 && ctx.Err() == nil; {
		n := min(prefaultStep, len(rest))
		if syscall.Madvise(rest[:n], madvPopulateRead) != nil {
			return
		}
		rest = rest[n:]
	}
}

// Forget takes the whole pages of a view of this file out of the process's memory,
// for one who has copied them. They come back when they are read again. For a file
// that is not mapped it does nothing.
func (f *File) Forget(view []byte) {
	if !f.mapped || len(view) == 0 {
		return
	}
	// SAFETY: addresses are only compared; off is a place in f.data or out of range.
	off := uintptr(unsafe.Pointer(unsafe.SliceData(view))) - uintptr(unsafe.Pointer(unsafe.SliceData(f.data)))
	if off >= uintptr(len(f.data)) || uintptr(len(view)) > uintptr(len(f.data))-off {
		return // no view of this file
	}
	page := uintptr(os.Getpagesize())
	lo, hi := (off+page-1)/page*page, (off+uintptr(len(view)))/page*page
	if lo < hi {
		_ = syscall.Madvise(f.data[lo:hi], syscall.MADV_DONTNEED) // only saves memory
	}
}
