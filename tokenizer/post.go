package tokenizer

import "strconv"

// template is a TemplateProcessing for a single text: special tokens around
// the ids of the text, in any order and number.
type template []templatePart

// templatePart is the text where ids is nil.
type templatePart struct{ ids []int }

func (t template) apply(ids []int, addSpecial bool) []int {
	if !addSpecial && len(t) == 1 && t[0].ids == nil {
		return ids
	}
	out := []int{}
	for _, part := range t {
		switch {
		case part.ids == nil:
			out = append(out, ids...)
		case addSpecial:
			out = append(out, part.ids...)
		}
	}
	return out
}

// parsePostProcessor returns nil where the ids stay as they are.
func parsePostProcessor(n *node, vocabSize int) (*template, error) {
	f := n.fields()
	name := f.str("type")
	if f.err != nil {
		return nil, f.err
	}
	switch name {
	case "ByteLevel": // concerns offsets alone
		f.bool("add_prefix_space")
		f.bool("trim_offsets")
		f.boolOr("use_regex", true)
		return nil, f.done()
	case "Sequence":
		var found *template
		for _, e := range f.array("processors") {
			t, err := parsePostProcessor(e, vocabSize)
			if err != nil {
				return nil, err
			}
			if t != nil && found != nil {
				return nil, &UnsupportedError{Path: e.path, Offset: e.off, Component: "a second TemplateProcessing", Supported: "one"}
			}
			if t != nil {
				found = t
			}
		}
		return found, f.done()
	case "TemplateProcessing":
		special := f.need("special_tokens")
		if special.kind != kindObject && f.err == nil {
			f.fail(special.wrong("an object"))
		}
		single := parseTemplate(f, f.array("single"), special, vocabSize, false)
		parseTemplate(f, f.array("pair"), special, vocabSize, true)
		return &single, f.done()
	}
	return nil, f.need("type").unsupported("Sequence, TemplateProcessing, ByteLevel")
}

func parseTemplate(f *fields, parts []*node, special *node, vocabSize int, pair bool) template {
	t := template{}
	for _, n := range parts {
		outer := n.fields()
		if outer.err == nil && len(n.members) != 1 {
			outer.fail(n.wrong(`an object with one key, "SpecialToken" or "Sequence"`))
		}
		switch seq := outer.opt("Sequence"); {
		case outer.err != nil:
		case seq != nil:
			inner := seq.fields()
			id := inner.str("id")
			inner.count("type_id", maxID)
			if id != "A" && !(pair && id == "B") {
				inner.fail(inner.need("id").wrong(`"A", or "B" in the template of a pair`))
			}
			outer.fail(inner.done())
			t = append(t, templatePart{})
		default:
			tok := outer.need("SpecialToken")
			inner := tok.fields()
			id := inner.str("id")
			inner.count("type_id", maxID)
			if inner.err == nil && special.members[id] == nil {
				inner.fail(inner.need("id").wrong("a key of special_tokens"))
			}
			outer.fail(inner.done())
			if outer.err == nil {
				ids, err := parseSpecialToken(special.members[id], vocabSize)
				outer.fail(err)
				t = append(t, templatePart{ids})
			}
		}
		f.fail(outer.done())
	}
	return t
}

func parseSpecialToken(n *node, vocabSize int) ([]int, error) {
	f := n.fields()
	f.str("id")
	ids := []int{}
	for _, e := range f.array("ids") {
		id, err := strconv.Atoi(e.text)
		if e.kind != kindNumber || err != nil || id < 0 || id >= vocabSize {
			f.fail(e.wrong("the id of a token, below " + strconv.Itoa(vocabSize)))
		}
		ids = append(ids, id)
	}
	if tokens := f.array("tokens"); len(tokens) != len(ids) {
		f.fail(f.need("tokens").wrong("as many tokens as ids"))
	}
	return ids, f.done()
}
