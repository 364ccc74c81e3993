package driver

import "fmt"

// arenaAlign is the alignment of every piece of an arena: a whole cache line of
// the device twice over, and what cuMemAlloc itself promises.
const arenaAlign = 256

// Arena is one allocation on the device that is handed out in pieces and given
// back as a whole.
type Arena struct {
	c          *Context
	base       Ptr
	size, used int64
}

// NewArena allocates size bytes. The error is that of [Context.Alloc].
func NewArena(c *Context, size int64) (*Arena, error) {
	base, err := c.Alloc(size)
	if err != nil {
		return nil, err
	}
	return &Arena{c: c, base: base, size: size}, nil
}

// ArenaSize returns the size of an arena that holds pieces of these sizes.
func ArenaSize(pieces ...int64) (size int64) {
	for _, n := range pieces {
		size = alignUp(size) + n
	}
	return size
}

func alignUp(n int64) int64 { return (n + arenaAlign - 1) / arenaAlign * arenaAlign }

// Alloc hands out n bytes, aligned to 256. An arena that is too small is an error of
// the kind [ErrOutOfMemory].
func (a *Arena) Alloc(n int64) (Ptr, error) {
	if a.base == 0 {
		return 0, fmt.Errorf("arena: %w", ErrClosed)
	}
	if n <= 0 {
		return 0, fmt.Errorf("taking %d bytes of an arena, want at least 1", n)
	}
	at := alignUp(a.used)
	if at > a.size || n > a.size-at {
		return 0, fmt.Errorf("%w: %d bytes of an arena of which %d of %d are used; plan for more", ErrOutOfMemory, n, a.used, a.size)
	}
	a.used = at + n
	return a.base + Ptr(at), nil
}

// Used returns the bytes handed out, padding between them included.
func (a *Arena) Used() int64 { return a.used }

// Size returns the bytes of the allocation.
func (a *Arena) Size() int64 { return a.size }

// Close frees the allocation and so every piece, inside Do. A second Close does
// nothing.
func (a *Arena) Close() error {
	base := a.base
	a.base, a.size, a.used = 0, 0, 0
	return a.c.Free(base)
}
