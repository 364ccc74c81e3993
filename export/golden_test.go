package export_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/internal/synth"
)

// TestAgainstLlamaQuantize: llama.cpp's own quantizer made the files of the reader's
// testdata from an f16 export of this model (docs/gguf.md). It finds trits and scales
// from the floats, and must come to the bytes that are exported directly.
func TestAgainstLlamaQuantize(t *testing.T) {
	s := synth.Shape{Class: "LlamaForCausalLM", Hidden: 256, Layers: 1, Heads: 4, KVHeads: 1, Intermediate: 256, Vocab: 64, Context: 64, Tied: true}
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, s, synth.Divide, checkpoint.F16, 5))
	f := open(t, converted(t, dir, convert.Options{NoSelfTest: true}))
	for _, encoding := range []string{"tq1_0", "tq2_0"} {
		ours, _ := exported(t, f, export.GGUFOptions{Encoding: encoding, NoTokenizer: true})
		golden, err := gguf.Open(fmt.Sprintf("../convert/checkpoint/gguf/testdata/llama-quantize-%s.gguf", encoding))
		require.NoError(t, err)
		defer golden.Close()
		require.Len(t, ours.Tensors(), len(golden.Tensors()))
		for _, key := range golden.Keys() {
			want, _ := golden.Meta(key)
			got, ok := ours.Meta(key)
			require.True(t, ok, key)
			require.Equal(t, want, got, key)
		}
		for _, w := range golden.Tensors() {
			want, wantType, wantShape := readAll(t, golden, w.Name)
			got, typ, shape := readAll(t, ours, w.Name)
			require.Equal(t, wantShape, shape, w.Name)
			if w.Name == "token_embd.weight" {
				requireQ8(t, want, got)
				continue
			}
			require.Equal(t, wantType, typ, w.Name)
			require.Equal(t, want, got, w.Name)
		}
	}
}

// requireQ8 holds Q8_0 to the halves that it was made of: a step is a 127th of the
// greatest value of 32, and rounding to it costs half a step, and an f16's half
// unit on the step itself.
func requireQ8(t *testing.T, q8, halves []byte) {
	t.Helper()
	n := len(halves) / 2
	want, got := make([]float32, n), make([]float32, n)
	require.NoError(t, gguf.Floats(want, halves, gguf.F16))
	require.NoError(t, gguf.Floats(got, q8, gguf.Q8_0))
	for lo := 0; lo < n; lo += 32 {
		greatest := 0.
		for _, v := range want[lo : lo+32] {
			greatest = max(greatest, math.Abs(float64(v)))
		}
		for i := lo; i < lo+32; i++ {
			require.InDelta(t, want[i], got[i], greatest/127*(0.5+127./2048))
		}
	}
}
