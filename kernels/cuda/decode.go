package cuda

import (
	"context"
	"encoding/binary"
	"errors"
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// single computes one position of one sequence with the kernels of src/step.cuh: all layers in one launch, as part of a graph.
type single struct {
	state   driver.Ptr // struct State of src/step.cuh
	steps   driver.Ptr // a count
	layers  driver.Ptr // struct Layer for each layer, and for a ternary head
	placed  driver.Ptr // weights of norms, in the order in which the kernel reads vectors
	vectors driver.Ptr // what blocks tell each other, by layer
	parts   driver.Ptr // chunks of attention
	best    driver.Ptr // image of the token to come (src/sample.cu), zero between steps

	settings driver.Ptr // struct Settings of src/sample.cu
	seen     driver.Ptr // a bit for each token that the repetition penalty is for
	keys     driver.Ptr // ordered images of the logits
	e        driver.Ptr // weights of the candidates as floats

	told   *driver.Host // tellLen entries that the device writes: token and site
	event  [2]*driver.Event
	graphs [2]*driver.Exec // of a step, and of one that draws the next token
	plain  bool            // launch kernel by kernel, for tests
	shape  stepShape

	turn int // counts the calls that used state
}

// tellLen is the number of entries of single.told, as kernel advance counts them.
const tellLen = 64

// plain reports whether a matrix can be one of single's: whole tiles and a scale a row.
func (w *ternary) plain() bool {
	return w.group == 0 && w.rows%tileRows == 0 && w.cols%kernels.TileCols == 0
}

// Kernel step of src/step.cuh.
const (
	stepWarps   = 8                        // that compute
	stepThreads = 32 * (stepWarps + 2 + 1) // besides, two warps make results and one copies
	layerWords  = 4*14 + 6                 // struct Layer, in words of 8 bytes
	exchangeLen = 2560                     // struct Exchange, and what is lost where a line of shared memory ends
)

// stepKernels are the variants of the kernel: by the tiles that its ring has for a warp, and whether keys and values pass through shared
// memory.
var stepKernels = []struct {
	kernel kernel
	ring   int
	staged bool
}{{decodeStepLarge, 24, true}, {decodeStepMedium, 12, true}, {decodeStepSmall, 8, false}}

// stepShape is how the kernel is launched.
type stepShape struct {
	kernel        kernel
	grid, shared  int
	widest, lines int // most columns of a matrix; most rows of tiles in a block
}

// shapeStep chooses the first variant that fits the device, if any does. Each block needs a row of tiles of every matrix in a layer.
func (e *Engine) shapeStep() (stepShape, bool) {
	c := &e.c
	qDim, shared := c.Heads*c.HeadDim, c.Heads/c.KVHeads
	s := stepShape{widest: c.widest()}
	s.grid = min(e.d.dev.Info.SMs, c.Hidden/tileRows, c.FFN/tileRows, (qDim+2*c.KVHeads*c.HeadDim)/tileRows)
	share := func(rows int) int { return (rows/tileRows + s.grid - 1) / s.grid }
	s.lines = max(share(qDim+2*c.KVHeads*c.HeadDim), share(c.Hidden), 2*share(c.FFN), share(e.p.headTernary.rows))
	page := 4 * 2 * kernels.PageLen * c.HeadDim
	rest := 4*((shared+3)*c.HeadDim+kernels.PageLen*shared) + 5*padded(s.widest) + 4*tileRows*s.lines + exchangeLen
	for _, k := range stepKernels {
		s.kernel, s.shared = k.kernel, stepWarps*k.ring*tileBytes+rest
		if k.staged {
			s.shared += page
		}
		if s.shared <= e.d.dev.Info.SharedPerBlockOptin && !(k.staged && e.d.portable) {
			return s, true
		}
	}
	return s, false
}

// canSingle reports whether the kernels of src/step.cuh fit the model. What they leave out takes the general path.
func (e *Engine) canSingle() bool {
	c := &e.c
	if c.KV != kernels.KVF32 || !c.Int8 || c.HeadDim%32 != 0 || c.HeadDim > 256 || c.widest() > 2*stepWarps*kernels.BlockLen {
		return false
	}
	if e.p.headTernary.rows > 0 && !e.p.headTernary.plain() {
		return false
	}
	for i := range e.p.layers {
		l := &e.p.layers[i]
		for _, p := range []*projection{&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down} {
			if p.norm.kind != 0 || !p.plain() {
				return false
			}
		}
		bias := l.q.bias != 0
		if bias != (l.k.bias != 0) || bias != (l.v.bias != 0) || (l.gate.bias != 0) != (l.up.bias != 0) {
			return false
		}
	}
	_, ok := e.shapeStep()
	return ok
}

// padded is the room of a vector of n elements that blocks tell each other: whole blocks of a sum, zero behind the elements.
func padded(n int) int { return (n + kernels.BlockLen - 1) / kernels.BlockLen * kernels.BlockLen }

// vectorLen is the number of elements of the vectors that blocks tell each other in a step, of which q, k and v are not padded.
func (c *Config) vectorLen(layers int) int {
	qDim := c.Heads * c.HeadDim
	return layers*(2*padded(c.Hidden)+qDim+2*c.KVHeads*c.HeadDim+padded(qDim)+padded(c.FFN)) + padded(c.Hidden)
}

// widest is the number of columns of the widest matrix of a layer.
func (c *Config) widest() int { return max(c.Hidden, c.FFN, c.Heads*c.HeadDim) }

// placedLen is the number of weights of norms at most: two for each element of the input of a matrix, two for each of a residual stream
// with a norm of its own, and ones for where there is no norm.
func (c *Config) placedLen(layers int) int {
	hidden := padded(c.Hidden)
	return layers*(2*(2*hidden+padded(c.Heads*c.HeadDim)+padded(c.FFN))+4*hidden) + 4*hidden + padded(c.widest())
}

// pages is the number of pages of a sequence that fills the context.
func (c *Config) pages() int { return (c.Context + kernels.PageLen - 1) / kernels.PageLen }

// partWords is the length of the chunks of attention of such a sequence, in words of 4 bytes.
func (c *Config) partWords() int { return 2 * c.pages() * c.Heads * (c.HeadDim + 2) }

// alloc makes room for single's buffers, if it can be used with the format of keys and values.
func (s *single) alloc(a allocator, c *Config, layers int) error {
	if c.KV != kernels.KVF32 {
		return nil
	}
	var errs []error
	piece := func(to *driver.Ptr, elements int) {
		p, err := a.Alloc(4 * int64(elements))
		*to = p
		errs = append(errs, err)
	}
	piece(&s.state, 2+2*c.pages())
	piece(&s.steps, 1)
	piece(&s.layers, 2*layerWords*(layers+1))
	piece(&s.placed, c.placedLen(layers))
	piece(&s.vectors, c.vectorLen(layers))
	piece(&s.parts, c.partWords())
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
	if s.told, err = d.ctx.AllocHost(8 * tellLen); err != nil {
		return err
	}
	for i := range s.event {
		if s.event[i], err = d.ctx.NewEvent(false); err != nil {
			return err
		}
	}
	s.choose(e)
	d.fail(d.ctx.Memset32(s.steps, 0, 1, d.stream))
	d.fail(d.ctx.Memset32(s.placed, 0, int64(c.placedLen(len(e.p.layers))), d.stream))
	d.fail(d.ctx.Memset32(s.vectors, 0, int64(c.vectorLen(len(e.p.layers))), d.stream))
	d.fail(d.ctx.Memset32(s.parts, 0, int64(c.partWords()), d.stream))
	d.fail(d.ctx.Memset32(s.best, 0, 2, d.stream))
	return d.took()
}

// choose picks the kernel of a step. Graphs of another are not used any more.
func (s *single) choose(e *Engine) {
	var ok bool
	if s.shape, ok = e.shapeStep(); !ok {
		panic("cuda: a model that the kernels for one token do not fit")
	}
	if e.d.need(s.shape.kernel); e.d.err != nil {
		return
	}
	e.d.fail(e.d.fn[s.shape.kernel].SetMaxDynamicShared(s.shape.shared))
	for i, g := range s.graphs {
		if g != nil {
			e.d.fail(g.Destroy())
			s.graphs[i] = nil
		}
	}
}

// layerTable is what the device knows of the layers: struct Layer of src/step.cuh for each, and one for a ternary head. It puts the weights
// of norms where the table says.
func (e *Engine) layerTable() []uint64 {
	var t []uint64
	d, next := e.d, e.s.placed
	addNorm := func(n norm) {
		t = append(t, uint64(n.weight), uint64(n.bias), uint64(n.kind)|uint64(math.Float32bits(n.eps))<<32)
	}
	// place puts n elements into the order of place, or a value as often.
	place := func(from driver.Ptr, value float32, n int) driver.Ptr {
		to := next
		next += driver.Ptr(4 * padded(n))
		if from != 0 {
			d.args.Reset().Ptr(to).Ptr(from).U32(uint32(n))
			d.launch(placeVector, spread(n), 1, 256, 0)
		} else {
			d.fail(d.ctx.Memset32(to, math.Float32bits(value), int64(n), d.stream))
		}
		return to
	}
	c := &e.c
	ones := uint64(place(0, 1, c.widest()))
	negativeZero := float32(math.Copysign(0, -1)) // changes no sum
	addPlaced := func(n norm, cols int) {
		if n.kind == 0 {
			t = append(t, 0, 0)
			return
		}
		w, b := place(n.weight, 1, cols), driver.Ptr(0)
		if n.kind == kernels.Layer {
			b = place(n.bias, negativeZero, cols)
		}
		t = append(t, uint64(w), uint64(b))
	}
	addMatrix := func(w *ternary, cols int, pre, own norm) {
		t = append(t, uint64(w.tiles), uint64(w.scales), uint64(w.bias))
		addNorm(pre)
		addNorm(own)
		addPlaced(pre, cols)
		addPlaced(own, cols)
		gain := ones
		if own.kind == kernels.RMS {
			gain = t[len(t)-2]
		}
		t = append(t, gain)
	}
	var pre norm // still to be applied to the residual stream
	for i := range e.p.layers {
		l := &e.p.layers[i]
		addMatrix(&l.q.ternary, c.Hidden, pre, l.attnNorm)
		addMatrix(&l.o.ternary, c.Heads*c.HeadDim, norm{}, l.attnSubNorm)
		addMatrix(&l.gate.ternary, c.Hidden, l.postAttnNorm, l.mlpNorm)
		addMatrix(&l.down.ternary, c.FFN, norm{}, l.mlpSubNorm)
		addNorm(l.qNorm)
		addNorm(l.kNorm)
		pre = l.postMLPNorm
	}
	addMatrix(&e.p.headTernary, c.Hidden, pre, e.p.norm)
	return t
}

func (s *single) close() error {
	var errs []error
	for _, g := range s.graphs {
		if g != nil {
			errs = append(errs, g.Destroy())
		}
	}
	for _, e := range s.event {
		errs = append(errs, e.Destroy())
	}
	return errors.Join(append(errs, s.told.Free())...)
}

// What becomes of gate and up, as src/step.cuh numbers it.
const (
	modeSiLU  = 2
	modeReLU2 = 3
)

// neededForStep has one kernel of each file that a step needs.
func (e *Engine) neededForStep() []kernel {
	shape, _ := e.shapeStep()
	return append(e.neededForHead(), beginStep, shape.kernel)
}

// neededForHead is the same for the head.
func (e *Engine) neededForHead() []kernel {
	if e.p.headTernary.rows > 0 {
		return nil
	}
	return []kernel{denseKernels[e.p.headDense.dtype][0]}
}

// launchSingle launches a step: the state's token goes through every layer to logits, and with pick the one that is
// drawn from them becomes the state's next token, one position on.
func (e *Engine) launchSingle(pick bool) {
	c, d, s := &e.c, e.d, &e.s
	n := c.vectorLen(len(e.p.layers))
	embed := &e.p.embed
	d.args.Reset().Ptr(s.state).Ptr(s.steps).Ptr(s.vectors).U64(uint64(n)).U32(uint32(c.Hidden)).U32(uint32(c.Heads * c.HeadDim)).U32(uint32(c.KVHeads * c.HeadDim)).U32(uint32(c.FFN)).Ptr(embed.data).Ptr(embed.scales).U32(uint32(embed.rows)).U32(uint32(embed.dtype))
	d.launch(beginStep, min(spread(n/4), 2*d.dev.Info.SMs), 1, 256, 0)

	mode := modeSiLU
	if c.Activation == kernels.ReLU2 {
		mode = modeReLU2
	}
	last := len(e.p.layers) * sitesPerLayer
	logits := driver.Ptr(0) // of a ternary head
	if e.p.headTernary.rows > 0 {
		logits = e.b.logits
	}
	d.args.Reset().Ptr(s.state).Ptr(s.steps).Ptr(s.layers).U32(uint32(len(e.p.layers))).Ptr(s.vectors).Ptr(s.parts).Ptr(e.b.final).Ptr(logits).Ptr(e.p.angles).U64(uint64(e.cache.pageBytes)).
		U32(uint32(c.Hidden)).U32(uint32(c.FFN)).U32(uint32(c.Heads)).U32(uint32(c.KVHeads)).U32(uint32(c.HeadDim)).U32(uint32(c.Vocab)).
		F32(float32(1 / math.Sqrt(float64(c.HeadDim)))).U32(uint32(mode)).U32(uint32(s.shape.widest)).U32(uint32(s.shape.lines)).Ptr(d.bad)
	d.launch(s.shape.kernel, s.shape.grid, 1, stepThreads, s.shape.shared)

	if logits == 0 {
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

// runSingle runs a step, as a graph.
func (e *Engine) runSingle(pick bool) {
	d, s := e.d, &e.s
	if s.plain {
		e.launchSingle(pick)
		return
	}
	graph := &s.graphs[0]
	if pick {
		graph = &s.graphs[1]
	}
	if *graph == nil {
		// Nothing is compiled while a stream is captured.
		d.need(e.neededForStep()...)
		if pick {
			d.need(adjustLogits, advance)
		}
		if d.err != nil {
			return
		}
		d.fail(d.stream.BeginCapture())
		e.launchSingle(pick)
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
		*graph = x
	}
	if d.err == nil {
		d.fail((*graph).Launch(d.stream))
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
	e.runSingle(false)
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
		e.runSingle(true)
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

// Portable leaves out the kernels that only some devices can run, so that tests reach those of all others.
func (e *Engine) Portable() error {
	return e.d.do(func() error {
		e.d.Portable()
		if e.fast {
			e.s.choose(e)
		}
		return nil
	})
}

// PlainLaunches makes steps of one token launch kernel by kernel rather than as a graph, to compare the two.
func (e *Engine) PlainLaunches(plain bool) { e.s.plain = plain }
