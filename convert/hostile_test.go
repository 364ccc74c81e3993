package convert_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/verify"
)

// edit changes a checkpoint in dir.
type edit func(t *testing.T, dir string)

// hostile is a checkpoint that is wrong in one way, or looks so.
type hostile struct {
	name    string
	class   string // "" is BitNetForCausalLM
	storage synth.Storage
	dtype   checkpoint.DType // "" is BF16
	shape   func(*synth.Shape)
	edit    edit
	opt     convert.Options
	want    []string // what the error says: value seen, value expected, fix; nil: it converts
}

// checkpoint writes the checkpoint into a new folder.
func (h *hostile) checkpoint(t *testing.T) string {
	t.Helper()
	s := synth.Shape{Class: "BitNetForCausalLM", Hidden: 16, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 12, Vocab: 20, Context: 16, Tied: true}
	if h.class != "" {
		s.Class = h.class
	}
	if h.shape != nil {
		h.shape(&s)
	}
	storage, dtype := synth.Online, checkpoint.BF16
	if h.storage != "" {
		storage = h.storage
	}
	if h.dtype != "" {
		dtype = h.dtype
	}
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, storage, dtype, 1))
	if h.edit != nil {
		h.edit(t, dir)
	}
	return dir
}

// convertError opens and converts dir into out and returns what went wrong.
func convertError(ctx context.Context, dir, out string, opt convert.Options) error {
	plan, err := convert.Open(dir, opt)
	if err != nil {
		return err
	}
	_, err = plan.Write(ctx, out, nil)
	return errors.Join(err, plan.Close())
}

// requireEmpty holds that nothing is left in dir.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, list)
}

func all(edits ...edit) edit {
	return func(t *testing.T, dir string) {
		for _, e := range edits {
			e(t, dir)
		}
	}
}

// file writes a file beside the weights.
func file(name, content string) edit {
	return func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
	}
}

func remove(name string) edit {
	return func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, name))) }
}

// set replaces the value of a key of config.json, of a nested one after a dot, by
// raw JSON; "" removes the key.
func set(key, raw string) edit {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		var top map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(data, &top))
		put := func(m map[string]json.RawMessage, key string) {
			if raw == "" {
				delete(m, key)
			} else {
				m[key] = json.RawMessage(raw)
			}
		}
		if outer, inner, nested := strings.Cut(key, "."); nested {
			var m map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(top[outer], &m))
			put(m, inner)
			top[outer], err = json.Marshal(m)
			require.NoError(t, err)
		} else {
			put(top, key)
		}
		var b bytes.Buffer // by hand: the raw values need not be valid
		b.WriteString("{")
		for i, k := range slices.Sorted(maps.Keys(top)) {
			if i > 0 {
				b.WriteString(",")
			}
			name, _ := json.Marshal(k)
			b.Write(name)
			b.WriteString(":")
			b.Write(top[k])
		}
		b.WriteString("}")
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	}
}

// replace inserts text into config.json.
func replace(old, new string) edit {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "config.json")
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(data), old)
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o644))
	}
}

// stored is a tensor in memory.
type stored struct {
	dtype checkpoint.DType
	shape []int64
	data  []byte
}

// weights rewrites model.safetensors.
func weights(change func(t *testing.T, ts map[string]*stored)) edit {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, "model.safetensors")
		r, err := safetensors.Open(path)
		require.NoError(t, err)
		ts := map[string]*stored{}
		for _, x := range r.Tensors() {
			data := make([]byte, x.Size)
			_, err := x.ReadAt(data, 0)
			require.NoError(t, err)
			ts[x.Name] = &stored{x.DType, slices.Clone(x.Shape), data}
		}
		require.NoError(t, r.Close())
		change(t, ts)
		var list []safetensors.WriteTensor
		for name, x := range ts {
			list = append(list, safetensors.WriteTensor{Name: name, DType: x.dtype, Shape: x.shape, Data: bytes.NewReader(x.data)})
		}
		f, err := os.Create(path)
		require.NoError(t, err)
		require.NoError(t, safetensors.Write(f, list, nil))
		require.NoError(t, f.Close())
	}
}

// drop removes a tensor.
func drop(name string) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		require.Contains(t, ts, name)
		delete(ts, name)
	})
}

// put stores a tensor of zeros.
func put(name string, dtype checkpoint.DType, shape ...int64) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		n := int64(dtype.Size())
		for _, d := range shape {
			n *= d
		}
		ts[name] = &stored{dtype, shape, make([]byte, n)}
	})
}

// poke overwrites bytes of a tensor, counted from its end when at is negative.
func poke(name string, at int, b ...byte) edit {
	return weights(func(t *testing.T, ts map[string]*stored) {
		require.Contains(t, ts, name)
		data := ts[name].data
		if at < 0 {
			at += len(data)
		}
		copy(data[at:], b)
	})
}

// pokeFloat overwrites an element of an F32 tensor.
func pokeFloat(name string, i int, v float64) edit {
	return poke(name, 4*i, binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))...)
}

const (
	qProj = "model.layers.0.self_attn.q_proj"
	embed = "model.embed_tokens.weight"
)

