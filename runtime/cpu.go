package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"sync"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/model"
)

// batchLen is how many positions are computed together: enough to use each
// unpacked weight many times, few enough to keep the activations in cache.
const batchLen = 128

// cpuEngine runs a model over one implementation of the fine operations. Its
// forward pass reads in the order of the papers.
//
// A step allocates nothing once its buffers have grown: the arguments of an
// operation stand in step, and what the pool runs are the methods in parts.
type cpuEngine struct {
	ops        kernels.Ops
	model      *Model
	weights    *weights
	opt        Options
	plan       MemoryPlan
	tracker    *MemoryTracker
	planned    int         // blocks of the cache that the tracker knows of
	huge       *huge       // where the weights are, or nil
	filter     *headFilter // or nil
	stop       func()      // ends the prefault
	activation kernels.Activation
	cache      cache
	pool       *pool

	mu     sync.Mutex // one computation at a time: they share what follows
	closed bool
	buf    buffers
	rows   []row
	used   map[*sequence]bool
	step   step
	parts  parts
}

// row is one position of the batch being computed.
type row struct {
	seq  *sequence
	pos  int
	span int // index into the spans of the call
	at   int // index within that span
}

// buffers hold the activations of one batch. Matrices are [row, width].
type buffers struct {
	x, tmp     []float32 // residual stream, output of o and down: [., hidden]
	normed     []float32 // input of a matrix with float activations
	shared     []float32 // output of a norm that is followed by norms inside the projections
	acts       kernels.Acts
	q, att     []float32 // [., heads x headDim]
	k, v       []float32 // [., kvHeads x headDim]
	gate, up   []float32 // [., intermediate]
	cos, sin   []float32 // [., headDim/2]
	final      []float32 // rows whose hidden state or logits are wanted: [., hidden]
	targets    []target
	logits     []float32 // [., vocab]
	attention  attention
	pageTables [][]*kernels.Page // one a span
}

// step is the call being computed and the arguments of its operations.
type step struct {
	ctx     context.Context
	spans   []Span
	results []Result
	rows    []row // of the batch
	layer   int
	prepare prepare
	linear  linear
	head    head
}

// head holds the arguments of headPart.
type head struct {
	y, x []float32
	m    int
}

// parts are the methods that compute parts of operations, bound once.
type parts struct {
	compute                            func() error
	start, prepare, linear, gate, head func(lo, hi int) error
	place, attend, merge               func(lo, hi int) error
}

// MaxThreads bounds Options.Threads: more than any machine has cores.
const MaxThreads = 1024

// complete fills in what opt leaves open and reports what is out of range.
func (opt *Options) complete(c *model.Config) error {
	if err := opt.completePositions(c); err != nil {
		return err
	}
	if opt.Threads < 0 || opt.Threads > MaxThreads {
		return fmt.Errorf("threads is %d, want 1 to %d, or 0 for all cores", opt.Threads, MaxThreads)
	}
	if opt.Threads == 0 {
		opt.Threads = goruntime.GOMAXPROCS(0)
	}
	if opt.Load == "" {
		opt.Load = LoadMmap
	}
	if opt.Load != LoadMmap && opt.Load != LoadHuge {
		return fmt.Errorf("load is %q, want %q or %q", opt.Load, LoadMmap, LoadHuge)
	}
	if opt.Kernels == nil {
		opt.Kernels = cpu.New()
	}
	return nil
}

