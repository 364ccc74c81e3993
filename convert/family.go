package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/model"
)

// family is a kind of checkpoint: how its configuration is read and what its
// tensors are called.
type family struct {
	name       string
	classes    []string // values of architectures
	modelTypes []string // values of model_type; the first is the usual one
	read       func(h *hfConfig, o *object)
	names      map[model.Role]string // of the tensors in a block, and of embedding and final norm
	embeds     []string              // spellings of the embedding, the usual one first
	heads      []string              // spellings of the head
	block      string                // what the tensors of a block begin with; "" is "layers"
	ternary    bool                  // every model of the class was trained with ternary weights and int8 activations

	// What transformers' class says when config.json does not.
	norms   []model.NormPosition
	act     model.Activation
	theta   float64
	eps     float64
	mlpBias bool               // the class knows mlp_bias
	biases  []model.Projection // projections that always have a bias
}

// llamaNames are the names of transformers' Llama and of its relatives.
var llamaNames = map[model.Role]string{
	model.RoleNorm: "norm",
	"attn_norm":    "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
	"q_norm": "self_attn.q_norm", "k_norm": "self_attn.k_norm", "attn_sub_norm": "self_attn.attn_sub_norm", "o": "self_attn.o_proj",
	"mlp_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj", "mlp_sub_norm": "mlp.ffn_sub_norm", "down": "mlp.down_proj",
}

// oneBitNames are those of 1bitLLM's implementation, which came before BitNet's.
var oneBitNames = with(llamaNames, map[model.Role]string{"attn_sub_norm": "self_attn.inner_attn_ln", "mlp_sub_norm": "mlp.ffn_layernorm"})

// tritterNames are those of Tritter's reference implementation.
var tritterNames = map[model.Role]string{
	model.RoleNorm: "norm",
	"attn_norm":    "input_layernorm", "q": "attention.q_proj", "k": "attention.k_proj", "v": "attention.v_proj",
	"q_norm": "attention.q_norm", "k_norm": "attention.k_norm", "o": "attention.o_proj",
	"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj", "post_mlp_norm": "post_mlp_layernorm",
}

// blockName returns what the names of a layer's tensors begin with.
func (f *family) blockName(layer int) string {
	block := f.block
	if block == "" {
		block = "layers"
	}
	return fmt.Sprintf("%s.%d.", block, layer)
}

// roleName returns what a tensor of a block is called, without its layer.
func (f *family) roleName(role model.Role) string {
	if p, ok := strings.CutSuffix(string(role), "_in_norm"); ok {
		return f.names[model.Role(p)] + ".rms_norm" // transformers' use_rms_norm
	}
	return f.names[role]
}

func with(base, more map[model.Role]string) map[model.Role]string {
	out := map[model.Role]string{}
	for _, m := range []map[model.Role]string{base, more} {
		for role, name := range m {
			out[role] = name
		}
	}
	return out
}

var (
	llamaEmbeds = []string{"embed_tokens"}
	llamaHeads  = []string{"lm_head"}
	preNorm     = []model.NormPosition{model.NormAttn, model.NormMLP}
	subNorm     = []model.NormPosition{model.NormAttn, model.NormAttnSub, model.NormMLP, model.NormMLPSub}
	headNorm    = []model.NormPosition{model.NormAttn, model.NormK, model.NormMLP, model.NormQ}
)

