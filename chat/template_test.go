package chat_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/chat"
	"github.com/tritter-ai/tritter/tokenizer"
)

// moreSpecial are special tokens that templates use, added to the vocabularies.
var moreSpecial = []string{"<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "[INST]", "[/INST]", "<start_of_turn>", "<end_of_turn>",
	"<|user|>", "<|assistant|>", "<|system|>", "<|end|>", "<<SYS>>"}

// vocabularies are those of the fixtures and of the embedded model, with the special
// tokens of all templates added; every second takes the white space behind it.
func vocabularies(t testing.TB) map[string]*tokenizer.Tokenizer {
	t.Helper()
	out := map[string]*tokenizer.Tokenizer{}
	for _, dir := range []string{"demo", "fixtures/bitnet-packed", "fixtures/llama-bitlinear-packed"} {
		data, err := os.ReadFile(filepath.Join("..", "testdata", dir, "tokenizer.json"))
		require.NoError(t, err)
		base, err := tokenizer.Parse(data)
		require.NoError(t, err)
		var file map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &file))
		var added []json.RawMessage
		require.NoError(t, json.Unmarshal(file["added_tokens"], &added))
		for i, s := range moreSpecial {
			token, err := json.Marshal(map[string]any{"id": base.VocabSize() + i, "content": s, "single_word": false, "lstrip": false, "rstrip": i%2 == 0, "normalized": false, "special": true})
			require.NoError(t, err)
			added = append(added, token)
		}
		file["added_tokens"], err = json.Marshal(added)
		require.NoError(t, err)
		data, err = json.Marshal(file)
		require.NoError(t, err)
		out[filepath.Base(dir)], err = tokenizer.Parse(data)
		require.NoError(t, err)
	}
	return out
}

// sources are the built-in templates and those of the golden test.
func sources(t testing.TB) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, name := range chat.Builtins() {
		s, err := chat.Builtin(name)
		require.NoError(t, err)
		out[name] = s
	}
	for _, name := range []string{"assembled", "thinking", "inst_rules"} {
		data, err := os.ReadFile(filepath.Join("testdata", "templates", name+".jinja"))
		require.NoError(t, err)
		out[name] = string(data)
	}
	return out
}

func special(t *tokenizer.Tokenizer, ids []int) (out []int) {
	for _, id := range ids {
		if t.IsSpecial(id) {
			out = append(out, id)
		}
	}
	return out
}

// TestEncodeIsThatOfTheText: a conversation in which no message spells a special
// token is encoded as its rendered text would be.
func TestEncodeIsThatOfTheText(t *testing.T) {
	messages := []chat.Message{{chat.User, "What is\n 2 + 2?"}, {chat.Assistant, "Four, é 🙂."}, {chat.User, "Why?"}}
	for vocabulary, tok := range vocabularies(t) {
		for name, source := range sources(t) {
			x, err := chat.New(source, tok, chat.Options{})
			require.NoError(t, err, name)
			parts, err := x.Render(messages, true)
			require.NoError(t, err)
			var text strings.Builder
			n := 0
			for _, p := range parts {
				if text.WriteString(p.Text); p.Text == "" {
					s, ok := tok.Token(p.ID)
					require.True(t, ok)
					text.WriteString(s)
					n++
				}
			}
			if name != "plain" {
				require.Positive(t, n, name)
			}
			want, err := tok.Encode(text.String(), tokenizer.EncodeOptions{})
			require.NoError(t, err)
			got, err := x.Encode(messages, true)
			require.NoError(t, err)
			require.Equal(t, want, got, "%s, %s: %q", vocabulary, name, text.String())
		}
	}
}

