package tokenizer

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func decoderOf(kind string, more object) object { return with(object{"type": kind}, more) }

func replacePart(kind, pattern, content string) object {
	return decoderOf("Replace", object{"pattern": object{kind: pattern}, "content": content})
}

func stripPart(content string, start, stop int) object {
	return decoderOf("Strip", object{"content": content, "start": start, "stop": stop})
}

func TestDecoders(t *testing.T) {
	llama := sequenceOf("decoders", replacePart("String", "▁", " "), decoderOf("ByteFallback", nil), decoderOf("Fuse", nil), stripPart(" ", 1, 0))
	for _, c := range []struct {
		name   string
		part   any
		tokens []string
		want   string
	}{
		{"none", nil, []string{"a", "", "b"}, "a  b"},
		{"none, one token", nil, []string{"a"}, "a"},
		{"byte level", byteLevelPart(true, true), []string{"ĠHello", "Ġ", "Ã", "©", "Ċ"}, " Hello é\n"},
		{"byte level, not UTF-8", byteLevelPart(true, true), []string{"Ã", "a", "â", "Ĥ", "ð", "Ł"}, "\uFFFDa\uFFFD\uFFFD"},
		{"byte level, a token that spells no bytes", byteLevelPart(true, true), []string{"a", "Ġ b", "中Ġ"}, "aĠ b中Ġ"},
		{"byte level makes one token", sequenceOf("decoders", byteLevelPart(true, true), stripPart("a", 1, 1)), []string{"a", "aba", "a"}, "aba"},
		{"byte fallback", decoderOf("ByteFallback", nil), []string{"<0x61>", "<0xC3>", "<0xA9>", "x", "<0x0a>", "<0x+5>"}, "aéx\n\x05"},
		{"byte fallback, one spoils all", decoderOf("ByteFallback", nil), []string{"<0x61>", "<0xC3>", "x", "<0xE9>"}, "\uFFFD\uFFFDx\uFFFD"},
		{"byte fallback, only as a token", decoderOf("ByteFallback", nil), []string{"<0x", "61>", "<0x6g>", "<0xé>", "<0x611>"}, "<0x61><0x6g><0xé><0x611>"},
		{"byte fallback, a token for each U+FFFD", sequenceOf("decoders", decoderOf("ByteFallback", nil), stripPart("\uFFFD", 1, 0)), []string{"<0xC3>", "<0xC3>", "x"}, "x"},
		{"byte fallback, one token for a run", sequenceOf("decoders", decoderOf("ByteFallback", nil), stripPart("a", 1, 0)), []string{"<0x61>", "<0x61>", "a"}, "a"},
		{"fuse first", sequenceOf("decoders", decoderOf("Fuse", nil), decoderOf("ByteFallback", nil)), []string{"<0x", "61>"}, "a"},
		{"strip each token", stripPart("H", 1, 0), []string{"Hey", " friend!", "HHH"}, "ey friend!HH"},
		{"strip the end of each token", stripPart("y", 0, 1), []string{"Hey", " friend!"}, "He friend!"},
		{"strip more than is there", stripPart("é", 2, 2), []string{"ééé", "é", "", "aé"}, "a"},
		{"replace", replacePart("String", "▁", " "), []string{"▁a▁", "b"}, " a b"},
		{"replace stays within a token", replacePart("String", "ab", "x"), []string{"a", "bab"}, "abx"},
		{"replace across fused tokens", sequenceOf("decoders", decoderOf("Fuse", nil), replacePart("String", "aab", "x")), []string{"a", "a", "ab", "a", "a"}, "axaa"},
		{"replace a pattern", replacePart("Regex", `a+`, "<$0>"), []string{"aab", "a"}, "<$0>b<$0>"},
		{"replace nothing", replacePart("String", "", "-"), []string{"ab", ""}, "-a-b-"},
		{"metaspace", metaspacePart("always", true), []string{"▁Hey", "▁fr▁iend"}, "Hey fr iend"},
		{"metaspace first", metaspacePart("first", true), []string{"▁▁Hey", "▁you"}, "Hey you"},
		{"metaspace never", metaspacePart("never", true), []string{"▁Hey", "▁you"}, " Hey you"},
		{"metaspace counts empty tokens", metaspacePart("always", true), []string{"", "▁a"}, " a"},
		{"end of word", decoderOf("BPEDecoder", object{"suffix": "</w>"}), []string{"He", "y</w>", "you</w>"}, "Hey you"},
		{"Llama 2", llama, []string{"▁▁Hey", "<0x0A>", "▁you", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "▁"}, " Hey\n you😀 "},
		{"Llama 2, only the first space", llama, []string{"▁", "▁", "▁a"}, "  a"},
	} {
		tokens := append([]string{}, c.tokens...)
		vocab := object{}
		var ids []int
		for _, s := range tokens {
			if _, ok := vocab[s]; !ok {
				vocab[s] = len(vocab)
			}
			ids = append(ids, vocab[s].(int))
		}
		tok := build(t, object{"model": object{"vocab": vocab, "merges": []string{}}, "decoder": c.part})
		got, err := tok.Decode(ids, false)
		require.NoError(t, err)
		require.Equal(t, c.want, got, c.name)
		require.Equal(t, batchDecode(c.part, tokens), got, c.name)
		empty, err := tok.Decode(nil, false)
		require.NoError(t, err)
		require.Equal(t, "", empty, c.name)
	}
}

