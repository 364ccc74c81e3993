package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// TritterConfig is the configuration of Tritter's reference implementation under
// the names and with the defaults of its API document. Config is what a runtime
// takes of it; the rest says how the model was trained, or what its authors
// thought of when they chose its size.
//
// What the memory-critical fields cost at the defaults (3B: 2,048 wide, 24 layers,
// 16 heads, feed-forward 8,192, 131,072 positions), in bytes:
//
//	weights   24 x (4 x 2048 x 2048 + 3 x 2048 x 8192) / 4   0.40 GB at 2 bits
//	tables    2 x 65536 x 2048 x 2                           0.54 GB in bf16
//	cache     24 x 16 x 128 x 131072                         6.44 GB in int4, and 51.5 GB in float32
//
// Config.Plan computes these for any shape, scales and buffers included.
type TritterConfig struct {
	ModelSize string `json:"model_size"` // "3B" or "7B", which sets hidden_size, num_layers and num_heads; or the name of a preset

	// Architecture.
	HiddenSize            int `json:"hidden_size"`             // memory: the weights of a layer grow with it times itself and intermediate_size, both tables with it times vocab_size
	NumLayers             int `json:"num_layers"`              // memory: weights and cache are so many times those of a layer
	NumHeads              int `json:"num_heads"`               // memory: none by itself, since hidden_size stays; but without num_kv_heads the cache has as many heads
	NumKVHeads            int `json:"num_kv_heads"`            // memory: the cache is proportional to it; 8 in place of 32 quarters it; 0 is num_heads
	IntermediateSize      int `json:"intermediate_size"`       // memory: three matrices of hidden_size times it in each layer, the largest part of the weights
	MaxPositionEmbeddings int `json:"max_position_embeddings"` // memory: the cache of one sequence is proportional to the context in use, of which this is the limit
	VocabSize             int `json:"vocab_size"`              // memory: embedding and head have so many rows, in 2 bytes an element where layers have 2 bits

	// Quantization.
	UseBitNet       bool    `json:"use_bitnet"`       // memory: ternary projections take 2 bits a weight, an eighth of bf16; must be true
	BitNetPrecision float64 `json:"bitnet_precision"` // log2 3, the information in a trit; stored as 2 bits, or 1.6 in the base-3 encoding

	// Attention.
	UseFlashAttention bool `json:"use_flash_attention"` // memory: scores are never stored as a matrix; this runtime always computes so
	SlidingWindowSize int  `json:"sliding_window_size"` // memory: where a window is used, the cache holds so many positions and no more
	UseStreamingLLM   bool `json:"use_streaming_llm"`   // memory: keeps the first positions beside the window, which bounds the cache of endless text

	// Memory.
	Int4KVCache           bool `json:"int4_kv_cache"`          // memory: the cache takes half a byte an element in place of 4 in float32
	GradientCheckpointing bool `json:"gradient_checkpointing"` // training only

	// Modalities.
	Modalities       []Modality `json:"modalities"`        // of text, code, image and audio
	UseEarlyFusion   bool       `json:"use_early_fusion"`  // all modalities share the layers from the first on
	UnifiedEmbedding bool       `json:"unified_embedding"` // memory: one embedding table serves all modalities

	// Hardware.
	TargetDevice string `json:"target_device"` // what the authors ran on
	MaxMemoryGB  int    `json:"max_memory_gb"` // memory of that device in GB, the budget of a plan

	// Training.
	Dropout          float64 `json:"dropout"`           // training only
	LayerNormEps     float64 `json:"layer_norm_eps"`    // added to the variance in every norm
	InitializerRange float64 `json:"initializer_range"` // training only

	// Features that this runtime does not have.
	UseVSA bool `json:"use_vsa"`
	UseHRR bool `json:"use_hrr"`

	// What the implementation has beside the document.
	RopeTheta float64 `json:"rope_theta"`          // base of the rotary frequencies
	UseQKNorm bool    `json:"use_qk_norm"`         // queries and keys are normalized per head
	TiedHead  bool    `json:"tie_word_embeddings"` // memory: the head is the embedding table, which saves vocab_size x hidden_size elements
	Act       string  `json:"activation_function"` // "squared_relu"
}

