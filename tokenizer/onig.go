package tokenizer

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// maxPattern bounds a regular expression: each class in it may unfold to
// hundreds of ranges.
const maxPattern = 8192

// onig translates a pattern from Oniguruma's Ruby syntax to regexp2. The
// dialects disagree on classes (nested, intersected), on \w, \s, \d, \b, on
// what ^, $ and (?m) mean, on possessive quantifiers and on case folding, so
// every class is written out as ranges and every anchor as a lookaround;
// nothing depends on an option of regexp2.
type onig struct {
	src   []rune
	pos   int
	depth int
	at    *node // the pattern in the file
}

type onigFlags struct{ fold, dotAll bool }

func translateOnig(at *node) (string, error) {
	if len(at.text) > maxPattern {
		return "", &UnsupportedError{Path: at.path, Offset: at.off, Component: fmt.Sprintf("a pattern of %d bytes", len(at.text)),
			Supported: fmt.Sprintf("at most %d", maxPattern)}
	}
	p := &onig{src: []rune(at.text), at: at}
	out, err := p.alternation(onigFlags{})
	if err == nil && p.pos < len(p.src) {
		err = p.malformed("an unmatched )", `\)`)
	}
	return out, err
}

func (p *onig) malformed(got, want string) error {
	return &FormatError{Path: p.at.path, Offset: p.at.off, Got: fmt.Sprintf("%s at character %d of the pattern %s", got, p.pos, quote(p.at.text)), Want: want}
}

func (p *onig) unsupported(what string) error {
	return &UnsupportedError{Path: p.at.path, Offset: p.at.off, Component: fmt.Sprintf("%s at character %d of the pattern %s", what, p.pos, quote(p.at.text)),
		Supported: "groups, (?i) (?m), lookaround, classes, properties, anchors and quantifiers"}
}

func (p *onig) peek(s string) bool {
	return strings.HasPrefix(string(p.src[p.pos:min(p.pos+len(s), len(p.src))]), s)
}

func (p *onig) accept(s string) bool {
	if p.peek(s) {
		p.pos += len([]rune(s))
		return true
	}
	return false
}

func (p *onig) more() bool { return p.pos < len(p.src) }

// alternation reads branches up to a ) or the end.
func (p *onig) alternation(flags onigFlags) (string, error) {
	if p.depth++; p.depth > 100 {
		return "", p.unsupported("a group more than 100 levels deep")
	}
	defer func() { p.depth-- }()
	var out strings.Builder
	for {
		branch, err := p.branch(flags)
		if err != nil {
			return "", err
		}
		out.WriteString(branch)
		if !p.accept("|") {
			return out.String(), nil
		}
		out.WriteByte('|')
	}
}

func (p *onig) branch(flags onigFlags) (string, error) {
	var out strings.Builder
	previous := rune(-1) // the literal before, if the last thing was one
	for p.more() && !p.peek("|") && !p.peek(")") {
		if opts, ok, err := p.isolatedOptions(flags); err != nil {
			return "", err
		} else if ok {
			// It reaches to the end of the group, across branches.
			rest, err := p.alternation(opts)
			if err != nil {
				return "", err
			}
			return out.String() + "(?:" + rest + ")", nil
		}
		start := p.pos
		atom, lit, anchor, err := p.atom(flags)
		if err != nil {
			return "", err
		}
		if flags.fold && lit >= 0 && previous >= 0 && foldsTogether(previous, lit) {
			p.pos = start
			return "", p.unsupported("case folding of " + quote(string([]rune{previous, lit})) + ", which is also one character,")
		}
		previous = lit
		for quantified := false; ; quantified = true {
			q, ok, err := p.quantifier()
			if err != nil {
				return "", err
			}
			if !ok {
				break
			}
			if anchor {
				return "", p.unsupported("a quantifier after an anchor or a lookaround")
			}
			if strings.Contains(atom, "(?>") {
				// regexp2 does not go back into such a loop.
				return "", p.unsupported("a repetition of something atomic or possessive")
			}
			if quantified {
				atom = "(?:" + atom + ")"
			}
			atom += strings.TrimSuffix(q, "+possessive")
			if strings.HasSuffix(q, "+possessive") {
				atom = "(?>" + atom + ")"
			}
			previous = -1
		}
		out.WriteString(atom)
	}
	return out.String(), nil
}

