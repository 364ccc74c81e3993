package runtime

import (
	goruntime "runtime"
	"sync"
	"sync/atomic"

	"github.com/tritter-ai/tritter/format"
)

// pool runs the parts of an operation on goroutines that outlive it: starting
// goroutines for each of the hundreds of operations of a step would cost more than
// small operations take. It allocates nothing and takes no lock per operation.
//
// Every thread has a contiguous range of each operation, cut into a few parts. It
// claims its own first and then those that others have not begun, so that an
// operation never waits for a thread that the system does not let run, except for
// the part that it holds. Whoever waits looks for a change for a tenth of a
// millisecond, longer than the time between two operations of a step, and then sleeps.
//
// A pool belongs to one goroutine at a time, the caller, which is thread 0.
type pool struct {
	threads int
	spin    int // looks before sleeping

	workers []*worker // threads - 1
	ended   sync.WaitGroup

	// The operation. The caller writes these while no part is claimed and then
	// resets the ranges; a thread reads them after it has claimed a part.
	fn                     func(lo, hi int) error
	n, align, units, parts int

	ranges    []claims     // one a thread
	errs      []error      // one a part
	failed    atomic.Bool  // one of errs is set
	left      atomic.Int32 // parts that have not ended
	operation atomic.Uint32
	closed    atomic.Bool
	waiting   atomic.Bool // the caller sleeps until left is 0
	done      chan struct{}

	inPart bool // the caller is inside fn
}

// claims counts the parts claimed of one thread's range, on a cache line of its own.
type claims struct {
	atomic.Int32
	_ [60]byte
}

// worker is a goroutine of a pool.
type worker struct {
	pool   *pool
	thread int
	part   int // the one that is being computed, or -1
	asleep atomic.Bool
	wake   chan struct{}
	loop   func() error // serve, bound once
}

// partsPerThread lets threads that started early, or run undisturbed, do more.
const partsPerThread = 4

// spinLooks is how often a thread looks for a change before it sleeps: about a tenth
// of a millisecond. Waking costs more than most operations take, and threads that
// read memory together rarely end together: with a tenth of these looks a decode
// with two threads is a fifth slower.
const spinLooks = 200000

// victims bounds how many ranges of others a worker looks through; the caller, who
// must wait for all of them, looks at every one.
const victims = 4

// raised is a panic on its way to the caller.
type raised struct{ value any }

func (raised) Error() string { return "panic in a part of an operation" }

func newPool(threads int) *pool {
	if threads > goruntime.GOMAXPROCS(0) { // looking would take time from those that work
		return startPool(threads, 0)
	}
	return startPool(threads, spinLooks)
}

func startPool(threads, spin int) *pool {
	p := &pool{threads: threads, spin: spin, done: make(chan struct{}, 1), ranges: make([]claims, threads), errs: make([]error, threads*partsPerThread)}
	for i := range p.ranges {
		p.ranges[i].Store(partsPerThread) // nothing to claim
	}
	for i := range threads - 1 {
		w := &worker{pool: p, thread: i + 1, part: -1, wake: make(chan struct{}, 1)}
		w.loop = w.serve
		p.workers = append(p.workers, w)
		p.ended.Go(w.run)
	}
	return p
}

// close ends the workers and waits for them.
func (p *pool) close() {
	p.closed.Store(true)
	p.post()
	p.ended.Wait()
	p.workers = nil
}

// post tells the workers that there is something new.
func (p *pool) post() {
	p.operation.Add(1)
	for _, w := range p.workers {
		if w.asleep.Load() && w.asleep.CompareAndSwap(true, false) {
			w.wake <- struct{}{}
		}
	}
}

// split runs fn over [0, n) in contiguous parts whose bounds are multiples of
// align, and returns the first error in the order of parts. How the work is split
// never changes a result: fn computes independent outputs. One split runs at a
// time. To allocate nothing, fn must be a value that was made before.
//
// The caller runs inside guarded.
func (p *pool) split(n, align int, fn func(lo, hi int) error) error {
	units := (n + align - 1) / align
	if p.threads == 1 || units <= 1 {
		return fn(0, n)
	}
	p.fn, p.n, p.align, p.units = fn, n, align, units
	p.parts = min(partsPerThread, (units+p.threads-1)/p.threads)
	p.left.Store(int32(p.parts * p.threads))
	for i := range p.ranges {
		p.ranges[i].Store(int32(partsPerThread - p.parts))
	}
	p.post()
	for part := p.claim(0, p.threads-1); part >= 0; part = p.claim(0, p.threads-1) {
		p.inPart = true
		err := p.compute(part)
		p.inPart = false
		p.end(part, err)
	}
	p.wait()
	return p.result()
}

