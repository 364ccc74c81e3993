package convert_test

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
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
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/tokenizer"
)

// exported returns a small llama as GGUF, to be changed.
func exported(t *testing.T, encoding, tokenizer string) *ggufFile {
	t.Helper()
	trit := convertTo(t, synthetic(t, ggufShape(), synth.Divide, checkpoint.F16), convert.Options{NoSelfTest: true, Tokenizer: tokenizer, Generation: map[string]string{"eos": "3,2"}})
	return loadGGUF(t, exportGGUF(t, trit, encoding, tokenizer == ""))
}

// TestGGUFRefused: everything that would have to be guessed is refused, with what
// decides it.
func TestGGUFRefused(t *testing.T) {
	base := exported(t, "tq2_0", byteLevelJSON)
	const unsupported = "is not supported"
	set := func(key string, v any) func(*testing.T, *ggufFile) {
		return func(_ *testing.T, f *ggufFile) { f.set(key, v) }
	}
	unset := func(key string) func(*testing.T, *ggufFile) {
		return func(_ *testing.T, f *ggufFile) { f.unset(key) }
	}
	i2s := func(t *testing.T, f *ggufFile) {
		q := f.tensor(t, "blk.0.attn_q.weight")
		q.typ, q.data = gguf.I2S, packI2S(make([]int8, 256*256), 1)
	}
	extra := func(name string, typ gguf.Type, size int, dims ...int64) func(*testing.T, *ggufFile) {
		return func(_ *testing.T, f *ggufFile) { f.add(name, typ, make([]byte, size), dims...) }
	}
	for _, c := range []struct {
		name string
		edit func(*testing.T, *ggufFile)
		opt  convert.Options
		want []string
	}{
		{"architecture", set("general.architecture", "gemma3"), convert.Options{}, []string{`general.architecture: "gemma3"`, unsupported, "llama, bitnet or bitnet-b1.58"}},
		{"no architecture", unset("general.architecture"), convert.Options{}, []string{"metadata general.architecture: got no such key"}},
		{"no hidden size", unset("llama.embedding_length"), convert.Options{}, []string{"metadata llama.embedding_length: got no such key, want a positive integer"}},
		{"no eps", unset("llama.attention.layer_norm_rms_epsilon"), convert.Options{}, []string{"layer_norm_rms_epsilon: got no such key"}},
		{"zero layers", set("llama.block_count", uint32(0)), convert.Options{}, []string{"llama.block_count: got 0, want a positive integer"}},
		{"heads as text", set("llama.attention.head_count", "4"), convert.Options{}, []string{"llama.attention.head_count: got string, want an integer"}},
		{"NaN", set("llama.rope.freq_base", float32(math.NaN())), convert.Options{}, []string{"llama.rope.freq_base: got NaN, want a finite number"}},
		{"partial rotation", set("llama.rope.dimension_count", uint32(32)), convert.Options{}, []string{"llama.rope.dimension_count: 32", unsupported, "64, the size of a head"}},
		{"value length", set("llama.attention.value_length", uint32(32)), convert.Options{}, []string{"llama.attention.value_length: 32", unsupported}},
		{"vocabulary", set("llama.vocab_size", uint32(519)), convert.Options{}, []string{"llama.vocab_size: got 519, want 520, the rows of token_embd.weight"}},
		{"yarn", set("llama.rope.scaling.type", "yarn"), convert.Options{}, []string{`llama.rope.scaling.type: "yarn"`, unsupported, `"none" or "linear"`}},
		{"linear without a factor", set("llama.rope.scaling.type", "linear"), convert.Options{}, []string{"llama.rope.scaling.factor: got no such key"}},
		{"factor without a type", set("llama.rope.scaling.factor", float32(4)), convert.Options{}, []string{`"" with rope.scaling.factor 4`}},
		{"experts", set("llama.expert_count", uint32(8)), convert.Options{}, []string{"llama.expert_count: 8", unsupported, "mixtures of experts"}},
		{"unknown key", set("llama.logit_scale", float32(2)), convert.Options{}, []string{"llama.logit_scale", unsupported, "may change what the model computes"}},
		{"rope factors", extra("rope_freqs.weight", gguf.F32, 128, 32), convert.Options{}, []string{"rope_freqs.weight: factors from 0 to 0", unsupported, "config.json has the scaling"}},
		{"missing", func(_ *testing.T, f *ggufFile) { f.drop("blk.1.ffn_up.weight") }, convert.Options{}, []string{"no tensor blk.1.ffn_up.weight, which the metadata of model.gguf implies with shape [512 256]"}},
		{"no embedding", func(_ *testing.T, f *ggufFile) { f.drop("token_embd.weight") }, convert.Options{}, []string{"no matrix token_embd.weight"}},
		{"extra", extra("blk.0.attn_q_norm.weight", gguf.F32, 256, 64), convert.Options{}, []string{"tensor blk.0.attn_q_norm.weight F32 [64] has no place in the model that the metadata of model.gguf describes"}},
		{"shape", func(t *testing.T, f *ggufFile) {
			f.tensor(t, "blk.0.attn_q.weight").dims = []int64{128, 512}
		}, convert.Options{}, []string{"tensor blk.0.attn_q.weight has shape [128 512], want [256 256], which the metadata of model.gguf implies"}},
		{"rule", func(*testing.T, *ggufFile) {}, convert.Options{Rule: "absmean"}, []string{"already holds trits, which are kept; leave out --rule"}},
		{"Q8_0 projection", func(t *testing.T, f *ggufFile) {
			q := f.tensor(t, "blk.0.attn_q.weight")
			q.typ, q.data = gguf.Q8_0, make([]byte, gguf.Q8_0.RowBytes(256*256))
		}, convert.Options{}, []string{"tensor blk.0.attn_q.weight: Q8_0", unsupported, "F32, F16, BF16, TQ1_0, TQ2_0 or I2_S"}},
		{"ternary embedding", func(t *testing.T, f *ggufFile) {
			q := f.tensor(t, "token_embd.weight")
			q.typ, q.data = gguf.TQ2, make([]byte, gguf.TQ2.RowBytes(520*256))
		}, convert.Options{}, []string{"tensor token_embd.weight has dtype TQ2_0, want F32, F16 or BF16"}},
		{"I2_S", i2s, convert.Options{}, []string{"blk.0.attn_q.weight: I2_S of an unknown layout", unsupported, "--i2s-layout x86", "three layouts of the same size"}},
		{"I2_S layout", i2s, convert.Options{I2SLayout: "arm"}, []string{`i2s-layout "arm", want "x86"`}},
		{"scale of several", extra("blk.0.attn_q.scale", gguf.F32, 8, 2), convert.Options{}, []string{"tensor blk.0.attn_q.scale is F32 [2], want one float"}},
		{"scale of floats", func(t *testing.T, f *ggufFile) {
			q := f.tensor(t, "blk.0.attn_q.weight")
			q.typ, q.data = gguf.F32, nil
			for i := range 256 * 256 {
				q.data = binary.LittleEndian.AppendUint32(q.data, math.Float32bits(float32(i%7)))
			}
			f.add("blk.0.attn_q.scale", gguf.F32, make([]byte, 4), 1)
		}, convert.Options{Rule: "absmean"}, []string{"tensor blk.0.attn_q.scale multiplies blk.0.attn_q.weight, which holds ordinary floats", "leave out --rule"}},
		{"floats", func(t *testing.T, f *ggufFile) {
			q := f.tensor(t, "blk.0.attn_q.weight")
			q.typ, q.data = gguf.F16, nil
			for i := range 256 * 256 {
				q.data = binary.LittleEndian.AppendUint16(q.data, uint16(i%7))
			}
		}, convert.Options{}, []string{"this is a dense model", "--rule"}},
		{"TQ2_0 code 3", func(t *testing.T, f *ggufFile) { f.tensor(t, "blk.0.attn_q.weight").data[0] = 3 }, convert.Options{}, []string{"tensor blk.0.attn_q.weight: row 0", "code 3"}},
		{"infinite scale", func(t *testing.T, f *ggufFile) {
			f.tensor(t, "blk.0.attn_q.weight").data[65] = 0x7c
			f.tensor(t, "blk.0.attn_q.weight").data[64] = 0
		}, convert.Options{}, []string{"row 0, block 0: got the scale +Inf"}},
		{"infinite Q8_0", func(t *testing.T, f *ggufFile) {
			q := f.tensor(t, "token_embd.weight")
			q.typ, q.data = gguf.Q8_0, make([]byte, gguf.Q8_0.RowBytes(520*256))
			q.data[300*272+34+1] = 0x7c
		}, convert.Options{}, []string{"tensor token_embd.weight: row 300, column 32 (byte 81634 of the tensor): got NaN, want a finite weight"}},
		{"part", set("split.count", uint32(3)), convert.Options{}, []string{"split.count: one of 3 parts", unsupported, "llama-gguf-split --merge"}},
		{"tokenizer kind", set("tokenizer.ggml.model", "bert"), convert.Options{}, []string{`tokenizer.ggml.model: "bert"`, unsupported, "--tokenizer PATH"}},
		{"pre", set("tokenizer.ggml.pre", "gpt-4o"), convert.Options{}, []string{`tokenizer.ggml.pre: "gpt-4o"`, unsupported, "--no-tokenizer"}},
		{"default pre", set("tokenizer.ggml.pre", "default"), convert.Options{}, []string{`tokenizer.ggml.pre: "default"`, unsupported}},
		{"no pre", unset("tokenizer.ggml.pre"), convert.Options{}, []string{"tokenizer.ggml.pre: no such key", unsupported}},
		{"no merges", unset("tokenizer.ggml.merges"), convert.Options{}, []string{"tokenizer.ggml.merges: got no such key"}},
		{"bad merge", set("tokenizer.ggml.merges", []string{"ab"}), convert.Options{}, []string{`tokenizer.ggml.merges: got "ab" at 0`}},
		{"empty token", func(_ *testing.T, f *ggufFile) {
			f.set("tokenizer.ggml.tokens", append([]string{""}, f.values["tokenizer.ggml.tokens"].([]string)[1:]...))
		}, convert.Options{}, []string{`tokenizer.ggml.tokens: token 0: got "", want a text`}},
		{"token twice", func(_ *testing.T, f *ggufFile) {
			tokens := append([]string{}, f.values["tokenizer.ggml.tokens"].([]string)...)
			tokens[9] = tokens[8]
			f.set("tokenizer.ggml.tokens", tokens)
		}, convert.Options{}, []string{"tokenizer.ggml.tokens: token 9", "which is token 8 as well"}},
		{"byte token", func(_ *testing.T, f *ggufFile) {
			f.set("tokenizer.ggml.token_type", append([]int32{6}, f.values["tokenizer.ggml.token_type"].([]int32)[1:]...))
		}, convert.Options{}, []string{"token 0: got the kind 6, want 1 to 5"}},
		{"no scores", set("tokenizer.ggml.model", "llama"), convert.Options{}, []string{"tokenizer.ggml.scores: got no such key"}},
		{"few scores", func(_ *testing.T, f *ggufFile) {
			f.set("tokenizer.ggml.model", "llama")
			f.set("tokenizer.ggml.scores", []float32{1})
		}, convert.Options{}, []string{"tokenizer.ggml.scores: got 1 scores, want 512"}},
		{"normalization", func(_ *testing.T, f *ggufFile) {
			f.set("tokenizer.ggml.model", "llama")
			f.set("tokenizer.ggml.precompiled_charsmap", "x")
		}, convert.Options{}, []string{"tokenizer.ggml.precompiled_charsmap: x", unsupported}},
		{"no unknown piece", func(_ *testing.T, f *ggufFile) {
			f.set("tokenizer.ggml.model", "llama")
			f.set("tokenizer.ggml.scores", make([]float32, 520))
		}, convert.Options{}, []string{"metadata tokenizer.ggml: SentencePiece model", "--tokenizer PATH"}},
		{"kinds", set("tokenizer.ggml.token_type", []int32{1}), convert.Options{}, []string{"got 1 kinds, want 520"}},
		{"space in front", set("tokenizer.ggml.add_space_prefix", true), convert.Options{}, []string{"tokenizer.ggml.add_space_prefix: true", unsupported}},
		{"beginning", set("tokenizer.ggml.bos_token_id", uint32(999)), convert.Options{}, []string{"tokenizer.ggml.bos_token_id: got 999, want an id below"}},
		{"end", set("tokenizer.ggml.eos_token_id", uint32(999)), convert.Options{}, []string{"999"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &ggufFile{keys: append([]string{}, base.keys...), values: map[string]any{}}
			for k, v := range base.values {
				f.values[k] = v
			}
			for _, x := range base.tensors {
				x.data = append([]byte{}, x.data...)
				f.tensors = append(f.tensors, x)
			}
			c.edit(t, f)
			c.opt.NoSelfTest = true
			out := filepath.Join(t.TempDir(), "model.trit")
			err := convertError(t.Context(), f.write(t), out, c.opt)
			require.Error(t, err)
			for _, part := range c.want {
				require.ErrorContains(t, err, part)
			}
			var u *checkpoint.UnsupportedError
			require.Equal(t, len(c.want) > 1 && strings.Contains(strings.Join(c.want, " "), unsupported), errors.As(err, &u))
			_, err = os.Stat(out)
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

// TestGGUFActivations: what the inputs of ternary matrices are follows from who
// quantizes them in the other tool.
func TestGGUFActivations(t *testing.T) {
	f := exported(t, "tq2_0", "")
	plan, err := convert.Open(f.write(t), convert.Options{})
	require.NoError(t, err)
	require.Equal(t, model.ActivationNone, plan.Config.ActivationQuant)
	require.Contains(t, strings.Join(plan.Warnings, "\n"), "--activations int8")
	require.NoError(t, plan.Close())

	// The same as I2_S, rows of q and k permuted as well.
	same := convertTo(t, f.write(t), convert.Options{Activations: "int8", NoSelfTest: true})
	for i, x := range f.tensors {
		if x.typ == gguf.TQ2 {
			trits, scales := make([]int8, x.dims[0]*x.dims[1]), make([]float32, len(x.data)/gguf.TQ2Bytes)
			_, err := gguf.Trits(trits, scales, x.data, x.typ)
			require.NoError(t, err)
			f.tensors[i].typ, f.tensors[i].data = gguf.I2S, packI2S(trits, scales[0])
		}
	}
	source := f.write(t)
	plan, err = convert.Open(source, convert.Options{I2SLayout: "x86"})
	require.NoError(t, err)
	require.Equal(t, model.ActivationInt8, plan.Config.ActivationQuant)
	require.NotContains(t, strings.Join(plan.Warnings, "\n"), "--activations int8")
	require.NoError(t, plan.Close())
	got := convertTo(t, source, convert.Options{I2SLayout: "x86", NoSelfTest: true})
	verified(t, got, source)
	sameTensors(t, openTrit(t, same), openTrit(t, got))
	require.Equal(t, configOf(t, openTrit(t, same)), configOf(t, openTrit(t, got)))

	for i, x := range f.tensors {
		if x.typ == gguf.I2S {
			f.tensors[i].data[200] |= 0xc0
		}
	}
	err = convertError(t.Context(), f.write(t), filepath.Join(t.TempDir(), "m.trit"), convert.Options{I2SLayout: "x86"})
	var wrong *checkpoint.FormatError
	require.ErrorAs(t, err, &wrong)
	require.ErrorContains(t, err, "holds the code 3, want codes 0, 1 and 2 for -1, 0 and +1; the file is damaged, or not of the x86 layout")
}

// TestGGUFBlocks: blocks without a weight fit any scale, one of another scale among
// unseen rows is found, and strange bytes are told.
func TestGGUFBlocks(t *testing.T) {
	opt := convert.Options{NoSelfTest: true, Activations: "int8"}
	convertible := func(f *ggufFile) (*convert.Report, string) {
		plan, err := convert.Open(f.write(t), opt)
		require.NoError(t, err)
		defer plan.Close()
		path := filepath.Join(t.TempDir(), "m.trit")
		report, err := plan.Write(t.Context(), path, nil)
		require.NoError(t, err)
		return report, path
	}
	f := exported(t, "tq2_0", "")
	down := f.tensor(t, "blk.0.ffn_down.weight") // 256 x 512: two blocks a row
	const width = 2 * gguf.TQ2Bytes
	block := func(row, n int) []byte { return down.data[row*width+n*gguf.TQ2Bytes:][:gguf.TQ2Bytes] }
	scale := float16.Frombits(binary.LittleEndian.Uint16(block(0, 0)[64:])).Float32()
	zero := func(b []byte, scale float32) {
		for i := range 64 {
			b[i] = 0x55
		}
		binary.LittleEndian.PutUint16(b[64:], float16.Fromfloat32(scale).Bits())
	}
	zero(block(0, 0), 0)
	zero(block(7, 1), 0)
	zero(block(9, 1), 33)
	_, path := convertible(f)
	m := readTernary(t, openTrit(t, path), "layers.0.down.weight")
	require.Equal(t, format.ScaleTensor, m.info.Granularity)
	require.Equal(t, []float32{scale}, m.scales)

	// Row 1 is not among those that are looked at first.
	binary.LittleEndian.PutUint16(block(1, 1)[64:], float16.Fromfloat32(3).Bits())
	err := convertError(t.Context(), f.write(t), filepath.Join(t.TempDir(), "m.trit"), opt)
	var wrong *checkpoint.FormatError
	require.ErrorAs(t, err, &wrong)
	require.ErrorContains(t, err, "tensor blk.0.ffn_down.weight: row 1, block 1: got the scale 3, want")
	require.ErrorContains(t, err, "one scale a tensor")

	// In a row that is looked at it makes a scale a group, in both blocks a scale a row.
	binary.LittleEndian.PutUint16(block(1, 1)[64:], float16.Fromfloat32(scale).Bits())
	binary.LittleEndian.PutUint16(block(255, 1)[64:], float16.Fromfloat32(3).Bits())
	_, path = convertible(f)
	m = readTernary(t, openTrit(t, path), "layers.0.down.weight")
	require.Equal(t, []any{format.ScaleGroup, 256}, []any{m.info.Granularity, m.info.Group})
	require.Equal(t, []float32{0, scale}, m.scales[:2])
	require.Equal(t, []float32{scale, 3}, m.scales[510:])
	binary.LittleEndian.PutUint16(block(255, 0)[64:], float16.Fromfloat32(3).Bits())
	_, path = convertible(f)
	m = readTernary(t, openTrit(t, path), "layers.0.down.weight")
	require.Equal(t, format.ScaleRow, m.info.Granularity)
	require.Equal(t, []float32{scale, 3}, []float32{m.scales[0], m.scales[255]})

	f = exported(t, "tq1_0", "")
	report, _ := convertible(f)
	require.NotContains(t, strings.Join(report.Warnings, "\n"), "no quantizer writes")
	up := f.tensor(t, "blk.1.ffn_up.weight")
	up.data[0], up.data[3*gguf.TQ1Bytes] = 1, 1 // 0 and 2 mean what their neighbour does
	report, _ = convertible(f)
	require.Contains(t, strings.Join(report.Warnings, "\n"), "tensor blk.1.ffn_up.weight has 2 rows with TQ1_0 bytes that no quantizer writes")
}

// TestGGUFTernaryHead: a head may be ternary, and a matrix with a scale inside may
// have one beside it; both multiply.
func TestGGUFTernaryHead(t *testing.T) {
	f := exported(t, "tq2_0", "")
	f.unset("llama.rope.freq_base")
	up := f.tensor(t, "blk.0.ffn_up.weight")
	const rows = 520
	head := f.tensor(t, "output.weight")
	head.typ, head.data = gguf.TQ2, append(append([]byte{}, up.data...), up.data[:8*gguf.TQ2Bytes]...)
	trits, scales := make([]int8, rows*256), make([]float32, rows)
	_, err := gguf.Trits(trits, scales, head.data, gguf.TQ2)
	require.NoError(t, err)
	up.typ, up.data = gguf.I2S, packI2S(trits[:512*256], 0.25)
	f.add("blk.0.ffn_up.scale", gguf.F32, binary.LittleEndian.AppendUint32(nil, math.Float32bits(3)), 1)
	source := f.write(t)
	path := convertTo(t, source, convert.Options{I2SLayout: "x86"})
	verified(t, path, source)
	got := openTrit(t, path)
	m := readTernary(t, got, "head.weight")
	require.Equal(t, trits, m.flat())
	require.Equal(t, scales[:1], m.scales)
	m = readTernary(t, got, "layers.0.up.weight")
	require.Equal(t, trits[:512*256], m.flat())
	require.Equal(t, []float32{0.75}, m.scales)
	var c model.Config
	require.NoError(t, got.DecodeSection(format.SectionConfig, &c))
	require.Equal(t, 10000., c.Rope.Theta, "what llama.cpp takes")
}

var texts = []string{"", "a", "Hello, world!", "  two  spaces\n\n\tand tabs ", "func (b *Buffer) Write(p []byte) (n int, err error) {", "naïve café 日本語 🙂 don't 12345", "<s> </s> <|endoftext|>", "x<0x41>y"}

func encode(t *testing.T, tok *tokenizer.Tokenizer, text string) []int {
	t.Helper()
	ids, err := tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true})
	require.NoError(t, err)
	return ids
}

// TestGGUFTokenizer: a tokenizer that went through GGUF gives the ids and texts of
// the original.
func TestGGUFTokenizer(t *testing.T) {
	for _, path := range []string{byteLevelJSON, sentencePieceJSON} {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		want, err := tokenizer.Parse(data)
		require.NoError(t, err)
		f := exported(t, "tq2_0", path)
		f.set("tokenizer.chat_template", "{{ messages }}")
		plan, err := convert.Open(f.write(t), convert.Options{Activations: "int8"})
		require.NoError(t, err)
		require.NoError(t, plan.Close())
		require.Empty(t, plan.Warnings)
		require.Equal(t, []int{2, 3}, plan.Generation.EOS)
		require.Equal(t, "{{ messages }}", string(plan.Chat))
		got, err := tokenizer.Parse(plan.Tokenizer)
		require.NoError(t, err)
		for _, text := range texts {
			ids := encode(t, want, text)
			require.Equal(t, ids, encode(t, got, text), text)
			for _, skip := range []bool{false, true} {
				a, err := want.Decode(ids, skip)
				require.NoError(t, err)
				b, err := got.Decode(ids, skip)
				require.NoError(t, err)
				require.Equal(t, a, b, text)
			}
		}

		// Without and with a token at either end.
		bos := int(f.values["tokenizer.ggml.bos_token_id"].(uint32))
		for _, add := range []bool{false, true} {
			f.set("tokenizer.ggml.add_bos_token", add)
			f.set("tokenizer.ggml.add_eos_token", add)
			f.set("tokenizer.ggml.eos_token_id", uint32(7))
			plan, err := convert.Open(f.write(t), convert.Options{})
			require.NoError(t, err)
			require.NoError(t, plan.Close())
			got, err := tokenizer.Parse(plan.Tokenizer)
			require.NoError(t, err)
			ids, err := got.Encode("Hello", tokenizer.EncodeOptions{})
			require.NoError(t, err)
			if add {
				ids = append(append([]int{bos}, ids...), 7)
			}
			require.Equal(t, ids, encode(t, got, "Hello"))
		}
	}
}

// TestGGUFPreTokenizers: names stand for patterns.
func TestGGUFPreTokenizers(t *testing.T) {
	f := exported(t, "tq2_0", byteLevelJSON)
	f.unset("tokenizer.ggml.add_bos_token")
	tokens := func(pre, text string) (pieces int, bos bool) {
		f.set("tokenizer.ggml.pre", pre)
		plan, err := convert.Open(f.write(t), convert.Options{})
		require.NoError(t, err)
		require.NoError(t, plan.Close())
		tok, err := tokenizer.Parse(plan.Tokenizer)
		require.NoError(t, err)
		plain, err := tok.Encode(text, tokenizer.EncodeOptions{})
		require.NoError(t, err)
		return len(plain), len(encode(t, tok, text)) > len(plain)
	}
	for pre, bos := range map[string]bool{"llama-bpe": true, "llama3": true, "llama-v3": true, "smaug-bpe": false, "qwen2": false, "gpt-2": false} {
		_, has := tokens(pre, "x")
		require.Equal(t, bos, has, pre)
	}
	composed, _ := tokens("qwen2", "\u00e9")
	decomposed, _ := tokens("qwen2", "e\u0301")
	require.Equal(t, composed, decomposed, "NFC comes first")
	composed, _ = tokens("llama-bpe", "\u00e9")
	decomposed, _ = tokens("llama-bpe", "e\u0301")
	require.NotEqual(t, composed, decomposed)

	f.set("tokenizer.ggml.model", "none")
	plan, err := convert.Open(f.write(t), convert.Options{})
	require.NoError(t, err)
	require.NoError(t, plan.Close())
	require.Nil(t, plan.Tokenizer)
	require.Contains(t, plan.Warnings[len(plan.Warnings)-1], "no tokenizer")
}

// TestGGUFAlone: what lies beside a GGUF file is not its business, and a folder
// with one is that file.
func TestGGUFAlone(t *testing.T) {
	path := exported(t, "tq2_0", "").write(t)
	dir := filepath.Dir(path)
	for _, name := range []string{"config.json", "tokenizer.json", "chat_template.jinja"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("nonsense"), 0o644))
	}
	for _, source := range []string{path, dir} {
		plan, err := convert.Open(source, convert.Options{})
		require.NoError(t, err)
		require.NoError(t, plan.Close())
		require.Equal(t, "gguf-llama", plan.Family)
		require.Nil(t, plan.Tokenizer)
		require.Nil(t, plan.Chat)
	}
	_, err := export.GGUF(t.Context(), openTrit(t, convertTo(t, path, convert.Options{})), filepath.Join(dir, "other.gguf"), export.GGUFOptions{Encoding: "f16", NoTokenizer: true})
	require.NoError(t, err)
	_, err = convert.Open(dir, convert.Options{})
	require.ErrorContains(t, err, "several sets of weights: model.gguf, other.gguf; pass the FILE")
}

// FuzzGGUF: no file makes the converter do anything but plan or refuse.
func FuzzGGUF(f *testing.F) {
	s := synth.Shape{Class: "LlamaForCausalLM", Hidden: 4, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 4, Vocab: 4, Context: 8, Tied: true}
	g := handmade(f, synthetic(f, s, synth.Dense, checkpoint.F16), s)
	g.set("tokenizer.ggml.tokens", []string{"a", "b", "ab", "<s>"})
	g.set("tokenizer.ggml.token_type", []int32{1, 1, 1, 3})
	g.set("tokenizer.ggml.bos_token_id", uint32(3))
	g.set("tokenizer.ggml.pre", "llama-bpe")
	g.set("tokenizer.ggml.merges", []string{"a b"})
	g.set("tokenizer.ggml.scores", []float32{0, 0, -1, 0})
	for _, kind := range []string{"gpt2", "llama"} {
		g.set("tokenizer.ggml.model", kind)
		seed, err := os.ReadFile(g.write(f))
		require.NoError(f, err)
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "m.gguf")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		plan, err := convert.Open(path, convert.Options{NoSelfTest: true, Rule: "absmean", I2SLayout: "x86"})
		if err == nil {
			require.NoError(t, plan.Close())
		}
	})
}
