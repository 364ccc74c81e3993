package chat

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGolden holds the rendering to Jinja's own, set up as transformers has it
// (testdata/render.py): every template over every conversation.
func TestGolden(t *testing.T) {
	var golden map[string]struct{ Text, Error string }
	var conversations map[string][]Message
	readJSON(t, "testdata/golden.json", &golden)
	readJSON(t, "testdata/conversations.json", &conversations)
	require.NotEmpty(t, golden)
	refused := 0
	for name, want := range golden {
		part := strings.Split(name, "/")
		source, err := Builtin(part[0])
		if err != nil {
			data, err := os.ReadFile(filepath.Join("testdata", "templates", part[0]+".jinja"))
			require.NoError(t, err)
			source = string(data)
		}
		got, err := execute(source, conversations[part[1]], map[string]any{"add_generation_prompt": part[2] == "prompt", "bos_token": "<s>", "eos_token": "</s>"})
		if want.Error != "" {
			refused++
			var refusal *Refusal
			require.ErrorAs(t, err, &refusal, name)
			require.Equal(t, want.Error, refusal.Message, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, want.Text, got, name)
	}
	require.Positive(t, refused)
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}
