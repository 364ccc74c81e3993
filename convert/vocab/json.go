package vocab

import (
	"bytes"
	"strconv"
)

// MaxSize is the size in bytes of the largest file that is read, and of the
// largest tokenizer.json that is made of one: what tokenizer.Parse takes. The
// largest vocabularies in use have some 5 MB and become 35 MB.
const MaxSize = 64 << 20

// MaxTokens is the number of tokens that a vocabulary may have. The largest in
// use have 2^18.
const MaxTokens = 1 << 19

// addedToken is a token that is cut out of the text before the model sees it.
type addedToken struct {
	id         int
	content    []byte
	special    bool
	normalized bool // sought in normalized text
}

// file is a tokenizer.json to be written. Its components are JSON.
type file struct {
	added         []addedToken
	normalizer    string
	preTokenizer  string
	postProcessor string
	decoder       string
	options       string // of the model, in front of its vocabulary
	tokens        [][]byte
	ids           []int // of tokens; nil where a token's id is its index
	extra         []addedToken
	merges        []merge
	spell         func(dst, token []byte) []byte // appends a token as a JSON string
}

// write returns the file, or false where it would be larger than MaxSize.
func (f *file) write() ([]byte, bool) {
	size := 4096 + len(f.options) + 160*(len(f.added)+len(f.extra))
	for _, t := range f.tokens {
		size += len(t) + len(`"":1234567,`)
	}
	for _, m := range f.merges {
		size += len(f.tokens[m.token]) + mergeBytes
	}
	out := make([]byte, 0, min(size+size/16, MaxSize))
	out = append(out, `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[`...)
	for i, a := range f.added {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(strconv.AppendInt(append(out, `{"id":`...), int64(a.id), 10), `,"content":`...)
		out = append(appendString(out, a.content), `,"single_word":false,"lstrip":false,"rstrip":false,"normalized":`...)
		out = append(strconv.AppendBool(out, a.normalized), `,"special":`...)
		out = append(strconv.AppendBool(out, a.special), '}')
		if len(out) > MaxSize {
			return nil, false
		}
	}
	out = append(out, ']')
	for _, c := range []struct{ key, value string }{
		{"normalizer", f.normalizer}, {"pre_tokenizer", f.preTokenizer}, {"post_processor", f.postProcessor}, {"decoder", f.decoder},
	} {
		out = append(append(append(append(out, `,"`...), c.key...), `":`...), c.value...)
	}
	out = append(append(out, `,"model":{"type":"BPE","dropout":null,`...), f.options...)
	out = append(out, `,"vocab":{`...)
	for i, t := range f.tokens {
		if i > 0 {
			out = append(out, ',')
		}
		id := i
		if f.ids != nil {
			id = f.ids[i]
		}
		out = strconv.AppendInt(append(f.spell(out, t), ':'), int64(id), 10)
		if len(out) > MaxSize {
			return nil, false
		}
	}
	for _, a := range f.extra {
		out = strconv.AppendInt(append(appendString(append(out, ','), a.content), ':'), int64(a.id), 10)
	}
	out = append(out, `},"merges":[`...)
	for i, m := range f.merges {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(f.spell(append(out, '['), f.tokens[m.left]), ',')
		out = append(f.spell(out, f.tokens[m.right]), ']')
		if len(out) > MaxSize {
			return nil, false
		}
	}
	out = append(out, `]}}`...)
	return out, len(out) <= MaxSize
}

// appendString appends UTF-8 as a JSON string.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for len(s) > 0 {
		n := bytes.IndexFunc(s, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' })
		if n < 0 {
			n = len(s)
		}
		dst = append(dst, s[:n]...)
		if s = s[n:]; len(s) > 0 {
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[s[0]>>4], hex[s[0]&15])
			s = s[1:]
		}
	}
	return append(dst, '"')
}

// template is the post-processor that puts a token in front of the text.
func template(id int, token []byte) string {
	name := string(appendString(nil, token))
	return `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":` + name + `,"type_id":0}},{"Sequence":{"id":"A","type_id":0}}],` +
		`"pair":[{"SpecialToken":{"id":` + name + `,"type_id":0}},{"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":` + name + `,"type_id":1}},{"Sequence":{"id":"B","type_id":1}}],` +
		`"special_tokens":{` + name + `:{"id":` + name + `,"ids":[` + strconv.Itoa(id) + `],"tokens":[` + name + `]}}}`
}
