package convert_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/verify"
)

const (
	byteLevelJSON     = fixtures + "/bitnet-packed/tokenizer.json"
	sentencePieceJSON = fixtures + "/llama-bitlinear-packed/tokenizer.json"
)

// ggufShape is the smallest model with whole blocks of 256 and grouped heads.
func ggufShape() synth.Shape {
	return synth.Shape{Class: "LlamaForCausalLM", Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 512, Vocab: 520, Context: 256}
}

func synthetic(t testing.TB, s synth.Shape, storage synth.Storage, dtype checkpoint.DType) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, storage, dtype, 1))
	return dir
}

func exportGGUF(t *testing.T, trit, encoding string, noTokenizer bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	_, err := export.GGUF(context.Background(), openTrit(t, trit), path, export.GGUFOptions{Encoding: encoding, NoTokenizer: noTokenizer})
	require.NoError(t, err)
	return path
}

// verified holds a converted file to its own checks and to its source.
func verified(t *testing.T, path, source string) {
	t.Helper()
	r, err := verify.File(context.Background(), path, verify.Options{Source: source}, nil)
	require.NoError(t, err)
	require.Empty(t, r.Findings)
}

func configOf(t *testing.T, f *format.File) string {
	t.Helper()
	data, err := f.Section(format.SectionConfig)
	require.NoError(t, err)
	return string(data)
}

var someIDs = []int{1, 4, 72, 73, 5, 300, 511, 9}

func sameLogits(t *testing.T, a, b string) {
	t.Helper()
	x := forward(t, openEngine(t, a), someIDs, runtime.PositionAll)
	y := forward(t, openEngine(t, b), someIDs, runtime.PositionAll)
	require.Equal(t, x, y)
}

// TestGGUFRoundTrip: a checkpoint, exported and converted back, has the same trits;
// scales become halves once, and after that nothing changes any more.
func TestGGUFRoundTrip(t *testing.T) {
	for _, c := range []struct {
		encoding string
		shape    func(s *synth.Shape)
		storage  synth.Storage
		opt      convert.Options
	}{
		{encoding: "tq2_0", storage: synth.Divide, opt: convert.Options{Activations: "int8"}},
		{encoding: "tq1_0", storage: synth.Divide, opt: convert.Options{Activations: "int8", Encoding: "trit3"}},
		{encoding: "f16", storage: synth.Divide, opt: convert.Options{Activations: "int8"}},
		{encoding: "tq2_0", storage: synth.Dense, opt: convert.Options{Rule: "absmean-row"}, shape: func(s *synth.Shape) { s.AttentionBias, s.MLPBias = true, true }},
		{encoding: "tq1_0", storage: synth.Dense, opt: convert.Options{Rule: "absmean-group=256"}, shape: func(s *synth.Shape) { s.Hidden, s.Tied = 512, true }},
		{encoding: "f16", storage: synth.Dense, opt: convert.Options{Rule: "absmean-row"}, shape: func(s *synth.Shape) { s.HeadDim = 128 }},
		{encoding: "tq2_0", storage: synth.Divide, opt: convert.Options{Activations: "int8"}, shape: func(s *synth.Shape) {
			s.Extra = map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 4.0}}
		}},
	} {
		t.Run(fmt.Sprint(c.encoding, " ", c.storage, " ", c.opt.Rule), func(t *testing.T) {
			s := ggufShape()
			if c.shape != nil {
				c.shape(&s)
			}
			c.opt.NoSelfTest = true
			c.opt.Tokenizer = byteLevelJSON
			first := convertTo(t, synthetic(t, s, c.storage, checkpoint.BF16), c.opt)
			back := c.opt
			back.Rule, back.Tokenizer = "", ""
			source := exportGGUF(t, first, c.encoding, false)
			second := convertTo(t, source, back)
			verified(t, second, source)
			a, b := openTrit(t, first), openTrit(t, second)
			require.Equal(t, configOf(t, a), configOf(t, b))
			for _, w := range tensorsOf(t, a) {
				if !w.Info().Encoding.Ternary() {
					continue
				}
				x, y := readTernary(t, a, w.Info().Name), readTernary(t, b, w.Info().Name)
				require.Equal(t, x.rows, y.rows, w.Info().Name)
				if c.encoding == "f16" && x.info.Granularity == format.ScaleTensor {
					for _, v := range y.scales { // found in the floats, row by row
						require.Equal(t, float16.Fromfloat32(x.scales[0]).Float32(), v)
					}
					continue
				}
				require.Equal(t, x.info.Granularity, y.info.Granularity, w.Info().Name)
				require.Len(t, y.scales, len(x.scales))
				for i, v := range x.scales {
					require.Equal(t, float16.Fromfloat32(v).Float32(), y.scales[i])
				}
			}
			third := convertTo(t, exportGGUF(t, second, c.encoding, false), back)
			sameTensors(t, b, openTrit(t, third))
			sameLogits(t, second, third)
		})
	}
}

