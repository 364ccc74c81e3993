package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda"
	"github.com/tritter-ai/tritter/model"
)

// cudaEngine runs a model on an NVIDIA GPU.
type cudaEngine struct {
	model *Model
	opt   Options

	mu     sync.Mutex // one computation at a time
	closed bool
	device *cuda.Device
	engine *cuda.Engine
	plan   cuda.Plan
	note   string
}

// NewCUDA copies m to the CUDA device of number opt.Device and returns the engine that
// computes it there, without a window. Options.Kernels is for the CPU. The errors are those of
// kernels/cuda: no driver, no device, a driver that is too old, too little memory.
func NewCUDA(m *Model, opt Options) (Engine, error) {
	if err := opt.completePositions(&m.Config); err != nil {
		return nil, err
	}
	if opt.Window > 0 {
		return nil, fmt.Errorf("a window of %d: CUDA devices have no windows; use none, or --device cpu", opt.Window)
	}
	d, err := cuda.Open(opt.Device)
	if err != nil {
		return nil, err
	}
	e := &cudaEngine{model: m, opt: opt, device: d}
	w := deviceWeights(m, &opt)
	if e.engine, e.plan, err = d.Load(w); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if err := e.check(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s computes wrongly: %w; use the CPU, and report this with the output of tritter-run devices", d.Info().Name, err), e.Close())
	}
	if opt.Fast {
		switch {
		case e.engine.SetFast(true):
			e.note = "fast: the attention of prompts runs in bfloat16; results are near to the exact ones and not the same"
		case opt.KV != kernels.KVF32:
			e.note = fmt.Sprintf("fast: no effect, it is for a cache of f32; this one is of %v", opt.KV)
		default:
			e.note = fmt.Sprintf("fast: no effect, there are kernels for heads of 64 and 128 elements on GPUs with 160 KB of shared memory; this model has %d, %s %d KB", m.Config.HeadDim, d.Info().Name, d.Info().SharedPerBlockOptin>>10)
		}
	}
	return e, nil
}

// check holds the device to what the file's self-test says, and the path for one token
// to the general one: a GPU, a driver or a compiler in it that gives other bits is not
// used. The self-test is about a cache of f32; with another the CPU says what its prompt
// gives.
func (e *cudaEngine) check() error {
	c := &e.model.Config
	ctx := context.Background()
	t, err := ReadSelfTest(e.model.file, c.VocabSize, c.MaxPositionEmbeddings)
	switch {
	case errors.Is(err, format.ErrNoSection):
		t = &SelfTest{Prompt: []int{0, c.VocabSize - 1}}
	case err != nil:
		return err
	case len(t.Prompt) <= e.opt.Context && e.opt.KV == kernels.KVF32:
		logits := SelfTest{Logits: t.Logits, Prompt: t.Prompt}
		if err := logits.Check(ctx, e, nil); err != nil {
			return err
		}
	}
	prompt := t.Prompt[:min(len(t.Prompt), e.opt.Context)]
	var want []float32
	if e.opt.KV != kernels.KVF32 {
		want, err = e.checkOnCPU(ctx, prompt)
		if r := (*kernels.KVRangeError)(nil); errors.As(err, &r) {
			return nil // which calls will report
		}
		if err != nil {
			return err
		}
	}
	var last [2][]Result
	for i, alone := range []int{0, 1} { // tokens that are fed by themselves
		seq := e.NewSequence()
		defer seq.Close()
		if n := len(prompt) - alone; n > 0 {
			if last[i], err = e.Forward(ctx, []Span{{Seq: seq, Tokens: prompt[:n], Logits: PositionLast}}); err != nil {
				return err
			}
		}
		if alone > 0 {
			if last[i], err = e.Forward(ctx, []Span{{Seq: seq, Tokens: prompt[len(prompt)-1:], Logits: PositionLast}}); err != nil {
				return err
			}
		}
	}
	if !slices.Equal(last[0][0].Logits, last[1][0].Logits) {
		return errors.New("a token fed by itself gives other logits than one fed with those before it")
	}
	for i, w := range want {
		if got := last[0][0].Logits[i]; got != w {
			return fmt.Errorf("with a cache of %v, logit %d of a prompt is %v, and %v on the CPU", e.opt.KV, i, got, w)
		}
	}
	return nil
}