// NewCPU returns the engine that computes m on the CPU. It takes the memory of a
// sequence of opt.Context positions into account: a *MemoryError says that this
// machine cannot hold it.
func NewCPU(m *Model, opt Options) (Engine, error) {
	c := &m.Config
	if err := opt.complete(c); err != nil {
		return nil, err
	}
	e := &cpuEngine{ops: opt.Kernels, model: m, opt: opt, weights: &m.weights, activation: activations[c.Activation], used: map[*sequence]bool{}}
	e.plan = newPlan(c, m.file.Header(), &opt)
	if opt.Fast {
		e.plan.Note = "fast: no effect, the CPU computes exactly"
	}
	e.tracker = hostTracker()
	if err := e.plan.reserve(e.tracker, e.plan.Total()-m.loaded); err != nil {
		return nil, err
	}
	e.cache = newCache(c, &opt)
	e.planned = int(e.plan.Cache / (e.plan.PerToken * kernels.PageLen))
	e.parts = parts{compute: e.compute, start: e.startPart, prepare: e.preparePart, linear: e.linearPart, gate: e.gatePart, head: e.headPart, place: e.placePart, attend: e.attendPart, merge: e.mergePart}
	e.prepareAttention()
	e.pool = newPool(opt.Threads)
	e.stop = func() {}
	if opt.Load == LoadHuge {
		if err := e.copyWeights(); err != nil {
			e.pool.close()
			return nil, err
		}
	}
	if opt.Filter {
		if kind := headEncoding(c, m.file.Header()); filterBytes(c, kind) == 0 {
			return nil, errors.Join(fmt.Errorf("a filter is for heads of f32, f16 or bf16, and this model's is %s; leave it out", kind), e.Close())
		}
		var err error
		if e.filter, err = e.newFilter(); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	if opt.Prefault && e.plan.Load == LoadMmap {
		e.stop = prefault(m)
	}
	return e, nil
}

func (e *cpuEngine) Name() string          { return "cpu/" + e.ops.Name() }
func (e *cpuEngine) Model() *Model         { return e.model }
func (e *cpuEngine) NewSequence() Sequence { return &sequence{cache: &e.cache} }

func (e *cpuEngine) Plan() MemoryPlan { return e.plan }

func (e *cpuEngine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.stop()
	e.pool.close()
	if e.huge != nil {
		return e.huge.free()
	}
	return nil
}

func (e *cpuEngine) Forward(ctx context.Context, spans []Span) ([]Result, error) {
	return e.ForwardInto(ctx, spans, nil)
}

func (e *cpuEngine) ForwardInto(ctx context.Context, spans []Span, results []Result) ([]Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("the engine is closed")
	}
	c := &e.model.Config
	if cap(results) < len(spans) {
		results = append(results[:cap(results)], make([]Result, len(spans)-cap(results))...)
	}
	results = results[:len(spans)]
	clear(e.used)
	e.rows = e.rows[:0]
	for i := range spans {
		sp := &spans[i]
		n, err := e.checkSpan(sp)
		if err != nil {
			return nil, fmt.Errorf("span %d: %w", i, err)
		}
		seq := sp.Seq.(*sequence)
		for at := range n {
			e.rows = append(e.rows, row{seq: seq, pos: seq.len + at, span: i, at: at})
		}
		results[i].Filtered = false
		grow(&results[i].Logits, sp.Logits.count(n)*c.VocabSize)
		grow(&results[i].Hidden, sp.Hidden.count(n)*c.HiddenSize)
	}
	if err := e.admit(spans); err != nil {
		return nil, err
	}
	for len(e.buf.pageTables) < len(spans) {
		e.buf.pageTables = append(e.buf.pageTables, nil)
	}
	for i := range spans {
		spans[i].Seq.(*sequence).begin()
	}
	e.step.ctx, e.step.spans, e.step.results = ctx, spans, results
	err := e.pool.guarded(e.parts.compute)
	e.step.ctx, e.step.spans, e.step.results = nil, nil, nil // the caller's
	for i := range spans {
		if seq := spans[i].Seq.(*sequence); err != nil {
			seq.rollback()
		} else {
			seq.commit(spanLen(&spans[i], c.HiddenSize))
		}
	}
	if err != nil {
		return nil, err
	}
	return results, nil
}

// admit takes the cache that spans need into account. The first sequence's is part
// of the plan.
func (e *cpuEngine) admit(spans []Span) error {
	e.cache.mu.Lock()
	defer e.cache.mu.Unlock()
	short := -len(e.cache.free)
	for i := range spans {
		seq := spans[i].Seq.(*sequence)
		blocks := e.cache.greatest(seq.len + spanLen(&spans[i], e.model.Config.HiddenSize))
		short += max(blocks-len(seq.blocks), 0)
		if n := len(seq.blocks); n > 0 && seq.blocks[n-1].refs > 1 {
			short++ // a copy, to write to
		}
	}
	if more := e.cache.made + max(short, 0) - e.planned; more > 0 {
		if err := e.tracker.Reserve("key-value cache of several sequences", int64(more)*kernels.PageLen*e.plan.PerToken, "run fewer sequences at once, use shorter ones, or a smaller cache format (--kv int8)"); err != nil {
			return err
		}
		e.planned += more
	}
	return nil
}

