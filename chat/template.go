package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/tokenizer"
)

// Role is who speaks.
type Role string

// The roles that templates know.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
)

// Message is one turn of a conversation.
type Message struct {
	Role    Role   `json:"role"`
	Content string `json:"content"`
}

// Options are what a template is told beside the messages.
type Options struct {
	BOS *int // the id behind bos_token; nil is the first that the vocabulary is known by
	EOS *int // the id behind eos_token; nil is the first that the vocabulary is known by
}

// Template renders conversations for one vocabulary. It is immutable and safe for
// concurrent use.
type Template struct {
	source    string
	tokenizer *tokenizer.Tokenizer
	special   []string // spellings of special tokens, the longest first
	bos, eos  int      // -1: none
}

// The spellings that bos_token and eos_token have in vocabularies, where nobody
// says which token it is.
var (
	knownBOS = []string{"<bos>", "<s>", "<|begin_of_text|>", "<|startoftext|>", "<｜begin▁of▁sentence｜>", "[BOS]"}
	knownEOS = []string{"<eos>", "</s>", "<|eot_id|>", "<|end_of_text|>", "<|im_end|>", "<|endoftext|>", "<｜end▁of▁sentence｜>", "[EOS]"}
)

// New returns the template of a Jinja source for a vocabulary. It renders a short
// conversation, so that a source that cannot be rendered is an error here. A
// template that the vocabulary spells "special" tokens of only in part is fine:
// what is no token of the vocabulary is text.
func New(source string, t *tokenizer.Tokenizer, opt Options) (*Template, error) {
	x := &Template{source: source, tokenizer: t, bos: -1, eos: -1}
	for id := range t.VocabSize() {
		if s, ok := t.Token(id); ok && t.IsSpecial(id) && s != "" {
			x.special = append(x.special, s)
		}
	}
	slices.SortStableFunc(x.special, func(a, b string) int { return len(b) - len(a) })
	for _, v := range []struct {
		to    *int
		given *int
		known []string
	}{{&x.bos, opt.BOS, knownBOS}, {&x.eos, opt.EOS, knownEOS}} {
		if v.given != nil {
			if !t.IsSpecial(*v.given) {
				return nil, fmt.Errorf("token id %d is not a special token of the vocabulary, so it cannot be bos_token or eos_token", *v.given)
			}
			*v.to = *v.given
			continue
		}
		for _, s := range v.known {
			if id, ok := t.ID(s); ok && t.IsSpecial(id) {
				*v.to = id
				break
			}
		}
	}
	var refusal *Refusal
	if _, err := x.Render([]Message{{User, "?"}}, true); err != nil && !errors.As(err, &refusal) {
		return nil, err
	}
	return x, nil
}

// Source returns the Jinja source.
func (x *Template) Source() string { return x.source }

// Render renders a conversation, with the beginning of an answer where prompt is
// set, as text and special tokens. No text of a message is ever a token. The error
// is a *Refusal where the template itself refuses the conversation.
func (x *Template) Render(messages []Message, prompt bool) ([]tokenizer.Part, error) {
	for i, m := range messages {
		if m.Role != System && m.Role != User && m.Role != Assistant {
			return nil, fmt.Errorf("message %d has the role %q, want %q, %q or %q", i, m.Role, System, User, Assistant)
		}
		if !utf8.ValidString(m.Content) {
			messages = slices.Clone(messages)
			messages[i].Content = strings.ToValidUTF8(m.Content, "\uFFFD")
		}
	}
	s, err := newSeal(x, messages)
	if err != nil {
		return nil, err
	}
	text, err := x.execute(s, messages, prompt)
	if err != nil {
		return nil, err
	}
	assembled, err := x.assembled(s, text, messages, prompt)
	if err != nil {
		return nil, err
	}
	return s.parts(text, assembled), nil
}

// Encode renders a conversation to token ids.
func (x *Template) Encode(messages []Message, prompt bool) ([]int, error) {
	parts, err := x.Render(messages, prompt)
	if err != nil {
		return nil, err
	}
	return x.tokenizer.EncodeParts(parts)
}

func (x *Template) execute(s *seal, messages []Message, prompt bool) (string, error) {
	token := func(id int) string {
		if id < 0 {
			return ""
		}
		spelling, _ := x.tokenizer.Token(id)
		return string(s.marks[spelling])
	}
	return execute(s.source, messages, map[string]any{"add_generation_prompt": prompt, "bos_token": token(x.bos), "eos_token": token(x.eos)})
}

// assembled returns where text spells special tokens that the template put together
// from pieces: the byte offsets of their ends by those of their beginnings.
func (x *Template) assembled(s *seal, text string, messages []Message, prompt bool) (map[int]int, error) {
	if !x.spells(text) {
		return nil, nil
	}
	masked, back, err := s.mask(messages)
	if err != nil {
		return nil, err
	}
	other, err := x.execute(s, masked, prompt)
	if err != nil || !x.spells(other) {
		return nil, nil // all of them were written in messages
	}
	unmasked := strings.Map(func(r rune) rune {
		if original, ok := back[r]; ok {
			return original
		}
		return r
	}, other)
	if unmasked != text {
		return nil, errors.New("the chat template puts special tokens together from pieces and changes with what messages spell, so one cannot be told from the other; write its tokens as a whole")
	}
	// The two texts have the same characters but for the masked ones, so what
	// stands at a character of one stands at the same character of the other.
	found := map[int]int{}
	offset := 0 // in text, of the character at i of other
	for i := 0; i < len(other); {
		if token := x.longest(other[i:]); token != "" {
			found[offset] = offset + len(token) // a token has no masked character
			i, offset = i+len(token), offset+len(token)
			continue
		}
		r, n := utf8.DecodeRuneInString(other[i:])
		if original, ok := back[r]; ok {
			offset += utf8.RuneLen(original)
		} else {
			offset += n
		}
		i += n
	}
	return found, nil
}

// longest returns the longest special token without white space at the front of
// the text: white space may come from a message, so what has some cannot be told.
func (x *Template) longest(text string) string {
	for _, s := range x.special {
		if strings.HasPrefix(text, s) && strings.IndexFunc(s, isSpace) < 0 {
			return s
		}
	}
	return ""
}

func (x *Template) spells(text string) bool {
	return slices.ContainsFunc(x.special, func(s string) bool { return strings.Contains(text, s) && strings.IndexFunc(s, isSpace) < 0 })
}

// EndOfTurn tells how the template ends an answer: by a special token, or else by
// a line of text; "" and -1 where it shows neither.
func (x *Template) EndOfTurn() (id int, text string) {
	const answer = "q7zv1"
	parts, err := x.Render([]Message{{User, "k3wj8"}, {Assistant, answer}, {User, "k3wj8"}}, false)
	if err != nil {
		return -1, ""
	}
	for i, p := range parts {
		_, rest, found := strings.Cut(p.Text, answer)
		if !found {
			continue
		}
		if line := strings.TrimFunc(rest, isSpace); line != "" {
			line, _, _ = strings.Cut(line, "\n")
			line, _, _ = strings.Cut(line, "k3wj8")
			return -1, strings.TrimFunc(line, isSpace)
		}
		if i+1 < len(parts) {
			return parts[i+1].ID, ""
		}
	}
	return -1, ""
}
