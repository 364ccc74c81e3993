package cuda

import (
	"encoding/binary"
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// Ops are the general kernels one by one, those that operations of kernels.Ops have. Every argument is copied to the
// device and every result back: it is for comparing kernels, not for speed. The kernels of attention do not know windows,
// and give no parts that could be merged with others: Attend is what they do.
type Ops struct {
	d     *Device
	arena *driver.Arena
	free  driver.Ptr // the next piece of the arena
	end   driver.Ptr
}

// opsBytes bounds the arguments of one operation.
const opsBytes = 64 << 20

// NewOps returns the kernels of a device one by one. They panic where the device fails: there is no result to return.
func NewOps(d *Device) (*Ops, error) {
	o := &Ops{d: d}
	err := d.do(func() (err error) {
		if o.arena, err = driver.NewArena(d.ctx, opsBytes); err != nil {
			return err
		}
		o.free, err = o.arena.Alloc(opsBytes)
		o.end = o.free + opsBytes
		return err
	})
	return o, err
}

// Alloc hands out a piece of the arena until the call of run ends.
func (o *Ops) Alloc(n int64) (driver.Ptr, error) {
	p := o.free
	o.free += driver.Ptr((n + 255) / 256 * 256)
	if o.free > o.end {
		return 0, driver.ErrOutOfMemory
	}
	return p, nil
}

// run runs an operation on the device.
func (o *Ops) run(fn func() error) error {
	start := o.free
	return o.d.do(func() error {
		defer func() { o.free = start }()
		return fn()
	})
}

// must is run for operations that cannot fail by their arguments.
func (o *Ops) must(fn func()) {
	if err := o.run(func() error { fn(); return nil }); err != nil {
		panic("cuda: " + err.Error())
	}
}

func (o *Ops) room(n int) driver.Ptr {
	p, err := o.Alloc(int64(max(n, 1)))
	if err != nil {
		o.d.fail(err)
	}
	return p
}

func (o *Ops) floats(x []float32) driver.Ptr {
	p := o.room(4 * len(x))
	o.d.up.floats(p, x)
	return p
}

func (o *Ops) norm(n *kernels.Norm) norm {
	to, err := allocNorm(o, n)
	if err != nil {
		o.d.fail(err)
	}
	o.d.uploadNorm(to, n)
	return to
}

// ternary uploads rows lo..hi-1 of w, lo a multiple of kernels.TileRows.
func (o *Ops) ternary(w *kernels.Ternary, lo, hi int) *ternary {
	part := *w
	quad := w.ColTiles() * kernels.TileBytes
	part.Rows = hi - lo
	part.Tiles = w.Tiles[lo/kernels.TileRows*quad : (hi+kernels.TileRows-1)/kernels.TileRows*quad]
	if per := max(w.Groups(), 1); len(w.Scales) != 1 || w.Group > 0 {
		part.Scales = w.Scales[lo*per : hi*per]
	}
	if w.Bias != nil {
		part.Bias = w.Bias[lo:hi]
	}
	to := new(ternary)
	if err := allocTernary(o, []*ternary{to}, []*kernels.Ternary{&part}); err != nil {
		o.d.fail(err)
	}
	o.d.uploadTernary(to, &part)
	return to
}

// dense uploads rows lo..hi-1 of w.
func (o *Ops) dense(w *kernels.Dense, lo, hi int) *dense {
	part := *w
	line := w.Cols * w.Type.Size()
	part.Rows, part.Data = hi-lo, w.Data[lo*line:hi*line]
	if w.Type == kernels.I8 {
		part.Scales = w.Scales[lo:hi]
	}
	to, err := allocDense(o, &part)
	if err != nil {
		o.d.fail(err)
	}
	o.d.uploadDense(&to, &part)
	return &to
}

// scatter copies m rows of n results into y, ldy elements apart.
func (o *Ops) scatter(y []float32, ldy int, from driver.Ptr, m, n int) {
	for t := range m {
		o.d.read(y[t*ldy:t*ldy+n], from+driver.Ptr(4*t*n))
	}
}

func (o *Ops) finite(op string) error {
	if o.d.readBad() != noSite {
		return nonFinite(op)
	}
	return nil
}

// Name is "cuda".
func (o *Ops) Name() string { return "cuda" }

// Norm is that of kernels.Ops.
func (o *Ops) Norm(y, x []float32, n *kernels.Norm) error {
	kernels.CheckNorm(y, x, n)
	return o.run(func() error {
		o.d.clearBad()
		at := o.floats(x)
		o.d.norm(at, at, 1, len(x), o.norm(n), 0)
		o.d.read(y, at)
		return o.finite("Norm")
	})
}

// NormQuant is that of kernels.Ops.
func (o *Ops) NormQuant(q []int8, x []float32, n *kernels.Norm) (a float32, err error) {
	kernels.CheckNormQuant(q, x, n)
	err = o.run(func() error {
		o.d.clearBad()
		to := codes{o.room(padTokens(1) * len(q)), o.room(4)}
		o.d.quantize(to, o.floats(x), 1, len(x), o.norm(n), 0)
		b := o.d.fetch(to.data, padTokens(1)*len(q))
		for i := range q {
			q[i] = int8(b[codeIndex(i, 0, padTokens(1))])
		}
		m := []float32{0}
		o.d.read(m, to.maxima)
		a = m[0]
		return o.finite("NormQuant")
	})
	return a, err
}

// codeIndex is where the code of a column and token lies: code_chunk of src/numerics.cuh.
func codeIndex(column, token, tokens int) int {
	return (column/128*tokens+token)*128 + (column/16%8^token%8)*16 + column%16
}

// TernaryInt8 is that of kernels.Ops.
func (o *Ops) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	if x.M == 0 || lo == hi {
		return
	}
	o.must(func() {
		b := make([]byte, padTokens(x.M)*x.Stride)
		for m := range x.M {
			for i, c := range x.Token(m) {
				b[codeIndex(i, m, padTokens(x.M))] = byte(c)
			}
		}
		q := codes{o.room(len(b)), o.floats(x.Max)}
		o.d.up.copy(q.data, b)
		n := hi - lo
		to := o.room(4 * x.M * n)
		o.d.multiplyInt8(to, n, o.ternary(w, lo, hi), q, x.M)
		o.scatter(y[lo:], ldy, to, x.M, n)
	})
}

