package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// LatentRequest asks for a continuation in the space of embeddings
// (spec/numerics.md, section 17): before each token the hidden state of the last
// position, after the final norm, is fed back LatentSteps times as the next
// embedding, without rounding. Only then it becomes a token, which is output, and
// whose embedding is fed next.
type LatentRequest struct {
	Request
	LatentSteps int               // positions between two tokens, 0 or more
	Rounder     *EmbeddingRounder // nil: the head's logits and Sampling
}

// GenerateLatent runs a request and calls yield for every new token; yield false
// ends it. Without a Rounder and with no LatentSteps it is Engine.Generate.
// Request.Sampling counts only without a Rounder, except for its Seed.
func GenerateLatent(ctx context.Context, e Engine, req LatentRequest, yield func(token int) bool) (Finish, error) {
	if req.LatentSteps < 0 {
		return "", fmt.Errorf("latent_steps is %d, want 0 or more", req.LatentSteps)
	}
	if req.Rounder == nil && req.LatentSteps == 0 {
		finish, err := e.Generate(ctx, []Request{req.Request}, func(_, id int) bool { return yield(id) })
		if err != nil {
			return "", err
		}
		return finish[0], nil
	}
	if err := req.check(e); err != nil {
		return "", err
	}
	l := latent{req: &req, e: e, seq: req.Seq, seen: map[int]bool{}}
	if l.seq == nil {
		l.seq = e.NewSequence()
		defer l.seq.Close()
	}
	for _, id := range append(slices.Clone(req.Penalized), req.Tokens...) {
		l.seen[id] = true
	}
	limit := e.Plan().Context
	feed := req.Tokens
	for count := 1; ; count++ {
		id, err := l.next(ctx, feed)
		if err != nil {
			return "", err
		}
		switch {
		case slices.Contains(req.EOS, id):
			return FinishEOS, nil
		case !yield(id):
			return FinishStopped, nil
		case count == req.MaxNewTokens:
			return FinishLength, nil
		case l.seq.Len()+1+req.LatentSteps > limit:
			return FinishContext, nil
		}
		l.seen[id] = true
		feed = []int{id}
	}
}

// check refuses what Engine.Generate refuses.
func (r *LatentRequest) check(e Engine) error {
	if len(r.Tokens) == 0 {
		return errors.New("the prompt has no tokens; give a text, or let special tokens be added")
	}
	if r.MaxNewTokens < 1 {
		return fmt.Errorf("max_new_tokens must be at least 1, got %d", r.MaxNewTokens)
	}
	vocab := e.Model().Config.VocabSize
	for _, id := range append(slices.Clone(r.Penalized), r.Tokens...) {
		if id < 0 || id >= vocab {
			return fmt.Errorf("token id %d is outside the vocabulary, want 0 to %d", id, vocab-1)
		}
	}
	return r.Sampling.Validate()
}

// latent is a request that runs.
type latent struct {
	req  *LatentRequest
	e    Engine
	seq  Sequence
	seen map[int]bool
}

// next feeds tokens, takes the latent steps and rounds the last hidden state.
func (l *latent) next(ctx context.Context, tokens []int) (int, error) {
	span := Span{Seq: l.seq, Tokens: tokens}
	for step := 0; ; step++ {
		last := step == l.req.LatentSteps
		if last && l.req.Rounder == nil {
			span.Logits = PositionLast
		} else {
			span.Hidden = PositionLast
		}
		results, err := l.e.Forward(ctx, []Span{span})
		if err != nil {
			return 0, err
		}
		switch {
		case !last:
			span = Span{Seq: l.seq, Embeddings: results[0].Hidden}
		case l.req.Rounder == nil:
			return l.req.Sampling.Sample(results[0].Logits, l.seen, l.seq.Len())
		default:
			return l.req.Rounder.Round(results[0].Hidden, l.req.Sampling.Seed, l.seq.Len())
		}
	}
}
