package conformance

import (
	"strings"

	"github.com/tritter-ai/tritter/testdata/vectors"
)

// canonical are sections whose text is not canonical JSON: any verifier sees it
// without knowing what the section means.
func canonical() []generator {
	var list []generator
	add := func(name, comment string, edits []string, rules ...string) {
		s := small()
		s.edits = edits
		list = append(list, refused("json-"+name, vectors.Verifying, "config", comment, s.file().image().b, rules...))
	}
	whole := func(name, comment, text string, rules ...string) {
		f := plain()
		f.section("config").data = []byte(text)
		list = append(list, refused("json-"+name, vectors.Verifying, "config", comment, f.image().b, rules...))
	}
	provenance := func(name, comment, old, new string, rules ...string) {
		f := plain()
		f.with("provenance", edit(provenanceJSON(f), old, new))
		list = append(list, refused("json-"+name, vectors.Verifying, "config", comment, f.image().b, rules...))
	}
	add("bom", "a byte order mark before the text", []string{`{"activation":`, "\xef\xbb\xbf" + `{"activation":`}, "json-form")
	add("space", "a space behind a colon", []string{`"norms":[`, `"norms": [`}, "json-form")
	add("line-end", "a line end behind the text", []string{`"vocab_size":3}`, `"vocab_size":3}` + "\n"}, "json-form", "json-whole")
	add("second-value", "a second value behind the first", []string{`"vocab_size":3}`, `"vocab_size":3}{}`}, "json-whole")
	add("cut", "the closing brace is missing", []string{`"vocab_size":3}`, `"vocab_size":3`}, "json-whole")
	add("comma", "a comma behind the last member", []string{`"vocab_size":3}`, `"vocab_size":3,}`}, "json-form")
	add("key-order", "two keys in the wrong order", []string{`"num_heads":1,"num_kv_heads":1`, `"num_kv_heads":1,"num_heads":1`}, "json-keys")
	add("key-twice", "a key twice: readers differ in which they take", []string{`"vocab_size":3`, `"vocab_size":3,"vocab_size":3`}, "json-twice")
	add("number-zeros", "an integer with a fraction of zero", []string{`"head_dim":2`, `"head_dim":2.0`}, "json-number")
	add("number-leading-zero", "an integer with a leading zero", []string{`"head_dim":2`, `"head_dim":02`}, "json-number")
	add("number-exponent", "an exponent where digits are shorter", []string{`0.00001`, `1e-05`}, "json-number")
	add("number-digits", "more digits than give the number back", []string{`0.00001`, `0.000010000000000000001`}, "json-number")
	add("number-minus-zero", "minus zero", []string{`0.00001`, `-0`}, "json-number")
	add("number-nan", "a number that JSON does not have", []string{`0.00001`, `NaN`}, "json-number")
	add("number-overflow", "a number beyond binary64", []string{`0.00001`, `1e999`}, "json-number")
	provenance("escape-slash", "an escaped slash", "a tool", `a\/tool`, "json-string")
	provenance("escape-upper-case", "an escape with an upper-case digit", "a tool", `a\u001Ftool`, "json-string")
	provenance("escape-long", "a line end as u000a, which has a short escape", "a tool", `a\u000atool`, "json-string")
	provenance("escape-letter", "an escaped letter", "a tool", `\u0061 tool`, "json-string")
	provenance("control", "a control character as it is", "a tool", "a\x01tool", "json-string")
	provenance("utf8", "a byte that is not UTF-8", "a tool", "a\xfftool", "json-string")
	provenance("surrogate", "half a character in UTF-8", "a tool", "a\xed\xa0\x80tool", "json-string")
	provenance("depth", "an array in a fifth level", `"shape":[3,2],"target":"embed`, `"shape":[[3],2],"target":"embed`, "json-depth")
	whole("empty-text", "text that is one zero byte", "\x00", "json-form")
	whole("deep", "a thousand nested arrays, for readers that recurse", strings.Repeat("[", 1000), "json-depth")
	return list
}

