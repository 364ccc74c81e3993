package model

import (
	"errors"
	"fmt"
)

// Generation holds the defaults for generating text with a model. Absent values
// (nil) leave the choice to the program; flags override what is present.
type Generation struct {
	EOS               []int     `json:"eos"` // ids that end generation, ascending; may be empty
	MaxNewTokens      *int      `json:"max_new_tokens,omitempty"`
	MinP              *float64  `json:"min_p,omitempty"`
	Modality          *Modality `json:"modality,omitempty"`
	RepetitionPenalty *float64  `json:"repetition_penalty,omitempty"`
	Temperature       *float64  `json:"temperature,omitempty"` // 0 is greedy
	TopK              *int      `json:"top_k,omitempty"`       // 0 is off
	TopP              *float64  `json:"top_p,omitempty"`
}

// Validate reports everything that is wrong with g for a model with vocab ids.
func (g *Generation) Validate(vocab int) error {
	var errs []error
	for i, id := range g.EOS {
		if len(errs) >= maxProblems {
			break
		}
		if id < 0 || id >= vocab {
			errs = append(errs, fmt.Errorf("eos id %d is outside the vocabulary, want 0 to %d", id, vocab-1))
		}
		if i > 0 && g.EOS[i-1] >= id {
			errs = append(errs, fmt.Errorf("eos lists %d before %d, want ascending order without repeats", g.EOS[i-1], id))
		}
	}
	within := func(name string, v *float64, lo, hi float64) {
		if v != nil && !(*v >= lo && *v <= hi) {
			errs = append(errs, fmt.Errorf("%s must be in [%g, %g], got %g", name, lo, hi, *v))
		}
	}
	within("temperature", g.Temperature, 0, 2)
	within("min_p", g.MinP, 0, 1)
	within("repetition_penalty", g.RepetitionPenalty, 0.01, 100)
	if g.TopP != nil && !(*g.TopP > 0 && *g.TopP <= 1) {
		errs = append(errs, fmt.Errorf("top_p must be in (0, 1], got %g; 1 turns it off, temperature 0 is greedy", *g.TopP))
	}
	if g.TopK != nil && *g.TopK < 0 {
		errs = append(errs, fmt.Errorf("top_k must be at least 0 (0 is off), got %d", *g.TopK))
	}
	if g.MaxNewTokens != nil && *g.MaxNewTokens < 1 {
		errs = append(errs, fmt.Errorf("max_new_tokens must be at least 1, got %d", *g.MaxNewTokens))
	}
	if g.Modality != nil {
		oneOf(&errs, "modality", *g.Modality, Text, Code, Image, Audio)
	}
	return errors.Join(errs...)
}
