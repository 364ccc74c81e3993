package cuda

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// single computes one position of one sequence with the kernels of src/decode.cu: a few per layer, as one graph.
type single struct {
	state driver.Ptr    // struct State of src/decode.cu
	x     [2]driver.Ptr // residual stream, and where its norm goes
	qkv   driver.Ptr
	att   driver.Ptr
	h     driver.Ptr // gated units
	parts driver.Ptr // chunks of attention
	done  driver.Ptr // a counter for each kv head, zero between kernels
	best  driver.Ptr // image of the token to come (src/sample.cu), zero between steps

	settings driver.Ptr // struct Settings of src/sample.cu
	seen     driver.Ptr // a bit for each token that the repetition penalty is for
	keys     driver.Ptr // ordered images of the logits
	e        driver.Ptr // weights of the candidates as floats

	told   *driver.Host // tellLen entries that the device writes: token and site
	event  [2]*driver.Event
	graphs map[graphKey]*driver.Exec
	plain  bool // launch kernel by kernel, for tests

	turn int // counts the calls that used state
}

// graphKey tells graphs apart: attention is launched for so many chunks, and with pick the device chooses the token.
type graphKey struct {
	chunks int
	pick   bool
}

// tellLen is the number of entries of single.told, as kernel advance counts them.
const tellLen = 64

// plain reports whether a matrix can be one of single's: whole tiles and a scale a row.
func (w *ternary) plain() bool {
	return w.group == 0 && w.rows%tileRows == 0 && w.cols%kernels.TileCols == 0 && w.cols <= 32*kernels.BlockLen
}

// canSingle reports whether the kernels of src/decode.cu fit the model. What they leave out takes the general path.
func (e *Engine) canSingle() bool {
	c := &e.c
	shared := c.Heads / c.KVHeads
	pages := (c.Context + kernels.PageLen - 1) / kernels.PageLen
	if !c.Int8 || c.HeadDim%32 != 0 || c.HeadDim > 256 || shared > 32 || 2*shared*pages > 2*kernels.PageLen*c.HeadDim || attendBytes(c.HeadDim, shared) > e.d.dev.Info.SharedPerBlockOptin {
		return false
	}
	if e.p.headTernary.rows > 0 && !e.p.headTernary.plain() {
		return false
	}
	for i := range e.p.layers {
		l := &e.p.layers[i]
		for _, p := range []*projection{&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down} {
			if p.norm.kind != 0 || !p.plain() || multiplyBytes(p.cols) > e.d.dev.Info.SharedPerBlockOptin {
				return false
			}
		}
		bias := l.q.bias != 0
		if bias != (l.k.bias != 0) || bias != (l.v.bias != 0) || (l.gate.bias != 0) != (l.up.bias != 0) {
			return false
		}
	}
	return true
}

func attendBytes(dim, shared int) int {
	return 4 * (2*kernels.PageLen*dim + (shared+2)*dim + kernels.PageLen*shared)
}

func multiplyBytes(cols int) int { return 9 * cols }

// allocSingle makes room for single's buffers.
func (s *single) alloc(a allocator, c *Config) error {
	var errs []error
	piece := func(to *driver.Ptr, elements int) {
		p, err := a.Alloc(4 * int64(elements))
		*to = p
		errs = append(errs, err)
	}
	pages := (c.Context + kernels.PageLen - 1) / kernels.PageLen
	shared := c.Heads / c.KVHeads
	piece(&s.state, 2+2*pages)
	piece(&s.x[0], c.Hidden)
	piece(&s.x[1], c.Hidden)
	piece(&s.qkv, (c.Heads+2*c.KVHeads)*c.HeadDim)
	piece(&s.att, c.Heads*c.HeadDim)
	piece(&s.h, c.FFN)
	piece(&s.parts, c.KVHeads*pages*shared*(c.HeadDim+2))
	piece(&s.done, c.KVHeads)
	piece(&s.best, 2)
	piece(&s.settings, 10)
	piece(&s.seen, (c.Vocab+31)/32)
	piece(&s.keys, c.Vocab)
	piece(&s.e, c.Vocab)
	return errors.Join(errs...)
}