// DefaultTritterConfig returns the document's defaults: the 3B model.
func DefaultTritterConfig() TritterConfig {
	return TritterConfig{
		ModelSize: "3B", HiddenSize: 2048, NumLayers: 24, NumHeads: 16, IntermediateSize: 8192,
		MaxPositionEmbeddings: PresetContext, VocabSize: PresetVocab,
		UseBitNet: true, BitNetPrecision: 1.58, UseFlashAttention: true, SlidingWindowSize: 4096, UseStreamingLLM: true,
		Int4KVCache: true, GradientCheckpointing: true,
		Modalities: []Modality{Text, Code, Image, Audio}, UseEarlyFusion: true, UnifiedEmbedding: true,
		TargetDevice: "cuda", MaxMemoryGB: 16, Dropout: 0.1, LayerNormEps: PresetEps, InitializerRange: 0.02,
		RopeTheta: PresetTheta, UseQKNorm: true, Act: "squared_relu",
	}
}

// ParseTritterConfig reads a TritterConfig from JSON, names and defaults as in the
// document: keys that are absent take the defaults of model_size. Keys that it
// does not know are ignored, so that a file of a later minor version loads; their
// names, sorted, are returned. The error joins every problem; one of them is a
// model_size "7B" beside other sizes than those it sets.
func ParseTritterConfig(data []byte) (c *TritterConfig, unknown []string, err error) {
	var keys map[string]json.RawMessage
	if err := decodeOne(data, &keys); err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	config := DefaultTritterConfig()
	if raw, ok := keys["model_size"]; ok {
		if err := json.Unmarshal(raw, &config.ModelSize); err != nil {
			return nil, nil, fmt.Errorf("configuration: model_size is %s, want a name such as \"3B\"", raw)
		}
	}
	if err := config.autoConfigure(); err != nil {
		return nil, nil, err
	}
	auto := config
	config.Modalities = nil // JSON would write over the default's elements
	if err := decodeOne(data, &config); err != nil {
		return nil, nil, fmt.Errorf("configuration: %w", err)
	}
	if config.Modalities == nil {
		config.Modalities = auto.Modalities
	}
	known := config.keys()
	for key := range keys {
		if !slices.Contains(known, key) {
			unknown = append(unknown, key)
		}
	}
	slices.Sort(unknown)
	var errs []error
	if config.ModelSize == "7B" {
		for _, f := range []struct {
			name      string
			got, want int
		}{{"hidden_size", config.HiddenSize, auto.HiddenSize}, {"num_layers", config.NumLayers, auto.NumLayers}, {"num_heads", config.NumHeads, auto.NumHeads}} {
			if f.got != f.want {
				errs = append(errs, fmt.Errorf("%s is %d, but model_size %q means %d; correct it or remove it", f.name, f.got, config.ModelSize, f.want))
			}
		}
	}
	errs = append(errs, config.Validate())
	if err := errors.Join(errs...); err != nil {
		return nil, unknown, err
	}
	return &config, unknown, nil
}

// decodeOne decodes the only JSON value of data.
func decodeOne(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more than one JSON value, want one object")
	}
	return nil
}

// keys returns the JSON names of the fields.
func (c *TritterConfig) keys() []string {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers come from JSON, so they are finite
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		panic(err)
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	return names
}

// autoConfigure sets the sizes that model_size stands for. "3B" and "7B" are the
// document's; other names are presets.
func (c *TritterConfig) autoConfigure() error {
	switch c.ModelSize {
	case "3B": // the defaults
		return nil
	case "7B":
		c.HiddenSize, c.NumLayers, c.NumHeads = 4096, 32, 32
		return nil
	}
	p, err := Preset(c.ModelSize)
	if err != nil {
		return fmt.Errorf("model_size: %w", err)
	}
	c.HiddenSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.IntermediateSize = p.HiddenSize, p.NumLayers, p.NumHeads, p.NumKVHeads, p.IntermediateSize
	return nil
}

