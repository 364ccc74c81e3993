package tokenizer

import (
	"slices"
	"strings"
	"sync"
	"unicode"
)

type runeRange struct{ lo, hi rune }

// charset is a set of Unicode scalar values: sorted ranges that neither touch
// nor overlap. Surrogates, which no text holds, are in no set.
type charset []runeRange

const (
	surrogateLo = 0xD800
	surrogateHi = 0xDFFF
)

// newCharset sorts and merges ranges; it owns the slice.
func newCharset(ranges []runeRange) charset {
	slices.SortFunc(ranges, func(a, b runeRange) int { return int(a.lo) - int(b.lo) })
	var out charset
	add := func(lo, hi rune) {
		if lo > hi {
			return
		}
		if n := len(out); n > 0 && lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, hi)
			return
		}
		out = append(out, runeRange{lo, hi})
	}
	for _, r := range ranges {
		add(r.lo, min(r.hi, surrogateLo-1))
		add(max(r.lo, surrogateHi+1), r.hi)
	}
	return out
}

func oneRune(r rune) charset { return newCharset([]runeRange{{r, r}}) }

func tableSet(tables ...*unicode.RangeTable) charset {
	var ranges []runeRange
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			ranges = append(ranges, runeRange{lo, hi})
			return
		}
		for r := lo; r <= hi; r += stride {
			ranges = append(ranges, runeRange{r, r})
		}
	}
	for _, t := range tables {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return newCharset(ranges)
}

func union(sets ...charset) charset {
	return newCharset(slices.Concat(sets...))
}

func (c charset) negate() charset {
	var out []runeRange
	next := rune(0)
	for _, r := range c {
		if r.lo > next {
			out = append(out, runeRange{next, r.lo - 1})
		}
		next = r.hi + 1
	}
	if next <= unicode.MaxRune {
		out = append(out, runeRange{next, unicode.MaxRune})
	}
	return newCharset(out)
}

func (c charset) intersect(d charset) charset {
	return union(c.negate(), d.negate()).negate()
}

func (c charset) contains(r rune) bool {
	_, ok := slices.BinarySearchFunc(c, r, func(x runeRange, r rune) int {
		switch {
		case x.hi < r:
			return -1
		case x.lo > r:
			return 1
		}
		return 0
	})
	return ok
}

// cased lists the runes that simple case folding maps to another.
var cased = sync.OnceValue(func() []rune {
	var out []rune
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if unicode.SimpleFold(r) != r {
			out = append(out, r)
		}
	}
	return out
})

// fold adds to the set everything that equals a member of it but for case.
func (c charset) fold() charset {
	ranges := slices.Clone(c)
	for _, r := range cased() {
		if c.contains(r) {
			for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
				ranges = append(ranges, runeRange{f, f})
			}
		}
	}
	return newCharset(ranges)
}

var (
	spaceSet  = sync.OnceValue(func() charset { return tableSet(unicode.White_Space) })
	digitSet  = sync.OnceValue(func() charset { return category("nd") })
	xdigitSet = sync.OnceValue(func() charset { return newCharset([]runeRange{{'0', '9'}, {'A', 'F'}, {'a', 'f'}}) })
	alphaSet  = sync.OnceValue(func() charset {
		return union(category("l"), tableSet(unicode.Nl, unicode.Other_Alphabetic, added16Alphabetic))
	})
	wordSet = sync.OnceValue(func() charset {
		return union(alphaSet(), category("m"), category("nd"), tableSet(unicode.Pc))
	})
	// loneWordSet is \w outside of brackets, where Oniguruma goes by a table
	// of Latin-1 that has the superscript digits and fractions in it.
	loneWordSet = sync.OnceValue(func() charset {
		return union(wordSet(), newCharset([]runeRange{{0xB2, 0xB3}, {0xB9, 0xB9}, {0xBC, 0xBE}}))
	})
	assignedSet = sync.OnceValue(func() charset {
		return union(graphicSet(), tableSet(unicode.Cc, unicode.Cf, unicode.Co))
	})
	graphicSet = sync.OnceValue(func() charset {
		return union(category("l"), category("m"), category("n"), category("p"), category("s"), category("z"))
	})
)

// category returns the set of a general category, script or property, by its
// loose name.
func category(name string) charset {
	return tableSet(append([]*unicode.RangeTable{propertyTables()[name].table}, added16[propertyTables()[name].name]...)...)
}

// propertySet finds the set of \p{name}: a general category, a script or a
// property of the Unicode database, or a POSIX bracket in Oniguruma's reading.
// Case, spaces, hyphens and underscores of the name do not matter.
func propertySet(name string) (charset, bool) {
	name = looseName(name)
	switch name {
	case "any":
		return charset(nil).negate(), true
	case "ascii":
		return newCharset([]runeRange{{0, 127}}), true
	case "alpha", "alphabetic":
		return alphaSet(), true
	case "alnum":
		return union(alphaSet(), digitSet()), true
	case "blank":
		return union(tableSet(unicode.Zs), oneRune('\t')), true
	case "cntrl":
		return tableSet(unicode.Cc), true
	case "digit":
		return digitSet(), true
	case "lower", "lowercase":
		return union(category("ll"), tableSet(unicode.Other_Lowercase)), true
	case "upper", "uppercase":
		return union(category("lu"), tableSet(unicode.Other_Uppercase)), true
	case "space", "whitespace":
		return spaceSet(), true
	case "word":
		return wordSet(), true
	case "xdigit":
		return xdigitSet(), true
	case "graph", "print", "punct":
		// Their members changed between releases of Oniguruma.
		return nil, false
	case "assigned":
		return assignedSet(), true
	case "cn", "unassigned":
		return assignedSet().negate(), true
	case "c", "other":
		return graphicSet().negate(), true
	}
	if _, ok := propertyTables()[name]; ok {
		return category(name), true
	}
	return nil, false
}

func looseName(s string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "", "_", "").Replace(s))
}

// namedTable is a table under its shortest loose name.
type namedTable struct {
	name  string
	table *unicode.RangeTable
}

var propertyTables = sync.OnceValue(func() map[string]namedTable {
	tables := map[string]namedTable{}
	add := func(name string, t *unicode.RangeTable) { tables[looseName(name)] = namedTable{looseName(name), t} }
	for name, t := range unicode.Properties {
		add(name, t)
	}
	for name, t := range unicode.Scripts {
		add(name, t)
	}
	for name, t := range unicode.Categories {
		add(name, t)
	}
	for alias, name := range unicode.CategoryAliases {
		tables[looseName(alias)] = tables[looseName(name)]
	}
	return tables
})

func isSpace(r rune) bool { return unicode.Is(unicode.White_Space, r) }

// isWord is \w of Rust's regex crate, which also counts the two joiners.
func isWord(r rune) bool {
	switch {
	case r < 0x80:
		return r == '_' || r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'z'
	case r == 0x200C || r == 0x200D:
		return true
	}
	return isLetter(r) || unicode.In(r, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic,
		added16Mn, added16Mc, added16Nd, added16Alphabetic)
}

// isPunctuation is category P or ASCII punctuation, which includes symbols.
func isPunctuation(r rune) bool {
	if r < 0x80 {
		return r > ' ' && r < 0x7F && !(r >= '0' && r <= '9') && !(r|0x20 >= 'a' && r|0x20 <= 'z')
	}
	return unicode.Is(unicode.P, r)
}
