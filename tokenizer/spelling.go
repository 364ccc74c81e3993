package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// spelling reads a vocabulary as a list of byte strings: a text is spelled by any
// ids whose strings, one after the other, are its bytes. How the Tokenizer comes
// to ids does not matter here: what it proposes is taken where it spells the text.
type spelling struct {
	t     *Tokenizer
	shift int // what is added to an id of the vocabulary
	kind  spellingKind
	// dummy: the Tokenizer puts a space in front of a text, and drops it when it
	// decodes. So do encode and MultiModal.Decode.
	dummy bool

	tokens []string // by id of the vocabulary
	known  []bool   // that spell something

	byteIDs  [256]int // the id of each byte, shifted
	ownBytes bool     // some byte has no token: 256 ids follow the vocabulary
}

type spellingKind uint8

const (
	spelledPlain     spellingKind = iota // tokens are what they spell
	spelledByteLevel                     // every byte is a printable character, as GPT-2 has it
	spelledMetaspace                     // spaces are U+2581, as SentencePiece has it
)

const metaspaceMark = "\u2581"

func newSpelling(t *Tokenizer) *spelling {
	s := &spelling{t: t, tokens: make([]string, len(t.tokens)), known: make([]bool, len(t.tokens))}
	if !t.tritter {
		s.shift = SpecialTokens
	}
	if _, ok := t.NewStream(false).head.(*byteLevelStage); ok {
		s.kind = spelledByteLevel
	} else if id, ok := t.model.vocab[metaspaceMark]; ok {
		// A token in front: some decoders drop the space of the first one.
		if text, err := t.Decode([]int{int(id), int(id)}, false); err == nil && strings.HasSuffix(text, " ") {
			s.kind = spelledMetaspace
		}
	}
	for id, token := range t.tokens {
		if t.flags[id]&present == 0 || t.flags[id]&special != 0 || id+s.shift < SpecialTokens {
			continue
		}
		s.known[id] = true
		switch s.kind {
		case spelledByteLevel:
			s.tokens[id] = string(appendCharBytes(nil, token))
		case spelledMetaspace:
			s.tokens[id] = strings.ReplaceAll(token, metaspaceMark, " ")
		default:
			s.tokens[id] = token
		}
		if b, ok := byteToken(token); ok && t.model.byteFallback {
			s.tokens[id] = string([]byte{b})
		}
	}
	s.findBytes()
	if ids, err := t.Encode("a", EncodeOptions{NoParseSpecial: true}); err == nil {
		s.dummy = s.spells(ids, " a")
	}
	return s
}

// findBytes finds a token for each single byte.
func (s *spelling) findBytes() {
	for b := range s.byteIDs {
		s.byteIDs[b] = -1
	}
	for id, text := range s.tokens {
		if len(text) == 1 && s.known[id] {
			// The token <0x41> of a byte goes before the character A.
			if _, ok := byteToken(s.t.tokens[id]); s.byteIDs[text[0]] < 0 || ok {
				s.byteIDs[text[0]] = id + s.shift
			}
		}
	}
	for b, id := range s.byteIDs {
		if id < 0 {
			s.ownBytes = true
			s.byteIDs[b] = s.shift + len(s.tokens) + b
		}
	}
}

// end returns the first id after those of text.
func (s *spelling) end() int {
	n := s.shift + len(s.tokens)
	if s.ownBytes {
		n += 256
	}
	return max(n, SpecialTokens)
}

// describe accounts for the ids in use.
func (s *spelling) describe() string {
	text := fmt.Sprintf("%d of the vocabulary", len(s.tokens))
	if s.shift > 0 {
		text = fmt.Sprintf("%d special, ", SpecialTokens) + text
	}
	if s.ownBytes {
		text += ", 256 of bytes, some of which the vocabulary has no token for"
	}
	return text
}

// bytes returns what an id spells; false for one that is not of text.
func (s *spelling) bytes(id int) (string, bool) {
	id -= s.shift
	switch {
	case id < 0 || id >= len(s.tokens)+256:
		return "", false
	case id >= len(s.tokens):
		return string([]byte{byte(id - len(s.tokens))}), s.ownBytes
	}
	return s.tokens[id], s.known[id]
}

// spells reports whether ids of the vocabulary spell the text.
func (s *spelling) spells(ids []int, text string) bool {
	for _, id := range ids {
		token, ok := s.bytes(id + s.shift)
		if !ok || !strings.HasPrefix(text, token) {
			return false
		}
		text = text[len(token):]
	}
	return text == ""
}

// encode returns ids that spell the text, never nil.
func (s *spelling) encode(text string) []int {
	ids := []int{}
	for at := 0; at < len(text); {
		n := validPrefix(text[at:])
		if n == 0 {
			ids = append(ids, s.byteIDs[text[at]])
			at++
			continue
		}
		part := text[at : at+n]
		if at == 0 && s.dummy {
			if proposed, ok := s.propose(part, " "+part); ok {
				ids = s.take(ids, proposed)
			} else {
				ids = s.exact(ids, " "+part)
			}
		} else {
			ids = s.exact(ids, part)
		}
		at += n
	}
	return ids
}

// validPrefix returns the length of the UTF-8 in front of text.
func validPrefix(text string) int {
	for i, r := range text {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return i
			}
		}
	}
	return len(text)
}

// propose asks the Tokenizer for the ids of a text and returns them if they spell
// want. Its errors do not matter: there is another way to spell any text.
func (s *spelling) propose(text, want string) ([]int, bool) {
	ids, err := s.t.Encode(text, EncodeOptions{NoParseSpecial: true})
	return ids, err == nil && s.spells(ids, want)
}

// exact appends ids that spell valid UTF-8. Where neither the Tokenizer nor the
// model alone spells all of it, the halves are tried, down to single characters,
// which are spelled by their bytes.
func (s *spelling) exact(ids []int, text string) []int {
	if !s.dummy {
		if proposed, ok := s.propose(text, text); ok {
			return s.take(ids, proposed)
		}
	}
	_, size := utf8.DecodeRuneInString(text)
	if s.dummy || size == len(text) {
		if proposed, ok := s.model(text); ok {
			return s.take(ids, proposed)
		}
	}
	if size == len(text) {
		for i := range len(text) {
			ids = append(ids, s.byteIDs[text[i]])
		}
		return ids
	}
	cut := len(text) / 2
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	if cut == 0 {
		cut = size
	}
	return s.exact(s.exact(ids, text[:cut]), text[cut:])
}

// model asks the merges alone, without what stands before them.
func (s *spelling) model(text string) ([]int, bool) {
	piece := text
	switch s.kind {
	case spelledByteLevel:
		piece = bytesToChars(text)
	case spelledMetaspace:
		piece = strings.ReplaceAll(text, " ", metaspaceMark)
	}
	ordinary := func(id int32) bool { return s.t.flags[id]&special == 0 }
	ids, err := s.t.model.encode(nil, piece, ordinary)
	return ids, err == nil && s.spells(ids, text)
}

// take appends ids of the vocabulary, shifted.
func (s *spelling) take(ids, of []int) []int {
	for _, id := range of {
		ids = append(ids, id+s.shift)
	}
	return ids
}
