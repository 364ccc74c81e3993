package tokenizer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

func TestNormalizers(t *testing.T) {
	for _, c := range []struct {
		name string
		part any
		text string
		want string
	}{
		{"none", nil, "A", "A"},
		{"prepend", object{"type": "Prepend", "prepend": "▁"}, "Hello", "▁Hello"},
		{"prepend twice", sequenceOf("normalizers", object{"type": "Prepend", "prepend": "▁"}, object{"type": "Prepend", "prepend": "x"}), " a", "x▁ a"},
		{"replace", object{"type": "Replace", "pattern": object{"String": "''"}, "content": "\""}, "a ''b''", "a \"b\""},
		{"replace a pattern", object{"type": "Replace", "pattern": object{"Regex": `\s+`}, "content": " "}, "a \n b", "a b"},
		{"replace by nothing", object{"type": "Replace", "pattern": object{"Regex": `[aeiou]`}, "content": ""}, "aeb", "b"},
		{"content is no template", object{"type": "Replace", "pattern": object{"Regex": `(a)`}, "content": "$1$0"}, "a", "$1$0"},
		{"strip both", object{"type": "Strip", "strip_left": true, "strip_right": true}, " \u3000a b\n", "a b"},
		{"strip right", object{"type": "Strip", "strip_left": false, "strip_right": true}, " a ", " a"},
		{"strip all", object{"type": "Strip", "strip_left": true, "strip_right": true}, " \n ", ""},
		{"strip accents", object{"type": "StripAccents"}, "e\u0301é\u0e4d", "eé"},
		{"decompose and strip accents", sequenceOf("normalizers", object{"type": "NFD"}, object{"type": "StripAccents"}), "né\u1ea5", "nea"},
		{"lower case", object{"type": "Lowercase"}, "ÀΣΑΣİǅẞ", "àσασi\u0307ǆß"},
		{"NFC", object{"type": "NFC"}, "e\u0301ﬁ한", "éﬁ한"},
		{"NFD", object{"type": "NFD"}, "é", "e\u0301"},
		{"NFKC", object{"type": "NFKC"}, "ﬁ①e\u0301\u00a0", "fi1é "},
		{"NFKD", object{"type": "NFKD"}, "ﬁé", "fie\u0301"},
		{"byte level", object{"type": "ByteLevel"}, "é a", "Ã©Ġa"},
		{"nothing at all", sequenceOf("normalizers"), "A", "A"},
	} {
		tok := build(t, object{"model": bpeModel(nil), "normalizer": c.part})
		want := []string{c.want}
		if c.want == "" {
			want = []string{}
		}
		require.Equal(t, want, piecesOf(t, tok, c.text), c.name)
		require.Empty(t, piecesOf(t, tok, ""), c.name)
	}
}

// x/text agrees with the definition wherever it does not cut long runs.
func TestUnicodeForms(t *testing.T) {
	forms := map[string]unicodeForm{"NFC": nfc, "NFD": nfd, "NFKC": nfkc, "NFKD": nfkd}
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.OneOf(
			rapid.SampledFrom(chars("aeoAéÅﬁ한각각가\u0301\u0323\u0307\u0345\u0f73\u0f71\u0f72ßǆ\u1e9bⅷ½\u0344\u0958\u2126\u212b\u0c46\u0c56\u0cc6\u0cc2\u0cd5")),
			rapid.StringN(1, 1, 4),
		)
		text := lossy(strings.Join(rapid.SliceOfN(parts, 0, 12).Draw(t, "text"), ""))
		for name, f := range forms {
			require.Equal(t, f.fast.String(text), f.byTheBook(text), "%s of %+q", name, text)
			require.Equal(t, f.fast.String(text), f.apply(text), "%s of %+q", name, text)
		}
	})
	marks := "a" + strings.Repeat("\u0301", 40) + strings.Repeat("\u0323", 40)
	require.NotEqual(t, norm.NFC.String(marks), nfc.apply(marks), "x/text would put U+034F in")
	require.Equal(t, "ạ"+strings.Repeat("\u0323", 39)+strings.Repeat("\u0301", 40), nfc.apply(marks))
	require.Equal(t, "a"+strings.Repeat("\u0323", 40)+strings.Repeat("\u0301", 40), nfd.apply(marks))
}

func TestLossy(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"aé中😀":                    "aé中😀",
		"\x80":                    "\uFFFD",
		"\xC0\xAF":                "\uFFFD\uFFFD",
		"\xE2\x82":                "\uFFFD",
		"\xE2\x82a":               "\uFFFDa",
		"\xE2\x82\xE2\x82\xAC":    "\uFFFD€",
		"\xED\xA0\x80":            "\uFFFD\uFFFD\uFFFD",
		"\xF0\x9F\x98":            "\uFFFD",
		"\xF0\x9F\x41":            "\uFFFDA",
		"\xF0\x80\xF5\xC0":        "\uFFFD\uFFFD\uFFFD\uFFFD",
		"\xF4\xBF\xE2":            "\uFFFD\uFFFD\uFFFD",
		"\xF4\x8F\xBF\xBF":        "\U0010FFFF",
		"\xF5\xC3\xC3\x98\xA0":    "\uFFFD\uFFFDØ\uFFFD",
		"Hello \xF0\x90\x80World": "Hello \uFFFDWorld",
	} {
		require.Equal(t, want, lossy(in), "%x", in)
	}
	tok := build(t, object{"model": bpeModel([]string{"ï¿½", "ï", "¿", "½", "ï¿"}, []string{"ï", "¿"}, []string{"ï¿", "½"}), "pre_tokenizer": byteLevelPart(false, false)})
	require.Equal(t, []int{0}, encode(t, tok, "\xE2\x82"))
}
