package model_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

func valid() model.Config {
	return model.Config{Activation: model.ReLU2, ActivationQuant: model.ActivationInt8, Biases: []model.Projection{}, HeadDim: 128, HiddenSize: 2560, IntermediateSize: 6912,
		MaxPositionEmbeddings: 4096, Modalities: []model.Modality{model.Text}, Norm: model.RMSNorm, NormEps: 1e-5,
		Norms: []model.NormPosition{model.NormAttn, model.NormAttnSub, model.NormMLP, model.NormMLPSub}, NumHeads: 20, NumKVHeads: 5, NumLayers: 30,
		Rope: model.Rope{Pairing: model.PairHalf, Theta: 500000, Type: model.RopeDefault}, TiedHead: true, VocabSize: 128256}
}

func TestValidate(t *testing.T) {
	c := valid()
	require.NoError(t, c.Validate())
	for want, change := range map[string]func(*model.Config){
		"hidden_size is 0, want 1 to 16777216":                                             func(c *model.Config) { c.HiddenSize = 0 },
		"vocab_size is 16777216, want 1 to 16777215":                                       func(c *model.Config) { c.VocabSize = 1 << 24 },
		"num_layers is -1, want 1 to 4096":                                                 func(c *model.Config) { c.NumLayers = -1 },
		"head_dim is 127, want an even number":                                             func(c *model.Config) { c.HeadDim = 127 },
		"num_heads (20) must be a multiple of num_kv_heads (3)":                            func(c *model.Config) { c.NumKVHeads = 3 },
		"norm_eps is 0, want a positive finite float32":                                    func(c *model.Config) { c.NormEps = 0 },
		"norm_eps is 1e-60":                                                                func(c *model.Config) { c.NormEps = 1e-60 },
		`activation is "gelu", want one of ["silu" "relu2"]`:                               func(c *model.Config) { c.Activation = "gelu" },
		`activation_quant is "", want one of`:                                              func(c *model.Config) { c.ActivationQuant = "" },
		`norm is "batch"`:                                                                  func(c *model.Config) { c.Norm = "batch" },
		`modalities has the unknown value "video"`:                                         func(c *model.Config) { c.Modalities = []model.Modality{"video"} },
		`modalities is empty`:                                                              func(c *model.Config) { c.Modalities = nil },
		`biases lists "q" before "k", want ascending`:                                      func(c *model.Config) { c.Biases = []model.Projection{model.Q, model.K} },
		`norms lists "attn" before "attn"`:                                                 func(c *model.Config) { c.Norms = []model.NormPosition{model.NormAttn, model.NormAttn} },
		`rope.type is "yarn", want one of ["default" "linear" "llama3"]`:                   func(c *model.Config) { c.Rope.Type = "yarn" },
		`rope.pairing is "adjacent"`:                                                       func(c *model.Config) { c.Rope.Pairing = "adjacent" },
		"rope.theta is 1, want more than 1":                                                func(c *model.Config) { c.Rope.Theta = 1 },
		`rope.factor is 2, but rope.type "default" does not use it; leave it out`:          func(c *model.Config) { c.Rope.Factor = 2 },
		`rope.factor is 0, want a positive number up to 1e6 because rope.type is "linear"`: func(c *model.Config) { c.Rope.Type = model.RopeLinear },
		"rope.factor is 0.5, want at least 1":                                              func(c *model.Config) { c.Rope.Type, c.Rope.Factor = model.RopeLinear, 0.5 },
		"rope.original_max_position_embeddings is 0, want 1 to": func(c *model.Config) {
			c.Rope = model.Rope{Pairing: model.PairHalf, Theta: 1e4, Type: model.RopeLlama3, Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4}
		},
		"rope.high_freq_factor (1) must be greater than rope.low_freq_factor (4)": func(c *model.Config) {
			c.Rope = model.Rope{Pairing: model.PairHalf, Theta: 1e4, Type: model.RopeLlama3, Factor: 8, LowFreqFactor: 4, HighFreqFactor: 1, OriginalMax: 8192}
		},
	} {
		c := valid()
		change(&c)
		require.ErrorContains(t, c.Validate(), want)
	}
	c.HeadDim, c.NumKVHeads = 7, 3
	require.ErrorContains(t, c.Validate(), "head_dim")
	require.ErrorContains(t, c.Validate(), "num_kv_heads", "every problem is reported")
}

