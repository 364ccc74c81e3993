package kernels

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestShapes(t *testing.T) {
	for cols, want := range map[int]int{0: 0, 1: 128, 127: 128, 128: 128, 129: 256, 3200: 3200, 8641: 8704} {
		require.Equal(t, want, PadCols(cols), "%d columns", cols)
	}
	require.Equal(t, 128, TernaryBytes(1, 1))
	require.Equal(t, 128, TernaryBytes(4, 128))
	require.Equal(t, 4*128, TernaryBytes(5, 129))
	w := Ternary{Rows: 5, Cols: 257}
	require.Equal(t, 3, w.ColTiles())
	require.Zero(t, w.Groups())
	w.Group = 256
	require.Equal(t, 2, w.Groups())
	for dt, size := range map[DType]int{0: 0, F32: 4, F16: 2, BF16: 2, I8: 1, 9: 0} {
		require.Equal(t, size, dt.Size(), "%v", dt)
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, []string{"silu", "relu2", "activation(unknown)"}, []string{SiLU.String(), ReLU2.String(), Activation(0).String()})
	require.Equal(t, []string{"rms", "layer", "norm(unknown)"}, []string{RMS.String(), Layer.String(), NormKind(0).String()})
	require.Equal(t, []string{"f32", "f16", "bf16", "i8", "dtype(unknown)"}, []string{F32.String(), F16.String(), BF16.String(), I8.String(), DType(0).String()})
	require.Equal(t, []string{"default", "linear", "llama3", "rope(unknown)"}, []string{RopeDefault.String(), RopeLinear.String(), RopeLlama3.String(), RopeType(0).String()})
}

func TestActsResize(t *testing.T) {
	var x Acts
	x.Resize(3, 130)
	require.Equal(t, 256, x.Stride)
	require.Len(t, x.Codes, 3*256)
	require.Len(t, x.Max, 3)
	x.Token(1)[0] = 7
	require.Equal(t, int8(7), x.Codes[256])
	first := &x.Codes[0]
	x.Resize(1, 700)
	require.Len(t, x.Codes, 768)
	require.Same(t, first, &x.Codes[0], "a smaller shape reuses the buffer")
}

func TestFinite(t *testing.T) {
	for _, x := range []float32{0, 1, -1, math.MaxFloat32, math.SmallestNonzeroFloat32} {
		require.True(t, Finite(x))
	}
	for _, x := range []float64{math.Inf(1), math.Inf(-1), math.NaN()} {
		require.False(t, Finite(float32(x)))
	}
	require.EqualError(t, &NonFiniteError{Op: "Norm", What: "r", Index: -1, Value: float32(math.Inf(1))},
		"Norm: r is +Inf, want a finite value: the weights or scales before it overflow f32; check the model file with tritter-verify")
}

