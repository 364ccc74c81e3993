package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/tritter-ai/tritter/format"
)

// mutation changes a file. It may leave the bytes as they were.
type mutation struct {
	name  string
	apply func(r *rand.Rand, b []byte) []byte // b is the mutation's own
}

var mutations = []mutation{
	{"flip a bit", func(r *rand.Rand, b []byte) []byte {
		b[place(r, b)] ^= 1 << r.IntN(8)
		return b
	}},
	{"flip 2 to 9 bits", func(r *rand.Rand, b []byte) []byte {
		for range 2 + r.IntN(8) {
			b[place(r, b)] ^= 1 << r.IntN(8)
		}
		return b
	}},
	{"set a byte", func(r *rand.Rand, b []byte) []byte {
		b[place(r, b)] = byte(r.Uint32())
		return b
	}},
	{"zero a range", func(r *rand.Rand, b []byte) []byte {
		lo, hi := span(r, b)
		clear(b[lo:hi])
		return b
	}},
	{"randomize a range", func(r *rand.Rand, b []byte) []byte {
		lo, hi := span(r, b)
		for i := lo; i < hi; i++ {
			b[i] = byte(r.Uint32())
		}
		return b
	}},
	{"cut the end", func(r *rand.Rand, b []byte) []byte { return b[:place(r, b)] }},
	{"cut a range", func(r *rand.Rand, b []byte) []byte {
		lo, hi := span(r, b)
		return slices.Delete(b, lo, hi)
	}},
	{"insert bytes", func(r *rand.Rand, b []byte) []byte {
		extra := make([]byte, 1+r.IntN(512))
		if r.IntN(2) == 0 {
			for i := range extra {
				extra[i] = byte(r.Uint32())
			}
		}
		return slices.Insert(b, place(r, b), extra...)
	}},
	{"append bytes", func(r *rand.Rand, b []byte) []byte {
		return append(b, make([]byte, 1+r.IntN(512))...)
	}},
	{"duplicate a range", func(r *rand.Rand, b []byte) []byte {
		lo, hi := span(r, b)
		return slices.Insert(b, hi, bytes.Clone(b[lo:hi])...)
	}},
	{"copy a range over another", func(r *rand.Rand, b []byte) []byte {
		lo, hi := span(r, b)
		copy(b[place(r, b):], bytes.Clone(b[lo:hi]))
		return b
	}},
	{"swap two ranges", func(r *rand.Rand, b []byte) []byte {
		lo, hi := span(r, b)
		to := place(r, b)
		n := min(hi-lo, len(b)-to)
		one, two := bytes.Clone(b[lo:lo+n]), bytes.Clone(b[to:to+n])
		copy(b[to:], one)
		copy(b[lo:], two)
		return b
	}},
	{"change a field of the prelude", func(r *rand.Rand, b []byte) []byte {
		change(r, b, []field{{8, 2}, {10, 2}, {16, 8}, {24, 8}, {32, 4}, {36, 4}, {64, 1}, {192, 1}}[r.IntN(8)])
		return b
	}},
	{"change a field of a tensor", func(r *rand.Rand, b []byte) []byte {
		n := int(binary.LittleEndian.Uint32(b[32:]))
		f := []field{{0, 1}, {128, 2}, {130, 2}, {132, 2}, {134, 2}, {136, 4}, {140, 4}, {144, 4}, {152, 8}, {160, 8}, {168, 8}, {176, 8}}[r.IntN(12)]
		f.at += format.PreludeSize + format.TensorRecordSize*r.IntN(n)
		change(r, b, f)
		return b
	}},
	{"change a field of a section", func(r *rand.Rand, b []byte) []byte {
		tensors, n := int(binary.LittleEndian.Uint32(b[32:])), int(binary.LittleEndian.Uint32(b[36:]))
		f := []field{{0, 1}, {32, 8}, {40, 8}}[r.IntN(3)]
		f.at += format.PreludeSize + format.TensorRecordSize*tensors + format.SectionRecordSize*r.IntN(n)
		change(r, b, f)
		return b
	}},
	{"swap two records", func(r *rand.Rand, b []byte) []byte {
		n := int(binary.LittleEndian.Uint32(b[32:]))
		at := func() []byte {
			return b[format.PreludeSize+format.TensorRecordSize*r.IntN(n):][:format.TensorRecordSize]
		}
		one, two := at(), at()
		kept := bytes.Clone(one)
		copy(one, two)
		copy(two, kept)
		return b
	}},
	{"swap two names", func(r *rand.Rand, b []byte) []byte {
		n := int(binary.LittleEndian.Uint32(b[32:]))
		at := func() []byte { return b[format.PreludeSize+format.TensorRecordSize*r.IntN(n):][:format.MaxName] }
		one, two := at(), at()
		kept := bytes.Clone(one)
		copy(one, two)
		copy(two, kept)
		return b
	}},
	{"change a character of a section", func(r *rand.Rand, b []byte) []byte {
		tensors, n := int(binary.LittleEndian.Uint32(b[32:])), int(binary.LittleEndian.Uint32(b[36:]))
		rec := b[format.PreludeSize+format.TensorRecordSize*tensors+format.SectionRecordSize*r.IntN(n):]
		at, length := binary.LittleEndian.Uint64(rec[32:]), binary.LittleEndian.Uint64(rec[40:])
		const characters = `0123456789-.eE+"\{}[],: 	abcxyz`
		b[at+r.Uint64N(length)] = characters[r.IntN(len(characters))]
		return b
	}},
}

// place is an offset in b: half of the time one in the header, where a small file
// has most of its rules and a large one has none of its bytes.
func place(r *rand.Rand, b []byte) int {
	n := len(b)
	if header := binary.LittleEndian.Uint64(b[24:]); r.IntN(2) == 0 && header > 0 && header < uint64(n) {
		n = int(header)
	}
	return r.IntN(n)
}

// span is a range of 1 to 1,024 bytes, half of the time on the boundaries that
// extents have.
func span(r *rand.Rand, b []byte) (lo, hi int) {
	lo, n := place(r, b), 1+r.IntN(1024)
	if r.IntN(2) == 0 {
		lo, n = lo/format.Align*format.Align, (n+format.Align-1)/format.Align*format.Align
	}
	return lo, min(lo+n, len(b))
}

// field is an integer of the header.
type field struct{ at, size int }

// change gives a field another value: a near one, or one at a limit.
func change(r *rand.Rand, b []byte, f field) {
	old := uint64(0)
	for i := range f.size {
		old |= uint64(b[f.at+i]) << (8 * i)
	}
	values := []uint64{0, 1, 2, 3, old + 1, old - 1, old + 4, old + 256, old - 256, 2 * old, old / 2, old | 1<<31, old | 1<<63, math.MaxUint64, math.MaxInt32, math.MaxUint32, 128, 65536, old<<8 | old>>8, r.Uint64()}
	v := values[r.IntN(len(values))]
	for i := range f.size {
		b[f.at+i] = byte(v >> (8 * i))
	}
}
