package convert

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
	"github.com/tritter-ai/tritter/model"
)

// A GGUF file is a whole checkpoint: its metadata take the place of config.json,
// of the tokenizer and of the chat template. Names and keys are those of
// llama.cpp (gguf-py/gguf/constants.py) and, for bitnet-b1.58, of bitnet.cpp's
// fork of it.

// ggufNames are the tensors of a block and the final norm.
var ggufNames = map[model.Role]string{
	model.RoleNorm: "output_norm",
	"attn_norm":    "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "attn_sub_norm": "attn_sub_norm", "o": "attn_output",
	"mlp_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up", "mlp_sub_norm": "ffn_sub_norm", "down": "ffn_down",
}

// ggufFamilies are the architectures that are read, by general.architecture.
var ggufFamilies = map[string]*family{
	"llama":        {name: "gguf-llama", norms: preNorm, act: model.SiLU},
	"bitnet":       {name: "gguf-bitnet", norms: subNorm, act: model.SiLU, ternary: true},
	"bitnet-b1.58": {name: "gguf-bitnet-b1.58", norms: subNorm, act: model.ReLU2, ternary: true},
}

func init() {
	for _, f := range ggufFamilies {
		f.names, f.embeds, f.heads, f.block = ggufNames, []string{"token_embd"}, []string{"output"}, "blk"
	}
}

// ggufTheta is what llama.cpp takes when a file has no rope.freq_base.
const ggufTheta = 10000

// ropeFreqs holds what llama.cpp divides the rotary frequencies by.
const ropeFreqs = "rope_freqs.weight"

// metadata reads the metadata of a GGUF file key by key. The first error stays.
type metadata struct {
	r     *gguf.Reader
	arch  string
	asked map[string]bool
	err   error
}

func (m *metadata) file() string { return m.r.Files()[0] }

// key puts the architecture in front of a key and notes that it is known.
func (m *metadata) key(key string) string {
	key = m.arch + "." + key
	m.asked[key] = true
	return key
}

func (m *metadata) unsupported(key, got, want, hint string) {
	if m.err == nil {
		m.err = &checkpoint.UnsupportedError{File: m.file(), Offset: noOffset, Field: "metadata " + key, Got: got, Want: want, Hint: hint}
	}
}

// wrong says that a key contradicts something else in the file.
func (m *metadata) wrong(key, got, want, hint string) {
	if m.err == nil {
		m.err = &checkpoint.FormatError{File: m.file(), Offset: noOffset, Field: "metadata " + key, Got: got, Want: want, Hint: hint}
	}
}

// integer reads an integer of any width; absent is reported by ok.
func (m *metadata) integer(key string) (n int, ok bool) {
	if _, ok := m.r.Meta(key); !ok || m.err != nil {
		return 0, false
	}
	v, err := m.r.Int(key)
	if err == nil && (v < math.MinInt32 || v > math.MaxInt32) {
		err = &gguf.MetaError{File: m.file(), Key: key, Got: fmt.Sprint(v), Want: "a number of 32 bits"}
	}
	m.err = err
	return int(v), err == nil
}

// need reads a positive integer that must be there.
func (m *metadata) need(key string) int {
	n, ok := m.integer(key)
	switch {
	case m.err != nil:
	case !ok:
		m.err = &gguf.MetaError{File: m.file(), Key: key, Got: "no such key", Want: "a positive integer"}
	case n <= 0:
		m.err = &gguf.MetaError{File: m.file(), Key: key, Got: fmt.Sprint(n), Want: "a positive integer"}
	}
	return n
}

// optional reads a value of one type.
func optional[T any](m *metadata, key string) (v T, ok bool) {
	if _, ok := m.r.Meta(key); !ok || m.err != nil {
		return v, false
	}
	v, m.err = gguf.Get[T](m.r, key)
	return v, m.err == nil
}

// number reads a float. The file has rounded it to 32 bits; the shortest decimal
// that rounds to them is the number that was meant, 1e-5 and not
// 9.99999974737875e-06.
func (m *metadata) number(key string) (v float64, ok bool) {
	f, ok := optional[float32](m, key)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
		m.err = &gguf.MetaError{File: m.file(), Key: key, Got: fmt.Sprint(f), Want: "a finite number"}
	}
	return v, m.err == nil
}