// compute computes the rows, a batch at a time.
func (e *cpuEngine) compute() error {
	for lo := 0; lo < len(e.rows); lo += batchLen {
		if err := e.step.ctx.Err(); err != nil {
			return err
		}
		rows := e.rows[lo:min(lo+batchLen, len(e.rows))]
		for rest := rows; len(rest) > 0; {
			run := firstRun(rest)
			run[0].seq.extend(run[0].pos, run[0].pos+len(run))
			rest = rest[len(run):]
		}
		if err := e.batch(rows); err != nil {
			return err
		}
	}
	return nil
}

// checkSpan returns the number of positions of sp, or why it cannot be computed.
func (e *cpuEngine) checkSpan(sp *Span) (int, error) {
	seq, ok := sp.Seq.(*sequence)
	switch {
	case !ok || seq.cache != &e.cache:
		return 0, errForeignSequence
	case seq.closed:
		return 0, errClosedSequence
	case e.used[seq]:
		return 0, errRepeatedSequence
	}
	e.used[seq] = true
	return sp.check(&e.model.Config, seq.len, e.opt.Context)
}

// grow returns a slice of n elements, keeping the memory of s where it suffices.
func grow(s *[]float32, n int) []float32 {
	if cap(*s) < n {
		*s = make([]float32, n)
	}
	*s = (*s)[:n]
	return *s
}

// batch computes up to batchLen positions in every layer.
func (e *cpuEngine) batch(rows []row) error {
	c, b := &e.model.Config, &e.buf
	n, hidden := len(rows), c.HiddenSize
	qDim, kvDim := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	x, tmp := grow(&b.x, n*hidden), grow(&b.tmp, n*hidden)
	q, att := grow(&b.q, n*qDim), grow(&b.att, n*qDim)
	k, v := grow(&b.k, n*kvDim), grow(&b.v, n*kvDim)
	gate, up := grow(&b.gate, n*c.IntermediateSize), grow(&b.up, n*c.IntermediateSize)
	e.step.rows = rows
	if err := e.start(); err != nil {
		return err
	}
	var add residual // of the block before
	for i := range e.weights.layers {
		l := &e.weights.layers[i]
		e.step.layer = i

		// Attention: x += o(attention(q, k, v))
		if err := e.project(x, hidden, add, l.attnNorm, false, to{q, l.q}, to{k, l.k}, to{v, l.v}); err != nil {
			return err
		}
		if err := e.place(); err != nil {
			return inLayer(i, err)
		}
		if err := e.attend(); err != nil {
			return inLayer(i, err)
		}
		if err := e.project(att, qDim, residual{}, l.attnSubNorm, false, to{tmp, l.o}); err != nil {
			return err
		}
		add = residual{tmp, l.postAttnNorm, i}

		// Feed-forward: x += down(act(gate(x)) * up(x))
		if err := e.project(x, hidden, add, l.mlpNorm, true, to{gate, l.gate}, to{up, l.up}); err != nil {
			return err
		}
		if err := e.project(gate, c.IntermediateSize, residual{}, l.mlpSubNorm, false, to{tmp, l.down}); err != nil {
			return err
		}
		add = residual{tmp, l.postMLPNorm, i}
	}
	e.step.layer = noLayer
	if err := e.prepare(prepare{x: x, width: hidden, add: add}); err != nil {
		return err
	}
	return e.finish()
}

var activations = map[model.Activation]kernels.Activation{model.SiLU: kernels.SiLU, model.ReLU2: kernels.ReLU2}

// start fills the residual stream with embeddings, and the rotary angles.
func (e *cpuEngine) start() error {
	n, half := len(e.step.rows), e.model.Config.HeadDim/2
	grow(&e.buf.cos, n*half)
	grow(&e.buf.sin, n*half)
	return e.pool.split(n, 1, e.parts.start)
}

