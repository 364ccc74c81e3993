package vocab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func decodeFile(t require.TestingT, data []byte) *hfFile {
	var f hfFile
	require.NoError(t, json.Unmarshal(data, &f))
	return &f
}

// referenceSentencePiece encodes as bpe_model.cc defines it: characters and
// user-defined symbols (the longest, which never merge), then of all neighbours
// that spell a piece the one of the best score, the leftmost of these.
func referenceSentencePiece(m testModel, text string) []int {
	ids := map[string]int{}
	scores := map[string]float32{}
	longest := 0
	user := map[string]bool{}
	for id, p := range m.pieces {
		ids[p.text] = id
		switch p.kind {
		case 0, normal, unused:
			scores[p.text] = p.score
		case userDefined:
			user[p.text] = true
			longest = max(longest, len(p.text))
		}
	}
	if text == "" {
		return []int{}
	}
	if m.dummyPrefix {
		text = " " + text
	}
	text = strings.ReplaceAll(text, " ", space)
	var symbols []string
	for text != "" {
		n := min(longest, len(text))
		for n > 0 && !user[text[:n]] {
			n--
		}
		if n == 0 {
			_, n = utf8.DecodeRuneInString(text)
		}
		symbols = append(symbols, text[:n])
		text = text[n:]
	}
	for {
		best := -1
		var bestScore float32
		for i := 0; i+1 < len(symbols); i++ {
			if user[symbols[i]] || user[symbols[i+1]] {
				continue
			}
			if s, ok := scores[symbols[i]+symbols[i+1]]; ok && (best < 0 || s > bestScore) {
				best, bestScore = i, s
			}
		}
		if best < 0 {
			break
		}
		symbols = slices.Replace(symbols, best, best+2, symbols[best]+symbols[best+1])
	}
	out := []int{}
	for _, s := range symbols {
		id, ok := ids[s]
		switch {
		case ok:
			out = append(out, id)
		case m.bytes:
			for _, b := range []byte(s) {
				out = append(out, ids[fmt.Sprintf("<0x%02X>", b)])
			}
		case len(out) == 0 || out[len(out)-1] != ids["<unk>"]:
			out = append(out, ids["<unk>"])
		}
	}
	return out
}

// drawTokens makes a vocabulary over an alphabet by joining tokens at random, in
// any order: regular ones and such whose parts are worse than they are.
func drawTokens(t *rapid.T, alphabet []string) []string {
	tokens := slices.Clone(alphabet)
	seen := map[string]bool{}
	for _, s := range tokens {
		seen[s] = true
	}
	for range rapid.IntRange(0, 40).Draw(t, "joins") {
		s := rapid.SampledFrom(tokens).Draw(t, "left") + rapid.SampledFrom(tokens).Draw(t, "right")
		if !seen[s] && len(s) < 40 {
			seen[s] = true
			tokens = append(tokens, s)
		}
	}
	return tokens
}

func TestSentencePieceReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := testModel{dummyPrefix: rapid.Bool().Draw(t, "dummy prefix"), bytes: rapid.Bool().Draw(t, "bytes")}
		m.pieces = base(m.bytes)
		texts := drawTokens(t, []string{"a", "b", "c", "é", space})
		if rapid.Bool().Draw(t, "shuffled") {
			texts = rapid.Permutation(texts).Draw(t, "order")
		}
		ranked := rapid.Permutation(texts).Draw(t, "scores")
		letters := []string{"a", "b", "c", "é", " ", "日", "<x>", "<", "x", "\n"}
		for _, s := range texts {
			m.pieces = append(m.pieces, testPiece{s, -float32(slices.Index(ranked, s)), 0})
		}
		if !m.dummyPrefix && rapid.Bool().Draw(t, "symbols") {
			for _, s := range []string{"<x>", "<x><x>", "\n", "aab" + space, space + space + space} {
				if !slices.Contains(texts, s) {
					m.pieces = append(m.pieces, testPiece{s, 0, userDefined})
				}
			}
		}
		data := m.write()
		out, err := SentencePiece(data)
		require.NoError(t, err)
		require.Equal(t, "sentencepiece", Detect(data))
		tok := tokenizerOf(t, out)
		for range 20 {
			text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(letters), 0, 30).Draw(t, "text"), "")
			require.Equal(t, referenceSentencePiece(m, text), append([]int{}, encode(t, tok, text)...), "%q", text)
			if m.bytes {
				ids := encode(t, tok, text)
				back, err := tok.Decode(ids, false)
				require.NoError(t, err)
				require.Equal(t, text, back)
			}
		}
	})
}

// Runs of white space have one score in Llama 2, and the leftmost goes first.
func TestWhiteSpaceReference(t *testing.T) {
	for _, dummyPrefix := range []bool{false, true} {
		m := smallModel("a", "b", "ab", space+"a", space+"ab", space)
		m.dummyPrefix = dummyPrefix
		for n := 2; n <= 16; n++ {
			m.pieces = append(m.pieces, testPiece{strings.Repeat(space, n), -1e9, 0})
		}
		out, err := SentencePiece(m.write())
		tok := parse(t, out, err)
		for _, form := range []string{"%s", "a%s", "%sab", "b%sab  a", "ab%sb%[1]s"} {
			for n := range 60 {
				text := fmt.Sprintf(form, strings.Repeat(" ", n))
				require.Equal(t, referenceSentencePiece(m, text), append([]int{}, encode(t, tok, text)...), "%q", text)
			}
		}
	}
}