var families = []*family{
	{
		name: "bitnet", classes: []string{"BitNetForCausalLM", "BitnetForCausalLM"}, modelTypes: []string{"bitnet"}, read: (*hfConfig).readLlama,
		names: llamaNames, embeds: llamaEmbeds, heads: llamaHeads, norms: subNorm, act: model.ReLU2, theta: 500000, eps: 1e-5, ternary: true,
	},
	{
		name: "1bitllm", classes: []string{"BitnetForCausalLM"}, modelTypes: []string{"llama"}, read: (*hfConfig).readOneBit,
		names: oneBitNames, embeds: llamaEmbeds, heads: llamaHeads, norms: subNorm, act: model.SiLU, theta: 10000, eps: 1e-5, ternary: true,
	},
	{
		name: "llama", classes: []string{"LlamaForCausalLM"}, modelTypes: []string{"llama"}, read: (*hfConfig).readLlama,
		names: llamaNames, embeds: llamaEmbeds, heads: llamaHeads, norms: preNorm, act: model.SiLU, theta: 10000, eps: 1e-6, mlpBias: true,
	},
	{
		name: "mistral", classes: []string{"MistralForCausalLM"}, modelTypes: []string{"mistral"}, read: (*hfConfig).readMistral,
		names: llamaNames, embeds: llamaEmbeds, heads: llamaHeads, norms: preNorm, act: model.SiLU, theta: 10000, eps: 1e-6,
	},
	{
		name: "qwen2", classes: []string{"Qwen2ForCausalLM"}, modelTypes: []string{"qwen2"}, read: (*hfConfig).readQwen,
		names: llamaNames, embeds: llamaEmbeds, heads: llamaHeads, norms: preNorm, act: model.SiLU, theta: 10000, eps: 1e-6, biases: []model.Projection{model.K, model.Q, model.V},
	},
	{
		name: "qwen3", classes: []string{"Qwen3ForCausalLM"}, modelTypes: []string{"qwen3"}, read: (*hfConfig).readQwen,
		names: llamaNames, embeds: llamaEmbeds, heads: llamaHeads, norms: headNorm, act: model.SiLU, theta: 10000, eps: 1e-6,
	},
	{
		name: "tritter", classes: []string{"TritterModel", "TritterForCausalLM"}, modelTypes: []string{"tritter"}, read: (*hfConfig).readTritter,
		names: tritterNames, embeds: []string{"embed_tokens.embedding", "embed.embedding"}, heads: []string{"lm_head", "output_projection"},
		act: model.ReLU2, theta: 500000, eps: 1e-5,
	},
}

// refusedFamilies are checkpoints that people hold and that cannot be converted,
// with what to convert instead.
var refusedFamilies = []struct{ class, hint string }{
	{"MixtralForCausalLM", "mixtures of experts are not supported"},
	{"Qwen2MoeForCausalLM", "mixtures of experts are not supported"},
	{"Qwen3MoeForCausalLM", "mixtures of experts are not supported"},
	{"Gemma3ForCausalLM", "Gemma's norms and embeddings scale differently, and are not supported"},
	{"Gemma3TextModel", "bitnet-embedding models put a norm before every projection, which is not supported"},
	{"Qwen3Model", "bitnet-embedding models put a norm before every projection, which is not supported"},
}

// detect finds the family by architectures and model_type. A class that two
// implementations share is told apart by model_type.
func detect(o *object) (*family, error) {
	classes, _ := o.strings("architectures")
	modelType, _ := o.str("model_type")
	if o.err != nil {
		return nil, o.err
	}
	if len(classes) > 1 {
		return nil, &checkpoint.UnsupportedError{File: "config.json", Offset: noOffset, Field: "architectures", Got: fmt.Sprintf("%q", classes), Want: "one class", Hint: "keep the one that the weights belong to"}
	}
	var known []string
	var other *family // of the same class with another model_type
	for _, f := range families {
		byClass := slices.ContainsFunc(f.classes, func(c string) bool { return slices.Contains(classes, c) })
		byType := slices.Contains(f.modelTypes, modelType)
		if byClass && (byType || modelType == "") || len(classes) == 0 && f.name == modelType {
			return f, nil
		}
		if byClass {
			other = f
		}
		for _, c := range f.classes {
			if !slices.Contains(known, c) {
				known = append(known, c)
			}
		}
	}
	e := &checkpoint.UnsupportedError{File: "config.json", Offset: noOffset, Field: "architectures", Got: fmt.Sprintf("%q (model_type %q)", classes, modelType), Want: "one of " + strings.Join(known, ", ")}
	if other != nil {
		e.Want = fmt.Sprintf("model_type %q with this class", other.modelTypes[0])
		e.Hint = "the two name different models; correct config.json if one of them is wrong"
	}
	for _, r := range refusedFamilies {
		if slices.Contains(classes, r.class) {
			e.Hint = r.hint
		}
	}
	return nil, e
}
