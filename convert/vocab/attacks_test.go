package vocab

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// change returns a small model with something wrong.
func change(f func(m *testModel)) []byte {
	m := smallModel("a", "b", "ab", space)
	f(&m)
	return m.write()
}

func add(pieces ...testPiece) []byte {
	return change(func(m *testModel) { m.pieces = append(m.pieces, pieces...) })
}

func TestSentencePieceRefuses(t *testing.T) {
	good := change(func(*testModel) {})
	for _, c := range []struct {
		name        string
		data        []byte
		unsupported bool
		err         string
	}{
		{"empty", nil, false, "SentencePiece model: pieces: got none, want a vocabulary"},
		{"cut", good[:len(good)-1], false, "model: got 16 bytes in field 3, want at most the 15 that are left: the file is cut off or damaged"},
		{"field 0", append([]byte{0x02, 0x00}, good...), false, "offset 0: model: got field number 0, want 1 to 536870911"},
		{"field too large", append(proto{}.varint(1<<29, 1), good...), false, "field number 536870912"},
		{"long varint", append(bytes.Repeat([]byte{0xFF}, 10), 1), false, "offset 0: model: got a number of more than 64 bits"},
		{"open varint", []byte{0x88}, false, "offset 0: model: got the end inside a number"},
		{"group", []byte{0x0B}, false, "wire type 3 in field 1, want 0, 1, 2 or 5"},
		{"length huge", []byte{0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F}, false, "9223372036854775807 bytes in field 1, want at most the 0 that are left"},
		{"length across the message", proto{}.bytes(1, []byte{0x0A, 0x05, 'a'}), false, "offset 2: piece 0: got 5 bytes in field 1, want at most the 1 that are left"},
		{"fixed cut", proto{}.bytes(1, []byte{0x15, 0, 0}), false, "offset 2: piece 0: got 2 bytes in field 2, want 4"},
		{"piece no message", proto{}.varint(1, 5), false, "offset 0: model: piece: got wire type 0, want 2"},
		{"score a varint", proto{}.bytes(1, proto{}.str(1, "a").varint(2, 1)), false, "piece 0: score: got wire type 0, want 5"},
		{"type a string", proto{}.bytes(1, proto{}.str(1, "a").str(3, "x")), false, "piece 0: type: got wire type 2, want 0"},
		{"text a varint", proto{}.bytes(1, proto{}.varint(1, 7)), false, "piece 0: piece: got wire type 0, want 2"},
		{"empty piece", add(testPiece{}), false, `piece 263: piece: got an empty piece`},
		{"long piece", add(testPiece{strings.Repeat("a", maxPiece), 0, normal}), false, "got 8000 bytes, want less than 8000"},
		{"piece no UTF-8", add(testPiece{"\xff", 0, normal}), false, `got "\xff", want UTF-8`},
		{"piece with zero", add(testPiece{"a\x00", 0, normal}), false, `got "a\x00", want no zero byte`},
		{"score NaN", add(testPiece{"c", float32(math.NaN()), normal}), false, "score: got NaN, want a finite number"},
		{"score infinite", add(testPiece{"c", float32(math.Inf(-1)), normal}), false, "score: got -Inf"},
		{"type 7", add(testPiece{"c", 0, 7}), false, "type: got 7, want 1 to 6"},
		{"type negative", add(testPiece{"c", 0, -1}), false, "type: got 2147483647, want 1 to 6"},
		{"piece twice", add(testPiece{"ab", 0, normal}), false, `piece 263: got "ab", as piece 261, want every piece once`},
		{"two unknown", add(testPiece{"<unk2>", 0, unknown}), false, `a second unknown piece "<unk2>", want one; piece 0 is the first`},
		{"no unknown", change(func(m *testModel) { m.pieces[0].kind = control }), false, "no piece of type unknown"},
		{"byte missing", change(func(m *testModel) { m.pieces = append(m.pieces[:10:10], m.pieces[11:]...) }), false, "got 255 bytes, want 256"},
		{"byte misspelled", add(testPiece{"<0x0a>", 0, byteValue}), false, `the byte "<0x0a>", want <0x00> to <0xFF>`},
		{"byte no byte", add(testPiece{"x", 0, byteValue}), false, `the byte "x"`},
		{"bytes without fallback", change(func(m *testModel) { m.bytes = false }), false, "none, as trainer_spec.byte_fallback is false"},
		{"byte by another type", add(testPiece{"<0x0a>", 0, normal}), true, `"<0x0a>", no byte by its type`},
		{"byte with a sign", add(testPiece{"<0x+a>", 0, control}), true, `"<0x+a>", no byte by its type`},
		{"model type 9", change(func(m *testModel) { m.trainer = m.trainer.varint(3, 9) }), false, "trainer_spec: model_type: got 9, want 1 to 4"},
		{"model type a string", change(func(m *testModel) { m.trainer = m.trainer.str(3, "BPE") }), false, "model_type: got wire type 2, want 0"},
		{"unigram", change(func(m *testModel) { m.trainer = m.trainer.varint(3, 1) }), true, "a unigram model is not supported, want a BPE model; a unigram model takes the likeliest"},
		{"word", change(func(m *testModel) { m.trainer = m.trainer.varint(3, 3) }), true, "a word model is not supported"},
		{"char", change(func(m *testModel) { m.trainer = m.trainer.varint(3, 4) }), true, "a char model is not supported"},
		{"no specs", proto{}.bytes(1, proto{}.str(1, "<unk>").varint(3, 2)), true, "a unigram model"},
		{"suffix", change(func(m *testModel) { m.trainer = m.trainer.flag(24, true) }), true, "treat_whitespace_as_suffix: true is not supported"},
		{"character map", change(func(m *testModel) { m.normalizer = m.normalizer.str(1, "nmt_nfkc").str(2, "map") }), true, `the character map of rule "nmt_nfkc", 3 bytes, is not supported`},
		{"white space removed", change(func(m *testModel) { m.normalizer = m.normalizer.flag(4, true) }), true, "remove_extra_whitespaces: true"},
		{"white space not escaped", change(func(m *testModel) { m.normalizer = m.normalizer.flag(5, false) }), true, "escape_whitespaces: false"},
		{"denormalizer", append(good[:len(good):len(good)], proto{}.bytes(5, proto{}.str(2, "map"))...), true, "denormalizer_spec: precompiled_charsmap: a character map is not supported"},
		{"two trainer specs", append(good[:len(good):len(good)], proto{}.bytes(2, nil)...), false, "trainer_spec: got a second one, want one"},
		{"two normalizer specs", append(good[:len(good):len(good)], proto{}.bytes(3, nil)...), false, "normalizer_spec: got a second one, want one"},
		{"unused", add(testPiece{"ba", 0, unused}), true, `the unused piece "ba", which others merge into`},
		{"missing last character", add(testPiece{"ac", 0, normal}), true, `"ac", of a character that is no piece, is not supported, want a piece "c"`},
		{"missing first character", add(testPiece{"cab", 0, normal}), true, `want a piece "c"`},
		{"missing characters", add(testPiece{"cd", 0, normal}), true, `want a piece "c"`},
		{"control character in a piece", add(testPiece{"c", 0, control}, testPiece{"ca", 0, normal}), true, `want a piece "c"`},
		{"symbol with a space", add(testPiece{"a b", 0, userDefined}), true, `the user-defined symbol "a b" with U+0020`},
		{"symbol with white space", add(testPiece{space + space, 0, userDefined}), true, "in a model with add_dummy_prefix"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := SentencePiece(c.data)
			require.ErrorContains(t, err, c.err)
			require.Nil(t, out)
			requireType(t, err, c.unsupported)
		})
	}
}

