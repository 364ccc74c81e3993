package convert_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
)

// TestChatTemplate: the template is kept byte for byte, from whichever place.
func TestChatTemplate(t *testing.T) {
	const template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %} \u2028é\n"
	for name, c := range map[string]struct {
		edit edit
		want string
	}{
		"none":                 {nil, ""},
		"a file":               {all(file("chat_template.jinja", template), file("tokenizer_config.json", `{"chat_template": "other"}`)), template},
		"in the config":        {file("tokenizer_config.json", `{"chat_template": "{{ x }}"}`), "{{ x }}"},
		"a list in the config": {file("tokenizer_config.json", `{"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]}`), "b"},
		"null":                 {file("tokenizer_config.json", `{"chat_template": null}`), ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := hostile{edit: c.edit}
			f, err := format.Open(convertTo(t, h.checkpoint(t), convert.Options{}))
			require.NoError(t, err)
			defer f.Close()
			data, err := f.Section(format.SectionChat)
			if c.want == "" {
				require.ErrorIs(t, err, format.ErrNoSection)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want, string(data))
		})
	}
	own := hostile{edit: file("chat_template.jinja", template)}
	f, err := format.Open(convertTo(t, own.checkpoint(t), convert.Options{ChatTemplate: "{{ mine }}"}))
	require.NoError(t, err)
	defer f.Close()
	data, err := f.Section(format.SectionChat)
	require.NoError(t, err)
	require.Equal(t, "{{ mine }}", string(data), "the option goes before the checkpoint's")

	h := hostile{edit: file("chat_template.jinja", "\xff")}
	require.ErrorContains(t, convertError(t.Context(), h.checkpoint(t), filepath.Join(t.TempDir(), "m.trit"), convert.Options{}), "not valid UTF-8")
}