var (
	nan16 = []byte{0xc0, 0x7f} // BF16
	inf16 = []byte{0x80, 0xff} // BF16, negative
)

const llama = "LlamaForCausalLM"

func withBias(s *synth.Shape) { s.AttentionBias = true }

func generation(key, value string) convert.Options {
	return convert.Options{Generation: map[string]string{key: value}}
}

// configs are what config.json and the files beside it may get wrong.
var configs = []hostile{
	{name: "null among eos ids", edit: set("eos_token_id", "[2, null]"), want: []string{"eos_token_id is [2, null]", "without null"}},
	{name: "two classes", edit: set("architectures", `["BitNetForCausalLM", "LlamaForCausalLM"]`), want: []string{`["BitNetForCausalLM" "LlamaForCausalLM"]`, "want one class", "keep the one"}},
	{name: "sampling that an option replaces", edit: file("generation_config.json", `{"top_p": 1.5}`), opt: generation("top_p", "0.9")},
	{name: "missing", edit: remove("config.json"), want: []string{"no config.json", "download it too"}},
	{name: "not JSON", edit: file("config.json", "hello"), want: []string{"config.json: offset 0", "want one JSON object"}},
	{name: "empty", edit: file("config.json", ""), want: []string{"config.json: offset 0", "want one JSON object"}},
	{name: "a list", edit: file("config.json", "[1]"), want: []string{"config.json", "want one JSON object"}},
	{name: "cut", edit: file("config.json", `{"hidden_size": 16`), want: []string{"offset 18", "the file ends", "want"}},
	{name: "two objects", edit: replace("{", "{} {"), want: []string{"something follows", "want one JSON object"}},
	{name: "trailing comma", edit: file("config.json", `{"hidden_size": 16,}`), want: []string{"offset 19", "'}'", "want"}},
	{name: "nested too deep", edit: set("auto_map", strings.Repeat("[", 20000)+strings.Repeat("]", 20000)), want: []string{"depth"}},
	{name: "Git LFS pointer", edit: file("config.json", "version https://git-lfs.github.com/spec/v1\n"), want: []string{"Git LFS pointer", "want the file itself", "git lfs pull"}},
	{name: "duplicate key", edit: replace("{", `{"hidden_size": 32,`), want: []string{`"hidden_size"`, "twice"}},
	{name: "duplicate nested key", edit: set("rope_scaling", `{"rope_type":"linear","factor":2,"factor":4}`), want: []string{"rope_scaling", `"factor"`, "twice"}},
	{name: "string for integer", edit: set("hidden_size", `"16"`), want: []string{`hidden_size is "16"`, "want an integer"}},
	{name: "list for integer", edit: set("num_hidden_layers", `[1]`), want: []string{"num_hidden_layers is [1]", "want an integer"}},
	{name: "string for boolean", edit: set("tie_word_embeddings", `"yes"`), want: []string{`tie_word_embeddings is "yes"`, "want true or false"}},
	{name: "number for string", edit: set("hidden_act", `7`), want: []string{"hidden_act is 7", "want a string"}},
	{name: "string for list", edit: set("architectures", `"x"`), want: []string{`architectures is "x"`, "want a list of strings"}},
	{name: "string for object", edit: set("quantization_config", `"bitnet"`), want: []string{"quantization_config", "want one JSON object"}},
	{name: "null size", edit: set("hidden_size", `null`), want: []string{"no hidden_size", "want a positive integer"}},
	{name: "no vocab_size", edit: set("vocab_size", ""), want: []string{"no vocab_size", "want a positive integer"}},
	{name: "huge integer", edit: set("hidden_size", `99999999999999999999`), want: []string{"hidden_size is 99999999999999999999", "want an integer"}},
	{name: "exponent", edit: set("hidden_size", `1e30`), want: []string{"hidden_size is 1e30", "want an integer"}},
	{name: "over the limit", edit: set("hidden_size", `1073741824`), want: []string{"hidden_size is 1073741824", "want 1 to 16777216"}},
	{name: "vocab over the limit", edit: set("vocab_size", `16777216`), want: []string{"vocab_size is 16777216", "want 1 to 16777215"}},
	{name: "4096 layers", edit: set("num_hidden_layers", `4096`), want: []string{"no tensor model.layers.1.", "shape [16]", "more"}},
	{name: "4097 layers", edit: set("num_hidden_layers", `4097`), want: []string{"layers is 4097", "want 1 to 4096"}},
	{name: "no layers", edit: set("num_hidden_layers", `0`), want: []string{"num_hidden_layers is 0", "want a positive integer"}},
	{name: "negative heads", edit: set("num_attention_heads", `-2`), want: []string{"num_attention_heads is -2", "want a positive integer"}},
	{name: "negative kv heads", edit: set("num_key_value_heads", `-1`), want: []string{"is -1", "want 1 to 4096"}},
	{name: "no kv heads", edit: set("num_key_value_heads", `0`), want: []string{"is 0", "want 1 to 4096"}},
	{name: "negative head_dim", edit: set("head_dim", `-8`), want: []string{"head_dim is -8", "want 2 to 4096"}},
	{name: "whole float for integer", edit: set("hidden_size", `16.0`), want: []string{"hidden_size is 16.0", "want an integer"}},
	{name: "float for integer", edit: set("hidden_size", `16.5`), want: []string{"hidden_size is 16.5", "want an integer"}},
	{name: "eps zero", edit: set("rms_norm_eps", `0`), want: []string{"norm_eps is 0", "want a positive finite float32", "usually 1e-05"}},
	{name: "eps negative", edit: set("rms_norm_eps", `-1e-5`), want: []string{"norm_eps is -1e-05", "want a positive"}},
	{name: "eps below float32", edit: set("rms_norm_eps", `1e-60`), want: []string{"norm_eps is 1e-60", "want a positive finite float32"}},
	{name: "eps over float32", edit: set("rms_norm_eps", `1e39`), want: []string{"norm_eps is 1e+39", "want a positive finite float32"}},
	{name: "eps over float64", edit: set("rms_norm_eps", `1e400`), want: []string{"rms_norm_eps is 1e400", "want a number"}},
	{name: "unknown activation", edit: set("hidden_act", `"gelu"`), want: []string{`hidden_act is "gelu"`, `want "silu" or "relu2"`}},
	{name: "unknown rope", edit: set("rope_scaling", `{"rope_type":"yarn","factor":2}`), want: []string{`rope_type is "yarn"`, `want "default", "linear" or "llama3"`}},
	{name: "rope without type", edit: set("rope_scaling", `{"factor":2}`), want: []string{"no rope_type", `want "default", "linear" or "llama3"`}},
	{name: "rope key", edit: set("rope_scaling", `{"rope_type":"linear","factor":2,"mscale":1}`), want: []string{"rope_scaling", "mscale", "not ignored"}},
	{name: "rope types", edit: set("rope_scaling", `{"rope_type":"linear","type":"llama3","factor":2}`), want: []string{`"linear"`, `"llama3"`, "want one value"}},
	{name: "rope without factor", edit: set("rope_scaling", `{"rope_type":"linear"}`), want: []string{"no factor", `"linear" needs`}},
	{name: "rope factor below 1", edit: set("rope_scaling", `{"rope_type":"linear","factor":0.5}`), want: []string{"factor is 0.5", "want at least 1"}},
	{name: "rope factor negative", edit: set("rope_scaling", `{"rope_type":"linear","factor":-2}`), want: []string{"factor is -2", "want a positive number up to 1e6"}},
	{name: "llama3 incomplete", edit: set("rope_scaling", `{"rope_type":"llama3","factor":2}`), want: []string{"no low_freq_factor", `"llama3" needs`}},
	{name: "llama3 inverted", edit: set("rope_scaling", `{"rope_type":"llama3","factor":2,"low_freq_factor":4,"high_freq_factor":1,"original_max_position_embeddings":8}`), want: []string{"(1)", "must be greater", "(4)"}},
	{name: "rope twice", edit: all(set("rope_scaling", `{"rope_type":"linear","factor":2}`), set("rope_parameters", `{"rope_type":"default"}`)), want: []string{"rope_scaling and rope_parameters", "want one", "remove"}},
	{name: "theta conflict", edit: set("rope_parameters", `{"rope_type":"default","rope_theta":10000}`), want: []string{"500000", "10000", "want one value"}},
	{name: "theta 1", edit: set("rope_theta", `1`), want: []string{"theta is 1", "want more than 1 and at most 1e12", "usually 10000"}},
	{name: "partial rotary", edit: set("partial_rotary_factor", `0.5`), want: []string{"partial_rotary_factor is 0.5", "want 1"}},
	{name: "partial rotary inside", edit: set("rope_parameters", `{"rope_type":"default","partial_rotary_factor":0.25}`), want: []string{"partial_rotary_factor is 0.25", "want 1"}},
	{name: "heads do not divide", edit: all(set("num_attention_heads", `3`), set("head_dim", "")), want: []string{"hidden_size (16)", "(3)", "use hidden_size 15 or 18, or give head_dim"}},
	{name: "heads and kv heads", shape: func(s *synth.Shape) { s.Heads, s.KVHeads, s.HeadDim = 3, 2, 4 }, want: []string{"(3)", "must be a multiple", "(2)"}},
	{name: "more kv heads than heads", shape: func(s *synth.Shape) { s.KVHeads = 4 }, want: []string{"(2)", "must be a multiple", "(4)"}},
	{name: "odd head_dim", shape: func(s *synth.Shape) { s.HeadDim = 7 }, want: []string{"head_dim is 7", "want an even number"}},
	{name: "unknown architecture", edit: set("architectures", `["OtherForCausalLM"]`), want: []string{"OtherForCausalLM", "want", "BitNetForCausalLM"}},
	{name: "no architecture", edit: all(set("architectures", ""), set("model_type", "")), want: []string{"architectures", "want", "BitNetForCausalLM"}},
	{name: "model_type of another", edit: set("model_type", `"llama"`), want: []string{`"llama"`, "BitNetForCausalLM", "want", `"bitnet"`, "correct config.json"}},
	{name: "gptq", edit: set("quantization_config.quant_method", `"gptq"`), want: []string{`"gptq"`, `want "bitnet"`, "convert from the original float checkpoint"}},
	{name: "linear_class", edit: set("quantization_config.linear_class", `"other"`), want: []string{`linear_class is "other"`, `want "bitlinear"`, `"autobitlinear"`}},
	{name: "quantization_mode", edit: set("quantization_config.quantization_mode", `"sometimes"`), want: []string{`"sometimes"`, `want "online" or "offline"`}},
	{name: "use_rms_norm", edit: set("quantization_config.use_rms_norm", `true`), want: []string{"no tensor model.layers.0.self_attn.q_proj.rms_norm.weight", "config.json implies with shape [16]"}},
	{name: "projections left dense", edit: set("quantization_config.modules_to_not_convert", `["q_proj"]`), want: []string{`"q_proj"`, `only "lm_head"`}},
	{name: "mlp_bias of BitNet", edit: set("mlp_bias", `true`), want: []string{"mlp_bias is true", "want false"}},
	{name: "eos beyond vocab", edit: set("eos_token_id", `20`), want: []string{"eos id 20", "want 0 to 19", "--generation"}},
	{name: "eos negative", edit: set("eos_token_id", `-1`), want: []string{"eos id -1", "want 0 to 19", "--generation"}},
	{name: "eos string", edit: set("eos_token_id", `"2"`), want: []string{`eos_token_id is "2"`, "want an integer"}},
	{name: "generation_config not JSON", edit: file("generation_config.json", "nope"), want: []string{"generation_config.json", "want one JSON object"}},
	{name: "generation_config eos", edit: file("generation_config.json", `{"eos_token_id": [1, 99]}`), want: []string{"eos id 99", "want 0 to 19", "--generation"}},
	{name: "top_p over 1", edit: file("generation_config.json", `{"top_p": 1.5}`), want: []string{"top_p", "1.5", "1]", "--generation"}},
	{name: "top_p 0", edit: file("generation_config.json", `{"top_p": 0}`), want: []string{"top_p must be in (0, 1], got 0", "temperature 0 is greedy"}},
	{name: "top_k negative", edit: file("generation_config.json", `{"top_k": -1}`), want: []string{"top_k must be at least 0", "got -1", "--generation"}},
	{name: "top_k float", edit: file("generation_config.json", `{"top_k": 1.5}`), want: []string{"top_k is 1.5", "want an integer"}},
	{name: "temperature over 2", edit: file("generation_config.json", `{"temperature": 3}`), want: []string{"temperature must be in [0, 2], got 3", "--generation"}},
	{name: "tokenizer ids beyond vocab", edit: file("tokenizer.json", tokenizerJSON), want: []string{"ids up to 31", "vocab_size in config.json is 20", "belongs to another model"}},
	{name: "tokenizer cut", edit: file("tokenizer.json", `{"version":`), want: []string{"tokenizer.json", "at byte 11", "want a JSON value", "--no-tokenizer"}},
	{name: "tokenizer empty", edit: file("tokenizer.json", ""), want: []string{"tokenizer.json", "the end of the file", "--no-tokenizer"}},
	{name: "tokenizer without model", edit: file("tokenizer.json", `{"version":"1.0"}`), want: []string{"model", "want a model of type BPE", "--no-tokenizer"}},
	{name: "tokenizer cut, left out", edit: file("tokenizer.json", `{"version":`), opt: convert.Options{NoTokenizer: true}},
	{name: "eos repeated", edit: set("eos_token_id", `[3,1,3]`)},
}

