package synth

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/quantize"
)

// WriteModel writes a .trit file of random weights for a Config: projections in
// 2-bit tiles, the embedding and an untied head in the encoding given (with a
// ternary head the embedding is bfloat16), norms of ones. It has no sections but
// the config and those given. The same arguments give the same bytes.
func WriteModel(path string, c *model.Config, head format.Encoding, sections ...Section) error {
	if err := c.Validate(); err != nil {
		return err
	}
	var specs []format.TensorSpec
	for _, t := range c.Manifest() {
		s := format.TensorSpec{Name: t.Name, Dims: t.Shape, Encoding: format.F32}
		switch t.Kind {
		case model.Matrix:
			s.Encoding, s.Rule, s.Granularity = format.Trit2, format.Verbatim, format.ScaleTensor
		case model.Table:
			switch s.Encoding = head; {
			case head == format.Int8:
				s.Granularity = format.ScaleRow
			case head == format.Trit2 && t.Role == model.RoleHead:
				s.Rule, s.Granularity = format.Verbatim, format.ScaleTensor
			case head == format.Trit2:
				s.Encoding = format.BF16
			}
		}
		specs = append(specs, s)
	}
	names := []string{format.SectionConfig}
	for _, s := range sections {
		names = append(names, s.Name)
	}
	layout, err := format.NewLayout(specs, names...)
	if err != nil {
		return err
	}
	w, err := format.Create(path, layout)
	if err != nil {
		return err
	}
	defer w.Abort() // does nothing after Finish
	rng := rand.New(rand.NewPCG(1, 2))
	for i, s := range specs {
		if err := fill(w.TensorWriter(i), &s, rng); err != nil {
			return err
		}
	}
	config, err := format.EncodeJSON(c)
	if err != nil {
		return err
	}
	if err := w.SetSection(format.SectionConfig, config); err != nil {
		return err
	}
	for _, s := range sections {
		if err := w.SetSection(s.Name, s.Data); err != nil {
			return err
		}
	}
	return w.Finish()
}

// Section is a section of a file.
type Section struct {
	Name string
	Data []byte
}

// distinct is how many different stretches of random weights a tensor repeats: to
// draw every weight of a large model would take minutes.
const distinct = 61

func fill(w *format.TensorWriter, s *format.TensorSpec, rng *rand.Rand) error {
	rows, cols := 1, s.Dims[len(s.Dims)-1]
	if len(s.Dims) == 2 {
		rows = s.Dims[0]
	}
	next, step := rowBytes(s, cols, rng), 1
	if s.Encoding == format.Trit2 {
		next, step = tileRows(cols, rng), quantize.TileRows
	}
	var stretches [][]byte
	for row := 0; row < rows; row += step {
		n := min(step, rows-row)
		if n < step || len(stretches) < distinct {
			stretches = append(stretches, next(n))
		}
		at := row / step % distinct
		if n < step {
			at = len(stretches) - 1
		}
		if _, err := w.Write(stretches[at]); err != nil {
			return err
		}
	}
	if s.Granularity == format.ScaleNone {
		return nil
	}
	scales := make([]float32, 1)
	if s.Granularity == format.ScaleRow {
		scales = make([]float32, rows)
	}
	for i := range scales {
		scales[i] = float32(1/math.Sqrt(float64(cols))) / 64
		if s.Encoding == format.Trit2 {
			scales[i] *= 64
		}
	}
	return w.SetScales(scales)
}

// tileRows returns a source of random tiles, n rows of trits each.
func tileRows(cols int, rng *rand.Rand) func(n int) []byte {
	return func(n int) []byte {
		trits := make([][]int8, n)
		for r := range trits {
			trits[r] = make([]int8, cols)
			for i := range trits[r] {
				trits[r][i] = int8(rng.IntN(3)) - 1
			}
		}
		out := make([]byte, quantize.TileRowBytes2(cols))
		quantize.Pack2(out, trits, cols)
		return out
	}
}

// rowBytes returns a source of random dense rows; a vector is ones.
func rowBytes(s *format.TensorSpec, cols int, rng *rand.Rand) func(n int) []byte {
	return func(int) []byte {
		var out []byte
		for range cols {
			v := float32(1)
			if len(s.Dims) == 2 {
				v = float32(rng.NormFloat64())
			}
			switch s.Encoding {
			case format.F32:
				out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
			case format.BF16:
				out = binary.LittleEndian.AppendUint16(out, uint16(math.Float32bits(v)>>16))
			case format.F16:
				out = binary.LittleEndian.AppendUint16(out, uint16(encode(v, checkpoint.F16)))
			case format.Int8:
				out = append(out, byte(int8(max(min(v*40, 127), -127))))
			default:
				panic("synth: encoding " + s.Encoding.String())
			}
		}
		return out
	}
}

// Config returns the Config of a shape, as its conversion would.
func (s Shape) Config() *model.Config {
	c := &model.Config{Activation: model.SiLU, ActivationQuant: model.ActivationInt8, Biases: []model.Projection{}, HeadDim: s.HeadDim, HiddenSize: s.Hidden,
		IntermediateSize: s.Intermediate, MaxPositionEmbeddings: s.Context, Modalities: []model.Modality{model.Text}, Norm: model.RMSNorm, NormEps: 1e-5,
		Norms: []model.NormPosition{model.NormAttn, model.NormMLP}, NumHeads: s.Heads, NumKVHeads: s.KVHeads, NumLayers: s.Layers,
		Rope: model.Rope{Pairing: model.PairHalf, Theta: 500000, Type: model.RopeDefault}, TiedHead: s.Tied, VocabSize: s.Vocab}
	if s.HeadDim == 0 {
		c.HeadDim = s.Hidden / s.Heads
	}
	if s.Class == "BitNetForCausalLM" {
		c.Activation = model.ReLU2
		c.Norms = []model.NormPosition{model.NormAttn, model.NormAttnSub, model.NormMLP, model.NormMLPSub}
	}
	if s.Class == Tritter {
		c.Activation, c.Norm = model.ReLU2, model.LayerNorm
		c.Norms = []model.NormPosition{model.NormAttn, model.NormK, model.NormPostMLP, model.NormQ}
	}
	if s.Act != "" {
		c.Activation = s.Act
	}
	return c
}
