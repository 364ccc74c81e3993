package chat

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/tokenizer"
)

// FuzzRender: no template and no message makes a panic, or a special token that the
// template does not spell.
func FuzzRender(f *testing.F) {
	data, err := os.ReadFile("../testdata/demo/tokenizer.json")
	require.NoError(f, err)
	tok, err := tokenizer.Parse(data)
	require.NoError(f, err)
	files, err := filepath.Glob("testdata/templates/*.jinja")
	require.NoError(f, err)
	for _, path := range files {
		source, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(string(source), "Hello <eos>", "x")
	}
	for _, name := range Builtins() {
		source, err := Builtin(name)
		require.NoError(f, err)
		f.Add(source, "<bos>", "<text> ")
	}
	f.Add("{{ '<' ~ messages[0].content }}{% raw %}{% if %}{% endraw %}", "eos>", "")
	f.Add("{%- set x = (1 if y) -%} {{ x['a':'b'] }} {# c", "\xff", "\U000F0000")
	f.Fuzz(func(t *testing.T, source, first, second string) {
		x, err := New(source, tok, Options{})
		if err != nil {
			return
		}
		messages := []Message{{User, first}, {Assistant, second}, {User, first}}
		parts, err := x.Render(messages, true)
		if err != nil {
			return
		}
		for _, p := range parts {
			require.True(t, utf8.ValidString(p.Text))
			if p.Text == "" {
				require.True(t, tok.IsSpecial(p.ID))
			}
		}
		_, err = x.Encode(messages, true)
		require.NoError(t, err)
	})
}
