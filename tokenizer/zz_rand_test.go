package tokenizer

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/dlclark/regexp2/v2"
)

func zzRandPattern(r *rand.Rand, depth int) string {
	atoms := []string{"a", "b", "é", " ", `\s`, `\S`, `\w`, `\p{L}`, `\p{N}`, `\P{L}`, ".", `[ab]`, `[^a\s]`, `[\p{L}\p{N}]`, `[^\r\n\p{L}]`, `[a-c&&[^b]]`, `[^[^a]b]`, `\n`, "'", `\h`, `^`, `$`, `\b`, `\B`, `\z`, `\Z`, `\A`, "s", "k", "K", `[[:alpha:]_]`, `(?=a)`, `(?!\S)`, `(?<=b)`, `(?<!a)`}
	var b strings.Builder
	n := 1 + r.IntN(4)
	for i := 0; i < n; i++ {
		a := atoms[r.IntN(len(atoms))]
		if depth > 0 && r.IntN(3) == 0 {
			open := []string{"(", "(?:", "(?>", "(?i:", "(?m:", "(?=", "(?!"}[r.IntN(7)]
			a = open + zzRandPattern(r, depth-1) + ")"
		}
		b.WriteString(a)
		if r.IntN(2) == 0 {
			b.WriteString([]string{"*", "+", "?", "*?", "+?", "??", "++", "*+", "?+", "{2}", "{1,3}", "{2,}", "{,2}", "{1,2}?", "{2}?", "{1,2}+"}[r.IntN(16)])
		}
		if i+1 < n && r.IntN(5) == 0 {
			b.WriteString("|")
		}
	}
	if depth > 0 && r.IntN(12) == 0 {
		return "(?i)" + b.String()
	}
	return b.String()
}

func TestZZRand(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(11, 12))
	bad, tried, refused := 0, 0, map[string]int{}
	for i := 0; i < 120000 && bad < 25; i++ {
		p := zzRandPattern(r, 2)
		_, good := o.spans(p, "x")
		tr, err := translateOnig(&node{kind: kindString, text: p})
		if err != nil {
			if good {
				k := err.Error()
				k = k[:min(60, len(k))]
				refused[k]++
			}
			continue
		}
		if !good {
			continue
		}
		re, err := regexp2.Compile(tr, regexp2.OptionMaxBacktrackingStackSize(maxBacktrack))
		if err != nil {
			t.Logf("compile %q: %v", p, err)
			bad++
			continue
		}
		tried++
		for k := 0; k < 25; k++ {
			text := zzText(r)
			want, _ := o.spans(p, text)
			if got := zzSpans(regex{re}, text); got != want {
				t.Logf("%q on %q: got %s want %s", p, text, got, want)
				bad++
				break
			}
		}
	}
	t.Log(tried, refused)
}

func TestZZScan(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(13, 14))
	for i := 0; i < 60000; i++ {
		var b strings.Builder
		for k := r.IntN(30); k > 0; k-- {
			switch r.IntN(5) {
			case 0:
				b.WriteRune([]rune(" \t\r\n\u3000\u00a0\u0085\u2028'")[r.IntN(9)])
			case 1:
				b.WriteRune(rune(r.IntN(128)))
			case 2:
				c := rune(r.IntN(0x20000))
				if c >= 0xD800 && c <= 0xDFFF {
					c = 'x'
				}
				b.WriteRune(c)
			case 3:
				b.WriteString([]string{"'s", "'LL", "'Ve", "'ſ", "'re", "'M", "  ", "12", "'tx"}[r.IntN(9)])
			case 4:
				b.WriteRune(rune('a' + r.IntN(26)))
			}
		}
		for p, s := range scanners {
			want, _ := o.spans(p, b.String())
			if got := zzSpans(s, b.String()); got != want {
				t.Fatalf("%q on %q: got %s want %s", p, b.String(), got, want)
			}
		}
	}
}
