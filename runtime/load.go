package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tritter-ai/tritter/kernels"
)

// huge is memory in pages of 2 MiB, as far as the system gives them.
type huge struct {
	data []byte
	used int
	free func() error
}

// hugePage is the size of a huge page, to which the memory is aligned.
const hugePage = 2 << 20

// dataAlign is what copied tensors are aligned to: a cache line.
const dataAlign = 64

// take cuts n bytes off.
func (h *huge) take(n int) []byte {
	at := (h.used + dataAlign - 1) / dataAlign * dataAlign
	h.used = at + n
	return h.data[at:h.used:h.used]
}

// copied is a stretch of the file and where it goes.
type copied struct{ to, from []byte }

// copyStep is how much one part of a copy takes: it bounds how much of the file
// stands in memory twice.
const copyStep = 8 << 20

// copyWeights moves the weights that are views of the file into huge pages, or
// leaves them where they are and says why.
func (e *cpuEngine) copyWeights() error {
	var size int64
	e.model.weights.relocate(func(data []byte) []byte {
		size += int64(len(data) + dataAlign)
		return data
	})
	h, err := allocHuge(size)
	if err != nil {
		e.opt.Load = LoadMmap
		e.plan = newPlan(&e.model.Config, e.model.file.Header(), &e.opt)
		e.plan.Note = fmt.Sprintf("huge pages: %v; the weights stay in the file's map", err)
		return nil
	}
	before := hugeBytes()
	var stretches []copied
	moved := e.model.weights.relocate(func(data []byte) []byte {
		to := h.take(len(data))
		for at := 0; at < len(data); at += copyStep {
			end := min(at+copyStep, len(data))
			stretches = append(stretches, copied{to[at:end], data[at:end]})
		}
		return to
	})
	err = e.pool.guarded(func() error {
		return e.pool.split(len(stretches), 1, func(lo, hi int) error {
			for _, s := range stretches[lo:hi] {
				copy(s.to, s.from)
				e.model.file.Forget(s.from)
			}
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("copy of the weights: %w", errors.Join(err, h.free()))
	}
	e.weights, e.huge = moved, h
	if e.plan.Huge = min(hugeBytes()-before, size); e.plan.Huge < size/2 {
		e.plan.Note = fmt.Sprintf("huge pages: the system gave them for %s of %s; see /sys/kernel/mm/transparent_hugepage", megabytes(max(e.plan.Huge, 0)), megabytes(size))
	}
	return nil
}

// relocate returns weights whose large tensors, as far as they are views of the
// file, are what move returns for them. Everything small is shared.
func (w *weights) relocate(move func(data []byte) []byte) *weights {
	out := *w
	dense := func(d *kernels.Dense) *kernels.Dense {
		n := *d
		n.Data = move(d.Data)
		return &n
	}
	ternary := func(t *kernels.Ternary) *kernels.Ternary {
		if w.unpacked[t] {
			return t
		}
		n := *t
		n.Tiles = move(t.Tiles)
		return &n
	}
	out.embed = *dense(&w.embed)
	switch {
	case w.head.Ternary != nil:
		out.head.Ternary = ternary(w.head.Ternary)
	case w.head.Dense == &w.embed:
		out.head.Dense = &out.embed
	default:
		out.head.Dense = dense(w.head.Dense)
	}
	out.layers = append([]layer(nil), w.layers...)
	for i := range out.layers {
		l := &out.layers[i]
		for _, p := range []*projection{&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down} {
			p.Ternary = ternary(p.Ternary)
		}
	}
	return &out
}

// prefault pages the file in until the returned function is called.
func prefault(m *Model) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { m.file.Prefault(ctx) })
	return func() {
		cancel()
		done.Wait()
	}
}
