package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// countCodec is a codec of lists of numbers.
type countCodec struct{ first, n int }

func (c countCodec) FirstID() int { return c.first }
func (c countCodec) IDs() int     { return c.n }
func (c countCodec) Encode(content any) ([]int, error) {
	list, ok := content.([]int)
	if !ok {
		return nil, errors.New("want a list")
	}
	ids := []int{}
	for _, v := range list {
		ids = append(ids, c.first+v)
	}
	return ids, nil
}
func (c countCodec) Decode(ids []int) (any, error) {
	list := []int{}
	for _, id := range ids {
		list = append(list, id-c.first)
	}
	return list, nil
}

// vocabularies are of every kind: byte-level ones with and without all bytes,
// byte fallback, none of both, with normalizers that change or drop text.
func vocabularies(t testing.TB) map[string]*Tokenizer {
	t.Helper()
	all := map[string]*Tokenizer{"demo": load(t, demoPath)}
	for _, folder := range goldenFolders {
		all[filepath.Base(folder)] = load(t, filepath.Join(folder, "tokenizer.json"))
	}
	made, err := filepath.Glob("testdata/made/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, made)
	for _, path := range made {
		data, err := os.ReadFile(path)
		require.NoError(t, err)
		var file struct{ Tokenizer string }
		require.NoError(t, json.Unmarshal(data, &file))
		tok, err := Parse([]byte(file.Tokenizer))
		require.NoError(t, err)
		all[filepath.Base(path)] = tok
	}
	return all
}

func multiModals(t testing.TB) map[string]*MultiModal {
	t.Helper()
	out := map[string]*MultiModal{}
	for name, tok := range vocabularies(t) {
		m, err := NewMultiModal(tok, MultiModalOptions{})
		require.NoError(t, err)
		out[name] = m
	}
	return out
}

// fragments are what tokenizers stumble over.
var fragments = []string{"a", " ", "  ", "\n", "\u2581", "<text>", "<bos>", "</s>", "<s>", "<0x41>", "é", "e\u0301", "ﬁ", "ſ", "İ", "日本", "🙂", "👩\u200d👩", "\xff", "\xc3", "\xe2\x82", "\xed\xa0\x80", "Ġ", "ģ", "\u0000", "x1234567", "<|eot_id|>", "▁▁", "don't", "\ufffd"}

func roundTrip(t require.TestingT, m *MultiModal, name, text string) {
	ids, err := m.Encode(text, Text, false)
	require.NoError(t, err)
	for _, id := range ids {
		require.True(t, id >= SpecialTokens && id < m.VocabSize(), "%s: id %d", name, id)
	}
	for _, skip := range []bool{false, true} {
		got, err := m.Decode(ids, skip)
		require.NoError(t, err)
		require.Equal(t, text, got, "%s: %q", name, text)
	}
	ids, err = m.Encode([]byte(text), Code, true)
	require.NoError(t, err)
	require.Equal(t, []int{1, 5}, ids[:2])
	require.Equal(t, 2, ids[len(ids)-1])
	got, err := m.Decode(ids, true)
	require.NoError(t, err)
	require.Equal(t, text, got, "%s: %q", name, text)
}

// Every string of bytes decodes to itself, over every vocabulary.
func TestMultiModalRoundTrip(t *testing.T) {
	for name, m := range multiModals(t) {
		t.Run(name, func(t *testing.T) {
			roundTrip(t, m, name, "")
			for _, a := range fragments {
				roundTrip(t, m, name, a)
				roundTrip(t, m, name, " "+a)
				for _, b := range fragments[:12] {
					roundTrip(t, m, name, a+b+a)
				}
			}
			rapid.Check(t, func(t *rapid.T) {
				parts := rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(fragments), rapid.StringN(0, 6, 20), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 5), func(b []byte) string { return string(b) })), 0, 12).Draw(t, "parts")
				roundTrip(t, m, name, strings.Join(parts, ""))
			})
		})
	}
}

func FuzzMultiModal(f *testing.F) {
	all := multiModals(f)
	for _, s := range fragments {
		f.Add([]byte(s))
	}
	f.Add([]byte("\xffa \u2581b é\xf0\x9f\x98 <eos>"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, m := range all {
			roundTrip(t, m, name, string(data))
		}
	})
}

