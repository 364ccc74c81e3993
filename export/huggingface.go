package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/quantize"
)

// class is a model class of transformers that AutoBitLinear models have.
type class struct {
	name, modelType string
	norms           []model.NormPosition
	activation      model.Activation
	mlpBias         bool // the class has a setting for biases of the feed-forward block
}

var classes = []class{
	{"BitNetForCausalLM", "bitnet", []model.NormPosition{model.NormAttn, model.NormAttnSub, model.NormMLP, model.NormMLPSub}, model.ReLU2, false},
	{"LlamaForCausalLM", "llama", []model.NormPosition{model.NormAttn, model.NormMLP}, model.SiLU, true},
}

// hfNames maps roles to the names of those classes.
var hfNames = map[model.Role]string{
	model.RoleEmbed: "model.embed_tokens", model.RoleHead: "lm_head", model.RoleNorm: "model.norm",
	"attn_norm": "input_layernorm", "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj",
	"attn_sub_norm": "self_attn.attn_sub_norm", "o": "self_attn.o_proj",
	"mlp_norm": "post_attention_layernorm", "gate": "mlp.gate_proj", "up": "mlp.up_proj",
	"mlp_sub_norm": "mlp.ffn_sub_norm", "down": "mlp.down_proj",
}

// HuggingFace writes the model of f to the new or empty folder dir as transformers
// stores packed BitNet models: model.safetensors with four rows of trits a byte and
// a weight_scale that multiplies (linear_class "autobitlinear"), config.json,
// generation_config.json and, where f has them, tokenizer.json and
// chat_template.jinja. The folder appears
// complete or not at all. Converting it back gives the same trits, scales, biases
// and floats, bit for bit.
//
// What that layout cannot hold is a [*RefusedError]: scales a row or a group, a
// number of rows that is not a multiple of 4, models without 8-bit activations, a
// ternary or int8 head or embedding, architectures other than BitNet's and Llama's,
// and biases that are no float32 multiple of their matrix's scale.
func HuggingFace(ctx context.Context, f *format.File, dir string) error {
	s, err := openSource(f)
	if err != nil {
		return err
	}
	var no reasons
	cl := s.refuseHF(&no)
	var plan []hfTensor
	if no.list == nil {
		if plan, err = s.hfTensors(&no); err != nil {
			return err
		}
	}
	if err := no.err("Hugging Face safetensors"); err != nil {
		return err
	}
	config, err := s.hfConfig(cl)
	if err != nil {
		return err
	}
	generation, err := s.hfGeneration()
	if err != nil {
		return err
	}
	tok, err := s.section(format.SectionTokenizer)
	if err != nil {
		return err
	}
	chat, err := s.section(format.SectionChat)
	if err != nil {
		return err
	}
	// Each tensor is checked before any is written: the writer asks for their bytes
	// in its own order.
	if err := parallel(ctx, len(f.Header().Tensors), 0, func(ctx context.Context, i int) error {
		return s.check(ctx, f.Header().Tensors[i].Name)
	}); err != nil {
		return err
	}
	return writeFolder(dir, func(temp string) error {
		for _, file := range []struct {
			name string
			data []byte
		}{{"config.json", config}, {"generation_config.json", generation}, {"tokenizer.json", tok}, {"chat_template.jinja", chat}} {
			if file.data == nil {
				continue
			}
			if err := createSynced(filepath.Join(temp, file.name), func(f *os.File) error {
				_, err := f.Write(file.data)
				return err
			}); err != nil {
				return err
			}
		}
		return createSynced(filepath.Join(temp, "model.safetensors"), func(out *os.File) error {
			return format.Guard(func() error {
				tensors := make([]safetensors.WriteTensor, len(plan))
				for i, t := range plan {
					tensors[i] = t.WriteTensor
					tensors[i].Data = &rows{ctx: ctx, n: t.rows, next: t.next}
				}
				return safetensors.Write(out, tensors, map[string]string{"format": "pt"})
			})
		})
	})
}

// refuseHF collects what the classes of transformers would compute otherwise, and
// returns the one that computes the same.
func (s *source) refuseHF(no *reasons) *class {
	c := s.config
	var found *class
	for i := range classes {
		if slices.Equal(classes[i].norms, c.Norms) {
			found = &classes[i]
		}
	}
	switch {
	case found == nil:
		no.add("it has norms at %q; transformers has packed classes with norms at %q (BitNet) and %q (Llama)", c.Norms, classes[0].norms, classes[1].norms)
	case c.Norm != model.RMSNorm:
		no.add("its norms are of kind %q; %s has RMS norms", c.Norm, found.name)
	case c.Activation != found.activation:
		no.add("its activation is %s; %s is exported with %s", c.Activation, found.name, found.activation)
	}
	if c.ActivationQuant != model.ActivationInt8 {
		no.add("its activations are %q; transformers' AutoBitLinear quantizes them to 8 bits", c.ActivationQuant)
	}
	biased := func(ps ...model.Projection) (n int) {
		for _, p := range ps {
			if c.HasBias(p) {
				n++
			}
		}
		return n
	}
	if n := biased(model.Q, model.K, model.V, model.O); n != 0 && n != 4 {
		no.add("%d of q, k, v and o have a bias; transformers' attention_bias is for all of them or none", n)
	}
	switch n := biased(model.Gate, model.Up, model.Down); {
	case n == 0:
	case found != nil && !found.mlpBias:
		no.add("its feed-forward block has biases; %s cannot have them", found.name)
	case n != 3:
		no.add("%d of gate, up and down have a bias; transformers' mlp_bias is for all of them or none", n)
	}
	return found
}

