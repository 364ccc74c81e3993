package conformance

import (
	"fmt"
	"strings"
)

// tokenizerJSON is the least tokenizer that every reader of the format takes: two
// tokens, one merge.
const tokenizerJSON = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}` + "\n"

const (
	generationJSON = `{"eos":[0,2],"max_new_tokens":5,"min_p":0.05,"modality":"text","repetition_penalty":1.1,"temperature":0.7,"top_k":40,"top_p":0.9}`
	selfTestJSON   = `{"logits":[{"bits":1065353216,"id":1},{"bits":1065353216,"id":2},{"bits":3212836864,"id":0}],"prompt":[1,2,0],"texts":[{"ids":[2,0],"text":"aba"}]}`
)

// zeros64 are the digits of a SHA-256 in provenance that nobody can hold to a
// source.
var zeros64 = strings.Repeat("0", 64)

// provenanceJSON names a source for every tensor of f.
func provenanceJSON(f *file) string {
	var list []string
	for _, t := range f.tensors {
		rule, dims := "copy", fmt.Sprintf("%d,%d", t.dim0, t.dim1)
		if t.rank == 1 {
			dims = fmt.Sprint(t.dim0)
		}
		if t.rule != 0 {
			rule = ruleNames[t.rule]
		}
		list = append(list, fmt.Sprintf(`{"dtype":"F32","file":"model.safetensors","name":"model.%s","rule":"%s","sha256":"%s","shape":[%s],"target":"%s"}`, t.name, rule, zeros64, dims, t.name))
	}
	return fmt.Sprintf(`{"config_sha256":"%s","family":"bitnet","options":{"rule":"absmean"},"tensors":[%s],"tool":"a tool 1.0"}`, zeros64, strings.Join(list, ","))
}

func successes() []generator {
	var list []generator
	add := func(name, comment string, f *file, rules ...string) {
		list = append(list, accepted(name, comment, f, rules...))
	}

	// Projections of 130 columns have a second tile of which two columns exist;
	// rows are 2 of 4, or 6 of 8. A group of 128 leaves a group of two.
	for _, encoding := range []uint16{trit2, trit3} {
		for _, rule := range []uint16{absmean, threshold, verbatim} {
			for _, granularity := range []uint16{perTensor, perRow, perGroup} {
				s := small()
				s.encoding, s.rule, s.granularity = encoding, rule, granularity
				if granularity == perGroup {
					s.group = 128
				}
				if rule == verbatim {
					s.hidden = 130
				}
				name := fmt.Sprintf("%s-%s-%s", encodingNames[encoding], ruleNames[rule], granularityNames[granularity])
				add(name, fmt.Sprintf("projections of %s under the rule %s, a scale for each %s", encodingNames[encoding], ruleNames[rule], granularityNames[granularity]), s.file(), "rule", "scale-sign")
			}
		}
	}
	for _, encoding := range []uint16{f32, f16, bf16} {
		s := small()
		s.table, s.vector, s.hidden = encoding, encoding, 5
		add(encodingNames[encoding], "embedding and norms of "+encodingNames[encoding], s.file(), "finite")
	}
	s := small()
	s.table, s.vocab = int8s, 130
	add("int8", "an int8 embedding with codes from -127 to 127, a zero scale, and the norm of f32", s.file(), "int8", "scale-int8")

	s = small()
	s.encoding, s.hidden, s.ffn, s.vocab = trit3, 128, 5, 2
	add("trit3-full-tile", "matrices of exactly 128 columns: the bytes 24 and 25 of a run end at 80", s.file(), "trit3-digit")
	s = small()
	s.hidden, s.ffn, s.vocab = 256, 4, 1
	add("trit2-full-tile", "matrices of exactly 4 rows and 256 columns, without padding", s.file(), "trit2-padding")
	s = small()
	s.granularity, s.group, s.hidden, s.rule = perGroup, 2147483520, 130, verbatim
	add("group-greatest", "the greatest group size, 2^31 - 128, which is one group a row", s.file(), "group")

	for _, head := range []*tensor{
		dense("head.weight", f32, 3, 2), dense("head.weight", bf16, 3, 2), rounded("head.weight", 3, 2),
		ternary("head.weight", trit2, absmean, perRow, 3, 2, 0), ternary("head.weight", trit3, verbatim, perTensor, 3, 2, 0),
	} {
		s := small()
		s.head = head
		name := encodingNames[head.encoding]
		add("head-"+name, "a head of its own, "+name, s.file(), "manifest-present")
	}

	s = small()
	s.norm, s.norms = "layer", []string{"attn", "q", "k", "post_mlp"}
	add("norms-layer", "LayerNorm at the positions of Tritter; every norm has a bias", s.file(), "manifest-present")
	s = small()
	s.norms = []string{"attn", "attn_sub", "mlp", "mlp_sub"}
	add("norms-rms", "RMS norms at the positions of BitNet b1.58", s.file(), "manifest-present")
	s = small()
	s.norms = []string{"attn", "attn_sub", "k", "mlp", "mlp_sub", "post_attn", "post_mlp", "proj", "q"}
	s.edits = []string{`"rope"`, `"proj_norm_eps":0.000001,"rope"`}
	add("norms-all", "every position has a norm, each projection one of its own", s.file(), "manifest-present", "config-proj-norm-eps")
	s = small()
	s.biases = []string{"down", "gate", "k", "o", "q", "up", "v"}
	add("biases", "every projection has a bias", s.file(), "manifest-present")
	s = small()
	s.heads, s.kv, s.headDim = 4, 2, 2
	add("grouped-query", "four heads of queries, two of keys and values", s.file(), "config-sizes")

	s = small()
	s.edits = []string{`"theta":10000,"type":"default"`, `"theta":1000000000000,"type":"linear"`, `"rope":{`, `"rope":{"factor":2.5,`}
	add("rope-linear", "linear RoPE with the greatest theta", s.file(), "config-rope", "config-rope-keys")
	s = small()
	s.edits = []string{`"type":"default"`, `"type":"llama3"`, `"rope":{`, `"rope":{"factor":8,"high_freq_factor":4,"low_freq_factor":1,"original_max_position_embeddings":8192,`}
	add("rope-llama3", "llama3 RoPE", s.file(), "config-rope", "config-rope-keys")
	s = small()
	s.edits = []string{`"relu2"`, `"silu"`, `"activation_quant":"int8"`, `"activation_quant":"none"`, `["text"]`, `["audio","code","image","text"]`, "0.00001", "1e-7"}
	add("config-values", "the other values of activation, activation_quant and modalities, and a number with an exponent", s.file(), "config-value", "json-number")

	f := plain()
	f.minor = 65535
	add("minor-greatest", "minor version 65535: later minor versions are read", f, "version")
	f = plain()
	f.optional = []string{"-", "0", "0123456789abcdef", "a", "a-b", "b", "z", "zz"}
	add("optional-features", "eight optional features that nobody knows, one of 16 bytes", f, "feature-name", "feature-order")
	add("section-unknown", "sections that version 1.0 does not define: skipped, but hashed", plain().with("a", "\x00\xff").with("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz", "{ }"), "section-name", "section-order")
	f = plain()
	f.tensors[0], f.tensors[8] = f.tensors[8], f.tensors[0]
	add("tensor-order", "tensors in another order than writers use", f, "name-unique")
	f = plain().with("tokenizer", tokenizerJSON).with("chat-template", "{{ messages }}é\n").with("generation", generationJSON).with("self-test", selfTestJSON)
	f.with("provenance", provenanceJSON(f))
	add("sections-all", "every section of version 1.0; the self-test is of no engine", f, "tokenizer", "generation", "provenance", "self-test")
	add("generation-least", "a generation section that leaves every choice to the program", plain().with("generation", `{"eos":[]}`), "generation")
	add("generation-bounds", "values at their limits", plain().with("generation", `{"eos":[2],"max_new_tokens":1,"min_p":1,"repetition_penalty":100,"temperature":2,"top_k":0,"top_p":1}`), "generation")
	f = plain()
	add("json-text", "strings with every escape of canonical JSON and characters that have none", f.with("provenance", edit(provenanceJSON(f), "a tool 1.0", `\"\\\b\t\n\f\r\u0000\u001f/`+"\x7f\u0080\u2028\U0001f642")), "json-string")
	return list
}
