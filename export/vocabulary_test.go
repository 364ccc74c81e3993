package export_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/internal/synth"
)

// edited writes a copy of a tokenizer.json with some of it changed.
func edited(t *testing.T, path string, change func(top, model map[string]any)) string {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var top map[string]any
	require.NoError(t, json.Unmarshal(data, &top))
	change(top, top["model"].(map[string]any))
	data, err = json.Marshal(top)
	require.NoError(t, err)
	out := filepath.Join(t.TempDir(), "tokenizer.json")
	require.NoError(t, os.WriteFile(out, data, 0o644))
	return out
}

// tokenizerOf exports a model with a tokenizer.
func tokenizerOf(t *testing.T, tokenizer string, generation map[string]string) (*gguf.Reader, *export.GGUFReport, error) {
	t.Helper()
	s := llama()
	s.Layers = 1
	f := made(t, s, synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: tokenizer, Generation: generation})
	path := filepath.Join(t.TempDir(), "m.gguf")
	report, err := export.GGUF(context.Background(), f, path, export.GGUFOptions{Encoding: "tq1_0"})
	if err != nil {
		return nil, nil, err
	}
	r, err := gguf.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r, report, nil
}

func meta[T any](t *testing.T, r *gguf.Reader, key string) T {
	t.Helper()
	v, err := gguf.Get[T](r, key)
	require.NoError(t, err)
	return v
}

func TestByteLevel(t *testing.T) {
	r, report, err := tokenizerOf(t, bytelevel, nil)
	require.NoError(t, err)
	require.Empty(t, report.Warnings)
	require.Equal(t, "gpt2", meta[string](t, r, "tokenizer.ggml.model"))
	require.Equal(t, "llama-bpe", meta[string](t, r, "tokenizer.ggml.pre"))
	tokens, types := meta[[]string](t, r, "tokenizer.ggml.tokens"), meta[[]int32](t, r, "tokenizer.ggml.token_type")
	require.Len(t, tokens, 520)
	require.Len(t, types, 520)
	require.Equal(t, []string{"!", "<|begin_of_text|>", "<|eot_id|>", "[PAD512]", "[PAD519]"}, []string{tokens[0], tokens[509], tokens[511], tokens[512], tokens[519]})
	require.Equal(t, []int32{1, 3, 3, 5, 5}, []int32{types[0], types[509], types[511], types[512], types[519]})
	merges := meta[[]string](t, r, "tokenizer.ggml.merges")
	require.Len(t, merges, 253)
	require.Equal(t, "Ġ Ġ", merges[0])

	for pre, path := range map[string]string{
		"smaug-bpe": edited(t, bytelevel, func(_, model map[string]any) { model["ignore_merges"] = false }),
		"gpt-2": edited(t, bytelevel, func(top, model map[string]any) {
			model["ignore_merges"] = false
			top["pre_tokenizer"] = map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
		}),
	} {
		r, _, err := tokenizerOf(t, path, nil)
		require.NoError(t, err)
		require.Equal(t, pre, meta[string](t, r, "tokenizer.ggml.pre"))
	}
}

