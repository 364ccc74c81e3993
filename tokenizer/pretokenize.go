package tokenizer

import "strings"

// preTokenizer cuts the pieces that are text into smaller ones. Empty ones
// vanish; added tokens pass through.
type preTokenizer interface {
	split(in []piece) ([]piece, error)
}

const preTokenizerNames = "Sequence, ByteLevel, Split, Metaspace, Whitespace, WhitespaceSplit, Digits, Punctuation"

func parsePreTokenizer(n *node) (preTokenizer, error) {
	f := n.fields()
	name := f.str("type")
	if f.err != nil {
		return nil, f.err
	}
	var out preTokenizer
	switch name {
	case "Sequence":
		var seq preTokenizerSequence
		for _, e := range f.array("pretokenizers") {
			part, err := parsePreTokenizer(e)
			if err != nil {
				return nil, err
			}
			seq = append(seq, part)
		}
		out = seq
	case "ByteLevel":
		b := byteLevel{prefixSpace: f.bool("add_prefix_space")}
		f.bool("trim_offsets") // offsets are not computed
		if f.boolOr("use_regex", true) {
			b.pattern = scanners[patternGPT2]
		}
		out = b
	case "Split":
		pattern, err := parsePattern(f.need("pattern"))
		if err != nil {
			return nil, err
		}
		out = splitter{pattern, parseBehavior(f, f.need("behavior")), f.bool("invert")}
	case "Metaspace":
		out = parseMetaspace(f)
	case "Whitespace":
		out = splitter{words{}, removed, true}
	case "WhitespaceSplit":
		out = splitter{predicate(isSpace), removed, false}
	case "Digits":
		s := splitter{predicate(isNumber), contiguous, false}
		if f.bool("individual_digits") {
			s.behavior = isolated
		}
		out = s
	case "Punctuation":
		s := splitter{predicate(isPunctuation), isolated, false}
		if b := f.opt("behavior"); b != nil {
			s.behavior = parseBehavior(f, b)
		}
		out = s
	default:
		return nil, f.need("type").unsupported(preTokenizerNames)
	}
	return out, f.done()
}

type preTokenizerSequence []preTokenizer

