package tokenizer

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawPattern(t *rapid.T) object {
	if rapid.Bool().Draw(t, "regex") {
		return object{"Regex": rapid.SampledFrom([]string{`\s+`, `\p{L}+|\p{N}`, `a*`, ``, `^`, `(?=a)`, `(?i)'s| ?\p{L}+`, patternLlama3}).Draw(t, "pattern")}
	}
	return object{"String": rapid.SampledFrom([]string{" ", "a", "", "  ", "▁", "éa"}).Draw(t, "pattern")}
}

func drawNormalizer(t *rapid.T, depth int) object {
	kinds := []string{"Prepend", "Replace", "Strip", "StripAccents", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "ByteLevel", "Sequence"}
	if depth == 0 {
		kinds = kinds[:10]
	}
	kind := rapid.SampledFrom(kinds).Draw(t, "normalizer")
	part := object{"type": kind}
	switch kind {
	case "Prepend":
		part["prepend"] = rapid.SampledFrom([]string{"▁", "", "ab"}).Draw(t, "prepend")
	case "Replace":
		part["pattern"], part["content"] = drawPattern(t), rapid.SampledFrom([]string{"▁", "", "ab"}).Draw(t, "content")
	case "Strip":
		part["strip_left"], part["strip_right"] = rapid.Bool().Draw(t, "left"), rapid.Bool().Draw(t, "right")
	case "Sequence":
		parts := []object{}
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			parts = append(parts, drawNormalizer(t, depth-1))
		}
		part["normalizers"] = parts
	}
	return part
}

func drawPreTokenizer(t *rapid.T, depth int) object {
	kinds := []string{"ByteLevel", "Split", "Metaspace", "Whitespace", "WhitespaceSplit", "Digits", "Punctuation", "Sequence"}
	if depth == 0 {
		kinds = kinds[:7]
	}
	drawBehavior := func() string {
		return rapid.SampledFrom([]string{"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"}).Draw(t, "behavior")
	}
	kind := rapid.SampledFrom(kinds).Draw(t, "pre-tokenizer")
	part := object{"type": kind}
	switch kind {
	case "ByteLevel":
		return byteLevelPart(rapid.Bool().Draw(t, "prefix"), rapid.Bool().Draw(t, "regex"))
	case "Split":
		part["pattern"], part["behavior"], part["invert"] = drawPattern(t), drawBehavior(), rapid.Bool().Draw(t, "invert")
	case "Metaspace":
		return metaspacePart(rapid.SampledFrom([]string{"always", "first", "never"}).Draw(t, "scheme"), rapid.Bool().Draw(t, "split"))
	case "Digits":
		part["individual_digits"] = rapid.Bool().Draw(t, "individual")
	case "Punctuation":
		part["behavior"] = drawBehavior()
	case "Sequence":
		parts := []object{}
		for range rapid.IntRange(0, 3).Draw(t, "parts") {
			parts = append(parts, drawPreTokenizer(t, depth-1))
		}
		part["pretokenizers"] = parts
	}
	return part
}

// Any chain of components takes any text, and what stands in for the origin
// of characters stays within the text.
func TestAnyPipeline(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := object{"model": with(bpeModel([]string{"<unk>", "a", "▁", "▁a", "Ġ", "é"}, []string{"▁", "a"}), object{"unk_token": "<unk>"}),
			"pre_tokenizer": drawPreTokenizer(t, 2)}
		if rapid.Bool().Draw(t, "normalize") {
			parts["normalizer"] = drawNormalizer(t, 2)
		}
		var tokens []object
		for i, s := range []string{"<s>", "a b", " ", "x"}[:rapid.IntRange(0, 4).Draw(t, "added")] {
			flags := object{}
			for _, f := range []string{"single_word", "lstrip", "rstrip", "normalized", "special"} {
				flags[f] = rapid.Bool().Draw(t, f)
			}
			tokens = append(tokens, added(6+i, s, flags))
		}
		if tokens != nil {
			parts["added_tokens"] = tokens
		}
		tok, err := Parse(marshal(t, parts))
		if err != nil {
			require.ErrorContains(t, err, "of which the normalizer leaves nothing")
			return
		}
		for range 4 {
			text := tricky().Draw(t, "text")
			pieces, err := tok.pieces(lossy(text), rapid.Bool().Draw(t, "special"))
			require.NoError(t, err)
			for i, p := range pieces {
				if p.id >= 0 {
					continue
				}
				require.NotEmpty(t, p.text)
				require.True(t, utf8.ValidString(p.text))
				require.True(t, p.head >= 0 && p.head <= len(p.text))
				require.True(t, p.head == len(p.text) || utf8.RuneStart(p.text[p.head]))
				if i > 0 && p.head > 0 {
					require.Equal(t, len(pieces[i-1].text), pieces[i-1].head, "one stretch in front")
				}
			}
			ids, err := tok.Encode(text, EncodeOptions{})
			require.NoError(t, err)
			for _, id := range ids {
				require.True(t, id >= 0 && id < tok.VocabSize())
			}
		}
	})
}
