package nearest

import "sync"

// Threads returns a Split over n goroutines, which claim parts until none is left,
// so that one that is held up does not hold up the others. guard runs each part;
// nil runs it as it is. It is what turns a fault in a mapped file into an error.
func Threads(n int, guard func(func() error) error) Split {
	if guard == nil {
		guard = func(fn func() error) error { return fn() }
	}
	const partsPerThread = 8
	return func(size int, fn func(lo, hi int) error) error {
		if n < 2 || size < 2 {
			return guard(func() error { return fn(0, size) })
		}
		parts := min(size, n*partsPerThread)
		var mu sync.Mutex
		var next int
		errs := make([]error, parts)
		claim := func() (part int, ok bool) {
			mu.Lock()
			defer mu.Unlock()
			next++
			return next - 1, next <= parts
		}
		work := func() {
			for part, ok := claim(); ok; part, ok = claim() {
				errs[part] = guard(func() error { return fn(size*part/parts, size*(part+1)/parts) })
			}
		}
		var wg sync.WaitGroup
		for range min(n, parts) - 1 {
			wg.Go(work)
		}
		work()
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
}
