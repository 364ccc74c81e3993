package runtime

import (
	goruntime "runtime"
	"sync/atomic"

	"github.com/tritter-ai/tritter/format"
)

// pool runs the parts of an operation on goroutines that outlive it: starting
// goroutines for each of the hundreds of operations of a step would cost more than
// small operations take. Parts are claimed one by one, by the caller too, so that
// an operation never waits for a worker that the system does not let run. A worker
// that has nothing to do looks for work for a few microseconds, the time between
// two operations of a step, and then sleeps.
type pool struct {
	threads int
	job     atomic.Pointer[job] // the latest
	workers []*worker           // threads - 1: the caller is the other
}

// job is one operation.
type job struct {
	parts      int32
	run        func(part int) error
	next, left atomic.Int32
	errs       []error
	panicked   atomic.Pointer[any]
	last       bool // the workers end
}

// worker is a goroutine of a pool.
type worker struct {
	asleep atomic.Bool
	wake   chan struct{}
}

func newPool(threads int) *pool {
	p := &pool{threads: threads}
	spin := 0
	if threads <= goruntime.GOMAXPROCS(0) { // otherwise looking takes time from those that work
		spin = 3000
	}
	for range threads - 1 {
		w := &worker{wake: make(chan struct{}, 1)}
		p.workers = append(p.workers, w)
		go w.work(&p.job, spin)
	}
	return p
}

// post offers a job to the workers.
func (p *pool) post(j *job) {
	p.job.Store(j)
	for _, w := range p.workers {
		if w.asleep.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
}

// close ends the workers.
func (p *pool) close() {
	p.post(&job{last: true})
	p.workers = nil
}

func (w *worker) work(latest *atomic.Pointer[job], spin int) {
	var done *job
	for {
		j := latest.Load()
		for i := 0; j == done; i++ {
			if i >= spin {
				w.asleep.Store(true)
				if latest.Load() == done || !w.asleep.CompareAndSwap(true, false) {
					<-w.wake // someone saw this worker asleep, or will
				}
			}
			j = latest.Load()
		}
		if j.last {
			return
		}
		j.help()
		done = j
	}
}

// help runs parts of j until none is left to claim.
func (j *job) help() {
	for {
		part := j.next.Add(1) - 1
		if part >= j.parts {
			return
		}
		j.do(int(part))
	}
}

// do runs a part. A panic is kept for the caller of split, whichever goroutine
// claimed the part, and is raised there after every part has ended.
func (j *job) do(part int) {
	defer j.left.Add(-1)
	defer func() {
		if r := recover(); r != nil {
			j.panicked.CompareAndSwap(nil, &r)
		}
	}()
	j.errs[part] = j.run(part)
}

// partsPerThread lets threads that started early, or run undisturbed, do more.
const partsPerThread = 2

// split runs fn over [0, n) in contiguous parts whose bounds are multiples of
// align, and returns the first error by part. A fault in a mapped file that shrank
// becomes an error. How the work is split never changes a result: fn computes
// independent outputs. One split runs at a time.
func (p *pool) split(n, align int, fn func(lo, hi int) error) error {
	units := (n + align - 1) / align
	if p.threads == 1 || units <= 1 {
		return format.Guard(func() error { return fn(0, n) })
	}
	parts := min(partsPerThread*p.threads, units)
	j := &job{parts: int32(parts), errs: make([]error, parts), run: func(i int) error {
		lo, hi := units*i/parts*align, min(units*(i+1)/parts*align, n)
		return format.Guard(func() error { return fn(lo, hi) })
	}}
	j.left.Store(int32(parts))
	p.post(j)
	j.help()
	for i := 0; j.left.Load() > 0; i++ {
		if i > 1000 {
			goruntime.Gosched()
		}
	}
	if r := j.panicked.Load(); r != nil {
		panic(*r)
	}
	for _, err := range j.errs {
		if err != nil {
			return err
		}
	}
	return nil
}
