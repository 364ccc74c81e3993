package tokenizer

import (
	"slices"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// unicodeForm is a normalization form of UAX #15. x/text inserts U+034F into
// long runs of marks (the stream-safe format of UAX #15, section 13), which
// the tokenizers library does not; such text is normalized here by the book.
type unicodeForm struct {
	fast      norm.Form
	decompose norm.Form
	compose   bool
}

var (
	nfc  = unicodeForm{norm.NFC, norm.NFD, true}
	nfd  = unicodeForm{norm.NFD, norm.NFD, false}
	nfkc = unicodeForm{norm.NFKC, norm.NFKD, true}
	nfkd = unicodeForm{norm.NFKD, norm.NFKD, false}
)

// streamSafeMarks is far below the 30 marks that x/text counts, because one
// character may decompose to several.
const streamSafeMarks = 4

func (f unicodeForm) apply(s string) string {
	marks := 0
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i, marks = i+1, 0
			continue
		}
		p := f.decompose.PropertiesString(s[i:])
		if p.CCC() == 0 && p.TrailCCC() == 0 {
			marks = 0
		} else if marks++; marks > streamSafeMarks {
			return f.byTheBook(s)
		}
		i += p.Size()
	}
	return f.fast.String(s)
}

type markedRune struct {
	r   rune
	ccc uint8
}

// byTheBook decomposes, sorts runs of marks by their combining class, and
// composes.
func (f unicodeForm) byTheBook(s string) string {
	var runes []markedRune
	var buf []byte
	for _, r := range s {
		buf = f.decompose.AppendString(buf[:0], string(r))
		for _, d := range string(buf) {
			runes = append(runes, markedRune{d, ccc(d)})
		}
	}
	for i := 0; i < len(runes); {
		if runes[i].ccc == 0 {
			i++
			continue
		}
		start := i
		for i < len(runes) && runes[i].ccc != 0 {
			i++
		}
		slices.SortStableFunc(runes[start:i], func(a, b markedRune) int { return int(a.ccc) - int(b.ccc) })
	}
	if f.compose {
		runes = composeRunes(runes)
	}
	out := make([]byte, 0, len(s))
	for _, m := range runes {
		out = utf8.AppendRune(out, m.r)
	}
	return string(out)
}

func ccc(r rune) uint8 {
	return norm.NFD.PropertiesString(string(r)).CCC()
}

// composeRunes joins each starter with the marks after it that it composes
// with, unless one of the same or a higher class stands between.
func composeRunes(in []markedRune) []markedRune {
	out := in[:0]
	starter := -1
	for _, m := range in {
		if starter >= 0 {
			last := out[len(out)-1]
			blocked := len(out)-1 > starter && (last.ccc == 0 || last.ccc >= m.ccc)
			if !blocked {
				if r, ok := composePair(out[starter].r, m.r); ok {
					out[starter].r = r
					continue
				}
			}
		}
		out = append(out, m)
		if m.ccc == 0 {
			starter = len(out) - 1
		}
	}
	return out
}

func composePair(a, b rune) (rune, bool) {
	s := norm.NFC.String(string([]rune{a, b}))
	r, n := utf8.DecodeRuneInString(s)
	return r, n == len(s)
}
