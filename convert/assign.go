package convert

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

// assignment gives every tensor of the manifest its source.
type assignment struct {
	plan     *Plan
	hf       *hfConfig
	prefix   string // of the base model's tensors, "model." or ""
	embed    string // base name of the embedding
	head     string // base name of the head
	rule     Rule   // of --rule, or what an online checkpoint asks for
	encoding format.Encoding
	used     map[string]bool
	refused  bool // mayQuantize said no
	scaled   bool // divides was asked
	errs     []error
}

func (a *assignment) bad(format string, args ...any) {
	a.errs = append(a.errs, fmt.Errorf(format, args...))
}

// options reads the options that decide about tensors.
func (a *assignment) options() (err error) {
	o := &a.plan.options
	a.encoding = format.Trit2
	if o.Encoding == format.Trit3.String() {
		a.encoding = format.Trit3
	}
	if o.Rule != "" {
		a.rule, err = ParseRule(o.Rule)
	} else if a.hf.masters {
		a.rule, err = ParseRule(model.RuleAbsMean)
	}
	return err
}

// newAssignment finds out how the checkpoint spells its names, and completes the
// configuration from its tensors where the family leaves that to them.
func newAssignment(p *Plan, h *hfConfig) (*assignment, error) {
	a := &assignment{plan: p, hf: h, used: map[string]bool{}, prefix: "model."}
	f := h.family
	a.embed, a.head = a.prefix+f.embeds[0], f.heads[0]
	for _, prefix := range []string{"model.", ""} { // "": the base model saved by itself
		for _, embed := range f.embeds {
			if _, ok := p.dir.Weights.Lookup(prefix + embed + ".weight"); ok {
				a.prefix, a.embed = prefix, prefix+embed
			}
		}
	}
	for _, head := range f.heads {
		for _, part := range []string{".weight", ".packed_weight"} {
			if _, ok := p.dir.Weights.Lookup(head + part); ok {
				a.head = head
			}
		}
	}
	if f.name == "tritter" {
		if err := h.completeTritter(a); err != nil {
			return nil, err
		}
	}
	return a, a.options()
}

// all assigns every tensor of the manifest, and accounts for every tensor of the
// checkpoint. All problems are reported together.
func (a *assignment) all() error {
	for _, t := range a.plan.Config.Manifest() {
		base := a.prefix + a.hf.family.names[t.Role]
		switch {
		case t.Role == model.RoleEmbed:
			base = a.embed
		case t.Role == model.RoleHead:
			base = a.head
		case t.Layer != model.NoLayer:
			base = a.prefix + a.hf.family.blockName(t.Layer) + a.hf.family.roleName(t.Role)
		}
		a.assign(t, base)
	}
	a.leftovers()
	if a.plan.options.Scale != "" && !a.scaled && len(a.errs) == 0 {
		a.bad("--scale %s: no weights of this checkpoint are packed with a weight_scale; leave it out", a.plan.options.Scale)
	}
	if len(a.errs) > 0 {
		return tooMany(a.errs)
	}
	return nil
}

// lookup finds a source tensor and holds it to a shape.
func (a *assignment) lookup(name string, shape []int) *checkpoint.Tensor {
	t, ok := a.plan.dir.Weights.Lookup(name)
	if !ok {
		a.bad("no tensor %s, which %s implies with shape %v%s", name, a.hf.where, shape, a.missingHint(name))
		return nil
	}
	a.used[name] = true
	if !sameShape(t.Shape, shape) {
		a.bad("%s: tensor %s has shape %v, want %v, which %s implies", t.File, name, t.Shape, shape, a.hf.where)
		return nil
	}
	return t
}

func (a *assignment) missingHint(name string) string {
	if name == a.head+".weight" {
		return "; if the head is the embedding, set tie_word_embeddings to true in config.json"
	}
	return ""
}

func sameShape(got []int64, want []int) bool {
	return slices.EqualFunc(got, want, func(g int64, w int) bool { return g == int64(w) })
}

func isFloat(d checkpoint.DType) bool {
	return d == checkpoint.F32 || d == checkpoint.F16 || d == checkpoint.BF16
}

// float is lookup for tensors that must hold floats.
func (a *assignment) float(name string, shape []int) *checkpoint.Tensor {
	t := a.lookup(name, shape)
	if t != nil && !isFloat(t.DType) {
		a.bad("%s: tensor %s has dtype %s, want F32, F16 or BF16", t.File, name, t.DType)
		return nil
	}
	return t
}

