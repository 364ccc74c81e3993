package tokenizer

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dlclark/regexp2/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func pattern(s string) *node { return &node{kind: kindString, text: s, path: "p"} }

// translated runs a pattern in regexp2 even where a scanner exists.
func translated(t require.TestingT, s string) matcher {
	p, err := translateOnig(pattern(s))
	require.NoError(t, err)
	re, err := regexp2.Compile(p, regexp2.OptionMaxBacktrackingStackSize(maxBacktrack))
	require.NoError(t, err)
	return regex{re}
}

func matches(t require.TestingT, m matcher, text string) []int {
	spans, err := m.spans(nil, text)
	require.NoError(t, err)
	out := []int{}
	at := 0
	for _, s := range spans {
		require.Equal(t, at, s.start, "stretches cover the text")
		at = s.end
		if s.match {
			out = append(out, s.start, s.end)
		}
	}
	require.Equal(t, len(text), at)
	return out
}

// The file was written by Oniguruma 6.9.10 in Ruby syntax.
func TestOnigurumaGolden(t *testing.T) {
	data, err := os.ReadFile("testdata/oniguruma.json")
	require.NoError(t, err)
	var file []struct {
		Pattern string
		Cases   []struct {
			Text  string
			Spans []int
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.Greater(t, len(file), 100)
	for _, p := range file {
		m, err := parseRegex(pattern(p.Pattern))
		require.NoError(t, err, p.Pattern)
		slow := translated(t, p.Pattern)
		for _, c := range p.Cases {
			require.Equal(t, c.Spans, matches(t, m, c.Text), "%q on %q", p.Pattern, c.Text)
			require.Equal(t, c.Spans, matches(t, slow, c.Text), "%q on %q", p.Pattern, c.Text)
		}
	}
}

func TestPatternsRefused(t *testing.T) {
	for p, want := range map[string]string{
		`\K`: `\K`, `\G`: `\G`, `\Q`: `\Q`, `\1`: `\1`, `\pL`: "without braces", `\p{Nope}`: "Nope", `[[:punct:]]`: "punct",
		`(?x) a`: "x", `(?~a)`: "~", `[]a]`: "bare ]", `[a&&]`: "&&", `[a-\d]`: "ends in a class", `[a-[b]]`: "between a character and a class",
		`(?=a)*`: "anchor", `a{3,1}`: "high to low", `(?i)ss`: `"ss"`, `(?i)ß`: "ß", `(?i)[\p{L}]`: "ß", `(?:a++)*`: "atomic", `\xE9`: "raw byte",
		strings.Repeat("a", maxPattern+1): "8193 bytes", strings.Repeat("(", 200) + strings.Repeat(")", 200): "levels deep",
	} {
		_, err := parseRegex(pattern(p))
		var unsupported *UnsupportedError
		require.ErrorAs(t, err, &unsupported, p)
		require.ErrorContains(t, err, want, p)
	}
	for p, want := range map[string]string{
		`(a`: "inside a group", `a)`: "unmatched )", `[a`: "inside a class", `*a`: "nothing before", `a\`: "backslash at the end",
		`[a\`: "backslash at the end", `\x{110000}`: "no character", `\u00`: "no character", `[z-a]`: "high to low", `a{100001}`: "above 100000",
		`(?<n`: "name of a group", `(?#`: "comment", `(?i`: "inside (?",
	} {
		_, err := parseRegex(pattern(p))
		var malformed *FormatError
		require.ErrorAs(t, err, &malformed, p)
		require.ErrorContains(t, err, want, p)
	}
}

// tricky draws text in which the common patterns have decisions to make.
func tricky() *rapid.Generator[string] {
	parts := rapid.OneOf(
		rapid.SampledFrom([]string{"'s", "'T", "'re", "'VE", "'ll", "'L", "'ſ", "''", "'", " ", "  ", "\t", "\r", "\n", "\r\n", "\u00a0", "\u3000", "\u0085",
			"a", "B", "é", "e\u0301", "\u0301", "ſ", "K", "中", "あ", "1", "22", "333", "٣", "²", "½", "Ⅷ", ".", "!?", "—", "_", "😀", "\u200d", "\u2028",
			"<s>", "</s>", "<|eot_id|>", "<0x41>", "<0x", "▁", "\u0000", "\u007f", "\U0002EBF0", "\U0010FFFF", "\uFFFD"}),
		rapid.StringN(0, 3, 12),
		rapid.StringMatching(`[a-z]{1,9}`),
	)
	return rapid.Map(rapid.SliceOfN(parts, 0, 24), func(p []string) string { return strings.Join(p, "") })
}

func TestScannersEqualRegexp2(t *testing.T) {
	for p, scan := range scanners {
		slow := translated(t, p)
		rapid.Check(t, func(t *rapid.T) {
			text := lossy(tricky().Draw(t, "text"))
			require.Equal(t, matches(t, slow, text), matches(t, scan, text))
		})
	}
}

func FuzzScanners(f *testing.F) {
	slow := map[string]matcher{}
	for p := range scanners {
		slow[p] = translated(f, p)
	}
	f.Add("I'll  go\r\n to 12345 places's don'T")
	f.Fuzz(func(t *testing.T, text string) {
		text = lossy(text)
		for p, scan := range scanners {
			require.Equal(t, matches(t, slow[p], text), matches(t, scan, text))
		}
	})
}

func TestWordsEqualRegexp2(t *testing.T) {
	slow := translated(t, `[\w\u200c\u200d]+|[^\w\s\u200c\u200d]+`)
	rapid.Check(t, func(t *rapid.T) {
		text := lossy(tricky().Draw(t, "text"))
		require.Equal(t, matches(t, slow, text), matches(t, words{}, text))
	})
}

func TestLiteralMatches(t *testing.T) {
	require.Equal(t, []int{0, 2, 2, 4}, matches(t, literal("aa"), "aaaaa"))
	require.Equal(t, []int{}, matches(t, literal("x"), "aaaaa"))
	require.Equal(t, []int{0, 0, 2, 2, 3, 3}, matches(t, literal(""), "éa"))
	require.Equal(t, matches(t, translated(t, ``), "éa"), matches(t, literal(""), "éa"))
}

// A pattern that backtracks without end is stopped by its time limit.
func TestMatchTimeout(t *testing.T) {
	m, err := parseRegex(pattern(`(?:\p{L}+ ?)+(?<=!)`))
	require.NoError(t, err)
	m.(regex).re.MatchTimeout = 50 * time.Millisecond
	start := time.Now()
	_, err = m.spans(nil, strings.Repeat("a", 64))
	require.ErrorContains(t, err, "on a text of 64 bytes")
	require.Less(t, time.Since(start), 3*time.Second)
}

func TestCharset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) charset {
			var ranges []runeRange
			for range rapid.IntRange(0, 6).Draw(t, name) {
				lo := rapid.Int32Range(0xD7F0, 0xE010).Draw(t, "lo")
				ranges = append(ranges, runeRange{lo, lo + rapid.Int32Range(0, 20).Draw(t, "n")})
			}
			return newCharset(ranges)
		}
		a, b := draw("a"), draw("b")
		for r := rune(0xD7E0); r < 0xE040; r++ {
			if r >= surrogateLo && r <= surrogateHi {
				require.False(t, a.contains(r) || a.negate().contains(r))
				continue
			}
			require.Equal(t, a.contains(r), !a.negate().contains(r))
			require.Equal(t, a.contains(r) && b.contains(r), a.intersect(b).contains(r))
			require.Equal(t, a.contains(r) || b.contains(r), union(a, b).contains(r))
		}
	})
	require.Equal(t, newCharset([]runeRange{{'K', 'K'}, {'k', 'k'}, {0x212A, 0x212A}}), oneRune('k').fold())
}
