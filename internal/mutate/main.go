// Mutate damages valid .trit files in every way that it knows and shows what
// becomes of the mutants: each is refused, or releases exactly what the original
// does.
//
//	go run ./internal/mutate -n 100000
//
// A mutant is tried three times: as it is; with the header's hash made right
// again, as if an attacker knew the format; and with the hashes of all extents
// made right. Only the last two can make another valid file. Then the file is
// held to having one form: what it holds, written by another writer, gives its
// bytes again.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/conformance"
	"github.com/tritter-ai/tritter/testdata/vectors"
	"github.com/tritter-ai/tritter/verify"
)

func main() {
	n := flag.Int("n", 100000, "mutants")
	seed := flag.Uint64("seed", 1, "seed of the mutations")
	python := flag.String("python", "", "folder of tritread.py (spec): it reads every mutant as well, and must agree on which are accepted")
	fixtures := flag.String("fixtures", "testdata/fixtures", "folder of checkpoints that are converted and mutated as well")
	flag.Parse()
	wrong, err := run(os.Stdout, *n, *seed, *fixtures, *python)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
	if wrong > 0 {
		fmt.Fprintf(os.Stderr, "mutate: %d mutants went wrong\n", wrong)
		os.Exit(3)
	}
}

// original is a valid file.
type original struct {
	name    string
	data    []byte
	release string
}

// hashes say which hashes of a mutant are made right.
var hashes = []string{"as they were", "header right", "all right"}

// Outcomes that are no class of failure.
const (
	unchanged = "unchanged"      // the mutation had no effect
	same      = "same release"   // other bytes, the same content
	other     = "another file"   // valid, with hashes made right
	finding   = "other findings" // symmetry, or the self-test's texts
	crash     = "CRASH"
	leak      = "WRONG RELEASE"
	ambiguous = "SECOND FORM"
	dissent   = "READERS DISAGREE"
)

var outcomes = []string{"not-trit", "unsupported-version", "header", "directory", "bounds", "checksum", "code", "scale", "config", "tokenizer", finding, unchanged, same, other, crash, leak, ambiguous, dissent}

// run makes n mutants and prints the table. It returns how many went wrong.
func run(w io.Writer, n int, seed uint64, fixtures, python string) (wrong int, err error) {
	dir, err := os.MkdirTemp("", "tritter-mutate-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	small, large, err := originals(dir, fixtures)
	if err != nil {
		return 0, err
	}
	r := rand.New(rand.NewPCG(seed, 0))
	counts := map[string]map[string]int{}
	second, err := startReader(python)
	if err != nil {
		return 0, err
	}
	defer second.close()
	for i := range n {
		from := small
		if len(large) > 0 && r.IntN(5) == 0 {
			from = large
		}
		o := from[r.IntN(len(from))]
		m, mode := mutations[i%len(mutations)], i/len(mutations)%len(hashes)
		b := m.apply(r, bytes.Clone(o.data))
		if mode > 0 {
			conformance.Rehash(b, mode == 2)
		}
		outcome := judge(b, &o, mode)
		if said, err := second.judge(b); err != nil {
			return wrong, err
		} else if disagree(outcome, said) {
			fmt.Fprintf(w, "%s of %s, hashes %s: %s, but tritread.py says %s\n", m.name, o.name, hashes[mode], outcome, said)
			outcome = dissent
		}
		if outcome == crash || outcome == leak || outcome == ambiguous || outcome == dissent {
			wrong++
			name := fmt.Sprintf("mutant-%d-%d.trit", seed, i)
			if err := os.WriteFile(name, b, 0o666); err != nil {
				return wrong, err
			}
			fmt.Fprintf(w, "%s: %s of %s, hashes %s: %s\n", name, m.name, o.name, hashes[mode], outcome)
		}
		row := m.name + "\t" + hashes[mode]
		if counts[row] == nil {
			counts[row] = map[string]int{}
		}
		counts[row][outcome]++
	}
	return wrong, table(w, n, len(small), len(large), counts)
}

// judge verifies a mutant and says what came out.
func judge(b []byte, o *original, mode int) (outcome string) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintf(os.Stderr, "mutate: %v\n%s", p, debug.Stack())
			outcome = crash
		}
	}()
	if bytes.Equal(b, o.data) {
		return unchanged
	}
	report, err := verify.Reader(context.Background(), o.name, bytes.NewReader(b), int64(len(b)), verify.Options{Workers: 1, Unsigned: true}, nil)
	if err != nil {
		if class := format.ClassOf(err); class != "" {
			return string(class)
		}
		panic(err)
	}
	for _, f := range report.Findings {
		if f.Class != "" {
			return f.Class
		}
	}
	if !report.OK() {
		return finding
	}
	f, err := format.OpenBytes(b)
	if err != nil {
		panic(err) // the report says that it opens
	}
	release, err := conformance.Release(f)
	if err != nil {
		panic(err)
	}
	if release == o.release && mode == 0 {
		return same
	}
	if mode == 0 {
		return leak
	}
	again, err := conformance.Rebuild(f)
	if err != nil {
		panic(err)
	}
	if !bytes.Equal(again, b) {
		return ambiguous
	}
	return other
}

