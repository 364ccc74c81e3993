package cuda

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// maxBatch is how many positions are computed together.
const maxBatch = 2048

// headBatch is for how many positions logits are computed together.
const headBatch = 64

// Engine is a model on a device. It serves one call at a time; the caller sees to that. Close it.
type Engine struct {
	d       *Device
	c       Config
	p       parameters
	weights *driver.Arena
	scratch *driver.Arena
	cache   cache
	batch   int // most positions at once

	b    buffers
	rows []row
	meta meta

	s    single
	fast bool // s can be used
	near bool // attention of many positions may differ from spec/numerics.md
}

// buffers are activations on the device, [row, width].
type buffers struct {
	x, tmp   driver.Ptr // residual stream, output of o and down: [., hidden]
	normed   driver.Ptr // input of a matrix with float activations
	shared   driver.Ptr // output of a norm that is followed by norms inside the projections
	codes    codes
	qkv      driver.Ptr // queries, keys and values of a row: [., (heads + 2 kvHeads) x headDim]
	att      driver.Ptr // [., heads x headDim]
	gate, up driver.Ptr // [., ffn]
	parts    driver.Ptr // chunks of attention in formats other than f32: [partChunks, heads, headDim + 2]
	final    driver.Ptr // hidden states that are wanted: [., hidden]
	logits   driver.Ptr // [headBatch, vocab]

	tokens, starts, positions, tables, tiles driver.Ptr
}

// row is one position of the batch being computed.
type row struct {
	seq   *Sequence
	pos   int
	span  int
	at    int // index within the span
	token uint32
}

// meta is what the host tells the device of a batch.
type meta struct {
	tokens, starts, positions []uint32
	tables                    []uint64
	tiles                     []tile // none for attention by rows
}

// tile is struct Tile of src/prefill.cu: rows of one sequence at neighbouring positions.
type tile struct{ row, count, start, position uint32 }

func (m *meta) tileWords() (w []uint32) {
	for _, t := range m.tiles {
		w = append(w, t.row, t.count, t.start, t.position)
	}
	return w
}

func (b *buffers) alloc(a allocator, c *Config, batch int) error {
	var errs []error
	piece := func(to *driver.Ptr, elements int) {
		p, err := a.Alloc(4 * int64(elements))
		*to = p
		errs = append(errs, err)
	}
	qDim, kvDim := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	width := max(c.Hidden, qDim, c.FFN)
	piece(&b.x, batch*c.Hidden)
	piece(&b.tmp, batch*c.Hidden)
	piece(&b.shared, batch*width)
	if c.Int8 {
		rows := (batch + 127) / 128 * 128
		piece(&b.codes.data, rows*kernels.PadCols(width)/4)
		piece(&b.codes.maxima, rows)
	} else {
		piece(&b.normed, batch*width)
	}
	piece(&b.qkv, batch*(qDim+2*kvDim))
	piece(&b.att, batch*qDim)
	if c.KV != kernels.KVF32 {
		piece(&b.parts, c.partChunks()*c.Heads*(c.HeadDim+2))
	}
	piece(&b.gate, batch*c.FFN)
	piece(&b.up, batch*c.FFN)
	piece(&b.final, batch*c.Hidden)
	piece(&b.logits, min(batch, headBatch)*c.Vocab)
	piece(&b.tokens, batch)
	piece(&b.starts, batch)
	piece(&b.positions, batch)
	piece(&b.tiles, 4*batch)
	piece(&b.tables, 2*batch*c.pages())
	return errors.Join(errs...)
}

// partChunks is for how many chunks there is room in buffers.parts: those of four sequences that fill the context, or of more that do not.
func (c *Config) partChunks() int { return 4 * c.pages() }

// Plan is an account of device memory in bytes.
type Plan struct {
	Weights  int64 // with the table of rotary angles
	Scratch  int64 // activations
	PerToken int64 // key-value cache of one position
	Free     int64 // on the device, before anything was allocated
}

// MemoryError reports a model that does not fit the device.
type MemoryError struct {
	Device     string
	Need, Free int64
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("the model needs %d MB of device memory and %s has %d MB free; close other programs that use it, lower --context, or use --device cpu", e.Need>>20, e.Device, e.Free>>20)
}

