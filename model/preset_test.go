package model_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

func TestPresets(t *testing.T) {
	require.Equal(t, []string{"test", "125M", "350M", "1B", "3B-base", "3B", "7B-base", "7B"}, model.Presets())
	for name, want := range map[string]string{ // hidden, layers, heads, kv heads, head_dim, feed-forward
		"test": "256 4 4 4 64 512", "125M": "768 12 12 12 64 3072", "350M": "1024 24 16 16 64 4096", "1B": "2048 16 16 16 128 5632",
		"3B": "2560 26 20 20 128 6912", "7B": "4096 32 32 8 128 11008", "3B-base": "2048 24 16 16 128 8192", "7B-base": "4096 32 32 32 128 8192",
	} {
		c, err := model.Preset(name)
		require.NoError(t, err)
		require.NoError(t, c.Validate(), name)
		require.Equal(t, want, fmt.Sprint(c.HiddenSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim, c.IntermediateSize), name)
		require.Equal(t, "65536 131072 500000", fmt.Sprint(c.VocabSize, c.MaxPositionEmbeddings, c.Rope.Theta), name)
		require.Equal(t, []model.Modality{model.Audio, model.Code, model.Image, model.Text}, c.Modalities)
		c.HiddenSize = 1
		again, err := model.Preset(name)
		require.NoError(t, err)
		require.NotEqual(t, 1, again.HiddenSize, "a preset is the caller's to change")
	}
	_, err := model.Preset("13B")
	require.EqualError(t, err, `there is no preset "13B", want one of test, 125M, 350M, 1B, 3B-base, 3B, 7B-base, 7B`)
}

