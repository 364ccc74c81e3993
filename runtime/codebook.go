package runtime

import (
	"errors"
	"fmt"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/tokenizer"
)

// NoCodebookError reports a file without a codebook of a kind.
type NoCodebookError struct{ Kind codebook.Kind }

func (e *NoCodebookError) Error() string {
	return fmt.Sprintf("the file holds no codebook of kind %s; convert the checkpoint with tritter-convert --codebook FILE.safetensors, which stores one", e.Kind)
}

// ReadCodebook reads the codebook of a kind from f and holds its dim to the config
// and its ids to the vocabulary. The error is a *NoCodebookError for a file
// without one.
func ReadCodebook(f *format.File, kind codebook.Kind, c *model.Config) (*codebook.Codebook, error) {
	data, err := f.Section(kind.SectionName())
	if errors.Is(err, format.ErrNoSection) {
		return nil, &NoCodebookError{kind}
	}
	if err != nil {
		return nil, err
	}
	book, err := codebook.Parse(kind, data)
	if err != nil {
		return nil, err
	}
	if kind == codebook.Embedding && book.Dim != c.HiddenSize {
		err = fmt.Errorf("dim is %d, want %d, the model's hidden_size", book.Dim, c.HiddenSize)
	} else {
		err = codebook.CheckIDs([]*codebook.Codebook{book}, tokenizer.SpecialTokens, c.VocabSize)
	}
	if err != nil {
		return nil, configError("section "+kind.SectionName(), err)
	}
	return book, nil
}

// Codebook reads the codebook of a kind from the model's file. The error is a
// *NoCodebookError for a file without one.
func (m *Model) Codebook(kind codebook.Kind) (*codebook.Codebook, error) {
	return ReadCodebook(m.file, kind, &m.Config)
}

// MultiModal returns a tokenizer over the model's vocabulary and its codebooks of
// images and sounds, as far as the file has them. Where it has a tokenizer, the
// ids 0 to 7 must be the special tokens of Tritter: the ids of another vocabulary
// would not be those that the model knows.
func (m *Model) MultiModal() (*tokenizer.MultiModal, error) {
	t, err := m.Tokenizer()
	if errors.Is(err, ErrNoTokenizer) {
		t = nil
	} else if err != nil {
		return nil, err
	}
	return NewMultiModal(m.file, t, &m.Config)
}

// NewMultiModal is Model.MultiModal for a file of which only the config and the
// tokenizer, nil for none, are loaded.
func NewMultiModal(f *format.File, t *tokenizer.Tokenizer, c *model.Config) (*tokenizer.MultiModal, error) {
	if t != nil && len(t.Modalities()) == 0 {
		first, _ := t.Token(0)
		return nil, fmt.Errorf("the vocabulary begins with %q, want <pad> <bos> <eos> <unk> <text> <code> <image> <audio> as ids 0 to 7; use a tokenizer of Tritter (--tokenizer PATH)", first)
	}
	// Not the model's context: content that does not fit there is an error of the
	// engine, and must not be cut off before anyone sees it.
	opt := tokenizer.MultiModalOptions{VocabSize: c.VocabSize, MaxLength: max(c.MaxPositionEmbeddings, tokenizer.DefaultMaxLength)}
	for kind, codec := range map[codebook.Kind]*tokenizer.Codec{codebook.Image: &opt.Image, codebook.Audio: &opt.Audio} {
		book, err := ReadCodebook(f, kind, c)
		var none *NoCodebookError
		if errors.As(err, &none) {
			continue
		}
		if err != nil {
			return nil, err
		}
		*codec = book
	}
	return tokenizer.NewMultiModal(t, opt)
}
