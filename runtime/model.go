package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/quantize"
	"github.com/tritter-ai/tritter/tokenizer"
)

// Model is the content of a .trit file, ready for an engine. The matrices are
// views of the file, which must stay open as long as the model is used.
type Model struct {
	Config     model.Config
	Generation model.Generation // zero when the file has no such section

	file *format.File
	weights
	rope   *ref.Rope
	memory *MemoryTracker
	loaded int64 // bytes of matrices that had to be unpacked into memory

	tokenizer func() (*tokenizer.Tokenizer, error)
}

// weights are all tensors of a model.
type weights struct {
	embed  kernels.Dense
	head   Linear // Dense is &embed where the head is tied
	norm   *kernels.Norm
	layers []layer

	unpacked map[*kernels.Ternary]bool // those that are no views of the file
}

// layer holds one block. A norm that the architecture does not have is nil.
type layer struct {
	attnNorm, qNorm, kNorm, attnSubNorm, postAttnNorm *kernels.Norm
	mlpNorm, mlpSubNorm, postMLPNorm                  *kernels.Norm
	q, k, v, o, gate, up, down                        projection
}

// projection is a matrix and the norm of its input that is its own, or nil.
type projection struct {
	*kernels.Ternary
	norm *kernels.Norm
}

// Linear is a matrix that is either ternary or dense.
type Linear struct {
	Ternary *kernels.Ternary
	Dense   *kernels.Dense
}

// ErrNoTokenizer is returned by Model.Tokenizer for a file without that section.
var ErrNoTokenizer = errors.New("the file holds no tokenizer: give one with --tokenizer PATH, or work on ids")

// ReadConfig reads and validates the config section of f.
func ReadConfig(f *format.File) (*model.Config, error) {
	c := new(model.Config)
	if err := f.DecodeSection(format.SectionConfig, c); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, configError("section config", err)
	}
	return c, nil
}

// ReadGeneration reads and validates the generation section of f; a file without
// one gives the zero value.
func ReadGeneration(f *format.File, vocab int) (*model.Generation, error) {
	g := new(model.Generation)
	if err := f.DecodeSection(format.SectionGeneration, g); errors.Is(err, format.ErrNoSection) {
		return g, nil
	} else if err != nil {
		return nil, err
	}
	if err := g.Validate(vocab); err != nil {
		return nil, configError("section generation", err)
	}
	return g, nil
}

// ReadTokenizer reads the tokenizer section of f and holds it to the vocabulary.
func ReadTokenizer(f *format.File, vocab int) (*tokenizer.Tokenizer, error) {
	data, err := f.Section(format.SectionTokenizer)
	if errors.Is(err, format.ErrNoSection) {
		return nil, ErrNoTokenizer
	}
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("section tokenizer: %w", err)
	}
	if n := t.VocabSize(); n > vocab {
		return nil, &format.FormatError{Class: format.ClassTokenizer, Field: "tokenizer", Got: fmt.Sprintf("ids up to %d", n-1), Want: fmt.Sprintf("ids below the model's vocab_size %d", vocab)}
	}
	return t, nil
}

func configError(field string, err error) error {
	return &format.FormatError{Class: format.ClassConfig, Field: field, Got: "refused: " + err.Error(), Want: "a section that spec/trit-v1.md allows"}
}

// CheckManifest holds the directory of a file to what its config implies: every
// tensor present with its shape and a storage that its kind allows, and no other.
// The error joins every problem.
func CheckManifest(c *model.Config, h *format.Header) error {
	have := make(map[string]*format.TensorInfo, len(h.Tensors))
	place := make(map[string]int, len(h.Tensors)) // in the directory
	for i := range h.Tensors {
		have[h.Tensors[i].Name], place[h.Tensors[i].Name] = &h.Tensors[i], i
	}
	var errs []error
	bad := func(name, got, want string) {
		e := &format.FormatError{Class: format.ClassConfig, Field: "tensor " + name, Got: got, Want: want}
		if i, ok := place[name]; ok {
			e.Offset = format.PreludeSize + int64(i)*format.TensorRecordSize
		}
		errs = append(errs, e)
	}
	for _, t := range c.Manifest() {
		info, ok := have[t.Name]
		if !ok {
			bad(t.Name, "no such tensor", fmt.Sprintf("shape %v, which the config implies", t.Shape))
			continue
		}
		delete(have, t.Name)
		if fmt.Sprint(info.Dims) != fmt.Sprint(t.Shape) {
			bad(t.Name, fmt.Sprintf("shape %v", info.Dims), fmt.Sprintf("%v, which the config implies", t.Shape))
		}
		if want, ok := storage(t, info.Encoding); !ok {
			bad(t.Name, "encoding "+info.Encoding.String(), want)
		}
	}
	for i := range h.Tensors { // in file order
		if name := h.Tensors[i].Name; have[name] != nil {
			bad(name, "a tensor that the config does not imply", "no tensor of this name")
		}
	}
	return errors.Join(errs...)
}