// plan computes the sizes of the arenas.
func plan(w *Weights, batch int) (weights, scratch int64, err error) {
	var p parameters
	var a, b counter
	if err := p.alloc(&a, w); err != nil {
		return 0, 0, err
	}
	var buf buffers
	var s single
	err = errors.Join(buf.alloc(&b, &w.Config, batch), s.alloc(&b, &w.Config, len(w.Layers)))
	return driver.ArenaSize(a.pieces...), driver.ArenaSize(b.pieces...), err
}

// Load puts a model on the device. The error is a *MemoryError, before anything is allocated, where the weights, the
// activations and the first block of cache do not fit.
func (d *Device) Load(w *Weights) (*Engine, Plan, error) {
	if err := w.check(); err != nil {
		return nil, Plan{}, err
	}
	e := &Engine{d: d, c: w.Config, batch: min(maxBatch, w.Context)}
	e.cache = cache{layers: len(w.Layers), pageBytes: kernels.PageLen * kernels.KVBytes(w.KV, w.KVHeads, w.HeadDim)}
	weights, scratch, err := plan(w, e.batch)
	if err != nil {
		return nil, Plan{}, err
	}
	pl := Plan{Weights: weights, Scratch: scratch, PerToken: e.cache.blockBytes() / kernels.PageLen}
	err = d.do(func() (err error) {
		if pl.Free, _, err = d.ctx.MemInfo(); err != nil {
			return err
		}
		if need := weights + scratch + e.cache.blockBytes(); need > pl.Free {
			return &MemoryError{Device: d.dev.Info.Name, Need: need, Free: pl.Free}
		}
		if e.weights, err = driver.NewArena(d.ctx, weights); err != nil {
			return err
		}
		if e.scratch, err = driver.NewArena(d.ctx, scratch); err != nil {
			return err
		}
		if err := errors.Join(e.b.alloc(e.scratch, &e.c, e.batch), e.s.alloc(e.scratch, &e.c, len(w.Layers))); err != nil {
			return err
		}
		if err := e.p.alloc(e.weights, w); err != nil {
			return err
		}
		// What every model needs is compiled at once; the rest waits until a long prompt asks for it.
		wanted := append(e.neededForHead(), normRows, packDense, packTernary, attendRowsF32)
		if e.fast = e.canSingle(); e.fast {
			wanted = append(wanted, e.neededForStep()...)
		}
		if d.need(wanted...); d.err != nil {
			return d.took()
		}
		if e.fast {
			if err := e.s.open(e); err != nil {
				return err
			}
		}
		copyAll := func() error {
			d.upload(&e.p, w)
			if e.fast {
				words(&d.up, e.s.layers, e.layerTable())
			}
			return d.took()
		}
		if w.Guard != nil {
			return w.Guard(copyAll)
		}
		return copyAll()
	})
	if err != nil {
		return nil, pl, errors.Join(err, e.Close())
	}
	return e, pl, nil
}

// Close frees the model's memory; its sequences become invalid.
func (e *Engine) Close() error {
	return e.d.do(func() error {
		e.cache.close(e.d)
		var errs []error
		if e.fast {
			errs = append(errs, e.s.close())
		}
		for _, a := range []*driver.Arena{e.weights, e.scratch} {
			if a != nil {
				errs = append(errs, a.Close())
			}
		}
		return errors.Join(errs...)
	})
}

// SetFast lets the attention of many positions at once run on tensor cores, whose results are near to those of
// spec/numerics.md and not the same, and reports whether it does for this model and device. Nothing else changes.
func (e *Engine) SetFast(on bool) bool {
	e.near = on && e.c.KV == kernels.KVF32 && e.d.hasNear(e.c.HeadDim)
	return e.near
}

// NewSequence starts an empty sequence.
func (e *Engine) NewSequence() *Sequence { return &Sequence{engine: e} }

// Span is a stretch of positions appended to one sequence, which occurs in one span of a call only: Tokens, or
// Embeddings [n, hidden] in their place. Logits and Hidden receive results: empty for none, one row for the last
// position, or n rows.
type Span struct {
	Seq            *Sequence
	Tokens         []int
	Embeddings     []float32
	Logits, Hidden []float32
}

func (s *Span) len(hidden int) int {
	if s.Embeddings != nil {
		return len(s.Embeddings) / hidden
	}
	return len(s.Tokens)
}

// wants returns the row of dst that position at of n goes to, or -1.
func wants(dst []float32, width, at, n int) int {
	switch rows := len(dst) / width; {
	case rows == n:
		return at
	case rows == 1 && at == n-1:
		return 0
	}
	return -1
}