// Ordinary text has the ids that the model was trained with.
func TestMultiModalTakesTheTokenizersIDs(t *testing.T) {
	for name, tok := range vocabularies(t) {
		if name != "demo" && name != "bytelevel-llama3" && name != "metaspace-llama2" {
			continue
		}
		m, err := NewMultiModal(tok, MultiModalOptions{})
		require.NoError(t, err)
		shift := SpecialTokens
		if name == "demo" {
			shift = 0
		}
		for _, text := range []string{"Hello, world!", "func main() {\n\tfmt.Println(1)\n}\n", "  two  spaces", "x"} {
			want, err := tok.Encode(text, EncodeOptions{NoParseSpecial: true})
			require.NoError(t, err)
			for i := range want {
				want[i] += shift
			}
			got, err := m.Encode(text, Text, false)
			require.NoError(t, err)
			require.Equal(t, want, got, "%s: %q", name, text)
		}
	}
}

// Every id decodes, alone and between others, and only ids of text say something
// when special tokens are skipped.
func TestMultiModalDecodeIsTotal(t *testing.T) {
	for name, tok := range vocabularies(t) {
		m, err := NewMultiModal(tok, MultiModalOptions{VocabSize: 8000, Image: countCodec{7000, 50}, Audio: countCodec{7050, 60}})
		require.NoError(t, err, name)
		all := make([]int, m.VocabSize())
		for id := range all {
			all[id] = id
			loud, err := m.Decode([]int{id}, false)
			require.NoError(t, err)
			quiet, err := m.Decode([]int{id}, true)
			require.NoError(t, err)
			if quiet != "" {
				require.Equal(t, loud, quiet)
			}
			switch {
			case id < SpecialTokens:
				require.Equal(t, tritterSpecial[id], loud)
				require.Empty(t, quiet)
			case id >= 7000 && id < 7050:
				require.Equal(t, fmt.Sprintf("<image %d>", id-7000), loud)
				require.Empty(t, quiet)
			case id >= 7050 && id < 7110:
				require.Equal(t, fmt.Sprintf("<audio %d>", id-7050), loud)
			case id >= 7110 || id >= m.TextEnd():
				require.Equal(t, "<unk>", loud)
				require.Empty(t, quiet)
			}
		}
		_, err = m.Decode(all, false)
		require.NoError(t, err)
		for _, id := range []int{-1, 8000} {
			_, err = m.Decode([]int{5, id}, true)
			require.EqualError(t, err, fmt.Sprintf("tokenizer: token id %d at position 1, want 0 to 7999", id))
			_, err = m.DecodeContent([]int{5, id}, Image)
			require.ErrorContains(t, err, "want 0 to 7999")
		}
	}
}

func TestMultiModalCodecs(t *testing.T) {
	m, err := NewMultiModal(load(t, demoPath), MultiModalOptions{Image: countCodec{5000, 50}, MaxLength: 6})
	require.NoError(t, err)
	require.Equal(t, []Modality{Text, Code, Image}, m.Modalities())
	ids, err := m.Encode([]int{3, 0, 49}, Image, true)
	require.NoError(t, err)
	require.Equal(t, []int{1, 6, 5003, 5000, 5049, 2}, ids)
	text, err := m.Decode(ids, false)
	require.NoError(t, err)
	require.Equal(t, "<bos><image><image 3><image 0><image 49><eos>", text)
	list, err := m.DecodeContent(append(ids, 300, 4999), Image)
	require.NoError(t, err)
	require.Equal(t, []int{3, 0, 49}, list)
	// What does not fit is cut off behind; special tokens stay.
	ids, err = m.Encode([]int{1, 2, 3, 4, 5}, Image, true)
	require.NoError(t, err)
	require.Equal(t, []int{1, 6, 5001, 5002, 5003, 2}, ids)
	ids, err = m.Encode("a b c d e f g h", Text, false)
	require.NoError(t, err)
	require.Len(t, ids, 6)

	for want, call := range map[string]func() error{
		`modality "video", want text, code, image or audio`:                        func() error { _, err := m.Encode("x", "video", true); return err },
		"text is a int, want a string or []byte":                                   func() error { _, err := m.Encode(5, Text, true); return err },
		"no codebook for modality audio: the ids of this vocabulary stand for [te": func() error { _, err := m.Encode([]int{1}, Audio, true); return err },
		"image: want a list":                              func() error { _, err := m.Encode("x", Image, true); return err },
		"the codec gave id 5050 at position 1, want 5000": func() error { _, err := m.Encode([]int{0, 50}, Image, true); return err },
	} {
		require.ErrorContains(t, call(), want)
	}
	silent, err := NewMultiModal(nil, MultiModalOptions{Image: countCodec{8, 50}})
	require.NoError(t, err)
	_, err = silent.Encode("x", Text, false)
	require.Equal(t, errNoText, err)
	ids, err = silent.Encode([]int{0}, Image, false)
	require.NoError(t, err)
	require.Equal(t, []int{8}, ids)
}