// open prepares what is not memory.
func (s *single) open(e *Engine) (err error) {
	d, c := e.d, &e.c
	s.graphs = map[graphKey]*driver.Exec{}
	if s.told, err = d.ctx.AllocHost(8 * tellLen); err != nil {
		return err
	}
	for i := range s.event {
		if s.event[i], err = d.ctx.NewEvent(false); err != nil {
			return err
		}
	}
	d.fail(d.ctx.Memset32(s.done, 0, int64(c.KVHeads), d.stream))
	d.fail(d.ctx.Memset32(s.best, 0, 2, d.stream))
	widest := multiplyBytes(max(c.Hidden, c.FFN, c.Heads*c.HeadDim))
	for _, k := range []kernel{decodeMultiply4, decodeMultiply8, decodeMultiply12} {
		d.fail(d.fn[k].SetMaxDynamicShared(widest))
	}
	d.fail(d.fn[decodeAttend].SetMaxDynamicShared(attendBytes(c.HeadDim, c.Heads/c.KVHeads)))
	return d.took()
}

func (s *single) close() error {
	var errs []error
	for _, g := range s.graphs {
		errs = append(errs, g.Destroy())
	}
	for _, e := range s.event {
		errs = append(errs, e.Destroy())
	}
	return errors.Join(append(errs, s.told.Free())...)
}

// What becomes of a product, as src/decode.cu numbers it.
const (
	modeStore = iota
	modeResidual
	modeSiLU
	modeReLU2
)

// multiplyVector launches multiply_vector for matrices that follow each other, the first of which is w, of rows
// together.
func (d *Device) multiplyVector(y, residual, x, kept driver.Ptr, pre, n norm, w *ternary, rows, mode, site int) {
	tiles, columns := rows/tileRows, w.columns()
	per := 1 // rows of tiles that a line of the result takes
	if mode >= modeSiLU {
		per = 2
	}
	// More lines share the work on the vector; fewer leave no multiprocessor without a block.
	lines := per
	for lines < 8 && tiles/(2*lines)*8 >= 7*d.dev.Info.SMs {
		lines *= 2
	}
	split := 8 / lines
	k := decodeMultiply12
	switch held := (columns + split - 1) / split; {
	case held <= 4:
		k = decodeMultiply4
	case held <= 8:
		k = decodeMultiply8
	}
	groups := (tiles + lines - 1) / lines
	d.args.Reset().Ptr(y).Ptr(residual).Ptr(x).Ptr(kept).
		Ptr(pre.weight).Ptr(pre.bias).U32(uint32(pre.kind)).F32(pre.eps).
		Ptr(n.weight).Ptr(n.bias).U32(uint32(n.kind)).F32(n.eps).
		Ptr(w.tiles).Ptr(w.scales).Ptr(w.bias).U32(uint32(w.cols)).U32(uint32(tiles)).U32(uint32(lines)).U32(uint32(mode)).Ptr(d.bad).U32(uint32(site))
	d.launch(k, min(groups, 2*d.dev.Info.SMs), 1, 256, multiplyBytes(w.cols))
}

