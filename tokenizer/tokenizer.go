package tokenizer

import (
	"fmt"
	"slices"
	"strconv"
)

// Tokenizer turns text into token ids and back. It is immutable but for a
// bounded cache, and safe for concurrent use.
type Tokenizer struct {
	tokens []string // by id; "" where flags lacks present
	flags  []tokenFlags
	model  bpe

	added      map[string]int32
	respelled  map[int]string // what added tokens decode as, where not as their content
	raw        *addedMatcher  // added tokens sought in the text as it is
	normalized *addedMatcher  // added tokens sought in normalized text

	normalizer   normalizer   // nil: none
	preTokenizer preTokenizer // nil: none
	template     *template    // nil: none
	decoders     []decoder
	hasDecoder   bool // false: tokens are joined by spaces
	tritter      bool // ids 0 to 7 are Tritter's special tokens
}

type tokenFlags uint8

const (
	present tokenFlags = 1 << iota // the id has a token
	special                        // the file calls it special
	skipped                        // left out when decoding with skipSpecial
)

// Modality is a kind of content; a Tritter vocabulary has a prefix token for
// each.
type Modality string

// The modalities of the Tritter API.
const (
	Text  Modality = "text"
	Code  Modality = "code"
	Image Modality = "image"
	Audio Modality = "audio"
)

// tritterSpecial are the tokens of ids 0 to 7 of a Tritter vocabulary.
var tritterSpecial = [...]string{"<pad>", "<bos>", "<eos>", "<unk>", "<text>", "<code>", "<image>", "<audio>"}

const (
	tritterBOS  = 1
	tritterText = 4
	tritterCode = 5
)

// EncodeOptions say what Encode adds to the ids of the text.
type EncodeOptions struct {
	// AddSpecial runs the post-processor with its special tokens (<bos> ...).
	// A Tritter vocabulary, which has none, gets <bos> and the prefix of
	// Modality in front; no vocabulary gets an end token but from its file.
	AddSpecial bool
	// Modality is the prefix that a Tritter vocabulary gets after <bos>: Text
	// or Code, or "" for none. Without AddSpecial it adds nothing. For other
	// vocabularies it must be "" or Text, which add nothing.
	Modality Modality
	// NoParseSpecial encodes special tokens that are spelled in the text as
	// ordinary text, so that a prompt cannot forge them.
	NoParseSpecial bool
}

// Encode returns the ids of the text, never nil for want of any. Bytes that
// are not UTF-8 count as U+FFFD. It fails on a modality that the vocabulary
// does not have, on a character without any token in a vocabulary whose
// unk_token is not in it, and when a regular expression of the file runs into
// its time or stack limit.
func (t *Tokenizer) Encode(text string, opt EncodeOptions) ([]int, error) {
	prefix, err := t.modalityPrefix(opt.Modality)
	if err != nil {
		return nil, err
	}
	pieces, err := t.pieces(lossy(text), !opt.NoParseSpecial)
	if err != nil {
		return nil, err
	}
	var ordinary func(int32) bool
	if opt.NoParseSpecial {
		ordinary = t.isOrdinary
	}
	ids := make([]int, 0, len(pieces)+1)
	for _, p := range pieces {
		if p.id >= 0 {
			ids = append(ids, p.id)
			continue
		}
		if ids, err = t.model.encode(ids, p.text, ordinary); err != nil {
			return nil, err
		}
	}
	if t.template != nil {
		ids = t.template.apply(ids, opt.AddSpecial)
	}
	if opt.AddSpecial && t.tritter {
		if t.template == nil {
			ids = slices.Insert(ids, 0, tritterBOS)
		}
		if len(ids) > 0 && ids[0] == tritterBOS {
			ids = slices.Insert(ids, 1, prefix...)
		} else {
			ids = slices.Insert(ids, 0, prefix...)
		}
	}
	return ids, nil
}

