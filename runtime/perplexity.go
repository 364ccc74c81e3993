package runtime

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// PerplexityOptions say how a text is measured.
type PerplexityOptions struct {
	// Stride is how far a segment of a text longer than the engine's context begins
	// after the one before: below the context. 0 is half of it.
	Stride int

	// Reference, if there is one, computes the same segments: an engine of the same
	// model with other options, whose logits are compared.
	Reference Engine

	Progress func(tokens int) // told how many tokens have been scored; may be nil
}

// PerplexityResult is how well a model predicts a text.
type PerplexityResult struct {
	Tokens       int     `json:"tokens"`         // predicted: all but the first
	NatsPerToken float64 `json:"nats_per_token"` // mean of -ln p
	Perplexity   float64 `json:"perplexity"`     // e to the power of that

	// With a reference: its mean, and the differences of logits, of each position in
	// units of the spread (greatest minus least) of the reference's logits there.
	Reference *float64 `json:"reference_nats_per_token,omitempty"`
	LogitRMS  *float64 `json:"logit_rms,omitempty"`
	LogitMax  *float64 `json:"logit_max,omitempty"`
}

// scoredAtOnce is how many positions' logits are held together.
const scoredAtOnce = 64

// Perplexity measures how well a model predicts tokens. Each token but the first is
// predicted once, from the tokens before it in its segment: a segment has as many
// tokens as the engine's context, the next one begins Stride tokens later, and
// scores those that no segment before has scored.
func Perplexity(ctx context.Context, e Engine, tokens []int, opt PerplexityOptions) (PerplexityResult, error) {
	var r PerplexityResult
	size := e.Plan().Context
	if len(tokens) < 2 {
		return r, fmt.Errorf("%d tokens, want at least 2: the first is not predicted", len(tokens))
	}
	if size < 2 {
		return r, errors.New("a context of 1 predicts nothing; want at least 2")
	}
	if opt.Stride == 0 {
		opt.Stride = size / 2
	}
	if opt.Stride < 1 || opt.Stride >= size {
		return r, fmt.Errorf("stride is %d, want 1 to %d, one less than the context", opt.Stride, size-1)
	}
	s := scorer{ctx: ctx, engines: []Engine{e}, tokens: tokens, progress: opt.Progress, vocab: e.Model().Config.VocabSize}
	if opt.Reference != nil {
		if n := opt.Reference.Plan().Context; n < min(size, len(tokens)) {
			return r, fmt.Errorf("the reference has a context of %d, want %d as the engine", n, size)
		}
		s.engines = append(s.engines, opt.Reference)
	}
	for lo, scored := 0, 1; scored < len(tokens); lo += opt.Stride {
		hi := min(lo+size, len(tokens))
		if err := s.segment(lo, scored, hi); err != nil {
			return r, err
		}
		scored = hi
	}
	r.Tokens = len(tokens) - 1
	r.NatsPerToken = s.nats[0] / float64(r.Tokens)
	r.Perplexity = math.Exp(r.NatsPerToken)
	if opt.Reference != nil {
		r.Reference, r.LogitMax = new(s.nats[1]/float64(r.Tokens)), &s.worst
		r.LogitRMS = new(math.Sqrt(s.squares / float64(r.Tokens) / float64(s.vocab)))
	}
	return r, nil
}

// scorer adds up what the segments of a text give.
type scorer struct {
	ctx            context.Context
	engines        []Engine // the measured one, and the reference
	tokens         []int
	vocab          int
	progress       func(int)
	nats           [2]float64
	squares, worst float64
}

// segment scores tokens from..hi-1 in a sequence that begins at lo.
func (s *scorer) segment(lo, from, hi int) error {
	var seqs []Sequence
	for _, e := range s.engines {
		seq := e.NewSequence()
		defer seq.Close()
		seqs = append(seqs, seq)
	}
	// Position i predicts token i+1; the last position of the segment predicts
	// nothing here.
	for at := lo; at < hi-1; {
		next := min(at+scoredAtOnce, hi-1)
		want := PositionAll
		if at < from-1 {
			next, want = min(next, from-1), PositionNone
		}
		var logits [2][]float32
		for i, e := range s.engines {
			results, err := e.Forward(s.ctx, []Span{{Seq: seqs[i], Tokens: s.tokens[at:next], Logits: want}})
			if err != nil {
				return err
			}
			logits[i] = results[0].Logits
		}
		if want == PositionAll {
			for i := at; i < next; i++ {
				if err := s.score(i, at, logits); err != nil {
					return err
				}
			}
			if s.progress != nil {
				s.progress(next)
			}
		}
		at = next
	}
	return nil
}

// score takes in position i of logits that begin with position first.
func (s *scorer) score(i, first int, logits [2][]float32) error {
	var rows [2][]float32
	for k := range s.engines {
		row := logits[k][(i-first)*s.vocab:][:s.vocab]
		rows[k] = row
		top, sum := float64(row[0]), 0.0
		for _, v := range row {
			top = max(top, float64(v))
		}
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		nats := top + math.Log(sum) - float64(row[s.tokens[i+1]])
		if math.IsNaN(nats) || math.IsInf(nats, 0) {
			return fmt.Errorf("logits of position %d on %s are not finite; check the model file with tritter-verify", i, s.engines[k].Name())
		}
		s.nats[k] += nats
	}
	if len(s.engines) == 1 {
		return nil
	}
	lo, hi := rows[1][0], rows[1][0]
	for _, v := range rows[1] {
		lo, hi = min(lo, v), max(hi, v)
	}
	if lo == hi {
		return nil // a model that tells nothing apart has no spread
	}
	for k, v := range rows[0] {
		d := math.Abs(float64(v)-float64(rows[1][k])) / (float64(hi) - float64(lo))
		s.squares += float64(d * d)
		s.worst = max(s.worst, d)
	}
	return nil
}
