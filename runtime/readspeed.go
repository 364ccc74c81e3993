package runtime

import (
	"bytes"
	"sync/atomic"
	"time"
)

// weightReader is an engine whose weights are in this machine's memory.
type weightReader interface {
	// readWeights reads the weights of one decoded token and does nothing with
	// them. It returns how many bytes those are.
	readWeights() (int64, error)
}

// Each thread reads in several places at once, some lines at a time: a processor has
// more reads under way than it makes ahead of one place.
const (
	readStreams = 3
	readStretch = 1280
)

// readSpeed measures how many bytes a second the threads of an engine can read of
// its weights, through the same pages as a decode and doing little else. Kernels that ask
// for lines before they read them can be a little faster.
func readSpeed(e weightReader) (float64, error) {
	begun := time.Now()
	n, err := e.readWeights()
	return float64(n) / time.Since(begun).Seconds(), err
}

func (e *cpuEngine) readWeights() (total int64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found atomic.Int64 // a use for what is read
	var data []byte
	count := func(lo, hi int) error {
		n, each := 0, (hi-lo+readStreams-1)/readStreams
		for at := lo; at < lo+each; at += readStretch {
			for s := at; s < hi; s += each {
				end := min(s+readStretch, s-at+lo+each, hi)
				n += bytes.Count(data[s:end], []byte{0xaa}) // of one byte: wide loads
			}
		}
		found.Add(int64(n))
		return nil
	}
	read := func(d []byte) {
		data = d
		if err == nil {
			total += int64(len(d))
			err = e.pool.split(len(d), 4096, count)
		}
	}
	fault := e.pool.guarded(func() error {
		for i := range e.weights.layers {
			l := &e.weights.layers[i]
			for _, p := range []*projection{&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down} {
				read(p.Tiles)
			}
		}
		if t := e.weights.head.Ternary; t != nil {
			read(t.Tiles)
		} else {
			read(e.weights.head.Dense.Data)
		}
		return err
	})
	return total, fault
}

// usualCache stands for the size of the largest cache where it is not known.
const usualCache = 64 << 20