func (a *assignment) add(t Target) { a.plan.Targets = append(a.plan.Targets, t) }

// denseEncodings are the encodings that keep a source's floats as they are.
var denseEncodings = map[checkpoint.DType]format.Encoding{checkpoint.F32: format.F32, checkpoint.F16: format.F16, checkpoint.BF16: format.BF16}

// assign finds the source of t: base+".weight" for weights, base+".bias".
func (a *assignment) assign(t model.Tensor, base string) {
	switch t.Kind {
	case model.Matrix:
		switch {
		case a.hf.family.name == "tritter":
			a.tritterMatrix(t, base)
		case a.plan.gguf != nil:
			a.ggufMatrix(t, base)
		default:
			a.matrix(t, base)
		}
	case model.Table:
		a.table(t, base)
	case model.Vector:
		if src := a.float(base+".weight", t.Shape); src != nil {
			a.add(Target{Spec: format.TensorSpec{Name: t.Name, Encoding: denseEncodings[src.DType], Dims: t.Shape}, Source: src, Rule: model.RuleCopy})
		}
	case model.Bias:
		a.bias(t, base)
	}
}

// packed reports whether the checkpoint holds packed trits under base: the dtype,
// the scale beside it and the packed shape must agree on that.
func (a *assignment) packed(base string, shape []int) bool {
	w, ok := a.plan.dir.Weights.Lookup(base + ".weight")
	if !ok || w.DType != checkpoint.U8 {
		return false
	}
	a.used[base+".weight"] = true
	if _, ok := a.plan.dir.Weights.Lookup(base + ".weight_scale"); !ok {
		a.bad("%s: tensor %s is U8, packed trits, but there is no %s", w.File, w.Name, base+".weight_scale")
		return false
	}
	a.used[base+".weight_scale"] = true
	if out := shape[0]; out%4 != 0 {
		a.bad("%s: tensor %s has %d rows, and Hugging Face's packing of a number of rows that is not a multiple of 4 is broken; convert from the float checkpoint instead", w.File, w.Name, out)
		return false
	}
	if want := []int{shape[0] / 4, shape[1]}; !sameShape(w.Shape, want) {
		a.bad("%s: tensor %s has shape %v, want %v: %v packed four rows a byte", w.File, w.Name, w.Shape, want, shape)
		return false
	}
	return true
}

// matrix assigns a projection.
func (a *assignment) matrix(t model.Tensor, base string) {
	w, ok := a.plan.dir.Weights.Lookup(base + ".weight")
	if ok && w.DType == checkpoint.U8 {
		if a.packed(base, t.Shape) {
			a.packedMatrix(t, base)
		}
		return
	}
	src := a.float(base+".weight", t.Shape)
	if src == nil {
		return
	}
	if !a.hf.masters {
		if granularity, group, err := ternaryValues(src); err != nil {
			a.errs = append(a.errs, err)
			return
		} else if granularity != format.ScaleNone {
			a.values(t, src, granularity, group)
			return
		}
	}
	if !a.mayQuantize(src) {
		return
	}
	a.add(Target{Source: src, Rule: a.rule.name(), Spec: format.TensorSpec{Name: t.Name, Encoding: a.encoding, Rule: format.AbsMean,
		Granularity: a.rule.Granularity, Group: a.rule.Group, Dims: t.Shape}})
}

// values assigns floats that are trit x scale already: they are kept, whatever
// their scales, and never rounded again.
func (a *assignment) values(t model.Tensor, src *checkpoint.Tensor, granularity format.Granularity, group int) {
	if a.plan.options.Rule != "" {
		a.bad("%s: the values of tensor %s are trits times a scale already and are kept as they are; leave out --rule", src.File, src.Name)
		return
	}
	a.add(Target{Source: src, Rule: model.RuleValues, Spec: format.TensorSpec{Name: t.Name, Encoding: a.encoding, Rule: format.Verbatim,
		Granularity: granularity, Group: group, Dims: t.Shape}})
}

