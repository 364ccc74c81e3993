package tokenizer

import (
	"fmt"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
	"unicode/utf8"
)

// bpe is the byte-pair-encoding model: characters of a piece become symbols,
// and of all neighbours that a merge joins, the one of the least rank, then
// the leftmost, is joined, until none is left.
type bpe struct {
	vocab          map[string]int32
	merges         mergeTable
	unk            string // "" with hasUnk false
	hasUnk         bool
	fuseUnk        bool
	byteFallback   bool
	ignoreMerges   bool
	prefix, suffix string // continuing_subword_prefix, end_of_word_suffix

	charIDs [0x180]int32 // ids of single characters, -1 for none
	byteIDs [256]int32   // ids of <0xHH>, -1 for none

	scratch sync.Pool // *bpeScratch
	cache   pieceCache
}

// prepare fills what is derived from the vocabulary.
func (m *bpe) prepare() {
	lookup := func(s string) int32 {
		if id, ok := m.vocab[s]; ok {
			return id
		}
		return -1
	}
	for r := range m.charIDs {
		m.charIDs[r] = lookup(string(rune(r)))
	}
	for b := range m.byteIDs {
		m.byteIDs[b] = lookup(fmt.Sprintf("<0x%02X>", b))
	}
}

type symbol struct {
	id         int32
	prev, next int32 // -1 at the ends
	dead       bool  // merged into the one on its left
}

// candidate is a merge that was possible when it was queued: order is
// rank<<32 | position of its left symbol.
type candidate struct {
	order uint64
	id    int32
}

type bpeScratch struct {
	symbols []symbol
	queue   []candidate
}

// maxScratch bounds what a goroutine leaves behind for the next one.
const maxScratch = 1 << 16

// encode appends the ids of a piece. ordinary says that no special token may
// come of it.
func (m *bpe) encode(dst []int, text string, ordinary func(id int32) bool) ([]int, error) {
	if text == "" {
		return dst, nil
	}
	if m.ignoreMerges {
		if id, ok := m.vocab[text]; ok && (ordinary == nil || ordinary(id)) {
			return append(dst, int(id)), nil
		}
	}
	if ids, ok := m.cache.get(text); ok {
		for _, id := range ids {
			dst = append(dst, int(id))
		}
		return dst, nil
	}
	w, _ := m.scratch.Get().(*bpeScratch)
	if w == nil {
		w = &bpeScratch{}
	}
	if err := m.symbolize(w, text); err != nil {
		return nil, err
	}
	m.merge(w)
	start := len(dst)
	for _, s := range w.symbols {
		if !s.dead {
			dst = append(dst, int(s.id))
		}
	}
	m.cache.put(text, dst[start:])
	if cap(w.symbols) <= maxScratch && cap(w.queue) <= maxScratch {
		m.scratch.Put(w)
	}
	return dst, nil
}

// symbolize splits a piece into the symbols that merging starts from.
func (m *bpe) symbolize(w *bpeScratch, text string) error {
	w.symbols = w.symbols[:0]
	add := func(id int32) {
		n := int32(len(w.symbols))
		w.symbols = append(w.symbols, symbol{id: id, prev: n - 1, next: n + 1})
	}
	plain := m.prefix == "" && m.suffix == ""
	unk := int32(-1) // an unknown character that waits for company
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		s := text[i : i+size]
		id := int32(-1)
		switch {
		case plain && int(r) < len(m.charIDs):
			id = m.charIDs[r]
		default:
			if i > 0 {
				s = m.prefix + s
			}
			if i+size == len(text) {
				s += m.suffix
			}
			if known, ok := m.vocab[s]; ok {
				id = known
			}
		}
		i += size
		if id >= 0 {
			if unk >= 0 {
				add(unk)
				unk = -1
			}
			add(id)
			continue
		}
		if m.byteFallback && m.hasBytes(s) {
			// An unknown character in front stays pending and lands behind
			// these bytes; that takes a vocabulary with some bytes missing.
			for _, b := range []byte(s) {
				add(m.byteIDs[b])
			}
			continue
		}
		if !m.hasUnk {
			continue // dropped
		}
		if unk >= 0 && !m.fuseUnk {
			add(unk)
		}
		if unk < 0 || !m.fuseUnk {
			known, ok := m.vocab[m.unk]
			if !ok {
				return fmt.Errorf("tokenizer: %s is not in the vocabulary, and neither is the unk_token %s; add one of them to model.vocab", quote(s), quote(m.unk))
			}
			unk = known
		}
	}
	if unk >= 0 {
		add(unk)
	}
	if n := len(w.symbols); n > 0 {
		w.symbols[n-1].next = -1
	}
	return nil
}

func (m *bpe) hasBytes(s string) bool {
	for i := 0; i < len(s); i++ {
		if m.byteIDs[s[i]] < 0 {
			return false
		}
	}
	return true
}

