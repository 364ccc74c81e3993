package tokenizer

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMalformedJSON(t *testing.T) {
	for in, want := range map[string]string{
		``:                                  "at byte 0: got the end of the file, want an object",
		`[]`:                                "want an object",
		`{`:                                 "want a string",
		`{"model"`:                          `want ":"`,
		`{"model":}`:                        "want an object",
		`{"version":}`:                      "want a JSON value",
		`{"version":1 2}`:                   `want "," or "}"`,
		`{"version":"1.0",}`:                "want a string",
		`{"version":[1 2]}`:                 `want "," or "]"`,
		`{"version":[1,]}`:                  "want a JSON value",
		`{"version":tru}`:                   "want a JSON value",
		`{"version":01}`:                    "want a number",
		`{"version":1.}`:                    "want a number",
		`{"version":1e}`:                    "want a number",
		`{"version":-}`:                     "want a number",
		`{"version":"a`:                     "closing",
		`{"version":"\`:                     "closing",
		`{"version":"\x"}`:                  "an escape",
		`{"version":"\u12"}`:                "four hexadecimal digits",
		`{"version":"\ud800"}`:              "surrogate pair",
		`{"version":"\ud800\u0041"}`:        "surrogate pair",
		`{"version":"\udc00"}`:              "surrogate pair",
		"{\"version\":\"a\nb\"}":            "control characters",
		"{\"version\":\"\\n\nb\"}":          "control characters",
		"{\"version\":\"\xff\"}":            "UTF-8",
		"{\"version\":\"\\n\xff\"}":         "UTF-8",
		`{"version":"1.0","version":"1.0"}`: `"version" a second time`,
		`{"version":"1.0"}x`:                "after the closing brace",
		`{"padding":` + strings.Repeat("[", 200) + `}`:        "levels of nesting",
		`{"normalizer":` + strings.Repeat(`{"a":`, 200) + `}`: "levels of nesting",
	} {
		_, err := Parse([]byte(in))
		var malformed *FormatError
		require.ErrorAs(t, err, &malformed, in)
		require.ErrorContains(t, err, want, in)
	}
}

func TestStrings(t *testing.T) {
	tok, err := Parse([]byte(`{"model":{"vocab":{"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é":0},"merges":[]}}`))
	require.NoError(t, err)
	got, _ := tok.Token(0)
	require.Equal(t, "\"\\/\b\f\n\r\té😀é", got)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		s := scanner{data: marshal(t, want)}
		got, err := s.str("")
		require.NoError(t, err)
		require.Equal(t, want, string(got))
	})
}

// The scanner and encoding/json agree on what is JSON, except where this one
// is stricter.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,-2.5e+3,"\u0041\ud83d\ude00",true,false,null,{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := scanner{data: data}
		n, err := s.node("", 1)
		ok := err == nil && s.next() == 0 && s.pos >= len(data)
		if ok {
			require.True(t, json.Valid(data))
			s := scanner{data: data}
			require.NoError(t, s.skip("", 1))
			require.NotNil(t, n)
		}
	})
}

func TestRefusedFiles(t *testing.T) {
	model := bpeModel([]string{"a", "b", "ab"}, []string{"a", "b"})
	good := object{"version": "1.0", "truncation": object{"max_length": 1}, "padding": nil, "added_tokens": []object{}, "normalizer": nil,
		"pre_tokenizer": nil, "post_processor": nil, "decoder": nil, "model": model}
	require.Equal(t, []int{2}, encode(t, build(t, good), "ab"))
	special := templateJSON("<s> A", map[string]int{"<s>": 0})

	malformed := map[string]object{
		"model: got nothing":                     {"model": leaveOut},
		"an object of tokens and ids":            {"model": object{"merges": []string{}}},
		"an array of merges":                     {"model": object{"vocab": object{}}},
		"model.merges[0]":                        {"model": bpeModel([]string{"a", "b"}, []string{"a", "b"})},
		`want a token of model.vocab`:            {"model": bpeModel([]string{"a"}, []string{"a", "x"})},
		"all as pairs, or all as strings":        {"model": with(model, object{"merges": []any{"a b", []string{"a", "b"}}})},
		"two tokens with one space":              {"model": with(model, object{"merges": []string{"a  b"}})},
		`want a pair`:                            {"model": with(model, object{"merges": []any{[]string{"a", "b", "c"}}})},
		"continuing_subword_prefix":              {"model": with(model, object{"continuing_subword_prefix": "##"})},
		"id 1 for both":                          {"model": object{"vocab": object{"a": 1, "b": 1}, "merges": []string{}}},
		"an integer from 0":                      {"model": object{"vocab": object{"a": -1}, "merges": []string{}}},
		"an id":                                  {"model": object{"vocab": object{"a": 1.5}, "merges": []string{}}},
		"of at most 16777215":                    {"model": object{"vocab": object{"a": 1 << 24}, "merges": []string{}}},
		"model.dropout":                          {"model": with(model, object{"dropout": "x"})},
		"model.fuse_unk":                         {"model": with(model, object{"fuse_unk": 1})},
		"normalizer.type":                        {"normalizer": object{}},
		"normalizer at byte":                     {"normalizer": "NFC"},
		"normalizer.prepend":                     {"normalizer": object{"type": "Prepend"}},
		"normalizer.pattern":                     {"normalizer": object{"type": "Replace", "content": ""}},
		"strip_left":                             {"normalizer": object{"type": "Strip", "strip_right": true}},
		"add_prefix_space":                       {"pre_tokenizer": object{"type": "ByteLevel", "trim_offsets": true}},
		"one character":                          {"pre_tokenizer": object{"type": "Metaspace", "replacement": "ab"}},
		`"prepend_scheme": "never" beside it`:    {"pre_tokenizer": object{"type": "Metaspace", "replacement": "_", "add_prefix_space": false}},
		"pre_tokenizer.invert":                   {"pre_tokenizer": object{"type": "Split", "pattern": object{"String": "a"}, "behavior": "Isolated"}},
		"decoder.stop":                           {"decoder": stripPart(" ", 1, -1)},
		"added_tokens[0].special":                {"added_tokens": []object{{"id": 3, "content": "x", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false}}},
		"got 7, want 3":                          {"added_tokens": []object{added(7, "x", nil)}},
		"got 3, want 0":                          {"added_tokens": []object{added(3, "a", nil)}},
		"every added token once":                 {"added_tokens": []object{added(3, "x", nil), added(3, "x", nil)}},
		"of which the normalizer leaves nothing": {"normalizer": object{"type": "Strip", "strip_left": true, "strip_right": true}, "added_tokens": []object{added(3, " ", object{"normalized": true})}},
		"an id of its own":                       {"model": object{"vocab": object{"a": 0, "b": 2}, "merges": []string{}}, "added_tokens": []object{added(2, "x", nil)}},
		"a key of special_tokens":                {"post_processor": with(special, object{"special_tokens": object{}})},
		"below 3":                                {"post_processor": templateJSON("<s> A", map[string]int{"<s>": 3})},
		`"A", or "B" in the template of a pair`:  {"post_processor": with(special, object{"single": []object{{"Sequence": object{"id": "B", "type_id": 0}}}})},
		"as many tokens as ids":                  {"post_processor": with(special, object{"special_tokens": object{"<s>": object{"id": "<s>", "ids": []int{0}, "tokens": []string{}}}})},
		`one key, "SpecialToken" or "Sequence"`:  {"post_processor": with(special, object{"single": []object{{}}})},
	}
	for want, change := range malformed {
		parts := with(good, change)
		if parts["model"] == leaveOut {
			delete(parts, "model")
		}
		_, err := Parse(marshal(t, parts))
		var e *FormatError
		require.ErrorAs(t, err, &e, want)
		require.ErrorContains(t, err, want)
	}

	unsupported := map[string]object{
		`"2.0" is not supported; supported: "1.0"`: {"version": "2.0"},
		`the key "extra"`:                          {"extra": 1},
		`"Unigram" is not supported`:               {"model": object{"type": "Unigram", "unk_id": 0, "vocab": [][]any{{"a", 0.5}}}},
		`"WordPiece" is not supported`:             {"model": object{"type": "WordPiece", "vocab": object{"a": 0}}},
		`the key "cache"`:                          {"model": with(model, object{"cache": 1})},
		`dropout 0.1`:                              {"model": with(model, object{"dropout": 0.1})},
		"id 16000000 among 1 tokens":               {"model": object{"vocab": object{"a": 16000000}, "merges": []string{}}},
		`"BertNormalizer" is not supported`:        {"normalizer": object{"type": "BertNormalizer"}},
		`"Precompiled"`:                            {"normalizer": sequenceOf("normalizers", object{"type": "Precompiled"})},
		`the key "mode"`:                           {"normalizer": object{"type": "NFC", "mode": 1}},
		`"UnicodeScripts"`:                         {"pre_tokenizer": object{"type": "UnicodeScripts"}},
		`"Sideways"`:                               {"pre_tokenizer": splitPart("String", "a", "Sideways", false)},
		`"sometimes"`:                              {"pre_tokenizer": metaspacePart("sometimes", true)},
		`the escape \K`:                            {"pre_tokenizer": splitPart("Regex", `\K`, "Isolated", false)},
		`"WordPiece" is not supported; supported: Sequence, ByteLevel`: {"decoder": object{"type": "WordPiece"}},
		`"RobertaProcessing"`:         {"post_processor": object{"type": "RobertaProcessing"}},
		"a second TemplateProcessing": {"post_processor": sequenceOf("processors", special, special)},
	}
	for want, change := range unsupported {
		_, err := Parse(marshal(t, with(good, change)))
		var e *UnsupportedError
		require.ErrorAs(t, err, &e, want)
		require.ErrorContains(t, err, want)
	}

	for _, dup := range []string{
		`{"model":{"vocab":{"a":0,"a":1},"merges":[]}}`,
		`{"model":{"vocab":{},"vocab":{},"merges":[]}}`,
		`{"model":{"vocab":{},"merges":[]},"normalizer":{"type":"NFC","type":"NFC"}}`,
	} {
		_, err := Parse([]byte(dup))
		require.ErrorContains(t, err, "a second time", dup)
	}
	_, err := Parse(bytes.Repeat([]byte(" "), MaxJSONSize+1))
	require.ErrorContains(t, err, "67108865 bytes")
}

// leaveOut stands for a member that is not there.
var leaveOut any = new(int)

func TestModelInAnyOrder(t *testing.T) {
	for _, in := range []string{
		`{"model":{"merges":[["a","b"]],"vocab":{"a":0,"b":1,"ab":2},"type":"BPE"}}`,
		`{"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},"version":"1.0"}`,
		`{"model":{"vocab":{"a":0,"##b":1,"ab":2},"merges":["a ##b"],"continuing_subword_prefix":"##"}}`,
		`{"model":{"continuing_subword_prefix":null,"dropout":0.0,"unk_token":null,"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"],"end_of_word_suffix":null}}`,
	} {
		tok, err := Parse([]byte(in))
		require.NoError(t, err, in)
		require.Equal(t, []int{2}, encode(t, tok, "ab"), in)
	}
}

// Every cut of a file is refused, and none is read as another file.
func TestEveryCutIsRefused(t *testing.T) {
	data, err := os.ReadFile("testdata/metaspace-llama2/tokenizer.json")
	require.NoError(t, err)
	data = bytes.TrimSpace(data)
	for n := range data {
		_, err := Parse(data[:n])
		var malformed *FormatError
		require.ErrorAs(t, err, &malformed)
	}
}

// A vocabulary of the size of Llama 3's. Twenty times what it takes.
func TestParseIsFast(t *testing.T) {
	if testing.Short() {
		t.Skip("a file of 12 MB")
	}
	data := syntheticJSON(128000)
	start := time.Now()
	tok, err := Parse(data)
	require.NoError(t, err)
	require.Less(t, time.Since(start), 3*time.Second)
	require.Equal(t, 128000, tok.VocabSize())
}