func TestSentencePiece(t *testing.T) {
	r, report, err := tokenizerOf(t, sentencepiece, nil)
	require.NoError(t, err)
	require.Len(t, report.Warnings, 1)
	require.Contains(t, report.Warnings[0], "23 such pairs")
	require.Equal(t, "llama", meta[string](t, r, "tokenizer.ggml.model"))
	tokens, types, scores := meta[[]string](t, r, "tokenizer.ggml.tokens"), meta[[]int32](t, r, "tokenizer.ggml.token_type"), meta[[]float32](t, r, "tokenizer.ggml.scores")
	require.Equal(t, []int32{2, 3, 3, 6, 6, 5}, []int32{types[0], types[1], types[2], types[3], types[258], types[519]})
	require.True(t, meta[bool](t, r, "tokenizer.ggml.add_space_prefix"))
	require.True(t, meta[bool](t, r, "tokenizer.ggml.add_bos_token"))
	require.Equal(t, uint32(1), meta[uint32](t, r, "tokenizer.ggml.bos_token_id"))
	require.Equal(t, uint32(2), meta[uint32](t, r, "tokenizer.ggml.eos_token_id"))
	require.Equal(t, uint32(0), meta[uint32](t, r, "tokenizer.ggml.unknown_token_id"))

	// Every merge's token has the rank of its first merge; what no merge makes is last.
	data, err := os.ReadFile(sentencepiece)
	require.NoError(t, err)
	var file struct{ Model struct{ Merges [][2]string } }
	require.NoError(t, json.Unmarshal(data, &file))
	want := map[string]float32{}
	for i := len(file.Model.Merges) - 1; i >= 0; i-- {
		want[file.Model.Merges[i][0]+file.Model.Merges[i][1]] = -float32(i)
	}
	for id, token := range tokens {
		switch score, isMerge := want[token]; {
		case isMerge:
			require.Equal(t, score, scores[id], token)
		case types[id] == 1:
			require.Equal(t, float32(-154), scores[id], token)
		default:
			require.Zero(t, scores[id], token)
		}
	}

	never := edited(t, sentencepiece, func(top, _ map[string]any) {
		top["normalizer"] = nil
		top["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": false}
	})
	r, _, err = tokenizerOf(t, never, nil)
	require.NoError(t, err)
	require.False(t, meta[bool](t, r, "tokenizer.ggml.add_space_prefix"))
}

// TestPaddingNamesAreFree: a vocabulary may have a token called like a padding one.
func TestPaddingNamesAreFree(t *testing.T) {
	r, _, err := tokenizerOf(t, edited(t, bytelevel, func(top, model map[string]any) {
		added := top["added_tokens"].([]any)
		more := map[string]any{"id": 512, "content": "[PAD513]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": false}
		top["added_tokens"] = append(added, more)
	}), nil)
	require.NoError(t, err)
	tokens, types := meta[[]string](t, r, "tokenizer.ggml.tokens"), meta[[]int32](t, r, "tokenizer.ggml.token_type")
	require.Equal(t, []string{"[PAD513]", "[PAD513]_", "[PAD514]"}, tokens[512:515])
	require.Equal(t, []int32{4, 5, 5}, types[512:515])
}

func TestEnds(t *testing.T) {
	r, report, err := tokenizerOf(t, bytelevel, map[string]string{"eos": "3,1,2,4,5"})
	require.NoError(t, err)
	require.Len(t, report.Warnings, 1)
	require.Contains(t, report.Warnings[0], "[4 5] are left out")
	for key, want := range map[string]uint32{"eos": 1, "eot": 2, "eom": 3, "bos": 509} {
		require.Equal(t, want, meta[uint32](t, r, "tokenizer.ggml."+key+"_token_id"))
	}
	none := edited(t, bytelevel, func(top, _ map[string]any) { top["post_processor"] = nil })
	r, _, err = tokenizerOf(t, none, map[string]string{"eos": "7"})
	require.NoError(t, err)
	require.False(t, meta[bool](t, r, "tokenizer.ggml.add_bos_token"))
	require.Equal(t, uint32(7), meta[uint32](t, r, "tokenizer.ggml.bos_token_id"))

	template := func(ids ...string) func(top, _ map[string]any) {
		return func(top, _ map[string]any) {
			var single []any
			special := map[string]any{}
			for _, id := range ids {
				if id == "A" {
					single = append(single, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}})
					continue
				}
				single = append(single, map[string]any{"SpecialToken": map[string]any{"id": id, "type_id": 0}})
				special[id] = map[string]any{"id": id, "ids": []int{map[string]int{"<|begin_of_text|>": 509, "<|end_of_text|>": 510}[id]}, "tokens": []string{id}}
			}
			post := top["post_processor"].(map[string]any)
			post["single"], post["special_tokens"] = single, special
		}
	}
	r, _, err = tokenizerOf(t, edited(t, bytelevel, template("<|begin_of_text|>", "A", "<|end_of_text|>")), map[string]string{"eos": "7,510"})
	require.NoError(t, err)
	require.True(t, meta[bool](t, r, "tokenizer.ggml.add_eos_token"))
	require.Equal(t, uint32(510), meta[uint32](t, r, "tokenizer.ggml.eos_token_id"))
	require.Equal(t, uint32(7), meta[uint32](t, r, "tokenizer.ggml.eot_token_id"))
	_, _, err = tokenizerOf(t, edited(t, bytelevel, template("<|begin_of_text|>", "A", "<|end_of_text|>")), map[string]string{"eos": "7"})
	require.ErrorContains(t, err, "puts id 510 after a text")
	_, _, err = tokenizerOf(t, edited(t, bytelevel, template("<|begin_of_text|>", "<|begin_of_text|>", "A")), nil)
	require.ErrorContains(t, err, "puts 2 ids before a text")
	_, _, err = tokenizerOf(t, bytelevel, map[string]string{"eos": ""})
	require.ErrorContains(t, err, "names no token that ends a text")
}

