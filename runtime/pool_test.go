package runtime

import (
	"errors"
	"fmt"
	goruntime "runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSplitCoversAll: every element is computed once, at bounds that are aligned,
// whatever the number of threads.
func TestSplitCoversAll(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 7, 16} {
		p := newPool(threads)
		for _, align := range []int{1, 4, 16} {
			for _, n := range []int{1, 2, 3, 15, 16, 17, 63, 64, 65, 1000} {
				seen := make([]atomic.Int32, n)
				require.NoError(t, p.guarded(func() error {
					return p.split(n, align, func(lo, hi int) error {
						if lo%align != 0 || hi%align != 0 && hi != n {
							return fmt.Errorf("part %d to %d", lo, hi)
						}
						for i := lo; i < hi; i++ {
							seen[i].Add(1)
						}
						return nil
					})
				}))
				for i := range seen {
					require.Equal(t, int32(1), seen[i].Load(), "%d threads, align %d, element %d of %d", threads, align, i, n)
				}
			}
		}
		p.close()
	}
}

// TestSplitErrors: the error of the first part that has one comes back, and the
// pool goes on after errors and panics, in the caller's parts and in others.
func TestSplitErrors(t *testing.T) {
	own := errors.New("own")
	for _, threads := range []int{1, 2, 4} {
		p := newPool(threads)
		sum := func() {
			var total atomic.Int64
			require.NoError(t, p.guarded(func() error {
				return p.split(1000, 1, func(lo, hi int) error {
					total.Add(int64(hi - lo))
					return nil
				})
			}))
			require.Equal(t, int64(1000), total.Load())
		}
		for round := range 50 {
			err := p.guarded(func() error {
				return p.split(1000, 1, func(lo, hi int) error {
					if hi > 300 {
						return fmt.Errorf("at %d: %w", max(lo, 300), own)
					}
					return nil
				})
			})
			require.ErrorIs(t, err, own)
			require.Regexp(t, "^at 3[0-7]", err.Error())
			sum()
			at := round * 20 // now in the caller's range, now in a worker's
			require.PanicsWithValue(t, "boom", func() {
				_ = p.guarded(func() error {
					return p.split(1000, 1, func(lo, hi int) error {
						if lo <= at && at < hi {
							panic("boom")
						}
						return nil
					})
				})
			})
			sum()
		}
		p.close()
	}
}

// TestLateWaker: a thread of the operation before that wakes the caller does not end
// the operation.
func TestLateWaker(t *testing.T) {
	p := startPool(2, 0)
	defer p.close()
	late := make(chan struct{})
	go func() { // what end does after the last part, held up until now
		defer close(late)
		for !p.waiting.CompareAndSwap(true, false) {
			goruntime.Gosched()
		}
		p.done <- struct{}{}
	}()
	var begun, ended atomic.Bool
	require.NoError(t, p.guarded(func() error {
		return p.split(2, 1, func(lo, _ int) error {
			if lo == 0 { // the caller's
				for !begun.Load() {
					goruntime.Gosched()
				}
				return nil
			}
			begun.Store(true)
			<-late
			time.Sleep(20 * time.Millisecond)
			ended.Store(true)
			return nil
		})
	}))
	require.True(t, ended.Load())
}

// TestCloseAtOnce: a worker that has hardly begun when the pool is closed ends too.
func TestCloseAtOnce(t *testing.T) {
	for i := range 5000 {
		p := newPool(2)
		if i%2 == 0 {
			goruntime.Gosched()
		}
		p.close()
	}
}

// TestIdleWorkersSleep: between steps nothing spins.
func TestIdleWorkersSleep(t *testing.T) {
	p := newPool(min(3, goruntime.GOMAXPROCS(0)+1))
	defer p.close()
	for range 3 {
		require.NoError(t, p.guarded(func() error { return p.split(100, 1, func(int, int) error { return nil }) }))
		require.Eventually(t, func() bool {
			for _, w := range p.workers {
				if !w.asleep.Load() {
					return false
				}
			}
			return true
		}, 10*time.Second, time.Millisecond)
	}
}
