package tokenizer

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"
)

// MaxJSONSize is the size in bytes of the largest tokenizer.json that Parse
// reads. The largest in use have some 35 MB.
const MaxJSONSize = 64 << 20

// maxID bounds token ids; the largest vocabularies in use have 2^18.
const maxID = 1<<24 - 1

// Parse reads a tokenizer.json. It keeps no reference to data. Errors are a
// *FormatError or an *UnsupportedError.
func Parse(data []byte) (*Tokenizer, error) {
	if len(data) > MaxJSONSize {
		return nil, &UnsupportedError{Offset: -1, Component: fmt.Sprintf("a file of %d bytes", len(data)), Supported: fmt.Sprintf("at most %d", MaxJSONSize)}
	}
	p := &parser{scanner: scanner{data: data}, t: &Tokenizer{added: map[string]int32{}, respelled: map[int]string{}}, at: map[string]int{}}
	if err := p.file(); err != nil {
		return nil, err
	}
	return p.t, nil
}

type parser struct {
	scanner
	t  *Tokenizer
	at map[string]int // where the value of each top-level key begins
}

// topLevel are the keys of the file, in the order of the format.
var topLevel = map[string]bool{"version": true, "truncation": true, "padding": true, "added_tokens": true, "normalizer": true,
	"pre_tokenizer": true, "post_processor": true, "decoder": true, "model": true}

// file reads the parts in the order in which they need each other: the model
// gives the ids of added tokens, those give the size of the vocabulary.
func (p *parser) file() error {
	err := p.object("", func(key []byte, off int) error {
		name := string(key)
		if !topLevel[name] {
			return &UnsupportedError{Path: join("", name), Offset: off, Component: "the key " + quote(name), Supported: "version, truncation, padding, added_tokens, normalizer, pre_tokenizer, post_processor, decoder, model"}
		}
		if _, dup := p.at[name]; dup {
			return duplicate("", name, off)
		}
		p.next()
		p.at[name] = p.pos
		if name == "model" {
			return p.model()
		}
		return p.skip(name, 1)
	})
	if err != nil {
		return err
	}
	if p.next(); p.pos < len(p.data) {
		return p.wrong("", "nothing after the closing brace")
	}
	if _, ok := p.at["model"]; !ok {
		return &FormatError{Path: "model", Offset: -1, Got: "nothing", Want: "a model of type BPE"}
	}
	for _, part := range []struct {
		key  string
		read func(*node) error
	}{
		{"version", p.version},
		{"normalizer", func(n *node) (err error) { p.t.normalizer, err = parseNormalizer(n); return err }},
		{"pre_tokenizer", func(n *node) (err error) { p.t.preTokenizer, err = parsePreTokenizer(n); return err }},
		{"decoder", func(n *node) (err error) { p.t.hasDecoder = true; p.t.decoders, err = parseDecoder(n); return err }},
	} {
		if err := p.component(part.key, part.read); err != nil {
			return err
		}
	}
	if err := p.addedTokens(); err != nil {
		return err
	}
	p.t.tritter = len(p.t.tokens) >= len(tritterSpecial) && slices.Equal(p.t.tokens[:len(tritterSpecial)], tritterSpecial[:])
	return p.component("post_processor", func(n *node) (err error) {
		p.t.template, err = parsePostProcessor(n, len(p.t.tokens))
		return err
	})
}

// component reads a part that may be absent or null.
func (p *parser) component(key string, read func(*node) error) error {
	off, ok := p.at[key]
	if !ok {
		return nil
	}
	p.pos, p.nodes = off, 0
	n, err := p.node(key, 1)
	if err != nil || n.kind == kindNull {
		return err
	}
	return read(n)
}

func (p *parser) version(n *node) error {
	if n.kind != kindString || n.text != "1.0" {
		return n.unsupported(`"1.0"`)
	}
	return nil
}

