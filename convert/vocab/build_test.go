package vocab

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"encoding/base64"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/tokenizer"
)

// proto writes protobuf messages.
type proto []byte

func (p proto) varint(field int, v uint64) proto {
	p = binary.AppendUvarint(p, uint64(field)<<3)
	return binary.AppendUvarint(p, v)
}

func (p proto) flag(field int, v bool) proto {
	if v {
		return p.varint(field, 1)
	}
	return p.varint(field, 0)
}

func (p proto) float(field int, v float32) proto {
	p = binary.AppendUvarint(p, uint64(field)<<3|5)
	return binary.LittleEndian.AppendUint32(p, math.Float32bits(v))
}

func (p proto) bytes(field int, v []byte) proto {
	p = binary.AppendUvarint(p, uint64(field)<<3|2)
	p = binary.AppendUvarint(p, uint64(len(v)))
	return append(p, v...)
}

func (p proto) str(field int, v string) proto { return p.bytes(field, []byte(v)) }

// testPiece is a piece of a model to be written; a type of 0 is left out.
type testPiece struct {
	text  string
	score float32
	kind  pieceType
}

// testModel is a ModelProto to be written. The fields of the specs go behind
// those that a model like Llama 2's has.
type testModel struct {
	pieces      []testPiece
	bytes       bool
	dummyPrefix bool
	trainer     proto
	normalizer  proto
}

func (m testModel) write() []byte {
	var out proto
	for _, p := range m.pieces {
		piece := proto{}.str(1, p.text).float(2, p.score)
		if p.kind != 0 {
			piece = piece.varint(3, uint64(p.kind))
		}
		out = out.bytes(1, piece)
	}
	trainer := proto{}.str(1, "corpus.txt").varint(3, 2).varint(4, uint64(len(m.pieces))).float(10, 0.9995).flag(35, m.bytes)
	normalizer := proto{}.str(1, "identity").str(2, "").flag(3, m.dummyPrefix).flag(4, false)
	return out.bytes(2, append(trainer, m.trainer...)).bytes(3, append(normalizer, m.normalizer...))
}

// base are the pieces that every model has: <unk>, <s>, </s> and the bytes.
func base(withBytes bool) []testPiece {
	list := []testPiece{{"<unk>", 0, unknown}, {"<s>", 0, control}, {"</s>", 0, control}}
	for b := 0; withBytes && b < 256; b++ {
		list = append(list, testPiece{fmt.Sprintf("<0x%02X>", b), 0, byteValue})
	}
	return list
}

// smallModel has the pieces given behind those of base, each a little worse than
// the one before.
func smallModel(texts ...string) testModel {
	m := testModel{pieces: base(true), bytes: true, dummyPrefix: true}
	for i, s := range texts {
		m.pieces = append(m.pieces, testPiece{s, -float32(i), 0})
	}
	return m
}

type testRank struct {
	token []byte
	rank  int
}

func writeRanks(list []testRank) []byte {
	var out []byte
	for _, r := range list {
		out = append(out, base64.StdEncoding.EncodeToString(r.token)+" "+strconv.Itoa(r.rank)+"\n"...)
	}
	return out
}

// smallRanks has the 256 bytes and behind them the tokens given.
func smallRanks(tokens ...string) []testRank {
	var list []testRank
	for b := range 256 {
		list = append(list, testRank{[]byte{byte(b)}, b})
	}
	for i, s := range tokens {
		list = append(list, testRank{[]byte(s), 256 + i})
	}
	return list
}

// hfFile is what the tests read of a tokenizer.json.
type hfFile struct {
	AddedTokens []struct {
		ID                  int
		Content             string
		Special, Normalized bool
	} `json:"added_tokens"`
	Normalizer json.RawMessage
	Decoder    json.RawMessage
	Model      struct {
		Vocab  map[string]int
		Merges [][2]string
	}
}

func (f *hfFile) tokens() []string {
	var list []string
	for t := range f.Model.Vocab {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b string) int { return f.Model.Vocab[a] - f.Model.Vocab[b] })
	return list
}

type goldenCase struct {
	Text               string `json:"text"`
	IDs                []int  `json:"ids"`
	IDsWithSpecial     []int  `json:"ids_with_special"`
	Decoded            string `json:"decoded"`
	DecodedSkipSpecial string `json:"decoded_skip_special"`
}

// golden is a tokenizer.json and what the tokenizers library (0.23) gives for it.
type golden struct {
	file      hfFile
	cases     []goldenCase
	decodings []goldenCase
}

const goldenData = "../../tokenizer/testdata"

// loadGolden reads a folder of cases, or a file of package tokenizer's make.py.
func loadGolden(t testing.TB, name string) golden {
	t.Helper()
	read := func(path string) []byte {
		data, err := os.ReadFile(filepath.Join(goldenData, path))
		require.NoError(t, err)
		return data
	}
	var g golden
	if strings.HasSuffix(name, ".json") {
		var made struct {
			Tokenizer string
			Cases     []goldenCase
			Decodings []goldenCase
		}
		require.NoError(t, json.Unmarshal(read(name), &made))
		require.NoError(t, json.Unmarshal([]byte(made.Tokenizer), &g.file))
		g.cases, g.decodings = made.Cases, made.Decodings
	} else {
		require.NoError(t, json.Unmarshal(read(name+"/tokenizer.json"), &g.file))
		require.NoError(t, json.Unmarshal(read(name+"/cases.json"), &g.cases))
	}
	require.NotEmpty(t, g.cases)
	return g
}

func parse(t testing.TB, data []byte, err error) *tokenizer.Tokenizer {
	t.Helper()
	require.NoError(t, err)
	require.True(t, json.Valid(data))
	tok, err := tokenizer.Parse(data)
	require.NoError(t, err)
	return tok
}

func encode(t require.TestingT, tok *tokenizer.Tokenizer, text string) []int {
	ids, err := tok.Encode(text, tokenizer.EncodeOptions{})
	require.NoError(t, err)
	return ids
}

func tokenizerOf(t require.TestingT, data []byte) *tokenizer.Tokenizer {
	tok, err := tokenizer.Parse(data)
	require.NoError(t, err)
	return tok
}
