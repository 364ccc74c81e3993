package vocab

import (
	"bytes"
	"cmp"
	"slices"
	"unicode/utf8"
)

// space is what SentencePiece writes for U+0020.
const space = "▁"

// SentencePiece makes a tokenizer.json of a tokenizer.model, a SentencePiece
// ModelProto with a BPE vocabulary. It keeps no reference to data.
//
// Errors are a *FormatError, for a file that SentencePiece would not load, or an
// *UnsupportedError, for other kinds of models and for settings that merges cannot
// express: normalization rules, removal of white space, white space as a suffix,
// and pieces that only SentencePiece could reach. The package comment says where
// the result differs from SentencePiece.
//
// Formats: sentencepiece_model.proto and bpe_model.cc of google/sentencepiece.
func SentencePiece(data []byte) (tokenizerJSON []byte, err error) {
	if len(data) > MaxSize {
		return nil, tooLarge(kindSentencePiece, len(data))
	}
	m, err := readModel(data)
	if err != nil {
		return nil, err
	}
	if err := m.supported(); err != nil {
		return nil, err
	}
	order := sorted(m.pieces)
	unk, err := m.consistent(order)
	if err != nil {
		return nil, err
	}
	f := &file{tokens: m.pieces, spell: appendString, preTokenizer: "null", postProcessor: "null"}
	if f.added, err = m.added(); err != nil {
		return nil, err
	}
	if f.merges, err = m.merges(order); err != nil {
		return nil, err
	}
	const replace = `{"type":"Replace","pattern":{"String":" "},"content":"` + space + `"}`
	f.normalizer = `{"type":"Sequence","normalizers":[` + replace + `]}`
	decoders := `{"type":"Replace","pattern":{"String":"` + space + `"},"content":" "}`
	if m.byteFallback {
		decoders += `,{"type":"ByteFallback"}`
	}
	decoders += `,{"type":"Fuse"}`
	if m.dummyPrefix {
		f.normalizer = `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"` + space + `"},` + replace + `]}`
		decoders += `,{"type":"Strip","content":" ","start":1,"stop":0}`
	}
	f.decoder = `{"type":"Sequence","decoders":[` + decoders + `]}`
	for id, text := range m.pieces {
		if m.types[id] == control && bytes.Equal(text, m.bosPiece) {
			f.postProcessor = template(id, text)
		}
	}
	fallback := "false"
	if m.byteFallback {
		fallback = "true"
	}
	f.options = `"unk_token":` + string(appendString(nil, m.pieces[unk])) +
		`,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":` + fallback + `,"ignore_merges":false`
	out, ok := f.write()
	if !ok {
		return nil, resultTooLarge(kindSentencePiece)
	}
	return out, nil
}

// added returns the pieces that are cut out of the text before the merges. A
// user-defined symbol is found in normalized text by SentencePiece; behind a
// dummy prefix only the raw text can be searched for it, because the prefix would
// be put in front of the symbol's own spelling too.
func (m *model) added() ([]addedToken, error) {
	var list []addedToken
	for i, text := range m.pieces {
		id := int32(i)
		switch m.types[i] {
		case control, unknown:
			list = append(list, addedToken{id: i, content: text, special: true})
		case userDefined:
			if bytes.IndexByte(text, ' ') >= 0 {
				return nil, m.unsupported(id, "the user-defined symbol "+quote(text)+" with U+0020", "white space as "+space, "SentencePiece never finds this symbol, a tokenizer.json would")
			}
			if m.dummyPrefix && bytes.Contains(text, []byte(space)) {
				return nil, m.unsupported(id, "the user-defined symbol "+quote(text)+" with white space, in a model with add_dummy_prefix,", "symbols without white space, or no dummy prefix",
					"take the tokenizer.json that the model was published with")
			}
			list = append(list, addedToken{id: i, content: text, normalized: !m.dummyPrefix})
		}
	}
	return list, nil
}

// merges returns the pairs that spell normal pieces, the best score first. Control
// pieces, bytes and user-defined symbols neither merge nor come of a merge.
func (m *model) merges(order []int32) ([]merge, error) {
	known := map[rune]bool{} // characters that are pieces
	for i, text := range m.pieces {
		if r, n := utf8.DecodeRune(text); n == len(text) && (m.types[i] == normal || m.types[i] == unused || m.types[i] == userDefined) {
			known[r] = true
		}
	}
	a := newAffixes(m.pieces, order, func(i int32) bool { return m.types[i] == normal || m.types[i] == unused })
	var scratch []int32
	ranked := make([]int32, 0, len(m.pieces))
	for i := range m.pieces {
		id := int32(i)
		switch m.types[i] {
		case normal:
			if err := m.reachable(id, a, known); err != nil {
				return nil, err
			}
			ranked = append(ranked, id)
		case unused:
			// SentencePiece takes an unused piece apart again after merging.
			if !a.pairs(id, &scratch, func(merge) bool { return false }) {
				return nil, m.unsupported(id, "the unused piece "+quote(m.pieces[i])+", which others merge into,", "unused pieces that nothing merges into", "take the tokenizer.json that the model was published with")
			}
		}
	}
	slices.SortStableFunc(ranked, func(i, j int32) int { return better(m.scores[i], m.scores[j]) })
	list, ok := a.all(ranked, MaxSize)
	if !ok {
		return nil, resultTooLarge(kindSentencePiece)
	}
	m.orderTies(list)
	return list, nil
}

// orderTies sorts the pairs of different pieces that have one score.
func (m *model) orderTies(list []merge) {
	runes := func(id int32) int { return utf8.RuneCount(m.pieces[id]) }
	for start := 0; start < len(list); {
		end := start + 1
		tied := false
		for end < len(list) && m.scores[list[end].token] == m.scores[list[start].token] {
			tied = tied || list[end].token != list[start].token
			end++
		}
		if tied {
			slices.SortStableFunc(list[start:end], func(a, b merge) int {
				return cmp.Or(runes(b.left)-runes(a.left), runes(b.right)-runes(a.right))
			})
		}
		start = end
	}
}

// reachable refuses a piece that SentencePiece can make of a character which is no
// piece: it merges by spelling, where a tokenizer.json has to name two tokens.
func (m *model) reachable(id int32, a *affixes, known map[rune]bool) error {
	text := m.pieces[id]
	spelled := func(affix int32, size, chars int) bool {
		return chars == 1 || affix >= 0 && len(m.pieces[affix]) == size
	}
	first, n := utf8.DecodeRune(text)
	last, k := utf8.DecodeLastRune(text)
	if n == len(text) {
		return nil
	}
	chars := 1 // left beside the first or last
	if n+k < len(text) {
		chars = 2
	}
	missing := first
	switch {
	case !known[first] && spelled(a.suffix[id], len(text)-n, chars):
	case !known[last] && spelled(a.prefix[id], len(text)-k, chars):
		missing = last
	default:
		return nil
	}
	return m.unsupported(id, quote(text)+", of a character that is no piece,", "a piece "+quote(string(missing)), "take the tokenizer.json that the model was published with")
}
