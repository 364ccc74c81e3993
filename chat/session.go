package chat

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

// Session is one conversation with a model. The key-value cache of what was said
// is kept, so a turn computes only what is new. It is not safe for concurrent use.
type Session struct {
	engine    runtime.Engine
	template  *Template
	tokenizer *tokenizer.Tokenizer
	opt       SessionOptions
	eos       []int
	stop      []string
	messages  []Message
	seq       runtime.Sequence
	held      []int            // the tokens in seq
	said      []tokenizer.Part // the rendered prompt of the last turn, and its answer; nil when spoken is another text
	spoken    []int            // their tokens: what is held, and the last one of the answer
}

// SessionOptions say how a session answers.
type SessionOptions struct {
	System       string // message that begins the conversation; "" is none
	MaxNewTokens int    // of an answer
	EOS          []int  // ids that end an answer, beside what the template ends one with
	Stop         []string
	Sampling     runtime.Sampling
}

// Turn is an account of one answer.
type Turn struct {
	runtime.TextStats
	Reused int // tokens of the prompt that were in the cache
}

// NewSession starts a conversation. The caller closes it before the engine.
func NewSession(e runtime.Engine, t *Template, opt SessionOptions) *Session {
	s := &Session{engine: e, template: t, tokenizer: t.tokenizer, opt: opt, eos: slices.Clone(opt.EOS), stop: slices.Clone(opt.Stop), seq: e.NewSequence()}
	if id, text := t.EndOfTurn(); id >= 0 && !slices.Contains(s.eos, id) {
		s.eos = append(s.eos, id)
	} else if text != "" {
		s.stop = append(s.stop, text)
	}
	s.Reset(opt.System)
	return s
}

// Messages returns what was said, the system message first. The caller must not
// change it.
func (s *Session) Messages() []Message { return s.messages }

// Reset forgets the conversation and begins a new one with a system message, or
// none where it is "". What the cache holds of it is used again.
func (s *Session) Reset(system string) {
	s.messages = nil
	if system != "" {
		s.messages = []Message{{System, system}}
	}
}

// Close releases the cache.
func (s *Session) Close() { s.seq.Close() }

// Say adds what the user says and generates the answer: yield gets its text in
// pieces as GenerateText makes them. When ctx ends, or yield returns false, the
// answer so far stays in the conversation, and ctx's error is returned for the
// first. When nothing was answered for any reason, the conversation is as it was
// before: nothing was said.
func (s *Session) Say(ctx context.Context, text string, yield func(piece string) bool) (Turn, error) {
	before := s.messages
	s.messages = append(slices.Clone(before), Message{User, text})
	turn, answer, err := s.answer(ctx, yield)
	if err != nil && answer == "" {
		s.messages = before
		return turn, err
	}
	s.messages = append(s.messages, Message{Assistant, answer})
	return turn, err
}

func (s *Session) answer(ctx context.Context, yield func(string) bool) (turn Turn, answer string, err error) {
	parts, err := s.template.Render(s.messages, true)
	if err != nil {
		return turn, "", err
	}
	ids, err := s.encode(parts)
	if err != nil {
		return turn, "", err
	}
	if len(ids) == 0 {
		return turn, "", errors.New("the chat template renders this conversation to nothing")
	}
	keep := min(common(ids, s.held), len(ids)-1) // one at least is computed: its logits are needed
	if keep < s.seq.Oldest() {                   // a sliding window has let go of what would be kept
		keep = 0
	}
	s.seq.Truncate(keep)
	s.held, s.said = s.held[:keep], nil
	var text strings.Builder
	turn.Reused = keep
	request := runtime.TextRequest{Seq: s.seq, Tokens: ids[keep:], Penalized: ids[:keep], MaxNewTokens: s.opt.MaxNewTokens, EOS: s.eos, Stop: s.stop, Sampling: s.opt.Sampling}
	turn.TextStats, err = runtime.GenerateText(ctx, s.engine, s.tokenizer, request, func(piece string) bool {
		text.WriteString(piece)
		return yield(piece)
	})
	turn.PromptTokens = len(ids) - keep
	s.spoken = append(slices.Clone(ids), turn.Tokens...)
	s.held = s.spoken[:s.seq.Len()]
	// A stop text was generated, but is no part of the answer.
	if whole, bad := s.tokenizer.Decode(turn.Tokens, true); bad == nil && whole != "" && whole == text.String() {
		s.said = append(slices.Clone(parts), tokenizer.Part{Text: whole})
	}
	return turn, text.String(), err
}

// encode returns the ids of a rendered prompt. Where it continues what was said
// before, the tokens of that are kept as they are: those that the model chose for
// its answer need not be those that the tokenizer would choose for its text.
func (s *Session) encode(parts []tokenizer.Part) ([]int, error) {
	rest, ok := after(parts, s.said)
	if !ok {
		return s.tokenizer.EncodeParts(parts)
	}
	ids, err := s.tokenizer.EncodeParts(rest)
	return append(slices.Clone(s.spoken), ids...), err
}

// after returns what of parts follows the text and tokens of begin; false when
// parts does not begin with them.
func after(parts, begin []tokenizer.Part) ([]tokenizer.Part, bool) {
	if len(begin) == 0 {
		return nil, false
	}
	begin = join(begin)
	for i, b := range begin {
		switch {
		case i >= len(parts):
			return nil, false
		case parts[i] == b:
		case i == len(begin)-1 && b.Text != "" && strings.HasPrefix(parts[i].Text, b.Text):
			return append([]tokenizer.Part{{Text: parts[i].Text[len(b.Text):]}}, parts[i+1:]...), true
		default:
			return nil, false
		}
	}
	return parts[len(begin):], true
}

// join puts neighbouring stretches of text together.
func join(parts []tokenizer.Part) (out []tokenizer.Part) {
	for _, p := range parts {
		if n := len(out); n > 0 && p.Text != "" && out[n-1].Text != "" {
			out[n-1].Text += p.Text
		} else {
			out = append(out, p)
		}
	}
	return out
}

// common returns the length of the prefix that a and b share.
func common(a, b []int) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
