package optest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/quantize"
	"github.com/tritter-ai/tritter/testdata/vectors"
)

// Golden holds impl to the vectors of testdata/vectors/numerics, which come from exact rational arithmetic and not from
// kernels/ref: a mistake that ref and impl share does not pass.
func Golden(t *testing.T, impl kernels.Ops) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, kernels.Ops)
	}{
		{"norm", goldenNorm},
		{"quantizer", goldenQuantizer},
		{"ternary", goldenTernary},
		{"dense", goldenDense},
		{"rope", goldenRope},
		{"store", goldenStore},
		{"attention", goldenAttention},
		{"gate", goldenGate},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, impl) })
	}
}

// Vectors reads a file of testdata/vectors/numerics into v; it fails the test on a key that v does not have.
func Vectors(t *testing.T, name string, v any) {
	t.Helper()
	data, err := vectors.FS.ReadFile("numerics/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s.json: %v", name, err)
	}
}

// Bits is a list of f32 as the vectors write it: each as eight hexadecimal digits, with a space between.
type Bits string

// Floats returns the list.
func (b Bits) Floats(t *testing.T) []float32 {
	t.Helper()
	list := []float32{}
	for word := range strings.FieldsSeq(string(b)) {
		u, err := strconv.ParseUint(word, 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, math.Float32frombits(uint32(u)))
	}
	return list
}

// Generator makes the inputs of the vectors: the numbers of section 16.
type Generator uint32

// Next steps the state and returns it.
func (g *Generator) Next() uint32 {
	*g = *g*1664525 + 1013904223
	return uint32(*g)
}

// Floats draws n elements.
func (g *Generator) Floats(n, shift int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Ldexp(float64(int32(g.Next()>>8)-1<<23), -shift))
	}
	return x
}

// Trits draws n trits.
func (g *Generator) Trits(n int) []int8 {
	t := make([]int8, n)
	for i := range t {
		v := int(g.Next()>>8) - 1<<23
		t[i] = int8(max(v, -v)%3 - 1)
	}
	return t
}

// guarded copies x to a buffer that ends at an unreadable page.
func guarded(a *arena, x []float32) []float32 {
	g := floats(a, len(x))
	copy(g, x)
	return g
}

func goldenNorm(t *testing.T, impl kernels.Ops) {
	var list []struct {
		Kind string
		Seed uint32
		N    int
		Bias bool
		Eps  Bits
		Y, A Bits
		Q    []int8
	}
	Vectors(t, "norm", &list)
	for _, v := range list {
		a := new(arena)
		g := Generator(v.Seed)
		x, w, bias := guarded(a, g.Floats(v.N, 20)), guarded(a, g.Floats(v.N, 22)), guarded(a, g.Floats(v.N, 22))
		n := &kernels.Norm{Kind: kernels.RMS, Weight: w, Eps: v.Eps.Floats(t)[0]}
		if v.Kind == "layer" {
			n.Kind = kernels.Layer
		}
		if v.Bias {
			n.Bias = bias
		}
		what := label("%s of %d", v.Kind, v.N)
		y := output(a, v.N)
		sameError(t, what, impl.Norm(y, x, n), nil)
		same(t, what, y, v.Y.Floats(t))
		goldenCodes(t, impl, what, x, n, v.A, v.Q)
		a.free()
	}
}

func goldenCodes(t *testing.T, impl kernels.Ops, what string, x []float32, n *kernels.Norm, wantMax Bits, want []int8) {
	t.Helper()
	a := new(arena)
	defer a.free()
	q := int8s(a, kernels.PadCols(len(x)))
	top, err := impl.NormQuant(q, x, n)
	sameError(t, what, err, nil)
	same(t, what+", the maximum", []float32{top}, wantMax.Floats(t))
	if !slices.Equal(q[:len(x)], want) {
		t.Fatalf("%s: codes are %v, want %v", what, q[:len(x)], want)
	}
	if slices.ContainsFunc(q[len(x):], func(c int8) bool { return c != 0 }) {
		t.Fatalf("%s: codes past the end are %v, want zeros", what, q[len(x):])
	}
}

