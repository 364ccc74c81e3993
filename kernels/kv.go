package kernels

import "fmt"

// KVFormat is how keys and values are stored in a page. The zero value is none of them.
type KVFormat uint8

// The formats of section 12.
const (
	KVF32  KVFormat = iota + 1 // as they are
	KVF16                      // IEEE binary16
	KVInt8                     // codes in [-127, 127], an f32 scale for each position and head
	KVInt4                     // codes in [0, 15], an f16 scale and zero for each position (values) and head (keys)
)

// KVFormats lists every format, the most exact first.
var KVFormats = []KVFormat{KVF32, KVF16, KVInt8, KVInt4}

// String is the format's name on a command line.
func (f KVFormat) String() string {
	switch f {
	case KVF32:
		return "f32"
	case KVF16:
		return "f16"
	case KVInt8:
		return "int8"
	case KVInt4:
		return "int4"
	}
	return "kv format(unknown)"
}

// ParseKVFormat reads the name that String gives.
func ParseKVFormat(name string) (KVFormat, error) {
	for _, f := range KVFormats {
		if f.String() == name {
			return f, nil
		}
	}
	return 0, fmt.Errorf("KV format %q, want f32, f16, int8 or int4", name)
}

// KVRangeError reports a key or a value that a KV format cannot hold.
type KVRangeError struct {
	Format KVFormat
	What   string  // "key" or "value"
	Index  int     // its index in the position's keys or values
	Value  float32 // the value seen
}

func (e *KVRangeError) Error() string {
	if !Finite(e.Value) {
		return fmt.Sprintf("%s %d of a position is %v, want a finite number: the weights or scales before it overflow f32; check the model file with tritter-verify", e.What, e.Index, e.Value)
	}
	return fmt.Sprintf("%s %d of a position is %v, more than the KV format %v can hold; use the format f32", e.What, e.Index, e.Value, e.Format)
}

// Page is the keys and values of PageLen consecutive positions of one layer, for all of its kv heads. Which slices
// are there depends on the format; keys stand with a lane of positions for each dimension, values with a row of
// dimensions for each position.
type Page struct {
	Format           KVFormat
	KVHeads, HeadDim int

	// KVF32 and, as the bits of a binary16, KVF16: keys [kvHeads][headDim][PageLen], values
	// [kvHeads][PageLen][headDim].
	K, V         []float32
	KHalf, VHalf []uint16

	// KVInt8: laid out as K and V, two's complement. KVInt4: two dimensions a byte, the even one in the high half,
	// so keys are [kvHeads][ceil(headDim/2)][PageLen] and values [kvHeads][PageLen][ceil(headDim/2)].
	KCodes, VCodes []byte

	KScale, VScale []float32 // KVInt8: [kvHeads][PageLen]

	// KVInt4, the bits of a binary16: keys [kvHeads][2][PageLen], values [2][PageLen]; first scales, then zeros.
	KAffine, VAffine []uint16
}

// NewPage allocates a page of zeros.
func NewPage(format KVFormat, kvHeads, headDim int) *Page {
	p := &Page{Format: format, KVHeads: kvHeads, HeadDim: headDim}
	s := p.sizes()
	p.K, p.V = cut[float32](s.floats)
	p.KHalf, p.VHalf = cut[uint16](s.halves)
	p.KCodes, p.VCodes = cut[byte](s.codes)
	p.KScale, p.VScale = cut[float32](s.scales)
	if format == KVInt4 {
		p.KAffine, p.VAffine = make([]uint16, s.keyAffine), make([]uint16, s.valueAffine)
	}
	return p
}

// cut allocates two slices of n elements, nil for none.
func cut[T any](n int) (a, b []T) {
	if n == 0 {
		return nil, nil
	}
	both := make([]T, 2*n)
	return both[:n:n], both[n:]
}

