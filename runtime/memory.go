package runtime

import (
	"fmt"
	"sync"
)

// MemoryTracker accounts for memory before it is taken, so that running out of it
// is an error with a remedy and not the end of the process. A nil tracker, or one
// without a limit, allows everything. It is safe for concurrent use.
type MemoryTracker struct {
	mu    sync.Mutex
	limit int64 // 0: none
	used  int64
}

// NewMemoryTracker returns a tracker of limit bytes; 0 is no limit.
func NewMemoryTracker(limit int64) *MemoryTracker { return &MemoryTracker{limit: limit} }

// hostTracker returns a tracker of what this machine has left, without a limit
// where the system does not tell.
func hostTracker() *MemoryTracker {
	_, available, err := HostMemory()
	if err != nil {
		available = 0
	}
	return NewMemoryTracker(available)
}

// Reserve takes note of n bytes more. The error is a *MemoryError, after which
// nothing has changed: what is what the memory is for, fix what to do about it.
func (t *MemoryTracker) Reserve(what string, n int64, fix string) error {
	if t == nil || n <= 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limit > 0 && n > t.limit-t.used {
		return &MemoryError{What: what, Need: n, Have: t.limit - t.used, Fix: fix}
	}
	t.used += n
	return nil
}

// Release gives n bytes back.
func (t *MemoryTracker) Release(n int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used -= n
}

// Used returns how many bytes are reserved.
func (t *MemoryTracker) Used() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}

// MemoryError reports memory that cannot be had.
type MemoryError struct {
	What       string
	Need, Have int64 // bytes
	Fix        string
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("%s: %s of memory needed, %s available; %s", e.What, megabytes(e.Need), megabytes(e.Have), e.Fix)
}

func megabytes(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
}
