package runtime

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"sync"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/model"
)

// batchLen is how many positions are computed together: enough to use each
// unpacked weight many times, few enough to keep the activations in cache.
const batchLen = 128

// cpuEngine runs a model over one implementation of the fine operations. Its
// forward pass reads in the order of the papers.
type cpuEngine struct {
	ops   kernels.Ops
	model *Model
	opt   Options
	cache cache
	pool  *pool

	mu     sync.Mutex // one computation at a time: they share the buffers below
	closed bool
	buf    buffers
	rows   []row
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
	x, tmp      []float32 // residual stream, output of o and down: [., hidden]
	normed      []float32 // input of a matrix with float activations
	shared      []float32 // output of a norm that is followed by norms inside the projections
	acts        kernels.Acts
	q, att      []float32 // [., heads x headDim]
	k, v        []float32 // [., kvHeads x headDim]
	gate, up    []float32 // [., intermediate]
	cos, sin    []float32 // [., headDim/2]
	final       []float32 // rows whose hidden state or logits are wanted: [., hidden]
	targets     []target
	logits      []float32 // [., vocab]
	attnScratch sync.Pool
	pageTables  map[*sequence][]*kernels.Page
}

// MaxThreads bounds Options.Threads: more than any machine has cores.
const MaxThreads = 1024

// NewCPU returns the engine that computes m on the CPU.
func NewCPU(m *Model, opt Options) (Engine, error) {
	c := &m.Config
	if opt.Context == 0 {
		opt.Context = c.MaxPositionEmbeddings
	}
	if opt.Context < 1 || opt.Context > c.MaxPositionEmbeddings {
		return nil, fmt.Errorf("context is %d, want 1 to %d, the model's max_position_embeddings", opt.Context, c.MaxPositionEmbeddings)
	}
	if opt.Threads < 0 || opt.Threads > MaxThreads {
		return nil, fmt.Errorf("threads is %d, want 1 to %d, or 0 for all cores", opt.Threads, MaxThreads)
	}
	if n := goruntime.GOMAXPROCS(0); opt.Threads == 0 {
		opt.Threads = n
	}
	if opt.Kernels == nil {
		opt.Kernels = cpu.New()
	}
	e := &cpuEngine{ops: opt.Kernels, model: m, opt: opt, pool: newPool(opt.Threads)}
	e.cache = cache{layers: c.NumLayers, kvHeads: c.NumKVHeads, headDim: c.HeadDim}
	e.buf.pageTables = map[*sequence][]*kernels.Page{}
	e.buf.attnScratch.New = func() any {
		s := make([]float32, kernels.AttentionScratch(c.HeadDim))
		return &s
	}
	return e, nil
}

func (e *cpuEngine) Name() string          { return "cpu/" + e.ops.Name() }
func (e *cpuEngine) Model() *Model         { return e.model }
func (e *cpuEngine) NewSequence() Sequence { return &sequence{cache: &e.cache} }

func (e *cpuEngine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pool.close()
	e.closed = true
	return nil
}

func (e *cpuEngine) Plan() MemoryPlan {
	c := &e.model.Config
	p := MemoryPlan{Context: e.opt.Context, Loaded: e.model.loaded, PerToken: int64(c.NumLayers) * int64(c.NumKVHeads) * int64(c.HeadDim) * 2 * 4}
	h := e.model.file.Header()
	for i := range h.Tensors {
		if h.Tensors[i].Encoding != format.Trit3 { // those are counted as loaded
			p.Mapped += h.Tensors[i].Length
		}
		p.Mapped += h.Tensors[i].ScaleLength
	}
	pages := (int64(p.Context) + kernels.PageLen - 1) / kernels.PageLen
	p.Cache = pages * kernels.PageLen * p.PerToken
	return p
}