// A file that is cut anywhere lacks a byte of a message or the normalizer's spec.
func TestSentencePieceCut(t *testing.T) {
	good := change(func(*testModel) {})
	for n := range good {
		_, err := SentencePiece(good[:n])
		require.Error(t, err, "%d bytes", n)
	}
}

func requireType(t *testing.T, err error, unsupported bool) {
	t.Helper()
	var format *FormatError
	var other *UnsupportedError
	require.Equal(t, !unsupported, errors.As(err, &format))
	require.Equal(t, unsupported, errors.As(err, &other))
}

// What looks like one of the above and is in order.
func TestSentencePieceTakes(t *testing.T) {
	for name, data := range map[string][]byte{
		"unused that nothing merges into": add(testPiece{"zz", 0, unused}),
		"unused character":                add(testPiece{"z", 0, unused}),
		"no way to the piece":             add(testPiece{"azb", 0, normal}),
		"unknown fields":                  append(change(func(m *testModel) { m.trainer = m.trainer.str(200, "x").float(99, 1) }), proto{}.bytes(4, []byte("self test")).varint(1000, 1)...),
		"fixed64 field":                   append(change(func(*testModel) {}), append(proto{0xE1, 0x3F}, make([]byte, 8)...)...),
		"escapes":                         add(testPiece{"\"", -10, normal}, testPiece{"\\", -11, normal}, testPiece{"\n\x1f\x7f\u2028", -12, control}),
		"normal <0x":                      add(testPiece{"<0xzz>", 0, normal}),
	} {
		t.Run(name, func(t *testing.T) {
			out, err := SentencePiece(data)
			parse(t, out, err)
		})
	}
}