// isolatedOptions reads (?i), (?-m) and the like, without a body.
func (p *onig) isolatedOptions(flags onigFlags) (onigFlags, bool, error) {
	start := p.pos
	if !p.accept("(?") {
		return flags, false, nil
	}
	if !p.more() || !strings.ContainsRune("imx-", p.src[p.pos]) {
		p.pos = start
		return flags, false, nil
	}
	flags, err := p.options(flags)
	if err != nil {
		return flags, false, err
	}
	if p.accept(")") {
		return flags, true, nil
	}
	p.pos = start
	return flags, false, nil
}

func (p *onig) options(flags onigFlags) (onigFlags, error) {
	on := true
	for ; p.more(); p.pos++ {
		switch p.src[p.pos] {
		case '-':
			on = false
		case 'i':
			flags.fold = on
		case 'm':
			flags.dotAll = on
		case ')', ':':
			return flags, nil
		default:
			return flags, p.unsupported("the option " + quote(string(p.src[p.pos])))
		}
	}
	return flags, p.malformed("the end inside (?", "options, then : or )")
}

// atom reads one thing that a quantifier may follow. lit is its character if
// it is a literal, else -1; anchor is set where no text is consumed.
func (p *onig) atom(flags onigFlags) (out string, lit rune, anchor bool, err error) {
	c := p.src[p.pos]
	switch c {
	case '(':
		out, anchor, err = p.group(flags)
		return out, -1, anchor, err
	case '[':
		set, err := p.class(flags.fold)
		return set.pattern(), -1, false, err
	case '.':
		p.pos++
		set := oneRune('\n').negate()
		if flags.dotAll {
			set = charset(nil).negate()
		}
		return set.pattern(), -1, false, nil
	case '^':
		p.pos++
		return `(?:(?<![\s\S])|(?<=\n)(?=[\s\S]))`, -1, true, nil
	case '$':
		p.pos++
		return `(?:(?=\n)|(?![\s\S]))`, -1, true, nil
	case '*', '+', '?':
		return "", -1, false, p.malformed("a quantifier with nothing before it", `\`+string(c))
	case '\\':
		return p.escape(flags)
	}
	p.pos++
	out, err = p.literal(c, flags)
	return out, c, false, err
}

func (p *onig) literal(c rune, flags onigFlags) (string, error) {
	if !flags.fold {
		return oneRune(c).pattern(), nil
	}
	if foldsToSeveral(c) {
		p.pos--
		return "", p.unsupported("case folding of " + quote(string(c)) + ", which equals several characters,")
	}
	return oneRune(c).fold().pattern(), nil
}

func (p *onig) group(flags onigFlags) (out string, anchor bool, err error) {
	open := ""
	switch {
	case p.accept("(?#"):
		for p.more() && p.src[p.pos] != ')' {
			p.pos++
		}
		if !p.accept(")") {
			return "", false, p.malformed("the end inside a comment", ")")
		}
		return "", true, nil
	case p.accept("(?:"):
		open = "(?:"
	case p.accept("(?>"):
		open = "(?>"
	case p.accept("(?="):
		open, anchor = "(?=", true
	case p.accept("(?!"):
		open, anchor = "(?!", true
	case p.accept("(?<="):
		open, anchor = "(?<=", true
	case p.accept("(?<!"):
		open, anchor = "(?<!", true
	case p.peek("(?<"), p.peek("(?'"):
		closing := ">"
		if p.peek("(?'") {
			closing = "'"
		}
		p.pos += 3
		for p.more() && !p.peek(closing) {
			p.pos++
		}
		if !p.accept(closing) {
			return "", false, p.malformed("the end inside the name of a group", closing)
		}
		open = "(?:" // no back-reference can ask for the name
	case p.accept("(?"):
		if flags, err = p.options(flags); err != nil {
			return "", false, err
		}
		if !p.accept(":") {
			return "", false, p.unsupported("this kind of group")
		}
		open = "(?:"
	default:
		p.pos++
		open = "(?:"
	}
	body, err := p.alternation(flags)
	if err != nil {
		return "", false, err
	}
	if !p.accept(")") {
		return "", false, p.malformed("the end inside a group", ")")
	}
	return open + body + ")", anchor, nil
}

// quantifier reads one quantifier; a possessive one ends in "+possessive".
func (p *onig) quantifier() (string, bool, error) {
	if !p.more() {
		return "", false, nil
	}
	switch c := p.src[p.pos]; c {
	case '*', '+', '?':
		p.pos++
		switch {
		case p.accept("?"):
			return string(c) + "?", true, nil
		case p.accept("+"):
			return string(c) + "+possessive", true, nil
		}
		return string(c), true, nil
	case '{':
		start := p.pos
		p.pos++
		low, hasLow := p.integer()
		high, hasHigh := low, hasLow
		comma := p.accept(",")
		if comma {
			high, hasHigh = p.integer()
		}
		if !p.accept("}") || !hasLow && !hasHigh {
			p.pos = start
			return "", false, nil // a literal brace
		}
		if low > 100000 || high > 100000 {
			p.pos = start
			return "", false, p.malformed("a repetition above 100000", "a smaller one")
		}
		if hasHigh && low > high {
			p.pos = start
			return "", false, p.unsupported("a repetition from high to low")
		}
		q := "{" + strconv.Itoa(low) + "}"
		if comma {
			q = "{" + strconv.Itoa(low) + ","
			if hasHigh {
				q += strconv.Itoa(high)
			}
			q += "}"
			// {n}? makes the repetition optional; only {n,m}? is lazy.
			if p.accept("?") {
				q += "?"
			}
		}
		return q, true, nil
	}
	return "", false, nil
}

func (p *onig) integer() (int, bool) {
	n, start := 0, p.pos
	for p.more() && p.src[p.pos] >= '0' && p.src[p.pos] <= '9' {
		n = min(n*10+int(p.src[p.pos]-'0'), 1<<30)
		p.pos++
	}
	return n, p.pos > start
}

// escape reads a backslash outside a class.
func (p *onig) escape(flags onigFlags) (out string, lit rune, anchor bool, err error) {
	if p.pos+1 >= len(p.src) {
		return "", -1, false, p.malformed("a backslash at the end", `\\`)
	}
	word := loneWordSet().pattern
	switch p.src[p.pos+1] {
	case 'A':
		p.pos += 2
		return `(?<![\s\S])`, -1, true, nil
	case 'z':
		p.pos += 2
		return `(?![\s\S])`, -1, true, nil
	case 'Z':
		p.pos += 2
		return `(?=\n?(?![\s\S]))`, -1, true, nil
	case 'b':
		p.pos += 2
		return "(?:(?<=" + word() + ")(?!" + word() + ")|(?<!" + word() + ")(?=" + word() + "))", -1, true, nil
	case 'B':
		p.pos += 2
		return "(?:(?<=" + word() + ")(?=" + word() + ")|(?<!" + word() + ")(?!" + word() + "))", -1, true, nil
	case 'R':
		p.pos += 2
		newline := newCharset([]runeRange{{'\n', '\r'}, {0x85, 0x85}, {0x2028, 0x2029}})
		return `(?:\r\n|(?!\r\n)` + newline.pattern() + ")", -1, false, nil
	}
	set, c, err := p.classEscape(loneWordSet)
	if err != nil {
		return "", -1, false, err
	}
	if c < 0 {
		return set.pattern(), -1, false, nil
	}
	out, err = p.literal(c, flags)
	return out, c, false, err
}

// pattern writes the set as a class of regexp2.
func (c charset) pattern() string {
	if len(c) == 0 {
		return `(?:(?!))` // a class that nothing is in
	}
	var b strings.Builder
	b.WriteByte('[')
	for _, r := range c {
		writeClassRune(&b, r.lo)
		if r.hi > r.lo {
			b.WriteByte('-')
			writeClassRune(&b, r.hi)
		}
	}
	b.WriteByte(']')
	return b.String()
}

func writeClassRune(b *strings.Builder, r rune) {
	if r < 0x80 {
		fmt.Fprintf(b, `\x%02X`, r)
		return
	}
	b.WriteRune(r)
}

// foldsToSeveral reports whether full case folding maps the character to more
// than one, as ß to ss; simple folding cannot express that.
func foldsToSeveral(r rune) bool {
	switch {
	case r == 0xDF, r == 0x130, r == 0x149, r == 0x1F0, r == 0x390, r == 0x3B0, r == 0x587,
		r >= 0x1E96 && r <= 0x1E9E, r >= 0x1F50 && r <= 0x1FFC, r >= 0xFB00 && r <= 0xFB17:
		return true
	}
	return false
}

// foldsTogether reports whether two letters in a row are the folding of one
// character: ß, ﬀ, ﬁ, ﬂ, ﬆ, or a letter with a mark.
func foldsTogether(a, b rune) bool {
	if a < 0x80 && b < 0x80 {
		switch strings.ToLower(string([]rune{a, b})) {
		case "ss", "ff", "fi", "fl", "st":
			return true
		}
		return false
	}
	return unicode.IsLetter(a) && (unicode.Is(unicode.M, b) || b == 0x2BE || a == 0x2BC || unicode.In(a, unicode.Greek, unicode.Armenian))
}