// checkOnCPU returns what the CPU gives for the last token of a prompt with the engine's cache.
func (e *cudaEngine) checkOnCPU(ctx context.Context, prompt []int) ([]float32, error) {
	cpu, err := NewCPU(e.model, Options{Context: len(prompt), Threads: e.opt.Threads, KV: e.opt.KV})
	if err != nil {
		return nil, err
	}
	seq := cpu.NewSequence()
	r, err := cpu.Forward(ctx, []Span{{Seq: seq, Tokens: prompt, Logits: PositionLast}})
	seq.Close()
	if err := errors.Join(err, cpu.Close()); err != nil {
		return nil, err
	}
	return r[0].Logits, nil
}

// deviceWeights names the model's tensors as package cuda does.
func deviceWeights(m *Model, opt *Options) *cuda.Weights {
	c := &m.Config
	w := &cuda.Weights{
		Config: cuda.Config{Hidden: c.HiddenSize, Heads: c.NumHeads, KVHeads: c.NumKVHeads, HeadDim: c.HeadDim, FFN: c.IntermediateSize, Vocab: c.VocabSize,
			Context: opt.Context, KV: opt.KV, Int8: c.ActivationQuant == model.ActivationInt8, Activation: activations[c.Activation]},
		Embed: &m.embed, HeadDense: m.head.Dense, HeadTernary: m.head.Ternary, Norm: m.norm, Angles: m.rope.At, Guard: format.Guard,
	}
	for i := range m.layers {
		l := &m.layers[i]
		p := func(p projection) cuda.Projection { return cuda.Projection{Ternary: p.Ternary, Norm: p.norm} }
		w.Layers = append(w.Layers, cuda.Layer{
			AttnNorm: l.attnNorm, QNorm: l.qNorm, KNorm: l.kNorm, AttnSubNorm: l.attnSubNorm, PostAttnNorm: l.postAttnNorm,
			MLPNorm: l.mlpNorm, MLPSubNorm: l.mlpSubNorm, PostMLPNorm: l.postMLPNorm,
			Q: p(l.q), K: p(l.k), V: p(l.v), O: p(l.o), Gate: p(l.gate), Up: p(l.up), Down: p(l.down),
		})
	}
	return w
}

func (e *cudaEngine) Name() string  { return "cuda/" + e.device.Info().Name }
func (e *cudaEngine) Model() *Model { return e.model }

func (e *cudaEngine) NewSequence() Sequence { return &cudaSequence{e.engine.NewSequence()} }

// cudaSequence makes a sequence of package cuda one of this package.
type cudaSequence struct{ *cuda.Sequence }

// Oldest is 0: there is no window that lets go of positions.
func (s *cudaSequence) Oldest() int { return 0 }

func (s *cudaSequence) Fork() Sequence { return &cudaSequence{s.Sequence.Fork()} }

func (e *cudaEngine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return errors.Join(e.engine.Close(), e.device.Close())
}

func (e *cudaEngine) Plan() MemoryPlan {
	pages := (int64(e.opt.Context) + kernels.PageLen - 1) / kernels.PageLen
	return MemoryPlan{Context: e.opt.Context, Loaded: e.plan.Weights, Activations: e.plan.Scratch, PerToken: e.plan.PerToken, KV: e.opt.KV.String(), Load: LoadDevice, Note: e.note, Cache: pages * kernels.PageLen * e.plan.PerToken}
}

func (e *cudaEngine) Forward(ctx context.Context, spans []Span) ([]Result, error) {
	return e.ForwardInto(ctx, spans, nil)
}

