package model

import (
	"fmt"
	"slices"
)

// KVFormat is how the key-value cache stores its elements.
type KVFormat string

// The formats of the cache.
const (
	KVF32  KVFormat = "f32"  // as computed
	KVF16  KVFormat = "f16"  // rounded to half precision
	KVInt8 KVFormat = "int8" // a scale a position and head
	KVInt4 KVFormat = "int4" // half a byte an element; keys have a scale and a zero point a position and head, values one a position
)

// KVFormats lists the formats, the widest first.
func KVFormats() []KVFormat { return []KVFormat{KVF32, KVF16, KVInt8, KVInt4} }

// KVBytes returns the bytes of the key-value cache that one position takes in all
// layers, scales included. It panics on a format that KVFormats does not list.
func (c *Config) KVBytes(f KVFormat) int64 {
	if !slices.Contains(KVFormats(), f) {
		panic(fmt.Sprintf("model: unknown KV format %q", f))
	}
	heads, elements := int64(c.NumKVHeads), int64(c.NumKVHeads)*int64(c.HeadDim)
	layer := map[KVFormat]int64{
		KVF32:  2 * 4 * elements,
		KVF16:  2 * 2 * elements,
		KVInt8: 2 * (elements + 4*heads),
		KVInt4: elements + 4*heads + 4, // HeadDim is even
	}[f]
	return int64(c.NumLayers) * layer
}
