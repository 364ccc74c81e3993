package runtime

import (
	"fmt"
	"sync"

	"github.com/tritter-ai/tritter/kernels"
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
	layers, kvHeads, headDim int
	free                     []*block
	made                     int // blocks that exist, free or not
}

func (c *cache) alloc() *block {
	if n := len(c.free); n > 0 {
		b := c.free[n-1]
		c.free = c.free[:n-1]
		b.refs = 1
		return b
	}
	c.made++
	b := &block{refs: 1, pages: make([]*kernels.Page, c.layers)}
	for i := range b.pages {
		b.pages[i] = kernels.NewPage(c.kvHeads, c.headDim)
	}
	return b
}

func (c *cache) release(b *block) {
	if b.refs--; b.refs == 0 {
		c.free = append(c.free, b)
	}
}

// sequence is the block table of one text.
type sequence struct {
	cache  *cache
	len    int
	blocks []*block
	closed bool
}

func (s *sequence) Len() int { return s.len }

func (s *sequence) Truncate(n int) {
	if n < 0 || n > s.len {
		panic(fmt.Sprintf("runtime: truncate a sequence of %d positions to %d", s.len, n))
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.truncate(n)
}

func (s *sequence) truncate(n int) {
	keep := (n + kernels.PageLen - 1) / kernels.PageLen
	for _, b := range s.blocks[keep:] {
		s.cache.release(b)
	}
	s.blocks, s.len = s.blocks[:keep], n
}

func (s *sequence) Fork() Sequence {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	for _, b := range s.blocks {
		b.refs++
	}
	return &sequence{cache: s.cache, len: s.len, blocks: append([]*block(nil), s.blocks...)}
}

func (s *sequence) Close() {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if !s.closed {
		s.truncate(0)
		s.closed = true
	}
}

// reserve makes room for n more positions, none of it shared with another
// sequence. Len stays as it is until the positions are computed.
func (s *sequence) reserve(n int) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.truncate(s.len) // blocks left by a call that failed
	if last := len(s.blocks) - 1; s.len%kernels.PageLen != 0 && s.blocks[last].refs > 1 {
		own := s.cache.alloc()
		for i, p := range s.blocks[last].pages {
			copy(own.pages[i].K, p.K)
			copy(own.pages[i].V, p.V)
		}
		s.cache.release(s.blocks[last])
		s.blocks[last] = own
	}
	for len(s.blocks)*kernels.PageLen < s.len+n {
		s.blocks = append(s.blocks, s.cache.alloc())
	}
}

// pages returns the table of one layer's pages, appended to buf.
func (s *sequence) pages(layer int, buf []*kernels.Page) []*kernels.Page {
	for _, b := range s.blocks {
		buf = append(buf, b.pages[layer])
	}
	return buf
}