// mayQuantize reports whether float weights may be rounded to trits, once: the
// first refusal stands for all.
func (a *assignment) mayQuantize(src *checkpoint.Tensor) bool {
	if a.rule.Granularity != format.ScaleNone {
		return true
	}
	const hint = "pass --rule absmean (or absmean-row, absmean-group=N) to quantize them"
	var err error
	switch q := a.hf.quant; {
	case q != nil:
		err = fmt.Errorf("%s: tensor %s has dtype %s, but config.json says that weights are packed (quantization_mode %q, linear_class %q); if these are float masters, %s", src.File, src.Name, src.DType, q.mode, q.linearClass, hint)
	case a.hf.family.ternary && a.plan.gguf == nil:
		err = fmt.Errorf("config.json has no quantization_config, so how its float weights become trits is not known; %s", hint)
	case a.hf.family.ternary:
		err = fmt.Errorf("%s does not say how the float weights become trits; %s", a.hf.where, hint)
	default:
		err = fmt.Errorf("this is a dense model: its %s weights were not trained to be ternary, and rounding them will harm its answers; if you want that, %s", src.DType, hint)
	}
	if !a.refused {
		a.refused = true
		a.errs = append(a.errs, err)
	}
	return false
}

// packedMatrix assigns trits that the checkpoint already holds.
func (a *assignment) packedMatrix(t model.Tensor, base string) {
	w, _ := a.plan.dir.Weights.Lookup(base + ".weight")
	scale, _ := a.plan.dir.Weights.Lookup(base + ".weight_scale")
	if n := len(scale.Shape); !isFloat(scale.DType) || n > 1 || n == 1 && scale.Shape[0] != 1 {
		a.bad("%s: tensor %s is %s %v, want one float", scale.File, scale.Name, scale.DType, scale.Shape)
		return
	}
	if a.plan.options.Rule != "" {
		a.bad("%s: tensor %s already holds trits, which are kept; leave out --rule", w.File, w.Name)
		return
	}
	divide, err := a.divides(w)
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	a.add(Target{Source: w, Scale: scale, divide: divide, Rule: model.RulePacked, Spec: format.TensorSpec{Name: t.Name, Encoding: a.encoding,
		Rule: format.Verbatim, Granularity: format.ScaleTensor, Dims: t.Shape}})
}

// divides decides the convention of weight_scale. Other tools take one of the two
// for granted, and are wrong for half of the checkpoints.
func (a *assignment) divides(w *checkpoint.Tensor) (bool, error) {
	a.scaled = true
	q := a.hf.quant
	if s := a.plan.options.Scale; s != "" {
		if q != nil && q.mode == "offline" && (s == "divide") != (q.linearClass == "bitlinear") {
			return false, fmt.Errorf("--scale %s contradicts config.json, whose linear_class %q says the other; leave it out, or correct linear_class if that is wrong", s, q.linearClass)
		}
		return s == "divide", nil
	}
	if q == nil {
		return false, fmt.Errorf("%s: tensor %s is packed, but config.json has no quantization_config to say whether weight_scale multiplies or divides; pass --scale multiply (autobitlinear) or --scale divide (bitlinear)", w.File, w.Name)
	}
	if q.linearClass == "autobitlinear" && q.mode == "online" {
		return false, fmt.Errorf("%s: tensor %s is packed, but config.json says quantization_mode \"online\", which has float weights; pass --scale multiply if they are autobitlinear's packed weights", w.File, w.Name)
	}
	return q.linearClass == "bitlinear", nil
}

// bias assigns the bias of a projection. Hugging Face's packed AutoBitLinear
// multiplies its bias by the weight's scale as well.
func (a *assignment) bias(t model.Tensor, base string) {
	src := a.float(base+".bias", t.Shape)
	if src == nil {
		return
	}
	target := Target{Source: src, Rule: model.RuleFloat32, Spec: format.TensorSpec{Name: t.Name, Encoding: format.F32, Dims: t.Shape}}
	if w, ok := a.plan.dir.Weights.Lookup(base + ".weight"); ok && w.DType == checkpoint.U8 {
		if divide, err := a.divides(w); err == nil && !divide {
			target.Rule = model.RuleScaledBias
			target.Scale, _ = a.plan.dir.Weights.Lookup(base + ".weight_scale")
		}
	}
	a.add(target)
}

