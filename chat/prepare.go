package chat

import "strings"

// prepare rewrites a template so that gonja renders it as Jinja does in
// transformers' setting. Blocks and comments take the newline behind them
// (trim_blocks) and, where nothing else precedes them on their line, the blanks in
// front of them (lstrip_blocks): gonja has both, but also strips blanks in the
// middle of a line. And "a if c else b", which gonja knows at the outermost level
// of a tag only, becomes ((c) and [a] or [b])[0]: that has the same value, and
// evaluates only what it takes.
func prepare(source string) string {
	var out strings.Builder
	for from := 0; from < len(source); {
		at, open := nextTag(source[from:])
		if at < 0 {
			out.WriteString(source[from:])
			break
		}
		data, begin := source[from:from+at], from+at
		n := tagLength(source[begin:], open)
		tag := source[begin : begin+n]
		if open != "{{" && strings.IndexByte("+-", (tag + "  ")[2]) < 0 {
			line := strings.TrimRight(source[:begin], " \t")
			if line == "" || strings.HasSuffix(line, "\n") {
				data = data[:len(data)-min(len(data), begin-len(line))]
			}
		}
		out.WriteString(data)
		from = begin + n
		if isRaw(tag) {
			end := strings.Index(source[from:], "endraw")
			if end < 0 {
				end = len(source) - from
			} else {
				end = strings.LastIndex(source[from:from+end], "{%")
			}
			out.WriteString(tag + source[from:from+end])
			from += end
			continue
		}
		if open != "{#" {
			tag = tagConditionals(tag)
		}
		out.WriteString(tag)
		if open != "{{" && len(tag) > 2 && tag[len(tag)-3] != '+' && strings.HasPrefix(source[from:], "\n") {
			from++
		}
	}
	return out.String()
}

// tagLength returns the length of the tag at the front of source.
func tagLength(source, open string) int {
	if open == "{#" {
		if n := strings.Index(source, "#}"); n >= 0 {
			return n + 2
		}
		return len(source)
	}
	var copied strings.Builder
	return tag(source, map[string]string{"{{": "}}", "{%": "%}"}[open], &copied, func(s string) string { return s })
}

// isRaw reports whether a tag is {% raw %}.
func isRaw(tag string) bool {
	return strings.HasPrefix(tag, "{%") && strings.Trim(tag, "{}%-+ \t\r\n") == "raw"
}

// tagConditionals rewrites one tag, delimiters included.
func tagConditionals(tag string) string {
	if len(tag) < 4 || !strings.Contains(tag, "if") {
		return tag
	}
	r := &rewriter{code: tag[2 : len(tag)-2]}
	word := strings.TrimLeft(r.code, "-+ \t\r\n")
	whole := tag[:2] == "{{" || strings.HasPrefix(word, "set ") || strings.HasPrefix(word, "do ")
	return tag[:2] + r.group(0, whole) + tag[len(tag)-2:]
}

// rewriter reads the inside of a tag once.
type rewriter struct {
	code string
	at   int
}

// group rewrites up to the bracket that closes it, or to the end. In brackets, and
// in whole tags, conditionals count; in others (for ... if, if, elif) they do not.
func (r *rewriter) group(closing byte, whole bool) string {
	var out strings.Builder
	var s segment
	end := func(separator string) {
		out.WriteString(s.rewritten(closing != 0 || whole, closing != 0))
		out.WriteString(separator)
		s = segment{}
	}
	for r.at < len(r.code) {
		c := r.code[r.at]
		switch {
		case c == closing:
			r.at++
			end(string(c))
			return out.String()
		case c == '\'' || c == '"':
			from := r.at
			for r.at++; r.at < len(r.code) && r.code[r.at] != c; r.at++ {
				if r.code[r.at] == '\\' {
					r.at++
				}
			}
			r.at = min(r.at+1, len(r.code))
			s.text += r.code[from:r.at]
		case c == '(' || c == '[' || c == '{':
			r.at++
			s.text += string(c) + r.group(map[byte]byte{'(': ')', '[': ']', '{': '}'}[c], true)
		case c == ',' || c == ':' || c == '=' && !r.compares():
			r.at++
			end(string(c))
		case isWord(c):
			from := r.at
			for r.at < len(r.code) && isWord(r.code[r.at]) {
				r.at++
			}
			s.word(r.code[from:r.at])
		default:
			s.text += string(c)
			r.at++
		}
	}
	end("")
	return out.String()
}

// compares reports whether the = at hand is part of ==, !=, <= or >=.
func (r *rewriter) compares() bool {
	return r.at+1 < len(r.code) && r.code[r.at+1] == '=' || r.at > 0 && strings.IndexByte("=!<>", r.code[r.at-1]) >= 0
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// segment is an expression with its conditionals: parts[0] if parts[1] else
// parts[2] if ... , of which text is the last.
type segment struct {
	parts []string
	words []string // "if" or "else" between parts
	text  string
}

func (s *segment) word(w string) {
	if w != "if" && w != "else" {
		s.text += w
		return
	}
	s.parts, s.words, s.text = append(s.parts, s.text), append(s.words, w), ""
}

// rewritten returns the segment as gonja reads it; short says that a conditional
// without else is one too, with nothing as the other value.
func (s *segment) rewritten(conditional, short bool) string {
	parts := append(s.parts, s.text)
	plain := func() string {
		out := parts[0]
		for i, w := range s.words {
			out += w + parts[i+1]
		}
		return out
	}
	if !conditional || len(s.words) == 0 {
		return plain()
	}
	for i, w := range s.words {
		if w != []string{"if", "else"}[i%2] {
			return plain() // not a conditional: gonja says what is wrong
		}
	}
	if len(s.words)%2 == 1 {
		if !short {
			return plain()
		}
		parts = append(parts, "''")
	}
	lead, trail := parts[0], parts[len(parts)-1]
	first := strings.TrimLeft(lead, "-+ \t\r\n")
	if i := strings.Index(first, "set "); i == 0 {
		return plain() // set without =
	}
	prefix := lead[:len(lead)-len(first)]
	last := strings.TrimRight(trail, " \t\r\n-+")
	suffix := trail[len(last):]
	out := "[" + last + "]"
	for i := len(parts) - 3; i >= 0; i -= 2 {
		value := parts[i]
		if i == 0 {
			value = first
		}
		out = "[((" + parts[i+1] + ") and [" + value + "] or " + out + ")[0]]"
	}
	return prefix + out + "[0]" + suffix
}