// merge joins symbols. A queued candidate is stale once one of its symbols
// changed; the symbols now there then give another token, or none.
func (m *bpe) merge(w *bpeScratch) {
	sym := w.symbols
	q := w.queue[:0]
	for i := 0; i+1 < len(sym); i++ {
		if rank, id, ok := m.merges.get(sym[i].id, sym[i+1].id); ok {
			q = append(q, candidate{uint64(rank)<<32 | uint64(i), id})
		}
	}
	for i := (len(q) - 2) / 4; i >= 0 && len(q) > 1; i-- {
		siftDown(q, i)
	}
	push := func(left, right int32) {
		if rank, id, ok := m.merges.get(sym[left].id, sym[right].id); ok {
			q = append(q, candidate{uint64(rank)<<32 | uint64(left), id})
			siftUp(q, len(q)-1)
		}
	}
	for len(q) > 0 {
		top := q[0]
		last := len(q) - 1
		q[0] = q[last]
		q = q[:last]
		siftDown(q, 0)
		at := int32(uint32(top.order))
		next := sym[at].next
		if sym[at].dead || next < 0 {
			continue
		}
		if _, id, ok := m.merges.get(sym[at].id, sym[next].id); !ok || id != top.id {
			continue
		}
		sym[at].id, sym[at].next = top.id, sym[next].next
		sym[next].dead = true
		if after := sym[next].next; after >= 0 {
			sym[after].prev = at
		}
		if prev := sym[at].prev; prev >= 0 {
			push(prev, at)
		}
		if after := sym[at].next; after >= 0 {
			push(at, after)
		}
	}
	w.queue = q
}

// The queue is a heap in which every node has four children: half the depth
// of a binary one, and siblings share a cache line.
func siftDown(q []candidate, i int) {
	for {
		least := i
		for c := 4*i + 1; c <= 4*i+4 && c < len(q); c++ {
			if q[c].order < q[least].order {
				least = c
			}
		}
		if least == i {
			return
		}
		q[i], q[least] = q[least], q[i]
		i = least
	}
}

func siftUp(q []candidate, i int) {
	for i > 0 {
		parent := (i - 1) / 4
		if q[parent].order <= q[i].order {
			return
		}
		q[i], q[parent] = q[parent], q[i]
		i = parent
	}
}

// mergeTable maps a pair of ids to rank and id of their merge. It is an open
// hash table: a lookup is one cache miss, and filling it with the merges of a
// large vocabulary takes a fifth of the time that a map takes. The seed is
// random, so that no file can choose its collisions.
type mergeTable struct {
	entries []mergeEntry
	seed    uint64
	shift   uint
}

type mergeEntry struct {
	left, right int32 // left -1: empty
	rank        uint32
	id          int32
}

func newMergeTable(n int) mergeTable {
	size := bits.Len(uint(n) * 2)
	t := mergeTable{entries: make([]mergeEntry, 1<<size), seed: rand.Uint64() | 1, shift: uint(64 - size)}
	for i := range t.entries {
		t.entries[i].left = -1
	}
	return t
}

// slot returns the entry of the pair or the empty one where it belongs.
func (t *mergeTable) slot(left, right int32) *mergeEntry {
	hi, lo := bits.Mul64((uint64(uint32(left))<<32|uint64(uint32(right)))^t.seed, t.seed*0x9E3779B97F4A7C15|1)
	mask := len(t.entries) - 1
	for i := int((hi ^ lo) >> t.shift); ; i++ {
		e := &t.entries[i&mask]
		if e.left < 0 || e.left == left && e.right == right {
			return e
		}
	}
}

func (t *mergeTable) get(left, right int32) (rank uint32, id int32, ok bool) {
	e := t.slot(left, right)
	return e.rank, e.id, e.left >= 0
}

// pieceCache remembers the ids of short pieces. It stops to grow when it is
// full: the words that come first are mostly the common ones.
type pieceCache struct {
	mu  sync.RWMutex
	ids map[string][]int32
}

const (
	maxCached      = 1 << 14 // pieces
	maxCachedPiece = 64      // bytes
)

func (c *pieceCache) get(text string) ([]int32, bool) {
	if len(text) > maxCachedPiece {
		return nil, false
	}
	c.mu.RLock()
	ids, ok := c.ids[text]
	c.mu.RUnlock()
	return ids, ok
}

func (c *pieceCache) put(text string, ids []int) {
	if len(text) > maxCachedPiece {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ids) >= maxCached {
		return
	}
	if c.ids == nil {
		c.ids = map[string][]int32{}
	}
	short := make([]int32, len(ids))
	for i, id := range ids {
		short[i] = int32(id)
	}
	c.ids[strings.Clone(text)] = short
}
