package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// running is a request that is being generated.
type running struct {
	index int
	seq   Sequence
	own   bool // seq is closed at the end
	feed  []int
	seen  map[int]bool
	count int
}

func (e *cpuEngine) Generate(ctx context.Context, requests []Request, yield func(request, token int) bool) ([]Finish, error) {
	return generate(ctx, e, e.opt.Context, requests, yield)
}

// generate is the token loop over Forward: each step computes one token of every
// request that still runs.
func generate(ctx context.Context, e Engine, context int, requests []Request, yield func(request, token int) bool) ([]Finish, error) {
	finish := make([]Finish, len(requests))
	var active []*running
	defer func() {
		for _, r := range active {
			r.close()
		}
	}()
	for i := range requests {
		r, err := begin(e, i, &requests[i])
		if err != nil {
			return nil, fmt.Errorf("request %d: %w", i, err)
		}
		active = append(active, r)
	}
	for len(active) > 0 {
		spans := make([]Span, len(active))
		for i, r := range active {
			spans[i] = Span{Seq: r.seq, Tokens: r.feed, Logits: PositionLast}
		}
		results, err := e.Forward(ctx, spans)
		if err != nil {
			return nil, err
		}
		for i, r := range active {
			if finish[r.index], err = r.step(&requests[r.index], results[i].Logits, context, yield); err != nil {
				return nil, fmt.Errorf("request %d: %w", r.index, err)
			}
			if finish[r.index] != "" {
				r.close()
			}
		}
		active = slices.DeleteFunc(active, func(r *running) bool { return finish[r.index] != "" })
	}
	return finish, nil
}

func begin(e Engine, index int, req *Request) (*running, error) {
	if len(req.Tokens) == 0 {
		return nil, errors.New("the prompt has no tokens; give a text, or let special tokens be added")
	}
	if req.MaxNewTokens < 1 {
		return nil, fmt.Errorf("max_new_tokens must be at least 1, got %d", req.MaxNewTokens)
	}
	if err := req.Sampling.Validate(); err != nil {
		return nil, err
	}
	r := &running{index: index, seq: req.Seq, feed: req.Tokens, seen: map[int]bool{}}
	if r.seq == nil {
		r.seq, r.own = e.NewSequence(), true
	}
	vocab := e.Model().Config.VocabSize
	for _, id := range append(slices.Clone(req.Penalized), req.Tokens...) {
		if id < 0 || id >= vocab {
			return nil, fmt.Errorf("token id %d is outside the vocabulary, want 0 to %d", id, vocab-1)
		}
		r.seen[id] = true
	}
	return r, nil
}

func (r *running) close() {
	if r.own {
		r.seq.Close()
	}
}

// step samples the next token and accepts it.
func (r *running) step(req *Request, logits []float32, context int, yield func(request, token int) bool) (Finish, error) {
	id, err := req.Sampling.Sample(logits, r.seen, r.seq.Len())
	if err != nil {
		return "", err
	}
	return r.accept(req, id, context, yield), nil
}

// accept takes the sampled token and decides whether the request goes on ("").
func (r *running) accept(req *Request, id, context int, yield func(request, token int) bool) Finish {
	if slices.Contains(req.EOS, id) {
		return FinishEOS
	}
	r.count++
	r.seen[id] = true
	r.feed = []int{id}
	switch {
	case !yield(r.index, id):
		return FinishStopped
	case r.count == req.MaxNewTokens:
		return FinishLength
	case r.seq.Len() >= context:
		return FinishContext
	}
	return ""
}
