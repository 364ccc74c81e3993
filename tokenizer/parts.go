package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// Part is a stretch of a text whose special tokens are known: either Text, in
// which nothing is a special token whatever it spells, or, where Text is "", the
// token ID.
type Part struct {
	Text string
	ID   int
}

// EncodeParts returns the ids of parts that follow each other, without the
// post-processor. The text between two tokens is encoded as it is inside Encode
// when it stands between two special tokens, and a token that takes white space
// with it (lstrip, rstrip) takes it from the text beside it; but only tokens of
// parts become special tokens. It fails as Encode does, and on an ID that is not
// in [0, VocabSize).
func (t *Tokenizer) EncodeParts(parts []Part) ([]int, error) {
	ids := []int{}
	var text strings.Builder
	begun := false // something was encoded: the first character of all is behind
	var before *addedToken
	flush := func(next *addedToken) error {
		s := lossy(text.String())
		text.Reset()
		if before != nil && before.rstrip {
			s = strings.TrimLeftFunc(s, isSpace)
		}
		if next != nil && next.lstrip {
			s = strings.TrimRightFunc(s, isSpace)
		}
		if s == "" {
			return nil
		}
		pieces, err := t.ordinaryPieces(s, !begun)
		begun = true
		for _, p := range pieces {
			if p.id >= 0 {
				ids = append(ids, p.id)
			} else if err == nil {
				ids, err = t.model.encode(ids, p.text, t.isOrdinary)
			}
		}
		return err
	}
	for i, p := range parts {
		if p.Text != "" {
			text.WriteString(p.Text)
			continue
		}
		if p.ID < 0 || p.ID >= len(t.tokens) {
			return nil, fmt.Errorf("tokenizer: token id %d in part %d, want 0 to %d", p.ID, i, len(t.tokens)-1)
		}
		token := t.addedToken(p.ID)
		if err := flush(token); err != nil {
			return nil, err
		}
		ids, before, begun = append(ids, p.ID), token, true
	}
	return ids, flush(nil)
}

func (t *Tokenizer) isOrdinary(id int32) bool { return t.flags[id]&special == 0 }

// ordinaryPieces is pieces of a text without special tokens; first says whether it
// begins the input.
func (t *Tokenizer) ordinaryPieces(text string, first bool) ([]piece, error) {
	return t.piecesOf(newPiece(text, first), false)
}

// addedToken returns the added token of an id, or nil.
func (t *Tokenizer) addedToken(id int) *addedToken {
	for _, m := range []*addedMatcher{t.raw, t.normalized} {
		if m == nil {
			continue
		}
		if i := slices.IndexFunc(m.tokens, func(a *addedToken) bool { return a.id == id }); i >= 0 {
			return m.tokens[i]
		}
	}
	return nil
}
