package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const demoPath = "../testdata/demo/tokenizer.json"

var goldenFolders = []string{"testdata/bytelevel-llama3", "testdata/metaspace-llama2"}

func load(t testing.TB, path string) *Tokenizer {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	tok, err := Parse(data)
	require.NoError(t, err)
	return tok
}

type goldenCase struct {
	Text               string `json:"text"`
	IDs                []int  `json:"ids"`
	IDsWithSpecial     []int  `json:"ids_with_special"`
	Decoded            string `json:"decoded"`
	DecodedSkipSpecial string `json:"decoded_skip_special"`
}

func goldenCases(t testing.TB, folder string) []goldenCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "cases.json"))
	require.NoError(t, err)
	var cases []goldenCase
	require.NoError(t, json.Unmarshal(data, &cases))
	require.NotEmpty(t, cases)
	return cases
}

// The cases were written by the tokenizers library.
func TestGolden(t *testing.T) {
	for _, folder := range goldenFolders {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			tok := load(t, filepath.Join(folder, "tokenizer.json"))
			for _, c := range goldenCases(t, folder) {
				ids, err := tok.Encode(c.Text, EncodeOptions{})
				require.NoError(t, err)
				require.Equal(t, c.IDs, ids, "%q", c.Text)
				ids, err = tok.Encode(c.Text, EncodeOptions{AddSpecial: true})
				require.NoError(t, err)
				require.Equal(t, c.IDsWithSpecial, ids, "%q", c.Text)
				text, err := tok.Decode(c.IDs, false)
				require.NoError(t, err)
				require.Equal(t, c.Decoded, text, "%q", c.Text)
				for _, source := range [][]int{c.IDs, c.IDsWithSpecial} {
					text, err := tok.Decode(source, true)
					require.NoError(t, err)
					require.Equal(t, c.DecodedSkipSpecial, text, "%q", c.Text)
				}
			}
		})
	}
}
