package runtime

import (
	"sync"

	"github.com/tritter-ai/tritter/kernels"
)

// attention holds what the attention of a batch needs beside its activations. It
// is filled anew in every layer, and nothing in it is allocated again.
type attention struct {
	rows  []row
	sinkQ []float32 // queries rotated for sinks, as buffers.q; empty without a window
	tasks []attentionTask

	// With chunks apart, every chunk of a block is a task, the blocks' first ones in
	// front, and computes a part of its own.
	apart  bool
	blocks int
	parts  []float32

	// The angles of a query for sinks once the window has passed them: of position
	// Sinks + Window - 1.
	sinkCos, sinkSin []float32

	scratch sync.Pool // of *attentionScratch
}

// attentionTask is a block of queries: rows first..first+rows-1 of the batch, the
// query heads of one kv head.
type attentionTask struct {
	first, rows, kvHead int

	// With chunks apart: the chunk that the task computes, where in attention.parts
	// its first query's part stands, how far it is from there to the same query's
	// next chunk, and how many chunks the block has.
	chunk, part, stride, chunks int
}

type attentionScratch struct {
	queries kernels.Queries
	parts   []float32
}

// firstRun returns the rows of the first sequence: consecutive positions.
func firstRun(rows []row) []row {
	n := 1
	for n < len(rows) && rows[n].seq == rows[0].seq {
		n++
	}
	return rows[:n]
}

func (e *cpuEngine) prepareAttention() {
	a, c := &e.buf.attention, &e.model.Config
	a.scratch.New = func() any { return new(attentionScratch) }
	if e.opt.Window > 0 {
		a.sinkCos, a.sinkSin = make([]float32, c.HeadDim/2), make([]float32, c.HeadDim/2)
		e.model.rope.At(e.opt.Sinks+e.opt.Window-1, a.sinkCos, a.sinkSin)
	}
}

// place normalizes and rotates the queries and keys of a batch and stores keys
// and values in their pages.
func (e *cpuEngine) place() error {
	b, rows := &e.buf, e.step.rows
	for rest := rows; len(rest) > 0; {
		run := firstRun(rest)
		b.pageTables[run[0].span] = run[0].seq.pages(e.step.layer, b.pageTables[run[0].span][:0])
		rest = rest[len(run):]
	}
	if e.opt.Window > 0 {
		grow(&b.attention.sinkQ, len(rows)*e.model.Config.NumHeads*e.model.Config.HeadDim)
	}
	return e.pool.split(len(rows), 1, e.parts.place)
}

func (e *cpuEngine) placePart(lo, hi int) error {
	c, b, l := &e.model.Config, &e.buf, &e.weights.layers[e.step.layer]
	dim, half := c.HeadDim, c.HeadDim/2
	qDim, kvDim := c.NumHeads*dim, c.NumKVHeads*dim
	for i := lo; i < hi; i++ {
		q, k, v := b.q[i*qDim:(i+1)*qDim], b.k[i*kvDim:(i+1)*kvDim], b.v[i*kvDim:(i+1)*kvDim]
		if l.qNorm != nil {
			if err := e.normHeads(q, l.qNorm); err != nil {
				return err
			}
		}
		if l.kNorm != nil {
			if err := e.normHeads(k, l.kNorm); err != nil {
				return err
			}
		}
		r, cos, sin := e.step.rows[i], b.cos[i*half:(i+1)*half], b.sin[i*half:(i+1)*half]
		if e.opt.Window > 0 {
			sinkQ := b.attention.sinkQ[i*qDim : (i+1)*qDim]
			copy(sinkQ, q)
			if r.pos < e.opt.Sinks+e.opt.Window {
				e.ops.Rope(sinkQ, dim, cos, sin)
			} else {
				e.ops.Rope(sinkQ, dim, b.attention.sinkCos, b.attention.sinkSin)
			}
		}
		e.ops.Rope(q, dim, cos, sin)
		e.ops.Rope(k, dim, cos, sin)
		page := b.pageTables[r.span][r.seq.index(r.pos/kernels.PageLen)]
		if err := e.ops.StoreKV(page, r.pos%kernels.PageLen, k, v); err != nil {
			return err
		}
	}
	return nil
}

// attendQueries is how many queries of one kv head a task computes together: enough
// to load keys and values a few times only, few enough that their parts stay in
// the first cache.
const attendQueries = 64

