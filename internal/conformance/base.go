package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// shape is the architecture of a small model and how its tensors are stored.
type shape struct {
	hidden, ffn, heads, kv, headDim, vocab int

	encoding, rule, granularity uint16 // of the projections
	group                       int
	table, vector               uint16  // encodings of embedding and norms
	head                        *tensor // nil: tied

	norm   string // kind of norm
	norms  []string
	biases []string
	edits  []string // of the config: old, new, old, new
}

// small is the least model with every required tensor. Its matrices have one tile
// each, mostly of padding.
func small() shape {
	return shape{hidden: 2, ffn: 3, heads: 1, kv: 1, headDim: 2, vocab: 3, encoding: trit2, rule: absmean, granularity: perTensor, table: f32, vector: f32, norm: "rms"}
}

// config is the section of that name. Edits replace parts of its text, so that
// anything can be written.
func (s *shape) config() []byte {
	list := func(names []string) string {
		if len(names) == 0 {
			return "[]"
		}
		sorted := slices.Sorted(slices.Values(names))
		return `["` + strings.Join(sorted, `","`) + `"]`
	}
	text := fmt.Sprintf(`{"activation":"relu2","activation_quant":"int8","biases":%s,"head_dim":%d,"hidden_size":%d,"intermediate_size":%d,"max_position_embeddings":8,"modalities":["text"],"norm":"%s","norm_eps":0.00001,"norms":%s,"num_heads":%d,"num_kv_heads":%d,"num_layers":1,"rope":{"pairing":"half","theta":10000,"type":"default"},"tied_head":%v,"vocab_size":%d}`,
		list(s.biases), s.headDim, s.hidden, s.ffn, s.norm, list(s.norms), s.heads, s.kv, s.head == nil, s.vocab)
	return []byte(edit(text, s.edits...))
}

// edit replaces old by new, for each pair; each old text must be there once.
func edit(text string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			panic(fmt.Sprintf("conformance: %q occurs %d times in %q, want once", pairs[i], strings.Count(text, pairs[i]), text))
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// file makes the model, its tensors in the order of spec/trit-v1.md, 11.
func (s shape) file() *file {
	f := &file{}
	add := func(t *tensor) { f.tensors = append(f.tensors, t) }
	norm := func(name string, n int) {
		add(dense(name+".weight", s.vector, n, 0))
		if s.norm == "layer" {
			add(dense(name+".bias", f32, n, 0))
		}
	}
	blockNorm := func(position string, n int) {
		if slices.Contains(s.norms, position) {
			norm("layers.0."+position+"_norm", n)
		}
	}
	matrix := func(name string, out, in int) {
		if slices.Contains(s.norms, "proj") {
			add(dense("layers.0."+name+"_in_norm.weight", s.vector, in, 0))
		}
		add(ternary("layers.0."+name+".weight", s.encoding, s.rule, s.granularity, out, in, s.group))
		if slices.Contains(s.biases, name) {
			add(dense("layers.0."+name+".bias", f32, out, 0))
		}
	}
	if s.table == int8s {
		add(rounded("embed.weight", s.vocab, s.hidden))
	} else {
		add(dense("embed.weight", s.table, s.vocab, s.hidden))
	}
	q, kv := s.heads*s.headDim, s.kv*s.headDim
	blockNorm("attn", s.hidden)
	matrix("q", q, s.hidden)
	matrix("k", kv, s.hidden)
	matrix("v", kv, s.hidden)
	blockNorm("q", s.headDim)
	blockNorm("k", s.headDim)
	blockNorm("attn_sub", q)
	matrix("o", s.hidden, q)
	blockNorm("post_attn", s.hidden)
	blockNorm("mlp", s.hidden)
	matrix("gate", s.ffn, s.hidden)
	matrix("up", s.ffn, s.hidden)
	blockNorm("mlp_sub", s.ffn)
	matrix("down", s.hidden, s.ffn)
	blockNorm("post_mlp", s.hidden)
	norm("norm", s.hidden)
	if s.head != nil {
		add(s.head)
	}
	f.sections = []*section{{"config", s.config()}}
	return f
}

// with adds a section in its place.
func (f *file) with(name, text string) *file {
	i, _ := slices.BinarySearchFunc(f.sections, name, func(s *section, name string) int { return strings.Compare(s.name, name) })
	f.sections = slices.Insert(f.sections, i, &section{name, []byte(text)})
	return f
}

// plain is the file that most vectors change.
func plain() *file { return small().file() }

// two is the least container with data, scales and a section. Vectors that are
// refused while opening use it: what its config says is not read.
func two() *file {
	return &file{
		tensors:  []*tensor{ternary("a.weight", trit2, verbatim, perRow, 2, 130, 0), dense("b.weight", f32, 3, 0)},
		sections: []*section{{"config", []byte("{}")}},
	}
}
