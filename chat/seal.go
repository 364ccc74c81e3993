package chat

import (
	"errors"
	"strings"

	"github.com/tritter-ai/tritter/tokenizer"
)

// seal is a template's source with every special token replaced by a private-use
// character of its own, its mark, that neither the source nor a message contains.
type seal struct {
	template *Template
	source   string
	marks    map[string]rune // by the spelling of the token
	tokens   map[rune]string // and back
	taken    map[rune]bool   // private-use characters that are in use
	next     rune
}

// The private-use characters of planes 15 and 16.
const (
	firstMark = 0xF0000
	lastMark  = 0x10FFFD
)

func isPrivate(r rune) bool { return r >= firstMark && r <= lastMark && r&0xFFFF <= 0xFFFD }

func newSeal(x *Template, messages []Message) (*seal, error) {
	s := &seal{template: x, marks: map[string]rune{}, tokens: map[rune]string{}, taken: map[rune]bool{}, next: firstMark}
	take := func(text string) {
		for _, r := range text {
			if isPrivate(r) {
				s.taken[r] = true
			}
		}
	}
	take(x.source)
	for _, spelling := range x.special {
		take(spelling)
	}
	for _, m := range messages {
		take(m.Content)
	}
	var err error
	s.source = literals(x.source, func(text string) string {
		var out strings.Builder
		for text != "" {
			token := ""
			for _, t := range x.special {
				if strings.HasPrefix(text, t) {
					token = t
					break
				}
			}
			if token == "" {
				out.WriteByte(text[0])
				text = text[1:]
				continue
			}
			if e := s.mark(token); e != nil {
				err = e
			}
			out.WriteRune(s.marks[token])
			text = text[len(token):]
		}
		return out.String()
	})
	for _, id := range []int{x.bos, x.eos} {
		if spelling, ok := x.tokenizer.Token(id); ok && err == nil {
			err = s.mark(spelling)
		}
	}
	return s, err
}

// fresh returns a private-use character that is in use nowhere.
func (s *seal) fresh() (rune, error) {
	for ; s.next <= lastMark; s.next++ {
		if isPrivate(s.next) && !s.taken[s.next] {
			s.next++
			return s.next - 1, nil
		}
	}
	return 0, errors.New("the messages use so many private-use characters of Unicode (planes 15 and 16) that none is left to mark special tokens; remove some")
}

func (s *seal) mark(token string) error {
	if _, ok := s.marks[token]; ok {
		return nil
	}
	r, err := s.fresh()
	if err == nil {
		s.marks[token], s.tokens[r] = r, token
	}
	return err
}

// mask replaces every character of the messages but white space by a private-use
// character of its own, the same for the same character, and returns the way back.
func (s *seal) mask(messages []Message) (masked []Message, back map[rune]rune, err error) {
	there := map[rune]rune{}
	back = map[rune]rune{}
	for _, m := range messages {
		m.Content = strings.Map(func(r rune) rune {
			if isSpace(r) {
				return r
			}
			if _, ok := there[r]; !ok && err == nil {
				if there[r], err = s.fresh(); err == nil {
					back[there[r]] = r
				}
			}
			return there[r]
		}, m.Content)
		masked = append(masked, m)
	}
	return masked, back, err
}

// parts cuts a rendered text at its marks, and at the tokens that the template put
// together, given by their ends.
func (s *seal) parts(text string, assembled map[int]int) (parts []tokenizer.Part) {
	from := 0
	token := func(start, end int, spelling string) {
		if from < start {
			parts = append(parts, tokenizer.Part{Text: text[from:start]})
		}
		id, _ := s.template.tokenizer.ID(spelling)
		parts = append(parts, tokenizer.Part{ID: id})
		from = end
	}
	for i, r := range text {
		if i < from {
			continue
		}
		if spelling, ok := s.tokens[r]; ok {
			token(i, i+len(string(r)), spelling)
		} else if end, ok := assembled[i]; ok {
			token(i, end, text[i:end])
		}
	}
	if from < len(text) {
		parts = append(parts, tokenizer.Part{Text: text[from:]})
	}
	return parts
}

// literals applies f to the stretches of a Jinja source that are text: what stands
// outside of its tags, and the insides of quoted strings.
func literals(source string, f func(string) string) string {
	var out strings.Builder
	for source != "" {
		at, open := nextTag(source)
		if at < 0 {
			out.WriteString(f(source))
			break
		}
		out.WriteString(f(source[:at]))
		source = source[at:]
		n := 0
		if open == "{#" {
			if n = strings.Index(source, "#}"); n < 0 {
				n = len(source)
			} else {
				n += 2
			}
			out.WriteString(source[:n])
		} else {
			n = tag(source, map[string]string{"{{": "}}", "{%": "%}"}[open], &out, f)
		}
		source = source[n:]
	}
	return out.String()
}

// nextTag returns where the next tag begins, and with what.
func nextTag(source string) (at int, open string) {
	at = -1
	for i := 0; i+1 < len(source); i++ {
		if source[i] == '{' && strings.IndexByte("{%#", source[i+1]) >= 0 {
			return i, source[i : i+2]
		}
	}
	return at, ""
}

// tag copies the tag at the front of source to out, its strings through f, and
// returns its length.
func tag(source, end string, out *strings.Builder, f func(string) string) int {
	out.WriteString(source[:2])
	for i := 2; i < len(source); {
		c := source[i]
		if c == '\'' || c == '"' {
			stop := i + 1
			for stop < len(source) && source[stop] != c {
				if source[stop] == '\\' {
					stop++
				}
				stop++
			}
			stop = min(stop, len(source))
			out.WriteByte(c)
			out.WriteString(f(source[i+1 : stop]))
			i = stop
			if i < len(source) {
				out.WriteByte(c)
				i++
			}
			continue
		}
		if strings.HasPrefix(source[i:], end) {
			out.WriteString(end)
			return i + len(end)
		}
		out.WriteByte(c)
		i++
	}
	return len(source)
}