// originals are the vectors that succeed, and every checkpoint under fixtures
// that converts without options.
func originals(dir, fixtures string) (small, large []original, err error) {
	list, err := vectors.Container()
	if err != nil {
		return nil, nil, err
	}
	for _, v := range list {
		if v.Expect == vectors.Success {
			small = append(small, original{v.Name, v.File, v.Released})
		}
	}
	if fixtures == "" {
		return small, nil, nil
	}
	folders, err := os.ReadDir(fixtures)
	if err != nil {
		return nil, nil, err
	}
	for _, folder := range folders {
		plan, err := convert.Open(filepath.Join(fixtures, folder.Name()), convert.Options{})
		if err != nil {
			continue // not a checkpoint, or one that needs options
		}
		path := filepath.Join(dir, folder.Name()+".trit")
		_, err = plan.Write(context.Background(), path, nil)
		plan.Close()
		if err != nil {
			return nil, nil, err
		}
		o, err := read(path)
		if err != nil {
			return nil, nil, err
		}
		o.name = folder.Name()
		large = append(large, o)
	}
	return small, large, nil
}

func read(path string) (original, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return original{}, err
	}
	f, err := format.OpenBytes(b)
	if err != nil {
		return original{}, err
	}
	release, err := conformance.Release(f)
	return original{data: b, release: release}, err
}

// table prints the outcomes by mutation, those columns that have any.
func table(w io.Writer, n, small, large int, counts map[string]map[string]int) error {
	sums := map[string]int{}
	for _, row := range counts {
		for outcome, c := range row {
			sums[outcome] += c
		}
	}
	columns := slices.DeleteFunc(slices.Clone(outcomes), func(o string) bool { return sums[o] == 0 })
	fmt.Fprintf(w, "%d mutants of %d vectors and %d converted checkpoints\n\n", n, small, large)
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "| mutation\t| hashes\t| %s\t|\n", strings.Join(columns, "\t| "))
	fmt.Fprintf(t, "| ---\t| ---\t%s|\n", strings.Repeat("| ---:\t", len(columns)))
	line := func(name, mode string, row map[string]int) {
		fmt.Fprintf(t, "| %s\t| %s", name, mode)
		for _, c := range columns {
			fmt.Fprintf(t, "\t| %d", row[c])
		}
		fmt.Fprint(t, "\t|\n")
	}
	for _, mode := range hashes {
		all := map[string]int{}
		for _, m := range mutations {
			row := counts[m.name+"\t"+mode]
			for outcome, c := range row {
				all[outcome] += c
			}
			line(m.name, mode, row)
		}
		line("all", mode, all)
	}
	return t.Flush()
}
