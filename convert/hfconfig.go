package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/model"
)

// hfConfig is what a Hugging Face config.json, or what stands in its place, says
// about a model.
type hfConfig struct {
	where    string       // what says it, for messages
	config   model.Config // Modalities and ActivationQuant are set later
	family   *family
	quant    *quantConfig // nil without quantization_config
	int8     bool         // the storage of the weights goes with int8 activations
	masters  bool         // the configuration asks for absmean of its float weights
	eos      []int
	warnings []string
}

// quantConfig is a quantization_config with quant_method "bitnet".
type quantConfig struct {
	linearClass string // "autobitlinear" or "bitlinear"
	mode        string // "online" or "offline"
}

// ignored are keys of config.json that do not change what a model computes.
var ignored = []string{
	"_name_or_path", "_attn_implementation_autoset", "attn_implementation", "auto_map", "attention_dropout", "bos_token_id", "dtype", "eos_token_id",
	"initializer_range", "pad_token_id", "pretraining_tp", "torch_dtype", "transformers_version", "use_cache", "unk_token_id",
	"return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "is_encoder_decoder", "is_decoder", "id2label", "label2id", "problem_type",
}

// parseConfig reads config.json.
func parseConfig(data []byte) (*hfConfig, error) {
	if data == nil {
		return nil, fmt.Errorf("no config.json beside the weights: it says what the model computes; download it too")
	}
	o, err := parseObject("config.json", data)
	if err != nil {
		return nil, err
	}
	if model.LooksLikeTritterConfig(data) {
		if err := completeSizes(o, data); err != nil {
			return nil, err
		}
		return readConfig(familyNamed("tritter"), o)
	}
	f, err := detect(o)
	if err != nil {
		return nil, err
	}
	return readConfig(f, o)
}

// readConfig reads the configuration of a family from o.
func readConfig(f *family, o *object) (*hfConfig, error) {
	h := &hfConfig{family: f, where: o.where}
	h.config.Rope.Pairing, h.config.Biases = model.PairHalf, []model.Projection{}
	f.read(h, o)
	h.eos, _ = o.integers("eos_token_id")
	o.str("model_type")
	o.strings("architectures")
	for _, key := range ignored {
		o.asked[key] = true
	}
	if unknown := o.rest(); len(unknown) > 0 {
		h.warn("%s has keys that this converter does not know and ignores: %s", o.where, strings.Join(unknown, ", "))
	}
	return h, o.err
}

// readLlama reads the configuration of Llama and of the classes derived from it.
func (h *hfConfig) readLlama(o *object) {
	c := &h.config
	c.HiddenSize, c.NumLayers, c.NumHeads = o.need("hidden_size"), o.need("num_hidden_layers"), o.need("num_attention_heads")
	c.IntermediateSize, c.VocabSize = o.need("intermediate_size"), o.need("vocab_size")
	c.MaxPositionEmbeddings = o.need("max_position_embeddings")
	h.readHeads(o, "num_key_value_heads")
	c.Norm, c.Norms = model.RMSNorm, h.family.norms
	c.TiedHead, _ = o.boolean("tie_word_embeddings")
	h.readActivation(o)
	h.readDefaulted(o, "rms_norm_eps", &c.NormEps, h.family.eps)
	h.readBiases(o)
	h.readRope(o)
	h.readQuantization(o)
}

// readHeads reads the number of key-value heads and the size of a head, both of
// which have a meaning when they are absent.
func (h *hfConfig) readHeads(o *object, kvKey string) {
	c := &h.config
	var ok bool
	if c.NumKVHeads, ok = o.integer(kvKey); !ok {
		c.NumKVHeads = c.NumHeads
	}
	if c.HeadDim, ok = o.integer("head_dim"); !ok && o.err == nil {
		var err error
		if c.HeadDim, err = model.DeriveHeadDim(c.HiddenSize, c.NumHeads); err != nil {
			o.fail("%v", err)
		}
	}
}

// readOneBit reads the configuration of 1bitLLM's implementation, which says the
// precision of weights and activations in bits.
func (h *hfConfig) readOneBit(o *object) {
	h.readLlama(o)
	if bits, ok := o.integer("weight_bits"); !ok || bits != 1 {
		o.fail("weight_bits is %d, want 1: other precisions of this implementation are not ternary", bits)
	}
	if bits, ok := o.integer("input_bits"); !ok || bits != 8 {
		o.fail("input_bits is %d, want 8", bits)
	}
	h.masters = true
}