// ggufConfig reads what the file says of the model, and puts the rows of q and k in
// the order of .trit.
func (p *Plan) ggufConfig(r *gguf.Reader) (*hfConfig, error) {
	m := &metadata{r: r, asked: map[string]bool{}}
	arch, err := gguf.Get[string](r, "general.architecture")
	if err != nil {
		return nil, err
	}
	f, ok := ggufFamilies[arch]
	if !ok {
		m.unsupported("general.architecture", strconv.Quote(arch), "llama, bitnet or bitnet-b1.58", "convert from the Hugging Face checkpoint of this model, if its class is among those that are read")
		return nil, m.err
	}
	m.arch = arch
	if n, ok := m.integer("split.count"); ok && n > 1 {
		m.unsupported("split.count", fmt.Sprintf("one of %d parts", n), "the whole file", "join them with llama.cpp's llama-gguf-split --merge")
	}
	h := &hfConfig{family: f, where: "the metadata of " + m.file()}
	h.readGGUF(m)
	h.readGGUFRope(m)
	m.refuseOthers()
	for _, key := range []string{"eos", "eot", "eom"} {
		if id, ok := m.integer("tokenizer.ggml." + key + "_token_id"); ok {
			h.eos = append(h.eos, id)
		}
	}
	if m.err != nil {
		return nil, m.err
	}
	h.readBlocks(p, r)
	p.gguf = r
	p.dir.Weights = newGGUFSource(r, arch, &h.config)
	p.configSum, err = headerSum(filepath.Join(p.dir.Path, m.file()), r)
	return h, err
}

// headerSum returns the SHA-256 of everything in front of the tensors.
func headerSum(path string, r *gguf.Reader) (sum [32]byte, err error) {
	size := int64(gguf.MaxHeader)
	for _, t := range r.Tensors() {
		size = min(size, t.Offset())
	}
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyN(h, f, size); err != nil {
		return sum, fmt.Errorf("%s: reading the %d bytes in front of the tensors: %w", path, size, err)
	}
	h.Sum(sum[:0])
	return sum, nil
}

// readGGUF reads the sizes of the model.
func (h *hfConfig) readGGUF(m *metadata) {
	c := &h.config
	c.HiddenSize, c.NumLayers = m.need(m.key("embedding_length")), m.need(m.key("block_count"))
	c.IntermediateSize, c.MaxPositionEmbeddings = m.need(m.key("feed_forward_length")), m.need(m.key("context_length"))
	c.NumHeads = m.need(m.key("attention.head_count"))
	var ok bool
	if c.NumKVHeads, ok = m.integer(m.key("attention.head_count_kv")); !ok {
		c.NumKVHeads = c.NumHeads
	}
	if c.HeadDim, ok = m.integer(m.key("attention.key_length")); !ok && m.err == nil {
		var err error
		if c.HeadDim, err = model.DeriveHeadDim(c.HiddenSize, c.NumHeads); err != nil {
			m.err = fmt.Errorf("%s: %w", h.where, err)
		}
	}
	for _, key := range []string{"attention.value_length", "rope.dimension_count"} {
		if n, ok := m.integer(m.key(key)); ok && n != c.HeadDim {
			m.unsupported(m.key(key), fmt.Sprint(n), fmt.Sprintf("%d, the size of a head", c.HeadDim), "")
		}
	}
	c.Norm, c.Norms, c.Activation, c.Biases = model.RMSNorm, h.family.norms, h.family.act, []model.Projection{}
	if c.NormEps, ok = m.number(m.key("attention.layer_norm_rms_epsilon")); !ok && m.err == nil {
		m.err = &gguf.MetaError{File: m.file(), Key: m.key("attention.layer_norm_rms_epsilon"), Got: "no such key", Want: "a number"}
	}
	embed, ok := m.r.Lookup("token_embd.weight")
	if !ok || len(embed.Shape) != 2 {
		m.wrong(m.key("vocab_size"), "no matrix token_embd.weight", "the embedding: its rows are the vocabulary", "the file is incomplete; is it one of several parts?")
		return
	}
	c.VocabSize = int(min(embed.Shape[0], math.MaxInt32))
	if n, ok := m.integer(m.key("vocab_size")); ok && n != c.VocabSize {
		m.wrong(m.key("vocab_size"), fmt.Sprint(n), fmt.Sprintf("%d, the rows of token_embd.weight", c.VocabSize), "")
	}
	_, hasHead := m.r.Lookup("output.weight")
	c.TiedHead = !hasHead
	for _, proj := range model.Projections() {
		if _, ok := m.r.Lookup("blk.0." + h.family.names[model.Role(proj)] + ".bias"); ok {
			c.Biases = append(c.Biases, proj)
		}
	}
	slices.Sort(c.Biases)
}