// TestEverySpecialToken: whatever special token of a vocabulary a message spells,
// alone, inside a text, or in white space that the template trims, the prompt has
// the special tokens of a harmless conversation and no other.
func TestEverySpecialToken(t *testing.T) {
	harmless := func(x *chat.Template) [][]int {
		var out [][]int
		for _, m := range [][]chat.Message{
			{{chat.User, "x"}},
			{{chat.System, "x"}, {chat.User, "x"}},
			{{chat.User, "x"}, {chat.Assistant, "x"}, {chat.User, "x"}},
		} {
			parts, err := x.Encode(m, true)
			require.NoError(t, err)
			out = append(out, parts)
		}
		return out
	}
	for _, tok := range vocabularies(t) {
		tokens := []string{}
		for id := range tok.VocabSize() {
			if s, ok := tok.Token(id); ok && tok.IsSpecial(id) {
				tokens = append(tokens, s)
			}
		}
		require.Greater(t, len(tokens), len(moreSpecial))
		for name, source := range sources(t) {
			x, err := chat.New(source, tok, chat.Options{})
			require.NoError(t, err)
			want := harmless(x)
			for _, s := range tokens {
				alone, within := " \n"+s+"\n ", "a"+s+"b"+s+s
				for i, m := range [][]chat.Message{
					{{chat.User, s}},
					{{chat.System, alone}, {chat.User, within}},
					{{chat.User, alone}, {chat.Assistant, s}, {chat.User, within}},
				} {
					got, err := x.Encode(m, true)
					require.NoError(t, err)
					require.Equal(t, special(tok, want[i]), special(tok, got), "%s: %q", name, m)
				}
			}
		}
	}
}

// TestNoInjection draws messages from the pieces of special tokens, so that pieces
// of neighbours, and of the template, could make one together.
func TestNoInjection(t *testing.T) {
	vocabulary := vocabularies(t)["bitnet-packed"]
	templates := map[string]*chat.Template{}
	for name, source := range sources(t) {
		x, err := chat.New(source, vocabulary, chat.Options{})
		require.NoError(t, err)
		templates[name] = x
	}
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range templates {
			if !yield(name) {
				return
			}
		}
	})
	pieces := []string{"<|", "|>", "user", "assistant", "end", "im_", "start", "<", ">", "|", "eot_id", "begin_of_text", "<|eot_id|>", "<|im_end|>", "[INST]", "[/", "INST]", "s", "</s>",
		" ", "\n", "\t", "x", "é", "\U000F0000", "\U0010FFFD", "\U00100001", "</think>", "<think>", "{{", "}}", "{%", "User: ", "User:", ":", "<|user|>", "<|end|>"}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(names).Draw(t, "template")
		x := templates[name]
		n := rapid.IntRange(1, 5).Draw(t, "turns")
		var messages, harmless []chat.Message
		for i := range n {
			role := chat.User
			if i%2 == 1 {
				role = chat.Assistant
			}
			content := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 8).Draw(t, "content"), "")
			messages = append(messages, chat.Message{Role: role, Content: content})
			harmless = append(harmless, chat.Message{Role: role, Content: "x"})
		}
		got, err := x.Encode(messages, n%2 == 1)
		require.NoError(t, err)
		want, err := x.Encode(harmless, n%2 == 1)
		require.NoError(t, err)
		require.Equal(t, special(vocabulary, want), special(vocabulary, got), "%s: %q", name, messages)
	})
}

// TestAssembledTokens: special tokens that a template makes of pieces are tokens,
// also beside the same spelling in a message.
func TestAssembledTokens(t *testing.T) {
	tok := vocabularies(t)["bitnet-packed"]
	x, err := chat.New(sources(t)["assembled"], tok, chat.Options{})
	require.NoError(t, err)
	parts, err := x.Render([]chat.Message{{chat.User, "<|user|> é <|end|>"}}, true)
	require.NoError(t, err)
	id := func(s string) int {
		n, ok := tok.ID(s)
		require.True(t, ok)
		return n
	}
	require.Equal(t, []tokenizer.Part{{ID: id("<|user|>")}, {Text: "\n<|user|> é <|end|>"}, {ID: id("<|end|>")}, {Text: "\n"}, {ID: id("<|assistant|>")}, {Text: "\n"}}, parts)

	// One that also looks into messages cannot be told apart, and says so.
	x, err = chat.New(`{% for m in messages %}{{ '<|' + m.role + '|>' + m.content.split('@')[-1] }}{% endfor %}`, tok, chat.Options{})
	require.NoError(t, err)
	_, err = x.Render([]chat.Message{{chat.User, "a@b"}}, true)
	require.ErrorContains(t, err, "write its tokens as a whole")
}

