package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// syntheticJSON has a vocabulary of n tokens of the byte-level alphabet and
// about twice as many merges, laid out as the tokenizers library saves them.
func syntheticJSON(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var tokens []string
	seen := map[string]bool{}
	add := func(s string) bool {
		if seen[s] {
			return false
		}
		seen[s] = true
		tokens = append(tokens, s)
		return true
	}
	for _, s := range byteChars {
		add(s)
	}
	type pair struct{ a, b string }
	var merges []pair
	for len(tokens) < n {
		a, b := tokens[r.IntN(len(tokens))], tokens[r.IntN(len(tokens))]
		if len(a)+len(b) <= 24 && add(a+b) {
			merges = append(merges, pair{a, b})
			for cut := 1; cut < len(a); cut++ {
				if seen[a[:cut]] && seen[a[cut:]+b] && r.IntN(2) == 0 {
					merges = append(merges, pair{a[:cut], a[cut:] + b})
				}
			}
		}
	}
	var b bytes.Buffer
	quoted := func(s string) []byte {
		var q bytes.Buffer
		e := json.NewEncoder(&q)
		e.SetEscapeHTML(false)
		if err := e.Encode(s); err != nil {
			panic(err)
		}
		return bytes.TrimSpace(q.Bytes())
	}
	b.WriteString("{\n  \"version\": \"1.0\",\n  \"added_tokens\": [],\n  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true},\n")
	b.WriteString("  \"model\": {\n    \"type\": \"BPE\",\n    \"continuing_subword_prefix\": null,\n    \"vocab\": {")
	for i, t := range tokens {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n      %s: %d", quoted(t), i)
	}
	b.WriteString("\n    },\n    \"merges\": [")
	for i, m := range merges {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n      [\n        %s,\n        %s\n      ]", quoted(m.a), quoted(m.b))
	}
	b.WriteString("\n    ]\n  }\n}\n")
	return b.Bytes()
}

func BenchmarkParse128k(b *testing.B) {
	data := syntheticJSON(128000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := Parse(data)
		require.NoError(b, err)
	}
}

func BenchmarkEncode(b *testing.B) {
	tok := load(b, demoPath)
	source, err := os.ReadFile("decode.go")
	require.NoError(b, err)
	text := string(bytes.Repeat(source, 1+(1<<20)/len(source)))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		_, err := tok.Encode(text, EncodeOptions{})
		require.NoError(b, err)
	}
}

func BenchmarkEncodeOneLetter(b *testing.B) {
	for _, path := range []string{demoPath, "testdata/metaspace-llama2/tokenizer.json"} {
		tok := load(b, path)
		text := strings.Repeat("a", 1<<20)
		b.Run(path, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				_, err := tok.Encode(text, EncodeOptions{})
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, path := range []string{demoPath, "testdata/metaspace-llama2/tokenizer.json"} {
		tok := load(b, path)
		source, err := os.ReadFile("decode.go")
		require.NoError(b, err)
		ids, err := tok.Encode(string(source), EncodeOptions{})
		require.NoError(b, err)
		b.Run(path, func(b *testing.B) {
			b.SetBytes(int64(len(source)))
			for b.Loop() {
				_, err := tok.Decode(ids, true)
				require.NoError(b, err)
			}
		})
	}
}
