//go:build linux || darwin

package optest

import (
	"os"
	"syscall"
)

// arena hands out buffers that end at an unreadable page.
type arena struct{ maps [][]byte }

func (a *arena) bytes(n int) []byte {
	page := os.Getpagesize()
	size := (n + page - 1) / page * page
	m, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic("optest: mmap: " + err.Error())
	}
	a.maps = append(a.maps, m)
	if err := syscall.Mprotect(m[size:], syscall.PROT_NONE); err != nil {
		panic("optest: mprotect: " + err.Error())
	}
	return m[size-n : size : size]
}

// free unmaps every buffer; none may be used again.
func (a *arena) free() {
	for _, m := range a.maps {
		if err := syscall.Munmap(m); err != nil {
			panic("optest: munmap: " + err.Error())
		}
	}
	a.maps = nil
}