// pageSizes are lengths of a page's slices: of K and of V, of KHalf and of VHalf, and so on.
type pageSizes struct{ floats, halves, codes, scales, keyAffine, valueAffine int }

func (p *Page) sizes() (s pageSizes) {
	n := p.KVHeads * PageLen
	switch p.Format {
	case KVF32:
		s.floats = n * p.HeadDim
	case KVF16:
		s.halves = n * p.HeadDim
	case KVInt8:
		s.codes, s.scales = n*p.HeadDim, n
	case KVInt4:
		s.codes, s.keyAffine, s.valueAffine = n*((p.HeadDim+1)/2), 2*n, 2*PageLen
	}
	return s
}

// Bytes is the memory of the page's content.
func (p *Page) Bytes() int64 { return KVBytes(p.Format, p.KVHeads, p.HeadDim) * PageLen }

// KVBytes is the memory of one position's keys and values in one layer.
func KVBytes(format KVFormat, kvHeads, headDim int) int64 {
	s := (&Page{Format: format, KVHeads: kvHeads, HeadDim: headDim}).sizes()
	return (8*int64(s.floats) + 4*int64(s.halves) + 2*int64(s.codes) + 8*int64(s.scales) + 2*int64(s.keyAffine) + 2*int64(s.valueAffine)) / PageLen
}

// CopyFrom copies the content of a page of the same format and shape.
func (p *Page) CopyFrom(from *Page) {
	if p.Format != from.Format || p.KVHeads != from.KVHeads || p.HeadDim != from.HeadDim {
		fail("Page.CopyFrom", "a page of %v, %d heads of %d, want %v, %d heads of %d", from.Format, from.KVHeads, from.HeadDim, p.Format, p.KVHeads, p.HeadDim)
	}
	copy(p.K, from.K)
	copy(p.V, from.V)
	copy(p.KHalf, from.KHalf)
	copy(p.VHalf, from.VHalf)
	copy(p.KCodes, from.KCodes)
	copy(p.VCodes, from.VCodes)
	copy(p.KScale, from.KScale)
	copy(p.VScale, from.VScale)
	copy(p.KAffine, from.KAffine)
	copy(p.VAffine, from.VAffine)
}

// check panics unless the page's slices fit its format and shape.
func (p *Page) check(op string) {
	if !(p.Format >= KVF32 && p.Format <= KVInt4) {
		fail(op, "page.Format is %d, want KVF32, KVF16, KVInt8 or KVInt4", p.Format)
	}
	if !(p.KVHeads > 0 && p.HeadDim > 0) {
		fail(op, "page of %d heads of %d, want positive sizes", p.KVHeads, p.HeadDim)
	}
	s := p.sizes()
	checkLen(op, "page.K", len(p.K), s.floats)
	checkLen(op, "page.V", len(p.V), s.floats)
	checkLen(op, "page.KHalf", len(p.KHalf), s.halves)
	checkLen(op, "page.VHalf", len(p.VHalf), s.halves)
	checkLen(op, "page.KCodes", len(p.KCodes), s.codes)
	checkLen(op, "page.VCodes", len(p.VCodes), s.codes)
	checkLen(op, "page.KScale", len(p.KScale), s.scales)
	checkLen(op, "page.VScale", len(p.VScale), s.scales)
	checkLen(op, "page.KAffine", len(p.KAffine), s.keyAffine)
	checkLen(op, "page.VAffine", len(p.VAffine), s.valueAffine)
}

// CheckStoreKV panics unless the arguments of Ops.StoreKV fit each other.
func CheckStoreKV(p *Page, slot int, k, v []float32) {
	const op = "StoreKV"
	p.check(op)
	if !(uint(slot) < PageLen) {
		fail(op, "slot is %d, want 0..%d", slot, PageLen-1)
	}
	checkLen(op, "k", len(k), p.KVHeads*p.HeadDim)
	checkLen(op, "v", len(v), p.KVHeads*p.HeadDim)
}