// TestGGUFEqualsHuggingFace: the same model from both formats is the same file but
// for where it came from.
func TestGGUFEqualsHuggingFace(t *testing.T) {
	opt := convert.Options{Activations: "int8", NoSelfTest: true}
	first := convertTo(t, synthetic(t, ggufShape(), synth.Divide, checkpoint.BF16), convert.Options{NoSelfTest: true})
	source := exportGGUF(t, first, "tq2_0", true)
	trit := convertTo(t, source, opt)
	dir := filepath.Join(t.TempDir(), "hf")
	require.NoError(t, export.HuggingFace(context.Background(), openTrit(t, trit), dir))
	fromHF := convertTo(t, dir, convert.Options{NoSelfTest: true})
	sameTensors(t, openTrit(t, fromHF), openTrit(t, trit))
	require.Equal(t, configOf(t, openTrit(t, fromHF)), configOf(t, openTrit(t, trit)))
	sameLogits(t, fromHF, trit)
}

// handmade writes a dense Hugging Face checkpoint as GGUF without a line of the
// exporter, permuted as llama.cpp's converter does it.
func handmade(t testing.TB, dir string, s synth.Shape) *ggufFile {
	t.Helper()
	d, err := checkpoint.Open(dir)
	require.NoError(t, err)
	defer d.Close()
	f := &ggufFile{}
	f.set("general.architecture", "llama")
	for key, n := range map[string]int{"embedding_length": s.Hidden, "block_count": s.Layers, "feed_forward_length": s.Intermediate, "context_length": s.Context,
		"attention.head_count": s.Heads, "attention.head_count_kv": s.KVHeads, "rope.dimension_count": s.Hidden / s.Heads, "vocab_size": s.Vocab} {
		f.set("llama."+key, uint32(n))
	}
	f.set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	f.set("llama.rope.freq_base", float32(500000))
	names := strings.NewReplacer("model.layers.", "blk.", "self_attn.q_proj", "attn_q", "self_attn.k_proj", "attn_k", "self_attn.v_proj", "attn_v", "self_attn.o_proj", "attn_output",
		"input_layernorm", "attn_norm", "post_attention_layernorm", "ffn_norm", "mlp.gate_proj", "ffn_gate", "mlp.up_proj", "ffn_up", "mlp.down_proj", "ffn_down",
		"model.embed_tokens", "token_embd", "model.norm", "output_norm", "lm_head", "output")
	for _, w := range d.Weights.Tensors() {
		data := make([]byte, w.Size)
		_, err := w.ReadAt(data, 0)
		require.NoError(t, err)
		heads := 0
		if strings.Contains(w.Name, "q_proj") {
			heads = s.Heads
		} else if strings.Contains(w.Name, "k_proj") {
			heads = s.KVHeads
		}
		if heads > 0 {
			rows := int(w.Shape[0])
			size, headDim := len(data)/rows, rows/heads
			out := make([]byte, len(data))
			for h := range heads {
				for j := range 2 {
					for i := range headDim / 2 {
						copy(out[(h*headDim+2*i+j)*size:], data[(h*headDim+j*(headDim/2)+i)*size:][:size])
					}
				}
			}
			data = out
		}
		typ, ok := gguf.TypeOf(w.DType)
		require.True(t, ok)
		f.add(names.Replace(w.Name), typ, data, w.Shape...)
	}
	return f
}

func TestGGUFFloatsEqualHuggingFace(t *testing.T) {
	for _, dtype := range []checkpoint.DType{checkpoint.F16, checkpoint.BF16, checkpoint.F32} {
		s := ggufShape()
		s.AttentionBias = true
		dir := synthetic(t, s, synth.Dense, dtype)
		opt := convert.Options{Rule: "absmean-row", NoSelfTest: true}
		want, source := convertTo(t, dir, opt), handmade(t, dir, s).write(t)
		got := convertTo(t, source, opt)
		verified(t, got, source)
		sameTensors(t, openTrit(t, want), openTrit(t, got))
		require.Equal(t, configOf(t, openTrit(t, want)), configOf(t, openTrit(t, got)))
		sameLogits(t, want, got)
	}
}