// tensors are what the weights may get wrong.
var tensors = []hostile{
	{name: "tied head of another shape", edit: weights(func(t *testing.T, ts map[string]*stored) {
		ts["lm_head.weight"] = &stored{ts[embed].dtype, []int64{16, 20}, ts[embed].data}
	}), want: []string{"tie_word_embeddings", "lm_head.weight differs from " + embed}},
	{name: "frequencies of zero", edit: put("model.rotary_emb.inv_freq", checkpoint.F32, 4), want: []string{"frequency 0 is 0", "gives 1", "correct rope_theta"}},
	{name: "frequencies of another head", edit: put("model.rotary_emb.inv_freq", checkpoint.F32, 3), want: []string{"F32 [3]", "want 4 floats"}},
	{name: "frequencies", edit: all(put("model.rotary_emb.inv_freq", checkpoint.F32, 4), pokeFloat("model.rotary_emb.inv_freq", 0, 1), pokeFloat("model.rotary_emb.inv_freq", 1, math.Pow(500000, -0.25)),
		pokeFloat("model.rotary_emb.inv_freq", 2, math.Pow(500000, -0.5)), pokeFloat("model.rotary_emb.inv_freq", 3, math.Pow(500000, -0.75)))},
	{name: "logits overflow", dtype: checkpoint.F32, shape: func(s *synth.Shape) { s.Tied = false }, edit: weights(func(t *testing.T, ts map[string]*stored) {
		for i := 0; i < len(ts["lm_head.weight"].data); i += 4 {
			binary.LittleEndian.PutUint32(ts["lm_head.weight"].data[i:], math.Float32bits(math.MaxFloat32))
		}
	}), want: []string{"self-test: logits", "want a finite number", "--no-self-test"}},
	{name: "online, packed", storage: synth.Multiply, edit: set("quantization_config.quantization_mode", `"online"`), want: []string{"is packed", `"online"`, "--scale multiply"}},
	{name: "offline, float", edit: set("quantization_config.quantization_mode", `"offline"`), want: []string{"BF16", `"offline"`, "--rule absmean"}},
	{name: "packed, no config", storage: synth.Multiply, edit: set("quantization_config", ""), want: []string{"is packed", "no quantization_config", "--scale multiply", "--scale divide"}},
	{name: "packed, no config, --scale", storage: synth.Multiply, edit: set("quantization_config", ""), opt: convert.Options{Scale: "multiply"}},
	{name: "BitNet floats, no config", storage: synth.Dense, want: []string{"no quantization_config", "--rule absmean"}},
	{name: "dense Llama", class: llama, storage: synth.Dense, want: []string{"dense model", "BF16", "--rule absmean"}},
	{name: "packed, --rule", storage: synth.Multiply, opt: convert.Options{Rule: "absmean"}, want: []string{"already holds trits", "leave out --rule"}},
	{name: "scale missing", storage: synth.Multiply, edit: drop(qProj + ".weight_scale"), want: []string{"is U8", "there is no " + qProj + ".weight_scale"}},
	{name: "scale [2]", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 2), want: []string{"BF16 [2]", "want one float"}},
	{name: "scale [1 1]", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 1, 1), want: []string{"BF16 [1 1]", "want one float"}},
	{name: "scale [0]", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 0), want: []string{"BF16 [0]", "want one float"}},
	{name: "scale integer", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.I32, 1), want: []string{"I32 [1]", "want one float"}},
	{name: "scale 0 divides", storage: synth.Divide, edit: put(qProj+".weight_scale", checkpoint.BF16, 1), want: []string{qProj + ".weight_scale", "got 0", "finite inverse"}},
	{name: "scale 0 multiplies", storage: synth.Multiply, edit: put(qProj+".weight_scale", checkpoint.BF16, 1)},
	{name: "scale subnormal divides", storage: synth.Divide, edit: poke(qProj+".weight_scale", 0, 1, 0), want: []string{"got 9.1835e-41", "finite inverse"}},
	{name: "scale NaN", storage: synth.Multiply, edit: poke(qProj+".weight_scale", 0, nan16...), want: []string{"got NaN", "want a finite scale"}},
	{name: "scale infinite divides", storage: synth.Divide, edit: poke(qProj+".weight_scale", 0, inf16...), want: []string{"got -Inf", "want a finite scale"}},
	{name: "scale negative", storage: synth.Multiply, edit: poke(qProj+".weight_scale", 0, 0x80, 0xbf)},
	{name: "Inf weight", edit: poke(qProj+".weight", 6, inf16...), want: []string{"row 0, column 3", "got -Inf", "want a finite weight", "damaged"}},
	{name: "NaN last, tensor scale", edit: poke(qProj+".weight", -2, nan16...), want: []string{"row 15, column 15", "got NaN", "want a finite weight"}},
	{name: "NaN last, row scales", edit: poke(qProj+".weight", -2, nan16...), opt: convert.Options{Rule: "absmean-row"}, want: []string{"row 15, column 15", "got NaN"}},
	{name: "NaN last, group scales", edit: poke(qProj+".weight", -2, nan16...), opt: convert.Options{Rule: "absmean-group=128"}, want: []string{"row 15, column 15", "got NaN"}},
	{name: "NaN, F32", dtype: checkpoint.F32, edit: pokeFloat(qProj+".weight", 5, math.NaN()), want: []string{"row 0, column 5", "got NaN"}},
	{name: "Inf, F16", dtype: checkpoint.F16, edit: poke(qProj+".weight", -2, 0, 0x7c), want: []string{"row 15, column 15", "got +Inf"}},
	{name: "NaN in embedding", edit: poke(embed, -2, nan16...), want: []string{embed, "row 19, column 15", "got NaN", "want a finite"}},
	{name: "NaN in int8 embedding", edit: poke(embed, -2, nan16...), opt: convert.Options{Head: "int8"}, want: []string{embed, "row 19, column 15", "got NaN"}},
	{name: "NaN in norm", edit: poke("model.norm.weight", 0, nan16...), want: []string{"model.norm.weight", "column 0", "got NaN", "want a finite"}},
	{name: "NaN in bias", shape: withBias, edit: poke(qProj+".bias", -2, nan16...), want: []string{qProj + ".bias", "column 15", "got NaN"}},
	{name: "bias times scale overflows", storage: synth.Multiply, dtype: checkpoint.F32, shape: withBias, opt: convert.Options{NoSelfTest: true},
		edit: all(pokeFloat(qProj+".bias", 0, 1e30), pokeFloat(qProj+".weight_scale", 0, 1e20)), want: []string{"q.bias", "infinity", "want a finite number"}},
	{name: "sums overflow", dtype: checkpoint.F32, edit: pokeFloat(embed, 16, math.MaxFloat32), want: []string{"sum of squares is +Inf", "want a finite value", "--no-self-test"}},
	{name: "code 3", storage: synth.Multiply, edit: poke(qProj+".weight", 37, 0x30), want: []string{"byte (2, 5)", "got 0x30", "want codes 0, 1 and 2", "packed in another way"}},
	{name: "code 3 last", storage: synth.Multiply, edit: poke(qProj+".weight", -1, 0xc0), want: []string{"byte (3, 15)", "got 0xc0", "want codes 0, 1 and 2"}},
	{name: "packed rows not of 4", storage: synth.Multiply, shape: func(s *synth.Shape) { s.Heads, s.KVHeads, s.HeadDim = 3, 1, 2 }, want: []string{"6 rows", "multiple of 4", "convert from the float checkpoint"}},
	{name: "packed shape", storage: synth.Multiply, edit: put(qProj+".weight", checkpoint.U8, 16, 16), want: []string{"shape [16 16]", "want [4 16]"}},
	{name: "packed embedding", storage: synth.Multiply, edit: put(embed, checkpoint.U8, 5, 16), want: []string{embed, "shape [5 16]", "want [20 16]"}},
	{name: "missing projection", edit: drop("model.layers.0.mlp.up_proj.weight"), want: []string{"no tensor model.layers.0.mlp.up_proj.weight", "config.json implies with shape [12 16]"}},
	{name: "missing embedding", edit: drop(embed), want: []string{"no tensor " + embed, "config.json implies with shape [20 16]"}},
	{name: "missing norm", edit: drop("model.layers.0.mlp.ffn_sub_norm.weight"), want: []string{"no tensor model.layers.0.mlp.ffn_sub_norm.weight", "shape [12]"}},
	{name: "extra layer", edit: put("model.layers.1.mlp.up_proj.weight", checkpoint.BF16, 12, 16), want: []string{"model.layers.1.mlp.up_proj.weight BF16 [12 16]", "has no place", "config.json"}},
	{name: "misshapen", edit: put(qProj+".weight", checkpoint.BF16, 16, 17), want: []string{"shape [16 17]", "want [16 16]", "config.json"}},
	{name: "transposed", edit: put("model.layers.0.mlp.up_proj.weight", checkpoint.BF16, 16, 12), want: []string{"shape [16 12]", "want [12 16]"}},
	{name: "flat", edit: put(qProj+".weight", checkpoint.BF16, 256), want: []string{"shape [256]", "want [16 16]"}},
	{name: "scalar norm", edit: put("model.norm.weight", checkpoint.BF16), want: []string{"shape []", "want [16]"}},
	{name: "integer norm", edit: put("model.norm.weight", checkpoint.I64, 16), want: []string{"model.norm.weight", "dtype I64", "want F32, F16 or BF16"}},
	{name: "F64 masters", edit: put(qProj+".weight", checkpoint.F64, 16, 16), want: []string{"dtype F64", "want F32, F16 or BF16"}},
	{name: "F8 masters", edit: put(qProj+".weight", checkpoint.F8E4M3, 16, 16), want: []string{"dtype F8_E4M3", "want F32, F16 or BF16"}},
	{name: "tied head differs", edit: put("lm_head.weight", checkpoint.BF16, 20, 16), want: []string{"lm_head.weight differs from " + embed, "set tie_word_embeddings to false"}},
	{name: "tied head of another dtype", edit: put("lm_head.weight", checkpoint.F32, 20, 16), want: []string{"lm_head.weight differs", "set tie_word_embeddings to false"}},
	{name: "untied, no head", edit: set("tie_word_embeddings", `false`), want: []string{"no tensor lm_head.weight", "[20 16]", "set tie_word_embeddings to true"}},
	{name: "bias that config.json denies", shape: withBias, edit: set("attention_bias", `false`), want: []string{qProj + ".bias BF16 [16]", "has no place", "config.json"}},
	{name: "bias that is not there", edit: set("attention_bias", `true`), want: []string{"no tensor " + qProj + ".bias", "shape [16]"}},
	{name: "shard missing", edit: all(remove("model.safetensors"), file("model.safetensors.index.json", `{"weight_map":{"a":"model-00001-of-00002.safetensors"}}`)),
		want: []string{`no file "model-00001-of-00002.safetensors"`, "want the shard", "download the missing shard"}},
	{name: "index missing", edit: func(t *testing.T, dir string) {
		require.NoError(t, os.Rename(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "model-00001-of-00002.safetensors")))
	}, want: []string{"shards without their index", "download model.safetensors.index.json"}},
	{name: "no weights", edit: remove("model.safetensors"), want: []string{"no weights", "looked for model.safetensors", "is this the folder"}},
	{name: "two sets", edit: func(t *testing.T, dir string) {
		require.NoError(t, os.Link(filepath.Join(dir, "model.safetensors"), filepath.Join(dir, "other.safetensors")))
	}, want: []string{"model.safetensors, other.safetensors", "pass the FILE"}},
	{name: "tied head is equal", edit: weights(func(t *testing.T, ts map[string]*stored) { ts["lm_head.weight"] = ts[embed] })},
	{name: "zero weights", edit: put(qProj+".weight", checkpoint.BF16, 16, 16)},
	{name: "zero weights, row scales", edit: put(qProj+".weight", checkpoint.BF16, 16, 16), opt: convert.Options{Rule: "absmean-row"}},
	{name: "group over the row", opt: convert.Options{Rule: "absmean-group=256"}},
	{name: "one id", shape: func(s *synth.Shape) { s.Vocab = 1 }},
	{name: "one position", shape: func(s *synth.Shape) { s.Context = 1 }},
	{name: "least of everything", shape: func(s *synth.Shape) { s.Hidden, s.Heads, s.HeadDim, s.Intermediate, s.Vocab = 1, 1, 2, 1, 1 }},
}

