package verify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

// checkCodebooks reads every codebook and holds its ids to the vocabulary, to the
// text and to each other.
func (v *verifier) checkCodebooks() (string, error) {
	if v.config == nil {
		return "no config to hold them to", errSkipped
	}
	var books []*codebook.Codebook
	var names []string
	for _, kind := range codebook.Kinds {
		book, err := runtime.ReadCodebook(v.file, kind, v.config)
		var none *runtime.NoCodebookError
		switch {
		case errors.As(err, &none):
			continue
		case err != nil:
			v.find("codebooks", err)
			continue
		}
		books = append(books, book)
		names = append(names, fmt.Sprintf("%s: %d codes of %d", kind, book.Codes, book.Dim))
	}
	text := tokenizer.SpecialTokens
	if v.tokenizer != nil {
		text = max(text, v.tokenizer.VocabSize())
	}
	if err := codebook.CheckIDs(books, text, v.config.VocabSize); err != nil {
		v.find("codebooks", &format.FormatError{Class: format.ClassConfig, Field: "sections codebook-*", Got: "refused: " + err.Error(), Want: "ids that spec/trit-v1.md, section 18, allows"})
	}
	if len(books) == 0 {
		return "the file holds no codebooks", errSkipped
	}
	return strings.Join(names, "; "), nil
}
