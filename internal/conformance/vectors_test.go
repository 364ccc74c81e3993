package conformance

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/testdata/vectors"
	"github.com/tritter-ai/tritter/verify"
)

var update = flag.Bool("update", false, "write the vectors and the table of rules")

const (
	folder = "../../testdata/vectors/container"
	page   = "../../spec/trit-v1-vectors.md"
)

// TestVectorsAreCurrent makes every vector again and compares it with the file.
func TestVectorsAreCurrent(t *testing.T) {
	list, byRule := Vectors()
	if *update {
		require.NoError(t, os.RemoveAll(folder))
		require.NoError(t, os.Mkdir(folder, 0o777))
		for _, v := range list {
			require.NoError(t, os.WriteFile(filepath.Join(folder, v.Name+".vector"), v.Encode(), 0o666))
		}
		writeTable(t, byRule)
		t.Skip("written; build again to embed them")
	}
	have, err := vectors.Container()
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(have), 120)
	size := 0
	for i, v := range have {
		require.Less(t, i, len(list), v.Name)
		require.Equal(t, list[i].Name, v.Name, "go test ./internal/conformance -run Current -update")
		require.Equal(t, list[i].Encode(), v.Encode(), v.Name)
		require.LessOrEqual(t, len(v.File), 32<<10, "%s: keep vectors small", v.Name)
		size += len(v.File)
	}
	require.Len(t, have, len(list))
	require.Less(t, size, 2<<20)
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.True(t, strings.Contains(string(text), table(byRule)), "go test ./internal/conformance -run Current -update")
}

const tableBegin, tableEnd = "<!-- The table is written by `go test ./internal/conformance -run Current -update`. -->\n", "<!-- End of the table. -->\n"

// table lists the rules with their vectors.
func table(byRule map[string][]string) string {
	var b strings.Builder
	b.WriteString(tableBegin + "\n| rule | section | words | vectors |\n| --- | --- | --- | --- |\n")
	for _, r := range Rules {
		shows := byRule[r.ID]
		for _, name := range r.Tests {
			shows = append(shows, "`"+name+"`")
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.ID, r.Section, strings.ReplaceAll(r.Quote, "|", "\\|"), strings.Join(shows, ", "))
	}
	return b.String() + "\n" + tableEnd
}

func writeTable(t *testing.T, byRule map[string][]string) {
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), tableBegin)
	require.True(t, ok)
	_, after, ok := strings.Cut(rest, tableEnd)
	require.True(t, ok)
	require.NoError(t, os.WriteFile(page, []byte(before+table(byRule)+after), 0o666))
}

// TestEveryRuleHasAVector: every sentence of the specification that says MUST is
// quoted by a rule, and every rule has a vector that breaks it or a test.
func TestEveryRuleHasAVector(t *testing.T) {
	text, err := os.ReadFile("../../spec/trit-v1.md")
	require.NoError(t, err)
	spec := string(text)
	list, byRule := Vectors()
	expect := map[string]string{}
	for _, v := range list {
		expect[v.Name] = v.Expect
	}
	known := map[string]bool{}
	for _, r := range Rules {
		require.False(t, known[r.ID], "rule %s twice", r.ID)
		known[r.ID] = true
		require.Contains(t, spec, r.Quote, "rule %s", r.ID)
		require.NotEmpty(t, append(byRule[r.ID], r.Tests...), "rule %s", r.ID)
		broken := slices.ContainsFunc(byRule[r.ID], func(name string) bool { return expect[name] != vectors.Success })
		if r.ID != "scale-sign" && len(r.Tests) == 0 { // what may be has nothing to break
			require.True(t, broken, "rule %s has no vector that breaks it", r.ID)
		}
		for _, name := range r.Tests {
			require.True(t, testExists(t, name), "rule %s names the test %s", r.ID, name)
		}
	}
	for id := range byRule {
		require.True(t, known[id], "vectors %v are about a rule %q that is not listed", byRule[id], id)
	}
	sentences := 0
	for _, s := range regexp.MustCompile(`(?s)[^.;|\n]*\bMUST\b[^.;|\n]*`).FindAllString(spec, -1) {
		if strings.Contains(s, "MUST NOT and MAY are used as in") || strings.Contains(s, "Every MUST about") {
			if !strings.Contains(s, "a reader MUST") {
				continue
			}
		}
		sentences++
		found := false
		for _, r := range Rules {
			for _, part := range regexp.MustCompile(`[.;|]`).Split(r.Quote, -1) {
				found = found || strings.Contains(part, "MUST") && strings.Contains(s, part)
			}
		}
		require.True(t, found, "no rule quotes %q", strings.TrimSpace(s))
	}
	require.GreaterOrEqual(t, sentences, 18)
}

