package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Batch runs requests together, one token each a step, over any engine. Requests
// join and leave between steps. What a request generates never depends on the
// others: not its tokens, and not whether it fails.
//
// A Batch is for one goroutine at a time; it allocates nothing in a step once its
// buffers have grown.
type Batch struct {
	engine  Engine
	context int
	next    int // id of the next request

	active  []*running // in the order of arrival
	spans   []Span
	fed     []*running // of each span
	results []Result
	events  []Event
}

// Event is what a step did for one request.
type Event struct {
	ID     int    // what Add returned
	Token  int    // the token that was sampled, or -1 for none
	Finish Finish // why the request has ended; "" while it goes on
	Err    error  // with FinishError: what went wrong
}

// running is a request that is being generated.
type running struct {
	id    int
	req   Request
	seq   Sequence
	own   bool         // seq is closed at the end
	feed  []int        // what has not been computed: the rest of the prompt, or token
	token [1]int       // the latest
	seen  map[int]bool // nil without a repetition penalty
	count int
}

// promptTokens bounds how many tokens of prompts one step computes, so that those
// who already generate do not wait for the whole prompt of one who joins.
const promptTokens = 4 * batchLen

// NewBatch returns an empty batch.
func NewBatch(e Engine) *Batch { return &Batch{engine: e, context: e.Plan().Context} }

// Engine returns the engine that computes.
func (b *Batch) Engine() Engine { return b.engine }

// Len returns how many requests are running.
func (b *Batch) Len() int { return len(b.active) }

// Add lets a request join from the next step on and returns its id: 0 for the
// first, one more for each after it. The error says what is wrong with the
// request; it is a *ContextError for a prompt that does not fit.
func (b *Batch) Add(req Request) (id int, err error) {
	vocab := b.engine.Model().Config.VocabSize
	if len(req.Tokens) == 0 {
		return 0, errors.New("the prompt has no tokens; give a text, or let special tokens be added")
	}
	if req.MaxNewTokens < 1 {
		return 0, fmt.Errorf("max_new_tokens must be at least 1, got %d", req.MaxNewTokens)
	}
	if err := req.Sampling.Validate(); err != nil {
		return 0, err
	}
	for _, ids := range [][]int{req.Penalized, req.Tokens} {
		for _, id := range ids {
			if id < 0 || id >= vocab {
				return 0, fmt.Errorf("token id %d is outside the vocabulary, want 0 to %d", id, vocab-1)
			}
		}
	}
	r := &running{id: b.next, req: req, seq: req.Seq, feed: req.Tokens}
	if r.seq == nil {
		r.seq, r.own = b.engine.NewSequence(), true
	}
	if n := r.seq.Len(); n+len(req.Tokens) > b.context {
		r.close()
		return 0, &ContextError{Len: n, Add: len(req.Tokens), Context: b.context}
	}
	if req.Sampling.RepetitionPenalty != 1 {
		r.seen = map[int]bool{}
		for _, ids := range [][]int{req.Penalized, req.Tokens} {
			for _, id := range ids {
				r.seen[id] = true
			}
		}
	}
	b.next++
	b.active = append(b.active, r)
	return r.id, nil
}

// Remove ends a request before its time. An id that is not running is ignored.
func (b *Batch) Remove(id int) {
	b.active = slices.DeleteFunc(b.active, func(r *running) bool {
		if r.id != id {
			return false
		}
		r.close()
		return true
	})
}

// Close ends every request. Sequences that came with a request stay open.
func (b *Batch) Close() {
	for _, r := range b.active {
		r.close()
	}
	b.active = nil
}

func (r *running) close() {
	if r.own {
		r.seq.Close()
	}
}

// Step computes the next token of every request that has its prompt behind it,
// and goes on with the prompts of the others. The events, in the order of arrival,
// are valid until the next call. A request that fails ends with an event of its
// own; the error of Step is that of ctx, after which the step can be repeated.
func (b *Batch) Step(ctx context.Context) ([]Event, error) {
	b.spans, b.fed, b.events = b.spans[:0], b.fed[:0], b.events[:0]
	room := promptTokens
	for _, r := range b.active {
		sp := Span{Seq: r.seq, Tokens: r.feed, Logits: PositionLast, Top: r.req.Sampling.top(), Keep: r.seen}
		if r.count == 0 {
			if room == 0 {
				continue
			}
			if len(sp.Tokens) > room {
				sp.Tokens, sp.Logits = sp.Tokens[:room], PositionNone
			}
			room -= len(sp.Tokens)
		}
		b.spans, b.fed = append(b.spans, sp), append(b.fed, r)
	}
	results, err := b.engine.ForwardInto(ctx, b.spans, b.results)
	if err == nil {
		b.results = results
		for i, r := range b.fed {
			b.advance(r, &b.spans[i], &results[i])
		}
	} else if err := b.separately(ctx); err != nil {
		return nil, err
	}
	for _, ev := range b.events {
		if ev.Finish != "" {
			b.Remove(ev.ID)
		}
	}
	return b.events, nil
}

// separately computes the spans of a step that failed one by one, so that only
// those fail that are to blame.
func (b *Batch) separately(ctx context.Context) error {
	for i, r := range b.fed {
		results, err := b.engine.ForwardInto(ctx, b.spans[i:i+1], b.results)
		if ended := ctx.Err(); ended != nil && err != nil {
			if len(b.events) > 0 {
				return nil // what others were given stands; the next step reports the end
			}
			return ended
		}
		if err != nil {
			b.events = append(b.events, Event{ID: r.id, Token: -1, Finish: FinishError, Err: err})
			continue
		}
		b.results = results
		b.advance(r, &b.spans[i], &results[0])
	}
	return nil
}

// advance takes note of a span that was computed, samples the next token where it
// was the last of a prompt or a token, and decides whether the request goes on.
func (b *Batch) advance(r *running, sp *Span, result *Result) {
	r.feed = r.feed[len(sp.Tokens):]
	if len(r.feed) > 0 {
		return
	}
	ev := Event{ID: r.id, Token: -1}
	id, err := r.req.Sampling.sample(result.Logits, result.Filtered, r.seen, r.seq.Len())
	switch {
	case err != nil:
		ev.Finish, ev.Err = FinishError, err
	case slices.Contains(r.req.EOS, id):
		ev.Finish = FinishEOS
	default:
		r.count++
		if r.seen != nil {
			r.seen[id] = true
		}
		r.token[0] = id
		r.feed = r.token[:]
		ev.Token = id
		switch {
		case r.count == r.req.MaxNewTokens:
			ev.Finish = FinishLength
		case r.seq.Len() >= b.context:
			ev.Finish = FinishContext
		}
	}
	b.events = append(b.events, ev)
}
