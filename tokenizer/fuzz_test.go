package tokenizer

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzParse reads hostile files: an error is of one of the two types, and a
// tokenizer that came of it works.
func FuzzParse(f *testing.F) {
	model := bpeModel([]string{"a", "b", "ab", "<0xC3>"}, []string{"a", "b"})
	for _, parts := range []object{
		{"model": model, "added_tokens": []object{added(4, "x", object{"lstrip": true, "rstrip": true, "single_word": true, "special": true}), added(5, "y", object{"normalized": true})}},
		{"model": with(model, object{"unk_token": "a", "byte_fallback": true, "fuse_unk": true, "ignore_merges": true, "end_of_word_suffix": "b"}), "normalizer": sequenceOf("normalizers", object{"type": "NFKC"}, object{"type": "Strip", "strip_left": true, "strip_right": true}, object{"type": "Replace", "pattern": object{"Regex": "[^a-z&&\\w]+"}, "content": "b"})},
		{"model": model, "pre_tokenizer": sequenceOf("pretokenizers", splitPart("Regex", `(?i)a|\p{L}{1,3}`, "MergedWithNext", true), object{"type": "Punctuation"}, metaspacePart("first", true), byteLevelPart(true, true))},
		{"model": model, "decoder": sequenceOf("decoders", replacePart("String", "a", "b"), decoderOf("ByteFallback", nil), decoderOf("Fuse", nil), stripPart("b", 1, 1), metaspacePart("always", true))},
		{"model": model, "post_processor": templateJSON("<s> A", map[string]int{"<s>": 0})},
	} {
		f.Add(marshal(f, parts))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tok, err := Parse(data)
		if err != nil {
			var malformed *FormatError
			var unsupported *UnsupportedError
			require.True(t, errors.As(err, &malformed) || errors.As(err, &unsupported), "%v", err)
			require.Less(t, len(err.Error()), 4096)
			return
		}
		for _, text := range []string{"", "ab x y\u00e9 \xff\n<s>", "'ll 1234  \u3000▁"} {
			ids, err := tok.Encode(text, EncodeOptions{AddSpecial: true})
			if err != nil {
				continue
			}
			for _, id := range ids {
				require.True(t, id >= 0 && id < tok.VocabSize())
			}
			whole, err := tok.Decode(ids, false)
			if err != nil {
				continue
			}
			s := tok.NewStream(false)
			var all strings.Builder
			for _, id := range ids {
				part, err := s.Push(id)
				require.NoError(t, err)
				all.WriteString(part)
			}
			require.Equal(t, whole, all.String()+s.Flush())
		}
	})
}

// FuzzRoundTrip encodes any bytes with each tokenizer, with and without
// special tokens in the text.
func FuzzRoundTrip(f *testing.F) {
	tokenizers := map[string]*Tokenizer{"demo": load(f, demoPath)}
	for _, folder := range goldenFolders {
		tokenizers[filepath.Base(folder)] = load(f, filepath.Join(folder, "tokenizer.json"))
		for _, c := range goldenCases(f, folder)[:40] {
			f.Add([]byte(c.Text))
		}
	}
	f.Add([]byte("\xff\xe2\x82 <eos>\xf0\x9f\x98"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := string(data)
		for name, tok := range tokenizers {
			for _, plain := range []bool{false, true} {
				ids, err := tok.Encode(text, EncodeOptions{NoParseSpecial: plain})
				require.NoError(t, err)
				got, err := tok.Decode(ids, false)
				require.NoError(t, err)
				if name != "metaspace-llama2" || plain {
					require.Equal(t, unspaced(name, lossy(text)), got, name)
				}
				s := tok.NewStream(false)
				var all strings.Builder
				for _, id := range ids {
					part, err := s.Push(id)
					require.NoError(t, err)
					all.WriteString(part)
				}
				require.Equal(t, got, all.String()+s.Flush(), name)
			}
		}
	})
}