// configs are canonical JSON and say something that a config must not.
func configs() []generator {
	var list []generator
	add := func(name, comment string, change func(s *shape), rules ...string) {
		s := small()
		change(&s)
		list = append(list, refused("config-"+name, vectors.Content, "config", comment, s.file().image().b, rules...))
	}
	text := func(name, comment, old, new string, rules ...string) {
		add(name, comment, func(s *shape) { s.edits = []string{old, new} }, rules...)
	}
	text("key-unknown", "a key that nobody knows", `"vocab_size":3`, `"vocab_size":3,"width":2`, "config-keys")
	text("key-missing", "without norm_eps: nothing has a default", `"norm_eps":0.00001,`, ``, "config-keys")
	text("string-for-number", "a string where a number belongs", `"head_dim":2`, `"head_dim":"2"`, "config-keys")
	text("null", "null where a list belongs", `"biases":[]`, `"biases":null`, "config-keys")
	text("integer-2-53", "2^53, which is not exact for every reader of JSON", `"max_position_embeddings":8`, `"max_position_embeddings":9007199254740992`, "json-integer")
	text("fraction", "half a head", `"num_heads":1`, `"num_heads":1.5`, "config-sizes")
	text("activation", "an activation that nobody knows", `"relu2"`, `"gelu"`, "config-value")
	text("activation-quant", "a quantizer that nobody knows", `"activation_quant":"int8"`, `"activation_quant":"int4"`, "config-value")
	text("norm", "a norm that nobody knows", `"norm":"rms"`, `"norm":"batch"`, "config-value")
	text("modality", "a modality that nobody knows", `["text"]`, `["smell"]`, "config-value")
	text("modality-none", "no modality", `["text"]`, `[]`, "config-value")
	text("modality-order", "modalities in the wrong order", `["text"]`, `["text","code"]`, "config-lists")
	text("modality-twice", "a modality twice", `["text"]`, `["text","text"]`, "config-lists")
	text("norms-unknown", "a position that nobody knows", `"norms":[]`, `"norms":["embed"]`, "config-value")
	text("biases-unknown", "a projection that nobody knows", `"biases":[]`, `"biases":["w"]`, "config-value")
	text("head-dim-odd", "an odd head_dim", `"head_dim":2`, `"head_dim":3`, "config-sizes")
	text("head-dim-0", "head_dim 0", `"head_dim":2`, `"head_dim":0`, "config-sizes")
	text("hidden-size-0", "hidden_size 0", `"hidden_size":2`, `"hidden_size":0`, "config-sizes")
	text("hidden-size-negative", "hidden_size -2", `"hidden_size":2`, `"hidden_size":-2`, "config-sizes")
	text("layers-0", "no layers", `"num_layers":1`, `"num_layers":0`, "config-sizes")
	text("layers-4097", "one layer more than the limit", `"num_layers":1`, `"num_layers":4097`, "config-sizes")
	text("vocab-2-24", "one id more than the limit", `"vocab_size":3`, `"vocab_size":16777216`, "config-sizes")
	text("positions-0", "no positions", `"max_position_embeddings":8`, `"max_position_embeddings":0`, "config-sizes")
	text("heads-multiple", "three heads for two key-value heads", `"num_heads":1,"num_kv_heads":1`, `"num_heads":3,"num_kv_heads":2`, "config-sizes")
	text("norm-eps-0", "norm_eps 0", `0.00001`, `0`, "config-eps")
	text("norm-eps-vanishes", "a norm_eps that is 0 as a float32", `0.00001`, `1e-60`, "config-eps")
	text("norm-eps-negative", "a negative norm_eps", `0.00001`, `-0.00001`, "config-eps")
	text("proj-norm-eps-alone", "proj_norm_eps without norms in projections", `"rope"`, `"proj_norm_eps":0.00001,"rope"`, "config-proj-norm-eps")
	add("proj-norm-eps-missing", "norms in projections without proj_norm_eps", func(s *shape) { s.norms = []string{"proj"} }, "config-proj-norm-eps")
	add("proj-layer-norm", "norms in projections with LayerNorm", func(s *shape) {
		s.norms, s.norm, s.edits = []string{"proj"}, "layer", []string{`"rope"`, `"proj_norm_eps":0.00001,"rope"`}
	}, "config-proj-norm-eps")
	text("rope-pairing", "a pairing that nobody knows", `"pairing":"half"`, `"pairing":"adjacent"`, "config-rope")
	text("rope-type", "a RoPE that nobody knows", `"type":"default"`, `"type":"yarn"`, "config-rope")
	text("rope-theta-1", "theta 1, which must be above", `"theta":10000`, `"theta":1`, "config-rope")
	text("rope-theta-large", "theta beyond 1e12", `"theta":10000`, `"theta":1000000000001`, "config-rope")
	text("rope-factor-unused", "a factor for a type that does not use it", `"rope":{`, `"rope":{"factor":1,`, "config-rope-keys")
	text("rope-factor-missing", "linear RoPE without its factor", `"type":"default"`, `"type":"linear"`, "config-rope-keys")
	add("rope-factor-small", "a factor below 1", func(s *shape) {
		s.edits = []string{`"type":"default"`, `"type":"linear"`, `"rope":{`, `"rope":{"factor":0.5,`}
	}, "config-rope")
	add("rope-frequencies", "a low frequency factor that is not below the high one", func(s *shape) {
		s.edits = []string{`"type":"default"`, `"type":"llama3"`, `"rope":{`, `"rope":{"factor":8,"high_freq_factor":1,"low_freq_factor":1,"original_max_position_embeddings":8192,`}
	}, "config-rope")

	manifest := func(name, comment string, change func(f *file), rules ...string) {
		f := plain()
		change(f)
		list = append(list, refused("manifest-"+name, vectors.Content, "config", comment, f.image().b, rules...))
	}
	manifest("missing", "without the norm before the head", func(f *file) { f.tensors = f.tensors[:len(f.tensors)-1] }, "manifest-present")
	manifest("extra", "a tensor that the config does not imply", func(f *file) { f.tensors = append(f.tensors, dense("layers.1.attn_norm.weight", f32, 2, 0)) }, "manifest-present")
	manifest("head-of-tied", "a head, where the config says that it is tied", func(f *file) { f.tensors = append(f.tensors, dense("head.weight", f32, 3, 2)) }, "manifest-present")
	manifest("shape", "a matrix of another shape than the config implies", func(f *file) { f.tensors[1] = ternary("layers.0.q.weight", trit2, absmean, perTensor, 2, 3, 0) }, "manifest-shape")
	manifest("transposed", "an embedding of [hidden_size, vocab_size]", func(f *file) { f.tensors[0] = dense("embed.weight", f32, 2, 3) }, "manifest-shape")
	manifest("dense-projection", "a projection of floats", func(f *file) { f.tensors[1] = dense("layers.0.q.weight", f32, 2, 2) }, "manifest-storage")
	manifest("ternary-embedding", "an embedding of trits", func(f *file) { f.tensors[0] = ternary("embed.weight", trit2, absmean, perTensor, 3, 2, 0) }, "manifest-storage")
	manifest("matrix-norm", "a norm of rank 2", func(f *file) { f.tensors[8] = dense("norm.weight", f32, 1, 2) }, "manifest-shape")
	s := small()
	s.biases = []string{"q"}
	f := s.file()
	f.tensors[2] = dense("layers.0.q.bias", f16, 2, 0)
	list = append(list, refused("manifest-bias", vectors.Content, "config", "a bias of f16", f.image().b, "manifest-storage"))
	return list
}