// hfTensor is a tensor to be written, whose Data is still to be made.
type hfTensor struct {
	safetensors.WriteTensor
	rows int
	next func() ([]byte, error) // the bytes of each row in turn
}

func (s *source) hfTensors(no *reasons) (out []hfTensor, err error) {
	for _, t := range s.config.Manifest() {
		base := hfNames[t.Role]
		if t.Layer != model.NoLayer {
			base = fmt.Sprintf("model.layers.%d.%s", t.Layer, base)
		}
		info := s.info(t.Name)
		switch {
		case t.Kind == model.Bias:
			h, err := s.hfBias(t, base, no)
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		case t.Kind == model.Matrix:
			if info.Granularity != format.ScaleTensor {
				no.add("tensor %s has its scales by %s; packed safetensors have one a tensor", t.Name, info.Granularity)
				continue
			}
			if info.Dims[0]%4 != 0 {
				no.add("tensor %s has %d rows; four rows are packed into a byte, and transformers' packing of other numbers is broken", t.Name, info.Dims[0])
				continue
			}
			pair, err := s.hfPacked(t.Name, base)
			if err != nil {
				return nil, err
			}
			out = append(out, pair...)
		case info.Encoding.Ternary() || info.Encoding == format.Int8:
			no.add("tensor %s is %s; transformers keeps embedding and head in floats, and converting those back would not give the same bits; export from a .trit with --head keep", t.Name, info.Encoding)
		default:
			h, err := s.hfFloats(t.Name, base)
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
	}
	return out, nil
}

var hfDTypes = map[format.Encoding]tensor.DType{format.F32: tensor.F32, format.F16: tensor.F16, format.BF16: tensor.BF16}

// hfFloats is a tensor of floats as it is.
func (s *source) hfFloats(name, base string) (h hfTensor, err error) {
	t, _ := s.file.Tensor(name)
	data, err := t.Data()
	if err != nil {
		return h, err
	}
	dtype := hfDTypes[t.Info().Encoding]
	h.rows, h.Shape = 1, make([]int64, len(t.Info().Dims))
	for i, d := range t.Info().Dims {
		h.Shape[i] = int64(d)
	}
	width := t.Info().Dims[len(t.Info().Dims)-1] * dtype.Size()
	if len(h.Shape) == 2 {
		h.rows = t.Info().Dims[0]
	}
	h.Name, h.DType = base+".weight", dtype
	h.next = func() ([]byte, error) {
		row := data[:width]
		data = data[width:]
		return row, nil
	}
	return h, nil
}

// hfPacked is the packed matrix and its scale. Byte (r, c) of a matrix of 4 P rows
// holds rows r, r+P, r+2P and r+3P of column c, low bits first, as trit + 1.
func (s *source) hfPacked(name, base string) ([]hfTensor, error) {
	m, err := s.matrix(name)
	if err != nil {
		return nil, err
	}
	plane, row := m.rows/4, 0
	packed := make([]byte, m.cols)
	w := hfTensor{rows: plane, next: func() ([]byte, error) {
		clear(packed)
		for k := range 4 {
			trits, err := m.trits(row + k*plane)
			if err != nil {
				return nil, err
			}
			for c, t := range trits {
				packed[c] |= byte(t+1) << (2 * k)
			}
		}
		row++
		return packed, nil
	}}
	w.Name, w.DType, w.Shape = base+".weight", tensor.U8, []int64{int64(plane), int64(m.cols)}
	scale := one(binary.LittleEndian.AppendUint32(nil, math.Float32bits(m.scales[0])))
	scale.Name, scale.DType, scale.Shape = base+".weight_scale", tensor.F32, []int64{1}
	return []hfTensor{w, scale}, nil
}

// one is a tensor of which all bytes are known.
func one(data []byte) hfTensor {
	return hfTensor{rows: 1, next: func() ([]byte, error) { return data, nil }}
}

// hfBias is a bias in the convention of AutoBitLinear, which multiplies it by the
// scale of the weights: what is stored is the float32 whose product with the scale
// is the bias, to the bit.
func (s *source) hfBias(t model.Tensor, base string, no *reasons) (h hfTensor, err error) {
	values, err := s.floats(t.Name)
	if err != nil {
		return h, err
	}
	w, _ := s.file.Tensor(t.Name[:len(t.Name)-len("bias")] + "weight")
	scales, err := w.Scales()
	if err != nil || len(scales) != 1 {
		return h, err // several scales are refused where the matrix is
	}
	data := make([]byte, 0, 4*len(values))
	for i, v := range values {
		stored, ok := quotient(v, scales[0])
		if !ok {
			no.add("tensor %s holds %g at %d, which no float32 times the scale %g gives; AutoBitLinear scales its biases", t.Name, v, i, scales[0])
			return h, nil
		}
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(stored))
	}
	h = one(data)
	h.Name, h.DType, h.Shape = base+".bias", tensor.F32, []int64{int64(len(values))}
	return h, nil
}