// options are what a command line may get wrong.
var options = []hostile{
	{name: "rule spelled otherwise", opt: convert.Options{Rule: "absmean-group=+128"}, want: []string{"absmean-group=+128", "want a multiple of 128"}},
	{name: "defaults spelled out", opt: convert.Options{Encoding: "trit2", Head: "keep"}},
	{name: "rule", opt: convert.Options{Rule: "gptq"}, want: []string{`"gptq"`, "want absmean", "absmean-group=N"}},
	{name: "rule in capitals", opt: convert.Options{Rule: "AbsMean"}, want: []string{`"AbsMean"`, "want absmean"}},
	{name: "rule without group", opt: convert.Options{Rule: "absmean-group"}, want: []string{`"absmean-group"`, "absmean-group=N"}},
	{name: "group empty", opt: convert.Options{Rule: "absmean-group="}, want: []string{`""`, "want a multiple of 128", "absmean-group=128"}},
	{name: "group 0", opt: convert.Options{Rule: "absmean-group=0"}, want: []string{`"0"`, "want a multiple of 128"}},
	{name: "group 64", opt: convert.Options{Rule: "absmean-group=64"}, want: []string{`"64"`, "want a multiple of 128"}},
	{name: "group 129", opt: convert.Options{Rule: "absmean-group=129"}, want: []string{`"129"`, "want a multiple of 128"}},
	{name: "group negative", opt: convert.Options{Rule: "absmean-group=-128"}, want: []string{`"-128"`, "want a multiple of 128"}},
	{name: "group huge", opt: convert.Options{Rule: "absmean-group=99999999999999999999"}, want: []string{"99999999999999999999", "want a multiple of 128"}},
	{name: "encoding", opt: convert.Options{Encoding: "trit5"}, want: []string{`"trit5"`, `want "trit2" or "trit3"`, "1.6 bits"}},
	{name: "head", opt: convert.Options{Head: "int4"}, want: []string{`"int4"`, `want "keep" or "int8"`}},
	{name: "scale", opt: convert.Options{Scale: "add"}, want: []string{`"add"`, `want "multiply" or "divide"`}},
	{name: "activations", opt: convert.Options{Activations: "fp8"}, want: []string{`"fp8"`, `want "int8" or "none"`}},
	{name: "tokenizer that is a folder", opt: convert.Options{Tokenizer: "/"}, want: []string{"/", "want a tokenizer.json file"}},
	{name: "tokenizer and none", opt: convert.Options{Tokenizer: "x", NoTokenizer: true}, want: []string{"--tokenizer and --no-tokenizer exclude each other"}},
	{name: "generation key", opt: generation("beams", "4"), want: []string{"beams=4", "unknown key", "want eos, max_new_tokens"}},
	{name: "generation NaN", opt: generation("temperature", "NaN"), want: []string{"got NaN", "temperature must be in [0, 2]"}},
	{name: "generation words", opt: generation("top_k", "few"), want: []string{"top_k=few", "want an integer"}},
	{name: "generation eos words", opt: generation("eos", "a,b"), want: []string{"eos=a,b", "want ids separated by commas"}},
	{name: "generation eos beyond vocab", opt: generation("eos", "20"), want: []string{"eos id 20", "want 0 to 19"}},
	{name: "generation modality", opt: generation("modality", "audio"), want: []string{`"audio"`, `want one of ["text"]`}},
}