// launchSingle launches a step: the state's token goes through every layer to logits, and with pick the one that is
// drawn from them becomes the state's next token, one position on.
func (e *Engine) launchSingle(chunks int, pick bool) {
	c, d, s := &e.c, e.d, &e.s
	dim := c.HeadDim
	qDim, kvDim := c.Heads*dim, c.KVHeads*dim
	mode := modeSiLU
	if c.Activation == kernels.ReLU2 {
		mode = modeReLU2
	}
	k := s.qkv + driver.Ptr(4*qDim)
	v := k + driver.Ptr(4*kvDim)
	x, other := s.x[0], s.x[1]
	keep := func(pre norm) { // what the kernel just launched did to x
		if pre.kind != 0 {
			x, other = other, x
		}
	}
	d.embed(x, &e.p.embed, s.state, 1)
	var pre norm // still to be applied to x
	for i := range e.p.layers {
		l := &e.p.layers[i]
		site := i * sitesPerLayer
		d.multiplyVector(s.qkv, 0, x, other, pre, l.attnNorm, &l.q.ternary, qDim+2*kvDim, modeStore, site+siteAttn)
		keep(pre)
		z := float32(1 / math.Sqrt(float64(dim)))
		d.args.Reset().Ptr(s.att).Ptr(s.qkv).Ptr(k).Ptr(v).Ptr(s.state).Ptr(e.p.angles).U64(uint64(i) * uint64(e.cache.pageBytes)).
			U32(uint32(c.Heads)).U32(uint32(c.KVHeads)).U32(uint32(dim)).F32(z).
			Ptr(l.qNorm.weight).Ptr(l.qNorm.bias).U32(uint32(l.qNorm.kind)).F32(l.qNorm.eps).
			Ptr(l.kNorm.weight).Ptr(l.kNorm.bias).U32(uint32(l.kNorm.kind)).F32(l.kNorm.eps).
			Ptr(s.parts).Ptr(s.done).Ptr(d.bad).U32(uint32(site + siteQ))
		d.launch(decodeAttend, c.KVHeads, chunks, 256, attendBytes(dim, c.Heads/c.KVHeads))
		d.multiplyVector(x, x, s.att, 0, norm{}, l.attnSubNorm, &l.o.ternary, c.Hidden, modeResidual, site+siteO)
		pre = l.postAttnNorm
		d.multiplyVector(s.h, 0, x, other, pre, l.mlpNorm, &l.gate.ternary, 2*c.FFN, mode, site+siteMLP)
		keep(pre)
		d.multiplyVector(x, x, s.h, 0, norm{}, l.mlpSubNorm, &l.down.ternary, c.Hidden, modeResidual, site+siteDown)
		pre = l.postMLPNorm
	}
	last := len(e.p.layers) * sitesPerLayer
	if e.p.headTernary.rows > 0 {
		d.multiplyVector(e.b.logits, 0, x, other, pre, e.p.norm, &e.p.headTernary, c.Vocab, modeStore, last)
	} else {
		if pre.kind != 0 {
			d.norm(x, x, 1, c.Hidden, pre, last-1)
		}
		d.norm(e.b.final, x, 1, c.Hidden, e.p.norm, last)
		d.multiplyDense(e.b.logits, c.Vocab, &e.p.headDense, e.b.final, 1, c.Hidden)
	}
	if pick {
		blocks := min(spread(c.Vocab), 2*d.dev.Info.SMs)
		d.args.Reset().Ptr(s.keys).Ptr(s.best).Ptr(e.b.logits).U32(uint32(c.Vocab)).Ptr(s.seen).Ptr(s.settings).Ptr(d.bad).U32(uint32(last + 1))
		d.launch(adjustLogits, blocks, 1, 256, 0)
		d.args.Reset().Ptr(s.e).Ptr(s.keys).Ptr(s.best).U32(uint32(c.Vocab))
		d.launch(weighCandidates, blocks, 1, 256, 0)
		d.args.Reset().Ptr(s.best).Ptr(s.keys).Ptr(s.e).U32(uint32(c.Vocab)).Ptr(s.seen).Ptr(s.settings).Ptr(s.state + 4)
		d.launch(chooseToken, 1, 1, 1024, 0)
		d.args.Reset().Ptr(s.state).Ptr(s.best).Ptr(s.told.DevicePtr()).Ptr(d.bad)
		d.launch(advance, 1, 1, 32, 0)
	}
}

// singleChunks is for how many chunks attention is launched at a position. Few graphs do for all positions: blocks of
// chunks that are not there end at once.
func (e *Engine) singleChunks(position int) int {
	chunks := 4
	for chunks*kernels.PageLen <= position {
		chunks *= 2
	}
	return chunks
}

// runSingle runs a step at a position, as a graph.
func (e *Engine) runSingle(position int, pick bool) {
	d, s := e.d, &e.s
	chunks := e.singleChunks(position)
	if s.plain {
		e.launchSingle(chunks, pick)
		return
	}
	key := graphKey{chunks, pick}
	if s.graphs[key] == nil {
		d.fail(d.stream.BeginCapture())
		e.launchSingle(chunks, pick)
		g, err := d.stream.EndCapture()
		d.fail(err)
		if d.err != nil {
			return
		}
		x, err := g.Instantiate()
		if err := errors.Join(err, g.Destroy()); err != nil {
			d.fail(err)
			return
		}
		s.graphs[key] = x
	}
	if d.err == nil {
		d.fail(s.graphs[key].Launch(d.stream))
	}
}

// setState tells the device where a sequence stands: token is fed next, at a position whose block exists.
func (e *Engine) setState(seq *Sequence, token, position int) {
	t := append(e.meta.tables[:0], uint64(uint32(token))|uint64(position)<<32)
	for _, b := range seq.blocks {
		t = append(t, uint64(b.at))
	}
	e.meta.tables = t
	words(&e.d.up, e.s.state, t)
	e.s.turn++
}