// readGGUFRope reads the rotary embedding.
func (h *hfConfig) readGGUFRope(m *metadata) {
	rope := &h.config.Rope
	rope.Type, rope.Pairing = model.RopeDefault, model.PairHalf
	theta, ok := m.number(m.key("rope.freq_base"))
	if rope.Theta = theta; !ok && m.err == nil {
		rope.Theta = ggufTheta
		h.warn("%s has no %s; llama.cpp means %d by that", m.file(), m.key("rope.freq_base"), ggufTheta)
	}
	kind, _ := optional[string](m, m.key("rope.scaling.type"))
	factor, hasFactor := m.number(m.key("rope.scaling.factor"))
	switch {
	case kind == "linear":
		if rope.Type, rope.Factor = model.RopeLinear, factor; !hasFactor && m.err == nil {
			m.err = &gguf.MetaError{File: m.file(), Key: m.key("rope.scaling.factor"), Got: "no such key", Want: "a number, which rope.scaling.type \"linear\" needs"}
		}
	case kind != "" && kind != "none":
		m.unsupported(m.key("rope.scaling.type"), strconv.Quote(kind), `"none" or "linear"`, "")
	case hasFactor && factor != 1:
		m.wrong(m.key("rope.scaling.type"), fmt.Sprintf("%q with rope.scaling.factor %g", kind, factor), `"linear", or no factor`, "which of the two holds is not known; correct the file")
	}
	if t, ok := m.r.Lookup(ropeFreqs); ok && m.err == nil {
		m.err = h.readRopeFreqs(t)
	}
}

// llama3Scalings are those of Llama 3.1 and of Llama 3.2. llama.cpp's converter
// keeps only what comes of them.
var llama3Scalings = []model.Rope{
	{Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMax: 8192},
	{Factor: 32, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMax: 8192},
}

// ropeFreqsError is how far the stored factors may be from the exact ones: the
// converter computes them in float32, where theta^(2i/d) is off by up to 14 units
// of 2^-24 (the exponent times ln theta), the blend by a third of four times that
// and two roundings, and its inverse by factor - 1 times the blend, at most 31.
// Other scalings differ by more than a tenth.
const ropeFreqsError = 1.0 / (1 << 15)

// readRopeFreqs finds the scaling of which rope_freqs.weight is the result.
func (h *hfConfig) readRopeFreqs(t *checkpoint.Tensor) error {
	c := &h.config
	refuse := func(got string) error {
		return &checkpoint.UnsupportedError{File: t.File, Offset: noOffset, Field: "tensor " + t.Name, Got: got,
			Want: "the factors of Llama 3.1 (8) or 3.2 (32) for a context of 8192", Hint: "convert from the Hugging Face checkpoint, whose config.json has the scaling"}
	}
	if t.DType != checkpoint.F32 || !sameShape(t.Shape, []int{c.HeadDim / 2}) {
		return refuse(fmt.Sprintf("%s %v", t.DType, t.Shape))
	}
	if c.Rope.Type != model.RopeDefault {
		return refuse(fmt.Sprintf("a scaling besides %q", c.Rope.Type))
	}
	raw, stored := make([]byte, t.Size), make([]float32, c.HeadDim/2)
	if _, err := t.ReadAt(raw, 0); err != nil {
		return err
	}
	widen(stored, raw, t.DType)
	for _, s := range llama3Scalings {
		if slices.EqualFunc(stored, llama3Factors(&s, c.Rope.Theta, c.HeadDim), func(a float32, b float64) bool { return math.Abs(float64(a)/b-1) < ropeFreqsError }) {
			s.Type, s.Theta, s.Pairing = model.RopeLlama3, c.Rope.Theta, c.Rope.Pairing
			c.Rope = s
			return nil
		}
	}
	return refuse(fmt.Sprintf("factors from %g to %g", stored[0], stored[len(stored)-1]))
}

// llama3Factors returns what Llama 3's scaling divides each frequency by
// (spec/numerics.md, section 11).
func llama3Factors(s *model.Rope, theta float64, headDim int) []float64 {
	out := make([]float64, headDim/2)
	for i := range out {
		turns := float64(s.OriginalMax) * math.Pow(theta, -float64(2*i)/float64(headDim)) / (2 * math.Pi)
		blend := min(max((turns-s.LowFreqFactor)/(s.HighFreqFactor-s.LowFreqFactor), 0), 1)
		out[i] = 1 / ((1-blend)/s.Factor + blend)
	}
	return out
}

