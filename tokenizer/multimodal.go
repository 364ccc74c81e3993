package tokenizer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Defaults of the Tritter API.
const (
	DefaultVocabSize = 65536
	DefaultMaxLength = 131072
)

// SpecialTokens is how many ids a MultiModal reserves: 0 to 7.
const SpecialTokens = len(tritterSpecial)

const tritterEOS = 2

var tritterPrefix = map[Modality]int{Text: tritterText, Code: tritterCode, Image: 6, Audio: 7}

// Codec turns content that is not text into ids and back. Package codebook has
// one for images and one for sounds.
type Codec interface {
	// FirstID and IDs say which ids are the codec's: IDs of them from FirstID on.
	FirstID() int
	IDs() int
	// Encode returns ids in that range. The types of content are the codec's.
	Encode(content any) ([]int, error)
	// Decode takes any ids of that range.
	Decode(ids []int) (any, error)
}

// MultiModalOptions configure a MultiModal. The zero value takes the defaults and
// has neither images nor sounds.
type MultiModalOptions struct {
	VocabSize int // ids of the model; 0 is DefaultVocabSize
	MaxLength int // ids that Encode returns at most; 0 is DefaultMaxLength
	Image     Codec
	Audio     Codec
}

// MultiModal is the tokenizer of a model that reads and writes text, code, images
// and sounds in one vocabulary. Its ids are laid out so:
//
//	0 to 7           <pad> <bos> <eos> <unk> <text> <code> <image> <audio>
//	the vocabulary   where it begins with these eight tokens, at its own ids;
//	                 any other one follows them, every id 8 greater
//	256 bytes        after the vocabulary, only where it lacks a token for some byte
//	codecs           where their codebooks say
//
// Unlike [Tokenizer], which gives the ids of the tokenizers library, it loses
// nothing: every string of bytes, UTF-8 or not, decodes to itself. Text takes the
// ids that the Tokenizer gives wherever these spell it exactly; what normalization
// would change, and bytes that are not UTF-8, are spelled by tokens of bytes.
//
// It is immutable and safe for concurrent use.
type MultiModal struct {
	vocabSize, maxLength int
	text                 *spelling // nil: no text
	codecs               map[Modality]Codec
}

// NewMultiModal returns the tokenizer over a vocabulary, which may be nil: then
// there is no text. The error says which of the ids in use do not fit VocabSize,
// or which ranges overlap.
func NewMultiModal(t *Tokenizer, opt MultiModalOptions) (*MultiModal, error) {
	m := &MultiModal{vocabSize: opt.VocabSize, maxLength: opt.MaxLength, codecs: map[Modality]Codec{}}
	if m.vocabSize == 0 {
		m.vocabSize = DefaultVocabSize
	}
	if m.maxLength == 0 {
		m.maxLength = DefaultMaxLength
	}
	if m.maxLength < 4 {
		return nil, fmt.Errorf("tokenizer: max_length is %d, want at least 4: <bos>, a prefix, content and <eos>", m.maxLength)
	}
	if m.vocabSize < SpecialTokens {
		return nil, fmt.Errorf("tokenizer: vocab_size is %d, want at least %d for the special tokens; raise vocab_size", m.vocabSize, SpecialTokens)
	}
	if t != nil {
		m.text = newSpelling(t)
		if n := m.TextEnd(); n > m.vocabSize {
			return nil, fmt.Errorf("tokenizer: vocab_size %d is below the %d ids in use (%s); raise vocab_size to at least %d, or take a smaller vocabulary", m.vocabSize, n, m.text.describe(), n)
		}
	}
	type used struct {
		what       string
		first, end int
	}
	taken := []used{{"special tokens and text", 0, m.TextEnd()}}
	for _, c := range []struct {
		modality Modality
		codec    Codec
	}{{Image, opt.Image}, {Audio, opt.Audio}} {
		if c.codec == nil {
			continue
		}
		u := used{string(c.modality), c.codec.FirstID(), c.codec.FirstID() + c.codec.IDs()}
		if u.end > m.vocabSize {
			return nil, fmt.Errorf("tokenizer: the ids %d to %d of modality %s exceed vocab_size %d; raise vocab_size to at least %d, or use a smaller codebook", u.first, u.end-1, u.what, m.vocabSize, u.end)
		}
		for _, o := range taken {
			if u.first < o.end && o.first < u.end {
				return nil, fmt.Errorf("tokenizer: the ids %d to %d of modality %s overlap %d to %d of %s; move its first id to at least %d", u.first, u.end-1, u.what, o.first, o.end-1, o.what, o.end)
			}
		}
		taken = append(taken, u)
		m.codecs[c.modality] = c.codec
	}
	return m, nil
}

// VocabSize returns the size of the unified vocabulary: every id is below it.
func (m *MultiModal) VocabSize() int { return m.vocabSize }

// MaxLength returns the greatest number of ids that Encode returns.
func (m *MultiModal) MaxLength() int { return m.maxLength }

// TextEnd returns the first id after the special tokens and those of text.
func (m *MultiModal) TextEnd() int {
	if m.text == nil {
		return SpecialTokens
	}
	return m.text.end()
}

// SpecialTokens returns the id of every special token.
func (m *MultiModal) SpecialTokens() map[string]int {
	ids := make(map[string]int, len(tritterSpecial))
	for id, token := range tritterSpecial {
		ids[token] = id
	}
	return ids
}