// TernaryFloat is that of kernels.Ops.
func (o *Ops) TernaryFloat(y []float32, ldy int, w *kernels.Ternary, x []float32, m, ldx, lo, hi int) {
	kernels.CheckTernaryFloat(y, ldy, w, x, m, ldx, lo, hi)
	if m == 0 || lo == hi {
		return
	}
	o.must(func() {
		n := hi - lo
		to := o.room(4 * m * n)
		o.d.multiplyFloat(to, n, o.ternary(w, lo, hi), o.floats(x[:(m-1)*ldx+w.Cols]), m, ldx)
		o.scatter(y[lo:], ldy, to, m, n)
	})
}

// Dense is that of kernels.Ops.
func (o *Ops) Dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	kernels.CheckDense(y, ldy, w, x, m, ldx, lo, hi)
	if m == 0 || lo == hi {
		return
	}
	o.must(func() {
		n := hi - lo
		to := o.room(4 * m * n)
		o.d.multiplyDense(to, n, o.dense(w, lo, hi), o.floats(x[:(m-1)*ldx+w.Cols]), m, ldx)
		o.scatter(y[lo:], ldy, to, m, n)
	})
}

// EmbedRow is that of kernels.Ops.
func (o *Ops) EmbedRow(dst []float32, w *kernels.Dense, row int) {
	kernels.CheckEmbedRow(dst, w, row)
	o.must(func() {
		to, index := o.room(4*w.Cols), o.room(4)
		words(&o.d.up, index, []uint32{uint32(row)})
		o.d.embed(to, o.dense(w, 0, w.Rows), index, 1)
		o.d.read(dst, to)
	})
}

// Rope is that of kernels.Ops.
func (o *Ops) Rope(x []float32, headDim int, cos, sin []float32) {
	kernels.CheckRope(x, headDim, cos, sin)
	if len(x) == 0 {
		return
	}
	o.must(func() {
		at, zero := o.floats(x), o.room(4)
		words(&o.d.up, zero, []uint32{0})
		table := o.floats(append(append([]float32(nil), cos...), sin...))
		o.d.rotate(at, table, zero, 1, len(x)/headDim, headDim, len(x))
		o.d.read(x, at)
	})
}

// Gate is that of kernels.Ops.
func (o *Ops) Gate(h, g, u []float32, act kernels.Activation) {
	kernels.CheckGate(h, g, u, act)
	if len(h) == 0 {
		return
	}
	o.must(func() {
		to := o.floats(g)
		o.d.gate(to, to, o.floats(u), len(h), act)
		o.d.read(h, to)
	})
}