func TestTokenizersRefused(t *testing.T) {
	for name, c := range map[string]struct {
		path   string
		reason string
	}{
		"another pattern": {edited(t, bytelevel, func(top, _ map[string]any) {
			steps := top["pre_tokenizer"].(map[string]any)["pretokenizers"].([]any)
			steps[0].(map[string]any)["pattern"] = map[string]any{"Regex": `\w+|\W+`}
		}), "Split \\\\w+|\\\\W+"},
		"normalizer":       {edited(t, bytelevel, func(top, _ map[string]any) { top["normalizer"] = map[string]any{"type": "NFC"} }), "has the normalizer NFC"},
		"no pre-tokenizer": {edited(t, bytelevel, func(top, _ map[string]any) { top["pre_tokenizer"] = nil }), "has the pre-tokenizer []"},
		"prefix": {edited(t, bytelevel, func(_, model map[string]any) {
			model["continuing_subword_prefix"] = "##"
			model["merges"] = []any{}
		}), `marks subwords with "##"`},
		"added token": {edited(t, bytelevel, func(top, _ map[string]any) {
			top["added_tokens"].([]any)[0].(map[string]any)["lstrip"] = true
		}), "takes surrounding space"},
		"metaspace": {edited(t, sentencepiece, func(top, _ map[string]any) {
			top["normalizer"] = nil
			top["pre_tokenizer"] = map[string]any{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false}
		}), "normalizes text otherwise"},
		"lower case": {edited(t, sentencepiece, func(top, _ map[string]any) {
			steps := top["normalizer"].(map[string]any)
			steps["normalizers"] = append(steps["normalizers"].([]any), map[string]any{"type": "Lowercase"})
		}), "normalizes text otherwise"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := tokenizerOf(t, c.path, nil)
			var refused *export.RefusedError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, c.reason)
			require.ErrorContains(t, err, "--no-tokenizer")
		})
	}
}

// TestEveryTokenizer: what package tokenizer reads is exported or refused.
func TestEveryTokenizer(t *testing.T) {
	files, err := filepath.Glob("../tokenizer/testdata/made/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var done []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		var golden struct{ Tokenizer string }
		require.NoError(t, json.Unmarshal(data, &golden))
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		require.NoError(t, os.WriteFile(path, []byte(golden.Tokenizer), 0o644))
		s := llama()
		s.Layers, s.Vocab = 1, 1000
		f := made(t, s, synth.Divide, checkpoint.BF16, convert.Options{Tokenizer: path})
		_, err = export.GGUF(context.Background(), f, filepath.Join(t.TempDir(), "m.gguf"), export.GGUFOptions{Encoding: "tq2_0"})
		var refused *export.RefusedError
		if err == nil {
			done = append(done, filepath.Base(file))
		} else {
			require.ErrorAs(t, err, &refused, file)
		}
	}
	require.Equal(t, []string{"gpt2.json", "llama2.json", "llama3.json"}, done)
}

// TestChatTemplate goes along.
func TestChatTemplate(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, synth.Write(dir, llama(), synth.Multiply, checkpoint.BF16, 1))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte("{{ messages }}"), 0o644))
	f := open(t, converted(t, dir, convert.Options{Tokenizer: bytelevel, NoSelfTest: true}))
	r, _ := exported(t, f, export.GGUFOptions{Encoding: "tq2_0"})
	require.Equal(t, "{{ messages }}", meta[string](t, r, "tokenizer.chat_template"))
	roundTrip(t, f, convert.Options{})
}