// forwardSingle is forward for one token.
func (e *Engine) forwardSingle(r *row, sp *Span) error {
	d := e.d
	d.clearBad()
	e.setState(r.seq, int(r.token), r.pos)
	e.runSingle(r.pos, false)
	if site := d.readBad(); site != noSite {
		return e.siteError(site)
	}
	d.read(sp.Logits, e.b.logits)
	return d.took()
}

// CanDecode reports whether Decode can be used for the model.
func (e *Engine) CanDecode() bool { return e.fast }

// Sampling says how the device draws tokens (spec/numerics.md section 15).
type Sampling struct {
	Temperature, Penalty float32 // 0 is greedy; 1 is off
	TopK                 int     // 0 is off
	TopP, MinP           float64 // 1 is off; 0 is off
	Seed                 uint64
}

// Decoding is a sequence that is continued, the device feeding itself. The device is a step ahead of what Next
// returned.
type Decoding struct {
	e        *Engine
	seq      *Sequence
	sampling Sampling
	seen     []uint32 // bits of the tokens that the penalty is for
	token    int      // fed at position seq.len
	left     int      // steps that may still be launched
	launched int      // steps under way, 0 to 2
	turn     int
	blocks   int // that the device knows of
}

// Decode continues seq with token, which is not part of it yet, for at most steps tokens. seen are the tokens that the
// repetition penalty is for, besides those that will be drawn. Other calls of the engine may come between those of Next,
// as long as they leave seq alone.
func (e *Engine) Decode(seq *Sequence, token, steps int, s Sampling, seen []int) *Decoding {
	g := &Decoding{e: e, seq: seq, sampling: s, token: token, left: steps, turn: -1, seen: make([]uint32, (e.c.Vocab+31)/32)}
	for _, id := range seen {
		g.seen[id/32] |= 1 << (id % 32)
	}
	return g
}

// setSampling tells the device how to draw.
func (g *Decoding) setSampling() {
	s := &g.sampling
	words(&g.e.d.up, g.e.s.settings, []uint64{uint64(math.Float32bits(s.Penalty)) | uint64(math.Float32bits(s.Temperature))<<32, uint64(s.TopK),
		math.Float64bits(s.TopP), math.Float64bits(s.MinP), s.Seed})
	words(&g.e.d.up, g.e.s.seen, g.seen)
}

// Next feeds the last token and returns the next one.
func (g *Decoding) Next(ctx context.Context) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err := g.e.d.do(g.next)
	return g.token, err
}

func (g *Decoding) next() error {
	e, d, s := g.e, g.e.d, &g.e.s
	if g.turn != s.turn { // begin, or begin again after another call used the device
		g.launched = 0
		if err := g.seq.reserve(1); err != nil {
			return err
		}
		d.clearBad()
		g.setSampling()
		e.setState(g.seq, g.token, g.seq.len)
		g.turn, g.blocks = s.turn, len(g.seq.blocks)
	}
	for ; g.launched < min(2, g.left); g.launched++ {
		if err := g.seq.grow(g.launched + 1); err != nil {
			return err
		}
		if g.blocks < len(g.seq.blocks) {
			b := g.seq.blocks[g.blocks]
			words(&d.up, s.state+driver.Ptr(8+8*g.blocks), []uint64{uint64(b.at)})
			g.blocks++
		}
		e.runSingle(g.seq.len+g.launched, true)
		d.fail(s.event[(g.seq.len+g.launched)%2].Record(d.stream))
	}
	if d.err != nil {
		return d.took()
	}
	if err := s.event[g.seq.len%2].Synchronize(); err != nil {
		return err
	}
	entry := s.told.Bytes()[8*(g.seq.len%tellLen):]
	if site := binary.LittleEndian.Uint32(entry[4:]); site != noSite {
		g.turn = -1
		return e.siteError(site)
	}
	g.token = int(binary.LittleEndian.Uint32(entry))
	g.seen[g.token/32] |= 1 << (g.token % 32)
	g.seq.len++
	g.launched--
	g.left--
	return nil
}

// PlainLaunches makes steps of one token launch kernel by kernel rather than as a graph, to compare the two.
func (e *Engine) PlainLaunches(plain bool) { e.s.plain = plain }
