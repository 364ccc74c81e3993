package convert_test

import (
	"bytes"
	"encoding/binary"
	"image"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/safetensors"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
	"github.com/tritter-ai/tritter/verify"
)

// wide is a checkpoint whose vocabulary has room behind the tokens of the demo.
func wide(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, synth.Shape{Class: "BitNetForCausalLM", Hidden: 32, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 48, Vocab: 4400, Context: 64, Tied: true}, synth.Multiply, checkpoint.BF16, 3))
	data, err := os.ReadFile("../testdata/demo/tokenizer.json")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "tokenizer.json"), data, 0o644))
	return dir
}

func writeBook(t *testing.T, h codebook.Header) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "book.safetensors")
	require.NoError(t, synth.WriteCodebook(path, h))
	return path
}

var (
	images = codebook.Header{Kind: codebook.Image, PatchSize: 2, Codes: 30, Dim: 12}
	sounds = codebook.Header{Kind: codebook.Audio, FrameLength: 8, SampleRate: 8000, Codes: 20, Dim: 8}
	hidden = codebook.Header{Kind: codebook.Embedding, Codes: 25, Dim: 32}
)

// A file with codebooks takes and gives text, images and sounds, and its other
// bytes are those of a file without.
func TestCodebooks(t *testing.T) {
	dir := wide(t)
	path := convertTo(t, dir, convert.Options{Codebooks: []string{writeBook(t, sounds), writeBook(t, hidden), writeBook(t, images)}})
	report, err := verify.File(t.Context(), path, verify.Options{Run: true}, nil)
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report.Findings)
	f, err := format.Open(path)
	require.NoError(t, err)
	defer f.Close()
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	require.Equal(t, []model.Modality{model.Audio, model.Code, model.Image, model.Text}, m.Config.Modalities)
	tok, err := m.MultiModal()
	require.NoError(t, err)
	require.Equal(t, []tokenizer.Modality{tokenizer.Text, tokenizer.Code, tokenizer.Image, tokenizer.Audio}, tok.Modalities())
	require.Equal(t, 4400, tok.VocabSize())

	// first_id is where the codebook before ends: sounds at 4096, images at 4116.
	ids := []int{1, 6, 4116, 4145, 4146, 4117, 4117, 4146, 2}
	img, err := tok.DecodeContent(ids, tokenizer.Image)
	require.NoError(t, err)
	require.Equal(t, image.Rect(0, 0, 4, 4), img.(image.Image).Bounds())
	again, err := tok.Encode(img, tokenizer.Image, true)
	require.NoError(t, err)
	require.Equal(t, ids, again)
	ids = []int{1, 7, 4096, 4115, 2}
	sound, err := tok.DecodeContent(ids, tokenizer.Audio)
	require.NoError(t, err)
	require.Equal(t, 8000, sound.(*codebook.Sound).Rate)
	again, err = tok.Encode(sound, tokenizer.Audio, true)
	require.NoError(t, err)
	require.Equal(t, ids, again)
	again, err = tok.Encode("x\xff", tokenizer.Code, true)
	require.NoError(t, err)
	text, err := tok.DecodeContent(again, tokenizer.Code)
	require.NoError(t, err)
	require.Equal(t, "x\xff", text)
	// All of these ids are ids of the model.
	e := openEngine(t, path)
	_, err = runtime.Embed(t.Context(), e, []int{1, 6, 4116, 4145, 7, 4096}, true)
	require.NoError(t, err)

	book, err := m.Codebook(codebook.Embedding)
	require.NoError(t, err)
	require.Equal(t, []int{0, 25}, []int{book.FirstID(), book.IDs()})
}