// attend computes every query head of every row over the positions that it attends
// to. A task takes the queries of some rows that share a kv head; where that
// gives too few tasks for all threads, each of its chunks becomes a task, and
// the parts are merged afterwards.
func (e *cpuEngine) attend() error {
	a := &e.buf.attention
	e.planAttention()
	if err := e.pool.split(len(a.tasks), 1, e.parts.attend); err != nil || !a.apart {
		return err
	}
	return e.pool.split(a.blocks, 1, e.parts.merge)
}

// planAttention makes the tasks.
func (e *cpuEngine) planAttention() {
	a, c := &e.buf.attention, &e.model.Config
	shared := c.NumHeads / c.NumKVHeads
	most := max(1, attendQueries/shared)
	a.rows, a.tasks = e.step.rows, a.tasks[:0]
	for h := range c.NumKVHeads {
		for first := 0; first < len(a.rows); {
			run := firstRun(a.rows[first:])
			for lo := 0; lo < len(run); lo += most {
				a.tasks = append(a.tasks, attentionTask{first: first + lo, rows: min(most, len(run)-lo), kvHead: h})
			}
			first += len(run)
		}
	}
	a.blocks = len(a.tasks)
	if a.apart = e.opt.Threads > 1 && a.blocks < 2*partsPerThread*e.opt.Threads; a.apart {
		e.separateChunks()
	}
}

// separateChunks makes a task of every chunk of every block. The first ones of the
// blocks stay in front.
func (e *cpuEngine) separateChunks() {
	a, c := &e.buf.attention, &e.model.Config
	size := kernels.AttentionPart(c.HeadDim) * c.NumHeads / c.NumKVHeads
	total := 0
	for i := range a.tasks {
		t := a.tasks[i]
		chunks := len(e.buf.pageTables[a.rows[t.first].span]) // more than there are for the first rows of a run, whose parts stay empty
		for v := range chunks {
			t.chunk, t.part = v, total+v*t.rows*size
			t.stride, t.chunks = t.rows*size, chunks
			if v == 0 {
				a.tasks[i] = t
			} else {
				a.tasks = append(a.tasks, t)
			}
		}
		total += chunks * t.rows * size
	}
	grow(&a.parts, total)
}

// attendPart computes tasks lo..hi-1.
func (e *cpuEngine) attendPart(lo, hi int) error {
	a, c := &e.buf.attention, &e.model.Config
	s := a.scratch.Get().(*attentionScratch)
	defer a.scratch.Put(s)
	dim, shared := c.HeadDim, c.NumHeads/c.NumKVHeads
	size := kernels.AttentionPart(dim)
	for _, t := range a.tasks[lo:hi] {
		at := (t.first*c.NumHeads + t.kvHead*shared) * dim
		r := a.rows[t.first]
		s.queries = kernels.Queries{Q: e.buf.q[at:], Stride: c.NumHeads * dim, Rows: t.rows, Heads: shared, Pos: r.pos, KVHead: t.kvHead,
			Pages: e.buf.pageTables[r.span], Gap: r.seq.gap, Window: e.opt.Window, Sinks: e.opt.Sinks}
		if e.opt.Window > 0 {
			s.queries.SinkQ = a.sinkQ[at:]
		}
		chunks := s.queries.Chunks()
		if a.apart {
			first := t.chunk
			if first >= kernels.SinkChunks(e.opt.Sinks) {
				first += r.seq.gap
			}
			first = min(first, chunks)
			e.ops.Attention(a.parts[t.part:][:t.rows*shared*size], &s.queries, first, min(first+1, chunks))
			continue
		}
		parts := grow(&s.parts, t.rows*shared*size)
		e.ops.Attention(parts, &s.queries, 0, chunks)
		for i := range t.rows * shared {
			e.ops.MergeAttention(e.attended(t, i), parts[i*size:], 0, 1)
		}
	}
	return nil
}

// mergePart merges the parts of blocks lo..hi-1.
func (e *cpuEngine) mergePart(lo, hi int) error {
	a, c := &e.buf.attention, &e.model.Config
	size := kernels.AttentionPart(c.HeadDim)
	for _, t := range a.tasks[lo:hi] {
		for i := range t.rows * c.NumHeads / c.NumKVHeads {
			e.ops.MergeAttention(e.attended(t, i), a.parts[t.part+i*size:], t.stride, t.chunks)
		}
	}
	return nil
}

// attended is where the attention of query i of a task's block goes.
func (e *cpuEngine) attended(t attentionTask, i int) []float32 {
	c := &e.model.Config
	shared := c.NumHeads / c.NumKVHeads
	at := ((t.first+i/shared)*c.NumHeads + t.kvHead*shared + i%shared) * c.HeadDim
	return e.buf.att[at:][:c.HeadDim]
}