// model reads the model. Vocabulary and merges may come in either order.
func (p *parser) model() error {
	seen := map[string]bool{}
	small := &node{kind: kindObject, off: p.pos, path: "model", members: map[string]*node{}}
	vocabAt, mergesAt := -1, -1
	deferred := false // the merges were passed over
	err := p.object("model", func(key []byte, off int) error {
		name := string(key)
		if seen[name] {
			return duplicate("model", name, off)
		}
		seen[name] = true
		p.next()
		switch name {
		case "vocab":
			vocabAt = p.pos
			if t := small.members["type"]; t != nil && t.text != "BPE" {
				return p.skip("model.vocab", 2) // the type is the error to report
			}
			return p.vocab()
		case "merges":
			// They depend on the vocabulary and on the prefix.
			mergesAt = p.pos
			prefix := small.members["continuing_subword_prefix"]
			if deferred = vocabAt < 0 || prefix == nil || prefix.kind != kindNull; deferred {
				return p.skip("model.merges", 2)
			}
			return p.merges()
		}
		n, err := p.node(join("model", name), 2)
		small.members[name] = n
		return err
	})
	if err != nil {
		return err
	}
	f := small.fields()
	if n := f.opt("type"); n != nil && n.text != "BPE" {
		return n.unsupported("BPE")
	}
	m := &p.t.model
	f.noDropout()
	m.unk, m.hasUnk = f.strOrNull("unk_token")
	m.prefix, _ = f.strOrNull("continuing_subword_prefix")
	m.suffix, _ = f.strOrNull("end_of_word_suffix")
	flag := func(key string) bool { return f.nullable(key) != nil && f.bool(key) }
	m.fuseUnk, m.byteFallback, m.ignoreMerges = flag("fuse_unk"), flag("byte_fallback"), flag("ignore_merges")
	if err := f.done(); err != nil {
		return err
	}
	switch {
	case vocabAt < 0:
		return &FormatError{Path: "model.vocab", Offset: small.off, Got: "nothing", Want: "an object of tokens and ids"}
	case mergesAt < 0:
		return &FormatError{Path: "model.merges", Offset: small.off, Got: "nothing", Want: "an array of merges"}
	}
	if deferred {
		end := p.pos
		p.pos = mergesAt
		if err := p.merges(); err != nil {
			return err
		}
		p.pos = end
	}
	m.prepare()
	return nil
}

func (f *fields) noDropout() {
	n := f.nullable("dropout")
	if n == nil {
		return
	}
	v, err := strconv.ParseFloat(n.text, 64)
	if n.kind != kindNumber || err != nil {
		f.fail(n.wrong("null or a number"))
	} else if v != 0 {
		f.fail(&UnsupportedError{Path: n.path, Offset: n.off, Component: "dropout " + n.describe(), Supported: "null or 0: encoding is deterministic"})
	}
}

func (f *fields) strOrNull(key string) (string, bool) {
	if f.nullable(key) == nil {
		return "", false
	}
	return f.str(key), true
}

// vocab reads the tokens and ids of the model.
func (p *parser) vocab() error {
	// An entry takes some 15 bytes; a guess that is too low only costs time.
	vocab := make(map[string]int32, min(len(p.data)-p.pos, 4<<20)/64)
	err := p.object("model.vocab", func(key []byte, off int) error {
		token := string(key)
		if n := p.next(); n < '0' || n > '9' {
			return p.wrong(join("model.vocab", quote(token)), "an id: an integer from 0 to "+strconv.Itoa(maxID))
		}
		id, err := p.id("model.vocab")
		if err != nil {
			return err
		}
		before := len(vocab)
		if vocab[token] = int32(id); len(vocab) == before {
			return duplicate("model.vocab", token, off)
		}
		return nil
	})
	if err != nil {
		return err
	}
	greatest := -1
	for _, id := range vocab {
		greatest = max(greatest, int(id))
	}
	// Tables are indexed by id: a few entries must not make them huge.
	if limit := 16*len(vocab) + 1<<16; greatest >= limit {
		return &UnsupportedError{Path: "model.vocab", Offset: -1, Component: fmt.Sprintf("id %d among %d tokens", greatest, len(vocab)),
			Supported: fmt.Sprintf("ids below %d for so few", limit)}
	}
	p.t.model.vocab = vocab
	p.t.grow(greatest + 1)
	for token, id := range vocab {
		if p.t.flags[id]&present != 0 {
			a, b := p.t.tokens[id], token
			if a > b {
				a, b = b, a
			}
			return &FormatError{Path: "model.vocab", Offset: -1, Got: fmt.Sprintf("id %d for both %s and %s", id, quote(a), quote(b)), Want: "an id of its own for each token"}
		}
		p.t.tokens[id], p.t.flags[id] = token, present
	}
	return nil
}

func (t *Tokenizer) grow(size int) {
	if size > len(t.tokens) {
		t.tokens = append(t.tokens, make([]string, size-len(t.tokens))...)
		t.flags = append(t.flags, make([]tokenFlags, size-len(t.flags))...)
	}
}

