package tokenizer

import (
	"strconv"
	"unicode"
	"unicode/utf8"
)

// class reads a bracket expression: items in any order are united, && cuts
// what stands left of it with what stands right, brackets nest. Case is folded
// in the end and once, in the outermost brackets, before they are negated.
func (p *onig) class(fold bool) (charset, error) {
	if p.depth++; p.depth > 100 {
		return nil, p.unsupported("a class more than 100 levels deep")
	}
	defer func() { p.depth-- }()
	p.pos++
	negated := p.accept("^")
	if p.peek("]") {
		return nil, p.unsupported("an empty class or a bare ] in front")
	}
	whole := charset(nil).negate()
	var items []runeRange
	for {
		switch {
		case !p.more():
			return nil, p.malformed("the end inside a class", "]")
		case p.accept("]"):
			set := whole.intersect(newCharset(items))
			if fold {
				if r, ok := set.severalFolds(); ok && !negated {
					p.pos--
					return nil, p.unsupported("case folding of a class that has " + quote(string(r)) + " in it, which equals several characters,")
				}
				set = set.fold()
			}
			if negated {
				set = set.negate()
			}
			return set, nil
		case p.accept("&&"):
			whole = whole.intersect(newCharset(items))
			items = nil
			if p.peek("]") {
				return nil, p.unsupported("&& with nothing after it")
			}
		case p.peek("[:"):
			set, ok, err := p.posixBracket()
			if err != nil {
				return nil, err
			}
			if !ok {
				if set, err = p.class(false); err != nil {
					return nil, err
				}
			}
			items = append(items, set...)
		case p.peek("["):
			set, err := p.class(false)
			if err != nil {
				return nil, err
			}
			items = append(items, set...)
		default:
			r, err := p.classItem()
			if err != nil {
				return nil, err
			}
			items = append(items, r...)
		}
	}
}

// severalFolds finds a member that equals several characters but for case: a
// class matches those too, unless it is negated.
func (c charset) severalFolds() (rune, bool) {
	for r := rune(0xDF); r <= 0xFB17; r++ {
		if foldsToSeveral(r) && c.contains(r) {
			return r, true
		}
	}
	return 0, false
}

// classItem reads a character, a range or a set written with a backslash.
func (p *onig) classItem() (charset, error) {
	set, lo, err := p.classChar()
	if err != nil || lo < 0 {
		return set, err
	}
	if !p.peek("-") || p.pos+1 >= len(p.src) || p.src[p.pos+1] == ']' {
		return oneRune(lo), nil
	}
	if p.src[p.pos+1] == '[' || p.src[p.pos+1] == '&' && p.pos+2 < len(p.src) && p.src[p.pos+2] == '&' {
		return nil, p.unsupported("a - between a character and a class")
	}
	p.pos++
	_, hi, err := p.classChar()
	if err != nil {
		return nil, err
	}
	if hi < 0 {
		return nil, p.unsupported("a range that ends in a class")
	}
	if hi < lo {
		return nil, p.malformed("a range from high to low", "the lower character first")
	}
	return newCharset([]runeRange{{lo, hi}}), nil
}

// classChar reads one member of a class: a set and -1, or a character.
func (p *onig) classChar() (charset, rune, error) {
	if c := p.src[p.pos]; c != '\\' {
		p.pos++
		return nil, c, nil
	}
	if p.pos+1 < len(p.src) && p.src[p.pos+1] == 'b' {
		p.pos += 2
		return nil, '\b', nil
	}
	return p.classEscape(wordSet)
}

// posixBracket reads [:name:] or [:^name:] inside a class; ok is false where
// that is only a nested class which begins with a colon.
func (p *onig) posixBracket() (set charset, ok bool, err error) {
	end := p.pos + 2
	for end < len(p.src) && (unicode.IsLetter(p.src[end]) || p.src[end] == '^') {
		end++
	}
	if end+1 >= len(p.src) || p.src[end] != ':' || p.src[end+1] != ']' {
		return nil, false, nil
	}
	name := string(p.src[p.pos+2 : end])
	set, err = p.property(name, wordSet)
	p.pos = end + 2
	return set, true, err
}

func (p *onig) property(name string, word func() charset) (charset, error) {
	bare, negated := name, false
	if len(name) > 0 && name[0] == '^' {
		bare, negated = name[1:], true
	}
	set, ok := propertySet(bare)
	if looseName(bare) == "word" {
		set = word()
	}
	if !ok {
		return nil, p.unsupported("the property " + quote(name))
	}
	if negated {
		set = set.negate()
	}
	return set, nil
}

// classEscape reads a backslash that means the same in and outside a class:
// a set and -1, or a character. word is what \w stands for here.
func (p *onig) classEscape(word func() charset) (charset, rune, error) {
	if p.pos+1 >= len(p.src) {
		return nil, -1, p.malformed("a backslash at the end", `\\`)
	}
	c := p.src[p.pos+1]
	sets := map[rune]func() charset{'s': spaceSet, 'd': digitSet, 'w': word, 'h': xdigitSet}
	if set, ok := sets[c]; ok {
		p.pos += 2
		return set(), -1, nil
	}
	if set, ok := sets[unicode.ToLower(c)]; ok {
		p.pos += 2
		return set().negate(), -1, nil
	}
	switch c {
	case 'p', 'P':
		return p.propertyEscape(word)
	case 'n':
		c = '\n'
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'f':
		c = '\f'
	case 'v':
		c = '\v'
	case 'a':
		c = '\a'
	case 'e':
		c = 0x1B
	case 'x', 'u':
		return p.hexEscape()
	default:
		if c < 0x80 && (unicode.IsLetter(c) || unicode.IsDigit(c)) {
			return nil, -1, p.unsupported(`the escape \` + string(c))
		}
	}
	p.pos += 2
	return nil, c, nil
}

func (p *onig) propertyEscape(word func() charset) (charset, rune, error) {
	end := p.pos + 2
	for end < len(p.src) && p.src[end] != '}' {
		end++
	}
	if end >= len(p.src) || p.src[p.pos+2] != '{' {
		return nil, -1, p.unsupported(`\p without braces`)
	}
	set, err := p.property(string(p.src[p.pos+3:end]), word)
	if err != nil {
		return nil, -1, err
	}
	if p.src[p.pos+1] == 'P' {
		set = set.negate()
	}
	p.pos = end + 1
	return set, -1, nil
}

// hexEscape reads \xHH, \x{H...} or \uHHHH.
func (p *onig) hexEscape() (charset, rune, error) {
	start := p.pos + 2
	end := start
	digits := 2
	braces := false
	if p.src[p.pos+1] == 'u' {
		digits = 4
	} else if end < len(p.src) && p.src[end] == '{' {
		braces, digits = true, 8
		start, end = start+1, end+1
	}
	for end < len(p.src) && end-start < digits && unicode.Is(unicode.ASCII_Hex_Digit, p.src[end]) {
		end++
	}
	v, err := strconv.ParseUint(string(p.src[start:end]), 16, 32)
	bad := err != nil || !braces && p.src[p.pos+1] == 'u' && end-start != 4 || !utf8.ValidRune(rune(v))
	if braces && !bad {
		bad = end >= len(p.src) || p.src[end] != '}'
		end++
	}
	// In \x80 and above Oniguruma reads raw bytes of UTF-8.
	if !bad && !braces && digits == 2 && v >= 0x80 {
		return nil, -1, p.unsupported(`a raw byte \x80 or above`)
	}
	if bad {
		return nil, -1, p.malformed("an escape that names no character", `\xHH, \x{H...} or \uHHHH`)
	}
	p.pos = end
	return nil, rune(v), nil
}
