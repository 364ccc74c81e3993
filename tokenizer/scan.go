package tokenizer

import "unicode/utf8"

// The patterns that nearly every byte-level vocabulary uses, spelled as the
// files spell them.
const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scanners run those patterns by hand. Each returns the end of the match that
// begins at the front of a text that is not empty; there always is one.
var scanners = map[string]scanFunc{
	patternGPT2:   scanGPT2,
	patternLlama3: func(text string) int { return scanLlama3(text, 3) },
	patternQwen2:  func(text string) int { return scanLlama3(text, 1) },
}

type scanFunc func(text string) int

func (scan scanFunc) spans(dst []span, text string) ([]span, error) {
	for at := 0; at < len(text); {
		end := at + scan(text[at:])
		dst = append(dst, span{at, end, true})
		at = end
	}
	return dst, nil
}

type class uint8

const (
	classOther class = iota // [^\s\p{L}\p{N}]
	classLetter
	classNumber
	classSpace
)

var asciiClass = func() (table [utf8.RuneSelf]class) {
	for r := range table {
		table[r] = unicodeClass(rune(r))
	}
	return table
}()

func unicodeClass(r rune) class {
	switch {
	case isLetter(r):
		return classLetter
	case isNumber(r):
		return classNumber
	case isSpace(r):
		return classSpace
	}
	return classOther
}

// classAt classifies the character at i and gives its length, 0 at the end.
func classAt(text string, i int) (class, int) {
	if i >= len(text) {
		return classOther, 0
	}
	if c := text[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(text[i:])
	return unicodeClass(r), n
}

// run returns the end of the run of a class that begins at i.
func run(text string, i int, of class) int {
	for {
		c, n := classAt(text, i)
		if n == 0 || c != of {
			return i
		}
		i += n
	}
}

func scanGPT2(text string) int {
	if n := contraction(text, false); n > 0 {
		return n
	}
	first, n := classAt(text, 0)
	if text[0] == ' ' {
		if c, _ := classAt(text, 1); len(text) > 1 && c != classSpace {
			return run(text, 1, c)
		}
	}
	if first != classSpace {
		return run(text, n, first)
	}
	return blank(text)
}

func scanLlama3(text string, digits int) int {
	if n := contraction(text, true); n > 0 {
		return n
	}
	first, n := classAt(text, 0)
	switch first {
	case classLetter:
		return run(text, n, classLetter)
	case classNumber:
		for digits--; digits > 0; digits-- {
			c, size := classAt(text, n)
			if size == 0 || c != classNumber {
				break
			}
			n += size
		}
		return n
	}
	newline := text[0] == '\r' || text[0] == '\n'
	second, size := classAt(text, n)
	if !newline && size > 0 && second == classLetter {
		return run(text, n, classLetter)
	}
	if first == classOther || text[0] == ' ' && size > 0 && second == classOther {
		end := run(text, n, classOther)
		for end < len(text) && (text[end] == '\r' || text[end] == '\n') {
			end++
		}
		return end
	}
	// \s*[\r\n]+ reaches to the last line break of the run of white space.
	for i := run(text, 0, classSpace); i > 0; i-- {
		if text[i-1] == '\r' || text[i-1] == '\n' {
			return i
		}
	}
	return blank(text)
}

// blank matches \s+(?!\S)|\s+: a run of white space, less its last character
// where something follows and more than one is there.
func blank(text string) int {
	end, last := 0, 0
	for {
		c, n := classAt(text, end)
		if n == 0 {
			return end
		}
		if c != classSpace {
			break
		}
		end, last = end+n, end
	}
	if last > 0 {
		return last
	}
	return end
}

// contraction matches 's 't 're 've 'm 'll 'd at the front of the text.
func contraction(text string, fold bool) int {
	if len(text) < 2 || text[0] != '\'' {
		return 0
	}
	lower := func(i int) byte {
		if i >= len(text) {
			return 0
		}
		if c := text[i]; fold && c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return text[i]
	}
	switch lower(1) {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if lower(2) == 'e' {
			return 3
		}
	case 'l':
		if lower(2) == 'l' {
			return 3
		}
	case 0xC5:
		// U+017F, the long s, is an s but for case.
		if fold && lower(2) == 0xBF {
			return 3
		}
	}
	return 0
}
