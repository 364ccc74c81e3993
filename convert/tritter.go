package convert

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

// What Tritter's reference implementation takes when nothing is said.
const (
	tritterContext = 131072
	tritterTheta   = 500000
	tritterEps     = 1e-5
)

// ignoredByTritter are keys of TritterConfig that concern training, other devices
// and features that do not change the arithmetic of a forward pass.
var ignoredByTritter = []string{
	"bitnet_precision", "dropout", "early_exit", "gradient_checkpointing", "int4_kv_cache", "max_memory_gb", "modalities", "model_size", "sliding_window_size",
	"target_device", "tokens_seen", "training_step", "unified_embedding", "use_early_fusion", "use_flash_attention", "use_hrr", "use_streaming_llm", "use_vsa",
}

// metadataObject makes an object of the metadata in a file of weights, whose
// values are strings spelled as Python prints them.
func metadataObject(where string, metadata map[string]string) *object {
	o := &object{where: where, fields: map[string]json.RawMessage{}, asked: map[string]bool{}}
	for key, value := range metadata {
		switch value {
		case "True":
			o.fields[key] = json.RawMessage("true")
		case "False":
			o.fields[key] = json.RawMessage("false")
		case "None":
		default:
			if _, err := strconv.ParseFloat(value, 64); err == nil && json.Valid([]byte(value)) {
				o.fields[key] = json.RawMessage(value)
			} else {
				o.fields[key], _ = json.Marshal(value) // a string always can be
			}
		}
	}
	return o
}

// tritterConfig reads the configuration of a Tritter checkpoint without a
// config.json from the metadata of its weights; nil when they hold none.
func tritterConfig(weights checkpoint.Source) (*hfConfig, error) {
	metadata := weights.Metadata()
	if _, ok := metadata["hidden_size"]; !ok {
		return nil, nil
	}
	o := metadataObject("metadata of "+weights.Files()[0], metadata)
	h, err := readConfig(familyNamed("tritter"), o)
	if err == nil {
		o.asked["format"] = true
	}
	return h, err
}

// completeSizes gives o the sizes that a TritterConfig leaves to its model_size and
// to the defaults of the document.
func completeSizes(o *object, data []byte) error {
	sizes := map[string]func(c *model.TritterConfig) int{
		"hidden_size": func(c *model.TritterConfig) int { return c.HiddenSize },
		"num_layers":  func(c *model.TritterConfig) int { return c.NumLayers },
		"num_heads":   func(c *model.TritterConfig) int { return c.NumHeads },
		"vocab_size":  func(c *model.TritterConfig) int { return c.VocabSize },
	}
	var config *model.TritterConfig
	for key, size := range sizes {
		if _, ok := o.fields[key]; ok {
			continue
		}
		if config == nil {
			var err error
			if config, _, err = model.ParseTritterConfig(data); err != nil {
				return fmt.Errorf("%s: %w", o.where, err)
			}
		}
		o.fields[key] = json.RawMessage(strconv.Itoa(size(config)))
	}
	return nil
}

func familyNamed(name string) *family {
	return families[slices.IndexFunc(families, func(f *family) bool { return f.name == name })]
}

// either reads the first of two spellings of a positive integer.
func (o *object) either(a, b string) int {
	if v, ok := o.integer(a); ok && o.err == nil {
		o.asked[b] = true
		if v <= 0 {
			o.fail("%s is %d, want a positive integer", a, v)
		}
		return v
	}
	if _, ok := o.fields[b]; !ok && o.err == nil {
		o.fail("no %s and no %s, want one of them", a, b)
		return 0
	}
	return o.need(b)
}