// readMistral reads Llama's keys and the sliding window.
func (h *hfConfig) readMistral(o *object) {
	h.readLlama(o)
	h.limitWindow(o)
}

// readQwen reads Llama's keys and the sliding window, which is off unless asked for.
func (h *hfConfig) readQwen(o *object) {
	h.readLlama(o)
	h.config.Biases = append(h.config.Biases, h.family.biases...)
	slices.Sort(h.config.Biases)
	h.config.Biases = slices.Compact(h.config.Biases)
	o.integer("max_window_layers")
	o.strings("layer_types")
	if on, _ := o.boolean("use_sliding_window"); on {
		h.limitWindow(o)
	} else {
		o.integer("sliding_window")
	}
}

// limitWindow cuts the context to the sliding window: up to there the window
// changes nothing.
func (h *hfConfig) limitWindow(o *object) {
	if w, ok := o.integer("sliding_window"); ok && w < h.config.MaxPositionEmbeddings {
		h.warn("the context is cut from %d to %d positions, the model's sliding window", h.config.MaxPositionEmbeddings, w)
		h.config.MaxPositionEmbeddings = w
	}
}

func (h *hfConfig) warn(format string, args ...any) {
	h.warnings = append(h.warnings, fmt.Sprintf(format, args...))
}

// readDefaulted reads a number for which the model's class has a default: leaving
// it out of config.json means that value, not an unknown one.
func (h *hfConfig) readDefaulted(o *object, key string, to *float64, value float64) {
	v, ok := o.number(key)
	if !ok && o.err == nil {
		v = value
		h.warn("config.json has no %s; %s means %g by that", key, h.family.classes[0], value)
	}
	*to = v
}

func (h *hfConfig) readActivation(o *object) {
	name, ok := o.str("hidden_act")
	switch {
	case !ok && o.err == nil:
		h.config.Activation = h.family.act
		h.warn("config.json has no hidden_act; %s means %q by that", h.family.classes[0], h.family.act)
	case name == "silu" || name == "swish":
		h.config.Activation = model.SiLU
	case name == "relu2":
		h.config.Activation = model.ReLU2
	default:
		o.fail("hidden_act is %q, want \"silu\" or \"relu2\": no other activation is supported, and none is assumed", name)
	}
}

func (h *hfConfig) readBiases(o *object) {
	if on, _ := o.boolean("attention_bias"); on {
		h.config.Biases = append(h.config.Biases, model.Q, model.K, model.V, model.O)
	}
	if on, _ := o.boolean("mlp_bias"); on {
		if !h.family.mlpBias {
			o.fail("mlp_bias is true, want false: %s has no such biases", h.family.classes[0])
		}
		h.config.Biases = append(h.config.Biases, model.Gate, model.Up, model.Down)
	}
	slices.Sort(h.config.Biases)
}

// readRope reads rope_parameters (transformers 5) or rope_theta and rope_scaling.
func (h *hfConfig) readRope(o *object) {
	r := &h.config.Rope
	r.Type = model.RopeDefault
	theta, hasTheta := o.number("rope_theta")
	if p, ok := o.number("partial_rotary_factor"); ok && p != 1 {
		o.fail("partial_rotary_factor is %g, want 1: rotating a part of a head is not supported", p)
	}
	scaling, params := o.object("rope_scaling"), o.object("rope_parameters")
	if scaling != nil && params != nil {
		o.fail("both rope_scaling and rope_parameters are there, want one: remove the one that does not belong to the weights")
		return
	}
	if params != nil {
		scaling = params
	}
	if scaling != nil {
		h.readScaling(o, scaling)
		if inner, ok := scaling.number("rope_theta"); ok {
			if hasTheta && theta != inner {
				o.fail("rope_theta is %g, but inside %s it is %g; want one value", theta, scaling.where, inner)
			}
			theta, hasTheta = inner, true
		}
		if unknown := scaling.rest(); len(unknown) > 0 {
			scaling.fail("unknown keys %s: they may change the rotation, so they are not ignored", strings.Join(unknown, ", "))
		}
		if scaling.err != nil && o.err == nil {
			o.err = scaling.err
		}
	}
	if r.Theta = theta; !hasTheta && o.err == nil {
		r.Theta = h.family.theta
		h.warn("config.json has no rope_theta; %s means %g by that", h.family.classes[0], h.family.theta)
	}
}