// tokenizerJSON has an id of 31.
const tokenizerJSON = `{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true},"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":false,"vocab":{"a":0,"b":31},"merges":[]}}`

// TestHostile converts checkpoints that are wrong, and such as only look so. What
// is refused leaves nothing behind; what is accepted verifies against its source
// and runs.
func TestHostile(t *testing.T) {
	for group, rows := range map[string][]hostile{"config": configs, "tensors": tensors, "options": options} {
		for _, h := range rows {
			t.Run(group+"/"+h.name, func(t *testing.T) {
				t.Parallel()
				source, out := h.checkpoint(t), t.TempDir()
				path := filepath.Join(out, "m.trit")
				err := convertError(context.Background(), source, path, h.opt)
				if h.want == nil {
					require.NoError(t, err)
					report, err := verify.File(context.Background(), path, verify.Options{Run: true, Source: source}, nil)
					require.NoError(t, err)
					require.Empty(t, report.Findings)
					return
				}
				require.Error(t, err)
				for _, s := range h.want {
					require.ErrorContains(t, err, s)
				}
				requireEmpty(t, out)
			})
		}
	}
}

// TestEveryNonFiniteElementIsFound puts a NaN at each place of a matrix.
func TestEveryNonFiniteElementIsFound(t *testing.T) {
	for i := range 12 * 16 {
		h := hostile{edit: poke("model.layers.0.mlp.up_proj.weight", 2*i, nan16...), opt: convert.Options{NoSelfTest: true}}
		err := convertError(context.Background(), h.checkpoint(t), filepath.Join(t.TempDir(), "m.trit"), h.opt)
		require.ErrorContains(t, err, fmt.Sprintf("row %d, column %d ", i/16, i%16))
	}
}

