package tokenizer

import (
	"encoding/json"

	"github.com/stretchr/testify/require"
)

// object is JSON in the making.
type object = map[string]any

// bpeModel is a model part whose vocabulary is numbered in order.
func bpeModel(tokens []string, merges ...[]string) object {
	vocab := object{}
	for i, t := range tokens {
		vocab[t] = i
	}
	if merges == nil {
		merges = [][]string{}
	}
	return object{"type": "BPE", "vocab": vocab, "merges": merges}
}

// chars splits a string into its characters.
func chars(s string) []string {
	var out []string
	for _, r := range s {
		out = append(out, string(r))
	}
	return out
}

// with returns a copy of an object with more members.
func with(o object, more object) object {
	out := object{}
	for k, v := range o {
		out[k] = v
	}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	require.TestingT
	Helper()
}

func marshal(t tester, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	require.NoError(t, err)
	return data
}

// build parses a tokenizer of the given parts.
func build(t tester, parts object) *Tokenizer {
	t.Helper()
	tok, err := Parse(marshal(t, parts))
	require.NoError(t, err)
	return tok
}

func added(id int, content string, more object) object {
	return with(object{"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}, more)
}

func metaspacePart(scheme string, split bool) object {
	return object{"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
}

func sequenceOf(key string, parts ...object) object {
	return object{"type": "Sequence", key: append([]object{}, parts...)}
}

func splitPart(kind, pattern, behavior string, invert bool) object {
	return object{"type": "Split", "pattern": object{kind: pattern}, "behavior": behavior, "invert": invert}
}

func byteLevelPart(prefixSpace, useRegex bool) object {
	return object{"type": "ByteLevel", "add_prefix_space": prefixSpace, "trim_offsets": true, "use_regex": useRegex}
}

// piecesOf shows what reaches the model; added tokens in brackets.
func piecesOf(t tester, tok *Tokenizer, text string) []string {
	t.Helper()
	pieces, err := tok.pieces(lossy(text), true)
	require.NoError(t, err)
	out := []string{}
	for _, p := range pieces {
		if p.id >= 0 {
			out = append(out, "["+tok.tokens[p.id]+"]")
		} else {
			out = append(out, p.text)
		}
	}
	return out
}

func encode(t tester, tok *Tokenizer, text string) []int {
	t.Helper()
	ids, err := tok.Encode(text, EncodeOptions{})
	require.NoError(t, err)
	return ids
}

// spell shows ids as tokens.
func spell(t tester, tok *Tokenizer, ids []int) []string {
	t.Helper()
	out := []string{}
	for _, id := range ids {
		s, ok := tok.Token(id)
		require.True(t, ok)
		out = append(out, s)
	}
	return out
}
