package export_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/x448/float16"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/quantize"
)

func exported(t *testing.T, f *format.File, opt export.GGUFOptions) (*gguf.Reader, *export.GGUFReport) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	report, err := export.GGUF(context.Background(), f, path, opt)
	require.NoError(t, err)
	r, err := gguf.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	st, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, st.Size(), report.Size)
	return r, report
}

func readAll(t *testing.T, r *gguf.Reader, name string) (data []byte, typ gguf.Type, shape []int64) {
	t.Helper()
	w, ok := r.Lookup(name)
	require.True(t, ok, name)
	data = make([]byte, w.Size)
	_, err := w.ReadAt(data, 0)
	require.NoError(t, err)
	typ, ok = gguf.TypeOf(w.DType)
	require.True(t, ok)
	return data, typ, w.Shape
}

// weights returns a matrix of a .trit as trit x scale, with the scale as an f16.
func weights(t *testing.T, f *format.File, name string) [][]float32 {
	t.Helper()
	w, ok := f.Tensor(name)
	require.True(t, ok)
	data, err := w.Data()
	require.NoError(t, err)
	scales, err := w.Scales()
	require.NoError(t, err)
	info := w.Info()
	out := make([][]float32, info.Dims[0])
	size, unpack := quantize.TileRowBytes2(info.Dims[1]), quantize.Unpack2
	if info.Encoding == format.Trit3 {
		size, unpack = quantize.TileRowBytes3(info.Dims[1]), quantize.Unpack3
	}
	for r := 0; r < len(out); r += 4 {
		tile := make([][]int8, min(4, len(out)-r))
		for i := range tile {
			tile[i] = make([]int8, info.Dims[1])
		}
		require.NoError(t, unpack(tile, data[r/4*size:][:size], info.Dims[1]))
		for i, trits := range tile {
			out[r+i] = make([]float32, len(trits))
			for c, v := range trits {
				s := scales[0]
				switch info.Granularity {
				case format.ScaleRow:
					s = scales[r+i]
				case format.ScaleGroup:
					s = scales[(r+i)*((len(trits)+info.Group-1)/info.Group)+c/info.Group]
				}
				out[r+i][c] = float32(v) * float16.Fromfloat32(s).Float32()
			}
		}
	}
	return out
}

// interleaved moves row j of the first half of each head to 2 j and of the second to
// 2 j + 1, as llama.cpp's own converter does for this architecture.
func interleaved[T any](rows []T, heads int) []T {
	out := make([]T, len(rows))
	headDim := len(rows) / heads
	for h := range heads {
		for half := range 2 {
			for j := range headDim / 2 {
				out[h*headDim+2*j+half] = rows[h*headDim+half*headDim/2+j]
			}
		}
	}
	return out
}

func TestGGUFTensors(t *testing.T) {
	for _, c := range []struct {
		encoding, trit, rule string
		typ                  gguf.Type
	}{
		{"tq2_0", "trit2", "absmean", gguf.TQ2}, {"tq1_0", "trit2", "absmean-row", gguf.TQ1}, {"tq2_0", "trit3", "absmean-row", gguf.TQ2},
		{"tq1_0", "trit3", "absmean-group=256", gguf.TQ1},
		{"f16", "trit2", "absmean-row", gguf.F16}, {"f16", "trit3", "absmean-group=128", gguf.F16},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			s := llama()
			s.AttentionBias, s.MLPBias = true, true
			f := made(t, s, synth.Dense, checkpoint.F16, convert.Options{Tokenizer: bytelevel, Rule: c.rule, Encoding: c.trit})
			r, report := exported(t, f, export.GGUFOptions{Encoding: c.encoding})
			require.Len(t, r.Tensors(), 3+2*(9+7))
			require.Greater(t, report.ScaleError, 0.)
			require.LessOrEqual(t, report.ScaleError, math.Pow(2, -11))
			require.NotEmpty(t, report.ScaleErrorTensor)
			for trit, name := range map[string]string{"q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"} {
				want := weights(t, f, "layers.1."+trit+".weight")
				bias, ok := f.Tensor("layers.1." + trit + ".bias")
				require.True(t, ok)
				stored, err := bias.Data()
				require.NoError(t, err)
				biases := make([][4]byte, len(want))
				for i := range biases {
					copy(biases[i][:], stored[4*i:])
				}
				switch trit {
				case "q":
					want, biases = interleaved(want, 4), interleaved(biases, 4)
				case "k":
					want, biases = interleaved(want, 2), interleaved(biases, 2)
				}
				data, typ, shape := readAll(t, r, "blk.1."+name+".weight")
				require.Equal(t, c.typ, typ)
				require.Equal(t, []int64{int64(len(want)), int64(len(want[0]))}, shape)
				width := typ.RowBytes(len(want[0]))
				got := make([]float32, len(want[0]))
				for i, row := range want {
					require.NoError(t, gguf.Floats(got, data[i*width:][:width], typ))
					require.Equal(t, row, got, "%s row %d", name, i)
				}
				data, typ, _ = readAll(t, r, "blk.1."+name+".bias")
				require.Equal(t, gguf.F32, typ)
				for i, b := range biases {
					require.Equal(t, b[:], data[4*i:][:4])
				}
			}
			for trit, name := range map[string]string{"embed": "token_embd", "head": "output"} {
				data, typ, shape := readAll(t, r, name+".weight")
				require.Equal(t, gguf.F16, typ)
				require.Equal(t, []int64{520, 256}, shape)
				w, _ := f.Tensor(trit + ".weight")
				want, err := w.Data()
				require.NoError(t, err)
				require.True(t, bytes.Equal(want, data))
			}
			data, typ, _ := readAll(t, r, "blk.0.ffn_norm.weight")
			require.Equal(t, gguf.F32, typ)
			norm, _ := f.Tensor("layers.0.mlp_norm.weight")
			halves, err := norm.Data()
			require.NoError(t, err)
			for i := range 256 {
				require.Equal(t, math.Float32bits(float16.Frombits(binary.LittleEndian.Uint16(halves[2*i:])).Float32()), binary.LittleEndian.Uint32(data[4*i:]))
			}
		})
	}
}