// batchDecode decodes whole lists of tokens, stage by stage, as the decoders
// are defined.
func batchDecode(part any, tokens []string) string {
	if part == nil {
		return strings.Join(tokens, " ")
	}
	return strings.Join(batchStage(part.(object), tokens), "")
}

func batchStage(part object, tokens []string) []string {
	var out []string
	switch part["type"] {
	case "Sequence":
		out = tokens
		for _, p := range part["decoders"].([]object) {
			out = batchStage(p, out)
		}
	case "ByteLevel":
		var all []byte
		for _, s := range tokens {
			all = appendCharBytes(all, s)
		}
		out = []string{lossy(string(all))}
	case "Fuse":
		out = []string{strings.Join(tokens, "")}
	case "ByteFallback":
		var run []byte
		flush := func() {
			if utf8.Valid(run) && len(run) > 0 {
				out = append(out, string(run))
			} else {
				for range run {
					out = append(out, "\uFFFD")
				}
			}
			run = nil
		}
		for _, s := range tokens {
			if b, ok := byteToken(s); ok {
				run = append(run, b)
				continue
			}
			flush()
			out = append(out, s)
		}
		flush()
	case "Strip":
		for _, s := range tokens {
			c := part["content"].(string)
			runes := chars(s)
			from, to := 0, len(runes)
			for from < len(runes) && from < part["start"].(int) && runes[from] == c {
				from++
			}
			for to > from && len(runes)-to < part["stop"].(int) && runes[to-1] == c {
				to--
			}
			out = append(out, strings.Join(runes[from:to], ""))
		}
	case "Replace":
		for kind, p := range part["pattern"].(object) {
			for _, s := range tokens {
				var m matcher = literal(p.(string))
				if kind == "Regex" {
					m, _ = parseRegex(pattern(p.(string)))
				}
				w := piece{text: s}
				_ = replace{m, part["content"].(string)}.normalize(&w)
				out = append(out, w.text)
			}
		}
	case "Metaspace":
		for i, s := range tokens {
			space := " "
			if i == 0 && part["prepend_scheme"] != "never" {
				space = ""
			}
			out = append(out, strings.ReplaceAll(s, "▁", space))
		}
	case "BPEDecoder":
		for i, s := range tokens {
			space := " "
			if i == len(tokens)-1 {
				space = ""
			}
			out = append(out, strings.ReplaceAll(s, part["suffix"].(string), space))
		}
	}
	return out
}

