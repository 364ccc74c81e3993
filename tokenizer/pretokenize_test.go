package tokenizer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestPreTokenizers(t *testing.T) {
	dash := func(behavior string, invert bool) object { return splitPart("String", "-", behavior, invert) }
	for _, c := range []struct {
		name string
		part any
		text string
		want []string
	}{
		{"none", nil, "a b", []string{"a b"}},
		{"removed", dash("Removed", false), "the-final--countdown", []string{"the", "final", "countdown"}},
		{"isolated", dash("Isolated", false), "the-final--countdown", []string{"the", "-", "final", "-", "-", "countdown"}},
		{"merged with previous", dash("MergedWithPrevious", false), "the-final--countdown", []string{"the-", "final-", "-", "countdown"}},
		{"merged with next", dash("MergedWithNext", false), "the-final--countdown", []string{"the", "-final", "-", "-countdown"}},
		{"contiguous", dash("Contiguous", false), "the-final--countdown", []string{"the", "-", "final", "--", "countdown"}},
		{"merged with previous, at the ends", dash("MergedWithPrevious", false), "-a-", []string{"-", "a-"}},
		{"merged with next, at the ends", dash("MergedWithNext", false), "-a-", []string{"-a", "-"}},
		{"inverted, removed", dash("Removed", true), "the-final--countdown", []string{"-", "-", "-"}},
		{"inverted, merged with previous", dash("MergedWithPrevious", true), "a-b", []string{"a", "-b"}},
		{"inverted, merged with next", dash("MergedWithNext", true), "a-b", []string{"a-", "b"}},
		{"inverted, contiguous", dash("Contiguous", true), "a--b", []string{"a", "--", "b"}},
		{"a string is no pattern", splitPart("String", "a.", "Isolated", false), "a.ab", []string{"a.", "ab"}},
		{"the empty string is between all", splitPart("String", "", "Isolated", false), "éa", []string{"é", "a"}},
		{"regex", splitPart("Regex", `\s+`, "Removed", false), "a  b \t\nc", []string{"a", "b", "c"}},
		{"regex of words, inverted", splitPart("Regex", `\w+|[^\w\s]+`, "Removed", true), "How are you, ok?", []string{"How", "are", "you", ",", "ok", "?"}},

		{"digits", object{"type": "Digits", "individual_digits": false}, "Hey 123 ½²friend!", []string{"Hey ", "123", " ", "½²", "friend!"}},
		{"digits one by one", object{"type": "Digits", "individual_digits": true}, "Hey 123!", []string{"Hey ", "1", "2", "3", "!"}},
		{"punctuation", object{"type": "Punctuation"}, "Hey, $5?! —ok", []string{"Hey", ",", " ", "$", "5", "?", "!", " ", "—", "ok"}},
		{"punctuation, contiguous", object{"type": "Punctuation", "behavior": "Contiguous"}, "a?!b", []string{"a", "?!", "b"}},
		{"symbols beyond ASCII are none", object{"type": "Punctuation", "behavior": "Removed"}, "a€+b", []string{"a€", "b"}},
		{"whitespace", object{"type": "Whitespace"}, "Hey man! How_are  you?é½", []string{"Hey", "man", "!", "How_are", "you", "?", "é", "½"}},
		{"whitespace split", object{"type": "WhitespaceSplit"}, " Hey man!\u3000you?\n", []string{"Hey", "man!", "you?"}},

		{"byte level", byteLevelPart(false, true), "Hello my  é", []string{"Hello", "Ġmy", "Ġ", "ĠÃ©"}},
		{"byte level, prefix", byteLevelPart(true, true), "Hello", []string{"ĠHello"}},
		{"byte level, has its space", byteLevelPart(true, true), " Hello", []string{"ĠHello"}},
		{"byte level, whole", byteLevelPart(false, false), "a b\n", []string{"aĠbĊ"}},
		{"byte level, prefix for each piece", sequenceOf("pretokenizers", object{"type": "WhitespaceSplit"}, byteLevelPart(true, false)), "a b", []string{"Ġa", "Ġb"}},

		{"metaspace", metaspacePart("always", true), "Hey   friend!", []string{"▁Hey", "▁", "▁", "▁friend!"}},
		{"metaspace has its space", metaspacePart("always", true), " Hey", []string{"▁Hey"}},
		{"metaspace never", metaspacePart("never", true), "Hey you", []string{"Hey", "▁you"}},
		{"metaspace unsplit", metaspacePart("always", false), "Hey you", []string{"▁Hey▁you"}},
		{"metaspace of old files", object{"type": "Metaspace", "replacement": "▁", "add_prefix_space": true, "str_rep": "▁"}, "Hey you", []string{"▁Hey", "▁you"}},
		{"metaspace for each piece", sequenceOf("pretokenizers", splitPart("String", "-", "Removed", false), metaspacePart("always", true)), "a-b", []string{"▁a", "▁b"}},
		{"metaspace first, later piece", sequenceOf("pretokenizers", splitPart("String", "-", "Removed", false), metaspacePart("first", true)), "a-b", []string{"▁a", "b"}},
		{"metaspace first, input begins with what vanished", sequenceOf("pretokenizers", splitPart("String", "-", "Removed", false), metaspacePart("first", true)), "-b", []string{"b"}},
	} {
		tok := build(t, object{"model": bpeModel(nil), "pre_tokenizer": c.part})
		require.Equal(t, c.want, piecesOf(t, tok, c.text), c.name)
		require.Empty(t, piecesOf(t, tok, ""), c.name)
	}
}

