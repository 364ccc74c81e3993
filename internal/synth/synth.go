// Package synth writes checkpoints of random weights in the form of Hugging Face:
// small ones for tests, and ones of several gigabytes to measure conversion and
// generation at real shapes.
package synth

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/model"
)

// Shape is the architecture of a checkpoint.
type Shape struct {
	Class         string // "BitNetForCausalLM", "LlamaForCausalLM" or Tritter
	Hidden        int
	Layers        int
	Heads         int
	KVHeads       int
	HeadDim       int // 0: Hidden / Heads
	Intermediate  int
	Vocab         int
	Context       int
	Tied          bool
	AttentionBias bool
	MLPBias       bool
	Act           model.Activation // "": that of the class
	Theta         float64          // 0: 500000
	Extra         map[string]any   // more keys of config.json
}

// Tritter is the class of Tritter's own models. Write does not know it.
const Tritter = "TritterModel"

// Shapes are known models by name: 2B-4T is microsoft/bitnet-b1.58-2B-4T, 700M is
// 1bitLLM/bitnet_b1_58-large, the others are sizes of Tritter.
var Shapes = map[string]Shape{
	"2B-4T": {Class: "BitNetForCausalLM", Hidden: 2560, Layers: 30, Heads: 20, KVHeads: 5, Intermediate: 6912, Vocab: 128256, Context: 4096, Tied: true},
	"700M":  {Class: "BitNetForCausalLM", Hidden: 1536, Layers: 24, Heads: 16, KVHeads: 16, Intermediate: 4096, Vocab: 32002, Context: 2048, Tied: true, Act: model.SiLU},
	"125M":  {Class: Tritter, Hidden: 768, Layers: 12, Heads: 12, KVHeads: 12, Intermediate: 3072, Vocab: 65536, Context: 4096, Tied: true},
	"350M":  {Class: Tritter, Hidden: 1024, Layers: 24, Heads: 16, KVHeads: 16, Intermediate: 4096, Vocab: 65536, Context: 4096, Tied: true},
	"1B":    {Class: Tritter, Hidden: 2048, Layers: 16, Heads: 16, KVHeads: 16, Intermediate: 5632, Vocab: 65536, Context: 4096, Tied: true},
	"3B":    {Class: Tritter, Hidden: 2560, Layers: 26, Heads: 20, KVHeads: 20, Intermediate: 6912, Vocab: 65536, Context: 4096, Tied: true},
	"7B":    {Class: Tritter, Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 8, Intermediate: 11008, Vocab: 65536, Context: 4096, Tied: true},
}

// Storage is how the projections are stored.
type Storage string

// The storages.
const (
	Online   Storage = "online"   // masters of the dtype, quantized when converted (autobitlinear)
	Multiply Storage = "multiply" // packed, weight_scale multiplies (autobitlinear)
	Divide   Storage = "divide"   // packed, weight_scale divides (bitlinear)
	Dense    Storage = "dense"    // masters of the dtype, no quantization_config
)