// storage reports whether encoding e may hold t, and what may.
func storage(t model.Tensor, e format.Encoding) (want string, ok bool) {
	switch t.Kind {
	case model.Matrix:
		return "trit2 or trit3", e == format.Trit2 || e == format.Trit3
	case model.Table:
		if t.Role == model.RoleHead {
			return "f32, f16, bf16, int8, trit2 or trit3", true
		}
		return "f32, f16, bf16 or int8", e != format.Trit2 && e != format.Trit3
	case model.Vector:
		return "f32, f16 or bf16", e == format.F32 || e == format.F16 || e == format.BF16
	default:
		return "f32", e == format.F32
	}
}

// LoadModel reads the config of f, holds the directory to it and makes views of
// every tensor. Matrices in the base-3 encoding are unpacked into memory; all
// others stay in the file. Hashes and codes are not checked: that is format's
// Check. The tokenizer is parsed when it is first asked for.
func LoadModel(f *format.File) (*Model, error) {
	c, err := ReadConfig(f)
	if err != nil {
		return nil, err
	}
	if err := CheckManifest(c, f.Header()); err != nil {
		return nil, err
	}
	g, err := ReadGeneration(f, c.VocabSize)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: *c, Generation: *g, file: f, memory: hostTracker()}
	m.layers, m.unpacked = make([]layer, c.NumLayers), map[*kernels.Ternary]bool{}
	m.tokenizer = sync.OnceValues(func() (*tokenizer.Tokenizer, error) { return ReadTokenizer(f, c.VocabSize) })
	if m.rope, err = ref.NewRope(ropeSpec(&c.Rope), c.HeadDim); err != nil {
		return nil, configError("section config", err)
	}
	if err := format.Guard(m.loadTensors); err != nil {
		return nil, err
	}
	return m, nil
}

// File returns the file that the model is a view of.
func (m *Model) File() *format.File { return m.file }

// Tokenizer returns the file's tokenizer, parsed once; it is safe for concurrent
// use. The error is ErrNoTokenizer for a file without one.
func (m *Model) Tokenizer() (*tokenizer.Tokenizer, error) { return m.tokenizer() }

// UseTokenizer replaces the tokenizer of the file.
func (m *Model) UseTokenizer(t *tokenizer.Tokenizer) error {
	if n := t.VocabSize(); n > m.Config.VocabSize {
		return fmt.Errorf("the tokenizer has ids up to %d, but the model's vocab_size is %d: it belongs to another model", n-1, m.Config.VocabSize)
	}
	m.tokenizer = func() (*tokenizer.Tokenizer, error) { return t, nil }
	return nil
}

func ropeSpec(r *model.Rope) kernels.RopeSpec {
	types := map[model.RopeType]kernels.RopeType{model.RopeDefault: kernels.RopeDefault, model.RopeLinear: kernels.RopeLinear, model.RopeLlama3: kernels.RopeLlama3}
	return kernels.RopeSpec{Type: types[r.Type], Theta: r.Theta, Factor: r.Factor, LowFreq: r.LowFreqFactor, HighFreq: r.HighFreqFactor, OriginalMax: r.OriginalMax}
}

