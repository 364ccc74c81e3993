package export

import (
	"context"
	"fmt"
	"math"
	"os"

	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

// GGUFOptions are the choices of a GGUF export.
type GGUFOptions struct {
	// Encoding of the ternary matrices: "tq2_0" (2.06 bits a weight), "tq1_0"
	// (1.69) or "f16" (16, for tools without the ternary types).
	Encoding string
	// NoTokenizer leaves the tokenizer out: the file then says that it has no
	// vocabulary, and works on ids only.
	NoTokenizer bool
	// Name becomes general.name, which tools show; "" leaves it out.
	Name string
	// Workers is how many tensors are written at once; 0 is GOMAXPROCS.
	Workers int
}

// GGUFReport says what a GGUF export did.
type GGUFReport struct {
	Path     string   `json:"path"`
	Size     int64    `json:"size"` // bytes
	Encoding string   `json:"encoding"`
	Warnings []string `json:"warnings"`
	// ScaleError is the greatest relative error of a scale through rounding it
	// to f16, and ScaleErrorTensor where that is; at most 2^-11 for a scale of
	// 6.1e-5 and above.
	ScaleError       float64 `json:"scale_error"`
	ScaleErrorTensor string  `json:"scale_error_tensor"`
}

// encodings holds, for each Encoding, the type of ternary matrices and the number
// that llama.cpp gives files of mostly that type.
var encodings = map[string]struct {
	typ      gguf.Type
	fileType uint32
}{
	"tq2_0": {gguf.TQ2, 37},
	"tq1_0": {gguf.TQ1, 36},
	"f16":   {gguf.F16, 1},
}

// ggufNames maps roles to the names of llama.cpp's architecture "llama".
var ggufNames = map[model.Role]string{
	model.RoleEmbed: "token_embd", model.RoleHead: "output", model.RoleNorm: "output_norm",
	"attn_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
	"mlp_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}

// GGUF writes the model of f to a .gguf file at path that llama.cpp loads and runs
// as architecture "llama". The file appears complete or not at all.
//
// Models of Llama's kind can be exported: RMS norms before attention and
// feed-forward and no others, SiLU, any biases. A model of another kind, a
// tokenizer that llama.cpp does not have, and for tq1_0 and tq2_0 a matrix whose
// rows are not a multiple of 256 or whose scales change inside 256 columns, is a
// [*RefusedError] with the reasons.
//
// Rows of q and k are permuted from the half-pair order of rotary embeddings to the
// interleaved order that llama.cpp rotates. Scales become f16, which the report
// measures; in f16 so do their products with trits, exactly. Norms and biases are
// stored as f32, embedding and head in the precision they have, but int8 ones as
// f16. llama.cpp quantizes activations in its own way, by blocks of 256 under tq1_0
// and tq2_0 and not at all to 8 bits under f16, so its logits differ by that.
func GGUF(ctx context.Context, f *format.File, path string, opt GGUFOptions) (*GGUFReport, error) {
	enc, ok := encodings[opt.Encoding]
	if !ok {
		return nil, fmt.Errorf("encoding %q, want tq2_0, tq1_0 or f16", opt.Encoding)
	}
	s, err := openSource(f)
	if err != nil {
		return nil, err
	}
	var no reasons
	s.refuseGGUF(&no, opt.Encoding)
	meta := &metadata{}
	s.describe(meta, enc.fileType, opt.Name)
	report := &GGUFReport{Path: path, Encoding: opt.Encoding, Warnings: []string{}}
	if opt.NoTokenizer {
		meta.text("tokenizer.ggml.model", "none")
	} else if err := s.describeTokenizer(meta, report, &no); err != nil {
		return nil, err
	}
	tensors, err := s.ggufTensors(enc.typ, report, &no)
	if err != nil {
		return nil, err
	}
	if err := no.err("GGUF " + opt.Encoding); err != nil {
		return nil, err
	}
	header, size := layoutGGUF(meta, tensors)
	report.Size = size
	return report, writeFile(path, func(out *os.File) error {
		// What is not written later, padding, reads as zeros.
		if err := out.Truncate(size); err != nil {
			return err
		}
		if _, err := out.WriteAt(header, 0); err != nil {
			return err
		}
		return parallel(ctx, len(tensors), opt.Workers, func(ctx context.Context, i int) error {
			t := &tensors[i]
			if t.source != "" {
				if err := s.check(ctx, t.source); err != nil {
					return err
				}
			}
			w := &section{ctx: ctx, f: out, at: t.at, end: t.at + t.size}
			if err := t.write(w); err != nil {
				return err
			}
			return w.finish(t.name)
		})
	})
}

// refuseGGUF collects what llama.cpp's graph for "llama" would compute otherwise.
func (s *source) refuseGGUF(no *reasons, encoding string) {
	c := s.config
	const graph = `llama.cpp's architecture "llama"`
	if c.Activation != model.SiLU {
		no.add("its activation is %s; %s and its graph for BitNet are both fixed to SiLU, and would answer with nonsense", c.Activation, graph)
	}
	if c.Norm != model.RMSNorm {
		no.add("its norms are of kind %q; %s has RMS norms only", c.Norm, graph)
	}
	for _, p := range c.Norms {
		if p != model.NormAttn && p != model.NormMLP {
			no.add("it has norms at %s; %s has none there, and its graph for BitNet, which has sub-norms, is fixed to SiLU and to scales of its own", p, graph)
		}
	}
	for _, p := range []model.NormPosition{model.NormAttn, model.NormMLP} {
		if !c.HasNorm(p) {
			no.add("it has no norm at %s; %s needs one", p, graph)
		}
	}
	if c.HasBias(model.Q) && c.NumHeads*c.HeadDim != c.HiddenSize {
		no.add("its q bias has %d elements; %s takes hidden_size, %d", c.NumHeads*c.HeadDim, graph, c.HiddenSize)
	}
	if encoding == "f16" {
		return
	}
	for _, k := range []struct {
		name string
		size int
	}{{"hidden_size", c.HiddenSize}, {"num_heads x head_dim", c.NumHeads * c.HeadDim}, {"intermediate_size", c.IntermediateSize}} {
		if k.size%tqBlock != 0 {
			no.add("%s is %d; %s stores rows in blocks of %d weights; --encoding f16 has no such limit", k.name, k.size, encoding, tqBlock)
		}
	}
}

// describe writes the metadata of the architecture.
func (s *source) describe(m *metadata, fileType uint32, name string) {
	c := s.config
	m.text("general.architecture", "llama")
	m.text("general.type", "model")
	if name != "" {
		m.text("general.name", name)
	}
	m.u32("general.file_type", fileType)
	m.u32("general.quantization_version", 2)
	m.count("llama.vocab_size", c.VocabSize)
	m.count("llama.context_length", c.MaxPositionEmbeddings)
	m.count("llama.embedding_length", c.HiddenSize)
	m.count("llama.block_count", c.NumLayers)
	m.count("llama.feed_forward_length", c.IntermediateSize)
	m.count("llama.attention.head_count", c.NumHeads)
	m.count("llama.attention.head_count_kv", c.NumKVHeads)
	m.count("llama.attention.key_length", c.HeadDim)
	m.count("llama.attention.value_length", c.HeadDim)
	m.f32("llama.attention.layer_norm_rms_epsilon", float32(c.NormEps))
	m.count("llama.rope.dimension_count", c.HeadDim)
	m.f32("llama.rope.freq_base", float32(c.Rope.Theta))
	if c.Rope.Type == model.RopeLinear {
		m.text("llama.rope.scaling.type", "linear")
		m.f32("llama.rope.scaling.factor", float32(c.Rope.Factor))
	}
}

// ropeFactors returns by what llama.cpp shall divide each rotary frequency, for
// Llama 3's scaling: high frequencies by 1, low ones by the factor, and those
// between by a blend (transformers, "llama3"; spec/numerics.md).
func ropeFactors(r *model.Rope, headDim int) []float32 {
	out := make([]float32, headDim/2)
	for i := range out {
		frequency := math.Pow(r.Theta, -float64(2*i)/float64(headDim))
		turns := float64(r.OriginalMax) * frequency / (2 * math.Pi) // in the original context
		blend := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
		blend = min(max(blend, 0), 1)
		out[i] = float32(1 / ((1-blend)/r.Factor + blend))
	}
	return out
}

// outTensor is a tensor of the file to be written.
type outTensor struct {
	name   string
	typ    gguf.Type
	dims   []int  // [n] or [out, in]
	source string // the .trit tensor to check first; "" when computed
	write  func(w *section) error

	at, size int64
}

// ggufTensors plans the tensors in the order of the manifest.
func (s *source) ggufTensors(ternary gguf.Type, report *GGUFReport, no *reasons) ([]outTensor, error) {
	var out []outTensor
	if s.config.Rope.Type == model.RopeLlama3 {
		factors := ropeFactors(&s.config.Rope, s.config.HeadDim)
		out = append(out, outTensor{name: "rope_freqs.weight", typ: gguf.F32, dims: []int{len(factors)}, write: func(w *section) error { return w.floats(factors) }})
	}
	for _, t := range s.config.Manifest() {
		base, known := ggufNames[t.Role]
		if !known {
			continue // refused already
		}
		if t.Layer != model.NoLayer {
			base = fmt.Sprintf("blk.%d.%s", t.Layer, base)
		}
		heads := 0 // to permute the rows of
		switch t.Role {
		case "q":
			heads = s.config.NumHeads
		case "k":
			heads = s.config.NumKVHeads
		}
		o := outTensor{name: base + ".weight", dims: t.Shape, source: t.Name}
		info := s.info(t.Name)
		switch {
		case t.Kind == model.Bias:
			o.name, o.typ = base+".bias", gguf.F32
			o.write = func(w *section) error { return s.writeVector(w, t.Name, heads) }
		case t.Kind == model.Vector:
			o.typ = gguf.F32
			o.write = func(w *section) error { return s.writeVector(w, t.Name, 0) }
		case info.Encoding.Ternary():
			if err := s.checkScales(t.Name, ternary, report, no); err != nil {
				return nil, err
			}
			o.typ = ternary
			o.write = func(w *section) error { return s.writeTernary(w, t.Name, ternary, heads) }
		case info.Encoding == format.Int8:
			o.typ = gguf.F16
			o.write = func(w *section) error { return s.writeInt8(w, t.Name) }
		default:
			o.typ = map[format.Encoding]gguf.Type{format.F32: gguf.F32, format.F16: gguf.F16, format.BF16: gguf.BF16}[info.Encoding]
			o.write = func(w *section) error { return s.copyTable(w, t.Name) }
		}
		out = append(out, o)
	}
	return out, nil
}

// checkScales holds the scales of a ternary tensor to what a type can store.
func (s *source) checkScales(name string, typ gguf.Type, report *GGUFReport, no *reasons) error {
	t, _ := s.file.Tensor(name)
	if i := t.Info(); typ != gguf.F16 && i.Granularity == format.ScaleGroup && i.Group%tqBlock != 0 {
		no.add("tensor %s has a scale for every %d columns; %v has one for every %d, --encoding f16 has no such limit", name, i.Group, typ, tqBlock)
	}
	scales, err := t.Scales()
	if err != nil {
		return err
	}
	for _, v := range scales {
		_, relative, ok := halfScale(v)
		if !ok {
			no.add("tensor %s has the scale %g, which is outside of f16's range", name, v)
			return nil
		}
		if relative > report.ScaleError {
			report.ScaleError, report.ScaleErrorTensor = relative, name
		}
	}
	return nil
}

// describeTokenizer writes the metadata of the tokenizer.
func (s *source) describeTokenizer(m *metadata, report *GGUFReport, no *reasons) error {
	t, err := runtime.ReadTokenizer(s.file, s.config.VocabSize)
	if err != nil {
		return fmt.Errorf("%w; --no-tokenizer exports without one", err)
	}
	data, err := s.section(format.SectionTokenizer)
	if err != nil {
		return err
	}
	v, err := readVocabulary(data, t, s.config.VocabSize)
	if err != nil {
		return fmt.Errorf("%w; --no-tokenizer exports without one", err)
	}
	v.describe(m, s.generation.EOS, report, no)
	chat, err := s.section(format.SectionChat)
	if chat != nil {
		m.text("tokenizer.chat_template", string(chat))
	}
	return err
}
