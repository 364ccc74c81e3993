package tokenizer

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// matchTimeout bounds one search of a regular expression that comes from a
// file; a sane pattern takes microseconds.
const matchTimeout = 5 * time.Second

// maxBacktrack bounds the backtracking stack of a search, in 8-byte slots.
const maxBacktrack = 4 << 20

// span is a stretch of text, in bytes; match says that the pattern matched it.
type span struct {
	start, end int
	match      bool
}

// matcher finds a pattern in a text.
type matcher interface {
	// spans appends stretches that cover the text from front to back, every
	// match and every gap between matches. Matches may be empty.
	spans(dst []span, text string) ([]span, error)
}

// cover collects matches that arrive from left to right and fills the gaps.
type cover struct {
	dst  []span
	prev int
}

func (c *cover) match(start, end int) {
	if c.prev != start {
		c.dst = append(c.dst, span{c.prev, start, false})
	}
	c.dst = append(c.dst, span{start, end, true})
	c.prev = end
}

func (c *cover) finish(n int) []span {
	if c.prev != n {
		c.dst = append(c.dst, span{c.prev, n, false})
	}
	return c.dst
}

// literal matches a fixed string; the empty one matches between characters.
type literal string

func (l literal) spans(dst []span, text string) ([]span, error) {
	c := cover{dst: dst}
	if l == "" {
		for i := range text {
			c.match(i, i)
		}
		c.match(len(text), len(text))
		return c.finish(len(text)), nil
	}
	for {
		i := strings.Index(text[c.prev:], string(l))
		if i < 0 {
			return c.finish(len(text)), nil
		}
		c.match(c.prev+i, c.prev+i+len(l))
	}
}

// predicate matches single characters.
type predicate func(rune) bool

func (p predicate) spans(dst []span, text string) ([]span, error) {
	c := cover{dst: dst}
	for i, r := range text {
		if p(r) {
			c.match(i, i+utf8.RuneLen(r))
		}
	}
	return c.finish(len(text)), nil
}

// words matches runs of word characters and runs of what is neither word
// character nor white space: \w+|[^\w\s]+.
type words struct{}

func (words) spans(dst []span, text string) ([]span, error) {
	c := cover{dst: dst}
	const space, word, other = 0, 1, 2
	class, start := space, 0
	flush := func(end int) {
		if class != space {
			c.match(start, end)
		}
	}
	for i, r := range text {
		now := other
		switch {
		case isWord(r):
			now = word
		case isSpace(r):
			now = space
		}
		if now != class {
			flush(i)
			class, start = now, i
		}
	}
	flush(len(text))
	return c.finish(len(text)), nil
}

// regex matches a pattern with regexp2.
type regex struct{ re *regexp2.Regexp }

func (x regex) spans(dst []span, text string) ([]span, error) {
	c := cover{dst: dst}
	// regexp2 counts runes; bytes[i] would be 8 bytes for every one of them,
	// so the offset is carried along instead.
	runes := []rune(text)
	atRune, atByte, last := 0, 0, -1
	offset := func(target int) int {
		for ; atRune < target; atRune++ {
			atByte += utf8.RuneLen(runes[atRune])
		}
		return atByte
	}
	err := x.re.FindRunesMatches(runes, 0, func(m regexp2.MatchView) bool {
		at, n, _ := m.GroupRange(0)
		if n == 0 && at == last {
			return true // Oniguruma's iterator drops an empty match right after a match
		}
		last = at + n
		start := offset(at)
		c.match(start, offset(at+n))
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("tokenizer: the pattern %s on a text of %d bytes: %w; split the text", quote(x.re.String()), len(text), err)
	}
	return c.finish(len(text)), nil
}

// parseRegex compiles a pattern of the file.
func parseRegex(n *node) (matcher, error) {
	if scan, ok := scanners[n.text]; ok {
		return scan, nil
	}
	pattern, err := translateOnig(n)
	if err != nil {
		return nil, err
	}
	re, err := regexp2.Compile(pattern, regexp2.OptionMaxBacktrackingStackSize(maxBacktrack))
	if err != nil {
		return nil, &UnsupportedError{Path: n.path, Offset: n.off, Component: "the pattern " + quote(n.text) + " (" + quote(err.Error()) + ")",
			Supported: "what regexp2 can express"}
	}
	re.MatchTimeout = matchTimeout
	return regex{re}, nil
}

// parsePattern reads {"String": text} or {"Regex": pattern}.
func parsePattern(n *node) (matcher, error) {
	f := n.fields()
	if f.err != nil {
		return nil, f.err
	}
	if len(n.members) == 1 && f.opt("String") != nil {
		s := f.str("String")
		return literal(s), f.done()
	}
	f = n.fields()
	f.str("Regex")
	if err := f.done(); err != nil {
		return nil, err
	}
	return parseRegex(n.members["Regex"])
}
