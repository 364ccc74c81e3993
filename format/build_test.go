package format

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is a tensor before it is encoded.
type source struct {
	spec   TensorSpec
	trits  []int8 // ternary and int8, row-major
	data   []byte // encoded
	scales []float32
}

// packTrit2 and packTrit3 follow spec/trit-v1.md, 5 in the most obvious way.
func packTrit2(trits []int8, out, in int) []byte {
	tpr := (in + 127) / 128
	b := make([]byte, (out+3)/4*tpr*128)
	for r := range out {
		for c := range in {
			code := byte(trits[r*in+c]) & 3
			m, j := c%128%32, c%128/32
			b[(r/4*tpr+c/128)*128+r%4*32+m] |= code << (2 * j)
		}
	}
	return b
}

func packTrit3(trits []int8, out, in int) []byte {
	tpr := (in + 127) / 128
	b := make([]byte, (out+3)/4*tpr*104)
	pow := [5]byte{1, 3, 9, 27, 81}
	digit := map[int8]byte{0: 0, 1: 1, -1: 2}
	for r := range out {
		for c := range in {
			m, j := c%128%26, c%128/26
			b[(r/4*tpr+c/128)*104+r%4*26+m] += digit[trits[r*in+c]] * pow[j]
		}
	}
	return b
}

// makeSource gives random legal content to a spec.
func makeSource(t require.TestingT, rng *rand.Rand, spec TensorSpec) source {
	s := source{spec: spec}
	n := 1
	for _, d := range spec.Dims {
		n *= d
	}
	switch spec.Encoding {
	case Trit2, Trit3:
		s.trits = make([]int8, n)
		for i := range s.trits {
			s.trits[i] = int8(rng.IntN(3) - 1)
		}
		if spec.Encoding == Trit2 {
			s.data = packTrit2(s.trits, spec.Dims[0], spec.Dims[1])
		} else {
			s.data = packTrit3(s.trits, spec.Dims[0], spec.Dims[1])
		}
	case Int8:
		s.trits = make([]int8, n)
		for i := range s.trits {
			s.trits[i] = int8(rng.IntN(255) - 127)
			s.data = append(s.data, byte(s.trits[i]))
		}
	case F32:
		for range n {
			s.data = binary.LittleEndian.AppendUint32(s.data, math.Float32bits(float32(rng.NormFloat64())))
		}
	case F16:
		for range n {
			s.data = binary.LittleEndian.AppendUint16(s.data, uint16(rng.IntN(0x7c00)|rng.IntN(2)<<15))
		}
	case BF16:
		for range n {
			s.data = binary.LittleEndian.AppendUint16(s.data, uint16(rng.IntN(0x7f80)|rng.IntN(2)<<15))
		}
	}
	count, err := ScaleCount(spec.Granularity, spec.Dims, spec.Group)
	require.NoError(t, err)
	for range count {
		v := float32(math.Exp(rng.NormFloat64()))
		if spec.Rule > AbsMean {
			v *= float32(rng.IntN(3) - 1)
		}
		s.scales = append(s.scales, v)
	}
	return s
}

// everySpec has each encoding with each granularity it allows, and dims that
// leave padding.
func everySpec() []TensorSpec {
	return []TensorSpec{
		{"norm.weight", F32, RuleNone, ScaleNone, []int{3}, 0},
		{"a.f16", F16, RuleNone, ScaleNone, []int{3, 5}, 0},
		{"a.bf16", BF16, RuleNone, ScaleNone, []int{2, 3}, 0},
		{"embed.weight", Int8, RuleNone, ScaleRow, []int{5, 7}, 0},
		{"layers.0.q.weight", Trit2, AbsMean, ScaleTensor, []int{6, 130}, 0},
		{"layers.0.k.weight", Trit2, Threshold, ScaleRow, []int{5, 200}, 0},
		{"layers.0.v.weight", Trit2, Verbatim, ScaleGroup, []int{3, 300}, 128},
		{"layers.0.o.weight", Trit3, AbsMean, ScaleTensor, []int{6, 130}, 0},
		{"layers.0.up.weight", Trit3, Threshold, ScaleRow, []int{5, 200}, 0},
		{"layers.0.down.weight", Trit3, Verbatim, ScaleGroup, []int{3, 300}, 256},
	}
}

func everySource(t require.TestingT) []source {
	rng := rand.New(rand.NewPCG(1, 2))
	var list []source
	for _, spec := range everySpec() {
		list = append(list, makeSource(t, rng, spec))
	}
	return list
}

func testSections() map[string][]byte {
	return map[string][]byte{
		SectionConfig:     []byte(`{"hidden_size":8}`),
		SectionTokenizer:  []byte("{ \"verbatim\" : true }\n"),
		SectionGeneration: []byte(`{"eos":[2]}`),
		SectionProvenance: []byte(`{"depth":[[[4]]]}`),
	}
}

func specsOf(sources []source) []TensorSpec {
	var specs []TensorSpec
	for _, s := range sources {
		specs = append(specs, s.spec)
	}
	return specs
}

// writeFile writes sources one after the other and returns the file's bytes.
func writeFile(t require.TestingT, path string, sources []source, sections map[string][]byte) []byte {
	write(t, path, sources, sections)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

func write(t require.TestingT, path string, sources []source, sections map[string][]byte) {
	var names []string
	for name := range sections {
		names = append(names, name)
	}
	layout, err := NewLayout(specsOf(sources), names...)
	require.NoError(t, err)
	w, err := Create(path, layout)
	require.NoError(t, err)
	defer w.Abort()
	for i, s := range sources {
		_, err := w.TensorWriter(i).Write(s.data)
		require.NoError(t, err)
		if s.scales != nil {
			require.NoError(t, w.TensorWriter(i).SetScales(s.scales))
		}
	}
	for name, data := range sections {
		require.NoError(t, w.SetSection(name, data))
	}
	require.NoError(t, w.Finish())
}

// everyFile is a file with every encoding and granularity.
func everyFile(t testing.TB) []byte {
	return writeFile(t, filepath.Join(t.TempDir(), "every.trit"), everySource(t), testSections())
}

// rehash makes the header's SHA-256 right again after a patch.
func rehash(b []byte) []byte {
	if len(b) >= PreludeSize {
		if n := binary.LittleEndian.Uint64(b[preHeaderLength:]); n >= PreludeSize && n <= uint64(len(b)) {
			sum := headerHash(b[:n])
			copy(b[preSHA:], sum[:])
		}
	}
	return b
}

// files returns the names in a folder.
func files(t *testing.T, dir string) []string {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
