package vocab

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/tokenizer"
)

// rebuildModel writes the ModelProto that SentencePiece would have trained: ids as
// they are, scores that fall with the rank of the merge, characters below.
func rebuildModel(f *hfFile, dummyPrefix bool) testModel {
	rank := map[string]int{}
	for i, m := range f.Model.Merges {
		if _, known := rank[m[0]+m[1]]; !known {
			rank[m[0]+m[1]] = i
		}
	}
	m := testModel{bytes: true, dummyPrefix: dummyPrefix}
	for id, text := range f.tokens() {
		p := testPiece{text: text, kind: normal}
		switch r, merged := rank[text]; {
		case text == "<unk>":
			p.kind = unknown
		case text == "<s>" || text == "</s>":
			p.kind = control
		case isByte([]byte(text)):
			p.kind = byteValue
		case merged:
			p.score = -float32(r)
		default:
			p.score = -float32(len(rank) + id)
		}
		m.pieces = append(m.pieces, p)
	}
	return m
}

func (g *golden) require(t *testing.T, tok *tokenizer.Tokenizer, beginning bool) {
	t.Helper()
	decodes := func(ids []int, c goldenCase) {
		text, err := tok.Decode(ids, true)
		require.NoError(t, err)
		require.Equal(t, c.DecodedSkipSpecial, text, "%v", ids)
	}
	for _, c := range g.cases {
		require.Equal(t, c.IDs, append([]int{}, encode(t, tok, c.Text)...), "%q", c.Text)
		decodes(c.IDs, c)
		if !beginning {
			continue
		}
		ids, err := tok.Encode(c.Text, tokenizer.EncodeOptions{AddSpecial: true})
		require.NoError(t, err)
		require.Equal(t, c.IDsWithSpecial, ids, "%q", c.Text)
		decodes(c.IDsWithSpecial, c)
	}
	for _, c := range g.decodings {
		text, err := tok.Decode(c.IDs, false)
		require.NoError(t, err)
		require.Equal(t, c.Decoded, text, "%v", c.IDs)
		decodes(c.IDs, c)
	}
}

func TestSentencePieceGolden(t *testing.T) {
	for _, c := range []struct {
		name        string
		dummyPrefix bool
		cases       int
	}{{"metaspace-llama2", true, 95}, {"made/llama2.json", true, 37}, {"made/gemma.json", false, 37}} {
		t.Run(c.name, func(t *testing.T) {
			g := loadGolden(t, c.name)
			require.Len(t, g.cases, c.cases)
			out, err := SentencePiece(rebuildModel(&g.file, c.dummyPrefix).write())
			tok := parse(t, out, err)
			require.Equal(t, len(g.file.Model.Vocab), tok.VocabSize())
			g.require(t, tok, true)
		})
	}
}

// The components are those of the library's own file of that kind.
func TestSentencePieceComponents(t *testing.T) {
	g := loadGolden(t, "metaspace-llama2")
	out, err := SentencePiece(rebuildModel(&g.file, true).write())
	parse(t, out, err)
	got := decodeFile(t, out)
	require.JSONEq(t, string(g.file.Normalizer), string(got.Normalizer))
	require.JSONEq(t, string(g.file.Decoder), string(got.Decoder))
	require.Equal(t, g.file.AddedTokens, got.AddedTokens)
	require.Equal(t, g.file.Model.Vocab, got.Model.Vocab)
	require.Subset(t, got.Model.Merges, g.file.Model.Merges)
}

// rebuildRanks writes the tokens of the vocabulary that are not special, with
// their ids for ranks.
func rebuildRanks(t *testing.T, f *hfFile) (data []byte, special map[string]int) {
	t.Helper()
	special = map[string]int{}
	for _, a := range f.AddedTokens {
		special[a.Content] = a.ID
	}
	var list []testRank
	for _, text := range f.tokens() {
		if _, ok := special[text]; ok {
			continue
		}
		b, ok := spelledBytes([]byte(text))
		require.True(t, ok, "%q", text)
		list = append(list, testRank{b, f.Model.Vocab[text]})
	}
	return writeRanks(list), special
}

// In made/llama3.json special tokens come first, in the vocabulary itself, and the
// one in front of texts has another name than in Llama 3.
func TestTiktokenGolden(t *testing.T) {
	for _, c := range []struct {
		name      string
		beginning bool
		cases     int
	}{{"bytelevel-llama3", true, 95}, {"made/llama3.json", false, 37}} {
		t.Run(c.name, func(t *testing.T) {
			g := loadGolden(t, c.name)
			require.Len(t, g.cases, c.cases)
			data, special := rebuildRanks(t, &g.file)
			require.Equal(t, "tiktoken", Detect(data))
			out, err := Tiktoken(data, special, "")
			tok := parse(t, out, err)
			g.require(t, tok, c.beginning)
			got := decodeFile(t, out)
			require.Equal(t, g.file.Model.Vocab, got.Model.Vocab)
			require.Subset(t, got.Model.Merges, g.file.Model.Merges)
			require.Equal(t, "tokenizer.json", Detect(out))
		})
	}
}