func testExists(t *testing.T, name string) bool {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if strings.Contains(string(text), "func "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// classesOf verifies a file and returns the classes of everything that is wrong
// with it.
func classesOf(t testing.TB, path string) (classes []string) {
	r, err := verify.File(context.Background(), path, verify.Options{Workers: 1}, nil)
	if err != nil {
		require.NotEmpty(t, format.ClassOf(err), "%v", err)
		return []string{string(format.ClassOf(err))}
	}
	for _, f := range r.Findings {
		classes = append(classes, f.Class)
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// TestGo runs every vector through this module's readers: opening refuses what
// the header shows, in each of the ways to open a file; verifying refuses the
// rest, with the one class that the vector names.
func TestGo(t *testing.T) {
	list, err := vectors.Container()
	require.NoError(t, err)
	dir := t.TempDir()
	for _, v := range list {
		t.Run(v.Name, func(t *testing.T) {
			path := filepath.Join(dir, v.Name+".trit")
			require.NoError(t, os.WriteFile(path, v.File, 0o666))
			f, err := format.OpenBytes(v.File)
			_, readerErr := format.OpenReaderAt(strings.NewReader(string(v.File)), int64(len(v.File)))
			mapped, mapErr := format.Open(path)
			if v.Stage == vectors.Opening {
				require.Equal(t, v.Expect, string(format.ClassOf(err)), "%v", err)
				require.Equal(t, v.Expect, string(format.ClassOf(readerErr)), "%v", readerErr)
				require.Equal(t, v.Expect, string(format.ClassOf(mapErr)), "%v", mapErr)
				require.Equal(t, []string{v.Expect}, classesOf(t, path))
				return
			}
			require.NoError(t, err)
			require.NoError(t, readerErr)
			require.NoError(t, mapErr)
			defer mapped.Close()
			found := 0
			require.NoError(t, f.Check(context.Background(), 1, func(p format.Problem) {
				found++
				require.Equal(t, v.Expect, string(p.Err.Class), "%v", p)
			}, nil))
			switch v.Stage {
			case vectors.Verifying:
				require.NotZero(t, found)
				require.Equal(t, []string{v.Expect}, classesOf(t, path))
			case vectors.Content:
				require.Zero(t, found)
				require.Equal(t, []string{v.Expect}, classesOf(t, path))
			default:
				require.Empty(t, classesOf(t, path))
				sum, err := Release(mapped)
				require.NoError(t, err)
				require.Equal(t, v.Released, sum)
			}
		})
	}
}

// TestVectorTextIsStrict: a vector that says something unknown fails, so that no
// implementation passes by not understanding.
func TestVectorTextIsStrict(t *testing.T) {
	for text, want := range map[string]string{
		"expect: header\nstage: opening\ncomment: x\n":                       "no empty line",
		"expect: header\nstage: opening\ncomment: x\ncolour: red\n\n":        `key "colour" is unknown`,
		"expect: header\nexpect: header\nstage: opening\ncomment: x\n\n":     "occurs twice",
		"expect: wrong\nstage: opening\ncomment: x\n\n":                      `expect "wrong"`,
		"expect: header\nstage: later\ncomment: x\n\n":                       `stage "later"`,
		"expect: header\ncomment: x\n\n":                                     `stage ""`,
		"expect: header\nstage: opening\n\n":                                 "no comment",
		"expect: success\ncomment: x\n\n":                                    "64 digits",
		"expect: success\nstage: opening\nreleased: 00\ncomment: x\n\n":      "no stage",
		"expect: header\nstage: opening\nreleased: 00\ncomment: x\n\n":       "nothing released",
		"expect: header\nstage: opening\ncomment\n\n":                        `"key: value"`,
		"\nexpect: header\nstage: opening\ncomment: x\n\n\x89TRIT\r\n\x1a\n": `"key: value"`,
	} {
		_, err := vectors.Parse("x", []byte(text))
		require.ErrorContains(t, err, want, "%q", text)
	}
}