// Add is that of kernels.Ops.
func (o *Ops) Add(x, y []float32) {
	kernels.CheckAdd(x, y)
	if len(x) == 0 {
		return
	}
	o.must(func() {
		to := o.floats(x)
		o.d.add(to, o.floats(y), len(x))
		o.d.read(x, to)
	})
}

// pageBytes is a page as src/pages.cuh lays it out.
func pageBytes(p *kernels.Page) (b []byte) {
	floats := func(x []float32) {
		for _, v := range x {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
	}
	halves := func(x []uint16) {
		for _, v := range x {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
	}
	floats(p.K)
	floats(p.V)
	halves(p.KHalf)
	halves(p.VHalf)
	b = append(append(b, p.KCodes...), p.VCodes...)
	floats(p.KScale)
	floats(p.VScale)
	halves(p.KAffine)
	halves(p.VAffine)
	return b
}

// setPage is the inverse of pageBytes.
func setPage(p *kernels.Page, b []byte) {
	floats := func(x []float32) {
		for i := range x {
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
		b = b[4*len(x):]
	}
	halves := func(x []uint16) {
		for i := range x {
			x[i] = binary.LittleEndian.Uint16(b[2*i:])
		}
		b = b[2*len(x):]
	}
	codes := func(x []byte) { b = b[copy(x, b):] }
	floats(p.K)
	floats(p.V)
	halves(p.KHalf)
	halves(p.VHalf)
	codes(p.KCodes)
	codes(p.VCodes)
	floats(p.KScale)
	floats(p.VScale)
	halves(p.KAffine)
	halves(p.VAffine)
}

// pages uploads pages and says where they are: rows at the positions, all of one sequence.
func (o *Ops) pages(pages []*kernels.Page, positions []uint32) (paging, []driver.Ptr) {
	var at []driver.Ptr
	var table []uint64
	for _, p := range pages {
		b := pageBytes(p)
		at = append(at, o.room(len(b)))
		o.d.up.copy(at[len(at)-1], b)
		table = append(table, uint64(at[len(at)-1]))
	}
	g := paging{tables: o.room(8 * len(table)), starts: o.room(4 * len(positions)), positions: o.room(4 * len(positions))}
	words(&o.d.up, g.tables, table)
	words(&o.d.up, g.starts, make([]uint32, len(positions)))
	words(&o.d.up, g.positions, positions)
	return g, at
}

// StoreKV is that of kernels.Ops.
func (o *Ops) StoreKV(p *kernels.Page, slot int, k, v []float32) error {
	kernels.CheckStoreKV(p, slot, k, v)
	return o.run(func() error {
		o.d.clearBad()
		g, at := o.pages([]*kernels.Page{p}, []uint32{uint32(slot)})
		o.d.store(p.Format, o.floats(k), o.floats(v), g, 0, 0, 1, p.KVHeads, p.HeadDim, len(k))
		if _, err := o.d.readFault(p.Format); err != nil {
			return err
		}
		if b := o.d.fetch(at[0], int(p.Bytes())); o.d.err == nil {
			setPage(p, b)
		}
		return nil
	})
}

// Attend is Attention of kernels.Ops over all chunks, without a window, and MergeAttention of what it gives: out is
// [rows][heads][headDim]. With apart a block computes each chunk, which is not there for KVF32.
func (o *Ops) Attend(out []float32, q *kernels.Queries, apart bool) {
	o.must(func() {
		p := q.Pages[0]
		dim, heads := p.HeadDim, q.Heads*p.KVHeads
		// The device's queries are those of all kv heads.
		all := make([]float32, q.Rows*heads*dim)
		positions := make([]uint32, q.Rows)
		for r := range q.Rows {
			copy(all[(r*heads+q.KVHead*q.Heads)*dim:], q.Q[r*q.Stride:][:q.Heads*dim])
			positions[r] = uint32(q.Pos + r)
		}
		g, _ := o.pages(q.Pages, positions)
		to, from := o.room(4*len(all)), o.floats(all)
		if apart {
			chunks := q.Chunks()
			parts := o.room(4 * q.Rows * chunks * heads * (dim + 2))
			o.d.attendChunks(p.Format, to, parts, from, g, 0, q.Rows, chunks, heads, p.KVHeads, dim, heads*dim)
		} else {
			o.d.attend(p.Format, to, from, g, 0, q.Rows, heads, p.KVHeads, dim, heads*dim)
		}
		for r := range q.Rows {
			o.d.read(out[r*q.Heads*dim:][:q.Heads*dim], to+driver.Ptr(4*(r*heads+q.KVHead*q.Heads)*dim))
		}
	})
}
