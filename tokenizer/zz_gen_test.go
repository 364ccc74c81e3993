package tokenizer

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

func TestZZGen(t *testing.T) {
	o := newOracle(t)
	r := rand.New(rand.NewPCG(7, 8))
	type c struct {
		Text  string `json:"text"`
		Spans []int  `json:"spans"`
	}
	type p struct {
		Pattern string `json:"pattern"`
		Cases   []c    `json:"cases"`
	}
	var out []p
	for _, pat := range zzPatterns {
		if _, ok := o.spans(pat, "x"); !ok {
			continue
		}
		if _, err := translateOnig(&node{kind: kindString, text: pat}); err != nil {
			continue
		}
		if pat == `(?i:[^\P{Lu}])` {
			continue
		}
		e := p{Pattern: pat}
		for len(e.Cases) < 8 {
			text := zzText(r)
			line, _ := o.spans(pat, text)
			cs := c{Text: text, Spans: []int{}}
			if line == "" && r.IntN(4) > 0 {
				if r.IntN(10) > 0 {
					continue
				}
			}
			for _, f := range strings.Fields(line) {
				a, b, _ := strings.Cut(f, ",")
				x, _ := strconv.Atoi(a)
				y, _ := strconv.Atoi(b)
				cs.Spans = append(cs.Spans, x, y)
			}
			e.Cases = append(e.Cases, cs)
		}
		out = append(out, e)
	}
	var b strings.Builder
	b.WriteString("[\n")
	for i, e := range out {
		if i > 0 {
			b.WriteString(",\n")
		}
		j, _ := json.Marshal(e)
		b.Write(j)
	}
	b.WriteString("\n]\n")
	if err := os.WriteFile("testdata/oniguruma.json", []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