// Each check accepts what fits and names what does not.
func TestChecks(t *testing.T) {
	f := func(n int) []float32 { return make([]float32, n) }
	tern := func(edit func(*Ternary)) *Ternary {
		w := &Ternary{Rows: 5, Cols: 130, Tiles: make([]byte, 4*TileBytes), Scales: f(1), Bias: f(5)}
		edit(w)
		return w
	}
	as := func(*Ternary) {}
	acts := func(m int) *Acts {
		x := new(Acts)
		x.Resize(m, 130)
		return x
	}
	dense := func(edit func(*Dense)) *Dense {
		w := &Dense{Rows: 3, Cols: 5, Type: I8, Data: make([]byte, 15), Scales: f(3)}
		edit(w)
		return w
	}
	ad := func(*Dense) {}
	rms := &Norm{Kind: RMS, Weight: f(3)}

	for want, call := range map[string]func(){
		"": func() {
			CheckNorm(f(3), f(3), rms)
			CheckNorm(f(3), f(3), &Norm{Kind: Layer, Weight: f(3), Bias: f(3)})
			CheckNormQuant(make([]int8, 128), f(3), rms)
			CheckNormQuant(make([]int8, 128), f(3), nil)
			CheckTernaryInt8(f(11), 6, tern(as), acts(2), 4, 5)
			CheckTernaryInt8(nil, 0, tern(as), acts(0), 0, 5)
			CheckTernaryFloat(f(10), 5, tern(as), f(260), 2, 130, 0, 5)
			CheckTernaryFloat(f(5), 0, tern(func(w *Ternary) { w.Group, w.Scales = 128, f(10) }), f(130), 1, 0, 0, 5)
			CheckDense(f(3), 3, dense(ad), f(5), 1, 5, 1, 3)
			CheckDotInt16(make([]int32, 2), make([]int8, 64), make([]int16, 32), 1, 2)
			CheckEmbedRow(f(5), dense(ad), 2)
			CheckRope(f(8), 4, f(2), f(2))
			CheckGate(f(2), f(2), f(2), ReLU2)
			CheckAdd(nil, nil)
		},
		"Norm: len(x) is 0, want at least one element":          func() { CheckNorm(nil, nil, rms) },
		"Norm: len(y) is 2, want 3":                             func() { CheckNorm(f(2), f(3), rms) },
		"Norm: len(n.Weight) is 3, want 4":                      func() { CheckNorm(f(4), f(4), rms) },
		"Norm: norm kind is 0, want RMS or Layer":               func() { CheckNorm(f(3), f(3), &Norm{Weight: f(3)}) },
		"Norm: an RMS norm has a bias of 3 elements, want none": func() { CheckNorm(f(3), f(3), &Norm{Kind: RMS, Weight: f(3), Bias: f(3)}) },
		"Norm: len(n.Bias) is 2, want 3":                        func() { CheckNorm(f(3), f(3), &Norm{Kind: Layer, Weight: f(3), Bias: f(2)}) },
		"NormQuant: len(x) is 0, want at least one element":     func() { CheckNormQuant(nil, nil, nil) },
		"NormQuant: len(q) is 3, want 128":                      func() { CheckNormQuant(make([]int8, 3), f(3), nil) },
		"TernaryInt8: matrix is 0 x 130, want positive sizes":   func() { CheckTernaryInt8(f(5), 5, tern(func(w *Ternary) { w.Rows = 0 }), acts(1), 0, 5) },
		"TernaryInt8: len(w.Tiles) is 0, want 512":              func() { CheckTernaryInt8(f(5), 5, tern(func(w *Ternary) { w.Tiles = nil }), acts(1), 0, 5) },
		"TernaryInt8: len(w.Scales) is 2, want 1 or 5 without groups": func() {
			CheckTernaryInt8(f(5), 5, tern(func(w *Ternary) { w.Scales = f(2) }), acts(1), 0, 5)
		},
		"TernaryInt8: w.Group is 100, want a positive multiple of 128": func() {
			CheckTernaryInt8(f(5), 5, tern(func(w *Ternary) { w.Group = 100 }), acts(1), 0, 5)
		},
		"TernaryInt8: len(w.Scales) is 1, want 10":                                      func() { CheckTernaryInt8(f(5), 5, tern(func(w *Ternary) { w.Group = 128 }), acts(1), 0, 5) },
		"TernaryInt8: len(w.Bias) is 4, want 5":                                         func() { CheckTernaryInt8(f(5), 5, tern(func(w *Ternary) { w.Bias = f(4) }), acts(1), 0, 5) },
		"TernaryInt8: rows 0..6, want a range within 0..5":                              func() { CheckTernaryInt8(f(6), 6, tern(as), acts(1), 0, 6) },
		"TernaryInt8: first row is 2, want a multiple of 4":                             func() { CheckTernaryInt8(f(5), 5, tern(as), acts(1), 2, 5) },
		"TernaryInt8: activations are 1 x 0 with stride 0, want K = 130 and stride 256": func() { CheckTernaryInt8(f(5), 5, tern(as), &Acts{M: 1}, 0, 5) },
		"TernaryInt8: len(x.Codes) is 0, want 256":                                      func() { CheckTernaryInt8(f(5), 5, tern(as), &Acts{M: 1, K: 130, Stride: 256}, 0, 5) },
		"TernaryInt8: len(x.Max) is 0, want 1": func() {
			CheckTernaryInt8(f(5), 5, tern(as), &Acts{M: 1, K: 130, Stride: 256, Codes: make([]int8, 256)}, 0, 5)
		},
		"TernaryInt8: ldy is 4, want at least 5, the rows of a token":            func() { CheckTernaryInt8(f(10), 4, tern(as), acts(2), 0, 5) },
		"TernaryInt8: len(y) is 9, want at least 10 = (m-1)*ldy + hi":            func() { CheckTernaryInt8(f(9), 5, tern(as), acts(2), 0, 5) },
		"TernaryFloat: m is -1, want 0 or more tokens":                           func() { CheckTernaryFloat(f(5), 5, tern(as), nil, -1, 130, 0, 5) },
		"TernaryFloat: ldx is 129, want at least 130, the columns of the matrix": func() { CheckTernaryFloat(f(10), 5, tern(as), f(260), 2, 129, 0, 5) },
		"TernaryFloat: len(x) is 259, want at least 260 = (m-1)*ldx + cols":      func() { CheckTernaryFloat(f(10), 5, tern(as), f(259), 2, 130, 0, 5) },
		"Dense: matrix is 3 x 0, want positive sizes":                            func() { CheckDense(f(3), 3, dense(func(w *Dense) { w.Cols = 0 }), f(5), 1, 5, 0, 3) },
		"Dense: element type is 0, want F32, F16, BF16 or I8":                    func() { CheckDense(f(3), 3, dense(func(w *Dense) { w.Type = 0 }), f(5), 1, 5, 0, 3) },
		"Dense: len(w.Data) is 15, want 60":                                      func() { CheckDense(f(3), 3, dense(func(w *Dense) { w.Type = F32 }), f(5), 1, 5, 0, 3) },
		"Dense: len(w.Scales) is 0, want 3":                                      func() { CheckDense(f(3), 3, dense(func(w *Dense) { w.Scales = nil }), f(5), 1, 5, 0, 3) },
		"Dense: rows 2..1, want a range within 0..3":                             func() { CheckDense(f(3), 3, dense(ad), f(5), 1, 5, 2, 1) },
		"DotInt16: len(x) is 33, want a positive multiple of 32":                 func() { CheckDotInt16(nil, nil, make([]int16, 33), 0, 0) },
		"DotInt16: len(rows) is 33, want a multiple of len(x) 32":                func() { CheckDotInt16(nil, make([]int8, 33), make([]int16, 32), 0, 0) },
		"DotInt16: rows 0..2, want a range within 0..1":                          func() { CheckDotInt16(nil, make([]int8, 32), make([]int16, 32), 0, 2) },
		"DotInt16: len(y) is 0, want at least 1":                                 func() { CheckDotInt16(nil, make([]int8, 32), make([]int16, 32), 0, 1) },
		"EmbedRow: row is 3, want 0..2":                                          func() { CheckEmbedRow(f(5), dense(ad), 3) },
		"EmbedRow: len(dst) is 4, want 5":                                        func() { CheckEmbedRow(f(4), dense(ad), 0) },
		"Rope: headDim is 3, want a positive even number":                        func() { CheckRope(f(3), 3, f(1), f(1)) },
		"Rope: len(x) is 6, want a multiple of headDim 4":                        func() { CheckRope(f(6), 4, f(2), f(2)) },
		"Rope: len(cos) is 1, want 2":                                            func() { CheckRope(f(4), 4, f(1), f(2)) },
		"Rope: len(sin) is 3, want 2":                                            func() { CheckRope(f(4), 4, f(2), f(3)) },
		"Gate: len(g) is 1, want 2":                                              func() { CheckGate(f(2), f(1), f(2), SiLU) },
		"Gate: len(u) is 3, want 2":                                              func() { CheckGate(f(2), f(2), f(3), SiLU) },
		"Gate: activation is 0, want SiLU or ReLU2":                              func() { CheckGate(f(2), f(2), f(2), 0) },
		"Add: len(y) is 1, want 2":                                               func() { CheckAdd(f(2), f(1)) },
	} {
		if want == "" {
			require.NotPanics(t, call)
			continue
		}
		require.PanicsWithValue(t, "kernels: "+want, call)
	}
}

// A check that holds must cost nothing in the middle of a decoding step.
func TestChecksDoNotAllocate(t *testing.T) {
	x := make([]float32, 3000)
	w := &Ternary{Rows: 1000, Cols: 3000, Tiles: make([]byte, TernaryBytes(1000, 3000)), Scales: x[:1]}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		CheckTernaryFloat(x[:1000], 1000, w, x, 1, 3000, 0, 1000)
		CheckAdd(x, x)
	}))
}