func goldenQuantizer(t *testing.T, impl kernels.Ops) {
	var list []struct {
		Name string
		X, A Bits
		Q    []int8
	}
	Vectors(t, "quantizer", &list)
	for _, v := range list {
		a := new(arena)
		goldenCodes(t, impl, v.Name, guarded(a, v.X.Floats(t)), nil, v.A, v.Q)
		a.free()
	}
}

func goldenTernary(t *testing.T, impl kernels.Ops) {
	var list []struct {
		Seed               uint32
		Rows, Cols, Tokens int
		Scales             string
		Group              int
		Bias               bool
		Trit2              string `json:"trit2_sha256"`
		Trit3              string `json:"trit3_sha256"`
		A, Int8, Float     Bits
	}
	Vectors(t, "ternary", &list)
	for _, v := range list {
		a := new(arena)
		what := label("%+v", v)
		g := Generator(v.Seed)
		rows := make([][]int8, v.Rows)
		for r := range rows {
			rows[r] = g.Trits(v.Cols)
		}
		w := &kernels.Ternary{Rows: v.Rows, Cols: v.Cols, Group: v.Group, Tiles: a.bytes(kernels.TernaryBytes(v.Rows, v.Cols))}
		packBoth(t, what, w, rows, v.Trit2, v.Trit3)
		scales := map[string]int{"tensor": 1, "row": v.Rows, "group": v.Rows * w.Groups()}[v.Scales]
		w.Scales = guarded(a, g.Floats(scales, 24))
		if v.Bias {
			w.Bias = guarded(a, g.Floats(v.Rows, 20))
		}
		x := guarded(a, g.Floats(v.Tokens*v.Cols, 21))
		q := &kernels.Acts{M: v.Tokens, K: v.Cols, Stride: kernels.PadCols(v.Cols), Max: floats(a, v.Tokens)}
		q.Codes = int8s(a, v.Tokens*q.Stride)
		for m := range v.Tokens {
			var err error
			q.Max[m], err = impl.NormQuant(q.Token(m), x[m*v.Cols:][:v.Cols], nil)
			sameError(t, what, err, nil)
		}
		same(t, what+", maxima", q.Max, v.A.Floats(t))
		y := output(a, v.Tokens*v.Rows)
		impl.TernaryInt8(y, v.Rows, w, q, 0, v.Rows)
		same(t, "TernaryInt8, "+what, y, v.Int8.Floats(t))
		y = output(a, v.Tokens*v.Rows)
		impl.TernaryFloat(y, v.Rows, w, x, v.Tokens, v.Cols, 0, v.Rows)
		same(t, "TernaryFloat, "+what, y, v.Float.Floats(t))
		a.free()
	}
}

// packBoth packs rows in both encodings, holds each to its hash, and leaves in w the tiles that come from the base-3
// encoding.
func packBoth(t *testing.T, what string, w *kernels.Ternary, rows [][]int8, want2, want3 string) {
	t.Helper()
	var two, three []byte
	for r := 0; r < len(rows); r += kernels.TileRows {
		part := rows[r:min(r+kernels.TileRows, len(rows))]
		b2, b3 := make([]byte, quantize.TileRowBytes2(w.Cols)), make([]byte, quantize.TileRowBytes3(w.Cols))
		quantize.Pack2(b2, part, w.Cols)
		quantize.Pack3(b3, part, w.Cols)
		two, three = append(two, b2...), append(three, b3...)
	}
	for _, c := range []struct {
		data []byte
		want string
	}{{two, want2}, {three, want3}} {
		if sum := sha256.Sum256(c.data); hex.EncodeToString(sum[:]) != c.want {
			t.Fatalf("%s: packed bytes have SHA-256 %x, want %s", what, sum, c.want)
		}
	}
	if err := quantize.Repack3To2(w.Tiles, three); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.Tiles, two) {
		t.Fatalf("%s: base-3 tiles repacked differ from 2-bit tiles", what)
	}
}

