package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// slowMerge joins the symbols ids of a piece the obvious way: a list of
// candidates, searched from front to back for the one of the least rank.
func slowMerge(ids []int, merges map[[2]int][2]int) []int {
	type candidate struct{ rank, pos, id int }
	next := make([]int, len(ids))
	dead := make([]bool, len(ids))
	var queue []candidate
	offer := func(left, right int) {
		if m, ok := merges[[2]int{ids[left], ids[right]}]; ok {
			queue = append(queue, candidate{m[0], left, m[1]})
		}
	}
	for i := range ids {
		next[i] = i + 1
		if i+1 < len(ids) {
			offer(i, i+1)
		}
	}
	for len(queue) > 0 {
		best := 0
		for i, c := range queue {
			if b := queue[best]; c.rank < b.rank || c.rank == b.rank && c.pos < b.pos {
				best = i
			}
		}
		c := queue[best]
		queue = slices.Delete(queue, best, best+1)
		right := next[c.pos]
		if dead[c.pos] || right >= len(ids) {
			continue
		}
		if m, ok := merges[[2]int{ids[c.pos], ids[right]}]; !ok || m[1] != c.id {
			continue
		}
		ids[c.pos], dead[right], next[c.pos] = c.id, true, next[right]
		for left := c.pos - 1; left >= 0; left-- {
			if !dead[left] {
				offer(left, c.pos)
				break
			}
		}
		if next[c.pos] < len(ids) {
			offer(c.pos, next[c.pos])
		}
	}
	var out []int
	for i, id := range ids {
		if !dead[i] {
			out = append(out, id)
		}
	}
	return out
}

func TestMergesEqualTheSlowWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tokens := chars("abc")
		known := map[string]int{"a": 0, "b": 1, "c": 2}
		var merges [][]string
		table := map[[2]int][2]int{}
		for range rapid.IntRange(0, 14).Draw(t, "merges") {
			a := rapid.SampledFrom(tokens).Draw(t, "a")
			b := rapid.SampledFrom(tokens).Draw(t, "b")
			if _, ok := known[a+b]; !ok {
				known[a+b] = len(tokens)
				tokens = append(tokens, a+b)
			}
			table[[2]int{known[a], known[b]}] = [2]int{len(merges), known[a+b]}
			merges = append(merges, []string{a, b})
		}
		tok := build(t, object{"model": bpeModel(tokens, merges...)})
		for range 5 {
			text := rapid.StringMatching(`[abc]{1,90}`).Draw(t, "text")
			var ids []int
			for _, c := range chars(text) {
				ids = append(ids, known[c])
			}
			want := slowMerge(ids, table)
			for range 2 { // the second time from the cache
				got, err := tok.Encode(text, EncodeOptions{})
				require.NoError(t, err)
				require.Equal(t, want, got, text)
			}
		}
	})
}

func TestMergeRanks(t *testing.T) {
	tok := build(t, object{"model": bpeModel([]string{"a", "b", "c", "ab", "bc", "abc"}, []string{"b", "c"}, []string{"a", "b"}, []string{"ab", "c"})})
	require.Equal(t, []string{"a", "bc"}, spell(t, tok, encode(t, tok, "abc")))
	require.Equal(t, []string{"ab", "ab"}, spell(t, tok, encode(t, tok, "abab")))

	// The later of two ranks counts.
	tok = build(t, object{"model": bpeModel([]string{"a", "b", "c", "ab", "bc"}, []string{"a", "b"}, []string{"b", "c"}, []string{"a", "b"})})
	require.Equal(t, []string{"a", "bc"}, spell(t, tok, encode(t, tok, "abc")))

	// Merges as lines.
	model := bpeModel([]string{"a", "b", "ab"})
	model["merges"] = []string{"#version: 0.2", "a b"}
	require.Equal(t, []int{2, 2}, encode(t, build(t, object{"model": model}), "abab"))
}

func TestUnknownCharacters(t *testing.T) {
	vocab := []string{"<unk>", "a", "b", "ab"}
	merge := []string{"a", "b"}
	for _, c := range []struct {
		name string
		more object
		text string
		want []string
	}{
		{"dropped without unk_token", object{}, "axxb", []string{"ab"}},
		{"one for each", object{"unk_token": "<unk>"}, "axéb", []string{"a", "<unk>", "<unk>", "b"}},
		{"fused", object{"unk_token": "<unk>", "fuse_unk": true}, "xéaxxb", []string{"<unk>", "a", "<unk>", "b"}},
		{"no bytes to fall back to", object{"unk_token": "<unk>", "byte_fallback": true}, "ax", []string{"a", "<unk>"}},
	} {
		tok := build(t, object{"model": with(bpeModel(vocab, merge), c.more)})
		require.Equal(t, c.want, spell(t, tok, encode(t, tok, c.text)), c.name)
	}
	tok := build(t, object{"model": with(bpeModel(vocab, merge), object{"unk_token": "<none>"})})
	require.Equal(t, []int{3}, encode(t, tok, "ab"))
	_, err := tok.Encode("x", EncodeOptions{})
	require.ErrorContains(t, err, `unk_token "<none>"`)
}