func (s preTokenizerSequence) split(in []piece) ([]piece, error) {
	var err error
	for _, p := range s {
		if in, err = p.split(in); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// behavior says what becomes of the matches of a pattern.
type behavior uint8

const (
	removed behavior = iota
	isolated
	mergedWithPrevious
	mergedWithNext
	contiguous
)

var behaviors = map[string]behavior{
	"Removed": removed, "Isolated": isolated, "MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext": mergedWithNext, "Contiguous": contiguous,
}

func parseBehavior(f *fields, n *node) behavior {
	b, ok := behaviors[n.text]
	if n.kind != kindString || !ok {
		f.fail(n.unsupported("Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous"))
	}
	return b
}

// arrange turns matches and gaps into the stretches to keep, in place. A
// match that follows a match never merges leftwards or rightwards with it.
func (b behavior) arrange(spans []span) []span {
	out := spans[:0]
	previous := false
	switch b {
	case removed:
		for _, s := range spans {
			if !s.match {
				out = append(out, s)
			}
		}
	case isolated:
		return spans
	case contiguous:
		for _, s := range spans {
			if s.match == previous && len(out) > 0 {
				out[len(out)-1].end = s.end
			} else {
				out = append(out, s)
			}
			previous = s.match
		}
	case mergedWithPrevious:
		for _, s := range spans {
			match := s.match
			if match && !previous && len(out) > 0 {
				out[len(out)-1].end = s.end
			} else {
				out = append(out, s)
			}
			previous = match
		}
	case mergedWithNext:
		// The same, from the right, filling the slice from its end.
		at := len(spans)
		for i := len(spans) - 1; i >= 0; i-- {
			s := spans[i]
			if s.match && !previous && at < len(spans) {
				spans[at].start = s.start
			} else {
				at--
				spans[at] = s
			}
			previous = s.match
		}
		return spans[at:]
	}
	return out
}

// splitter cuts where a pattern matches or, inverted, where it does not.
type splitter struct {
	pattern  matcher
	behavior behavior
	invert   bool
}

func (s splitter) split(in []piece) ([]piece, error) {
	out := make([]piece, 0, len(in))
	var spans []span
	for _, p := range in {
		if p.id >= 0 {
			out = append(out, p)
			continue
		}
		var err error
		if spans, err = s.pattern.spans(spans[:0], p.text); err != nil {
			return nil, err
		}
		if s.invert {
			for i := range spans {
				spans[i].match = !spans[i].match
			}
		}
		for _, c := range s.behavior.arrange(spans) {
			if c.end > c.start {
				out = append(out, p.cut(c.start, c.end))
			}
		}
	}
	return out, nil
}

// byteLevel spells the bytes of the text as characters, after it split it by
// the pattern of GPT-2 if it has that.
type byteLevel struct {
	prefixSpace bool
	pattern     matcher
}

func (b byteLevel) split(in []piece) ([]piece, error) {
	if b.prefixSpace {
		spaced := make([]piece, len(in))
		for i, p := range in {
			if p.id < 0 && !strings.HasPrefix(p.text, " ") {
				p.prepend(" ")
			}
			spaced[i] = p
		}
		in = spaced
	}
	if b.pattern != nil {
		var err error
		if in, err = (splitter{b.pattern, isolated, false}).split(in); err != nil {
			return nil, err
		}
	}
	// All pieces share one string: one allocation, not one for each word.
	size := 0
	for _, p := range in {
		size += len(p.text)
	}
	all := make([]byte, 0, size+size/4)
	ends := make([]int, len(in))
	for i, p := range in {
		if p.id < 0 {
			all = appendByteChars(all, p.text)
		}
		ends[i] = len(all)
	}
	text := string(all)
	out := make([]piece, len(in))
	start := 0
	for i, p := range in {
		if p.id < 0 {
			head := p.head
			for _, c := range []byte(p.text[:p.head]) {
				head += len(byteChars[c]) - 1
			}
			p = piece{text: text[start:ends[i]], head: head, id: -1}
		}
		out[i], start = p, ends[i]
	}
	return out, nil
}

// metaspace writes spaces as another character, may put one in front, and may
// cut before each.
type metaspace struct {
	replacement string
	scheme      string
	cut         bool
}

const schemeAlways, schemeFirst, schemeNever = "always", "first", "never"

// parseMetaspace reads the options, which pre-tokenizer and decoder share.
func parseMetaspace(f *fields) metaspace {
	m := metaspace{replacement: string(f.char("replacement")), scheme: schemeAlways, cut: true}
	if n := f.opt("prepend_scheme"); n != nil {
		m.scheme = f.str("prepend_scheme")
		if m.scheme != schemeAlways && m.scheme != schemeFirst && m.scheme != schemeNever {
			f.fail(n.unsupported("always, first, never"))
		}
	}
	if n := f.nullable("add_prefix_space"); n != nil && !f.bool("add_prefix_space") && m.scheme != schemeNever {
		f.fail(n.wrong(`true, or "prepend_scheme": "never" beside it`))
	}
	if f.nullable("split") != nil {
		m.cut = f.bool("split")
	}
	if f.nullable("str_rep") != nil {
		f.str("str_rep") // a copy of the replacement, which files of old versions hold
	}
	return m
}

func (m metaspace) split(in []piece) ([]piece, error) {
	out := make([]piece, 0, len(in))
	for _, p := range in {
		if p.id >= 0 {
			out = append(out, p)
			continue
		}
		p.transform(func(s string) string { return strings.ReplaceAll(s, " ", m.replacement) })
		if (m.scheme == schemeAlways || m.scheme == schemeFirst && p.head > 0) && !strings.HasPrefix(p.text, m.replacement) {
			p.prepend(m.replacement)
		}
		out = append(out, p)
	}
	if !m.cut {
		return out, nil
	}
	return splitter{literal(m.replacement), mergedWithNext, false}.split(out)
}