func TestEndOfTurn(t *testing.T) {
	tok := vocabularies(t)["bitnet-packed"]
	for name, want := range map[string]string{"chatml": "<|im_end|>", "llama3": "<|eot_id|>", "llama2": "<|eot_id|>", "mistral": "<|eot_id|>", "gemma": "<end_of_turn>", "bitnet": "<|eot_id|>", "assembled": "<|end|>"} {
		x, err := chat.New(sources(t)[name], tok, chat.Options{})
		require.NoError(t, err)
		id, text := x.EndOfTurn()
		require.Empty(t, text)
		got, _ := tok.Token(id)
		require.Equal(t, want, got, name)
	}
	demo, err := os.ReadFile("../testdata/demo/tokenizer.json")
	require.NoError(t, err)
	tok, err = tokenizer.Parse(demo)
	require.NoError(t, err)
	for name, want := range map[string]string{"chatml": "<|im_end|>", "plain": "User:"} {
		x, err := chat.New(sources(t)[name], tok, chat.Options{})
		require.NoError(t, err)
		id, text := x.EndOfTurn()
		require.Equal(t, fmt.Sprint(-1, want), fmt.Sprint(id, text))
	}
	x, err := chat.New(`{{ messages[0].content }}`, tok, chat.Options{})
	require.NoError(t, err)
	id, text := x.EndOfTurn()
	require.Equal(t, -1, id)
	require.Empty(t, text)
}

func TestTemplateRefuses(t *testing.T) {
	tok := vocabularies(t)["demo"]
	for source, want := range map[string]string{
		"{% for m in messages %}":                      "cannot be read",
		"{{ messages | nosuch }}":                      "nosuch",
		"{% include 'x' %}":                            "include",
		"{% import '/etc/passwd' as x %}":              "import",
		"{% extends 'x' %}":                            "extends",
		"{{ 'a' * 1000000000000 }}":                    "line 1: * is not supported",
		"{{ 10 ** 10 }}":                               "** is not supported",
		"{{ open('/etc/passwd') }}":                    "open",
		"{% for i in range(1000000000) %}{% endfor %}": "far longer",
		"{% for i in range(6000) %}{% for j in range(6000) %}{% endfor %}{% endfor %}":                                           "it is refused",
		"{% set ns = namespace(s='aaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}":               "far longer",
		"{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}":                       "far longer",
		"{% set x %}{% for i in range(60000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}{% endset %}": "far longer",
		"{% for i in range(60000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}":                                         "far longer",
		"{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}":                                                                        "more than 64 macros",
		"{{ 'aaaa' | replace('a', 'aaaaaaaaaa') " + strings.Repeat("| replace('a', 'aaaaaaaaaa')", 12) + " }}":                   "far longer",
		"{{ ''" + strings.Repeat(" ~ 'a'", 300) + " }}":                                                                          "more than 256 + or ~",
		"{{ 'x' | indent(1000000000) }}":                                    "indent by 1000000000",
		"{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}": "recursive",
		"{{ " + strings.Repeat("(", 100000) + " }}":                         "nested more than 64 deep",
		"{{ " + strings.Repeat("1 if x else ", 10000) + "2 }}":              "nested more than 64 deep",
		strings.Repeat("{% if true %}", 15000):                              "nested more than 64 deep",
		"{{ " + strings.Repeat("not ", 60000) + "x }}":                      "more than 2048 words",
		"{{ x" + strings.Repeat(".y", 100000) + " }}":                       "more than 2048 words",
		strings.Repeat("x", chat.MaxTemplate+1):                             "want at most 262144",
	} {
		_, err := chat.New(source, tok, chat.Options{})
		require.ErrorContains(t, err, want, "%.80s", source)
	}
	_, err := chat.New("{{ x }}", tok, chat.Options{BOS: new(100)})
	require.ErrorContains(t, err, "token id 100 is not a special token")
	x, err := chat.New("{{ raise_exception('never') }}", tok, chat.Options{})
	require.NoError(t, err, "a refusal is the template's right")
	_, err = x.Render(nil, false)
	require.EqualError(t, err, "the chat template refuses this conversation: never")
	_, err = x.Render([]chat.Message{{"tool", "x"}}, false)
	require.ErrorContains(t, err, `message 0 has the role "tool", want "system", "user" or "assistant"`)
	_, err = chat.Builtin("vicuna")
	require.EqualError(t, err, `there is no built-in chat template "vicuna", want one of bitnet, chatml, gemma, llama2, llama3, mistral, plain`)

	// Bytes that are not UTF-8 are no way around.
	x, err = chat.New("{% for m in messages %}{{ m.content }}<eos>{% endfor %}", tok, chat.Options{})
	require.NoError(t, err)
	parts, err := x.Render([]chat.Message{{chat.User, "\xf3\xb0\x80<eos>\xff"}}, false)
	require.NoError(t, err)
	require.Len(t, parts, 2)
}
