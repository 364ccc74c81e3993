package format

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Guard runs fn and turns a memory fault inside a map of this package into a
// *FormatError: the file shrank under the program, and the pages of the map
// behind its new end no longer exist. Only fn's own goroutine is guarded, so
// each goroutine that reads views needs a Guard of its own. Every other panic
// passes through.
func Guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		fault, ok := r.(interface {
			runtime.Error
			Addr() uintptr
		})
		if !ok {
			panic(r)
		}
		m, off, ok := maps.find(fault.Addr())
		if !ok {
			panic(r)
		}
		err = &FormatError{ClassBounds, off, "file length of " + m.path, fmt.Sprintf("at most %d", off), fmt.Sprint(m.size), "the file was truncated while in use"}
	}()
	return fn()
}

// maps are the live maps of this package, so that Guard takes only their
// faults for a truncated file, and not those of a wild pointer.
var maps registry

type registry struct {
	mu   sync.Mutex
	live map[uintptr]mapping // by base address
}

type mapping struct {
	size int
	path string
}

func (r *registry) add(base uintptr, m mapping) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.live == nil {
		r.live = map[uintptr]mapping{}
	}
	r.live[base] = m
}

func (r *registry) remove(base uintptr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, base)
}

// find returns the map that holds addr and the offset of addr in its file.
func (r *registry) find(addr uintptr) (m mapping, off int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for base, m := range r.live {
		if addr >= base && addr-base < uintptr(m.size) {
			return m, int64(addr - base), true
		}
	}
	return mapping{}, 0, false
}