// sections are vectors about the other sections.
func sections() []generator {
	var list []generator
	add := func(section, name, class, comment, text string, rules ...string) {
		list = append(list, refused(section+"-"+name, vectors.Content, class, comment, plain().with(section, text).image().b, rules...))
	}
	change := func(section, text, name, comment, old, new string, rules ...string) {
		add(section, name, "config", comment, edit(text, old, new), append(rules, section)...)
	}
	change("generation", generationJSON, "key-unknown", "a key that nobody knows", `"top_k":40`, `"top_j":40`, "config-keys")
	change("generation", generationJSON, "eos-missing", "without eos", `"eos":[0,2],`, ``, "config-keys")
	change("generation", generationJSON, "eos-outside", "an id that the vocabulary does not have", `[0,2]`, `[0,3]`)
	change("generation", generationJSON, "eos-order", "ids in the wrong order", `[0,2]`, `[2,0]`)
	change("generation", generationJSON, "temperature", "a temperature above 2", `0.7`, `2.5`)
	change("generation", generationJSON, "top-p-0", "top_p 0", `"top_p":0.9`, `"top_p":0`)
	change("generation", generationJSON, "top-k-negative", "top_k -1", `40`, `-1`)
	change("generation", generationJSON, "min-p", "min_p above 1", `0.05`, `1.5`)
	change("generation", generationJSON, "penalty", "a repetition penalty of 0", `1.1`, `0`)
	change("generation", generationJSON, "max-new-tokens-0", "max_new_tokens 0", `"max_new_tokens":5`, `"max_new_tokens":0`)
	change("generation", generationJSON, "modality", "a modality that nobody knows", `"text"`, `"video"`)

	whole := provenanceJSON(plain())
	change("provenance", whole, "key-unknown", "a key that nobody knows", `"tool":`, `"tools":`, "config-keys")
	change("provenance", whole, "hash", "a hash with an upper-case digit", `"config_sha256":"0`, `"config_sha256":"A`)
	change("provenance", whole, "option", "an option that nobody knows", `"rule":"absmean"}`, `"ruler":"absmean"}`, "config-keys")
	change("provenance", whole, "option-value", "a value that the option does not have", `"rule":"absmean"}`, `"rule":"median"}`)
	change("provenance", whole, "shape", "a negative dim", `"shape":[3,2],"target":"embed`, `"shape":[-3,2],"target":"embed`)
	change("provenance", whole, "rule", "a rule that nobody knows", `"name":"model.embed.weight","rule":"copy"`, `"name":"model.embed.weight","rule":"guess"`)
	change("provenance", whole, "target", "what is not dropped and has no target", `"target":"norm.weight"`, `"target":""`)

	change("self-test", selfTestJSON, "no-logits", "no logits", `[{"bits":1065353216,"id":1},{"bits":1065353216,"id":2},{"bits":3212836864,"id":0}]`, `[]`)
	change("self-test", selfTestJSON, "nan", "a logit that is a NaN", `{"bits":1065353216,"id":1}`, `{"bits":2143289344,"id":1}`)
	change("self-test", selfTestJSON, "order", "logits that ascend", `{"bits":3212836864,"id":0}`, `{"bits":1073741824,"id":0}`)
	change("self-test", selfTestJSON, "tie", "equal logits with the greater id first", `"id":1},{"bits":1065353216,"id":2}`, `"id":2},{"bits":1065353216,"id":1}`)
	change("self-test", selfTestJSON, "id", "a logit of an id that the vocabulary does not have", `"id":0}`, `"id":3}`)
	change("self-test", selfTestJSON, "no-prompt", "no prompt", `"prompt":[1,2,0]`, `"prompt":[]`)
	change("self-test", selfTestJSON, "long-prompt", "a prompt longer than the context", `"prompt":[1,2,0]`, `"prompt":[0,0,0,0,0,0,0,0,0]`)
	change("self-test", selfTestJSON, "bits", "bits beyond 32", `{"bits":3212836864,"id":0}`, `{"bits":4294967296,"id":0}`, "json-integer")

	tokenizer := func(name, comment, text string) {
		add("tokenizer", name, "tokenizer", comment, text, "tokenizer")
	}
	tokenizer("not-json", "text that is not JSON", "hello")
	tokenizer("cut", "a tokenizer.json that ends early", tokenizerJSON[:100])
	tokenizer("no-model", "a tokenizer.json without a model", `{"version":"1.0"}`)
	tokenizer("id-twice", "two tokens of one id", edit(tokenizerJSON, `"ab":2`, `"ab":1`))
	tokenizer("merge", "a merge of a token that is not in the vocabulary", edit(tokenizerJSON, `"a b"`, `"a c"`))
	tokenizer("vocabulary", "an id that the model's vocabulary does not have", edit(tokenizerJSON, `"ab":2`, `"ab":3`))
	add("chat-template", "utf8", "tokenizer", "a template that is not UTF-8", "{{ \xff }}", "chat-template")
	return list
}