// drawDecoder draws any chain of decoders.
func drawDecoder(t *rapid.T, depth int) object {
	kinds := []string{"ByteLevel", "Fuse", "ByteFallback", "Strip", "Replace", "Metaspace", "BPEDecoder", "Sequence", "Sequence"}
	if depth == 0 {
		kinds = kinds[:7]
	}
	char := rapid.SampledFrom([]string{"a", " ", "▁", "é", "<", "\uFFFD"})
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case "ByteLevel":
		return byteLevelPart(true, true)
	case "Strip":
		return stripPart(char.Draw(t, "strip"), rapid.IntRange(0, 3).Draw(t, "start"), rapid.IntRange(0, 3).Draw(t, "stop"))
	case "Replace":
		if rapid.Bool().Draw(t, "regex") {
			return replacePart("Regex", rapid.SampledFrom([]string{`a+`, `\s*`, `^ `, `.$`}).Draw(t, "regex"), char.Draw(t, "content"))
		}
		return replacePart("String", rapid.SampledFrom([]string{"▁", "", "aa", "aab", "a▁a", " ", "</w>", "<0x61>"}).Draw(t, "string"), char.Draw(t, "content"))
	case "Metaspace":
		return metaspacePart(rapid.SampledFrom([]string{"always", "first", "never"}).Draw(t, "scheme"), true)
	case "BPEDecoder":
		return decoderOf(kind, object{"suffix": rapid.SampledFrom([]string{"</w>", "a", ""}).Draw(t, "suffix")})
	case "Sequence":
		parts := []object{}
		for range rapid.IntRange(0, 4).Draw(t, "parts") {
			parts = append(parts, drawDecoder(t, depth-1))
		}
		return sequenceOf("decoders", parts...)
	default:
		return decoderOf(kind, nil)
	}
}

var decoderTokens = []string{"a", "aa", "b", "▁", "▁▁a", " ", "", "é", "<", "<0x61>", "<0xC3>", "<0xA9>", "<0xFF>", "<0x", "61>", "Ã", "©", "Ġ", "ĠaĊ", "ð", "Ł", "ĺ", "Ģ", "</w>", "ab</w>", "\uFFFD", "中", "<s>"}

// Whatever the decoder, the stream gives what the definition gives, in whole
// characters.
func TestStreamEqualsDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var part any
		if rapid.IntRange(0, 9).Draw(t, "null") > 0 {
			part = drawDecoder(t, 2)
		}
		special := len(decoderTokens) - 1
		tok := build(t, object{"model": bpeModel(decoderTokens), "decoder": part, "added_tokens": []object{added(special, "<s>", object{"special": true})}})
		ids := rapid.SliceOfN(rapid.IntRange(0, special), 0, 16).Draw(t, "ids")
		for _, skip := range []bool{false, true} {
			var tokens []string
			for _, id := range ids {
				if !skip || id != special {
					tokens = append(tokens, decoderTokens[id])
				}
			}
			want := batchDecode(part, tokens)
			got, err := tok.Decode(ids, skip)
			require.NoError(t, err)
			require.Equal(t, want, got)
			s := tok.NewStream(skip)
			for range 2 { // Flush begins anew
				var all strings.Builder
				for _, id := range ids {
					text, err := s.Push(id)
					require.NoError(t, err)
					require.True(t, utf8.ValidString(text))
					all.WriteString(text)
				}
				all.WriteString(s.Flush())
				require.Equal(t, want, all.String())
			}
		}
	})
}

