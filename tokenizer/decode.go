package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// A decoder is a chain of stages. Between stages runs a list of tokens, each
// a series of fragments of text, so that a stage which joins all tokens into
// one still hands on what it knows at once.
type stage interface {
	text(s string) // a fragment of the current token, whole characters
	end()          // the current token is complete; it may be empty
	finish()       // no token follows; the stage is as new afterwards
}

// sink is the end of the chain.
type sink struct {
	out       strings.Builder
	separator string
	begun     bool // the current token has a separator in front, or needs none
	tokens    int
	err       error
}

func (s *sink) begin() {
	if !s.begun && s.tokens > 0 {
		s.out.WriteString(s.separator)
	}
	s.begun = true
}

func (s *sink) text(t string) {
	s.begin()
	s.out.WriteString(t)
}

func (s *sink) end() {
	s.begin()
	s.begun = false
	s.tokens++
}

func (s *sink) finish() { s.begun, s.tokens = false, 0 }

// take returns what arrived since the last call.
func (s *sink) take() string {
	t := s.out.String()
	s.out.Reset()
	return t
}

// decoder builds a stage in front of the next one.
type decoder func(next stage, fail func(error)) stage

const decoderNames = "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, BPEDecoder"

func parseDecoder(n *node) ([]decoder, error) {
	f := n.fields()
	name := f.str("type")
	if f.err != nil {
		return nil, f.err
	}
	var d decoder
	switch name {
	case "Sequence":
		var all []decoder
		for _, e := range f.array("decoders") {
			part, err := parseDecoder(e)
			if err != nil {
				return nil, err
			}
			all = append(all, part...)
		}
		return all, f.done()
	case "ByteLevel":
		f.bool("add_prefix_space")
		f.bool("trim_offsets")
		f.boolOr("use_regex", true)
		d = func(next stage, _ func(error)) stage { return &byteLevelStage{next: next} }
	case "Replace":
		pattern, err := parsePattern(f.need("pattern"))
		if err != nil {
			return nil, err
		}
		content := f.str("content")
		d = func(next stage, fail func(error)) stage {
			if l, ok := pattern.(literal); ok && l != "" && len(l) <= maxStreamedPattern {
				return &literalStage{next: next, pattern: string(l), content: content}
			}
			return &replaceStage{next: next, fail: fail, pattern: pattern, content: content}
		}
	case "ByteFallback":
		d = func(next stage, _ func(error)) stage { return &byteFallbackStage{next: next} }
	case "Fuse":
		d = func(next stage, _ func(error)) stage { return &fuseStage{next} }
	case "Strip":
		s := stripStage{content: f.char("content"), start: f.count("start", maxID), stop: f.count("stop", maxID)}
		d = func(next stage, _ func(error)) stage {
			c := s
			c.next, c.left = next, c.start
			return &c
		}
	case "Metaspace":
		m := parseMetaspace(f)
		d = func(next stage, _ func(error)) stage {
			return &metaspaceStage{next: next, replacement: m.replacement, drop: m.scheme != schemeNever, first: true}
		}
	case "BPEDecoder":
		suffix := f.str("suffix")
		d = func(next stage, _ func(error)) stage { return &suffixStage{next: next, suffix: suffix} }
	default:
		return nil, f.need("type").unsupported(decoderNames)
	}
	return []decoder{d}, f.done()
}

// byteLevelStage turns the characters of all tokens back into bytes and those
// into one token of text.
type byteLevelStage struct {
	next  stage
	token []byte // the current token
	bytes []byte // the begin of a character
	out   []byte
}

func (s *byteLevelStage) text(t string) { s.token = append(s.token, t...) }

func (s *byteLevelStage) end() {
	s.bytes = appendCharBytes(s.bytes, string(s.token))
	s.token = s.token[:0]
	var rest []byte
	s.out, rest = lossyPrefix(s.out[:0], s.bytes)
	s.bytes = s.bytes[:copy(s.bytes, rest)]
	if len(s.out) > 0 {
		s.next.text(string(s.out))
	}
}

func (s *byteLevelStage) finish() {
	if len(s.bytes) > 0 {
		s.next.text(replacement)
		s.bytes = s.bytes[:0]
	}
	s.next.end()
	s.next.finish()
}

// byteFallbackStage joins runs of tokens <0xHH> into one token of text or,
// where the run as a whole is not UTF-8, writes U+FFFD for each.
type byteFallbackStage struct {
	next    stage
	token   string // the current token, while it may be that of a byte
	passing bool   // the current token is not
	run     []byte
}

func (s *byteFallbackStage) text(t string) {
	if s.passing {
		s.next.text(t)
		return
	}
	s.token += t
	if n := min(len(s.token), 3); len(s.token) > 6 || s.token[:n] != "<0x"[:n] {
		s.pass()
	}
}

// pass hands on the current token as text.
func (s *byteFallbackStage) pass() {
	s.flush()
	s.next.text(s.token)
	s.token, s.passing = "", true
}