// Validate reports everything that is wrong with c, each problem with the value
// seen, the value expected and, where there is one, the fix.
func (c *TritterConfig) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := DeriveHeadDim(c.HiddenSize, c.NumHeads); err != nil {
		errs = append(errs, err)
	}
	if !c.UseBitNet {
		bad("use_bitnet is false, want true: this runtime has ternary projections only")
	}
	if c.Act != "squared_relu" {
		bad("activation_function is %q, want \"squared_relu\": Tritter's feed-forward block has no other", c.Act)
	}
	if !(c.BitNetPrecision > 1.5 && c.BitNetPrecision < 1.7) {
		bad("bitnet_precision is %g, want 1.58, the bits of a trit", c.BitNetPrecision)
	}
	if c.SlidingWindowSize < 1 {
		bad("sliding_window_size is %d, want at least 1, usually 4096", c.SlidingWindowSize)
	}
	if c.MaxMemoryGB < 1 {
		bad("max_memory_gb is %d, want at least 1, usually 16", c.MaxMemoryGB)
	}
	if !(c.Dropout >= 0 && c.Dropout < 1) {
		bad("dropout is %g, want at least 0 and less than 1", c.Dropout)
	}
	if !(c.InitializerRange > 0) {
		bad("initializer_range is %g, want a positive number, usually 0.02", c.InitializerRange)
	}
	if c.UseVSA || c.UseHRR {
		bad("use_vsa is %t and use_hrr is %t, want false: this runtime has neither", c.UseVSA, c.UseHRR)
	}
	for i, m := range c.Modalities {
		if slices.Contains(c.Modalities[:i], m) {
			bad("modalities lists %q twice, want it once", m)
		}
	}
	if len(errs) == 0 || c.NumHeads > 0 {
		if err := c.runtimeConfig().Validate(); err != nil {
			errs = append(errs, errors.New(tritterNames.Replace(err.Error())))
		}
	}
	return errors.Join(errs...)
}

// tritterNames are fields of Config that TritterConfig spells in its own way.
var tritterNames = strings.NewReplacer("rope.theta", "rope_theta", "norm_eps", "layer_norm_eps")

// Config returns the architecture that c describes, or why it is none.
func (c *TritterConfig) Config() (*Config, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c.runtimeConfig(), nil
}

func (c *TritterConfig) runtimeConfig() *Config {
	base := preset{hidden: c.HiddenSize, layers: c.NumLayers, heads: max(c.NumHeads, 1), kvHeads: c.NumKVHeads, feedForward: c.IntermediateSize}
	if base.kvHeads == 0 {
		base.kvHeads = c.NumHeads
	}
	out := base.config()
	out.MaxPositionEmbeddings, out.VocabSize, out.NormEps = c.MaxPositionEmbeddings, c.VocabSize, c.LayerNormEps
	out.Rope.Theta, out.TiedHead = c.RopeTheta, c.TiedHead
	out.Modalities = slices.Sorted(slices.Values(c.Modalities))
	out.Modalities = slices.Compact(out.Modalities)
	if !c.UseQKNorm {
		out.Norms = []NormPosition{NormAttn, NormPostMLP}
	}
	return out
}

// KV returns the format of the cache that c asks for.
func (c *TritterConfig) KV() KVFormat {
	if c.Int4KVCache {
		return KVInt4
	}
	return KVF32
}

// LooksLikeTritterConfig reports whether data is JSON in the document's spelling
// rather than another implementation's config.json: an object with model_size,
// use_bitnet or num_layers that names no architecture.
func LooksLikeTritterConfig(data []byte) bool {
	var keys map[string]json.RawMessage
	if decodeOne(data, &keys) != nil {
		return false
	}
	has := func(key string) bool { _, ok := keys[key]; return ok }
	return !has("architectures") && !has("model_type") && (has("model_size") || has("use_bitnet") || has("num_layers"))
}