// table assigns the embedding or an untied head.
func (a *assignment) table(t model.Tensor, base string) {
	if _, ok := a.plan.dir.Weights.Lookup(base + ".scale"); ok && a.hf.family.name == "tritter" {
		a.tritterMatrix(t, base)
		return
	}
	if w, ok := a.plan.dir.Weights.Lookup(base + ".weight"); ok && w.DType == checkpoint.U8 && t.Role == model.RoleHead {
		if a.packed(base, t.Shape) {
			a.packedMatrix(t, base)
		}
		return
	}
	if a.plan.gguf != nil && a.ggufTable(t, base) {
		return
	}
	if src := a.float(base+".weight", t.Shape); src != nil {
		a.addTable(t, src)
	}
}

// addTable adds the embedding or a head of floats.
func (a *assignment) addTable(t model.Tensor, src *checkpoint.Tensor) {
	target := Target{Source: src, Rule: model.RuleCopy, Spec: format.TensorSpec{Name: t.Name, Encoding: denseEncodings[src.DType], Dims: t.Shape}}
	if target.Spec.Encoding == 0 { // quantized, in a GGUF file
		target.Rule, target.Spec.Encoding = model.RuleFloat32, format.F32
	}
	isHead := t.Role == model.RoleHead || a.plan.Config.TiedHead
	if isHead && a.plan.options.Head == format.Int8.String() {
		target.Rule = model.RuleInt8Row
		target.Spec.Encoding, target.Spec.Granularity = format.Int8, format.ScaleRow
	}
	a.add(target)
}

// rotaryBuffer is a table of RoPE frequencies that old versions of transformers
// stored; the configuration says the same.
var rotaryBuffer = regexp.MustCompile(`^(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq$`)

// leftovers accounts for the tensors that nothing asked for.
func (a *assignment) leftovers() {
	for _, t := range a.plan.dir.Weights.Tensors() {
		switch {
		case a.used[t.Name]:
		case t.Name == ropeFreqs && a.plan.gguf != nil:
			a.plan.Dropped = append(a.plan.Dropped, t) // the configuration says the same
		case rotaryBuffer.MatchString(t.Name):
			a.rotary(t)
		case strings.HasSuffix(t.Name, "._quantized_weight_cache") && a.hf.family.name == "tritter":
			a.plan.Dropped = append(a.plan.Dropped, t) // a buffer of what the weights say
		case t.Name == a.head+".weight" && a.plan.Config.TiedHead:
			a.tiedCopy(t, a.embed+".weight")
		default:
			a.bad("%s: tensor %s %s %v has no place in the model that %s describes", t.File, t.Name, t.DType, t.Shape, a.hf.where)
		}
	}
}

// rotary drops a stored table of RoPE frequencies, if it is the one that the
// configuration implies. Old tables were computed in half precision at times.
func (a *assignment) rotary(t *checkpoint.Tensor) {
	c := &a.plan.Config
	if !isFloat(t.DType) || !sameShape(t.Shape, []int{c.HeadDim / 2}) {
		a.bad("%s: tensor %s is %s %v, want %d floats, the RoPE frequencies", t.File, t.Name, t.DType, t.Shape, c.HeadDim/2)
		return
	}
	raw, stored := make([]byte, t.Size), make([]float32, c.HeadDim/2)
	if _, err := t.ReadAt(raw, 0); err != nil {
		a.errs = append(a.errs, err)
		return
	}
	widen(stored, raw, t.DType)
	for i, f := range stored {
		want := math.Pow(c.Rope.Theta, -2*float64(i)/float64(c.HeadDim))
		if c.Rope.Type == model.RopeDefault && !(math.Abs(float64(f)/want-1) < 0.01) {
			a.bad("%s: tensor %s: frequency %d is %v, but rope_theta %g in config.json gives %v; correct rope_theta", t.File, t.Name, i, f, c.Rope.Theta, want)
			return
		}
	}
	a.plan.Dropped = append(a.plan.Dropped, t)
}

// tiedCopy drops a head that is stored although it is the embedding, if it is.
func (a *assignment) tiedCopy(head *checkpoint.Tensor, embedName string) {
	embed, ok := a.plan.dir.Weights.Lookup(embedName)
	if !ok {
		return // reported as missing
	}
	same, err := equal(head, embed)
	switch {
	case err != nil:
		a.errs = append(a.errs, err)
	case !same:
		a.bad("config.json says tie_word_embeddings, but %s differs from %s; set tie_word_embeddings to false if the model has a head of its own", head.Name, embed.Name)
	default:
		a.plan.Dropped = append(a.plan.Dropped, head)
	}
}