func TestByteFallback(t *testing.T) {
	vocab := []string{"<unk>", "a", "<0xC3>", "<0xA9>", "<0x0A>"}
	tok := build(t, object{"model": with(bpeModel(vocab), object{"unk_token": "<unk>", "byte_fallback": true, "fuse_unk": true})})
	require.Equal(t, []string{"a", "<0xC3>", "<0xA9>", "<0x0A>", "a"}, spell(t, tok, encode(t, tok, "aé\na")))
	// è lacks a byte, so all of it is unknown; it waits for the next known
	// character and so lands behind the bytes in between.
	require.Equal(t, []string{"<0xC3>", "<0xA9>", "<unk>", "a"}, spell(t, tok, encode(t, tok, "èéèa")))
}

func TestIgnoreMerges(t *testing.T) {
	model := bpeModel([]string{"a", "b", "c", "ab", "abc"}, []string{"a", "b"})
	tok := build(t, object{"model": model})
	require.Equal(t, []string{"ab", "c"}, spell(t, tok, encode(t, tok, "abc")))
	tok = build(t, object{"model": with(model, object{"ignore_merges": true})})
	require.Equal(t, []string{"abc"}, spell(t, tok, encode(t, tok, "abc")))
	require.Equal(t, []string{"ab", "c", "c"}, spell(t, tok, encode(t, tok, "abcc")))
}

func TestSubwordPrefixAndSuffix(t *testing.T) {
	vocab := []string{"a", "##b", "##c", "ab", "##bc", "abc"}
	merges := [][]string{{"##b", "##c"}, {"a", "##bc"}}
	model := with(bpeModel(vocab, merges...), object{"continuing_subword_prefix": "##"})
	tok := build(t, object{"model": model})
	require.Equal(t, []string{"abc"}, spell(t, tok, encode(t, tok, "abc")))
	require.Equal(t, []string{"a", "##b"}, spell(t, tok, encode(t, tok, "ab")))
	require.Equal(t, []string{}, spell(t, tok, encode(t, tok, "b")))

	model = with(bpeModel([]string{"a", "b", "b</w>", "ab</w>", "a</w>"}, []string{"a", "b</w>"}), object{"end_of_word_suffix": "</w>"})
	tok = build(t, object{"model": model, "pre_tokenizer": object{"type": "WhitespaceSplit"}})
	require.Equal(t, []string{"ab</w>", "b", "b</w>", "a</w>"}, spell(t, tok, encode(t, tok, "ab bb a")))
}

// A megabyte of one letter: nothing in front of the model may be quadratic,
// nor the model. 2 s is ten times what it takes and a thousandth of what a
// quadratic search would.
func TestLongRunsAreLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("a megabyte a tokenizer")
	}
	for _, path := range []string{demoPath, "testdata/bytelevel-llama3/tokenizer.json", "testdata/metaspace-llama2/tokenizer.json"} {
		tok := load(t, path)
		for _, unit := range []string{"a", " ", "\n", "é", "1", "ab", "<"} {
			size := 1 << 18
			if unit == "a" {
				size = 1 << 20
			}
			text := strings.Repeat(unit, size/len(unit))
			start := time.Now()
			ids := encode(t, tok, text)
			require.Less(t, time.Since(start), 2*time.Second, "%s %q", path, unit)
			got, err := tok.Decode(ids, false)
			require.NoError(t, err)
			require.Equal(t, text, got)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := load(t, demoPath)
	text := strings.Repeat("func (b *Buffer) Write(p []byte) (n int, err error) {\n\treturn b.w.Write(p)\n}\n", 20)
	want := encode(t, load(t, demoPath), text)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			ids, err := tok.Encode(text, EncodeOptions{})
			if err != nil || !slices.Equal(ids, want) {
				t.Errorf("got %v, %v", ids, err)
			}
		})
	}
	wg.Wait()
}

func TestCacheIsBounded(t *testing.T) {
	var c pieceCache
	for i := range 2 * maxCached {
		c.put(fmt.Sprint(i), []int{i})
	}
	c.put(strings.Repeat("x", maxCachedPiece+1), []int{1})
	require.Len(t, c.ids, maxCached)
	ids, ok := c.get("7")
	require.True(t, ok)
	require.Equal(t, []int32{7}, ids)
	_, ok = c.get(strings.Repeat("x", maxCachedPiece+1))
	require.False(t, ok)
}

func TestMergeTable(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	want := map[[2]int32]int32{}
	for range 1000 {
		want[[2]int32{r.Int32N(50), r.Int32N(50)}] = r.Int32()
	}
	table := newMergeTable(len(want))
	for k, v := range want {
		*table.slot(k[0], k[1]) = mergeEntry{k[0], k[1], uint32(v), v}
	}
	for a := range int32(50) {
		for b := range int32(50) {
			v, ok := want[[2]int32{a, b}]
			rank, id, found := table.get(a, b)
			require.Equal(t, ok, found)
			if ok {
				require.Equal(t, v, id)
				require.Equal(t, uint32(v), rank)
			}
		}
	}
	empty := newMergeTable(0)
	_, _, found := empty.get(1, 2)
	require.False(t, found)
}