func (m *Model) loadTensors() error {
	c := &m.Config
	embed, err := m.dense(model.Name(model.NoLayer, model.RoleEmbed, "weight"))
	if err != nil {
		return err
	}
	m.embed = *embed
	m.head = Linear{Dense: &m.embed}
	if !c.TiedHead {
		if m.head, err = m.linear(model.Name(model.NoLayer, model.RoleHead, "weight")); err != nil {
			return err
		}
	}
	if m.norm, err = m.loadNorm(model.NoLayer, model.RoleNorm); err != nil {
		return err
	}
	for i := range m.layers {
		l := &m.layers[i]
		for p, to := range map[model.NormPosition]**kernels.Norm{
			model.NormAttn: &l.attnNorm, model.NormQ: &l.qNorm, model.NormK: &l.kNorm, model.NormAttnSub: &l.attnSubNorm,
			model.NormPostAttn: &l.postAttnNorm, model.NormMLP: &l.mlpNorm, model.NormMLPSub: &l.mlpSubNorm, model.NormPostMLP: &l.postMLPNorm,
		} {
			if c.HasNorm(p) {
				if *to, err = m.loadNorm(i, model.NormRole(p)); err != nil {
					return err
				}
			}
		}
		for p, to := range map[model.Projection]*projection{
			model.Q: &l.q, model.K: &l.k, model.V: &l.v, model.O: &l.o, model.Gate: &l.gate, model.Up: &l.up, model.Down: &l.down,
		} {
			if *to, err = m.projection(i, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *Model) projection(layer int, p model.Projection) (out projection, err error) {
	if out.Ternary, err = m.ternary(model.Name(layer, model.Role(p), "weight")); err != nil {
		return out, err
	}
	if m.Config.HasBias(p) {
		if out.Bias, err = m.vector(model.Name(layer, model.Role(p), "bias")); err != nil {
			return out, err
		}
	}
	if m.Config.HasNorm(model.NormProj) {
		out.norm = &kernels.Norm{Kind: kernels.RMS, Eps: float32(m.Config.ProjNormEps)}
		out.norm.Weight, err = m.vector(model.Name(layer, model.InNormRole(p), "weight"))
	}
	return out, err
}

func (m *Model) loadNorm(layer int, role model.Role) (*kernels.Norm, error) {
	n := &kernels.Norm{Kind: kernels.RMS, Eps: float32(m.Config.NormEps)}
	var err error
	if n.Weight, err = m.vector(model.Name(layer, role, "weight")); err != nil {
		return nil, err
	}
	if m.Config.Norm == model.LayerNorm {
		n.Kind = kernels.Layer
		n.Bias, err = m.vector(model.Name(layer, role, "bias"))
	}
	return n, err
}

// vector decodes a rank-1 tensor to float32.
func (m *Model) vector(name string) ([]float32, error) {
	d, err := m.dense(name)
	if err != nil {
		return nil, err
	}
	out := make([]float32, d.Cols)
	ref.Ops{}.EmbedRow(out, d, 0)
	if err := quantize.CheckFinite(out); err != nil {
		return nil, &format.FormatError{Class: format.ClassCode, Field: "tensor " + name, Got: err.Error(), Want: "finite values"}
	}
	return out, nil
}

var denseTypes = map[format.Encoding]kernels.DType{format.F32: kernels.F32, format.F16: kernels.F16, format.BF16: kernels.BF16, format.Int8: kernels.I8}

// DenseView returns the matrix that the data and scales of a dense or int8 tensor
// are; a vector is one row.
func DenseView(info *format.TensorInfo, data []byte, scales []float32) *kernels.Dense {
	d := &kernels.Dense{Rows: 1, Cols: info.Dims[len(info.Dims)-1], Type: denseTypes[info.Encoding], Data: data, Scales: scales}
	if len(info.Dims) == 2 {
		d.Rows = info.Dims[0]
	}
	return d
}

func (m *Model) dense(name string) (*kernels.Dense, error) {
	info, data, scales, err := m.tensor(name)
	if err != nil {
		return nil, err
	}
	return DenseView(info, data, scales), nil
}

func (m *Model) ternary(name string) (*kernels.Ternary, error) {
	info, data, scales, err := m.tensor(name)
	if err != nil {
		return nil, err
	}
	if info.Encoding == format.Trit3 {
		n := len(data) / quantize.TileBytes3 * quantize.TileBytes2
		if err := m.memory.Reserve("tensor "+name+", unpacked from base 3", int64(n), "use a machine with more memory, or convert with --encoding trit2, which needs no copy"); err != nil {
			return nil, err
		}
		tiles := make([]byte, n)
		err := quantize.Repack3To2(tiles, data)
		m.file.Forget(data)
		if err != nil {
			return nil, &format.FormatError{Class: format.ClassCode, Offset: info.Offset, Field: "tensor " + name, Got: err.Error(), Want: "base-3 codes"}
		}
		m.loaded += int64(len(tiles))
		data = tiles
	}
	w := &kernels.Ternary{Rows: info.Dims[0], Cols: info.Dims[1], Tiles: data, Scales: scales, Group: info.Group}
	if info.Encoding == format.Trit3 {
		m.unpacked[w] = true
	}
	return w, nil
}

func (m *Model) linear(name string) (Linear, error) {
	t, _ := m.file.Tensor(name)
	if e := t.Info().Encoding; e == format.Trit2 || e == format.Trit3 {
		w, err := m.ternary(name)
		return Linear{Ternary: w}, err
	}
	w, err := m.dense(name)
	return Linear{Dense: w}, err
}

func (m *Model) tensor(name string) (*format.TensorInfo, []byte, []float32, error) {
	t, ok := m.file.Tensor(name)
	if !ok {
		return nil, nil, nil, errors.New("no tensor " + strconv.Quote(name)) // CheckManifest came before
	}
	data, err := t.Data()
	if err != nil {
		return nil, nil, nil, err
	}
	info := t.Info()
	if info.Granularity == format.ScaleNone {
		return info, data, nil, nil
	}
	scales, err := t.Scales()
	return info, data, scales, err
}
