package torch

import (
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"sync/atomic"
)

// maxPieces bounds the pieces of a record whose checksums wait for each other.
const maxPieces = 4096

// A record is the bytes of a storage. Reads go through it, at offsets of the
// file, so that it can check their CRC-32; see the package comment.
type record struct {
	r            io.ReaderAt
	file         string
	offset, size int64
	entry        *entry // nil without a checksum

	done atomic.Bool // nothing is left to check
	mu   sync.Mutex
	// pieces are the parts read so far, sorted, apart from each other.
	pieces []piece
	err    error
}

// A piece is a part of a record, from lo to hi, and the CRC-32 of its bytes.
type piece struct {
	lo, hi int64
	sum    uint32
}

func newRecord(src *source, e *entry) *record {
	return &record{r: src.r, file: src.name, offset: e.data, size: e.size, entry: e}
}

// ReadAt reads from the file at off, as io.ReaderAt. The bytes must be those of
// the record.
func (r *record) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.r.ReadAt(p, off)
	if n < len(p) {
		return n, err
	}
	if r.entry != nil && !r.done.Load() {
		if err := r.check(p, off-r.offset); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// check takes note of the bytes p at lo of the record. Their sums are computed
// outside of the lock; a part that another goroutine has noted meanwhile is
// dropped.
func (r *record) check(p []byte, lo int64) error {
	r.mu.Lock()
	missing, err := r.missing(lo, lo+int64(len(p))), r.err
	r.mu.Unlock()
	if err != nil {
		return err
	}
	for i := range missing {
		m := &missing[i]
		m.sum = crc32.ChecksumIEEE(p[m.lo-lo : m.hi-lo])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range missing {
		r.insert(m)
	}
	if len(r.pieces) == 1 && r.pieces[0].hi-r.pieces[0].lo == r.size && r.err == nil {
		if sum := r.pieces[0].sum; sum != r.entry.crc {
			r.err = crcError(r.file, r.entry, sum)
		} else {
			r.done.Store(true)
			r.pieces = nil
		}
	}
	return r.err
}

// missing returns the parts between lo and hi that no piece covers.
func (r *record) missing(lo, hi int64) []piece {
	if r.done.Load() {
		return nil
	}
	var out []piece
	for _, p := range r.pieces[r.after(lo):] {
		if p.lo >= hi {
			break
		}
		if lo < p.lo {
			out = append(out, piece{lo: lo, hi: p.lo})
		}
		lo = p.hi
	}
	if lo < hi {
		out = append(out, piece{lo: lo, hi: hi})
	}
	return out
}

// after returns the index of the first piece that ends after lo.
func (r *record) after(lo int64) int {
	i, _ := slices.BinarySearchFunc(r.pieces, lo, func(p piece, lo int64) int {
		if p.hi <= lo {
			return -1
		}
		return 1
	})
	return i
}

// insert adds p, unless some of it is there, and joins it to its neighbours.
func (r *record) insert(p piece) {
	if r.done.Load() {
		return
	}
	i := r.after(p.lo)
	if i < len(r.pieces) && r.pieces[i].lo < p.hi {
		return
	}
	if i > 0 && r.pieces[i-1].hi == p.lo {
		q := &r.pieces[i-1]
		q.sum = joinSums(q.sum, p.sum, p.hi-p.lo)
		q.hi = p.hi
		i--
	} else {
		if len(r.pieces) == maxPieces {
			return
		}
		r.pieces = slices.Insert(r.pieces, i, p)
	}
	if i+1 < len(r.pieces) && r.pieces[i].hi == r.pieces[i+1].lo {
		q := r.pieces[i+1]
		r.pieces[i].sum = joinSums(r.pieces[i].sum, q.sum, q.hi-q.lo)
		r.pieces[i].hi = q.hi
		r.pieces = slices.Delete(r.pieces, i+1, i+2)
	}
}

// joinSums returns the CRC-32 of two byte strings one after the other, from
// their own and the length of the second. A CRC is the remainder of the bytes
// as a polynomial over GF(2); putting n bytes behind it multiplies it by
// x^(8n), and what the checksum inverts at both ends cancels out.
func joinSums(a, b uint32, n int64) uint32 {
	power := uint32(1) << 31 // x^0: the highest bit is the lowest power
	square := uint32(1) << 23
	for ; n > 0; n >>= 1 { // square is x^8, x^16, x^32, ...
		if n&1 != 0 {
			power = times(power, square)
		}
		square = times(square, square)
	}
	return times(power, a) ^ b
}

// times multiplies two polynomials modulo that of CRC-32 (IEEE 802.3).
func times(a, b uint32) uint32 {
	var p uint32
	for ; a != 0; a <<= 1 {
		if a&(1<<31) != 0 {
			p ^= b
		}
		// b times x
		b = b>>1 ^ crc32.IEEE&-(b&1)
	}
	return p
}