// TestGGUFFromLlamaQuantize converts what llama.cpp's own quantizer wrote
// (docs/gguf.md) and compares it with the model that it was made from.
func TestGGUFFromLlamaQuantize(t *testing.T) {
	s := synth.Shape{Class: "LlamaForCausalLM", Hidden: 256, Layers: 1, Heads: 4, KVHeads: 1, Intermediate: 256, Vocab: 64, Context: 64, Tied: true}
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, synth.Divide, checkpoint.F16, 5))
	want := openTrit(t, convertTo(t, dir, convert.Options{NoSelfTest: true}))
	for _, encoding := range []string{"tq1_0", "tq2_0"} {
		source := filepath.Join("checkpoint", "gguf", "testdata", "llama-quantize-"+encoding+".gguf")
		path := convertTo(t, source, convert.Options{Activations: "int8"})
		verified(t, path, source)
		got := openTrit(t, path)
		require.Equal(t, configOf(t, want), configOf(t, got))
		for _, w := range tensorsOf(t, want) {
			if !w.Info().Encoding.Ternary() {
				continue
			}
			x, y := readTernary(t, want, w.Info().Name), readTernary(t, got, w.Info().Name)
			require.Equal(t, x.rows, y.rows)
			require.Equal(t, format.ScaleTensor, y.info.Granularity)
			require.Equal(t, float16.Fromfloat32(x.scales[0]).Float32(), y.scales[0])
		}
		// The embedding is Q8_0, of which every weight is a float32.
		r, err := gguf.Open(source)
		require.NoError(t, err)
		embed, _ := r.Lookup("token_embd.weight")
		raw, floats := make([]byte, embed.Size), make([]float32, 64*256)
		_, err = embed.ReadAt(raw, 0)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		require.NoError(t, gguf.Floats(floats, raw, gguf.Q8_0))
		stored, _ := got.Tensor("embed.weight")
		data, err := stored.Data()
		require.NoError(t, err)
		require.Equal(t, format.F32, stored.Info().Encoding)
		for i, v := range floats {
			require.Equal(t, math.Float32bits(v), binary.LittleEndian.Uint32(data[4*i:]))
		}
		convertTo(t, source, convert.Options{Head: "int8", NoSelfTest: true})
	}
}

// packI2S is bitnet.cpp's layout on x86, of whole blocks of 128.
func packI2S(trits []int8, scale float32) []byte {
	out := make([]byte, len(trits)/4+32)
	for i, v := range trits {
		block, m := i/128, i%128
		out[block*32+m%32] |= byte(v+1) << (6 - 2*(m/32))
	}
	binary.LittleEndian.PutUint32(out[len(trits)/4:], math.Float32bits(scale))
	return out
}

// TestGGUFBitNet: both BitNet architectures, with the scales of their projections
// beside or inside the matrices, are the Hugging Face model.
func TestGGUFBitNet(t *testing.T) {
	s := ggufShape()
	s.Class, s.Tied = "BitNetForCausalLM", true
	for arch, act := range map[string]string{"bitnet": "silu", "bitnet-b1.58": "relu2"} {
		s.Extra = map[string]any{"hidden_act": act}
		want := convertTo(t, synthetic(t, s, synth.Multiply, checkpoint.F16), convert.Options{NoSelfTest: true})
		f := openTrit(t, want)
		for _, typ := range []gguf.Type{gguf.TQ1, gguf.TQ2, gguf.I2S, gguf.F16, gguf.F32} {
			t.Run(fmt.Sprint(arch, typ), func(t *testing.T) {
				g := bitnetGGUF(t, f, s, arch, typ)
				source := g.write(t)
				opt := convert.Options{NoSelfTest: true}
				if typ == gguf.I2S {
					opt.I2SLayout = "x86"
				}
				got := convertTo(t, source, opt)
				verified(t, got, source)
				require.Equal(t, configOf(t, f), configOf(t, openTrit(t, got)))
				for _, w := range tensorsOf(t, f) {
					if w.Info().Encoding.Ternary() {
						require.Equal(t, readTernary(t, f, w.Info().Name).rows, readTernary(t, openTrit(t, got), w.Info().Name).rows)
					}
				}
				sameLogits(t, want, got)
			})
		}
	}
}