func (h *hfConfig) readScaling(o, s *object) {
	r := &h.config.Rope
	kind, ok := s.str("rope_type")
	if old, has := s.str("type"); has {
		if ok && old != kind {
			s.fail("rope_type is %q, but type is %q; want one value", kind, old)
		}
		kind, ok = old, true
	}
	if p, has := s.number("partial_rotary_factor"); has && p != 1 {
		s.fail("partial_rotary_factor is %g, want 1: rotating a part of a head is not supported", p)
	}
	number := func(key string, to *float64) {
		v, has := s.number(key)
		if !has {
			s.fail("no %s, which rope_type %q needs", key, kind)
		}
		*to = v
	}
	switch {
	case !ok:
		s.fail("no rope_type, want \"default\", \"linear\" or \"llama3\"")
	case kind == "default":
	case kind == "linear":
		r.Type = model.RopeLinear
		number("factor", &r.Factor)
	case kind == "llama3":
		r.Type = model.RopeLlama3
		number("factor", &r.Factor)
		number("low_freq_factor", &r.LowFreqFactor)
		number("high_freq_factor", &r.HighFreqFactor)
		if r.OriginalMax, ok = s.integer("original_max_position_embeddings"); !ok {
			s.fail("no original_max_position_embeddings, which rope_type \"llama3\" needs")
		}
	default:
		s.fail("rope_type is %q, want \"default\", \"linear\" or \"llama3\": no other scaling is supported", kind)
	}
}

func (h *hfConfig) readQuantization(o *object) {
	q := o.object("quantization_config")
	if q == nil {
		return
	}
	refuse := func(field, got, want, hint string) {
		if o.err == nil {
			o.err = &checkpoint.UnsupportedError{File: "config.json", Offset: noOffset, Field: "quantization_config: " + field, Got: got, Want: want, Hint: hint}
		}
	}
	method, _ := q.str("quant_method")
	if method != "bitnet" && q.err == nil {
		refuse("quant_method", fmt.Sprintf("%q", method), `"bitnet"`, "convert from the original float checkpoint of this model instead")
		return
	}
	h.quant = &quantConfig{linearClass: "bitlinear", mode: "offline"} // what transformers takes when the keys are absent
	if class, ok := q.str("linear_class"); ok {
		h.quant.linearClass = class
	}
	if mode, ok := q.str("quantization_mode"); ok {
		h.quant.mode = mode
	}
	if c := h.quant.linearClass; c != "bitlinear" && c != "autobitlinear" {
		q.fail("linear_class is %q, want \"bitlinear\" (weight_scale divides) or \"autobitlinear\" (it multiplies)", c)
	}
	if m := h.quant.mode; m != "online" && m != "offline" {
		q.fail("quantization_mode is %q, want \"online\" or \"offline\"", m)
	}
	h.masters = h.quant.linearClass == "autobitlinear" && h.quant.mode == "online"
	eps, hasEps := q.number("rms_norm_eps") // of the norms inside the linear layers only
	if on, _ := q.boolean("use_rms_norm"); on {
		if h.config.ProjNormEps = eps; !hasEps {
			h.config.ProjNormEps = 1e-6 // BitNetQuantConfig's default
		}
		h.config.Norms = append(slices.Clone(h.config.Norms), model.NormProj)
		slices.Sort(h.config.Norms)
	}
	if names, ok := q.strings("modules_to_not_convert"); ok {
		for _, name := range names {
			if name != "lm_head" {
				refuse("modules_to_not_convert", fmt.Sprintf("%q", name), `only "lm_head"`, "models with some projections left dense are not supported yet")
			}
		}
	}
	if unknown := q.rest(); len(unknown) > 0 {
		h.warn("quantization_config has keys that this converter does not know and ignores: %s", strings.Join(unknown, ", "))
	}
	if o.err == nil {
		o.err = q.err
	}
}