func TestDeriveHeadDim(t *testing.T) {
	d, err := model.DeriveHeadDim(2560, 20)
	require.NoError(t, err)
	require.Equal(t, 128, d)
	_, err = model.DeriveHeadDim(130, 4)
	require.EqualError(t, err, "hidden_size (130) must be divisible by num_heads (4): the remainder is 2; use hidden_size 128 or 132, or give head_dim")
	_, err = model.DeriveHeadDim(130, 0)
	require.ErrorContains(t, err, "num_heads is 0")
}

func TestManifest(t *testing.T) {
	c := valid()
	ts := c.Manifest()
	require.Len(t, ts, 2+30*11)
	shapes := map[string]string{}
	for _, x := range ts {
		require.NotContains(t, shapes, x.Name)
		shapes[x.Name] = fmt.Sprint(x.Shape, x.Kind == model.Matrix)
	}
	for name, want := range map[string]string{
		"embed.weight": "[128256 2560] false", "norm.weight": "[2560] false", "layers.29.k.weight": "[640 2560] true",
		"layers.0.down.weight": "[2560 6912] true", "layers.0.mlp_sub_norm.weight": "[6912] false", "layers.3.attn_sub_norm.weight": "[2560] false",
	} {
		require.Equal(t, want, shapes[name], name)
	}
	c.TiedHead, c.Norm, c.NumLayers = false, model.LayerNorm, 1
	c.Biases = model.Projections()
	c.Norms = []model.NormPosition{model.NormAttn, model.NormK, model.NormPostMLP, model.NormQ}
	names := ""
	for _, x := range c.Manifest() {
		names += x.Name + " "
	}
	require.Equal(t, "embed.weight layers.0.attn_norm.weight layers.0.attn_norm.bias layers.0.q.weight layers.0.q.bias layers.0.k.weight layers.0.k.bias "+
		"layers.0.v.weight layers.0.v.bias layers.0.q_norm.weight layers.0.q_norm.bias layers.0.k_norm.weight layers.0.k_norm.bias layers.0.o.weight layers.0.o.bias "+
		"layers.0.gate.weight layers.0.gate.bias layers.0.up.weight layers.0.up.bias layers.0.down.weight layers.0.down.bias layers.0.post_mlp_norm.weight layers.0.post_mlp_norm.bias "+
		"norm.weight norm.bias head.weight ", names)
}

func TestGenerationValidate(t *testing.T) {
	f := func(v float64) *float64 { return &v }
	n := func(v int) *int { return &v }
	require.NoError(t, (&model.Generation{EOS: []int{1, 2}, Temperature: f(0), TopP: f(1), TopK: n(0), MinP: f(0), RepetitionPenalty: f(1), MaxNewTokens: n(5)}).Validate(3))
	modality := model.Modality("video")
	for want, g := range map[string]*model.Generation{
		"eos id 3 is outside the vocabulary, want 0 to 2": {EOS: []int{3}},
		"eos lists 2 before 1":                            {EOS: []int{2, 1}},
		"temperature must be in [0, 2], got 2.5":          {Temperature: f(2.5)},
		"top_p must be in (0, 1], got 0":                  {TopP: f(0)},
		"min_p must be in [0, 1], got -1":                 {MinP: f(-1)},
		"repetition_penalty must be in [0.01, 100]":       {RepetitionPenalty: f(0)},
		"top_k must be at least 0":                        {TopK: n(-1)},
		"max_new_tokens must be at least 1":               {MaxNewTokens: n(0)},
		`modality is "video"`:                             {Modality: &modality},
	} {
		require.ErrorContains(t, g.Validate(3), want)
	}
}

// TestConfigJSON pins the form of the config section: a file written today must
// load in every later minor version.
func TestConfigJSON(t *testing.T) {
	const old = `{"activation":"relu2","activation_quant":"int8","biases":[],"head_dim":128,"hidden_size":2560,"intermediate_size":6912,"max_position_embeddings":4096,` +
		`"modalities":["text"],"norm":"rms","norm_eps":0.00001,"norms":["attn","attn_sub","mlp","mlp_sub"],"num_heads":20,"num_kv_heads":5,"num_layers":30,` +
		`"rope":{"pairing":"half","theta":500000,"type":"default"},"tied_head":true,"vocab_size":128256}`
	var c model.Config
	require.NoError(t, format.DecodeJSON([]byte(old), &c))
	require.Equal(t, valid(), c)
	now, err := format.EncodeJSON(&c)
	require.NoError(t, err)
	require.Equal(t, old, string(now))
}