func (e *cpuEngine) Forward(ctx context.Context, spans []Span) ([]Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("the engine is closed")
	}
	c := &e.model.Config
	results := make([]Result, len(spans))
	used := make(map[*sequence]bool, len(spans))
	e.rows = e.rows[:0]
	for i, sp := range spans {
		n, err := e.checkSpan(&sp, used)
		if err != nil {
			return nil, fmt.Errorf("span %d: %w", i, err)
		}
		seq := sp.Seq.(*sequence)
		for at := range n {
			e.rows = append(e.rows, row{seq: seq, pos: seq.len + at, span: i, at: at})
		}
		results[i].Logits = make([]float32, sp.Logits.count(n)*c.VocabSize)
		results[i].Hidden = make([]float32, sp.Hidden.count(n)*c.HiddenSize)
	}
	clear(e.buf.pageTables)
	for i := range spans {
		spans[i].Seq.(*sequence).reserve(spanLen(&spans[i], c.HiddenSize))
	}
	for lo := 0; lo < len(e.rows); lo += batchLen {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := e.batch(e.rows[lo:min(lo+batchLen, len(e.rows))], spans, results); err != nil {
			return nil, err
		}
	}
	for i := range spans {
		spans[i].Seq.(*sequence).len += spanLen(&spans[i], c.HiddenSize)
	}
	return results, nil
}

func spanLen(sp *Span, hidden int) int {
	if sp.Embeddings != nil {
		return len(sp.Embeddings) / hidden
	}
	return len(sp.Tokens)
}

// checkSpan returns the number of positions of sp, or why it cannot be computed.
func (e *cpuEngine) checkSpan(sp *Span, used map[*sequence]bool) (int, error) {
	c := &e.model.Config
	seq, ok := sp.Seq.(*sequence)
	switch {
	case !ok || seq.cache != &e.cache:
		return 0, errors.New("the sequence belongs to another engine")
	case seq.closed:
		return 0, errors.New("the sequence is closed")
	case used[seq]:
		return 0, errors.New("the sequence appears in two spans of one call; give it one span")
	case sp.Tokens != nil && sp.Embeddings != nil:
		return 0, errors.New("a span has tokens or embeddings, not both")
	case len(sp.Embeddings)%c.HiddenSize != 0:
		return 0, fmt.Errorf("%d values are not whole embeddings of hidden_size %d", len(sp.Embeddings), c.HiddenSize)
	}
	used[seq] = true
	for i, id := range sp.Tokens {
		if id < 0 || id >= c.VocabSize {
			return 0, fmt.Errorf("token %d is id %d, want 0 to %d", i, id, c.VocabSize-1)
		}
	}
	n := spanLen(sp, c.HiddenSize)
	if n == 0 {
		return 0, errors.New("a span needs at least one token")
	}
	if seq.len+n > e.opt.Context {
		return 0, &ContextError{Len: seq.len, Add: n, Context: e.opt.Context}
	}
	return n, nil
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
func (e *cpuEngine) batch(rows []row, spans []Span, results []Result) error {
	c, b := &e.model.Config, &e.buf
	n, hidden := len(rows), c.HiddenSize
	qDim, kvDim := c.NumHeads*c.HeadDim, c.NumKVHeads*c.HeadDim
	x, tmp := grow(&b.x, n*hidden), grow(&b.tmp, n*hidden)
	q, att := grow(&b.q, n*qDim), grow(&b.att, n*qDim)
	k, v := grow(&b.k, n*kvDim), grow(&b.v, n*kvDim)
	gate, up := grow(&b.gate, n*c.IntermediateSize), grow(&b.up, n*c.IntermediateSize)
	if err := e.start(rows, spans); err != nil {
		return err
	}
	for i := range e.model.layers {
		l := &e.model.layers[i]
		in := func(err error) error { return fmt.Errorf("layer %d: %w", i, err) }

		// Attention: x += o(attention(q, k, v))
		if err := e.project(x, hidden, l.attnNorm, to{q, l.q}, to{k, l.k}, to{v, l.v}); err != nil {
			return in(err)
		}
		if err := e.place(rows, i, l); err != nil {
			return in(err)
		}
		if err := e.attend(rows, att, q); err != nil {
			return in(err)
		}
		if err := e.project(att, qDim, l.attnSubNorm, to{tmp, l.o}); err != nil {
			return in(err)
		}
		if err := e.residual(x, tmp, l.postAttnNorm); err != nil {
			return in(err)
		}

		// Feed-forward: x += down(act(gate(x)) * up(x))
		if err := e.project(x, hidden, l.mlpNorm, to{gate, l.gate}, to{up, l.up}); err != nil {
			return in(err)
		}
		act := activations[c.Activation]
		if err := e.pool.split(len(gate), 64, func(lo, hi int) error {
			e.ops.Gate(gate[lo:hi], gate[lo:hi], up[lo:hi], act)
			return nil
		}); err != nil {
			return in(err)
		}
		if err := e.project(gate, c.IntermediateSize, l.mlpSubNorm, to{tmp, l.down}); err != nil {
			return in(err)
		}
		if err := e.residual(x, tmp, l.postMLPNorm); err != nil {
			return in(err)
		}
	}
	return e.finish(rows, spans, results)
}

var activations = map[model.Activation]kernels.Activation{model.SiLU: kernels.SiLU, model.ReLU2: kernels.ReLU2}

// start fills the residual stream with embeddings, and the rotary angles.
func (e *cpuEngine) start(rows []row, spans []Span) error {
	c, b := &e.model.Config, &e.buf
	hidden, half := c.HiddenSize, c.HeadDim/2
	cos, sin := grow(&b.cos, len(rows)*half), grow(&b.sin, len(rows)*half)
	for _, r := range rows {
		if _, ok := b.pageTables[r.seq]; !ok {
			b.pageTables[r.seq] = nil
		}
	}
	return e.pool.split(len(rows), 1, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			r, x := rows[i], b.x[i*hidden:(i+1)*hidden]
			if sp := &spans[r.span]; sp.Embeddings != nil {
				copy(x, sp.Embeddings[r.at*hidden:])
			} else {
				e.ops.EmbedRow(x, &e.model.embed, sp.Tokens[r.at])
			}
			e.model.rope.At(r.pos, cos[i*half:(i+1)*half], sin[i*half:(i+1)*half])
		}
		return nil
	})
}