func TestGGUFMetadata(t *testing.T) {
	s := llama()
	s.HeadDim, s.Extra = 128, map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}}
	f := made(t, s, synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: bytelevel, Generation: map[string]string{"eos": "511,510"}})
	r, report := exported(t, f, export.GGUFOptions{Encoding: "tq1_0", Name: "a name"})
	require.Empty(t, report.Warnings)
	for key, want := range map[string]any{
		"general.architecture": "llama", "general.type": "model", "general.name": "a name", "general.file_type": uint32(36), "general.quantization_version": uint32(2),
		"llama.vocab_size": uint32(520), "llama.context_length": uint32(256), "llama.embedding_length": uint32(256), "llama.block_count": uint32(2),
		"llama.feed_forward_length": uint32(512), "llama.attention.head_count": uint32(4), "llama.attention.head_count_kv": uint32(2),
		"llama.attention.key_length": uint32(128), "llama.attention.value_length": uint32(128), "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"llama.rope.dimension_count": uint32(128), "llama.rope.freq_base": float32(5e5),
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": uint32(509), "tokenizer.ggml.eos_token_id": uint32(510),
		"tokenizer.ggml.eot_token_id": uint32(511), "tokenizer.ggml.add_bos_token": true, "tokenizer.ggml.add_eos_token": false,
	} {
		got, ok := r.Meta(key)
		require.True(t, ok, key)
		require.Equal(t, want, got, key)
	}
	for _, absent := range []string{"llama.rope.scaling.type", "llama.rope.scaling.factor", "tokenizer.ggml.scores", "tokenizer.ggml.unknown_token_id"} {
		_, ok := r.Meta(absent)
		require.False(t, ok, absent)
	}
	// The first frequencies turn often in 64 positions and stay; the last hardly
	// turn once and are divided by 8.
	data, typ, shape := readAll(t, r, "rope_freqs.weight")
	require.Equal(t, gguf.F32, typ)
	require.Equal(t, []int64{64}, shape)
	last := float32(1)
	for i := range 64 {
		v := math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		require.GreaterOrEqual(t, v, last)
		wavelength := 2 * math.Pi * math.Pow(5e5, 2*float64(i)/128)
		if wavelength < 64./4 {
			require.Equal(t, float32(1), v)
		}
		if wavelength > 64 {
			require.Equal(t, float32(8), v)
		}
		last = v
	}
	require.Equal(t, float32(8), last)

	linear := llama()
	linear.Extra = map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 4.0}}
	r, _ = exported(t, made(t, linear, synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: bytelevel}), export.GGUFOptions{Encoding: "tq2_0", NoTokenizer: true})
	kind, _ := r.Meta("llama.rope.scaling.type")
	factor, _ := r.Meta("llama.rope.scaling.factor")
	require.Equal(t, []any{"linear", float32(4)}, []any{kind, factor})
	_, ok := r.Lookup("rope_freqs.weight")
	require.False(t, ok)
	tokenizer, _ := r.Meta("tokenizer.ggml.model")
	require.Equal(t, "none", tokenizer)
	_, ok = r.Meta("tokenizer.ggml.tokens")
	require.False(t, ok, "no vocabulary is made up")
}