// TestOldFiles: what version 1.0 wrote loads in every later minor version, and
// means the same.
func TestOldFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/v1.0/*.json")
	require.NoError(t, err)
	kinds := map[string]int{}
	for _, path := range files {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		kind := strings.Split(filepath.Base(path), ".")[1]
		kinds[kind]++
		t.Run(filepath.Base(path), func(t *testing.T) {
			switch kind {
			case "config":
				c := new(model.Config)
				require.NoError(t, format.DecodeJSON(data, c))
				require.NoError(t, c.Validate())
				again, err := format.EncodeJSON(c)
				require.NoError(t, err)
				require.Equal(t, string(data), string(again))
			case "generation":
				g := new(model.Generation)
				require.NoError(t, format.DecodeJSON(data, g))
				require.NoError(t, g.Validate(model.MaxVocab))
				again, err := format.EncodeJSON(g)
				require.NoError(t, err)
				require.Equal(t, string(data), string(again))
			case "tritter":
				require.True(t, model.LooksLikeTritterConfig(data))
				c, _, err := model.ParseTritterConfig(data)
				require.NoError(t, err)
				config, err := c.Config()
				require.NoError(t, err)
				require.NoError(t, config.Validate())
			default:
				t.Fatal("a file of an unknown kind")
			}
		})
	}
	require.Equal(t, map[string]int{"config": 6, "generation": 6, "tritter": 4}, kinds)
}

func TestTritterConfig(t *testing.T) {
	d := model.DefaultTritterConfig()
	require.NoError(t, d.Validate())
	load := func(name string) (*model.TritterConfig, *model.Config, []string) {
		data, err := os.ReadFile("testdata/v1.0/" + name + ".tritter.json")
		require.NoError(t, err)
		c, unknown, err := model.ParseTritterConfig(data)
		require.NoError(t, err)
		config, err := c.Config()
		require.NoError(t, err)
		return c, config, unknown
	}
	same := func(preset string, got *model.Config) {
		want, err := model.Preset(preset)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	c, config, unknown := load("document-3B")
	require.Equal(t, &d, c, "the file spells every default of the document")
	require.Empty(t, unknown)
	same("3B-base", config)
	require.Equal(t, model.KVInt4, c.KV())

	_, config, _ = load("document-7B")
	same("7B-base", config)

	c, config, unknown = load("short-7B")
	require.Equal(t, []string{"a_field_of_1_4"}, unknown)
	require.Equal(t, []model.Modality{model.Code, model.Text}, config.Modalities)
	config.Modalities = []model.Modality{model.Audio, model.Code, model.Image, model.Text}
	same("7B", config)
	require.Equal(t, 16, c.MaxMemoryGB)

	c, config, _ = load("short-125M")
	require.Equal(t, "768 12 12 3072 8192 true", fmt.Sprint(config.HiddenSize, config.NumLayers, config.NumKVHeads, config.IntermediateSize, config.MaxPositionEmbeddings, config.TiedHead))
	require.Equal(t, model.KVF32, c.KV())

	c, unknown, err := model.ParseTritterConfig([]byte(`{}`))
	require.NoError(t, err)
	require.Empty(t, unknown)
	require.Equal(t, &d, c)
	c, _, err = model.ParseTritterConfig([]byte(`{"use_qk_norm": false}`))
	require.NoError(t, err)
	config, err = c.Config()
	require.NoError(t, err)
	require.Equal(t, []model.NormPosition{model.NormAttn, model.NormPostMLP}, config.Norms)
}

func TestTritterConfigRefuses(t *testing.T) {
	for data, want := range map[string]string{
		`{"hidden_size": 130, "num_heads": 4}`:               "hidden_size (130) must be divisible by num_heads (4): the remainder is 2; use hidden_size 128 or 132",
		`{"num_heads": 0}`:                                   "num_heads is 0, want at least 1",
		`{"modalities": ["text", "video"]}`:                  `modalities has the unknown value "video", want only ["text" "code" "image" "audio"]`,
		`{"modalities": []}`:                                 "modalities is empty",
		`{"modalities": ["text", "text"]}`:                   `modalities lists "text" twice`,
		`{"model_size": "7B", "hidden_size": 2048}`:          `hidden_size is 2048, but model_size "7B" means 4096; correct it or remove it`,
		`{"model_size": "13B"}`:                              `model_size: there is no preset "13B", want one of test`,
		`{"model_size": 7}`:                                  `model_size is 7, want a name`,
		`{"use_bitnet": false}`:                              "use_bitnet is false, want true",
		`{"bitnet_precision": 2}`:                            "bitnet_precision is 2, want 1.58",
		`{"sliding_window_size": 0}`:                         "sliding_window_size is 0, want at least 1",
		`{"max_memory_gb": 0}`:                               "max_memory_gb is 0, want at least 1",
		`{"dropout": 1}`:                                     "dropout is 1, want at least 0 and less than 1",
		`{"initializer_range": 0}`:                           "initializer_range is 0",
		`{"use_vsa": true}`:                                  "use_vsa is true",
		`{"activation_function": "gelu"}`:                    `activation_function is "gelu", want "squared_relu"`,
		`{"layer_norm_eps": 0}`:                              "layer_norm_eps is 0, want a positive finite float32",
		`{"rope_theta": 0.5}`:                                "rope_theta is 0.5, want more than 1",
		`{"num_kv_heads": 3}`:                                "num_heads (16) must be a multiple of num_kv_heads (3)",
		`{"vocab_size": -1}`:                                 "vocab_size is -1, want 1 to 16777215",
		`{"max_position_embeddings": 99999999}`:              "max_position_embeddings is 99999999, want 1 to 16777216",
		`{"hidden_size": "big"}`:                             "configuration:",
		`[]`:                                                 "configuration:",
		`{} {}`:                                              "more than one JSON value",
		`{"num_layers": 0, "num_heads": 3, "use_vsa": true}`: "num_layers is 0, want 1 to 4096",
	} {
		_, _, err := model.ParseTritterConfig([]byte(data))
		require.ErrorContains(t, err, want, data)
	}
	_, _, err := model.ParseTritterConfig([]byte(`{"num_layers": 0, "num_heads": 3, "use_vsa": true}`))
	require.ErrorContains(t, err, "use_vsa", "every problem is reported")
	require.ErrorContains(t, err, "hidden_size (2048) must be divisible by num_heads (3)")
	for _, other := range []string{`{"architectures": ["X"], "model_size": "3B"}`, `{"model_type": "llama", "num_layers": 3}`, `{"hidden_size": 3}`, `[]`, ``} {
		require.False(t, model.LooksLikeTritterConfig([]byte(other)), other)
	}
}
