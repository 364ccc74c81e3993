package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/quantize"
	"github.com/tritter-ai/tritter/tokenizer"
)

// SelfTest is the self-test section of a file: what its tokenizer and its model
// give, computed by the reference arithmetic when the file was written. It proves
// a runtime, not only a file.
type SelfTest struct {
	Logits []SelfTestLogit `json:"logits"` // the greatest last logits of Prompt, ties by lower id
	Prompt []int           `json:"prompt"`
	Texts  []SelfTestText  `json:"texts"` // empty without a tokenizer
}

// SelfTestLogit is one logit, as the bits of a float32.
type SelfTestLogit struct {
	Bits uint32 `json:"bits"`
	ID   int    `json:"id"`
}

// SelfTestText is a text and the ids that it encodes to, without special tokens.
type SelfTestText struct {
	IDs  []int  `json:"ids"`
	Text string `json:"text"`
}

const (
	selfTestPrompt = 8
	selfTestLogits = 16
)

// selfTestTexts cover what tokenizers disagree on: case, digits, runs of spaces,
// indentation, punctuation, accents, scripts without spaces, emoji, controls.
var selfTestTexts = []string{
	"Hello, world!",
	"func main() {\n\tfmt.Println(\"1234567\")\n}\n",
	"  two  spaces,\n\n    indented\tand tabbed ",
	"Don't WE'RE naïve café; x+=1_000.5e-3 // ok?",
	"日本語のテキスト и русский عربى",
	"🙂👩‍👩‍👧 \u200b\u0000\x7f",
}

// NewSelfTest computes the self-test of the engine's model. t is nil for a model
// without a tokenizer.
func NewSelfTest(ctx context.Context, e Engine, t *tokenizer.Tokenizer) (*SelfTest, error) {
	c := &e.Model().Config
	s := &SelfTest{Texts: []SelfTestText{}}
	for i := range min(selfTestPrompt, c.MaxPositionEmbeddings) {
		s.Prompt = append(s.Prompt, (1+i*7919)%c.VocabSize)
	}
	if t != nil {
		for _, text := range selfTestTexts {
			ids, err := t.Encode(text, tokenizer.EncodeOptions{})
			if err != nil {
				return nil, fmt.Errorf("self-test: encode %q: %w", text, err)
			}
			s.Texts = append(s.Texts, SelfTestText{IDs: ids, Text: text})
		}
	}
	var err error
	s.Logits, err = greatestLogits(ctx, e, s.Prompt, min(selfTestLogits, c.VocabSize))
	return s, err
}

func greatestLogits(ctx context.Context, e Engine, prompt []int, n int) ([]SelfTestLogit, error) {
	seq := e.NewSequence()
	defer seq.Close()
	results, err := e.Forward(ctx, []Span{{Seq: seq, Tokens: prompt, Logits: PositionLast}})
	if err != nil {
		return nil, fmt.Errorf("self-test: %w", err)
	}
	logits := results[0].Logits
	if err := quantize.CheckFinite(logits); err != nil {
		return nil, fmt.Errorf("self-test: logits: %w", err)
	}
	ids := make([]int, len(logits))
	for i := range ids {
		ids[i] = i
	}
	slices.SortFunc(ids, func(a, b int) int {
		return cmp.Or(cmp.Compare(logits[b], logits[a]), cmp.Compare(a, b))
	})
	out := make([]SelfTestLogit, n)
	for i, id := range ids[:n] {
		out[i] = SelfTestLogit{Bits: math.Float32bits(logits[id]), ID: id}
	}
	return out, nil
}

// ReadSelfTest reads the self-test section of f. The error is
// format.ErrNoSection for a file without one.
func ReadSelfTest(f *format.File, vocab, maxPosition int) (*SelfTest, error) {
	s := new(SelfTest)
	if err := f.DecodeSection(format.SectionSelfTest, s); err != nil {
		return nil, err
	}
	if err := s.validate(vocab, maxPosition); err != nil {
		return nil, configError("section self-test", err)
	}
	return s, nil
}

// validate reports everything in s that spec/trit-v1.md, section 10, excludes.
func (s *SelfTest) validate(vocab, maxPosition int) error {
	var errs []error
	bad := func(format string, args ...any) {
		if len(errs) < 16 { // a hostile section can have millions
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	inVocab := func(what string, ids []int) {
		for _, id := range ids {
			if id < 0 || id >= vocab {
				bad("%s id %d, want 0 to %d", what, id, vocab-1)
			}
		}
	}
	if n := len(s.Prompt); n == 0 || n > maxPosition {
		bad("a prompt of %d ids, want 1 to %d", n, maxPosition)
	}
	inVocab("prompt", s.Prompt)
	for _, t := range s.Texts {
		inVocab("text", t.IDs)
	}
	if n := len(s.Logits); n == 0 || n > vocab {
		bad("%d logits, want 1 to %d", n, vocab)
	}
	for i, l := range s.Logits {
		inVocab("logit", []int{l.ID})
		v := math.Float32frombits(l.Bits)
		if quantize.CheckFinite([]float32{v}) != nil {
			bad("logit %d is %v, want a finite number", i, v)
		} else if i > 0 {
			if before := math.Float32frombits(s.Logits[i-1].Bits); before < v || before == v && s.Logits[i-1].ID >= l.ID {
				bad("logit %d (id %d, %v) stands after id %d, %v; want descending logits, equal ones by ascending id", i, l.ID, v, s.Logits[i-1].ID, before)
			}
		}
	}
	return errors.Join(errs...)
}

// Check holds an engine, and a tokenizer where there is one, to the self-test:
// every id and every bit must be the same. The error joins the differences.
func (s *SelfTest) Check(ctx context.Context, e Engine, t *tokenizer.Tokenizer) error {
	errs := []error{s.CheckTexts(t)}
	got, err := greatestLogits(ctx, e, s.Prompt, len(s.Logits))
	if err != nil {
		return errors.Join(errs[0], err)
	}
	for i, want := range s.Logits {
		if got[i] != want {
			errs = append(errs, fmt.Errorf("self-test on %s: logit %d in order is id %d = %v (0x%08x), want id %d = %v (0x%08x)", e.Name(), i,
				got[i].ID, math.Float32frombits(got[i].Bits), got[i].Bits, want.ID, math.Float32frombits(want.Bits), want.Bits))
			break // one wrong sum makes every logit differ: the first is enough
		}
	}
	return errors.Join(errs...)
}

// CheckTexts holds the tokenizer alone to the self-test.
func (s *SelfTest) CheckTexts(t *tokenizer.Tokenizer) error {
	var errs []error
	if t == nil && len(s.Texts) > 0 {
		return errors.New("self-test: there are texts, but the file has no tokenizer")
	}
	for _, sample := range s.Texts {
		ids, err := t.Encode(sample.Text, tokenizer.EncodeOptions{})
		if err != nil {
			errs = append(errs, fmt.Errorf("self-test: encode %q: %w", sample.Text, err))
		} else if !slices.Equal(ids, sample.IDs) {
			errs = append(errs, fmt.Errorf("self-test: %q encodes to %v, want %v", sample.Text, ids, sample.IDs))
		}
	}
	return errors.Join(errs...)
}