// merges reads ["a", "b"] pairs or "a b" strings, the best first. Where a pair
// occurs twice, the later rank counts, as in the tokenizers library.
func (p *parser) merges() error {
	type merge struct{ left, right, id int32 }
	var list []merge
	vocab := p.t.model.vocab
	prefix := p.t.model.prefix
	var joined []byte
	lookup := func(i int, off int, token []byte) (int32, error) {
		id, ok := vocab[string(token)]
		if !ok {
			return 0, &FormatError{Path: element("model.merges", i), Offset: off, Got: quote(string(token)), Want: "a token of model.vocab"}
		}
		return id, nil
	}
	var pairs, lines bool
	err := p.array("model.merges", func(i int) error {
		var m merge
		var err error
		isLine := p.next() == '"'
		off := p.pos
		pairs, lines = pairs || !isLine, lines || isLine
		if pairs && lines {
			return p.wrong(element("model.merges", i), "merges all as pairs, or all as strings")
		}
		var right []byte
		if isLine {
			line, err := p.str("model.merges")
			if err != nil {
				return err
			}
			if bytes.HasPrefix(line, []byte("#version")) {
				return nil
			}
			left, rest, ok := bytes.Cut(line, []byte(" "))
			if right = rest; !ok || bytes.IndexByte(right, ' ') >= 0 {
				return &FormatError{Path: element("model.merges", i), Offset: off, Got: quote(string(line)), Want: "two tokens with one space between"}
			}
			if m.left, err = lookup(i, off, left); err != nil {
				return err
			}
		} else if right, err = p.pair(i, func(left []byte) (err error) {
			m.left, err = lookup(i, off, left)
			return err
		}); err != nil {
			return err
		}
		if m.right, err = lookup(i, off, right); err != nil {
			return err
		}
		if len(right) < len(prefix) {
			return &FormatError{Path: element("model.merges", i), Offset: off, Got: quote(string(right)), Want: "a token that begins with the continuing_subword_prefix " + quote(prefix)}
		}
		joined = append(append(joined[:0], p.t.tokens[m.left]...), right[len(prefix):]...)
		if !utf8.Valid(joined) {
			return &FormatError{Path: element("model.merges", i), Offset: off, Got: quote(string(right)), Want: "a token that begins with the continuing_subword_prefix " + quote(prefix)}
		}
		if m.id, err = lookup(i, off, joined); err != nil {
			return err
		}
		list = append(list, m)
		return nil
	})
	if err != nil {
		return err
	}
	table := newMergeTable(len(list))
	for rank, m := range list {
		*table.slot(m.left, m.right) = mergeEntry{m.left, m.right, uint32(rank), m.id}
	}
	p.t.model.merges = table
	return nil
}

// pair reads ["a", "b"]: it hands a to left, which must be done with it before
// b is read, and returns b.
func (p *parser) pair(i int, left func([]byte) error) ([]byte, error) {
	const want = "a pair of tokens"
	if p.next() != '[' {
		return nil, p.wrong(element("model.merges", i), want)
	}
	p.pos++
	a, err := p.str("model.merges")
	if err != nil {
		return nil, err
	}
	if err := left(a); err != nil {
		return nil, err
	}
	if p.next() != ',' {
		return nil, p.wrong(element("model.merges", i), want)
	}
	p.pos++
	p.space()
	b, err := p.str("model.merges")
	if err != nil {
		return nil, err
	}
	if p.next() != ']' {
		return nil, p.wrong(element("model.merges", i), want)
	}
	p.pos++
	return b, nil
}

// addedTokens reads the added tokens. The tokenizers library does not go by
// the id in the file: a token that the model knows keeps the id of the model,
// others are numbered from the number of tokens in the model. A file where
// that gives another id than it declares is refused.
func (p *parser) addedTokens() error {
	off, ok := p.at["added_tokens"]
	if !ok {
		return nil
	}
	p.pos = off
	t := p.t
	next := len(t.model.vocab)
	var raw, normalized []*addedToken
	err := p.array("added_tokens", func(i int) error {
		p.nodes = 0
		n, err := p.node(element("added_tokens", i), 2)
		if err != nil {
			return err
		}
		a, err := parseAddedToken(n)
		if err != nil {
			return err
		}
		if a.content == "" {
			return nil // the tokenizers library passes over it
		}
		if _, dup := t.added[a.content]; dup {
			return n.members["content"].wrong("every added token once")
		}
		id, known := t.model.vocab[a.content]
		if !known {
			id = int32(next)
			next++
		}
		idNode := n.members["id"]
		if int(id) != a.id {
			return idNode.wrong(fmt.Sprintf("%d for %s: the id in model.vocab or, for tokens that are not in it, the next after its %d entries; save the file anew with the tokenizers library", id, quote(a.content), len(t.model.vocab)))
		}
		t.grow(a.id + 1)
		if !known && t.flags[a.id]&present != 0 {
			return &FormatError{Path: idNode.path, Offset: idNode.off, Got: t.describeID(a.id), Want: "an id of its own for each token"}
		}
		t.added[a.content] = id
		t.tokens[a.id] = a.content
		t.flags[a.id] |= present
		if a.special {
			t.flags[a.id] |= special
		}
		if a.normalized {
			normalized = append(normalized, &a)
		} else {
			raw = append(raw, &a)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.raw, err = newAddedMatcher(raw, func(a *addedToken) (string, error) { return a.content, nil }); err != nil {
		return err
	}
	t.normalized, err = newAddedMatcher(normalized, func(a *addedToken) (string, error) {
		n := piece{text: a.content}
		if t.normalizer != nil {
			if err := t.normalizer.normalize(&n); err != nil {
				return "", err
			}
		}
		if n.text != a.content {
			t.respelled[a.id] = n.text
		}
		return n.text, nil
	})
	if err != nil {
		return err
	}
	for _, id := range t.added {
		spelling, ok := t.respelled[int(id)]
		if !ok {
			spelling = t.tokens[id]
		}
		if other, ok := t.added[spelling]; ok && t.flags[other]&special != 0 {
			t.flags[id] |= skipped
		}
	}
	return nil
}