// TestZeroWeights: a matrix of zeros has the least scale, not a division by zero.
func TestZeroWeights(t *testing.T) {
	for _, rule := range []string{"", "absmean-row", "absmean-group=128"} {
		h := hostile{edit: put(qProj+".weight", checkpoint.BF16, 16, 16)}
		f, err := format.Open(convertTo(t, h.checkpoint(t), convert.Options{Rule: rule}))
		require.NoError(t, err)
		defer f.Close()
		q, ok := f.Tensor("layers.0.q.weight")
		require.True(t, ok)
		scales, err := q.Scales()
		require.NoError(t, err)
		for _, s := range scales {
			require.Equal(t, float32(1e-5), s)
		}
		data, err := q.Data()
		require.NoError(t, err)
		require.Equal(t, make([]byte, len(data)), data)
	}
}

// TestGenerationOverridesTheCheckpoint: an option replaces a value that would be
// refused.
func TestGenerationOverridesTheCheckpoint(t *testing.T) {
	h := hostile{edit: file("generation_config.json", `{"top_p": 1.5, "top_k": 7}`)}
	plan, err := convert.Open(h.checkpoint(t), generation("top_p", "0.5"))
	require.NoError(t, err)
	defer plan.Close()
	require.Equal(t, 0.5, *plan.Generation.TopP)
	require.Equal(t, 7, *plan.Generation.TopK)
}

