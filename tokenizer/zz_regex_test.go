package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dlclark/regexp2/v2"
)

var zzPatterns = []string{
	patternGPT2, patternLlama3, patternQwen2,
	`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_` + "`" + `{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
	`[一-龥぀-ゟ゠-ヿ]+`, `\p{N}{1,3}`, `\p{N}`, `[0-9][0-9][0-9]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`,
	` ?[^(\s|[.,!?…。，、।۔،])]+`,
	`'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+`,
	`(?:[^\r\n\p{L}\p{N}]?\p{L}++|\p{N}{1,3}+)`,
	`[a-z&&[^aeiou]]+`, `[^a-z&&[^aeiou]]+`, `[a-z&&b-y&&[^c]]`, `[[:alpha:]]+`, `[[:^space:]]+`, `[^[:digit:]a]+`, `[\w&&[^_]]+`,
	`\w`, `\W+`, `[\W]+`, `[^\w]+`, `\p{Word}`, `[\p{Word}]`, `(?i:[[A-Z]&&[a-z]])`, `(?i:[[^a]])`, `(?i:[^[^a]])`, `(?i:[^\P{Lu}])`, `(?i:[\p{Lu}x])+`, `(?i:[a&&\p{Ll}])`, `^a`, `a$`, `^`, `$`, `\Aa`, `a\z`, `a\Z`, `\b\w+\b`, `\Ba`, `\bé`, `a*`, `a*?`, `a+?b`, `(?:ab)*+`, `(a|ab)(c|bcd)?`, `a{2}`, `a{2,}`, `a{,2}b`, `a{1,2}?`, `a{2}?b`, `a{1,2}+b`, `a{`, `a{x}`, `a{,}`,
	`.+`, `(?m).+`, `(?m:.)+a`, `(?i)straße`, `(?i:k)`, `(?i:[k-m])+`, `(?i:[^k])+`, `a(?i)b|c`, `(?i:É)`, `(?-i:a)b`, `(?i:\p{Lu})+`, `\p{^L}+`, `\P{L}+`, `[\P{L}]+`, `[^\P{L}]+`,
	`(?<=a)b`, `(?<!a)b`, `(?=a)\w`, `(?>a+)b`, `(?<n>a)b`, `(?#hey)a`, `\x41`, `\x{1F600}`, `\u00e9`, `\h+`, `\H+`, `\R`, `[\n\r]+`, `\t`, `[\t ]`, `[\b]`, `[a\-z]+`, `[a-]+`, `[-a]+`, `[+--]`, `[\x41-\x43]+`, `[é-ü]+`,
	`\p{Han}+`, `\p{Hiragana}`, `\p{Greek}+`, `[\p{L}--\p{Lu}]`, `[a-\d]`, `(?:a|)b`, `|a`, `a||b`, `()`, `(?:)`, `a?`, `(a?)*b`, `(?:a*)*`, `a**`, `a+*`, `\d+(?=%)`, `\S+`, `[\S\n]+`, `[^\S\n]+`, `\p{Word}+`, `\p{Alnum}+`, `[,.!?]`, `\.`, `\/`, `\-`, `\é`, `\#`, ` `, `#`, `~`, `-`, `]`, `}`, `[]a]`, `[a&&]`, `[&&a]`, `[a-z&&&a]`, `[a&b]+`, `\Q`, `\K`, `\G`, `(?~a)`, `\1`, `[[a]b]+`, `[^[^a]b]+`, `[a[^b]]+`, `[[:foo:]]`, `[:alpha:]`, `[[:alpha]]`, `\p{Nope}`, `\pL`, `(?x) a b`, `a)`, `(a`, `[a`, `*a`, `a\`,
}

func zzText(r *rand.Rand) string {
	alpha := []rune("aabbcdesstrevmlld''AKSZ  \t\n\r0123 éÉüſK中日あアй.,!?_-/%&()[]{}…。\u3000\u00a0\u2003\u2028\u0085😀\u0301²\U0002EBF0\U00010D50\u200d~`#:")
	n := r.IntN(14)
	var b strings.Builder
	for i := 0; i < n; i++ {
		c := alpha[r.IntN(len(alpha))]
		for k := 1 + r.IntN(2)*r.IntN(3); k > 0; k-- {
			b.WriteRune(c)
		}
	}
	return b.String()
}

func zzSpans(m matcher, text string) string {
	spans, err := m.spans(nil, text)
	if err != nil {
		return "ERR " + err.Error()
	}
	var b strings.Builder
	for _, s := range spans {
		if s.match {
			fmt.Fprintf(&b, "%d,%d ", s.start, s.end)
		}
	}
	return b.String()
}

func TestZZRegex(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range zzPatterns {
		_, good := o.spans(p, "x")
		var ms []matcher
		n := &node{kind: kindString, text: p}
		tr, err := translateOnig(n)
		if err != nil {
			t.Logf("%-20q onig ok=%v, ours: %v", p, good, err)
			continue
		}
		re, err := regexp2.Compile(tr, regexp2.OptionMaxBacktrackingStackSize(maxBacktrack))
		if err != nil {
			t.Errorf("%q compile %v", p, err)
			continue
		}
		ms = append(ms, regex{re})
		if s, ok := scanners[p]; ok {
			ms = append(ms, s)
		}
		if !good {
			t.Errorf("%q: onig refuses, we accept", p)
			continue
		}
		bad := 0
		for i := 0; i < 3000 && bad < 3; i++ {
			text := zzText(r)
			want, _ := o.spans(p, text)
			for _, m := range ms {
				if got := zzSpans(m, text); got != want {
					bad++
					t.Errorf("%q (%T) on %q: got %s want %s", p, m, text, got, want)
				}
			}
		}
	}
}
