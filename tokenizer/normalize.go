package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// normalizer rewrites the text of a segment.
type normalizer interface {
	normalize(p *piece) error
}

const normalizerNames = "Sequence, Prepend, Replace, Strip, StripAccents, Lowercase, NFC, NFD, NFKC, NFKD, ByteLevel"

func parseNormalizer(n *node) (normalizer, error) {
	f := n.fields()
	name := f.str("type")
	if f.err != nil {
		return nil, f.err
	}
	var out normalizer
	switch name {
	case "Sequence":
		var seq normalizerSequence
		for _, e := range f.array("normalizers") {
			part, err := parseNormalizer(e)
			if err != nil {
				return nil, err
			}
			seq = append(seq, part)
		}
		out = seq
	case "Prepend":
		out = prepend(f.str("prepend"))
	case "Replace":
		pattern, err := parsePattern(f.need("pattern"))
		if err != nil {
			return nil, err
		}
		out = replace{pattern, f.str("content")}
	case "Strip":
		out = strip{left: f.bool("strip_left"), right: f.bool("strip_right")}
	case "StripAccents":
		out = rewrite(stripAccents)
	case "Lowercase":
		out = rewrite(lowercase)
	case "NFC":
		out = rewrite(nfc.apply)
	case "NFD":
		out = rewrite(nfd.apply)
	case "NFKC":
		out = rewrite(nfkc.apply)
	case "NFKD":
		out = rewrite(nfkd.apply)
	case "ByteLevel":
		out = rewrite(bytesToChars)
	default:
		return nil, f.need("type").unsupported(normalizerNames)
	}
	return out, f.done()
}

type normalizerSequence []normalizer

func (s normalizerSequence) normalize(p *piece) error {
	for _, n := range s {
		if err := n.normalize(p); err != nil {
			return err
		}
	}
	return nil
}

type prepend string

func (s prepend) normalize(p *piece) error {
	p.prepend(string(s))
	return nil
}

type replace struct {
	pattern matcher
	content string
}

func (r replace) normalize(p *piece) error {
	if p.text == "" {
		return nil // a pattern is not even asked
	}
	spans, err := r.pattern.spans(nil, p.text)
	if err != nil {
		return err
	}
	p.replace(spans, r.content)
	return nil
}

type strip struct{ left, right bool }

func (s strip) normalize(p *piece) error {
	start, end := 0, len(p.text)
	if s.left {
		start = end - len(strings.TrimLeftFunc(p.text, isSpace))
	}
	if s.right {
		end = max(start, len(strings.TrimRightFunc(p.text, isSpace)))
	}
	*p = p.cut(start, end)
	return nil
}

type rewrite func(string) string

func (f rewrite) normalize(p *piece) error {
	p.transform(f)
	return nil
}

func stripAccents(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf && unicode.Is(unicode.M, r) {
			return -1
		}
		return r
	}, s)
}

// lowercase maps characters one by one, without regard to what stands around
// a sigma. U+0130 is the only one that becomes two.
func lowercase(s string) string {
	return strings.ReplaceAll(strings.Map(func(r rune) rune {
		if r == 0x130 {
			return r
		}
		return unicode.ToLower(r)
	}, s), "\u0130", "i\u0307")
}
