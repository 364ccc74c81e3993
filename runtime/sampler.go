package runtime

import (
	"container/heap"
	"errors"
	"fmt"
	"math"
	"math/bits"

	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/quantize"
)

// Sampling says how the next token is chosen. The procedure is that of
// spec/numerics.md, "Sampling"; the same values and logits give the same token
// on every machine.
type Sampling struct {
	Temperature       float64 // 0 is greedy, up to 2
	TopP              float64 // (0, 1]; 1 is off
	TopK              int     // 0 is off
	MinP              float64 // [0, 1]; 0 is off
	RepetitionPenalty float64 // 1 is off
	Seed              uint64
}

// DefaultSampling returns the defaults of the Tritter API: temperature 1 and
// top-p 0.9.
func DefaultSampling() Sampling {
	return Sampling{Temperature: 1, TopP: 0.9, RepetitionPenalty: 1}
}

// Validate reports everything that is out of range.
func (s *Sampling) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !(s.Temperature >= 0 && s.Temperature <= 2) {
		bad("temperature must be in [0, 2.0], got %g", s.Temperature)
	}
	if !(s.TopP > 0 && s.TopP <= 1) {
		bad("top_p must be in (0, 1], got %g; 1 turns it off, temperature 0 is greedy", s.TopP)
	}
	if s.TopK < 0 {
		bad("top_k must be at least 0, got %d; 0 turns it off", s.TopK)
	}
	if !(s.MinP >= 0 && s.MinP <= 1) {
		bad("min_p must be in [0, 1], got %g; 0 turns it off", s.MinP)
	}
	if !(s.RepetitionPenalty >= 0.01 && s.RepetitionPenalty <= 100) {
		bad("repetition_penalty must be in [0.01, 100], got %g; 1 turns it off", s.RepetitionPenalty)
	}
	return errors.Join(errs...)
}

// candidate is a token that may be drawn. Its weight is its probability relative
// to the greatest, in units of 2^-40: sums of integers are exact, so they do not
// depend on the order in which an engine adds them.
type candidate struct {
	id     int
	logit  float32
	weight uint64
}

// byLogit is a heap whose top is the greatest logit, the lower id first.
type byLogit []candidate

func (h byLogit) Len() int { return len(h) }
func (h byLogit) Less(i, j int) bool {
	return h[i].logit > h[j].logit || h[i].logit == h[j].logit && h[i].id < h[j].id
}
func (h byLogit) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *byLogit) Push(any)     { panic("runtime: candidates only leave the heap") }
func (h *byLogit) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	*h = (*h)[:last]
	return c
}

// Sample chooses the token at a position of a sequence (the number of tokens
// before it). seen holds the distinct tokens that the repetition penalty applies
// to. logits is overwritten. The error reports logits that are not finite.
func (s *Sampling) Sample(logits []float32, seen map[int]bool, position int) (int, error) {
	if err := quantize.CheckFinite(logits); err != nil {
		return 0, fmt.Errorf("logits: %w", err)
	}
	if penalty := float32(s.RepetitionPenalty); penalty != 1 {
		for id := range seen {
			if logits[id] > 0 {
				logits[id] /= penalty
			} else {
				logits[id] *= penalty
			}
		}
	}
	best := 0
	for id, l := range logits {
		if l > logits[best] {
			best = id
		}
	}
	temperature := float32(s.Temperature)
	if temperature == 0 {
		return best, nil
	}
	for id := range logits {
		logits[id] /= temperature
	}
	if err := quantize.CheckFinite(logits); err != nil {
		return 0, fmt.Errorf("logits over a temperature of %g: %w", s.Temperature, err)
	}
	return s.draw(s.candidates(logits, logits[best]), position), nil
}

// candidates weighs the tokens. One whose weight is zero is never drawn.
func (s *Sampling) candidates(logits []float32, greatest float32) byLogit {
	h := make(byLogit, 0, 256)
	for id, l := range logits {
		if w := weight(l - greatest); w > 0 {
			h = append(h, candidate{id, l, w})
		}
	}
	heap.Init(&h)
	return h
}

// weight returns floor(exp(d) 2^40) for d <= 0.
func weight(d float32) uint64 {
	if d < -28 { // exp(-28) < 2^-40
		return 0
	}
	return uint64(math.Ldexp(float64(ref.Exp32(d)), 40))
}

// draw applies top-k, top-p and min-p and draws among what is left.
func (s *Sampling) draw(h byLogit, position int) int {
	kept := h // in no particular order, as long as only the sum matters
	var sorted []candidate
	next := func() candidate {
		c := heap.Pop(&h).(candidate)
		sorted = append(sorted, c)
		return c
	}
	if s.TopK > 0 && s.TopK < len(h) {
		for range s.TopK {
			next()
		}
		h, kept = nil, sorted
	}
	total := sum(kept)
	if s.TopP < 1 {
		enough, run := uint64(math.Ceil(float64(s.TopP)*float64(total))), uint64(0)
		cut := 0
		for ; run < enough && (cut < len(sorted) || len(h) > 0); cut++ {
			if cut == len(sorted) {
				next()
			}
			run += sorted[cut].weight
		}
		sorted, h, total = sorted[:cut], nil, run
	}
	if s.MinP > 0 {
		for len(h) > 0 {
			next()
		}
		n, greatest := 1, sorted[0].logit // the first always survives
		for n < len(sorted) && float64(ref.Exp32(sorted[n].logit-greatest)) >= s.MinP {
			n++
		}
		sorted = sorted[:n]
		total = sum(sorted)
	}
	target, _ := bits.Mul64(philox(s.Seed, uint64(position)), total)
	for i, run := 0, uint64(0); ; i++ {
		if i == len(sorted) {
			next()
		}
		if run += sorted[i].weight; run > target {
			return sorted[i].id
		}
	}
}

func sum(cs []candidate) (total uint64) {
	for _, c := range cs {
		total += c.weight
	}
	return total
}
