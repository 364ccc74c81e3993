package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestLibrary holds pipelines of many kinds to what the tokenizers library gives
// for them. testdata/make.py wrote the files.
func TestLibrary(t *testing.T) {
	files, err := filepath.Glob("testdata/made/*.json")
	require.NoError(t, err)
	require.Len(t, files, 21)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			var made struct {
				Tokenizer string
				Cases     []goldenCase
				Decodings []goldenCase
			}
			require.NoError(t, json.Unmarshal(data, &made))
			tok, err := Parse([]byte(made.Tokenizer))
			require.NoError(t, err)
			require.NotEmpty(t, made.Cases)
			for _, c := range made.Cases {
				ids, err := tok.Encode(c.Text, EncodeOptions{})
				require.NoError(t, err)
				require.Equal(t, c.IDs, append([]int{}, ids...), "%q", c.Text)
				ids, err = tok.Encode(c.Text, EncodeOptions{AddSpecial: true})
				require.NoError(t, err)
				require.Equal(t, c.IDsWithSpecial, append([]int{}, ids...), "%q", c.Text)
				requireDecodes(t, tok, c.IDsWithSpecial, c)
			}
			for _, c := range made.Decodings {
				requireDecodes(t, tok, c.IDs, c)
			}
		})
	}
}

func requireDecodes(t *testing.T, tok *Tokenizer, ids []int, want goldenCase) {
	t.Helper()
	text, err := tok.Decode(ids, false)
	require.NoError(t, err)
	require.Equal(t, want.Decoded, text, "%v", ids)
	text, err = tok.Decode(ids, true)
	require.NoError(t, err)
	require.Equal(t, want.DecodedSkipSpecial, text, "%v", ids)
}