func goldenDense(t *testing.T, impl kernels.Ops) {
	var list []struct {
		DType              string
		Seed               uint32
		Rows, Cols, Tokens int
		Y, Embed           Bits
	}
	Vectors(t, "dense", &list)
	for _, v := range list {
		a := new(arena)
		what := label("%s, %d x %d", v.DType, v.Rows, v.Cols)
		dt := dtypes[slices.IndexFunc(dtypes, func(d kernels.DType) bool { return d.String() == v.DType })]
		g := Generator(v.Seed)
		w := &kernels.Dense{Rows: v.Rows, Cols: v.Cols, Type: dt, Data: a.bytes(v.Rows * v.Cols * dt.Size())}
		for i := range v.Rows * v.Cols {
			u := g.Next()
			f := math.Float32bits(float32(math.Ldexp(float64(int32(u>>8)-1<<23), -22)))
			switch dt {
			case kernels.F32:
				binary.LittleEndian.PutUint32(w.Data[4*i:], f)
			case kernels.F16:
				binary.LittleEndian.PutUint16(w.Data[2*i:], uint16(u>>16)&0xbfff)
			case kernels.BF16:
				binary.LittleEndian.PutUint16(w.Data[2*i:], uint16(f>>16))
			case kernels.I8:
				w.Data[i] = byte(int(u>>8)%255 - 127)
			}
		}
		if dt == kernels.I8 {
			w.Scales = guarded(a, g.Floats(v.Rows, 24))
		}
		x := guarded(a, g.Floats(v.Tokens*v.Cols, 21))
		y := output(a, v.Tokens*v.Rows)
		impl.Dense(y, v.Rows, w, x, v.Tokens, v.Cols, 0, v.Rows)
		same(t, "Dense, "+what, y, v.Y.Floats(t))
		row := output(a, v.Cols)
		impl.EmbedRow(row, w, v.Rows-1)
		same(t, "EmbedRow, "+what, row, v.Embed.Floats(t))
		a.free()
	}
}

func goldenRope(t *testing.T, impl kernels.Ops) {
	var list []struct {
		Spec struct {
			Type                     string
			Theta, Factor, Low, High float64
			Original                 int
		}
		Dim, Pos          int
		Cos, Sin, Rotated Bits
		Seed              uint32
	}
	Vectors(t, "rope", &list)
	types := map[string]kernels.RopeType{"default": kernels.RopeDefault, "linear": kernels.RopeLinear, "llama3": kernels.RopeLlama3}
	for _, v := range list {
		a := new(arena)
		what := label("rope %+v, %d elements at %d", v.Spec, v.Dim, v.Pos)
		cos, sin := floats(a, v.Dim/2), floats(a, v.Dim/2)
		spec := kernels.RopeSpec{Type: types[v.Spec.Type], Theta: v.Spec.Theta, Factor: v.Spec.Factor, LowFreq: v.Spec.Low, HighFreq: v.Spec.High, OriginalMax: v.Spec.Original}
		if err := ref.RopeAngles(cos, sin, v.Pos, spec); err != nil {
			t.Fatal(err)
		}
		same(t, what+", cosines", cos, v.Cos.Floats(t))
		same(t, what+", sines", sin, v.Sin.Floats(t))
		g := Generator(v.Seed)
		x := guarded(a, g.Floats(v.Dim, 22))
		impl.Rope(x, v.Dim, cos, sin)
		same(t, what, x, v.Rotated.Floats(t))
		a.free()
	}
}

func goldenGate(t *testing.T, impl kernels.Ops) {
	var list []struct{ G, U, SiLU, ReLU2, Sum Bits }
	Vectors(t, "gate", &list)
	for _, v := range list {
		a := new(arena)
		g, u := guarded(a, v.G.Floats(t)), guarded(a, v.U.Floats(t))
		h := output(a, len(g))
		impl.Gate(h, g, u, kernels.SiLU)
		same(t, "silu", h, v.SiLU.Floats(t))
		impl.Gate(h, g, u, kernels.ReLU2)
		same(t, "relu2", h, v.ReLU2.Floats(t))
		impl.Add(g, u)
		same(t, "residual", g, v.Sum.Floats(t))
		a.free()
	}
}