func bitnetGGUF(t *testing.T, f *format.File, s synth.Shape, arch string, typ gguf.Type) *ggufFile {
	t.Helper()
	g := &ggufFile{}
	g.set("general.architecture", arch)
	for key, n := range map[string]int{"embedding_length": s.Hidden, "block_count": s.Layers, "feed_forward_length": s.Intermediate, "context_length": s.Context,
		"attention.head_count": s.Heads, "attention.head_count_kv": s.KVHeads} {
		g.set(arch+"."+key, uint32(n))
	}
	g.set(arch+".attention.layer_norm_rms_epsilon", float32(1e-5))
	g.set(arch+".rope.freq_base", float32(500000))
	g.set(arch+".rope.scaling.type", "none")
	names := strings.NewReplacer("layers.", "blk.", ".q.", ".attn_q.", ".k.", ".attn_k.", ".v.", ".attn_v.", ".o.", ".attn_output.", ".gate.", ".ffn_gate.", ".up.", ".ffn_up.", ".down.", ".ffn_down.",
		"mlp_norm", "ffn_norm", "mlp_sub_norm", "ffn_sub_norm", "embed", "token_embd")
	for _, w := range tensorsOf(t, f) {
		info := w.Info()
		name := names.Replace(info.Name)
		if info.Name == "norm.weight" {
			name = "output_norm.weight"
		}
		var dims []int64
		for _, d := range info.Dims {
			dims = append(dims, int64(d))
		}
		if !info.Encoding.Ternary() {
			data, err := w.Data()
			require.NoError(t, err)
			g.add(name, gguf.F16, data, dims...)
			continue
		}
		m := readTernary(t, f, info.Name)
		trits := m.flat()
		// I2_S has a float32 scale of its own; elsewhere it stands beside.
		one := make([]uint16, len(trits)/256)
		for i := range one {
			one[i] = float16.Fromfloat32(1).Bits()
		}
		switch typ {
		case gguf.I2S:
			g.add(name, typ, packI2S(trits, m.scales[0]), dims...)
			continue
		case gguf.TQ1:
			data := make([]byte, typ.RowBytes(len(trits)))
			gguf.PackTQ1(data, trits, one)
			g.add(name, typ, data, dims...)
		case gguf.TQ2:
			data := make([]byte, typ.RowBytes(len(trits)))
			gguf.PackTQ2(data, trits, one)
			g.add(name, typ, data, dims...)
		case gguf.F16:
			var data []byte
			for _, v := range trits {
				data = binary.LittleEndian.AppendUint16(data, float16.Fromfloat32(float32(v)).Bits())
			}
			g.add(name, typ, data, dims...)
		case gguf.F32:
			var data []byte
			for _, v := range trits {
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
			}
			g.add(name, typ, data, dims...)
		}
		g.add(strings.TrimSuffix(name, "weight")+"scale", gguf.F32, binary.LittleEndian.AppendUint32(nil, math.Float32bits(m.scales[0])), 1)
	}
	return g
}

// TestGGUFLlama3Rope: the factors that llama.cpp's converter computes in float32
// are recognised, and others are refused.
func TestGGUFLlama3Rope(t *testing.T) {
	for _, theta := range []float64{500000, 10000} {
		for _, factor := range []float64{8, 32, 16} {
			s := ggufShape()
			s.Hidden, s.Theta = 512, theta
			s.Extra = map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}}
			dir := synthetic(t, s, synth.Dense, checkpoint.F16)
			f := handmade(t, dir, s)
			f.set("llama.rope.freq_base", float32(theta))
			var data []byte
			for i := range 64 {
				freq := float32(1) / float32(math.Pow(theta, float64(float32(2*i)/128)))
				wavelength := float32(2*math.Pi) / freq
				v := float32(1)
				if wavelength > 8192 {
					v = float32(factor)
				} else if wavelength >= 2048 {
					smooth := (float32(8192)/wavelength - 1) / 3
					v = 1 / ((1-smooth)/float32(factor) + smooth)
				}
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			}
			f.add("rope_freqs.weight", gguf.F32, data, 64)
			opt := convert.Options{Rule: "absmean", NoSelfTest: true}
			if factor == 16 {
				_, err := convert.Open(f.write(t), opt)
				var unsupported *checkpoint.UnsupportedError
				require.ErrorAs(t, err, &unsupported)
				require.ErrorContains(t, err, "rope_freqs.weight: factors from 1 to 16 is not supported")
				continue
			}
			source := f.write(t)
			got := convertTo(t, source, opt)
			verified(t, got, source)
			require.Equal(t, configOf(t, openTrit(t, convertTo(t, dir, opt))), configOf(t, openTrit(t, got)))
		}
	}
}
