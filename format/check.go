package format

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
)

// Check verifies every byte that opening the file did not: CheckTensor for
// each tensor, CheckSections and CheckPadding, on the given number of
// goroutines (0: as many as there are cores). It reports every problem, in the
// order of the file, after the last byte was read. progress, which may be nil,
// is told how many bytes were verified since its last call; its calls do not
// overlap. The error is one of reading or the context's: the check could not
// be finished, and nothing was reported.
func (f *File) Check(ctx context.Context, workers int, report func(Problem), progress func(n int64)) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	tensors := f.header.Tensors
	// Job 0 is the padding, job len(tensors)+1 the sections. The longest
	// tensors come first, so that no worker begins one when the others end.
	order := make([]int, len(tensors)+2)
	for i := range order {
		order[i] = i
	}
	weight := func(job int) int64 {
		if job == 0 || job > len(tensors) {
			return math.MaxInt64
		}
		return tensors[job-1].Length
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(weight(b), weight(a)) })

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	advance := func(n int64) {
		if progress != nil {
			mu.Lock()
			defer mu.Unlock()
			progress(n)
		}
	}
	found := make([][]Problem, len(order))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(workers, len(order)) {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				if n >= int64(len(order)) {
					return
				}
				job := order[n]
				c := checker{f: f, report: func(p Problem) { found[job] = append(found[job], p) }, advance: advance}
				if err := f.guard(func() error { return c.run(ctx, job) }); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	for _, problems := range found {
		for _, p := range problems {
			report(p)
		}
	}
	return nil
}

// CheckTensor verifies one tensor of the file in one pass over its bytes: the
// SHA-256 of its data and of its scales, the legality of every value, the
// padding inside tiles, and every scale. Each rule that is broken is reported
// once, with its first place and a count. The error is one of reading or the
// context's.
func (f *File) CheckTensor(ctx context.Context, info *TensorInfo, report func(Problem)) error {
	c := checker{f: f, report: report}
	return f.guard(func() error { return c.tensor(ctx, info) })
}

// CheckSections verifies the SHA-256 of every section, and that the JSON
// sections of this version are canonical; what they say is not looked at.
func (f *File) CheckSections(ctx context.Context, report func(Problem)) error {
	c := checker{f: f, report: report}
	return f.guard(func() error { return c.sections(ctx) })
}

// CheckPadding verifies that the bytes between extents are zero.
func (f *File) CheckPadding(ctx context.Context, report func(Problem)) error {
	c := checker{f: f, report: report}
	return f.guard(func() error { return c.padding(ctx) })
}

// checker is one goroutine's part of a check.
type checker struct {
	f       *File
	report  func(Problem)
	advance func(n int64) // may be nil
}

func (c *checker) run(ctx context.Context, job int) error {
	switch {
	case job == 0:
		return c.padding(ctx)
	case job <= len(c.f.header.Tensors):
		return c.tensor(ctx, &c.f.header.Tensors[job-1])
	}
	return c.sections(ctx)
}

var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// each calls fn with the bytes of an extent in order, chunk bytes at a time:
// views of a map or of memory, otherwise a buffer that fn must not keep.
func (c *checker) each(ctx context.Context, off, n int64, fn func(b []byte)) error {
	var buf *[chunk]byte
	if c.f.data == nil {
		buf = buffers.Get().(*[chunk]byte)
		defer buffers.Put(buf)
	}
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b, err := c.bytes(off, min(n, chunk), buf)
		if err != nil {
			return err
		}
		fn(b)
		off += int64(len(b))
		n -= int64(len(b))
		if c.advance != nil {
			c.advance(int64(len(b)))
		}
	}
	return nil
}

// bytes returns n bytes at off, at most chunk where the file has no memory.
func (c *checker) bytes(off, n int64, buf *[chunk]byte) ([]byte, error) {
	if c.f.data != nil {
		return c.f.view(off, n)
	}
	if c.f.closed.Load() {
		return nil, fmt.Errorf("format: check of a closed file: %w", os.ErrClosed)
	}
	return buf[:n], readFull(c.f.r, buf[:n], off)
}