func TestGGUFDeterministic(t *testing.T) {
	f := made(t, llama(), synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: sentencepiece})
	var first []byte
	for _, workers := range []int{1, 1, 8} {
		path := filepath.Join(t.TempDir(), "m.gguf")
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o644))
		_, err := export.GGUF(context.Background(), f, path, export.GGUFOptions{Encoding: "tq2_0", Workers: workers})
		require.NoError(t, err)
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		if first == nil {
			first = data
		}
		require.True(t, bytes.Equal(first, data))
	}
}

// TestGGUFTables: tied and int8 embeddings, and a ternary head.
func TestGGUFTables(t *testing.T) {
	s := llama()
	s.Tied = true
	f := made(t, s, synth.Divide, checkpoint.F32, convert.Options{Tokenizer: bytelevel})
	r, _ := exported(t, f, export.GGUFOptions{Encoding: "tq2_0"})
	_, ok := r.Lookup("output.weight")
	require.False(t, ok)
	_, typ, _ := readAll(t, r, "token_embd.weight")
	require.Equal(t, gguf.F32, typ)

	f = made(t, s, synth.Divide, checkpoint.F32, convert.Options{Tokenizer: bytelevel, Head: "int8"})
	r, _ = exported(t, f, export.GGUFOptions{Encoding: "tq2_0"})
	data, typ, _ := readAll(t, r, "token_embd.weight")
	require.Equal(t, gguf.F16, typ)
	w, _ := f.Tensor("embed.weight")
	codes, err := w.Data()
	require.NoError(t, err)
	scales, err := w.Scales()
	require.NoError(t, err)
	for i, q := range codes {
		require.Equal(t, float16.Fromfloat32(float32(int8(q))*scales[i/256]).Bits(), binary.LittleEndian.Uint16(data[2*i:]))
	}
}

func TestGGUFRefuses(t *testing.T) {
	bitnet := llama()
	bitnet.Class = "BitNetForCausalLM"
	odd := llama()
	odd.Hidden, odd.Intermediate, odd.HeadDim = 384, 400, 64
	wide := llama()
	wide.HeadDim, wide.AttentionBias = 128, true
	tiny := llama()
	for _, c := range []struct {
		name     string
		shape    synth.Shape
		storage  synth.Storage
		opt      convert.Options
		encoding string
		reasons  []string
	}{
		{"bitnet", bitnet, synth.Multiply, convert.Options{Tokenizer: bytelevel}, "tq2_0", []string{"its activation is relu2", "norms at attn_sub", "norms at mlp_sub"}},
		{"bitnet f16", bitnet, synth.Multiply, convert.Options{Tokenizer: bytelevel}, "f16", []string{"its activation is relu2"}},
		{"other K", odd, synth.Divide, convert.Options{Tokenizer: bytelevel}, "tq1_0", []string{"hidden_size is 384", "intermediate_size is 400"}},
		{"wide q bias", wide, synth.Divide, convert.Options{Tokenizer: bytelevel}, "tq1_0", []string{"q bias has 512 elements"}},
		{"groups", tiny, synth.Dense, convert.Options{Tokenizer: bytelevel, Rule: "absmean-group=128"}, "tq2_0", []string{"a scale for every 128 columns"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := made(t, c.shape, c.storage, checkpoint.BF16, c.opt)
			path := filepath.Join(t.TempDir(), "m.gguf")
			_, err := export.GGUF(context.Background(), f, path, export.GGUFOptions{Encoding: c.encoding})
			var refused *export.RefusedError
			require.ErrorAs(t, err, &refused)
			for _, reason := range c.reasons {
				require.ErrorContains(t, err, reason)
			}
			_, err = os.Stat(path)
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
	f := made(t, odd, synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: bytelevel})
	exported(t, f, export.GGUFOptions{Encoding: "f16"}) // has no such limit
	_, err := export.GGUF(context.Background(), f, "x.gguf", export.GGUFOptions{Encoding: "q4_0"})
	require.ErrorContains(t, err, `encoding "q4_0", want tq2_0, tq1_0 or f16`)
	bare := made(t, tiny, synth.Divide, checkpoint.BF16, convert.Options{})
	_, err = export.GGUF(context.Background(), bare, "x.gguf", export.GGUFOptions{Encoding: "tq2_0"})
	require.ErrorContains(t, err, "--no-tokenizer exports without one")
	exported(t, bare, export.GGUFOptions{Encoding: "tq2_0", NoTokenizer: true})
}
