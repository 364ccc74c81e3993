package vocab

import (
	"bytes"
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
	slices.SortFunc(order, func(i, j int32) int { return compareReversed(tokens[i], tokens[j]) })
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
	slices.SortFunc(order, func(i, j int32) int {
		if c := bytes.Compare(tokens[i], tokens[j]); c != 0 {
			return c
		}
		return int(i - j)
	})
	return order
}

func compareReversed(a, b []byte) int {
	for i, j := len(a)-1, len(b)-1; i >= 0 && j >= 0; i, j = i-1, j-1 {
		if a[i] != b[j] {
			return int(a[i]) - int(b[j])
		}
	}
	return len(a) - len(b)
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

// all returns the pairs of the tokens in the order given; false where they take
// more than limit bytes in a file.
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
		a.pairs(i, &scratch, func(m merge) bool {
			list = append(list, m)
			return true
		})
	}
	return list, true
}