// ModalityPrefixes returns the id of the prefix of every modality.
func (m *MultiModal) ModalityPrefixes() map[Modality]int { return maps.Clone(tritterPrefix) }

// Modalities returns those that Encode takes.
func (m *MultiModal) Modalities() []Modality {
	var out []Modality
	if m.text != nil {
		out = append(out, Text, Code)
	}
	for _, modality := range []Modality{Image, Audio} {
		if m.codecs[modality] != nil {
			out = append(out, modality)
		}
	}
	return out
}

// Encode returns the ids of content, all of them in [0, VocabSize). Text and Code
// take a string or []byte of any bytes; spellings of special tokens in it stay
// text. Image and Audio take what their codec takes. With addSpecial <bos> and the
// prefix of the modality stand in front and <eos> behind. Content beyond MaxLength
// is cut off, special tokens are not.
func (m *MultiModal) Encode(content any, modality Modality, addSpecial bool) ([]int, error) {
	prefix, ok := tritterPrefix[modality]
	if !ok {
		return nil, fmt.Errorf("tokenizer: modality %q, want text, code, image or audio", string(modality))
	}
	var ids []int
	var err error
	switch modality {
	case Text, Code:
		ids, err = m.encodeText(content)
	default:
		ids, err = m.encodeCodes(content, modality)
	}
	if err != nil {
		return nil, err
	}
	room := m.maxLength
	if addSpecial {
		room -= 3
	}
	ids = ids[:min(len(ids), room)]
	if addSpecial {
		ids = append(slices.Insert(ids, 0, tritterBOS, prefix), tritterEOS)
	}
	return ids, nil
}

var errNoText = errors.New("tokenizer: there is no vocabulary of text; give one with --tokenizer PATH, or encode images or sounds")

func (m *MultiModal) encodeText(content any) ([]int, error) {
	if m.text == nil {
		return nil, errNoText
	}
	switch v := content.(type) {
	case string:
		return m.text.encode(v), nil
	case []byte:
		return m.text.encode(string(v)), nil
	}
	return nil, fmt.Errorf("tokenizer: text is a %T, want a string or []byte", content)
}

func (m *MultiModal) codec(modality Modality) (Codec, error) {
	c := m.codecs[modality]
	if c == nil {
		return nil, fmt.Errorf("tokenizer: no codebook for modality %s: the ids of this vocabulary stand for %v; tritter-convert --codebook FILE stores one", modality, m.Modalities())
	}
	return c, nil
}

func (m *MultiModal) encodeCodes(content any, modality Modality) ([]int, error) {
	c, err := m.codec(modality)
	if err != nil {
		return nil, err
	}
	ids, err := c.Encode(content)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", modality, err)
	}
	for i, id := range ids {
		if id < c.FirstID() || id >= c.FirstID()+c.IDs() {
			return nil, fmt.Errorf("tokenizer: %s: the codec gave id %d at position %d, want %d to %d", modality, id, i, c.FirstID(), c.FirstID()+c.IDs()-1)
		}
	}
	return ids, nil
}

// Decode returns the bytes that the ids spell. It is defined for every id in
// [0, VocabSize). Without skipSpecial special tokens appear as <bos> and the like,
// ids of images and sounds as <image 17>, counted from the first of their codec,
// and ids that nothing uses as <unk>; with it, all of these add nothing. Any other
// id is an error.
func (m *MultiModal) Decode(ids []int, skipSpecial bool) (string, error) {
	var out []byte
	begun := false // with text
	for i, id := range ids {
		if id < 0 || id >= m.vocabSize {
			return "", fmt.Errorf("tokenizer: token id %d at position %d, want 0 to %d", id, i, m.vocabSize-1)
		}
		if m.text != nil {
			if text, ok := m.text.bytes(id); ok {
				if !begun && m.text.dummy && text != "" && text[0] == ' ' {
					text = text[1:]
				}
				begun = true
				out = append(out, text...)
				continue
			}
		}
		if !skipSpecial {
			out = append(out, m.name(id)...)
		}
	}
	return string(out), nil
}

// name spells an id that is not one of text.
func (m *MultiModal) name(id int) string {
	if id < SpecialTokens {
		return tritterSpecial[id]
	}
	if m.text != nil {
		if token, ok := m.text.t.Token(id - m.text.shift); ok {
			return token
		}
	}
	for modality, c := range m.codecs {
		if id >= c.FirstID() && id < c.FirstID()+c.IDs() {
			return fmt.Sprintf("<%s %d>", modality, id-c.FirstID())
		}
	}
	return tritterSpecial[tritterUnk]
}

const tritterUnk = 3

// DecodeContent returns what the ids of one modality spell, others left out: a
// string for Text and Code, the content of the codec for Image and Audio.
func (m *MultiModal) DecodeContent(ids []int, modality Modality) (any, error) {
	switch modality {
	case Text, Code:
		return m.Decode(ids, true)
	case Image, Audio:
	default:
		return nil, fmt.Errorf("tokenizer: modality %q, want text, code, image or audio", string(modality))
	}
	c, err := m.codec(modality)
	if err != nil {
		return nil, err
	}
	var own []int
	for i, id := range ids {
		if id < 0 || id >= m.vocabSize {
			return nil, fmt.Errorf("tokenizer: token id %d at position %d, want 0 to %d", id, i, m.vocabSize-1)
		}
		if id >= c.FirstID() && id < c.FirstID()+c.IDs() {
			own = append(own, id)
		}
	}
	content, err := c.Decode(own)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", modality, err)
	}
	return content, nil
}
