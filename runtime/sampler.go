package runtime

import (
	"errors"
	"fmt"
	"math"
	"slices"

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

// Sample chooses the token at a position of a sequence (the number of tokens
// before it). seen holds the distinct tokens that the repetition penalty applies
// to; it may be nil when there is none. logits is overwritten. The error reports
// logits that are not finite.
func (s *Sampling) Sample(logits []float32, seen map[int]bool, position int) (int, error) {
	return s.sample(logits, false, seen, position)
}

// sample is Sample for logits some of which may be -Inf, left out: those of
// tokens that cannot be chosen.
func (s *Sampling) sample(logits []float32, filtered bool, seen map[int]bool, position int) (int, error) {
	top, finite := greatest(logits)
	if !finite && !filtered {
		return 0, fmt.Errorf("logits: %w", quantize.CheckFinite(logits))
	}
	if penalty := float32(s.RepetitionPenalty); penalty != 1 && len(seen) > 0 {
		for id := range seen {
			if logits[id] > 0 {
				logits[id] /= penalty
			} else {
				logits[id] *= penalty
			}
		}
		top, _ = greatest(logits)
	}
	temperature := float32(s.Temperature)
	if temperature == 0 {
		return slices.Index(logits, top), nil
	}
	if temperature != 1 {
		for id := range logits {
			logits[id] /= temperature
		}
		if top, finite = greatest(logits); !finite && !filtered {
			return 0, fmt.Errorf("logits over a temperature of %g: %w", s.Temperature, quantize.CheckFinite(logits))
		}
	}
	d := drafts.Get().(*draft)
	id := d.draw(s, logits, top, position)
	drafts.Put(d)
	return id, nil
}

// greatest returns the greatest logit, and whether all are finite. Without NaNs,
// floats are ordered as the integers of their bits, negative ones turned around;
// of two zeros it may return either, which are equal.
func greatest(logits []float32) (top float32, finite bool) {
	const least = math.MinInt32
	k0, k1, k2, k3 := int32(least), int32(least), int32(least), int32(least)
	a0, a1, a2, a3 := uint32(0), uint32(0), uint32(0), uint32(0)
	rest := logits
	for ; len(rest) >= 4; rest = rest[4:] { // four chains, which do not wait for each other
		u0, u1, u2, u3 := math.Float32bits(rest[0]), math.Float32bits(rest[1]), math.Float32bits(rest[2]), math.Float32bits(rest[3])
		a0, a1, a2, a3 = max(a0, u0<<1), max(a1, u1<<1), max(a2, u2<<1), max(a3, u3<<1)
		k0, k1, k2, k3 = max(k0, orderKey(u0)), max(k1, orderKey(u1)), max(k2, orderKey(u2)), max(k3, orderKey(u3))
	}
	for _, l := range rest {
		u := math.Float32bits(l)
		a0, k0 = max(a0, u<<1), max(k0, orderKey(u))
	}
	top = math.Float32frombits(uint32(orderKey(uint32(max(k0, k1, k2, k3)))))
	return top, max(a0, a1, a2, a3) < 0x7f800000<<1
}

// orderKey turns the bits of floats into integers of the same order, and back.
func orderKey(u uint32) int32 { return int32(u ^ uint32(int32(u)>>31)>>1) }