// Which segments get the prefix when added tokens cut the text.
func TestMetaspaceSchemesAndAddedTokens(t *testing.T) {
	for scheme, want := range map[string][]string{
		"first":  {"▁a", "[<s>]", "b", "[<s>]", "▁c"},
		"always": {"▁a", "[<s>]", "▁b", "[<s>]", "▁c"},
		"never":  {"a", "[<s>]", "b", "[<s>]", "▁c"},
	} {
		tok := build(t, object{"model": bpeModel([]string{"<s>"}), "pre_tokenizer": metaspacePart(scheme, true), "added_tokens": []object{added(0, "<s>", nil)}})
		require.Equal(t, want, piecesOf(t, tok, "a<s>b<s> c"), scheme)
	}
	tok := build(t, object{"model": bpeModel([]string{"<s>"}), "pre_tokenizer": metaspacePart("first", true), "added_tokens": []object{added(0, "<s>", nil)}})
	require.Equal(t, []string{"[<s>]", "b"}, piecesOf(t, tok, "<s>b"), "the segment is not at the front of the input")

	// Normalization moves the origin of a piece as it moves characters.
	for _, c := range []struct {
		name       string
		normalizer object
		text       string
		want       []string
	}{
		{"stripped in front", object{"type": "Strip", "strip_left": true, "strip_right": false}, "  a b", []string{"a", "▁b"}},
		{"nothing to strip", object{"type": "Strip", "strip_left": true, "strip_right": false}, "a b", []string{"▁a", "▁b"}},
		{"prepended", object{"type": "Prepend", "prepend": "x"}, "a b", []string{"▁xa", "▁b"}},
		{"replaced, one character", object{"type": "Replace", "pattern": object{"String": "a"}, "content": "xy"}, "ab", []string{"▁xyb"}},
		{"replaced, the origin is the last of two characters", object{"type": "Replace", "pattern": object{"String": "ab"}, "content": "x"}, "abc", []string{"xc"}},
		{"lower case", object{"type": "Lowercase"}, "İb", []string{"▁i\u0307b"}},
		{"composed", object{"type": "NFC"}, "e\u0301b", []string{"▁éb"}},
	} {
		tok := build(t, object{"model": bpeModel(nil), "normalizer": c.normalizer, "pre_tokenizer": metaspacePart("first", true)})
		require.Equal(t, c.want, piecesOf(t, tok, c.text), c.name)
	}
}

// Stretches that are kept come in order and, unless removed, cover the text.
func TestBehaviorsKeepTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab ]{0,20}`).Draw(t, "text")
		invert := rapid.Bool().Draw(t, "invert")
		for name, b := range behaviors {
			out, err := splitter{predicate(isSpace), b, invert}.split([]piece{{text: text, id: -1}})
			require.NoError(t, err)
			var all strings.Builder
			for _, p := range out {
				require.NotEmpty(t, p.text)
				all.WriteString(p.text)
			}
			if b != removed {
				require.Equal(t, text, all.String(), name)
			} else if !invert {
				require.Equal(t, strings.ReplaceAll(text, " ", ""), all.String())
			}
		}
	})
}
