package runtime

import (
	"sync"

	"github.com/tritter-ai/tritter/format"
)

// split runs fn over [0, n) in at most threads contiguous parts whose bounds are
// multiples of align, and returns the first error by part. A fault in a mapped
// file that shrank becomes an error. How the work is split never changes a
// result: fn computes independent outputs.
func split(threads, n, align int, fn func(lo, hi int) error) error {
	units := (n + align - 1) / align
	parts := min(threads, units)
	if parts <= 1 {
		return format.Guard(func() error { return fn(0, n) })
	}
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() {
			lo, hi := units*p/parts*align, min(units*(p+1)/parts*align, n)
			errs[p] = format.Guard(func() error { return fn(lo, hi) })
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