// quotient returns a float32 x with float32(x scale) == v. Where there is one, it is
// within two steps of the rounded quotient.
func quotient(v, scale float32) (x float32, ok bool) {
	x = v / scale
	down, up := x, x
	for range 3 {
		if down*scale == v && quantize.CheckFinite([]float32{down}) == nil {
			return down, true
		}
		if up*scale == v && quantize.CheckFinite([]float32{up}) == nil {
			return up, true
		}
		down = math.Nextafter32(down, float32(math.Inf(-1)))
		up = math.Nextafter32(up, float32(math.Inf(1)))
	}
	return 0, false
}

// rows reads n rows, one after the other.
type rows struct {
	ctx  context.Context
	n    int
	next func() ([]byte, error)
	left []byte
}

// Read implements io.Reader.
func (r *rows) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		if r.n == 0 {
			return 0, io.EOF
		}
		if err := r.ctx.Err(); err != nil {
			return 0, err
		}
		r.n--
		var err error
		if r.left, err = r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// hfConfig returns config.json.
func (s *source) hfConfig(cl *class) ([]byte, error) {
	c := s.config
	dtype := map[format.Encoding]string{format.F32: "float32", format.F16: "float16", format.BF16: "bfloat16"}[s.info("embed.weight").Encoding]
	out := map[string]any{
		"architectures": []string{cl.name}, "model_type": cl.modelType,
		"hidden_size": c.HiddenSize, "intermediate_size": c.IntermediateSize, "num_hidden_layers": c.NumLayers,
		"num_attention_heads": c.NumHeads, "num_key_value_heads": c.NumKVHeads, "head_dim": c.HeadDim,
		"vocab_size": c.VocabSize, "max_position_embeddings": c.MaxPositionEmbeddings,
		"hidden_act": string(c.Activation), "rms_norm_eps": decimal(c.NormEps), "rope_theta": decimal(c.Rope.Theta),
		"attention_bias": c.HasBias(model.Q), "tie_word_embeddings": c.TiedHead, "torch_dtype": dtype,
		"quantization_config": map[string]any{
			"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline", "modules_to_not_convert": nil,
		},
	}
	if cl.mlpBias {
		out["mlp_bias"] = c.HasBias(model.Gate)
	}
	switch r := c.Rope; r.Type {
	case model.RopeLinear:
		out["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": decimal(r.Factor)}
	case model.RopeLlama3:
		out["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": decimal(r.Factor), "low_freq_factor": decimal(r.LowFreqFactor),
			"high_freq_factor": decimal(r.HighFreqFactor), "original_max_position_embeddings": r.OriginalMax}
	}
	if len(s.generation.EOS) > 0 {
		out["eos_token_id"] = s.generation.EOS
	}
	return indented(out)
}

// hfGeneration returns generation_config.json. The modality of a Tritter vocabulary
// has no place in it.
func (s *source) hfGeneration() ([]byte, error) {
	g := s.generation
	out := map[string]any{}
	if len(g.EOS) > 0 {
		out["eos_token_id"] = g.EOS
	}
	set := func(key string, value *float64) {
		if value != nil {
			out[key] = decimal(*value)
		}
	}
	set("top_p", g.TopP)
	set("min_p", g.MinP)
	set("repetition_penalty", g.RepetitionPenalty)
	if t := g.Temperature; t != nil {
		// transformers samples at temperatures above 0 only, and when it is told to.
		if out["do_sample"] = *t > 0; *t > 0 {
			out["temperature"] = decimal(*t)
		}
	}
	for key, value := range map[string]*int{"max_new_tokens": g.MaxNewTokens, "top_k": g.TopK} {
		if value != nil {
			out[key] = *value
		}
	}
	return indented(out)
}

// decimal is a number that transformers wants to see as a float: 8.0, not 8.
type decimal float64

// MarshalJSON writes the shortest number that reads back, with a point or exponent.
func (d decimal) MarshalJSON() ([]byte, error) {
	b, err := json.Marshal(float64(d))
	if err == nil && !bytes.ContainsAny(b, ".e") {
		b = append(b, ".0"...)
	}
	return b, err
}

// indented returns JSON for people to read; the keys of maps are sorted.
func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return b.Bytes(), err
}