// A user-defined symbol behind a dummy prefix is found as well, and the text
// behind it begins with a prefix anew, as transformers has it.
func TestUserDefinedBehindPrefix(t *testing.T) {
	m := smallModel("a", "b", "<", "x", ">", space)
	m.pieces = append(m.pieces, testPiece{"<x>", 0, userDefined})
	out, err := SentencePiece(m.write())
	tok := parse(t, out, err)
	id := func(s string) int {
		id, ok := tok.ID(s)
		require.True(t, ok)
		return id
	}
	require.Equal(t, []int{id(space), id("a"), id("<x>"), id(space), id("b")}, encode(t, tok, "a<x>b"))
	f := decodeFile(t, out)
	last := f.AddedTokens[len(f.AddedTokens)-1]
	require.Equal(t, "<x>", last.Content)
	require.False(t, last.Special)
	require.False(t, last.Normalized)
}

// referenceTiktoken encodes one word as tiktoken defines it.
func referenceTiktoken(ranks map[string]int, word string) []int {
	if rank, ok := ranks[word]; ok {
		return []int{rank}
	}
	parts := strings.Split(word, "")
	if !utf8.ValidString(word) || len(parts) != len(word) {
		parts = parts[:0]
		for i := range len(word) {
			parts = append(parts, word[i:i+1])
		}
	}
	for {
		best, bestRank := -1, 0
		for i := 0; i+1 < len(parts); i++ {
			if rank, ok := ranks[parts[i]+parts[i+1]]; ok && (best < 0 || rank < bestRank) {
				best, bestRank = i, rank
			}
		}
		if best < 0 {
			break
		}
		parts = slices.Replace(parts, best, best+2, parts[best]+parts[best+1])
	}
	ids := []int{}
	for _, p := range parts {
		ids = append(ids, ranks[p])
	}
	return ids
}

func TestTiktokenReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []string
		for b := range 256 {
			all = append(all, string([]byte{byte(b)}))
		}
		// The letters of the texts are one word to the pattern.
		all = append(all, drawTokens(t, []string{"a", "b", "c", "\xc3", "\xa9"})[5:]...)
		if rapid.Bool().Draw(t, "shuffled") {
			all = rapid.Permutation(all).Draw(t, "order")
		}
		ranks := map[string]int{}
		var list []testRank
		special := map[string]int{}
		gap := 0
		for i, s := range all {
			if gap == 0 && rapid.IntRange(0, len(all)).Draw(t, "gap") == 0 {
				special["<|gap|>"] = i
				gap = 1
			}
			ranks[s] = i + gap
			list = append(list, testRank{[]byte(s), i + gap})
		}
		special["<|end|>"] = len(all) + gap + rapid.IntRange(0, 3).Draw(t, "end")
		out, err := Tiktoken(writeRanks(list), special, "")
		require.NoError(t, err)
		tok := tokenizerOf(t, out)
		for range 20 {
			text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "é"}), 1, 30).Draw(t, "text"), "")
			want := referenceTiktoken(ranks, text)
			require.Equal(t, want, encode(t, tok, text), "%q", text)
			require.Equal(t, append(append(slices.Clone(want), special["<|end|>"]), want...), encode(t, tok, text+"<|end|>"+text))
			back, err := tok.Decode(want, false)
			require.NoError(t, err)
			require.Equal(t, text, back)
		}
	})
}

// referenceMerges is every way to cut every token into two.
func referenceMerges(tokens [][]byte) []merge {
	ids := map[string]int32{}
	for i, s := range tokens {
		ids[string(s)] = int32(i)
	}
	var list []merge
	for i, s := range tokens {
		for cut := 1; cut < len(s); cut++ {
			left, ok1 := ids[string(s[:cut])]
			right, ok2 := ids[string(s[cut:])]
			if ok1 && ok2 {
				list = append(list, merge{int32(i), left, right})
			}
		}
	}
	return list
}

func TestMergesReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfNDistinct(rapid.StringMatching(`[ab]{1,8}`), 0, 60, rapid.ID).Draw(t, "tokens")
		tokens := make([][]byte, len(texts))
		order := make([]int32, len(texts))
		for i, s := range texts {
			tokens[i], order[i] = []byte(s), int32(i)
		}
		a := newAffixes(tokens, sorted(tokens), func(int32) bool { return true })
		got, ok := a.all(order, 1<<20)
		require.True(t, ok)
		require.ElementsMatch(t, referenceMerges(tokens), got)
		require.True(t, slices.IsSortedFunc(got, func(a, b merge) int {
			if a.token != b.token {
				return int(a.token - b.token)
			}
			return int(a.left - b.left)
		}))
	})
}

// Sorting by words is sorting by bytes, from either end.
func TestSortReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xFF}), 0, 20), 0, 50).Draw(t, "tokens")
		common := rapid.SliceOfN(rapid.Just(byte('a')), 0, 20).Draw(t, "common")
		for i := range tokens {
			if rapid.Bool().Draw(t, "ends alike") {
				tokens[i] = append(tokens[i], common...)
			}
		}
		want := make([]int32, len(tokens))
		for i := range want {
			want[i] = int32(i)
		}
		reversed := slices.Clone(want)
		slices.SortStableFunc(want, func(i, j int32) int { return bytes.Compare(tokens[i], tokens[j]) })
		require.Equal(t, want, sorted(tokens))
		got := slices.Clone(reversed)
		flip := func(s []byte) []byte {
			s = slices.Clone(s)
			slices.Reverse(s)
			return s
		}
		slices.SortStableFunc(reversed, func(i, j int32) int { return bytes.Compare(flip(tokens[i]), flip(tokens[j])) })
		sortBy(tokens, got, lastBytes, compareReversed)
		require.Equal(t, reversed, got)
	})
}