func TestCodebookErrors(t *testing.T) {
	dir := wide(t)
	raw := func(metadata map[string]string, tensors ...safetensors.WriteTensor) string {
		path := filepath.Join(t.TempDir(), "raw.safetensors")
		var b bytes.Buffer
		require.NoError(t, safetensors.Write(&b, tensors, metadata))
		require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
		return path
	}
	matrix := func(name string, dtype checkpoint.DType, shape ...int64) safetensors.WriteTensor {
		n := int64(dtype.Size())
		for _, d := range shape {
			n *= d
		}
		return safetensors.WriteTensor{Name: name, DType: dtype, Shape: shape, Data: bytes.NewReader(make([]byte, n))}
	}
	infinite := matrix("codebook", checkpoint.F32, 1, 12)
	infinite.Data = bytes.NewReader(append(make([]byte, 44), binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.Inf(1))))...))
	image := map[string]string{"kind": "image", "patch_size": "2"}
	change := func(h codebook.Header, f func(*codebook.Header)) codebook.Header {
		f(&h)
		return h
	}
	for want, books := range map[string][]string{
		"no such file": {"none.safetensors"},
		"a second codebook of kind image, want one of each":                     {writeBook(t, images), writeBook(t, images)},
		"the image codebook begins at id 100, want first_id 4096 or more":       {writeBook(t, change(images, func(h *codebook.Header) { h.FirstID = 100 }))},
		"the image codebook has the ids 4380 to 4410, but vocab_size is 4400":   {writeBook(t, change(images, func(h *codebook.Header) { h.FirstID = 4380 }))},
		"of the audio codebook overlap, want first_id 4127 or more":             {writeBook(t, sounds), writeBook(t, change(images, func(h *codebook.Header) { h.FirstID = 4096 }))},
		"vectors of 31 elements, want 32, the model's hidden_size":              {writeBook(t, change(hidden, func(h *codebook.Header) { h.Dim = 31 }))},
		`metadata kind is "", want audio, embedding or image`:                   {raw(nil, matrix("codebook", checkpoint.F32, 3, 12))},
		"metadata patch_size is missing":                                        {raw(map[string]string{"kind": "image"}, matrix("codebook", checkpoint.F32, 3, 12))},
		`metadata patch_size is "two", want an integer`:                         {raw(map[string]string{"kind": "image", "patch_size": "two"}, matrix("codebook", checkpoint.F32, 3, 12))},
		"dim is 11, want 12, as patch_size x patch_size x channels":             {raw(image, matrix("codebook", checkpoint.F32, 3, 11))},
		`tensor "codebook" is I8, want F32, F16 or BF16`:                        {raw(image, matrix("codebook", checkpoint.I8, 3, 12))},
		`tensor "codebook" has shape [36]`:                                      {raw(image, matrix("codebook", checkpoint.F32, 36))},
		"2 matrices, none of them named codebook, codebook.weight, embedding.w": {raw(image, matrix("a", checkpoint.F32, 3, 12), matrix("b", checkpoint.F32, 3, 12))},
		"element 11 of code 0 is +Inf, want a finite number":                    {raw(image, infinite)},
	} {
		_, err := convert.Open(dir, convert.Options{Codebooks: books})
		require.ErrorContains(t, err, want)
	}
	// One matrix needs no name; equal vectors are a warning.
	plan, err := convert.Open(dir, convert.Options{Codebooks: []string{raw(image, matrix("any", checkpoint.F16, 3, 12))}})
	require.NoError(t, err)
	require.Contains(t, plan.Warnings[len(plan.Warnings)-1], "code 1 becomes 0 when it is decoded and encoded again")
	require.NoError(t, plan.Close())
	// A vocabulary without the prefixes has no images.
	_, err = convert.Open(filepath.Join(fixtures, "bitnet-packed"), convert.Options{Codebooks: []string{writeBook(t, images)}})
	require.ErrorContains(t, err, "the ids 0 to 7 of the tokenizer are not <pad> <bos>")
}

// A verifier finds a codebook that a file should not have.
func TestVerifyFindsWrongCodebooks(t *testing.T) {
	c := (&synth.Shape{Class: "BitNetForCausalLM", Hidden: 32, Layers: 1, Heads: 2, KVHeads: 1, Intermediate: 48, Vocab: 40, Context: 64, Tied: true}).Config()
	for want, section := range map[string]func() (string, []byte){
		"length is 3 bytes, want at least 8": func() (string, []byte) { return format.SectionCodebookImage, []byte("abc") },
		"has the ids 30 to 60, but vocab_size is 40": func() (string, []byte) {
			h := images
			h.Channels, h.Range, h.DType, h.FirstID = 3, codebook.Unit, "f32", 30
			book, err := codebook.New(h, make([]byte, 30*12*4))
			require.NoError(t, err)
			data, err := book.Section()
			require.NoError(t, err)
			return format.SectionCodebookImage, data
		},
		"dim is 5, want 32, the model's hidden_size": func() (string, []byte) {
			book, err := codebook.New(codebook.Header{Kind: codebook.Embedding, Codes: 2, Dim: 5, DType: "bf16"}, make([]byte, 20))
			require.NoError(t, err)
			data, err := book.Section()
			require.NoError(t, err)
			return format.SectionCodebookEmbedding, data
		},
	} {
		path := filepath.Join(t.TempDir(), "m.trit")
		name, data := section()
		require.NoError(t, synth.WriteModel(path, c, format.BF16, synth.Section{Name: name, Data: data}))
		report, err := verify.File(t.Context(), path, verify.Options{}, nil)
		require.NoError(t, err)
		require.Len(t, report.Findings, 1)
		require.Equal(t, "codebooks", report.Findings[0].Check)
		require.Equal(t, "config", report.Findings[0].Class)
		require.Contains(t, report.Findings[0].Message, want)
	}
}
