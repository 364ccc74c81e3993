package vocab

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
)

// affixes knows, of every token, the longest other token that it begins with and
// the longest that it ends with. From those, all of them are found by going on
// from one to the next, without a look at the bytes: the pairs of all tokens take
// time linear in the size of the vocabulary and of the result, however long
// tokens are.
type affixes struct {
	tokens         [][]byte
	prefix, suffix []int32 // -1: none
}

// newAffixes finds the affixes of the tokens for which member holds among
// themselves; the others have none and are none. order is sorted(tokens).
func newAffixes(tokens [][]byte, order []int32, member func(i int32) bool) *affixes {
	order = slices.DeleteFunc(slices.Clone(order), func(i int32) bool { return !member(i) })
	a := &affixes{tokens: tokens}
	a.prefix = longestAffixes(tokens, order, bytes.HasPrefix)
	sortBy(tokens, order, lastBytes, compareReversed)
	a.suffix = longestAffixes(tokens, order, bytes.HasSuffix)
	return a
}

// sorted returns the indexes of the tokens in the order of their bytes. Equal
// tokens are neighbours in it, the one of the lower index first.
func sorted(tokens [][]byte) []int32 {
	order := make([]int32, len(tokens))
	for i := range order {
		order[i] = int32(i)
	}
	sortBy(tokens, order, firstBytes, bytes.Compare)
	return order
}

// sortBy sorts indexes of tokens by compare, of which key gives as much as fits
// into a word: most comparisons then need not fetch the tokens.
func sortBy(tokens [][]byte, order []int32, key func(token []byte) uint64, compare func(a, b []byte) int) {
	type entry struct {
		key   uint64
		index int32
	}
	entries := make([]entry, len(order))
	for k, i := range order {
		entries[k] = entry{key(tokens[i]), i}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		if c := compare(tokens[a.index], tokens[b.index]); c != 0 {
			return c
		}
		return int(a.index - b.index)
	})
	for k, e := range entries {
		order[k] = e.index
	}
}

// firstBytes orders as bytes.Compare does the first eight bytes.
func firstBytes(token []byte) uint64 {
	if len(token) >= 8 {
		return binary.BigEndian.Uint64(token)
	}
	var word [8]byte
	copy(word[:], token)
	return binary.BigEndian.Uint64(word[:])
}

// lastBytes orders as compareReversed does the last eight bytes.
func lastBytes(token []byte) uint64 {
	if len(token) >= 8 {
		return binary.LittleEndian.Uint64(token[len(token)-8:])
	}
	var word [8]byte
	copy(word[8-len(token):], token)
	return binary.LittleEndian.Uint64(word[:])
}

// compareReversed compares from the end on.
func compareReversed(a, b []byte) int {
	for len(a) >= 8 && len(b) >= 8 {
		if x, y := lastBytes(a), lastBytes(b); x != y {
			return cmp.Compare(x, y)
		}
		a, b = a[:len(a)-8], b[:len(b)-8]
	}
	// The shorter one has less than eight bytes left; zeros stand for what lacks.
	return cmp.Or(cmp.Compare(lastBytes(a), lastBytes(b)), len(a)-len(b))
}

// longestAffixes goes through tokens in an order in which a token comes behind
// its affixes and everything between has that affix too, so that the affixes of
// the current token are those on a stack.
func longestAffixes(tokens [][]byte, order []int32, has func(s, affix []byte) bool) []int32 {
	longest := make([]int32, len(tokens))
	for i := range longest {
		longest[i] = -1
	}
	last := int32(-1)
	for _, i := range order {
		for last >= 0 && !has(tokens[i], tokens[last]) {
			last = longest[last]
		}
		longest[i], last = last, i
	}
	return longest
}

// merge says that left and right spell token.
type merge struct{ token, left, right int32 }

// pairs calls yield with every pair of tokens that spells token i, that with the
// longest left half first, until yield says no; then it returns false. scratch is
// memory to use.
func (a *affixes) pairs(i int32, scratch *[]int32, yield func(merge) bool) bool {
	ends := (*scratch)[:0]
	for s := a.suffix[i]; s >= 0; s = a.suffix[s] {
		ends = append(ends, s)
	}
	*scratch = ends
	size := len(a.tokens[i])
	for left := a.prefix[i]; left >= 0 && len(ends) > 0; {
		right := ends[len(ends)-1]
		switch rest := size - len(a.tokens[left]); {
		case len(a.tokens[right]) < rest:
			ends = ends[:len(ends)-1]
		case len(a.tokens[right]) > rest:
			left = a.prefix[left]
		default:
			if !yield(merge{i, left, right}) {
				return false
			}
			ends = ends[:len(ends)-1]
		}
	}
	return true
}

// mergeBytes is the least that a pair takes in the file beside its letters.
const mergeBytes = len(`["",""],`)

// all returns the pairs of the tokens in the order given, those of one token by
// their left half, as the files in use have them; false where they take more than
// limit bytes in a file.
func (a *affixes) all(order []int32, limit int) ([]merge, bool) {
	var scratch []int32
	count, size := 0, 0
	for _, i := range order {
		fits := a.pairs(i, &scratch, func(merge) bool {
			count++
			size += len(a.tokens[i]) + mergeBytes
			return size <= limit
		})
		if !fits {
			return nil, false
		}
	}
	list := make([]merge, 0, count)
	for _, i := range order {
		start := len(list)
		a.pairs(i, &scratch, func(m merge) bool {
			list = append(list, m)
			return true
		})
		slices.SortFunc(list[start:], func(a, b merge) int { return int(a.left - b.left) })
	}
	return list, true
}
