package runtime

import (
	"fmt"
	"sync"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/model"
)

// block holds the keys and values of kernels.PageLen consecutive positions in
// every layer. Sequences that share a prefix share its blocks.
type block struct {
	refs  int
	pages []*kernels.Page // one a layer
}

// cache hands out blocks. Its lock covers the block tables of all sequences.
type cache struct {
	mu                       sync.Mutex
	format                   kernels.KVFormat
	layers, kvHeads, headDim int
	window, sinks            int // window 0: none
	free                     []*block
	made                     int // blocks that exist, free or not
}

func newCache(c *model.Config, opt *Options) cache {
	return cache{format: opt.KV, layers: c.NumLayers, kvHeads: c.NumKVHeads, headDim: c.HeadDim, window: opt.Window, sinks: opt.Sinks}
}

// perPosition is the memory of one position in all layers.
func (c *cache) perPosition() int64 {
	return int64(c.layers) * kernels.KVBytes(c.format, c.kvHeads, c.headDim)
}

// greatest is the number of blocks that one sequence of a context holds at most.
// Under a window those are the sinks', and those of the last positions twice: as
// they are before a long call and as they are at its end.
func (c *cache) greatest(context int) int {
	all := (context + kernels.PageLen - 1) / kernels.PageLen
	if c.window == 0 {
		return all
	}
	blocks := func(positions int) int { return (positions-1)/kernels.PageLen + 2 } // wherever they begin
	return min(all, kernels.SinkChunks(c.sinks)+blocks(c.window)+blocks(c.window+batchLen))
}

func (c *cache) alloc() *block {
	if n := len(c.free); n > 0 {
		b := c.free[n-1]
		c.free = c.free[:n-1]
		b.refs = 1
		return b
	}
	b := &block{refs: 1, pages: make([]*kernels.Page, c.layers)}
	for i := range b.pages {
		b.pages[i] = kernels.NewPage(c.format, c.kvHeads, c.headDim)
	}
	c.made++
	return b
}

func (c *cache) release(blocks ...*block) {
	for _, b := range blocks {
		if b.refs--; b.refs == 0 {
			c.free = append(c.free, b)
		}
	}
}

// sequence is the block table of one text. Between the blocks that hold a sink and
// the others, gap blocks are missing: the window has passed them.
type sequence struct {
	cache  *cache
	len    int
	blocks []*block
	gap    int
	closed bool

	// What rollback needs while a call computes positions: the gap before it, and
	// blocks of earlier positions that the window passed since, ascending.
	gapBefore int
	passed    []*block
}

func (s *sequence) Len() int { return s.len }

func (s *sequence) Oldest() int {
	if s.gap == 0 {
		return 0
	}
	return (kernels.SinkChunks(s.cache.sinks)+s.gap)*kernels.PageLen + s.cache.window - 1
}

func (s *sequence) Truncate(n int) {
	if n < 0 || n > s.len {
		panic(fmt.Sprintf("runtime: truncate a sequence of %d positions to %d", s.len, n))
	}
	if oldest := s.Oldest(); n > 0 && n < oldest {
		panic(fmt.Sprintf("runtime: truncate a sequence of %d positions to %d, want at least %d (Oldest), or 0: the window has let go of positions before", s.len, n, oldest))
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.truncate(n)
}

func (s *sequence) truncate(n int) {
	if n == 0 {
		s.cache.release(s.blocks...)
		s.blocks, s.len, s.gap = s.blocks[:0], 0, 0
		return
	}
	keep := s.index((n-1)/kernels.PageLen) + 1
	s.cache.release(s.blocks[keep:]...)
	s.blocks, s.len = s.blocks[:keep], n
}

// index is the place of chunk c in the table.
func (s *sequence) index(c int) int {
	if c >= kernels.SinkChunks(s.cache.sinks) {
		c -= s.gap
	}
	return c
}

func (s *sequence) Fork() Sequence {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	for _, b := range s.blocks {
		b.refs++
	}
	return &sequence{cache: s.cache, len: s.len, blocks: append([]*block(nil), s.blocks...), gap: s.gap}
}

func (s *sequence) Close() {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if !s.closed {
		s.truncate(0)
		s.closed = true
	}
}

// begin starts a call that computes positions from len on. Len stays as it is
// until commit.
func (s *sequence) begin() { s.gapBefore = s.gap }

// extend makes room for positions lo..hi-1, which follow those there are: none of
// it is shared with another sequence. It lets go of blocks that lo and what
// follows do not attend to.
func (s *sequence) extend(lo, hi int) {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	sinks := kernels.SinkChunks(c.sinks)
	if first := lo - c.window + 1; c.window > 0 && first > 0 {
		for first/kernels.PageLen > sinks+s.gap {
			b := s.blocks[sinks]
			s.blocks = append(s.blocks[:sinks], s.blocks[sinks+1:]...)
			if (sinks+s.gap)*kernels.PageLen < s.len {
				s.passed = append(s.passed, b)
			} else {
				c.release(b)
			}
			s.gap++
		}
	}
	if last := s.index(lo / kernels.PageLen); lo%kernels.PageLen != 0 && s.blocks[last].refs > 1 {
		own := c.alloc()
		for i, p := range s.blocks[last].pages {
			own.pages[i].CopyFrom(p)
		}
		c.release(s.blocks[last])
		s.blocks[last] = own
	}
	for s.index((hi-1)/kernels.PageLen) >= len(s.blocks) {
		s.blocks = append(s.blocks, c.alloc())
	}
}

// commit ends a call that computed n positions.
func (s *sequence) commit(n int) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.cache.release(s.passed...)
	clear(s.passed)
	s.passed = s.passed[:0]
	s.len += n
}

// rollback ends a call that failed: the table is as it was before.
func (s *sequence) rollback() {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if s.gap > s.gapBefore {
		sinks := kernels.SinkChunks(s.cache.sinks)
		rest := s.blocks[sinks:]
		keep := max(0, min((s.len+kernels.PageLen-1)/kernels.PageLen-sinks-s.gap, len(rest)))
		s.cache.release(rest[keep:]...)
		table := append([]*block(nil), s.blocks[:sinks]...)
		s.blocks = append(append(table, s.passed...), rest[:keep]...)
		s.gap, s.passed = s.gapBefore, nil
	}
	s.truncate(s.len)
}

// pages returns the table of one layer's pages, appended to buf.
func (s *sequence) pages(layer int, buf []*kernels.Page) []*kernels.Page {
	for _, b := range s.blocks {
		buf = append(buf, b.pages[layer])
	}
	return buf
}