// to is a matrix and where its product goes.
type to struct {
	y []float32
	w projection
}

// project normalizes x (norm nil: not), quantizes it where the model says so, and
// multiplies it by each matrix. Matrices with a norm of their own each get an
// input of their own.
func (e *cpuEngine) project(x []float32, width int, norm *kernels.Norm, outs ...to) error {
	if outs[0].w.norm == nil {
		in, err := e.input(x, width, norm)
		if err != nil {
			return err
		}
		for _, o := range outs {
			if err := e.multiply(o.y, o.w.Ternary, in); err != nil {
				return err
			}
		}
		return nil
	}
	if norm != nil {
		shared := grow(&e.buf.shared, len(x))
		if err := e.normRows(shared, x, width, norm); err != nil {
			return err
		}
		x = shared
	}
	for _, o := range outs {
		in, err := e.input(x, width, o.w.norm)
		if err != nil {
			return err
		}
		if err := e.multiply(o.y, o.w.Ternary, in); err != nil {
			return err
		}
	}
	return nil
}

// input is what matrices multiply: int8 activations, or floats [., width].
type input struct {
	acts  *kernels.Acts // nil: floats
	x     []float32
	width int
}

// input prepares x, which it does not change, in the engine's buffers.
func (e *cpuEngine) input(x []float32, width int, norm *kernels.Norm) (input, error) {
	b, n := &e.buf, len(x)/width
	if e.model.Config.ActivationQuant == model.ActivationInt8 {
		b.acts.Resize(n, width)
		return input{acts: &b.acts}, e.pool.split(n, 1, func(lo, hi int) (err error) {
			for i := lo; i < hi && err == nil; i++ {
				b.acts.Max[i], err = e.ops.NormQuant(b.acts.Token(i), x[i*width:(i+1)*width], norm)
			}
			return err
		})
	}
	if norm == nil {
		return input{x: x, width: width}, nil
	}
	normed := grow(&b.normed, len(x))
	return input{x: normed, width: width}, e.normRows(normed, x, width, norm)
}

func (e *cpuEngine) multiply(y []float32, w *kernels.Ternary, in input) error {
	return e.pool.split(w.Rows, kernels.TileRows, func(lo, hi int) error {
		if in.acts != nil {
			e.ops.TernaryInt8(y, w.Rows, w, in.acts, lo, hi)
		} else {
			e.ops.TernaryFloat(y, w.Rows, w, in.x, len(in.x)/in.width, in.width, lo, hi)
		}
		return nil
	})
}