func TestBeginningPiece(t *testing.T) {
	// Its own name for the token, and a piece of that name that is no control piece.
	out, err := SentencePiece(change(func(m *testModel) { m.trainer = m.trainer.str(46, "</s>") }))
	require.Contains(t, string(out), `"ids":[2],"tokens":["</s>"]`)
	parse(t, out, err)
	out, err = SentencePiece(change(func(m *testModel) { m.trainer = m.trainer.str(46, "a") }))
	require.Contains(t, string(out), `"post_processor":null`)
	parse(t, out, err)
	out, err = SentencePiece(change(func(m *testModel) { m.trainer = m.trainer.str(46, "") }))
	require.Contains(t, string(out), `"ids":[1],"tokens":["<s>"]`)
	parse(t, out, err)
}

func TestTiktokenRefuses(t *testing.T) {
	good := writeRanks(smallRanks("ab", "abc"))
	cut := func(old, new string) []byte {
		out := bytes.Replace(good, []byte(old), []byte(new), 1)
		return out
	}
	for _, c := range []struct {
		name        string
		data        []byte
		special     map[string]int
		pattern     string
		unsupported bool
		err         string
	}{
		{"empty", nil, nil, "", false, "tiktoken file: got no token for the byte 0x00, want all 256 bytes as tokens"},
		{"no space", cut("AQ== 1\n", "AQ==\n"), nil, "", false, `line 2: got "AQ==", want a token in base64, a space and its rank`},
		{"bad base64", cut("AQ== 1\n", "A?== 1\n"), nil, "", false, `line 2: token: got "A?==" (byte 1 of it is wrong), want base64`},
		{"base64 unpadded", cut("AQ== 1\n", "AQ 1\n"), nil, "", false, "line 2: token"},
		{"base64 with loose bits", cut("AQ== 1\n", "AR== 1\n"), nil, "", false, "line 2: token"},
		{"base64 with a carriage return", cut("AQ== 1\n", "A\rQ== 1\n"), nil, "", false, "line 2: token"},
		{"empty token", cut("AQ== 1\n", " 1\n"), nil, "", false, "line 2: token: got an empty token"},
		{"rank no number", cut("AQ== 1\n", "AQ== x\n"), nil, "", false, `line 2: rank: got "x", want 0 to 524287`},
		{"rank negative", cut("AQ== 1\n", "AQ== -1\n"), nil, "", false, `line 2: rank: got "-1"`},
		{"rank signed", cut("AQ== 1\n", "AQ== +1\n"), nil, "", false, `line 2: rank: got "+1"`},
		{"rank huge", cut("AQ== 1\n", "AQ== 99999999999999999999999\n"), nil, "", false, "line 2: rank"},
		{"rank with a tail", cut("AQ== 1\n", "AQ== 1 2\n"), nil, "", false, `line 2: rank: got "1 2"`},
		{"rank twice", cut("AQ== 1\n", "AQ== 0\n"), nil, "", false, "line 2: rank: got 0, want ranks that ascend; the line before has 0"},
		{"hole", cut("AQ== 1\nAg== 2\n", "AQ== 2\nAg== 3\n"), nil, "", false, "line 2: rank: got 2, want 1: only special tokens may fill a gap"},
		{"hole larger than the special tokens", cut("AQ== 1\nAg== 2\nAw== 3\n", "AQ== 3\nAg== 4\nAw== 5\n"), map[string]int{"<|x|>": 1}, "", false, "line 2: rank: got 3, want 2: only special tokens may fill a gap"},
		{"special in the middle of a hole", cut("AQ== 1\n", "AQ== 4\n"), map[string]int{"<|x|>": 2}, "", false, "line 2: rank: got 4, want 1"},
		{"special id of a rank", good, map[string]int{"<|x|>": 3}, "", false, `line 4: rank: got 3, the id of the special token "<|x|>", want ids that differ`},
		{"token twice", writeRanks(smallRanks("ab", "ab")), nil, "", false, `line 258: token: got "ab", as line 257, want every token once`},
		{"byte missing", writeRanks(smallRanks()[:255]), nil, "", false, "no token for the byte 0xFF"},
		{"special id twice", good, map[string]int{"<|x|>": 300, "<|y|>": 300}, "", false, `special token "<|y|>": got id 300, as "<|x|>"`},
		{"special id negative", good, map[string]int{"<|x|>": -1}, "", false, "id -1, want 0 to 524287"},
		{"special id huge", good, map[string]int{"<|x|>": math.MaxInt}, "", false, "want 0 to 524287"},
		{"special id far away", good, map[string]int{"<|x|>": 1 << 18}, "", true, "id 262144 beside 258 tokens is not supported, want less than 69664"},
		{"special empty", good, map[string]int{"": 300}, "", false, `special token "": got ""`},
		{"special no UTF-8", good, map[string]int{"\xff": 300}, "", false, "a name in UTF-8"},
		{"special like a token", good, map[string]int{"ab": 300}, "", false, `line 257: token: got "ab", want none that a tokenizer.json spells as it does a special token: "ab"`},
		{"special like a byte", good, map[string]int{"Ġ": 258}, "", false, `line 33: token: got " "`},
		{"pattern no UTF-8", good, nil, "\xff", false, "pattern"},
		{"pattern possessive", good, nil, `\p{N}{1,3}+|.`, true, `the possessive "{1,3}+" is not supported, want "{1,3}"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			special := maps.Clone(c.special)
			out, err := Tiktoken(c.data, special, c.pattern)
			require.ErrorContains(t, err, c.err)
			require.Nil(t, out)
			requireType(t, err, c.unsupported)
			require.Equal(t, c.special, special)
		})
	}
}

func TestTiktokenTakes(t *testing.T) {
	good := writeRanks(smallRanks("ab", "abc"))
	windows := bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n"))
	out, err := Tiktoken(good, nil, "")
	parse(t, out, err)
	require.Contains(t, string(out), `"post_processor":{"type":"ByteLevel"`)
	for _, data := range [][]byte{windows, good[:len(good)-1], append([]byte("\n"), good...)} {
		same, err := Tiktoken(data, nil, Llama3Pattern)
		require.NoError(t, err)
		require.Equal(t, out, same)
	}
	// Llama 3: special tokens go on from the ranks and one stands in front.
	out, err = Tiktoken(good, map[string]int{"<|begin_of_text|>": 258, "<|end_of_text|>": 259}, "")
	tok := parse(t, out, err)
	require.Equal(t, 260, tok.VocabSize())
	require.NotContains(t, decodeFile(t, out).Model.Vocab, "<|end_of_text|>")
	// A pattern of the caller's.
	out, err = Tiktoken(good, nil, `\p{N}+|\p{L}`)
	require.Equal(t, []int{'a', 'b'}, encode(t, parse(t, out, err), "ab"))
}

// Tokens that are each other's prefix and suffix have as many pairs as their
// number squared: the result is bounded before it is made.
func TestSize(t *testing.T) {
	var texts []string
	var m testModel
	m.pieces = base(false)
	for n := 1; n <= 1200; n++ {
		texts = append(texts, strings.Repeat("a", n))
		m.pieces = append(m.pieces, testPiece{texts[n-1], -float32(n), normal})
	}
	_, err := SentencePiece(m.write())
	require.ErrorContains(t, err, "a vocabulary whose tokenizer.json would be larger than 67108864 bytes is not supported")
	requireType(t, err, true)
	_, err = Tiktoken(writeRanks(smallRanks(texts[1:]...)), nil, "")
	require.ErrorContains(t, err, "would be larger than 67108864 bytes")
	requireType(t, err, true)

	// Escapes make a file larger than its tokens.
	m.pieces = base(false)
	for n := range 1500 {
		m.pieces = append(m.pieces, testPiece{fmt.Sprint(n) + strings.Repeat("\x01", 7900), 0, control})
	}
	_, err = SentencePiece(m.write())
	require.ErrorContains(t, err, "would be larger")
	m.pieces = base(false)
	for n := range 1500 {
		m.pieces = append(m.pieces, testPiece{strings.Repeat("\x01", 7900) + fmt.Sprint(n), 0, unused})
	}
	_, err = SentencePiece(m.write())
	require.ErrorContains(t, err, "would be larger")

	big := make([]byte, MaxSize+1)
	_, err = SentencePiece(big)
	require.ErrorContains(t, err, "a file of 67108865 bytes is not supported, want at most 67108864")
	_, err = Tiktoken(big, nil, "")
	require.ErrorContains(t, err, "a file of 67108865 bytes")

	_, err = SentencePiece(bytes.Repeat(proto{}.bytes(1, proto{}.str(1, "a")), MaxTokens+1))
	require.ErrorContains(t, err, "a vocabulary of more than 524288 is not supported")
	requireType(t, err, true)
}

// A longer token has its pairs found without a look at its bytes.
func TestLongToken(t *testing.T) {
	long := strings.Repeat("ab", 1<<20)
	out, err := Tiktoken(writeRanks(smallRanks("ab", long, long+"c")), nil, "")
	require.NoError(t, err)
	require.Equal(t, [][2]string{{"a", "b"}, {long, "c"}}, decodeFile(t, out).Model.Merges)
}

func TestDetect(t *testing.T) {
	for _, c := range []struct{ want, data string }{
		{"", ""}, {"", "\n"}, {"", "hello world"}, {"", "version https://git-lfs.github.com/spec/v1\n"},
		{"", "PK\x03\x04"}, {"", "GGUF\x03"}, {"", "IQ==\n"}, {"", "IQ== x\n"}, {"", "<html> 1"}, {"", " 1\n"},
		{"tokenizer.json", "{}"}, {"tokenizer.json", " \n\t{\n"}, {"tokenizer.json", "\n{\n\"version\": \"1.0\"}"},
		{"tiktoken", "IQ== 0\n"}, {"tiktoken", "IQ== 0\r\nIg== 1"}, {"tiktoken", "AA== 5"},
		{"sentencepiece", string(smallModel().write())}, {"sentencepiece", string(smallModel().write()[:16])},
		{"", string(smallModel().write()[:10])}, {"", "\n\x02\n\x00"}, {"", "\n\x05\n\x01a\x02\x00"},
	} {
		require.Equal(t, c.want, Detect([]byte(c.data)), "%q", c.data)
	}
}

func TestErrorText(t *testing.T) {
	require.EqualError(t, &FormatError{Kind: "k", Offset: 3, Field: "f", Got: "1", Want: "2", Hint: "do"}, "k: offset 3: f: got 1, want 2; do")
	require.EqualError(t, &UnsupportedError{Kind: "k", Offset: -1, Line: 7, Got: "1", Want: "2"}, "k: line 7: 1 is not supported, want 2")
	require.Equal(t, `"`+strings.Repeat("é", 30)+`"...`, quote(strings.Repeat("é", 40)))
	require.Equal(t, `"x`+strings.Repeat("é", 29)+`"...`, quote([]byte("x"+strings.Repeat("é", 40))))
}