// claim takes a part of the thread's own range or of one of the ranges after it.
// It returns -1 when there is none.
func (p *pool) claim(thread, others int) int {
	for i := range others + 1 {
		t := thread + i
		if t >= p.threads {
			t -= p.threads
		}
		r := &p.ranges[t]
		if r.Load() >= partsPerThread {
			continue
		}
		if at := int(r.Add(1)) - 1; at < partsPerThread {
			return t*partsPerThread + at
		}
	}
	return -1
}

// compute runs a part that was claimed. Part numbers are those of threads that
// have partsPerThread each, of which the last p.parts exist.
func (p *pool) compute(part int) error {
	skip := partsPerThread - p.parts
	i, count := part/partsPerThread*p.parts+part%partsPerThread-skip, p.threads*p.parts
	lo, hi := p.units*i/count*p.align, min(p.units*(i+1)/count*p.align, p.n)
	if lo >= hi {
		return nil
	}
	return p.fn(lo, hi)
}

// end records that a part is over.
func (p *pool) end(part int, err error) {
	if err != nil {
		p.errs[part] = err
		p.failed.Store(true)
	}
	if p.left.Add(-1) == 0 && p.waiting.CompareAndSwap(true, false) {
		p.done <- struct{}{}
	}
}

// wait returns when every part has ended. A thread that has ended the last part of the
// operation before, and has been held up since, may wake the caller: it looks again.
func (p *pool) wait() {
	for range p.spin {
		if p.left.Load() == 0 {
			return
		}
	}
	for p.left.Load() > 0 {
		p.waiting.Store(true)
		if p.left.Load() > 0 || !p.waiting.CompareAndSwap(true, false) {
			<-p.done // someone saw the caller waiting, or will
		}
	}
}

// result returns the first error of the parts, or raises the first panic.
func (p *pool) result() error {
	if !p.failed.Load() {
		return nil
	}
	var first error
	for i, err := range p.errs {
		if first == nil {
			first = err
		}
		p.errs[i] = nil
	}
	p.failed.Store(false)
	if r, ok := first.(raised); ok {
		panic(r.value)
	}
	return first
}

// guarded runs fn, which may use split. A fault of the caller in a mapped file that
// shrank becomes an error, as those of the workers do. However fn ends, no worker
// is left computing.
func (p *pool) guarded(fn func() error) error {
	defer p.settle()
	return format.Guard(fn)
}

// settle ends an operation that the caller left by a panic: parts that nobody has
// begun are dropped.
func (p *pool) settle() {
	if !p.inPart {
		return
	}
	p.inPart = false
	dropped := int32(1) // the caller's own
	for p.claim(0, p.threads-1) >= 0 {
		dropped++
	}
	if p.left.Add(-dropped) > 0 {
		p.wait()
	}
	clear(p.errs)
	p.failed.Store(false)
}

// run is the life of a worker. Serve ends early only by a fault or a panic, which
// belongs to the part that it was computing.
func (w *worker) run() {
	for !w.pool.closed.Load() {
		if err := w.guard(); err != nil {
			part := w.part
			w.part = -1
			w.pool.end(part, err)
		}
	}
}

func (w *worker) guard() (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = raised{r}
		}
	}()
	return format.Guard(w.loop)
}

// serve computes parts until the pool is closed. It looks at closed after operation:
// close sets the one before it counts the other, so that a worker who missed the count
// sees that the pool is closed.
func (w *worker) serve() error {
	p := w.pool
	for {
		seen := p.operation.Load()
		if p.closed.Load() {
			return nil
		}
		for w.part = p.claim(w.thread, min(victims, p.threads-1)); w.part >= 0; w.part = p.claim(w.thread, min(victims, p.threads-1)) {
			p.end(w.part, p.compute(w.part))
		}
		for i := 0; p.operation.Load() == seen; i++ {
			if i >= p.spin {
				w.asleep.Store(true)
				if p.operation.Load() == seen || !w.asleep.CompareAndSwap(true, false) {
					<-w.wake // someone saw this worker asleep, or will
				}
				break
			}
		}
	}
}