// Text comes out with the token that makes it certain, not later.
func TestStreamIsIncremental(t *testing.T) {
	demo := load(t, demoPath)
	ids := encode(t, demo, "func é(b []byte) // 中😀\n")
	s := demo.NewStream(true)
	var seen []byte
	for _, id := range ids {
		text, err := s.Push(id)
		require.NoError(t, err)
		token, _ := demo.Token(id)
		seen = appendCharBytes(seen, token)
		whole := len(seen)
		for whole > 0 && !utf8.Valid(seen[:whole]) {
			whole--
		}
		require.Equal(t, string(seen[:whole]), text)
		seen = seen[whole:]
	}
	require.Empty(t, s.Flush())

	llama := load(t, "testdata/metaspace-llama2/tokenizer.json")
	push := func(s *Stream, token string) string {
		id, ok := llama.ID(token)
		require.True(t, ok, token)
		text, err := s.Push(id)
		require.NoError(t, err)
		return text
	}
	s = llama.NewStream(true)
	require.Equal(t, "", push(s, "<s>"))
	require.Equal(t, "", push(s, "▁"), "the first space is dropped")
	require.Equal(t, "a", push(s, "a"))
	require.Equal(t, "", push(s, "<0xC3>"), "half a character")
	require.Equal(t, "", push(s, "<0xA9>"), "a byte that follows could spoil the run")
	require.Equal(t, "é ", push(s, "▁"))
	require.Equal(t, "", push(s, "<0xFF>"))
	require.Equal(t, "\uFFFD", s.Flush())
	require.Equal(t, "", push(s, "▁"), "a new sequence")
}

func TestDecodeErrors(t *testing.T) {
	tok := build(t, object{"model": object{"vocab": object{"a": 0, "b": 2}, "merges": []string{}}, "decoder": decoderOf("Fuse", nil)})
	text, err := tok.Decode([]int{0, 1, 2}, false)
	require.NoError(t, err)
	require.Equal(t, "ab", text, "an id without a token")
	for _, id := range []int{-1, 3, 1 << 40} {
		_, err = tok.Decode([]int{0, id}, false)
		require.ErrorContains(t, err, "at position 1, want 0 to 2")
	}
	s := tok.NewStream(false)
	_, err = s.Push(-1)
	require.ErrorContains(t, err, "token id -1")
	text, err = s.Push(3)
	require.NoError(t, err, "the vocabulary of the model may be padded")
	require.Empty(t, text)
	text, err = s.Push(2)
	require.NoError(t, err)
	require.Equal(t, "b", text)

	// An error of a pattern comes out of Push and of Decode.
	tok.decoders = []decoder{func(next stage, fail func(error)) stage {
		return &replaceStage{next: next, fail: fail, pattern: failing{}}
	}}
	_, err = tok.Decode([]int{0}, false)
	require.ErrorContains(t, err, "too slow")
	_, err = tok.NewStream(false).Push(0)
	require.ErrorContains(t, err, "too slow")
}

type failing struct{}

func (failing) spans([]span, string) ([]span, error) { return nil, errors.New("too slow") }

func TestSkippedSpecials(t *testing.T) {
	tok := build(t, object{"model": bpeModel([]string{"a"}), "normalizer": object{"type": "Lowercase"}, "decoder": decoderOf("Fuse", nil), "added_tokens": []object{
		added(1, "<S>", object{"special": true}), added(2, "<N>", object{"special": true, "normalized": true}), added(3, "B", object{"normalized": true}),
		added(4, "<P>", object{"normalized": true}), added(5, "<p>", object{"special": true})}})
	text, err := tok.Decode([]int{0, 1, 2, 3, 4, 5}, false)
	require.NoError(t, err)
	require.Equal(t, "a<S><n>b<p><p>", text, "what is sought in normalized text decodes as its normalized spelling")
	text, err = tok.Decode([]int{0, 1, 2, 3, 4, 5}, true)
	require.NoError(t, err)
	require.Equal(t, "a<n>b", text, "and is special if that spelling is")
	require.True(t, tok.IsSpecial(2))
	token, _ := tok.Token(2)
	require.Equal(t, "<N>", token)
}
