package runtime

import (
	"errors"
	"fmt"

	"github.com/tritter-ai/tritter/model"
)

// What is wrong with the sequence of a span.
var (
	errForeignSequence  = errors.New("the sequence belongs to another engine")
	errClosedSequence   = errors.New("the sequence is closed")
	errRepeatedSequence = errors.New("the sequence appears in two spans of one call; give it one span")
)

func spanLen(sp *Span, hidden int) int {
	if sp.Embeddings != nil {
		return len(sp.Embeddings) / hidden
	}
	return len(sp.Tokens)
}

// check returns the number of positions of a span that is appended to a sequence of
// that length, or why it cannot be computed.
func (sp *Span) check(c *model.Config, length, context int) (int, error) {
	if sp.Tokens != nil && sp.Embeddings != nil {
		return 0, errors.New("a span has tokens or embeddings, not both")
	}
	if len(sp.Embeddings)%c.HiddenSize != 0 {
		return 0, fmt.Errorf("%d values are not whole embeddings of hidden_size %d", len(sp.Embeddings), c.HiddenSize)
	}
	for i, id := range sp.Tokens {
		if id < 0 || id >= c.VocabSize {
			return 0, fmt.Errorf("token %d is id %d, want 0 to %d", i, id, c.VocabSize-1)
		}
	}
	n := spanLen(sp, c.HiddenSize)
	if n == 0 {
		return 0, errors.New("a span needs at least one token")
	}
	if length+n > context {
		return 0, &ContextError{Len: length, Add: n, Context: context}
	}
	return n, nil
}