func (c *checker) tensor(ctx context.Context, t *TensorInfo) error {
	sum, scan := sha256.New(), newScanner(t)
	err := c.each(ctx, t.Offset, t.Length, func(b []byte) {
		sum.Write(b)
		scan.feed(b)
	})
	if err != nil {
		return err
	}
	if err := c.checksum(ctx, t, "data", t.Offset, t.Length, t.SHA256, [32]byte(sum.Sum(nil))); err != nil {
		return err
	}
	scan.problems(c.report)
	if t.ScaleLength == 0 {
		return nil
	}
	sum.Reset()
	var wrong Problem
	i := 0
	err = c.each(ctx, t.ScaleOffset, t.ScaleLength, func(b []byte) {
		sum.Write(b)
		for ; len(b) >= 4; b = b[4:] {
			s := math.Float32frombits(binary.LittleEndian.Uint32(b))
			if want := t.scaleFault(s); want != "" {
				e := t.scaleError(i, s, want)
				if wrong.Count++; wrong.Count == 1 {
					wrong.Err = e
				}
				wrong.Last = e.Offset
			}
			i++
		}
	})
	if err != nil {
		return err
	}
	if err := c.checksum(ctx, t, "scales", t.ScaleOffset, t.ScaleLength, t.ScaleSHA256, [32]byte(sum.Sum(nil))); err != nil {
		return err
	}
	if wrong.Count > 0 {
		wrong.Tensor = t.Name
		c.report(wrong)
	}
	return nil
}

func (c *checker) checksum(ctx context.Context, t *TensorInfo, what string, off, n int64, want, got [32]byte) error {
	if got == want {
		return nil
	}
	hint, err := c.cause(ctx, off, n)
	if err != nil {
		return err
	}
	c.report(Problem{Tensor: t.Name, Count: 1, Last: off, Err: &FormatError{
		ClassChecksum, off, fmt.Sprintf("SHA-256 of the %s of %s", what, t.Name), hexHash(got), hexHash(want), hint,
	}})
	return nil
}

// cause looks for what an interrupted transfer leaves: a hole of zeros.
func (c *checker) cause(ctx context.Context, off, n int64) (string, error) {
	var longest, end, run, pos int64 // end is where the longest run ends
	rest := checker{f: c.f}
	err := rest.each(ctx, off, n, func(b []byte) {
		for i, v := range b {
			if v != 0 {
				run = 0
				continue
			}
			if run++; run > longest {
				longest, end = run, pos+int64(i)+1
			}
		}
		pos += int64(len(b))
	})
	switch {
	case longest == n:
		return fmt.Sprintf("all of its %d bytes are zeros: an interrupted download?", n), err
	case longest < 1024 && longest < n/2:
		return "the file was damaged; fetch it again", err
	case end == n:
		return fmt.Sprintf("its last %d bytes are zeros: an interrupted download?", longest), err
	}
	return fmt.Sprintf("%d bytes from offset %d on are zeros: an interrupted download?", longest, off+end-longest), err
}

func (c *checker) sections(ctx context.Context) error {
	for i := range c.f.header.Sections {
		s := &c.f.header.Sections[i]
		if _, held := c.f.held[s.Name]; held {
			continue // not in the file yet
		}
		report := func(e *FormatError) {
			c.report(Problem{Section: s.Name, Count: 1, Last: e.Offset, Err: e})
		}
		sum := sha256.New()
		if err := c.each(ctx, s.Offset, s.Length, func(b []byte) { sum.Write(b) }); err != nil {
			return err
		}
		if got := [32]byte(sum.Sum(nil)); got != s.SHA256 {
			report(s.checksumError(got))
		}
		if isJSONSection(s.Name) {
			b, err := c.f.copyExtent(s.Offset, s.Length)
			if err != nil {
				return err
			}
			if e := checkCanonical(b); e != nil {
				report(e.within(s))
			}
		}
	}
	return nil
}

func (c *checker) padding(ctx context.Context) error {
	gap := func(from, to int64) error {
		var p Problem
		at := from
		err := c.each(ctx, from, to-from, func(b []byte) {
			for i, v := range b {
				if v == 0 {
					continue
				}
				p.Last = at + int64(i)
				if p.Count++; p.Count == 1 {
					p.Err = &FormatError{ClassBounds, p.Last, "padding between extents", fmt.Sprintf("0x%02x", v), "0x00", ""}
				}
			}
			at += int64(len(b))
		})
		if err == nil && p.Count > 0 {
			c.report(p)
		}
		return err
	}
	end := c.f.header.HeaderLength
	next := func(off, n int64) error {
		from := end
		end = off + n
		if n == 0 {
			end = from
			return nil
		}
		return gap(from, off)
	}
	for i := range c.f.header.Tensors {
		t := &c.f.header.Tensors[i]
		if err := next(t.Offset, t.Length); err != nil {
			return err
		}
		if err := next(t.ScaleOffset, t.ScaleLength); err != nil {
			return err
		}
	}
	for i := range c.f.header.Sections {
		s := &c.f.header.Sections[i]
		if _, held := c.f.held[s.Name]; held {
			continue // not in the file yet
		}
		if err := next(s.Offset, s.Length); err != nil {
			return err
		}
	}
	return nil
}