func (s *byteFallbackStage) end() {
	if !s.passing {
		if b, ok := byteToken(s.token); ok {
			s.run, s.token = append(s.run, b), ""
			return
		}
		s.pass()
	}
	s.passing = false
	s.next.end()
}

func (s *byteFallbackStage) flush() {
	if len(s.run) == 0 {
		return
	}
	if utf8.Valid(s.run) {
		s.next.text(string(s.run))
		s.next.end()
	} else {
		for range s.run {
			s.next.text(replacement)
			s.next.end()
		}
	}
	s.run = s.run[:0]
}

func (s *byteFallbackStage) finish() {
	s.flush()
	s.next.finish()
}

// fuseStage joins all tokens into one.
type fuseStage struct{ next stage }

func (s *fuseStage) text(t string) { s.next.text(t) }
func (s *fuseStage) end()          {}
func (s *fuseStage) finish() {
	s.next.end()
	s.next.finish()
}

// stripStage drops up to start copies of a character from the front of each
// token and up to stop from its end.
type stripStage struct {
	next        stage
	content     rune
	start, stop int
	left        int // how many may still be dropped in front
	held        int // copies at the end so far, not handed on; at most stop
}

func (s *stripStage) text(t string) {
	for s.left > 0 && t != "" {
		r, n := utf8.DecodeRuneInString(t)
		if r != s.content {
			s.left = 0
			break
		}
		t = t[n:]
		s.left--
	}
	if t == "" {
		return
	}
	c := string(s.content)
	body, copies := t, 0
	for copies < s.stop && strings.HasSuffix(body, c) {
		body, copies = body[:len(body)-len(c)], copies+1
	}
	if body == "" {
		// All copies: the ones held so far may be pushed out of reach.
		if over := s.held + copies - s.stop; over > 0 {
			s.next.text(strings.Repeat(c, over))
			copies -= over
		}
		s.held += copies
		return
	}
	s.next.text(strings.Repeat(c, s.held) + body)
	s.held = copies
}

func (s *stripStage) end() {
	s.left, s.held = s.start, 0
	s.next.end()
}

func (s *stripStage) finish() { s.next.finish() }

// metaspaceStage writes the replacement as a space, and in the first token as
// nothing.
type metaspaceStage struct {
	next        stage
	replacement string
	drop        bool
	first       bool
}

func (s *metaspaceStage) text(t string) {
	space := " "
	if s.first && s.drop {
		space = ""
	}
	if t = strings.ReplaceAll(t, s.replacement, space); t != "" {
		s.next.text(t)
	}
}

func (s *metaspaceStage) end() {
	s.first = false
	s.next.end()
}

func (s *metaspaceStage) finish() {
	s.first = true
	s.next.finish()
}

// literalStage replaces a fixed string in each token, holding back no more
// than may be the begin of it.
type literalStage struct {
	next             stage
	pattern, content string
	held             string
}

// maxStreamedPattern bounds the time that looking for the begin of a pattern
// at the end of each fragment takes.
const maxStreamedPattern = 256

func (s *literalStage) text(t string) {
	if s.held != "" {
		t = s.held + t
	}
	for {
		before, after, found := strings.Cut(t, s.pattern)
		if !found {
			break
		}
		s.next.text(before + s.content)
		t = after
	}
	keep := 0
	for n := min(len(s.pattern)-1, len(t)); n > 0; n-- {
		if strings.HasSuffix(t, s.pattern[:n]) {
			keep = n
			break
		}
	}
	s.held = t[len(t)-keep:]
	if t = t[:len(t)-keep]; t != "" {
		s.next.text(t)
	}
}

func (s *literalStage) end() {
	if s.held != "" {
		s.next.text(s.held)
		s.held = ""
	}
	s.next.end()
}

func (s *literalStage) finish() { s.next.finish() }

// replaceStage replaces the matches of any pattern in each token.
type replaceStage struct {
	next    stage
	fail    func(error)
	pattern matcher
	content string
	token   []byte
}

func (s *replaceStage) text(t string) { s.token = append(s.token, t...) }

func (s *replaceStage) end() {
	p := piece{text: string(s.token)}
	s.token = s.token[:0]
	if err := (replace{s.pattern, s.content}).normalize(&p); err != nil {
		s.fail(err)
	}
	s.next.text(p.text)
	s.next.end()
}

func (s *replaceStage) finish() { s.next.finish() }

// suffixStage turns the suffix of a token that ends a word into a space, but
// for the last token.
type suffixStage struct {
	next    stage
	suffix  string
	token   []byte // the current one
	waiting string // the one before, complete
	pending bool   // there is one before
}

func (s *suffixStage) text(t string) { s.token = append(s.token, t...) }

func (s *suffixStage) end() {
	s.release(" ")
	s.waiting, s.pending = string(s.token), true
	s.token = s.token[:0]
}

func (s *suffixStage) release(space string) {
	if s.pending {
		s.next.text(strings.ReplaceAll(s.waiting, s.suffix, space))
		s.next.end()
		s.pending = false
	}
}

func (s *suffixStage) finish() {
	s.release("")
	s.next.finish()
}
