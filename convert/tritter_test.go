package convert_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/model"
)

// TestTritterConfigJSON: a checkpoint whose config.json is a TritterConfig under
// the document's names, without architectures or model_type.
func TestTritterConfigJSON(t *testing.T) {
	weights, err := os.ReadFile(filepath.Join(fixtures, "tritter", "model.safetensors"))
	require.NoError(t, err)
	open := func(config string) (*convert.Plan, error) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "model.safetensors"), weights, 0o644))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o644))
		return convert.Open(dir, convert.Options{NoTokenizer: true})
	}
	want, err := convert.Open(filepath.Join(fixtures, "tritter", "model.safetensors"), convert.Options{NoTokenizer: true})
	require.NoError(t, err)
	defer want.Close()
	got, err := open(`{"model_size": "3B", "hidden_size": 128, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "vocab_size": 320, "max_position_embeddings": 512,
		"use_bitnet": true, "int4_kv_cache": true, "sliding_window_size": 4096, "modalities": ["text", "code"]}`)
	require.NoError(t, err)
	defer got.Close()
	require.Equal(t, "tritter", got.Family)
	require.Equal(t, want.Config, got.Config)

	// Sizes that it leaves out are those of its model_size, which the weights refuse.
	_, err = open(`{"model_size": "7B"}`)
	require.ErrorContains(t, err, "4096")
	_, err = open(`{"model_size": "8B"}`)
	require.ErrorContains(t, err, `there is no preset "8B"`)
	require.False(t, model.LooksLikeTritterConfig([]byte(`{"architectures": ["TritterModel"], "num_layers": 2}`)))
}
