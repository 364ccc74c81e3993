package cuda

import (
	"fmt"
	"sync"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// block holds the keys and values of kernels.PageLen consecutive positions in every layer, one page after the other.
// Sequences that share a prefix share its blocks.
type block struct {
	refs int
	at   driver.Ptr
}

// cache hands out blocks. Its lock covers the block lists of all sequences.
type cache struct {
	mu        sync.Mutex
	pageBytes int64 // of one layer
	layers    int
	free      []*block
	slabs     []driver.Ptr // what was allocated
}

func (c *cache) blockBytes() int64 { return c.pageBytes * int64(c.layers) }

// slabBytes is about how much memory the cache asks for at a time.
const slabBytes = 64 << 20

// alloc returns a block with one reference.
func (c *cache) alloc(d *Device) (*block, error) {
	if len(c.free) == 0 {
		n := max(1, slabBytes/c.blockBytes())
		at, err := d.ctx.Alloc(n * c.blockBytes())
		for err != nil && n > 1 {
			n /= 2
			at, err = d.ctx.Alloc(n * c.blockBytes())
		}
		if err != nil {
			return nil, fmt.Errorf("%d positions of key-value cache, %d MB: %w; shorten the context, or close other sequences", n*kernels.PageLen, n*c.blockBytes()>>20, err)
		}
		c.slabs = append(c.slabs, at)
		for i := range n {
			c.free = append(c.free, &block{at: at + driver.Ptr(i*c.blockBytes())})
		}
	}
	b := c.free[len(c.free)-1]
	c.free = c.free[:len(c.free)-1]
	b.refs = 1
	return b, nil
}

// close frees the memory of all blocks.
func (c *cache) close(d *Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.slabs {
		d.fail(d.ctx.Free(at))
	}
	c.free, c.slabs = nil, nil
}

func (c *cache) release(b *block) {
	if b.refs--; b.refs == 0 {
		c.free = append(c.free, b)
	}
}

// Sequence is the state of one text: its key-value cache on the device.
type Sequence struct {
	engine *Engine
	len    int
	blocks []*block
	closed bool
}

// Len returns the number of positions held.
func (s *Sequence) Len() int { return s.len }

// Engine returns the engine that the sequence belongs to.
func (s *Sequence) Engine() *Engine { return s.engine }

// Closed reports whether Close was called.
func (s *Sequence) Closed() bool { return s.closed }

// Truncate drops the positions from n on.
func (s *Sequence) Truncate(n int) {
	if n < 0 || n > s.len {
		panic(fmt.Sprintf("cuda: truncate a sequence of %d positions to %d", s.len, n))
	}
	s.engine.cache.mu.Lock()
	defer s.engine.cache.mu.Unlock()
	s.truncate(n)
}

func (s *Sequence) truncate(n int) {
	keep := (n + kernels.PageLen - 1) / kernels.PageLen
	for _, b := range s.blocks[keep:] {
		s.engine.cache.release(b)
	}
	s.blocks, s.len = s.blocks[:keep], n
}

// Fork returns a second sequence of the same content; blocks are shared until one of the two writes to them.
func (s *Sequence) Fork() *Sequence {
	s.engine.cache.mu.Lock()
	defer s.engine.cache.mu.Unlock()
	for _, b := range s.blocks {
		b.refs++
	}
	return &Sequence{engine: s.engine, len: s.len, blocks: append([]*block(nil), s.blocks...)}
}

// Close releases the blocks.
func (s *Sequence) Close() {
	s.engine.cache.mu.Lock()
	defer s.engine.cache.mu.Unlock()
	if !s.closed {
		s.truncate(0)
		s.closed = true
	}
}

// reserve makes room for n more positions, none of it shared with another sequence. Len stays as it is until the
// positions are computed.
func (s *Sequence) reserve(n int) error {
	c, d := &s.engine.cache, s.engine.d
	c.mu.Lock()
	defer c.mu.Unlock()
	s.truncate(s.len) // blocks left by a call that failed
	if last := len(s.blocks) - 1; s.len%kernels.PageLen != 0 && s.blocks[last].refs > 1 {
		own, err := c.alloc(d)
		if err != nil {
			return err
		}
		d.fail(d.ctx.CopyDevice(own.at, s.blocks[last].at, c.blockBytes(), d.stream))
		c.release(s.blocks[last])
		s.blocks[last] = own
	}
	return s.extend(n)
}

// grow makes room for n more positions behind a reserve, without touching what is there.
func (s *Sequence) grow(n int) error {
	s.engine.cache.mu.Lock()
	defer s.engine.cache.mu.Unlock()
	return s.extend(n)
}

func (s *Sequence) extend(n int) error {
	for len(s.blocks)*kernels.PageLen < s.len+n {
		b, err := s.engine.cache.alloc(s.engine.d)
		if err != nil {
			return err
		}
		s.blocks = append(s.blocks, b)
	}
	return nil
}
