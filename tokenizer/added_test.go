package tokenizer

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAddedTokens(t *testing.T) {
	prepend := object{"type": "Prepend", "prepend": "▁"}
	for _, c := range []struct {
		name       string
		flags      object
		normalizer any
		text       string
		want       []string
	}{
		{"plain", nil, nil, "a <x>b", []string{"a ", "[<x>]", "b"}},
		{"alone", nil, nil, "<x>", []string{"[<x>]"}},
		{"twice", nil, nil, "<x><x>", []string{"[<x>]", "[<x>]"}},
		{"lstrip", object{"lstrip": true}, nil, "a \n<x> b", []string{"a", "[<x>]", " b"}},
		{"rstrip", object{"rstrip": true}, nil, "a <x> \u3000b", []string{"a ", "[<x>]", "b"}},
		{"both, the first takes the space between", object{"lstrip": true, "rstrip": true}, nil, " <x> <x> ", []string{"[<x>]", "[<x>]"}},
		{"single word", object{"single_word": true}, nil, "<x> a<x> <x>é <x>_ <x>.", []string{"[<x>]", " a<x> <x>é <x>_ ", "[<x>]", "."}},
		{"before normalization", nil, prepend, "a<x>b", []string{"▁a", "[<x>]", "▁b"}},
		{"after normalization, by its normalized spelling", object{"normalized": true}, prepend, "<x>b<x>", []string{"[<x>]", "b<x>"}},
		{"after normalization, in what it left", object{"normalized": true}, object{"type": "Lowercase"}, "A<X>B", []string{"a", "[<x>]", "b"}},
		{"not in what it left", nil, object{"type": "Lowercase"}, "A<X>B", []string{"a<x>b"}},
		{"normalized without a normalizer", object{"normalized": true}, nil, "a<x>", []string{"a", "[<x>]"}},
	} {
		tok := build(t, object{"model": bpeModel(nil), "normalizer": c.normalizer, "added_tokens": []object{added(0, "<x>", c.flags)}})
		require.Equal(t, c.want, piecesOf(t, tok, c.text), c.name)
	}
}

func TestAddedTokensTogether(t *testing.T) {
	tok := build(t, object{"model": bpeModel(nil), "added_tokens": []object{
		added(0, "ab", nil), added(1, "abcd", nil), added(2, "bcde", nil), added(3, "b", nil), added(4, "é", nil), added(5, " x", nil), added(6, "r", object{"rstrip": true}),
	}})
	require.Equal(t, []string{"[abcd]", "e"}, piecesOf(t, tok, "abcde"), "leftmost, then longest")
	require.Equal(t, []string{"[ab]", "c", "[é]", "a"}, piecesOf(t, tok, "abcéa"))
	require.Equal(t, []string{"Ã", "[b]"}, piecesOf(t, tok, "Ãb"))
	require.Equal(t, []string{"[r]", "[ x]", "y"}, piecesOf(t, tok, "r xy"), "a match in space that another took")
	require.Empty(t, piecesOf(t, tok, ""))
}

func TestAddedTokensInModel(t *testing.T) {
	tok := build(t, object{"model": bpeModel([]string{"a", "<s>"}), "added_tokens": []object{
		added(1, "<s>", object{"special": true}), added(2, "new", nil), added(3, "", nil)}})
	require.Equal(t, 3, tok.VocabSize(), "an empty token is passed over")
	require.Equal(t, []int{0, 1, 0, 2}, encode(t, tok, "a<s>anew"))
	id, ok := tok.ID("new")
	require.True(t, ok)
	require.Equal(t, 2, id)
	_, ok = tok.ID("none")
	require.False(t, ok)
	require.True(t, tok.IsSpecial(1))
	require.False(t, tok.IsSpecial(2) || tok.IsSpecial(-1) || tok.IsSpecial(99))
}

func TestNoParseSpecial(t *testing.T) {
	tok := build(t, object{"model": with(bpeModel([]string{"<", "s", ">", "<s>"}), object{"ignore_merges": true}), "added_tokens": []object{
		added(3, "<s>", object{"special": true}), added(4, "new", nil)}})
	plain := EncodeOptions{NoParseSpecial: true}
	ids, err := tok.Encode("<s>new<s>", plain)
	require.NoError(t, err)
	require.Equal(t, []int{0, 1, 2, 4, 0, 1, 2}, ids, "not even where the model has the spelling whole")
	require.Equal(t, []int{3, 4}, encode(t, tok, "<s>new"))

	demo := load(t, demoPath)
	ids, err = demo.Encode("<eos>", plain)
	require.NoError(t, err)
	require.NotContains(t, ids, 2)
	text, err := demo.Decode(ids, true)
	require.NoError(t, err)
	require.Equal(t, "<eos>", text)
}

func TestLongestAddedToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spellings := rapid.SliceOfNDistinct(rapid.StringMatching(`[abé]{1,5}`), 1, 12, rapid.ID).Draw(t, "tokens")
		var tokens []*addedToken
		for i, s := range spellings {
			tokens = append(tokens, &addedToken{id: i, content: s})
		}
		m, err := newAddedMatcher(tokens, func(a *addedToken) (string, error) { return a.content, nil })
		require.NoError(t, err)
		text := rapid.StringMatching(`[abé]{1,30}`).Draw(t, "text")
		for at := range text {
			want := ""
			for _, s := range spellings {
				if strings.HasPrefix(text[at:], s) && len(s) > len(want) {
					want = s
				}
			}
			got, n := m.longest(text[at:])
			require.Equal(t, len(want), n)
			if n > 0 {
				require.Equal(t, want, got.content)
			} else {
				require.Nil(t, got)
			}
		}
	})
}
