package convert_test

import (
	"testing"
	"math"
	"os"
	"github.com/stretchr/testify/require"
	"path/filepath"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/internal/synth"
)

const llama = "LlamaForCausalLM"

func rows() []hostile {
	gen := func(kv ...string) convert.Options {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return convert.Options{Generation: m}
	}
	return []hostile{
		{name: "no config", edit: remove("config.json")},
		{name: "config not JSON", edit: file("config.json", "hello")},
		{name: "config empty", edit: file("config.json", "")},
		{name: "config array", edit: file("config.json", "[1]")},
		{name: "config cut", edit: file("config.json", `{"hidden_size": 16`)},
		{name: "config cut in value", edit: file("config.json", `{"hidden_size": `)},
		{name: "config trailing", edit: replace("{", "{} {")},
		{name: "config trailing comma", edit: file("config.json", `{"hidden_size": 16,}`)},
		{name: "config BOM", edit: replace("{", "\ufeff{")},
		{name: "config deep", edit: set("auto_map", deep(20000))},
		{name: "duplicate key", edit: replace("{", `{"hidden_size": 32,`)},
		{name: "duplicate key nested", edit: set("rope_scaling", `{"rope_type":"linear","factor":2,"factor":4}`)},
		{name: "wrong type string", edit: set("hidden_size", `"16"`)},
		{name: "wrong type list", edit: set("num_hidden_layers", `[1]`)},
		{name: "wrong type bool", edit: set("tie_word_embeddings", `"yes"`)},
		{name: "wrong type act", edit: set("hidden_act", `7`)},
		{name: "wrong type arch", edit: set("architectures", `"BitNetForCausalLM"`)},
		{name: "arch null in list", edit: set("architectures", `[null]`)},
		{name: "null hidden", edit: set("hidden_size", `null`)},
		{name: "missing hidden", edit: set("hidden_size", ``)},
		{name: "missing vocab", edit: set("vocab_size", ``)},
		{name: "huge number", edit: set("hidden_size", `99999999999999999999`)},
		{name: "huge exponent", edit: set("hidden_size", `1e30`)},
		{name: "beyond limit", edit: set("hidden_size", `1073741824`)},
		{name: "beyond limit vocab", edit: set("vocab_size", `16777216`)},
		{name: "many layers", edit: set("num_hidden_layers", `4096`)},
		{name: "too many layers", edit: set("num_hidden_layers", `4097`)},
		{name: "negative", edit: set("num_attention_heads", `-2`)},
		{name: "negative kv", edit: set("num_key_value_heads", `-1`)},
		{name: "zero kv", edit: set("num_key_value_heads", `0`)},
		{name: "zero head dim", edit: set("head_dim", `0`)},
		{name: "negative head dim", edit: set("head_dim", `-8`)},
		{name: "zero layers", edit: set("num_hidden_layers", `0`)},
		{name: "float for int", edit: set("hidden_size", `16.0`)},
		{name: "float for int 2", edit: set("hidden_size", `16.5`)},
		{name: "eps zero", edit: set("rms_norm_eps", `0`)},
		{name: "eps negative", edit: set("rms_norm_eps", `-1e-5`)},
		{name: "eps tiny", edit: set("rms_norm_eps", `1e-60`)},
		{name: "eps huge", edit: set("rms_norm_eps", `1e39`)},
		{name: "eps overflow", edit: set("rms_norm_eps", `1e400`)},
		{name: "unknown activation", edit: set("hidden_act", `"gelu"`)},
		{name: "unknown rope type", edit: set("rope_scaling", `{"rope_type":"yarn","factor":2}`)},
		{name: "rope no type", edit: set("rope_scaling", `{"factor":2}`)},
		{name: "rope empty", edit: set("rope_scaling", `{}`)},
		{name: "rope list", edit: set("rope_scaling", `[]`)},
		{name: "rope unknown key", edit: set("rope_scaling", `{"rope_type":"linear","factor":2,"mscale":1}`)},
		{name: "rope type conflict", edit: set("rope_scaling", `{"rope_type":"linear","type":"llama3","factor":2}`)},
		{name: "rope factor missing", edit: set("rope_scaling", `{"rope_type":"linear"}`)},
		{name: "rope factor small", edit: set("rope_scaling", `{"rope_type":"linear","factor":0.5}`)},
		{name: "rope factor negative", edit: set("rope_scaling", `{"rope_type":"linear","factor":-2}`)},
		{name: "rope llama3 incomplete", edit: set("rope_scaling", `{"rope_type":"llama3","factor":2}`)},
		{name: "rope llama3 inverted", edit: set("rope_scaling", `{"rope_type":"llama3","factor":2,"low_freq_factor":4,"high_freq_factor":1,"original_max_position_embeddings":8}`)},
		{name: "rope both", edit: all(set("rope_scaling", `{"rope_type":"linear","factor":2}`), set("rope_parameters", `{"rope_type":"default","rope_theta":500000}`))},
		{name: "rope theta conflict", edit: set("rope_parameters", `{"rope_type":"default","rope_theta":10000}`)},
		{name: "rope theta one", edit: set("rope_theta", `1`)},
		{name: "rope theta negative", edit: set("rope_theta", `-1`)},
		{name: "rope theta string", edit: set("rope_theta", `"10000"`)},
		{name: "partial rotary", edit: set("partial_rotary_factor", `0.5`)},
		{name: "partial rotary in rope", edit: set("rope_parameters", `{"rope_type":"default","rope_theta":500000,"partial_rotary_factor":0.25}`)},
		{name: "heads not dividing", edit: all(set("num_attention_heads", `3`), set("head_dim", ``))},
		{name: "heads not multiple of kv", shape: func(s *synth.Shape) { s.Heads, s.KVHeads, s.HeadDim = 3, 2, 4 }},
		{name: "odd head dim", shape: func(s *synth.Shape) { s.HeadDim = 7 }},
		{name: "odd derived head dim", shape: func(s *synth.Shape) { s.Hidden, s.Heads, s.KVHeads = 14, 2, 1 }},
		{name: "kv over heads", shape: func(s *synth.Shape) { s.KVHeads = 4 }},
		{name: "unknown arch", edit: set("architectures", `["MistralForCausalLM"]`)},
		{name: "two archs", edit: set("architectures", `["LlamaForCausalLM","BitNetForCausalLM"]`)},
		{name: "no arch no type", edit: all(set("architectures", ``), set("model_type", ``))},
		{name: "model type mismatch", edit: set("model_type", `"llama"`)},
		{name: "model type unknown", edit: set("model_type", `"mistral"`)},
		{name: "gptq", edit: set("quantization_config.quant_method", `"gptq"`)},
		{name: "quant method missing", edit: set("quantization_config.quant_method", ``)},
		{name: "quant method number", edit: set("quantization_config.quant_method", `4`)},
		{name: "quantization_config string", edit: set("quantization_config", `"bitnet"`)},
		{name: "linear class unknown", edit: set("quantization_config.linear_class", `"bitlinear2"`)},
		{name: "mode unknown", edit: set("quantization_config.quantization_mode", `"sometimes"`)},
		{name: "use_rms_norm", edit: set("quantization_config.use_rms_norm", `true`)},
		{name: "modules_to_not_convert", edit: set("quantization_config.modules_to_not_convert", `["q_proj"]`)},
		{name: "online packed", storage: synth.Multiply, edit: set("quantization_config.quantization_mode", `"online"`)},
		{name: "offline float", edit: set("quantization_config.quantization_mode", `"offline"`)},
		{name: "packed no quantization_config", storage: synth.Multiply, edit: set("quantization_config", ``)},
		{name: "packed no quantization_config scale", storage: synth.Multiply, edit: set("quantization_config", ``), opt: convert.Options{Scale: "multiply"}},
		{name: "bitnet float no quantization_config", storage: synth.Dense},
		{name: "dense llama", class: llama, storage: synth.Dense},
		{name: "packed with rule", storage: synth.Multiply, opt: convert.Options{Rule: "absmean"}},
		{name: "online with scale option", opt: convert.Options{Scale: "divide"}},
		{name: "scale missing", storage: synth.Multiply, edit: drop(qProj + ".weight_scale")},
		{name: "scale shape 2", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 2)},
		{name: "scale shape 1x1", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 1, 1)},
		{name: "scale shape 0", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 0)},
		{name: "scale int", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.I32, 1)},
		{name: "scale zero divide", storage: synth.Divide, edit: put(qProj+".weight_scale", checkpoint.BF16, 1)},
		{name: "scale zero multiply", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 1)},
		{name: "scale subnormal divide", storage: synth.Divide, edit: poke(qProj+".weight_scale", 0, 1, 0)},
		{name: "scale NaN", storage: synth.Multiply, edit: poke(qProj+".weight_scale", 0, nan16...)},
		{name: "scale Inf", storage: synth.Divide, edit: poke(qProj+".weight_scale", 0, inf16...)},
		{name: "scale negative", storage: synth.Multiply, edit: poke(qProj+".weight_scale", 0, 0x80, 0xbf)},
		{name: "Inf weight", edit: poke(qProj+".weight", 6, inf16...)},
		{name: "NaN weight last", edit: poke(qProj+".weight", -2, nan16...)},
		{name: "NaN weight last row rule", edit: poke(qProj+".weight", -2, nan16...), opt: convert.Options{Rule: "absmean-row"}},
		{name: "NaN weight last group", edit: poke(qProj+".weight", -2, nan16...), opt: convert.Options{Rule: "absmean-group=128"}},
		{name: "NaN embed", edit: poke(embed, 10, nan16...)},
		{name: "NaN embed last", edit: poke(embed, -2, nan16...)},
		{name: "NaN embed int8", edit: poke(embed, -2, nan16...), opt: convert.Options{Head: "int8"}},
		{name: "NaN norm", edit: poke("model.norm.weight", 0, nan16...)},
		{name: "NaN bias", edit: poke(qProj+".bias", -2, nan16...), shape: func(s *synth.Shape) { s.AttentionBias = true }},
		{name: "NaN F32 weight", dtype: checkpoint.F32, edit: pokeFloat(qProj+".weight", 5, math.NaN())},
		{name: "Inf F16 weight", dtype: checkpoint.F16, edit: poke(qProj+".weight", -2, 0, 0x7c)},
		{name: "scaled bias overflow", storage: synth.Multiply, dtype: checkpoint.F32, shape: func(s *synth.Shape) { s.AttentionBias = true }, edit: all(pokeFloat(qProj+".bias", 0, 1e30), pokeFloat(qProj+".weight_scale", 0, 1e20)), opt: convert.Options{NoSelfTest: true}},
		{name: "code 3", storage: synth.Multiply, edit: poke(qProj+".weight", 37, 0x30)},
		{name: "code 3 last", storage: synth.Multiply, edit: poke(qProj+".weight", -1, 0xc0)},
		{name: "packed rows", storage: synth.Multiply, shape: func(s *synth.Shape) { s.Heads, s.KVHeads, s.HeadDim = 3, 1, 2 }},
		{name: "packed shape", storage: synth.Multiply, edit: put(qProj+".weight", checkpoint.U8, 16, 16)},
		{name: "packed embed", storage: synth.Multiply, edit: put(embed, checkpoint.U8, 5, 16)},
		{name: "missing tensor", edit: drop("model.layers.0.mlp.up_proj.weight")},
		{name: "missing embed", edit: drop(embed)},
		{name: "missing sub norm", edit: drop("model.layers.0.mlp.ffn_sub_norm.weight")},
		{name: "extra tensor", edit: put("model.layers.1.mlp.up_proj.weight", checkpoint.BF16, 12, 16)},
		{name: "extra inv_freq", edit: put("model.layers.0.self_attn.rotary_emb.inv_freq", checkpoint.F32, 4)},
		{name: "misshapen", edit: put(qProj+".weight", checkpoint.BF16, 16, 17)},
		{name: "transposed", edit: put("model.layers.0.mlp.up_proj.weight", checkpoint.BF16, 16, 12)},
		{name: "rank 1", edit: put(qProj+".weight", checkpoint.BF16, 256)},
		{name: "scalar", edit: put("model.norm.weight", checkpoint.BF16)},
		{name: "integer norm", edit: put("model.norm.weight", checkpoint.I64, 16)},
		{name: "F64 masters", edit: put(qProj+".weight", checkpoint.F64, 16, 16)},
		{name: "fp8 masters", edit: put(qProj+".weight", checkpoint.F8E4M3, 16, 16)},
		{name: "head tied different", edit: put("lm_head.weight", checkpoint.BF16, 20, 16)},
		{name: "head tied equal", edit: copyTensor(embed, "lm_head.weight")},
		{name: "head tied equal bytes other shape", edit: all(copyTensor(embed, "lm_head.weight"), reshape("lm_head.weight", 16, 20))},
		{name: "head tied other dtype", edit: put("lm_head.weight", checkpoint.F32, 20, 16)},
		{name: "untied without head", edit: set("tie_word_embeddings", `false`)},
		{name: "bias present, config no", edit: all(set("attention_bias", `false`)), shape: func(s *synth.Shape) { s.AttentionBias = true }},
		{name: "bias absent, config yes", edit: set("attention_bias", `true`)},
		{name: "mlp_bias on bitnet", edit: set("mlp_bias", `true`)},
		{name: "all zero weights", edit: put(qProj+".weight", checkpoint.BF16, 16, 16)},
		{name: "all zero rows", edit: put(qProj+".weight", checkpoint.BF16, 16, 16), opt: convert.Options{Rule: "absmean-row"}},
		{name: "group over row", opt: convert.Options{Rule: "absmean-group=256"}},
		{name: "tokenizer ids", edit: file("tokenizer.json", tokenizerJSON)},
		{name: "tokenizer malformed", edit: file("tokenizer.json", `{"version":`)},
		{name: "tokenizer no model", edit: file("tokenizer.json", `{"version":"1.0"}`)},
		{name: "tokenizer empty", edit: file("tokenizer.json", ``)},
		{name: "tokenizer option missing", opt: convert.Options{Tokenizer: "/nonexistent/tokenizer.json"}},
		{name: "tokenizer option folder", opt: convert.Options{Tokenizer: "/"}},
		{name: "tokenizer both options", opt: convert.Options{Tokenizer: "/x", NoTokenizer: true}},
		{name: "tokenizer malformed ignored", edit: file("tokenizer.json", `{"version":`), opt: convert.Options{NoTokenizer: true}},
		{name: "eos beyond", edit: set("eos_token_id", `20`)},
		{name: "eos negative", edit: set("eos_token_id", `-1`)},
		{name: "eos string", edit: set("eos_token_id", `"2"`)},
		{name: "eos null in list", edit: set("eos_token_id", `[null]`)},
		{name: "eos list string", edit: set("eos_token_id", `[1,"2"]`)},
		{name: "eos duplicates", edit: set("eos_token_id", `[3,1,3]`)},
		{name: "eos in generation", edit: file("generation_config.json", `{"eos_token_id": 99}`)},
		{name: "generation not JSON", edit: file("generation_config.json", `nope`)},
		{name: "top_p", edit: file("generation_config.json", `{"top_p": 1.5}`)},
		{name: "top_p 0", edit: file("generation_config.json", `{"top_p": 0}`)},
		{name: "top_p overridden", edit: file("generation_config.json", `{"top_p": 1.5}`), opt: gen("top_p", "0.9")},
		{name: "top_k negative", edit: file("generation_config.json", `{"top_k": -1}`)},
		{name: "top_k float", edit: file("generation_config.json", `{"top_k": 1.5}`)},
		{name: "temperature high", edit: file("generation_config.json", `{"temperature": 3}`)},
		{name: "generation unknown key in file", edit: file("generation_config.json", `{"num_beams": 4}`)},
		{name: "generation unknown key", opt: gen("beams", "4")},
		{name: "generation NaN", opt: gen("temperature", "NaN")},
		{name: "generation eos words", opt: gen("eos", "a,b")},
		{name: "generation eos big", opt: gen("eos", "20")},
		{name: "generation modality", opt: gen("modality", "audio")},
		{name: "generation modality unknown", opt: gen("modality", "smell")},
		{name: "generation top_k words", opt: gen("top_k", "few")},
		{name: "rule unknown", opt: convert.Options{Rule: "gptq"}},
		{name: "rule case", opt: convert.Options{Rule: "AbsMean"}},
		{name: "rule group none", opt: convert.Options{Rule: "absmean-group"}},
		{name: "rule group empty", opt: convert.Options{Rule: "absmean-group="}},
		{name: "rule group 64", opt: convert.Options{Rule: "absmean-group=64"}},
		{name: "rule group 129", opt: convert.Options{Rule: "absmean-group=129"}},
		{name: "rule group 0", opt: convert.Options{Rule: "absmean-group=0"}},
		{name: "rule group negative", opt: convert.Options{Rule: "absmean-group=-128"}},
		{name: "rule group huge", opt: convert.Options{Rule: "absmean-group=99999999999999999999"}},
		{name: "rule group plus", opt: convert.Options{Rule: "absmean-group=+128"}},
		{name: "encoding", opt: convert.Options{Encoding: "trit5"}},
		{name: "head", opt: convert.Options{Head: "int4"}},
		{name: "scale", opt: convert.Options{Scale: "add"}},
		{name: "activations", opt: convert.Options{Activations: "fp8"}},
		{name: "vocab 1", shape: func(s *synth.Shape) { s.Vocab = 1 }},
		{name: "hidden 1", shape: func(s *synth.Shape) { s.Hidden, s.Heads, s.HeadDim, s.Intermediate, s.Vocab = 1, 1, 2, 1, 1 }},
		{name: "context 1", shape: func(s *synth.Shape) { s.Context = 1 }},
		{name: "F64 all zeros layers 0", shape: func(s *synth.Shape) { s.Layers = 0 }},
		{name: "huge weights", dtype: checkpoint.F32, edit: weights(func(t *testing.T, ts map[string]*stored) {
			for _, x := range ts {
				for i := 0; i < len(x.data); i += 4 {
					x.data[i], x.data[i+1], x.data[i+2], x.data[i+3] = 0xff, 0xff, 0x7f, 0x7f
				}
			}
		})},
		{name: "huge weights no self-test", dtype: checkpoint.F32, opt: convert.Options{NoSelfTest: true}, edit: weights(func(t *testing.T, ts map[string]*stored) {
			for _, x := range ts {
				for i := 0; i < len(x.data); i += 4 {
					x.data[i], x.data[i+1], x.data[i+2], x.data[i+3] = 0xff, 0xff, 0x7f, 0x7f
				}
			}
		})},
		{name: "huge logits", dtype: checkpoint.F32, shape: func(s *synth.Shape) { s.Tied = false }, edit: weights(func(t *testing.T, ts map[string]*stored) {
			x := ts["lm_head.weight"]
			for i := 0; i < len(x.data); i += 4 {
				x.data[i], x.data[i+1], x.data[i+2], x.data[i+3] = 0xff, 0xff, 0x7f, 0x7f
			}
		})},
		{name: "shard missing", edit: all(remove("model.safetensors"), file("model.safetensors.index.json", `{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors"}}`))},
		{name: "shards without index", edit: func(t *testing.T, dir string) {
			require.NoError(t, os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "model-00001-of-00002.safetensors")))
		}},
		{name: "no weights", edit: remove("model.safetensors")},
		{name: "two sets", edit: func(t *testing.T, dir string) {
			require.NoError(t, os.Link(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "other.safetensors")))
		}},
		{name: "config LFS pointer", edit: file("config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")},
	}
}

func deep(n int) string {
	b := make([]byte, 0, 2*n)
	for range n {
		b = append(b, '[')
	}
	for range n {
		b = append(b, ']')
	}
	return string(b)
}

const tokenizerJSON = `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":31},"merges":[]}}`

func copyTensor(from, to string) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		x := *ts[from]
		ts[to] = &x
	})
}

func reshape(name string, shape ...int64) edit {
	return weights(func(t *testing.T, ts map[string]*stored) { ts[name].shape = shape })
}