func (e *cpuEngine) normRows(y, x []float32, width int, norm *kernels.Norm) error {
	return e.pool.split(len(x)/width, 1, func(lo, hi int) error {
		for i := lo; i < hi; i++ {
			if err := e.ops.Norm(y[i*width:(i+1)*width], x[i*width:(i+1)*width], norm); err != nil {
				return err
			}
		}
		return nil
	})
}

// residual adds y to x and applies the norm after the sum, if there is one.
func (e *cpuEngine) residual(x, y []float32, norm *kernels.Norm) error {
	e.ops.Add(x, y)
	if norm == nil {
		return nil
	}
	return e.normRows(x, x, e.model.Config.HiddenSize, norm)
}

// place normalizes and rotates the queries and keys of a batch and stores keys
// and values in their pages.
func (e *cpuEngine) place(rows []row, layer int, l *layer) error {
	c, b := &e.model.Config, &e.buf
	dim, half := c.HeadDim, c.HeadDim/2
	qDim, kvDim := c.NumHeads*dim, c.NumKVHeads*dim
	for seq := range b.pageTables {
		b.pageTables[seq] = seq.pages(layer, b.pageTables[seq][:0])
	}
	return e.pool.split(len(rows), 1, func(lo, hi int) error {
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
			cos, sin := b.cos[i*half:(i+1)*half], b.sin[i*half:(i+1)*half]
			e.ops.Rope(q, dim, cos, sin)
			e.ops.Rope(k, dim, cos, sin)
			page := b.pageTables[rows[i].seq][rows[i].pos/kernels.PageLen]
			page.Put(rows[i].pos%kernels.PageLen, k, v, c.NumKVHeads, dim)
		}
		return nil
	})
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

// attend computes every query head of every row over the positions up to its own.
func (e *cpuEngine) attend(rows []row, att, q []float32) error {
	c, b := &e.model.Config, &e.buf
	dim, shared := c.HeadDim, c.NumHeads/c.NumKVHeads
	return e.pool.split(len(rows)*c.NumHeads, 1, func(lo, hi int) error {
		scratch := b.attnScratch.Get().(*[]float32)
		defer b.attnScratch.Put(scratch)
		for i := lo; i < hi; i++ {
			r, head := rows[i/c.NumHeads], i%c.NumHeads
			e.ops.Attention(att[i*dim:(i+1)*dim], q[i*dim:(i+1)*dim], b.pageTables[r.seq], head/shared, c.NumKVHeads, dim, r.pos+1, *scratch)
		}
		return nil
	})
}

// finish computes the hidden states and logits that the spans want.
func (e *cpuEngine) finish(rows []row, spans []Span, results []Result) error {
	hidden, vocab := e.model.Config.HiddenSize, e.model.Config.VocabSize
	states, targets, err := e.final(rows, spans, func(sp *Span) Positions { return sp.Hidden })
	if err != nil {
		return err
	}
	for i, t := range targets {
		copy(results[t.span].Hidden[t.at*hidden:], states[i*hidden:(i+1)*hidden])
	}
	if states, targets, err = e.final(rows, spans, func(sp *Span) Positions { return sp.Logits }); err != nil || len(targets) == 0 {
		return err
	}
	logits := grow(&e.buf.logits, len(targets)*vocab)
	if w := e.model.head.Ternary; w != nil {
		err = e.project(states, hidden, nil, to{logits, projection{Ternary: w}})
	} else {
		err = e.pool.split(vocab, kernels.TileRows, func(lo, hi int) error {
			e.ops.Dense(logits, vocab, e.model.head.Dense, states, len(targets), hidden, lo, hi)
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("head: %w", err)
	}
	for i, t := range targets {
		copy(results[t.span].Logits[t.at*vocab:], logits[i*vocab:(i+1)*vocab])
	}
	return nil
}

// target is a row of a result.
type target struct{ span, at int }

// final returns the hidden states after the final norm of the rows whose spans
// want them, and where they go.
func (e *cpuEngine) final(rows []row, spans []Span, wanted func(*Span) Positions) ([]float32, []target, error) {
	hidden, b := e.model.Config.HiddenSize, &e.buf
	b.final, b.targets = b.final[:0], b.targets[:0]
	for i, r := range rows {
		sp := &spans[r.span]
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
	if err := e.normRows(b.final, b.final, hidden, e.model.norm); err != nil {
		return nil, nil, fmt.Errorf("final norm: %w", err)
	}
	return b.final, b.targets, nil
}