func (e *cpuEngine) startPart(lo, hi int) error {
	b, hidden, half := &e.buf, e.model.Config.HiddenSize, e.model.Config.HeadDim/2
	for i := lo; i < hi; i++ {
		r, x := e.step.rows[i], b.x[i*hidden:(i+1)*hidden]
		if sp := &e.step.spans[r.span]; sp.Embeddings != nil {
			copy(x, sp.Embeddings[r.at*hidden:])
		} else {
			e.ops.EmbedRow(x, &e.weights.embed, sp.Tokens[r.at])
		}
		e.model.rope.At(r.pos, b.cos[i*half:(i+1)*half], b.sin[i*half:(i+1)*half])
	}
	return nil
}

func (e *cpuEngine) normHeads(x []float32, norm *kernels.Norm) error {
	dim := e.model.Config.HeadDim
	for h := 0; h < len(x); h += dim {
		if err := e.ops.Norm(x[h:h+dim], x[h:h+dim], norm); err != nil {
			return err
		}
	}
	return nil
}

// finish computes the hidden states and logits that the spans want.
func (e *cpuEngine) finish() error {
	hidden, results := e.model.Config.HiddenSize, e.step.results
	states, targets, err := e.final(func(sp *Span) Positions { return sp.Hidden })
	if err != nil {
		return err
	}
	for i, t := range targets {
		copy(results[t.span].Hidden[t.at*hidden:], states[i*hidden:(i+1)*hidden])
	}
	if states, targets, err = e.final(func(sp *Span) Positions { return sp.Logits }); err != nil || len(targets) == 0 {
		return err
	}
	if err := e.logits(states, targets); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	return nil
}

// logits multiplies states by the head. Those of one span go straight to its
// result; those of several are computed together, to read the head once.
func (e *cpuEngine) logits(states []float32, targets []target) error {
	hidden, vocab, results := e.model.Config.HiddenSize, e.model.Config.VocabSize, e.step.results
	first, last := targets[0], targets[len(targets)-1]
	direct := first.span == last.span // rows are in the order of spans and positions
	y := results[first.span].Logits[first.at*vocab:]
	if !direct {
		y = grow(&e.buf.logits, len(targets)*vocab)
	}
	y = y[:len(targets)*vocab]
	if len(targets) == 1 && e.step.spans[first.span].Logits == PositionLast {
		done, err := e.filtered(&e.step.spans[first.span], y, states)
		if results[first.span].Filtered = done; done || err != nil {
			return err
		}
	}
	var err error
	if w := e.weights.head.Ternary; w != nil {
		err = e.project(states, hidden, residual{}, nil, false, to{y, projection{Ternary: w}})
	} else {
		e.step.head = head{y: y, x: states, m: len(targets)}
		err = e.pool.split(vocab, rowAlign, e.parts.head)
	}
	if err != nil || direct {
		return err
	}
	for i, t := range targets {
		copy(results[t.span].Logits[t.at*vocab:], y[i*vocab:(i+1)*vocab])
	}
	return nil
}

func (e *cpuEngine) headPart(lo, hi int) error {
	h := &e.step.head
	e.ops.Dense(h.y, e.model.Config.VocabSize, e.weights.head.Dense, h.x, h.m, e.model.Config.HiddenSize, lo, hi)
	return nil
}

// target is a row of a result.
type target struct{ span, at int }

// final returns the hidden states after the final norm of the rows whose spans
// want them, and where they go.
func (e *cpuEngine) final(wanted func(*Span) Positions) ([]float32, []target, error) {
	hidden, b := e.model.Config.HiddenSize, &e.buf
	b.final, b.targets = b.final[:0], b.targets[:0]
	for i, r := range e.step.rows {
		sp := &e.step.spans[r.span]
		t := target{span: r.span}
		switch wanted(sp) {
		case PositionAll:
			t.at = r.at
		case PositionLast:
			if r.at != spanLen(sp, hidden)-1 {
				continue
			}
		default:
			continue
		}
		b.final = append(b.final, b.x[i*hidden:(i+1)*hidden]...)
		b.targets = append(b.targets, t)
	}
	err := e.prepare(prepare{x: b.final, width: hidden, norm: e.weights.norm, into: intoFloats, out: b.final})
	return b.final, b.targets, err
}
