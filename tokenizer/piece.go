package tokenizer

import "unicode/utf8"

// piece is a stretch of text on its way to the model, or an added token that
// was cut out of it.
type piece struct {
	text string
	// head is the number of bytes in front of text that stem from the very
	// first character of the input: Metaspace's scheme "first" asks where in
	// the input a piece began, whatever normalization did to it since.
	head int
	// id is that of the added token, or -1 for text.
	id int
}

func (p piece) cut(start, end int) piece {
	return piece{text: p.text[start:end], head: min(max(p.head-start, 0), end-start), id: -1}
}

// prepend puts s, which shares the origin of the first character, in front.
func (p *piece) prepend(s string) {
	if p.text == "" || s == "" {
		return
	}
	p.text = s + p.text
	if p.head > 0 {
		p.head += len(s)
	}
}

// replace puts content in the place of every match. What is inserted shares
// the origin of the character in front of its end.
func (p *piece) replace(spans []span, content string) {
	size := 0
	for _, s := range spans {
		if s.match {
			size += len(content)
		} else {
			size += s.end - s.start
		}
	}
	out := make([]byte, 0, size)
	head := 0
	for _, s := range spans {
		if !s.match {
			out = append(out, p.text[s.start:s.end]...)
			head += min(max(p.head-s.start, 0), s.end-s.start)
			continue
		}
		out = append(out, content...)
		if p.head > 0 && s.end <= p.head {
			head += len(content)
		}
	}
	p.text, p.head = string(out), head
}

// transform rewrites the text by f, which maps each character on its own or
// nearly so.
func (p *piece) transform(f func(string) string) {
	out := f(p.text)
	switch {
	case p.head == 0:
	case p.head == len(p.text):
		p.head = len(out)
	default:
		p.head = min(len(f(p.text[:p.head])), len(out))
		for p.head < len(out) && !utf8.RuneStart(out[p.head]) {
			p.head++
		}
	}
	p.text = out
}
