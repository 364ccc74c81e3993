package vocab

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/tokenizer"
)

// usable requires that what was made is read, and that text goes through it.
func usable(t *testing.T, out []byte, err error) {
	if err != nil {
		require.Nil(t, out)
		require.NotEmpty(t, err.Error())
		return
	}
	tok, err := tokenizer.Parse(out)
	require.NoError(t, err)
	for _, text := range []string{"", "ab <s> a  b\n", "日 \x00<x>abcab"} {
		ids, err := tok.Encode(text, tokenizer.EncodeOptions{AddSpecial: true})
		require.NoError(t, err)
		_, err = tok.Decode(ids, false)
		require.NoError(t, err)
	}
}

func FuzzSentencePiece(f *testing.F) {
	f.Add([]byte{})
	plain := testModel{pieces: base(false)}
	plain.pieces = append(plain.pieces, testPiece{"a", -2, 0}, testPiece{"b", -3, 0}, testPiece{"ab", -1, 0}, testPiece{space, -4, 0}, testPiece{"<x>", 0, userDefined})
	f.Add(plain.write())
	plain.dummyPrefix = true
	f.Add(plain.write())
	f.Add(smallModel("a", "b", "ab", "aba", space, space+"a").write())
	f.Add(add(testPiece{"zz", 0, unused}, testPiece{"<x>", 0, userDefined}))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := SentencePiece(data)
		usable(t, out, err)
		Detect(data)
	})
}

func FuzzTiktoken(f *testing.F) {
	f.Add([]byte("IQ== 0\n"), "", 0)
	f.Add(writeRanks(smallRanks("ab", "abc", "bc")), "<|begin_of_text|>", 259)
	f.Add(writeRanks(smallRanks("ab")), "<|x|>", 300)
	// The bytes are there whatever the input is, or few inputs would get further.
	f.Add([]byte("YWI= 256\nYWJj 257\n"), "<|begin_of_text|>", 258)
	f.Add([]byte("YWI= 257\nYWJj 258\n"), "<|x|>", 256)
	bytes256 := writeRanks(smallRanks())
	f.Fuzz(func(t *testing.T, data []byte, name string, id int) {
		special := map[string]int{}
		if name != "" {
			special[name] = id
		}
		out, err := Tiktoken(data, special, "")
		usable(t, out, err)
		out, err = Tiktoken(append(bytes256[:len(bytes256):len(bytes256)], data...), special, "")
		usable(t, out, err)
		Detect(data)
	})
}
