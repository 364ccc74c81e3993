package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// addedToken is a token that is cut out of the text before the model sees it.
type addedToken struct {
	id         int
	content    string
	singleWord bool // only where no word character touches it
	lstrip     bool // takes the white space in front with it
	rstrip     bool // takes the white space behind with it
	normalized bool // sought in normalized text, by its own normalized spelling
	special    bool
}

func parseAddedToken(n *node) (addedToken, error) {
	f := n.fields()
	a := addedToken{
		id:         f.count("id", maxID),
		content:    f.str("content"),
		singleWord: f.bool("single_word"),
		lstrip:     f.bool("lstrip"),
		rstrip:     f.bool("rstrip"),
		normalized: f.bool("normalized"),
		special:    f.bool("special"),
	}
	return a, f.done()
}

// addedMatcher finds added tokens in a text, leftmost first, of those the
// longest. The spellings are sorted, so that those which share a prefix stand
// together and a search narrows them down byte by byte.
type addedMatcher struct {
	spellings []string
	tokens    []*addedToken
	first     [257]int32 // spellings that begin with byte b are first[b] to first[b+1]
}

// newAddedMatcher takes the spelling to look for from spell. Of tokens with
// one spelling a special one goes before others, then the first in the file.
func newAddedMatcher(tokens []*addedToken, spell func(*addedToken) (string, error)) (*addedMatcher, error) {
	if len(tokens) == 0 {
		return nil, nil
	}
	type entry struct {
		spelling string
		token    *addedToken
	}
	entries := make([]entry, len(tokens))
	for i, t := range tokens {
		s, err := spell(t)
		if err != nil {
			return nil, err
		}
		if s == "" {
			return nil, &FormatError{Path: "added_tokens", Offset: -1, Got: "the token " + quote(t.content) + ", of which the normalizer leaves nothing",
				Want: `"normalized": false for it`}
		}
		entries[i] = entry{s, t}
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		if c := strings.Compare(a.spelling, b.spelling); c != 0 || a.token.special == b.token.special {
			return c
		}
		if a.token.special {
			return -1
		}
		return 1
	})
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.spelling == b.spelling })
	m := &addedMatcher{}
	for _, e := range entries {
		m.spellings = append(m.spellings, e.spelling)
		m.tokens = append(m.tokens, e.token)
		m.first[int(e.spelling[0])+1]++
	}
	for b := 1; b < len(m.first); b++ {
		m.first[b] += m.first[b-1]
	}
	return m, nil
}

// longest returns the longest token at the front of the text, or nil.
func (m *addedMatcher) longest(text string) (*addedToken, int) {
	lo, hi := int(m.first[text[0]]), int(m.first[int(text[0])+1])
	var found *addedToken
	length := 0
	for depth := 1; lo < hi; depth++ {
		if hi-lo == 1 {
			if s := m.spellings[lo]; strings.HasPrefix(text, s) {
				return m.tokens[lo], len(s)
			}
			break
		}
		if len(m.spellings[lo]) == depth {
			found, length = m.tokens[lo], depth
			lo++
		}
		if depth == len(text) {
			break
		}
		c := text[depth]
		at := func(from int, above bool) int {
			n, _ := slices.BinarySearchFunc(m.spellings[from:hi], c, func(s string, c byte) int {
				if s[depth] < c || above && s[depth] == c {
					return -1
				}
				return 1
			})
			return from + n
		}
		lo = at(lo, false)
		hi = at(lo, true)
	}
	return found, length
}

// cut appends the text of p to out, with the tokens in it as pieces of their
// own. Special tokens stay text where parseSpecial is false.
func (m *addedMatcher) cut(out []piece, p piece, parseSpecial bool) []piece {
	text := p.text
	if text == "" {
		return out
	}
	done := 0 // what lies before is in out
	for at := 0; m != nil && at < len(text); {
		if m.first[text[at]] == m.first[int(text[at])+1] {
			at++
			continue
		}
		t, n := m.longest(text[at:])
		if t == nil {
			at++
			continue
		}
		start, end := at, at+n
		at = end
		if t.special && !parseSpecial || t.singleWord && touchesWord(text, start, end) {
			continue
		}
		if t.lstrip {
			start = max(done, len(strings.TrimRightFunc(text[:start], isSpace)))
		}
		if t.rstrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], isSpace))
		}
		if done < start {
			out = append(out, p.cut(done, start))
		}
		out = append(out, piece{id: t.id})
		done = end
	}
	if done < len(text) {
		out = append(out, p.cut(done, len(text)))
	}
	return out
}

func touchesWord(text string, start, end int) bool {
	before, _ := utf8.DecodeLastRuneInString(text[:start])
	after, _ := utf8.DecodeRuneInString(text[end:])
	return start > 0 && isWord(before) || end < len(text) && isWord(after)
}