// Write writes config.json and model.safetensors into dir, which exists. The same
// arguments give the same bytes.
func Write(dir string, s Shape, storage Storage, dtype checkpoint.DType, seed uint64) error {
	if s.Class == Tritter {
		return errors.New("synth: a Tritter model has no form of Hugging Face; write it as a .trit")
	}
	if s.HeadDim == 0 {
		s.HeadDim = s.Hidden / s.Heads
	}
	config, err := json.MarshalIndent(s.config(storage, dtype), "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if err := safetensors.Write(w, s.tensors(storage, dtype, seed), map[string]string{"format": "pt"}); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func (s *Shape) config(storage Storage, dtype checkpoint.DType) map[string]any {
	theta := s.Theta
	if theta == 0 {
		theta = 500000
	}
	c := map[string]any{
		"architectures": []string{s.Class}, "hidden_size": s.Hidden, "num_hidden_layers": s.Layers, "num_attention_heads": s.Heads,
		"num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "intermediate_size": s.Intermediate, "vocab_size": s.Vocab,
		"max_position_embeddings": s.Context, "rms_norm_eps": 1e-5, "rope_theta": theta, "tie_word_embeddings": s.Tied,
		"attention_bias": s.AttentionBias, "eos_token_id": min(2, s.Vocab-1), "dtype": map[checkpoint.DType]string{checkpoint.BF16: "bfloat16", checkpoint.F16: "float16", checkpoint.F32: "float32"}[dtype],
	}
	if s.Class == "BitNetForCausalLM" {
		c["model_type"], c["hidden_act"] = "bitnet", "relu2"
		if s.Act != "" {
			c["hidden_act"] = string(s.Act)
		}
	} else {
		c["model_type"], c["hidden_act"], c["mlp_bias"] = "llama", "silu", s.MLPBias
	}
	if storage != Dense {
		class, mode := "autobitlinear", "offline"
		if storage == Divide {
			class = "bitlinear"
		}
		if storage == Online {
			mode = "online"
		}
		c["quantization_config"] = map[string]any{"quant_method": "bitnet", "linear_class": class, "quantization_mode": mode, "modules_to_not_convert": nil}
	}
	for k, v := range s.Extra {
		c[k] = v
	}
	return c
}

func (s *Shape) tensors(storage Storage, dtype checkpoint.DType, seed uint64) []safetensors.WriteTensor {
	var ts []safetensors.WriteTensor
	add := func(name string, dtype checkpoint.DType, next func(*rand.Rand) uint64, shape ...int64) {
		n := int64(dtype.Size())
		for _, d := range shape {
			n *= d
		}
		seed++
		ts = append(ts, safetensors.WriteTensor{Name: name, DType: dtype, Shape: shape,
			Data: io.LimitReader(&stream{rng: rand.New(rand.NewPCG(seed, 1)), size: dtype.Size(), next: next}, n)})
	}
	float := func(mean, deviation float64) func(*rand.Rand) uint64 {
		return func(rng *rand.Rand) uint64 { return encode(float32(mean+deviation*rng.NormFloat64()), dtype) }
	}
	const base = "model."
	bitnet := s.Class == "BitNetForCausalLM"
	linear := func(name string, out, in int, bias bool) {
		if storage == Multiply || storage == Divide {
			add(name+".weight", checkpoint.U8, packedByte, int64(out/4), int64(in))
			scale := 0.02
			if storage == Divide {
				scale = 50
			}
			add(name+".weight_scale", dtype, float(scale, scale/100), 1)
		} else {
			add(name+".weight", dtype, float(0, 0.02), int64(out), int64(in))
		}
		if bias {
			add(name+".bias", dtype, float(0, 0.1), int64(out))
		}
	}
	norm := func(name string, n int) { add(name+".weight", dtype, float(1, 0.1), int64(n)) }
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	add(base+"embed_tokens.weight", dtype, float(0, 1), int64(s.Vocab), int64(s.Hidden))
	for i := range s.Layers {
		layer := fmt.Sprintf("%slayers.%d.", base, i)
		norm(layer+"input_layernorm", s.Hidden)
		norm(layer+"post_attention_layernorm", s.Hidden)
		if bitnet {
			norm(layer+"self_attn.attn_sub_norm", q)
			norm(layer+"mlp.ffn_sub_norm", s.Intermediate)
		}
		linear(layer+"self_attn.q_proj", q, s.Hidden, s.AttentionBias)
		linear(layer+"self_attn.k_proj", kv, s.Hidden, s.AttentionBias)
		linear(layer+"self_attn.v_proj", kv, s.Hidden, s.AttentionBias)
		linear(layer+"self_attn.o_proj", s.Hidden, q, s.AttentionBias)
		linear(layer+"mlp.gate_proj", s.Intermediate, s.Hidden, s.MLPBias)
		linear(layer+"mlp.up_proj", s.Intermediate, s.Hidden, s.MLPBias)
		linear(layer+"mlp.down_proj", s.Hidden, s.Intermediate, s.MLPBias)
	}
	norm(base+"norm", s.Hidden)
	if !s.Tied {
		add("lm_head.weight", dtype, float(0, 0.02), int64(s.Vocab), int64(s.Hidden))
	}
	return ts
}

// packedByte draws four trits.
func packedByte(rng *rand.Rand) uint64 {
	n := rng.Uint64N(81)
	return n%3 | n/3%3<<2 | n/9%3<<4 | n/27<<6
}

// encode rounds v to dtype: to the nearest for bf16, toward zero for f16, whose
// subnormals become zero.
func encode(v float32, dtype checkpoint.DType) uint64 {
	bits := math.Float32bits(v)
	switch dtype {
	case checkpoint.F32:
		return uint64(bits)
	case checkpoint.BF16:
		return uint64((bits + 0x7fff + bits>>16&1) >> 16)
	case checkpoint.F16:
		sign, exp := bits>>16&0x8000, int32(bits>>23&0xff)-127+15
		if exp <= 0 {
			return uint64(sign)
		}
		return uint64(sign | uint32(min(exp, 30))<<10 | bits>>13&0x3ff)
	}
	panic("synth: dtype " + string(dtype))
}

// stream is an endless sequence of random elements. To be fast at gigabytes it
// draws a table of values first and then picks among them.
type stream struct {
	rng   *rand.Rand
	size  int
	next  func(*rand.Rand) uint64
	table []byte // tableLen elements
	spare []byte
}

const tableLen = 1 << 12

func (s *stream) Read(p []byte) (int, error) {
	if s.table == nil {
		for range tableLen {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], s.next(s.rng))
			s.table = append(s.table, b[:s.size]...)
		}
	}
	n := copy(p, s.spare)
	s.spare = s.spare[n:]
	for n < len(p) {
		draw := s.rng.Uint64()
		for range 5 { // five indices of 12 bits
			at := int(draw%tableLen) * s.size
			draw /= tableLen
			k := copy(p[n:], s.table[at:at+s.size])
			if n += k; k < s.size {
				s.spare = s.table[at+k : at+s.size]
				break
			}
		}
	}
	return n, nil
}

// ParseShape returns a shape of Shapes, with the number of layers replaced where
// the name ends in ":N".
func ParseShape(name string) (Shape, error) {
	base, layers, cut := strings.Cut(name, ":")
	s, ok := Shapes[base]
	if !ok {
		return s, fmt.Errorf("unknown shape %q, want one of %s, with :N for N layers", name, strings.Join(slices.Sorted(maps.Keys(Shapes)), ", "))
	}
	if cut {
		if _, err := fmt.Sscanf(layers, "%d", &s.Layers); err != nil || s.Layers < 1 {
			return s, fmt.Errorf("shape %q: want a number of layers after the colon", name)
		}
	}
	return s, nil
}
