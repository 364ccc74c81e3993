package verify

import "github.com/tritter-ai/tritter/model"

// card describes the model; nil where the config could not be read.
func (v *verifier) card() *Card {
	c := v.config
	if c == nil {
		return nil
	}
	card := &Card{Layers: c.NumLayers, Hidden: c.HiddenSize, Heads: c.NumHeads, KVHeads: c.NumKVHeads, Intermediate: c.IntermediateSize,
		Vocab: c.VocabSize, Context: c.MaxPositionEmbeddings, Activation: string(c.Activation), Quantizer: string(c.ActivationQuant)}
	var bytes int64
	h := v.file.Header()
	for i := range h.Tensors {
		t, n := &h.Tensors[i], int64(1)
		for _, d := range t.Dims {
			n *= int64(d)
		}
		card.Parameters += n
		if t.Encoding.Ternary() {
			card.Ternary += n
			bytes += t.Length + t.ScaleLength
		}
	}
	if card.Ternary > 0 {
		card.BitsPerWeight = float64(8*bytes) / float64(card.Ternary)
	}
	if p, err := v.readProvenance(); err == nil {
		card.Family, card.Tool = p.Family, p.Tool
		for _, t := range p.Tensors {
			if t.Rule != model.RuleDropped {
				card.Sources++
			}
		}
	}
	return card
}