// readTritter reads the configuration of Tritter's own model: TritterConfig, in
// its own spelling or in that of transformers. LayerNorms with bias, a norm after
// the feed-forward block, squared ReLU, float activations.
func (h *hfConfig) readTritter(o *object) {
	c := &h.config
	c.HiddenSize, c.VocabSize = o.need("hidden_size"), o.need("vocab_size")
	c.NumLayers, c.NumHeads = o.either("num_hidden_layers", "num_layers"), o.either("num_attention_heads", "num_heads")
	kvKey := "num_key_value_heads"
	if _, ok := o.fields["num_kv_heads"]; ok {
		o.asked[kvKey], kvKey = true, "num_kv_heads"
	}
	h.readHeads(o, kvKey)
	if n, ok := o.integer("intermediate_size"); ok {
		c.IntermediateSize = n
	} // otherwise the shape of the first gate says it
	if n, ok := o.integer("max_position_embeddings"); ok {
		c.MaxPositionEmbeddings = n
	} else {
		c.MaxPositionEmbeddings = tritterContext
	}
	c.Norm, c.Norms = model.LayerNorm, []model.NormPosition{model.NormAttn, model.NormK, model.NormPostMLP, model.NormQ}
	if on, ok := o.boolean("use_qk_norm"); ok && !on {
		c.Norms = []model.NormPosition{model.NormAttn, model.NormPostMLP}
	}
	c.Activation, c.NormEps, c.Rope.Type, c.Rope.Theta = model.ReLU2, tritterEps, model.RopeDefault, tritterTheta
	if act, ok := o.str("activation_function"); ok && act != "squared_relu" {
		o.fail("activation_function is %q, want \"squared_relu\": Tritter's feed-forward block has no other", act)
	}
	if eps, ok := o.number("layer_norm_eps"); ok {
		c.NormEps = eps
	}
	if theta, ok := o.number("rope_theta"); ok {
		c.Rope.Theta = theta
	}
	if on, ok := o.boolean("use_bitnet"); ok && !on {
		o.fail("use_bitnet is false: the projections are not ternary; only Tritter models with BitNet weights are supported")
	}
	c.TiedHead, _ = o.boolean("tie_word_embeddings")
	for _, key := range ignoredByTritter {
		o.asked[key] = true
	}
	o.asked["format"] = true
}

// completeTritter takes from the tensors what the configuration leaves to them.
func (h *hfConfig) completeTritter(a *assignment) error {
	c := &h.config
	base := a.prefix + "layers.0." + h.family.names["gate"]
	if c.IntermediateSize == 0 {
		for _, part := range []string{".weight", ".packed_weight"} {
			if w, ok := a.plan.dir.Weights.Lookup(base + part); ok && len(w.Shape) == 2 {
				c.IntermediateSize = int(w.Shape[0])
			}
		}
		if c.IntermediateSize == 0 {
			return fmt.Errorf("no intermediate_size in the configuration, and no tensor %s.weight to tell it", base)
		}
	}
	for _, p := range model.Projections() {
		if _, ok := a.plan.dir.Weights.Lookup(a.prefix + "layers.0." + h.family.names[model.Role(p)] + ".bias"); ok {
			c.Biases = append(c.Biases, p)
		}
	}
	slices.Sort(c.Biases)
	return nil
}

// tritterMatrix assigns a TernaryWeight: float weights with a learned scale a row,
// or the packed form of them.
func (a *assignment) tritterMatrix(t model.Tensor, base string) {
	if a.plan.options.Rule != "" {
		a.bad("Tritter's weights have their own rule, a threshold and a learned scale a row; leave out --rule")
		return
	}
	out, in := t.Shape[0], t.Shape[1]
	scale := a.float(base+".scale", []int{out, 1})
	spec := format.TensorSpec{Name: t.Name, Encoding: a.encoding, Granularity: format.ScaleRow, Dims: t.Shape}
	if _, ok := a.plan.dir.Weights.Lookup(base + ".packed_weight"); ok {
		w := a.lookup(base+".packed_weight", []int{out, (in + 3) / 4})
		if w != nil && w.DType != checkpoint.U8 {
			a.bad("%s: tensor %s has dtype %s, want U8", w.File, w.Name, w.DType)
			return
		}
		if w == nil || scale == nil {
			return
		}
		spec.Rule = format.Threshold
		a.add(Target{Source: w, Scale: scale, Rule: model.RulePackedRows, Spec: spec})
		return
	}
	w := a.float(base+".weight", t.Shape)
	if w == nil || scale == nil {
		return
	}
	spec.Rule = format.Threshold
	a.add(Target{Source: w, Scale: scale, Rule: model.RuleThreshold, Spec: spec})
}
