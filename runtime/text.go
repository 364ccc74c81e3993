package runtime

import (
	"context"
	"strings"
	"time"

	"github.com/tritter-ai/tritter/tokenizer"
)

// TextRequest asks for the continuation of a prompt, given as text.
type TextRequest struct {
	Seq          Sequence // what came before, to which prompt and answer are added; nil starts a new sequence
	Tokens       []int    // the encoded prompt
	Penalized    []int    // tokens in Seq that the repetition penalty also sees
	MaxNewTokens int
	EOS          []int
	Stop         []string // generation ends before the first of these in the output
	Sampling     Sampling
	LatentSteps  int               // see LatentRequest
	Rounder      *EmbeddingRounder // see LatentRequest
}

// TextStats is an account of one generation.
type TextStats struct {
	PromptTokens int           `json:"prompt_tokens"`
	NewTokens    int           `json:"new_tokens"`
	Tokens       []int         `json:"-"`          // the new tokens
	Prefill      time.Duration `json:"prefill_ns"` // from the start to the first token
	Decode       time.Duration `json:"decode_ns"`  // from the first token to the last
	Finish       Finish        `json:"finish"`
}

// GenerateText continues a prompt and calls yield with pieces of text as soon as
// they are certain: whole UTF-8 characters that are not the beginning of a stop
// string. yield returns false to end.
func GenerateText(ctx context.Context, e Engine, t *tokenizer.Tokenizer, req TextRequest, yield func(piece string) bool) (TextStats, error) {
	stats := TextStats{PromptTokens: len(req.Tokens)}
	stream := t.NewStream(true)
	stops := stopper{stops: req.Stop}
	begun, ended := time.Now(), false
	var first, latest time.Time
	var decodeErr error
	emit := func(piece string) bool {
		piece, stop := stops.push(piece)
		if piece != "" && !yield(piece) || stop {
			ended = true
			return false
		}
		return true
	}
	request := Request{Seq: req.Seq, Tokens: req.Tokens, Penalized: req.Penalized, MaxNewTokens: req.MaxNewTokens, EOS: req.EOS, Sampling: req.Sampling}
	finish, err := GenerateLatent(ctx, e, LatentRequest{Request: request, LatentSteps: req.LatentSteps, Rounder: req.Rounder}, func(id int) bool {
		latest = time.Now()
		stats.Tokens = append(stats.Tokens, id)
		if stats.NewTokens++; stats.NewTokens == 1 {
			first = latest
		}
		piece, err := stream.Push(id)
		if err != nil {
			decodeErr = err
			return false
		}
		return emit(piece)
	})
	if stats.NewTokens > 0 {
		stats.Prefill, stats.Decode = first.Sub(begun), latest.Sub(first)
	}
	if err == nil {
		err = decodeErr
	}
	if err != nil {
		if rest := stops.rest(); rest != "" && !ended {
			yield(rest)
		}
		return stats, err
	}
	stats.Finish = finish
	if !ended {
		if emit(stream.Flush()) {
			if rest := stops.rest(); rest != "" {
				yield(rest)
			}
		} else {
			stats.Finish = FinishStopped
		}
	}
	return stats, nil
}

// stopper withholds text that may turn out to begin a stop string.
type stopper struct {
	stops []string
	held  string
}

// push adds a piece and returns the text that is certain, and whether a stop
// string was found; what follows it is dropped.
func (s *stopper) push(piece string) (text string, stop bool) {
	s.held += piece
	cut := -1
	for _, stop := range s.stops {
		if at := strings.Index(s.held, stop); stop != "" && at >= 0 && (cut < 0 || at < cut) {
			cut = at
		}
	}
	if cut >= 0 {
		text, s.held = s.held[:cut], ""
		return text, true
	}
	keep := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.held)); n > keep; n-- {
			if strings.HasSuffix(s.held, stop[:n]) {
				keep = n
			}
		}
	}
	text, s.held = s.held[:len(s.held)-keep], s.held[len(s.held)-keep:]
	return text, false
}

// rest returns the text that was withheld.
func (s *stopper) rest() string {
	held := s.held
	s.held = ""
	return held
}