func TestMultiModalLayout(t *testing.T) {
	demo, llama := load(t, demoPath), load(t, "testdata/metaspace-llama2/tokenizer.json")
	m, err := NewMultiModal(demo, MultiModalOptions{})
	require.NoError(t, err)
	require.Equal(t, []int{65536, 131072, 4096}, []int{m.VocabSize(), m.MaxLength(), m.TextEnd()})
	require.Equal(t, map[string]int{"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3, "<text>": 4, "<code>": 5, "<image>": 6, "<audio>": 7}, m.SpecialTokens())
	require.Equal(t, map[Modality]int{Text: 4, Code: 5, Image: 6, Audio: 7}, m.ModalityPrefixes())
	m, err = NewMultiModal(llama, MultiModalOptions{VocabSize: 520})
	require.NoError(t, err)
	require.Equal(t, 520, m.TextEnd())
	few, err := Parse(marshal(t, object{"model": bpeModel([]string{"a", "b", "ab"}, []string{"a", "b"})}))
	require.NoError(t, err)
	m, err = NewMultiModal(few, MultiModalOptions{})
	require.NoError(t, err)
	ids, err := m.Encode("ab\xffa", Text, false)
	require.NoError(t, err)
	require.Equal(t, []int{10, 11 + 0xff, 8}, ids)

	for want, opt := range map[string]MultiModalOptions{
		"vocab_size 4000 is below the 4096 ids in use (4096 of the vocabulary); raise vocab_size to at least 4096": {VocabSize: 4000},
		"vocab_size is 7, want at least 8": {VocabSize: 7},
		"max_length is 3, want at least 4": {MaxLength: 3},
		"ids 4096 to 4195 of modality image exceed vocab_size 4100; raise vocab_size to at least 4196":          {VocabSize: 4100, Image: countCodec{4096, 100}},
		"ids 4095 to 4194 of modality image overlap 0 to 4095 of special tokens and text; move its first id to": {Image: countCodec{4095, 100}},
		"ids 4195 to 4195 of modality audio overlap 4096 to 4195 of image; move its first id to at least 4196":  {Image: countCodec{4096, 100}, Audio: countCodec{4195, 1}},
	} {
		_, err := NewMultiModal(demo, opt)
		require.ErrorContains(t, err, want)
	}
	_, err = NewMultiModal(few, MultiModalOptions{VocabSize: 100})
	require.ErrorContains(t, err, "vocab_size 100 is below the 267 ids in use (8 special, 3 of the vocabulary, 256 of bytes, some of which the vocabulary has no token for)")
}

// A text of a million bytes that the Tokenizer cannot spell takes no quadratic time.
func TestMultiModalLongText(t *testing.T) {
	m, err := NewMultiModal(load(t, "testdata/metaspace-llama2/tokenizer.json"), MultiModalOptions{MaxLength: 1 << 24})
	require.NoError(t, err)
	text := strings.Repeat("a \u2581b\xff", 30000)
	ids, err := m.Encode(text, Text, false)
	require.NoError(t, err)
	got, err := m.Decode(ids, true)
	require.NoError(t, err)
	require.True(t, got == text)
	require.True(t, slices.Max(ids) < m.TextEnd())
}
