package cuda

import (
	"cmp"
	"slices"

	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// KernelTime is what one kernel costs in a step.
type KernelTime struct {
	Kernel    string  `json:"kernel"`
	Launches  int     `json:"launches"`
	Micros    float64 `json:"microseconds"` // of all launches
	Registers int     `json:"registers"`    // a thread
	Spilled   int     `json:"spilled"`      // bytes a thread keeps in local memory
}

// profile records an event before each launch.
type profile struct {
	kernels []kernel
	events  []*driver.Event
}

func (p *profile) mark(d *Device, k kernel) error {
	if len(p.events) == len(p.kernels) {
		e, err := d.ctx.NewEvent(true)
		if err != nil {
			return err
		}
		p.events = append(p.events, e)
	}
	p.kernels = append(p.kernels, k)
	return p.events[len(p.kernels)-1].Record(d.stream)
}

// Profile computes the token at the end of seq, without appending it, kernel by kernel and n times, and returns the
// median time of each kernel in a step, the greatest first. Launches one by one neither overlap nor follow each other as
// closely as those of a graph, so that the sum is more than a step costs.
func (e *Engine) Profile(seq *Sequence, token, n int) ([]KernelTime, error) {
	var out []KernelTime
	err := e.d.do(func() (err error) {
		if err := seq.reserve(1); err != nil {
			return err
		}
		out, err = e.d.measure(n, func() error {
			e.setState(seq, token, seq.len)
			return nil
		}, func() error {
			e.launchSingle(false)
			return nil
		})
		return err
	})
	return out, err
}

// ProfilePrefill is Profile for tokens that are computed together behind seq, at most as many as the engine computes at once.
func (e *Engine) ProfilePrefill(seq *Sequence, tokens []int, n int) ([]KernelTime, error) {
	var out []KernelTime
	tokens = tokens[:min(len(tokens), e.batch)]
	spans := []Span{{Seq: seq, Tokens: tokens}}
	err := e.d.do(func() (err error) {
		if err := seq.reserve(len(tokens)); err != nil {
			return err
		}
		e.s.turn++
		rows := make([]row, len(tokens))
		for i, token := range tokens {
			rows[i] = row{seq: seq, pos: seq.len + i, at: i, token: uint32(token)}
		}
		out, err = e.d.measure(n, func() error { return nil }, func() error { return e.forward(rows, spans) })
		return err
	})
	return out, err
}

// measure runs prepare and run n times and returns the median time of each kernel in run.
func (d *Device) measure(n int, prepare, run func() error) (out []KernelTime, err error) {
	p := &profile{}
	defer func() {
		d.profile = nil
		for _, e := range p.events {
			d.fail(e.Destroy())
		}
	}()
	times := map[kernel][]float64{}
	launches := map[kernel]int{}
	for range n {
		if err := prepare(); err != nil {
			return nil, err
		}
		d.profile, p.kernels = p, p.kernels[:0]
		err := run()
		d.profile = nil
		if err != nil {
			return nil, err
		}
		d.fail(p.mark(d, numKernels)) // the end
		d.fail(d.stream.Synchronize())
		step := map[kernel]float64{}
		clear(launches)
		for i, k := range p.kernels[:len(p.kernels)-1] {
			ms, err := p.events[i+1].ElapsedSince(p.events[i])
			if err != nil {
				return nil, err
			}
			step[k] += 1000 * float64(ms)
			launches[k]++
		}
		for k, us := range step {
			times[k] = append(times[k], us)
		}
		if d.err != nil {
			return nil, d.took()
		}
	}
	for k, us := range times {
		a, err := d.fn[k].Attributes()
		if err != nil {
			return nil, err
		}
		slices.Sort(us)
		out = append(out, KernelTime{Kernel: table[k].name, Launches: launches[k], Micros: us[len(us)/2], Registers: a.Registers, Spilled: a.Local})
	}
	slices.SortFunc(out, func(a, b KernelTime) int {
		return cmp.Or(cmp.Compare(b.Micros, a.Micros), cmp.Compare(a.Kernel, b.Kernel))
	})
	return out, nil
}

// StepTimes continues seq by n tokens, the device feeding itself, and returns the microseconds of each step between
// events of the device. seq needs room for n+1 positions.
func (e *Engine) StepTimes(seq *Sequence, token, n int) ([]float64, error) {
	var out []float64
	err := e.d.do(func() error {
		d := e.d
		if err := seq.reserve(n); err != nil {
			return err
		}
		d.clearBad()
		greedy := Decoding{e: e, sampling: Sampling{Penalty: 1, TopP: 1}, seen: []uint32{0}}
		greedy.setSampling()
		e.setState(seq, token, seq.len)
		events := make([]*driver.Event, n+1)
		defer func() {
			for _, e := range events {
				if e != nil {
					d.fail(e.Destroy())
				}
			}
		}()
		for i := range events {
			var err error
			if events[i], err = d.ctx.NewEvent(true); err != nil {
				return err
			}
			d.fail(events[i].Record(d.stream))
			if i < n {
				e.runSingle(true)
			}
		}
		if site := d.readBad(); site != noSite {
			return e.siteError(site)
		}
		for i := range n {
			ms, err := events[i+1].ElapsedSince(events[i])
			if err != nil {
				return err
			}
			out = append(out, 1000*float64(ms))
		}
		seq.len += n
		return d.took()
	})
	return out, err
}

// CopyBandwidth measures how many bytes a second a copy within the device reads and writes, the best of five.
func (d *Device) CopyBandwidth() (float64, error) {
	best := 0.0
	err := d.do(func() error {
		free, _, err := d.ctx.MemInfo()
		if err != nil {
			return err
		}
		n := min(256<<20, free/64) &^ 255
		arena, err := driver.NewArena(d.ctx, 2*n)
		if err != nil {
			return err
		}
		defer func() { d.fail(arena.Close()) }()
		from, err := arena.Alloc(n)
		if err != nil {
			return err
		}
		var events [2]*driver.Event
		for i := range events {
			if events[i], err = d.ctx.NewEvent(true); err != nil {
				return err
			}
			defer func() { d.fail(events[i].Destroy()) }()
		}
		d.fail(d.ctx.Memset8(from, 1, 2*n, d.stream))
		for range 5 {
			d.fail(events[0].Record(d.stream))
			d.fail(d.ctx.CopyDevice(from+driver.Ptr(n), from, n, d.stream))
			d.fail(events[1].Record(d.stream))
			d.fail(d.stream.Synchronize())
			ms, err := events[1].ElapsedSince(events[0])
			if err != nil {
				return err
			}
			if ms > 0 {
				best = max(best, 2*float64(n)/(float64(ms)/1000))
			}
		}
		return d.took()
	})
	return best, err
}
