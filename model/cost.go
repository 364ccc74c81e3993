package model

// Cost is what one field of a Config costs in memory, and why.
type Cost struct {
	Field string `json:"field"`
	Value int    `json:"value"`
	Bytes int64  `json:"bytes"` // of what the field multiplies, with a float32 cache of one position
	Why   string `json:"why"`
}

// Costs lists the memory-critical fields of c with what they cost. The parts
// overlap: they show what each field scales, and do not add up to a total, which
// is Plan's. Weights are those of WeightBytes with a bf16 head.
func (c *Config) Costs() []Cost {
	var layer, ffn int64
	for _, p := range Projections() {
		s := c.ProjectionShape(p)
		bytes := matrixBytes(s[0], s[1])
		layer += bytes
		if p == Gate || p == Up || p == Down {
			ffn += bytes
		}
	}
	layers := int64(c.NumLayers)
	tables := int64(2)
	if c.TiedHead {
		tables = 1
	}
	cache := c.KVBytes(KVF32)
	return []Cost{
		{"hidden_size", c.HiddenSize, layers * layer, "every projection has a side of it: 2 bits a weight"},
		{"num_layers", c.NumLayers, layer, "each layer has seven projections, and keys and values of every position"},
		{"intermediate_size", c.IntermediateSize, layers * ffn, "gate, up and down: the largest part of a layer"},
		{"vocab_size", c.VocabSize, tables * 2 * int64(c.VocabSize) * int64(c.HiddenSize), "embedding and, where not tied, head: 2 bytes an element, where layers have 2 bits"},
		{"num_kv_heads", c.NumKVHeads, cache, "keys and values of a position in all layers, in float32; fewer heads than num_heads make it smaller, int4 makes it an eighth"},
		{"max_position_embeddings", c.MaxPositionEmbeddings, mul(cache, int64(c.MaxPositionEmbeddings)), "cache of one sequence that fills the context, in float32: less context is the first thing to save"},
	}
}