func (e *cudaEngine) ForwardInto(ctx context.Context, spans []Span, results []Result) ([]Result, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, errors.New("the engine is closed")
	}
	c := &e.model.Config
	for len(results) < len(spans) {
		results = append(results, Result{})
	}
	results = results[:len(spans)]
	on := make([]cuda.Span, len(spans))
	used := make(map[*cuda.Sequence]bool, len(spans))
	for i := range spans {
		sp := &spans[i]
		seq, n, err := e.checkSpan(sp, used)
		if err != nil {
			return nil, fmt.Errorf("span %d: %w", i, err)
		}
		results[i].Filtered = false
		grow(&results[i].Logits, sp.Logits.count(n)*c.VocabSize)
		grow(&results[i].Hidden, sp.Hidden.count(n)*c.HiddenSize)
		on[i] = cuda.Span{Seq: seq, Tokens: sp.Tokens, Embeddings: sp.Embeddings, Logits: results[i].Logits, Hidden: results[i].Hidden}
	}
	return results, e.engine.Forward(ctx, on)
}

// checkSpan returns the sequence of sp and its number of positions, or why it cannot be computed.
func (e *cudaEngine) checkSpan(sp *Span, used map[*cuda.Sequence]bool) (*cuda.Sequence, int, error) {
	s, ok := sp.Seq.(*cudaSequence)
	switch {
	case !ok || s.Engine() != e.engine:
		return nil, 0, errForeignSequence
	case s.Closed():
		return nil, 0, errClosedSequence
	case used[s.Sequence]:
		return nil, 0, errRepeatedSequence
	}
	used[s.Sequence] = true
	n, err := sp.check(&e.model.Config, s.Len(), e.opt.Context)
	return s.Sequence, n, err
}

func (e *cudaEngine) Generate(ctx context.Context, requests []Request, yield func(request, token int) bool) ([]Finish, error) {
	if len(requests) != 1 || !e.engine.CanDecode() {
		return generate(ctx, e, requests, yield)
	}
	finish, err := e.generateOne(ctx, requests[0], yield)
	if err != nil {
		return nil, err
	}
	return []Finish{finish}, nil
}

// generateOne is generate for one request: a Batch computes the prompt and the first
// token, and then the device draws tokens and feeds itself.
func (e *cudaEngine) generateOne(ctx context.Context, req Request, yield func(request, token int) bool) (Finish, error) {
	b := NewBatch(e)
	defer b.Close()
	if _, err := b.Add(req); err != nil {
		return "", fmt.Errorf("request 0: %w", err)
	}
	r := b.active[0]
	for r.count == 0 {
		events, err := b.Step(ctx)
		if err != nil {
			return "", err
		}
		for _, ev := range events {
			switch {
			case ev.Err != nil:
				return "", fmt.Errorf("request 0: %w", ev.Err)
			case ev.Token >= 0 && !yield(0, ev.Token):
				return FinishStopped, nil
			case ev.Finish != "":
				return ev.Finish, nil
			}
		}
	}
	s := &req.Sampling
	steps := min(req.MaxNewTokens-r.count, e.opt.Context-r.seq.Len())
	d := e.engine.Decode(r.seq.(*cudaSequence).Sequence, r.token[0], steps, cuda.Sampling{
		Temperature: float32(s.Temperature), Penalty: float32(s.RepetitionPenalty), TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, Seed: s.Seed,
	}, slices.Collect(maps.Keys(r.seen)))
	for {
		id, err := e.next(ctx, d)
		if err != nil {
			return "", err
		}
		if slices.Contains(req.EOS, id) {
			return FinishEOS, nil
		}
		r.count++
		switch {
		case !yield(0, id):
			return FinishStopped, nil
		case r.count == req.MaxNewTokens:
			return FinishLength, nil
		case r.seq.Len() >= e.opt.Context:
			return FinishContext, nil
		}
	}
}

func (e *cudaEngine) next(ctx context.Context, d *cuda.Decoding) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, errors.New("the engine is closed")
	}
	return d.Next(ctx)
}