// interrupted converts a checkpoint of each storage and calls disturb on the first
// progress of the stage. The file that was there before stays, and no goroutine.
func interrupted(t *testing.T, at string, disturb func(t *testing.T, source string, cancel context.CancelFunc), want error) {
	for _, storage := range []synth.Storage{synth.Online, synth.Multiply, synth.Divide} {
		for _, workers := range []int{1, 4} {
			h := hostile{storage: storage, shape: func(s *synth.Shape) { s.Hidden, s.Intermediate, s.Layers = 128, 512, 2 }}
			source, out := h.checkpoint(t), t.TempDir()
			path := filepath.Join(out, "m.trit")
			require.NoError(t, os.WriteFile(path, []byte("before"), 0o644))
			before := goruntime.NumGoroutine()
			ctx, cancel := context.WithCancel(context.Background())
			plan, err := convert.Open(source, convert.Options{Workers: workers})
			require.NoError(t, err)
			var once sync.Once
			_, err = plan.Write(ctx, path, func(stage string, _, _ int64) {
				if stage == at {
					once.Do(func() { disturb(t, source, cancel) })
				}
			})
			require.ErrorIs(t, err, want)
			require.NoError(t, plan.Close())
			cancel()
			list, err := os.ReadDir(out)
			require.NoError(t, err)
			require.Len(t, list, 1)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "before", string(data))
			for end := time.Now().Add(5 * time.Second); goruntime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
				require.True(t, time.Now().Before(end), "goroutines are left")
			}
		}
	}
}

func TestCancel(t *testing.T) {
	for _, stage := range []string{"convert", "self-test"} {
		interrupted(t, stage, func(_ *testing.T, _ string, cancel context.CancelFunc) { cancel() }, context.Canceled)
	}
}

func TestSourceShrinks(t *testing.T) {
	interrupted(t, "convert", func(t *testing.T, source string, _ context.CancelFunc) {
		require.NoError(t, os.Truncate(filepath.Join(source, "model.safetensors"), 4096))
	}, io.ErrUnexpectedEOF)
}

// TestOutputPaths: a name that cannot be written is refused before anything is.
func TestOutputPaths(t *testing.T) {
	source := (&hostile{}).checkpoint(t)
	out := t.TempDir()
	missing := filepath.Join(out, "no", "m.trit")
	err := convertError(context.Background(), source, missing, convert.Options{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, filepath.Dir(missing))
	for _, path := range []string{out, out + "/"} {
		err := convertError(context.Background(), source, path, convert.Options{})
		require.ErrorContains(t, err, path+" is not a regular file")
		require.ErrorContains(t, err, "want the name of a file")
	}
	requireEmpty(t, out)
}