func (t *Tokenizer) modalityPrefix(m Modality) ([]int, error) {
	switch {
	case m == "":
		return nil, nil
	case t.tritter && m == Text:
		return []int{tritterText}, nil
	case t.tritter && m == Code:
		return []int{tritterCode}, nil
	case t.tritter:
		return nil, fmt.Errorf("tokenizer: modality %q, want %q or %q: no other can be written as text", string(m), string(Text), string(Code))
	case m == Text:
		return nil, nil
	}
	return nil, fmt.Errorf("tokenizer: modality %q, but this vocabulary has no prefix for it; use --modality text", string(m))
}

// pieces runs everything in front of the model.
func (t *Tokenizer) pieces(text string, parseSpecial bool) ([]piece, error) {
	return t.piecesOf(newPiece(text, true), parseSpecial)
}

// newPiece is a stretch of the input; first says whether it begins the input.
func newPiece(text string, first bool) piece {
	whole := piece{text: text, id: -1}
	for i := range text {
		if !first {
			break
		}
		if i > 0 {
			whole.head = i
			break
		}
		whole.head = len(text)
	}
	return whole
}

func (t *Tokenizer) piecesOf(whole piece, parseSpecial bool) ([]piece, error) {
	segments := t.raw.cut(nil, whole, parseSpecial)
	if t.normalizer != nil || t.normalized != nil {
		var out []piece
		for _, p := range segments {
			if p.id >= 0 {
				out = append(out, p)
				continue
			}
			if t.normalizer != nil {
				if err := t.normalizer.normalize(&p); err != nil {
					return nil, err
				}
			}
			out = t.normalized.cut(out, p, parseSpecial)
		}
		segments = out
	}
	if t.preTokenizer == nil {
		return segments, nil
	}
	return t.preTokenizer.split(segments)
}

// Decode returns the text of the ids, without the special tokens where
// skipSpecial is set. As in the tokenizers library, an added token that is
// sought in normalized text decodes as its normalized spelling, and is special
// for this purpose only if that is the spelling of a special token. An id below VocabSize that has no token adds nothing; an
// id outside [0, VocabSize) is an error, and a decoder whose regular
// expression times out is one.
func (t *Tokenizer) Decode(ids []int, skipSpecial bool) (string, error) {
	s := t.NewStream(skipSpecial)
	for i, id := range ids {
		if id < 0 || id >= len(t.tokens) {
			return "", fmt.Errorf("tokenizer: token id %d at position %d, want 0 to %d", id, i, len(t.tokens)-1)
		}
		s.push(id)
	}
	s.head.finish()
	return s.sink.take(), s.sink.err
}

// Token returns a token as the vocabulary spells it, such as "Ġthe" for
// " the"; false for an id that has none.
func (t *Tokenizer) Token(id int) (string, bool) {
	if id < 0 || id >= len(t.tokens) || t.flags[id]&present == 0 {
		return "", false
	}
	return t.tokens[id], true
}

// ID returns the id of a token as the vocabulary spells it.
func (t *Tokenizer) ID(token string) (int, bool) {
	id, ok := t.added[token]
	if !ok {
		id, ok = t.model.vocab[token]
	}
	return int(id), ok
}

// IsSpecial reports whether the id is that of a special token.
func (t *Tokenizer) IsSpecial(id int) bool {
	return id >= 0 && id < len(t.flags) && t.flags[id]&special != 0
}

// VocabSize returns the greatest id plus one, counting added tokens. The
// vocabulary of the model that belongs to the tokenizer may be larger.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// Modalities returns those that text can be encoded for: Text and Code where
// ids 0 to 7 are <pad> <bos> <eos> <unk> <text> <code> <image> <audio>, none
// in other vocabularies.
func (t *Tokenizer) Modalities() []Modality {
	if !t.tritter {
		return nil
	}
	return []Modality{Text, Code}
}

// describeID is how errors name an id that is taken.
func (t *Tokenizer) describeID(id int) string {
	return strconv.Itoa(id) + ", the id of " + quote(t.tokens[id])
}
