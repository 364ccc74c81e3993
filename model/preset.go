package model

import (
	"fmt"
	"strings"
)

// Values that every preset shares: those of Tritter's reference implementation.
const (
	PresetVocab   = 65536
	PresetContext = 131072
	PresetTheta   = 500000
	PresetEps     = 1e-5
)

// preset is the shape of a Tritter model.
type preset struct {
	name                                        string
	hidden, layers, heads, kvHeads, feedForward int
}

// presets are ordered by size. Those that end in "-base" are the sizes that the
// API document gives; the others are the models that are trained.
var presets = []preset{
	{"test", 256, 4, 4, 4, 512},
	{"125M", 768, 12, 12, 12, 3072},
	{"350M", 1024, 24, 16, 16, 4096},
	{"1B", 2048, 16, 16, 16, 5632},
	{"3B-base", 2048, 24, 16, 16, 8192},
	{"3B", 2560, 26, 20, 20, 6912},
	{"7B-base", 4096, 32, 32, 32, 8192},
	{"7B", 4096, 32, 32, 8, 11008},
}

// Presets returns the names of the presets, smallest first.
func Presets() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.name
	}
	return names
}

// Preset returns the Config of a Tritter model by name; the caller may change it.
// "3B-base" and "7B-base" are the sizes of the API document, with as many
// key-value heads as query heads. The error lists the names.
//
// All presets have a vocabulary of 65,536 ids for text, code, image and audio, a
// context of 131,072 positions, RoPE theta 500,000, squared ReLU, layer norms
// with query and key norms, float activations and a head of its own.
func Preset(name string) (*Config, error) {
	for _, p := range presets {
		if p.name == name {
			return p.config(), nil
		}
	}
	return nil, fmt.Errorf("there is no preset %q, want one of %s", name, strings.Join(Presets(), ", "))
}

func (p *preset) config() *Config {
	return &Config{
		Activation: ReLU2, ActivationQuant: ActivationNone, Biases: []Projection{},
		HeadDim: p.hidden / p.heads, HiddenSize: p.hidden, IntermediateSize: p.feedForward, MaxPositionEmbeddings: PresetContext,
		Modalities: []Modality{Audio, Code, Image, Text}, Norm: LayerNorm, NormEps: PresetEps,
		Norms:    []NormPosition{NormAttn, NormK, NormPostMLP, NormQ},
		NumHeads: p.heads, NumKVHeads: p.kvHeads, NumLayers: p.layers,
		Rope: Rope{Pairing: PairHalf, Theta: PresetTheta, Type: RopeDefault}, VocabSize: PresetVocab,
	}
}