// Forward appends the positions of each span. On an error no sequence has changed.
func (e *Engine) Forward(ctx context.Context, spans []Span) error {
	e.rows = e.rows[:0]
	for i := range spans {
		sp := &spans[i]
		for at := range sp.len(e.c.Hidden) {
			r := row{seq: sp.Seq, pos: sp.Seq.len + at, span: i, at: at, token: noSite}
			if sp.Embeddings == nil {
				r.token = uint32(sp.Tokens[at])
			}
			e.rows = append(e.rows, r)
		}
	}
	err := e.d.do(func() error {
		for i := range spans {
			if err := spans[i].Seq.reserve(spans[i].len(e.c.Hidden)); err != nil {
				return err
			}
		}
		if e.fast && len(e.rows) == 1 && spans[0].Embeddings == nil && len(spans[0].Hidden) == 0 {
			return e.forwardSingle(&e.rows[0], &spans[0])
		}
		e.s.turn++
		for lo := 0; lo < len(e.rows); lo += e.batch {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := e.forward(e.rows[lo:min(lo+e.batch, len(e.rows))], spans); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range spans {
		spans[i].Seq.len += spans[i].len(e.c.Hidden)
	}
	return nil
}

// Sites number the places where a value may turn out not to be finite, in the order of the computation.
const (
	siteAttn = iota
	siteQ
	siteK
	siteO
	sitePostAttn
	siteMLP
	siteDown
	sitePostMLP
	sitesPerLayer
)

// siteError is the error of the least site.
func (e *Engine) siteError(site uint32) error {
	layer, within := int(site)/sitesPerLayer, int(site)%sitesPerLayer
	if layer == len(e.p.layers) {
		return fmt.Errorf("%s: %w", [2]string{"final norm", "head"}[within], nonFinite("Norm"))
	}
	op := "Norm"
	if e.c.Int8 && (within == siteAttn || within == siteO || within == siteMLP || within == siteDown) {
		op = "NormQuant"
	}
	return fmt.Errorf("layer %d: %w", layer, nonFinite(op))
}

// forward computes a batch of positions in every layer.
func (e *Engine) forward(rows []row, spans []Span) error {
	c, b, d := &e.c, &e.b, e.d
	n, dim := len(rows), c.HeadDim
	qDim, kvDim := c.Heads*dim, c.KVHeads*dim
	q, ld := b.qkv, qDim+2*kvDim
	k := q + driver.Ptr(4*qDim)
	v := k + driver.Ptr(4*kvDim)
	d.clearBad()
	p := e.start(rows, spans)
	for i := range e.p.layers {
		l := &e.p.layers[i]
		site := i * sitesPerLayer
		offset := uint64(i) * uint64(e.cache.pageBytes)

		// Attention: x += o(attention(q, k, v))
		e.project(b.x, n, c.Hidden, l.attnNorm, site+siteAttn, ld, to{q, &l.q}, to{k, &l.k}, to{v, &l.v})
		if l.qNorm.kind != 0 {
			d.normHeads(q, q, n, c.Heads, dim, ld, l.qNorm, site+siteQ)
		}
		if l.kNorm.kind != 0 {
			d.normHeads(k, k, n, c.KVHeads, dim, ld, l.kNorm, site+siteK)
		}
		if p.count > 0 {
			d.storeTiles(k, v, e.p.angles, p, offset, c.KVHeads, dim, ld)
			d.attendTiles(b.att, q, e.p.angles, p, offset, c.Heads, c.KVHeads, dim, ld, e.near)
		} else {
			d.rotate(q, e.p.angles, p.positions, n, c.Heads+c.KVHeads, dim, ld)
			d.store(c.KV, k, v, p, offset, i, n, c.KVHeads, dim, ld)
			if c.KV != kernels.KVF32 && n*p.chunks <= c.partChunks() {
				d.attendChunks(c.KV, b.att, b.parts, q, p, offset, n, p.chunks, c.Heads, c.KVHeads, dim, ld)
			} else {
				d.attend(c.KV, b.att, q, p, offset, n, c.Heads, c.KVHeads, dim, ld)
			}
		}
		e.residual(b.att, n, qDim, l.attnSubNorm, site+siteO, &l.o, l.postAttnNorm, site+sitePostAttn)

		// Feed-forward: x += down(act(gate(x)) * up(x))
		if both, ok := l.gate.followed(&l.up.ternary); ok && c.Int8 && l.gate.norm.kind == 0 && l.up.norm.kind == 0 && d.hasParts(&both, n, c.FFN) {
			mode := partSiLU
			if c.Activation == kernels.ReLU2 {
				mode = partReLU2
			}
			e.input(b.x, n, c.Hidden, l.mlpNorm, site+siteMLP)
			d.multiplyParts(mode, b.gate, c.FFN, &both, c.FFN, b.codes, n)
		} else {
			e.project(b.x, n, c.Hidden, l.mlpNorm, site+siteMLP, c.FFN, to{b.gate, &l.gate}, to{b.up, &l.up})
			d.gate(b.gate, b.gate, b.up, n*c.FFN, c.Activation)
		}
		e.residual(b.gate, n, c.FFN, l.mlpSubNorm, site+siteDown, &l.down, l.postMLPNorm, site+sitePostMLP)
	}
	site := d.readBad()
	if c.KV != kernels.KVF32 {
		if layer, err := d.readFault(c.KV); err != nil && uint32(layer*sitesPerLayer+siteK) < site {
			return fmt.Errorf("layer %d: %w", layer, err)
		}
	}
	if site != noSite {
		return e.siteError(site)
	}
	if err := e.finish(rows, spans); err != nil {
		return err
	}
	return d.took()
}

// start tells the device about the batch and fills the residual stream.
func (e *Engine) start(rows []row, spans []Span) paging {
	b, m, hidden := &e.b, &e.meta, e.c.Hidden
	m.tokens, m.starts, m.positions, m.tables, m.tiles = m.tokens[:0], m.starts[:0], m.positions[:0], m.tables[:0], m.tiles[:0]
	start, chunks := 0, 0
	for i, r := range rows {
		if i == 0 || r.seq != rows[i-1].seq {
			start = len(m.tables)
			for _, bl := range r.seq.blocks {
				m.tables = append(m.tables, uint64(bl.at))
			}
		}
		if last := len(m.tiles) - 1; i == 0 || r.seq != rows[i-1].seq || m.tiles[last].count == tileLen {
			m.tiles = append(m.tiles, tile{uint32(i), 1, uint32(start), uint32(r.pos)})
		} else {
			m.tiles[last].count++
		}
		chunks = max(chunks, r.pos/kernels.PageLen+1)
		m.tokens = append(m.tokens, r.token)
		m.starts = append(m.starts, uint32(start))
		m.positions = append(m.positions, uint32(r.pos))
	}
	words(&e.d.up, b.tokens, m.tokens)
	words(&e.d.up, b.starts, m.starts)
	words(&e.d.up, b.positions, m.positions)
	words(&e.d.up, b.tables, m.tables)
	// Tiles that are almost empty cost what full ones do, and there are none for other formats.
	if e.c.KV != kernels.KVF32 || !e.d.hasTiles(e.c.HeadDim) || len(rows) < fewTokens || len(rows) < 8*len(m.tiles) {
		m.tiles = m.tiles[:0]
	}
	// The long ones first, so that none is left when the others are done.
	slices.SortStableFunc(m.tiles, func(a, b tile) int { return cmp.Compare(b.position, a.position) })
	words(&e.d.up, b.tiles, m.tileWords())
	e.d.embed(b.x, &e.p.embed, b.tokens, len(rows))
	for i := 0; i < len(rows); {
		sp := &spans[rows[i].span]
		n := 1
		for i+n < len(rows) && rows[i+n].span == rows[i].span {
			n++
		}
		if sp.Embeddings != nil {
			e.d.up.floats(b.x+driver.Ptr(4*i*hidden), sp.Embeddings[rows[i].at*hidden:(rows[i].at+n)*hidden])
		}
		i += n
	}
	return paging{b.tables, b.starts, b.positions, b.tiles, len(m.tiles), chunks}
}

// to is a matrix and where its product goes.
type to struct {
	y driver.Ptr
	w *projection
}

// project normalizes n rows of x, quantizes them where the model says so, and multiplies them by each matrix; rows of the products
// are ld apart. Matrices with a norm of their own each get an input of their own.
func (e *Engine) project(x driver.Ptr, n, width int, w norm, site, ld int, outs ...to) {
	if outs[0].w.norm.kind != 0 {
		if w.kind != 0 {
			e.d.norm(e.b.shared, x, n, width, w, site)
			x = e.b.shared
		}
		for _, o := range outs {
			e.multiply(o.y, ld, &o.w.ternary, e.input(x, n, width, o.w.norm, site), n)
		}
		return
	}
	in := e.input(x, n, width, w, site)
	for i := 0; i < len(outs); {
		o := outs[i]
		joined := o.w.ternary
		for i++; i < len(outs) && outs[i].y == o.y+driver.Ptr(4*joined.rows); i++ {
			both, ok := joined.followed(&outs[i].w.ternary)
			if !ok {
				break
			}
			joined = both
		}
		e.multiply(o.y, ld, &joined, in, n)
	}
}

// input prepares n rows of x for a matrix: codes, or floats and then the result is their address.
func (e *Engine) input(x driver.Ptr, n, width int, w norm, site int) driver.Ptr {
	switch {
	case e.c.Int8:
		e.d.quantize(e.b.codes, x, n, width, w, site)
		return 0
	case w.kind == 0:
		return x
	}
	e.d.norm(e.b.normed, x, n, width, w, site)
	return e.b.normed
}

func (e *Engine) multiply(y driver.Ptr, ld int, w *ternary, x driver.Ptr, n int) {
	if e.c.Int8 {
		e.d.multiplyInt8(y, ld, w, e.b.codes, n)
	} else {
		e.d.multiplyFloat(y, ld, w, x, n, w.cols)
	}
}

// residual adds the product of n rows of y, normalized, and a matrix to the residual stream, and applies the norm after the sum, if
// there is one.
func (e *Engine) residual(y driver.Ptr, n, width int, w norm, site int, p *projection, post norm, postSite int) {
	hidden := e.c.Hidden
	if e.c.Int8 && p.norm.kind == 0 && e.d.hasParts(&p.ternary, n, hidden) {
		e.input(y, n, width, w, site)
		e.d.multiplyParts(partAdd, e.b.x, hidden, &p.ternary, hidden, e.b.codes, n)
	} else {
		e.project(y, n, width, w, site, hidden, to{e.b.tmp, p})
		e.d.add(e.b.x, e.b.tmp, n*hidden)
	}
	if post.kind != 0 {
		e.d.norm(e.b.x, e.b.x, n, hidden, post, postSite)
	}
}

// target is a row of the batch and the place of its result.
type target struct{ row, span, at int }

// finish computes the hidden states and logits that the spans want.
func (e *Engine) finish(rows []row, spans []Span) error {
	hidden, vocab, d := e.c.Hidden, e.c.Vocab, e.d
	last := len(e.p.layers) * sitesPerLayer
	var states, logits []target
	for i, r := range rows {
		sp := &spans[r.span]
		n := sp.len(hidden)
		if at := wants(sp.Hidden, hidden, r.at, n); at >= 0 {
			states = append(states, target{i, r.span, at})
		}
		if at := wants(sp.Logits, vocab, r.at, n); at >= 0 {
			logits = append(logits, target{i, r.span, at})
		}
	}
	e.final(states, last)
	for i, t := range states {
		d.read(spans[t.span].Hidden[t.at*hidden:(t.at+1)*hidden], e.b.final+driver.Ptr(4*i*hidden))
	}
	e.final(logits, last)
	for lo := 0; lo < len(logits); lo += headBatch {
		part := logits[lo:min(lo+headBatch, len(logits))]
		x := e.b.final + driver.Ptr(4*lo*hidden)
		if e.p.headTernary.rows > 0 {
			e.multiply(e.b.logits, vocab, &e.p.headTernary, e.input(x, len(part), hidden, norm{}, last+1), len(part))
		} else {
			d.multiplyDense(e.b.logits, vocab, &e.p.headDense, x, len(part), hidden)
		}
		for i, t := range part {
			d.read(spans[t.span].Logits[t.at*vocab:(t.at+1)*vocab], e.b.logits+driver.Ptr(4*i*vocab))
		}
	}
	if site := d.readBad(); site != noSite {
		return e.siteError(site)
	}
	return nil
}

// final normalizes the rows of targets into the buffer of that name, stretches of neighbours at once.
func (e *Engine) final(targets []target, site int) {
	hidden := e.c.Hidden
	for i := 0; i < len(targets); {
		n := 1
		for i+n < len(targets) && targets[i+n].row == targets[i].row+n {
			n++
		}
		e.d.norm(e.b.final+driver.Ptr(4*i*hidden), e.b.x+driver.Ptr(4*targets[i].row*hidden), n, hidden, e.p.norm, site)
		i += n
	}
}
