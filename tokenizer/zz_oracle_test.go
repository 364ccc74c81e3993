package tokenizer

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

type oracle struct {
	in  io.WriteCloser
	out *bufio.Reader
}

func newOracle(t testing.TB) *oracle {
	c := exec.Command("/tmp/onigsrc/oracle")
	in, _ := c.StdinPipe()
	out, _ := c.StdoutPipe()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); c.Wait() })
	return &oracle{in, bufio.NewReaderSize(out, 1<<24)}
}

func (o *oracle) spans(p, text string) (string, bool) {
	fmt.Fprintf(o.in, "%s\t%s\n", hex.EncodeToString([]byte(p)), hex.EncodeToString([]byte(text)))
	line, err := o.out.ReadString('\n')
	if err != nil {
		panic(err)
	}
	line = strings.TrimSuffix(line, "\n")
	return line, line != "error"
}

func TestZZTables(t *testing.T) {
	o := newOracle(t)
	var all strings.Builder
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if r < 0xD800 || r > 0xDFFF {
			all.WriteRune(r)
		}
	}
	runes := []rune(all.String())
	names := []string{"Any", "ASCII", "Alpha", "Alphabetic", "Alnum", "Blank", "Cntrl", "Digit", "Lower", "Lowercase", "Upper", "Uppercase", "Space", "White_Space", "Word", "XDigit", "Assigned", "Punctuation", "Letter", "Han", "Hiragana", "Katakana", "Cyrillic", "Greek", "Hangul", "Ideographic"}
	for n := range unicode.Categories {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, p := range []string{`\s`, `\d`, `\w`, `\h`, `.`, `\S`, `\W`, `\R`} {
		names = append(names, p)
	}
	for _, n := range names {
		p := `\p{` + n + `}`
		if strings.HasPrefix(n, `\`) || n == "." {
			p = n
		}
		theirs := map[rune]bool{}
		good := true
		for i := 0; i < len(runes); i += 2048 {
			part := string(runes[i:min(i+2048, len(runes))])
			line, ok := o.spans(p, part)
			if !ok {
				good = false
				break
			}
			for _, f := range strings.Fields(line) {
				a, b, _ := strings.Cut(f, ",")
				s, _ := strconv.Atoi(a)
				e, _ := strconv.Atoi(b)
				theirs[[]rune(part[s:e])[0]] = true
			}
		}
		if !good {
			t.Log(n, "ERR in onig")
			continue
		}
		var set charset
		var ok2 bool
		switch n {
		case `\s`:
			set, ok2 = spaceSet(), true
		case `\d`:
			set, ok2 = digitSet(), true
		case `\w`:
			set, ok2 = wordSet(), true
		case `\h`:
			set, ok2 = xdigitSet(), true
		case `\S`:
			set, ok2 = spaceSet().negate(), true
		case `\W`:
			set, ok2 = wordSet().negate(), true
		case `.`:
			set, ok2 = oneRune('\n').negate(), true
		default:
			set, ok2 = propertySet(n)
		}
		if !ok2 {
			t.Log(n, "not ours")
			continue
		}
		var miss, extra []runeRange
		add := func(l *[]runeRange, r rune) {
			if k := len(*l); k > 0 && (*l)[k-1].hi == r-1 {
				(*l)[k-1].hi = r
			} else {
				*l = append(*l, runeRange{r, r})
			}
		}
		for r := rune(0); r <= unicode.MaxRune; r++ {
			if r >= 0xD800 && r <= 0xDFFF {
				continue
			}
			if theirs[r] != set.contains(r) {
				if theirs[r] {
					add(&miss, r)
				} else {
					add(&extra, r)
				}
			}
		}
		if len(miss)+len(extra) > 0 {
			t.Logf("%s missing %X extra %X", n, miss, extra)
		}
	}
}