// refuseOthers refuses keys of the architecture that nothing has asked for: by
// their place they say what the model computes.
func (m *metadata) refuseOthers() {
	for _, key := range []string{"expert_count", "expert_used_count"} {
		if n, ok := m.integer(m.key(key)); ok && n != 0 {
			m.unsupported(m.key(key), fmt.Sprint(n), "0", "mixtures of experts are not supported")
		}
	}
	for _, key := range []string{
		"attention.layer_norm_epsilon",                                                         // of norms that these architectures do not have
		"rope.scaling.original_context_length", "rope.scaling.finetuned", "tensor_data_layout", // information
	} {
		m.key(key)
	}
	for _, key := range m.r.Keys() {
		if strings.HasPrefix(key, m.arch+".") && !m.asked[key] {
			v, _ := m.r.Meta(key)
			m.unsupported(key, tensor.Quote(fmt.Sprint(v)), "no such key", "it may change what the model computes; convert from the Hugging Face checkpoint")
		}
	}
}

// readBlocks takes the kind of activations from the types of the matrices.
func (h *hfConfig) readBlocks(p *Plan, r *gguf.Reader) {
	tq := false
	for _, t := range r.Tensors() {
		switch typ, _ := gguf.TypeOf(t.DType); typ {
		case gguf.TQ1, gguf.TQ2:
			tq = true
		case gguf.I2S:
			h.int8 = true // bitnet.cpp's kernels for it round every token to int8
		}
	}
	if tq && !h.int8 && !h.family.ternary && p.options.Activations == "" {
		h.warn("llama.cpp rounds the inputs of TQ1_0 and TQ2_0 matrices to 8 bits in blocks of 256, which no .trit does: inputs stay floats; pass --activations int8 if the model was trained with 8-bit activations, as BitNet is")
	}
}

// ggufSource is a GGUF file with the rows of q and k in the order of .trit.
type ggufSource struct {
	*gguf.Reader
	tensors []*checkpoint.Tensor // sorted by name
}

func newGGUFSource(r *gguf.Reader, arch string, c *model.Config) *ggufSource {
	s := &ggufSource{Reader: r, tensors: slices.Clone(r.Tensors())}
	if arch != "llama" {
		return s // the others rotate halves of a head themselves
	}
	for i, t := range s.tensors {
		heads := 0
		switch {
		case strings.HasSuffix(t.Name, ".attn_q.weight"), strings.HasSuffix(t.Name, ".attn_q.bias"):
			heads = c.NumHeads
		case strings.HasSuffix(t.Name, ".attn_k.weight"), strings.HasSuffix(t.Name, ".attn_k.bias"):
			heads = c.NumKVHeads
		}
		// Where the shape is another one, assign says so.
		if heads == 0 || len(t.Shape) == 0 || t.Shape[0] != int64(heads)*int64(c.HeadDim) || c.HeadDim%2 != 0 {
			continue
		}
		cols := 1
		if len(t.Shape) == 2 {
			cols = int(t.Shape[1])
		}
		s.tensors[i] = tensor.New(*t, &pairedRows{t: t, rows: int(t.Shape[0]), width: int64(rowBytes(t.DType, cols)), heads: heads}, t.Offset())
	}
	return s
}

// Tensors implements [checkpoint.Source].
func (s *ggufSource) Tensors() []*checkpoint.Tensor { return s.tensors }

// Lookup implements [checkpoint.Source].
func (s *ggufSource) Lookup(name string) (*checkpoint.Tensor, bool) {
	i, ok := slices.BinarySearchFunc(s.tensors, name, func(t *checkpoint.Tensor, name string) int { return strings.Compare(t.Name, name) })
	if !ok {
		return nil, false
	}
	return s.tensors[i], true
}

// pairedRows reads rows of t, which pair neighbouring elements of a head, in the
// order that pairs the halves of a head. What follows the last row stays behind it.
type pairedRows struct {
	t     *checkpoint.Tensor
	rows  int
	width int64 // bytes of a row
	heads int
}

// ReadAt implements [io.ReaderAt]; off counts from the begin of the file.
func (p *pairedRows) ReadAt(b []byte, off int64) (done int, err error) {
	for done < len(b) && err == nil {
		at := off - p.t.Offset() + int64(done)
		end := len(b)
		if row := at / p.width; row < int64(p.rows) {
			within := at % p.width
			end = min(end, done+int(p.width-within))
			at = int64(gguf.FileRow(int(row), p.rows, p.heads))*p.width + within
		}
		var n int
		n, err = p.t.ReadAt(b[done:end], at)
		done += n
	}
	return done, err
}
