package kernels

import (
	"fmt"
	"math"
)

// NonFiniteError reports a NaN or an infinity where the arithmetic is defined for finite numbers only.
type NonFiniteError struct {
	Op    string  // the operation, such as "NormQuant"
	What  string  // what was not finite, such as "x" or "r"
	Index int     // its index, -1 for a scalar
	Value float32 // the value seen
}

func (e *NonFiniteError) Error() string {
	what := e.What
	if e.Index >= 0 {
		what = fmt.Sprintf("%s[%d]", e.What, e.Index)
	}
	return fmt.Sprintf("%s: %s is %v, want a finite value: the weights or scales before it overflow f32; check the model file with tritter-verify", e.Op, what, e.Value)
}

// Finite reports whether x is neither NaN nor infinite.
func Finite(x float32) bool { return math.Float32bits(x)&0x7f800000 != 0x7f800000 }

// fail is called only where a check failed, so that a check that holds allocates nothing.
func fail(op, format string, args ...any) {
	panic("kernels: " + op + ": " + fmt.Sprintf(format, args...))
}

func checkLen(op, what string, got, need int) {
	if got != need {
		fail(op, "len(%s) is %d, want %d", what, got, need)
	}
}

func checkRows(op string, rows, lo, hi int) {
	if !(0 <= lo && lo <= hi && hi <= rows) {
		fail(op, "rows %d..%d, want a range within 0..%d", lo, hi, rows)
	}
}

// checkOut tests that y holds m tokens of rows lo..hi-1 with ldy elements from token to token.
func checkOut(op string, y []float32, ldy, m, lo, hi int) {
	if m > 0 && hi > lo {
		if !(m == 1 || ldy >= hi) {
			fail(op, "ldy is %d, want at least %d, the rows of a token", ldy, hi)
		}
		need := (m-1)*ldy + hi
		if len(y) < need {
			fail(op, "len(y) is %d, want at least %d = (m-1)*ldy + hi", len(y), need)
		}
	}
}

func checkIn(op string, x []float32, m, ldx, cols int) {
	if m < 0 {
		fail(op, "m is %d, want 0 or more tokens", m)
	}
	if m > 0 {
		if !(m == 1 || ldx >= cols) {
			fail(op, "ldx is %d, want at least %d, the columns of the matrix", ldx, cols)
		}
		need := (m-1)*ldx + cols
		if len(x) < need {
			fail(op, "len(x) is %d, want at least %d = (m-1)*ldx + cols", len(x), need)
		}
	}
}

func checkTernary(op string, w *Ternary, lo, hi int) {
	if !(w.Rows > 0 && w.Cols > 0) {
		fail(op, "matrix is %d x %d, want positive sizes", w.Rows, w.Cols)
	}
	checkLen(op, "w.Tiles", len(w.Tiles), TernaryBytes(w.Rows, w.Cols))
	if w.Group == 0 {
		if !(len(w.Scales) == 1 || len(w.Scales) == w.Rows) {
			fail(op, "len(w.Scales) is %d, want 1 or %d without groups", len(w.Scales), w.Rows)
		}
	} else {
		if !(w.Group > 0 && w.Group%TileCols == 0) {
			fail(op, "w.Group is %d, want a positive multiple of %d", w.Group, TileCols)
		}
		checkLen(op, "w.Scales", len(w.Scales), w.Rows*w.Groups())
	}
	if w.Bias != nil {
		checkLen(op, "w.Bias", len(w.Bias), w.Rows)
	}
	checkRows(op, w.Rows, lo, hi)
	if lo%TileRows != 0 {
		fail(op, "first row is %d, want a multiple of %d", lo, TileRows)
	}
}

func checkDense(op string, w *Dense) {
	if !(w.Rows > 0 && w.Cols > 0) {
		fail(op, "matrix is %d x %d, want positive sizes", w.Rows, w.Cols)
	}
	size := w.Type.Size()
	if size <= 0 {
		fail(op, "element type is %d, want F32, F16, BF16 or I8", w.Type)
	}
	checkLen(op, "w.Data", len(w.Data), w.Rows*w.Cols*size)
	if w.Type == I8 {
		checkLen(op, "w.Scales", len(w.Scales), w.Rows)
	}
}

func checkNorm(op string, n *Norm, size int) {
	if !(n.Kind == RMS || n.Kind == Layer) {
		fail(op, "norm kind is %d, want RMS or Layer", n.Kind)
	}
	checkLen(op, "n.Weight", len(n.Weight), size)
	if n.Kind == RMS {
		if n.Bias != nil {
			fail(op, "an RMS norm has a bias of %d elements, want none", len(n.Bias))
		}
	}
	if n.Bias != nil {
		checkLen(op, "n.Bias", len(n.Bias), size)
	}
}

// CheckNorm panics unless the arguments of Ops.Norm fit each other.
func CheckNorm(y, x []float32, n *Norm) {
	const op = "Norm"
	if len(x) <= 0 {
		fail(op, "len(x) is 0, want at least one element")
	}
	checkLen(op, "y", len(y), len(x))
	checkNorm(op, n, len(x))
}

// CheckNormQuant panics unless the arguments of Ops.NormQuant fit each other.
func CheckNormQuant(q []int8, x []float32, n *Norm) {
	const op = "NormQuant"
	if len(x) <= 0 {
		fail(op, "len(x) is 0, want at least one element")
	}
	checkLen(op, "q", len(q), PadCols(len(x)))
	if n != nil {
		checkNorm(op, n, len(x))
	}
}

// CheckTernaryInt8 panics unless the arguments of Ops.TernaryInt8 fit each other.
func CheckTernaryInt8(y []float32, ldy int, w *Ternary, x *Acts, lo, hi int) {
	const op = "TernaryInt8"
	checkTernary(op, w, lo, hi)
	if !(x.M >= 0 && x.K == w.Cols && x.Stride == PadCols(x.K)) {
		fail(op, "activations are %d x %d with stride %d, want K = %d and stride %d", x.M, x.K, x.Stride, w.Cols, PadCols(w.Cols))
	}
	checkLen(op, "x.Codes", len(x.Codes), x.M*x.Stride)
	checkLen(op, "x.Max", len(x.Max), x.M)
	checkOut(op, y, ldy, x.M, lo, hi)
}

// CheckTernaryFloat panics unless the arguments of Ops.TernaryFloat fit each other.
func CheckTernaryFloat(y []float32, ldy int, w *Ternary, x []float32, m, ldx, lo, hi int) {
	const op = "TernaryFloat"
	checkTernary(op, w, lo, hi)
	checkIn(op, x, m, ldx, w.Cols)
	checkOut(op, y, ldy, m, lo, hi)
}

// CheckDense panics unless the arguments of Ops.Dense fit each other.
func CheckDense(y []float32, ldy int, w *Dense, x []float32, m, ldx, lo, hi int) {
	const op = "Dense"
	checkDense(op, w)
	checkRows(op, w.Rows, lo, hi)
	checkIn(op, x, m, ldx, w.Cols)
	checkOut(op, y, ldy, m, lo, hi)
}

// CheckDotInt16 panics unless the arguments of Ops.DotInt16 fit each other.
func CheckDotInt16(y []int32, rows []int8, x []int16, lo, hi int) {
	const op = "DotInt16"
	if len(x) == 0 || len(x)%Lanes != 0 {
		fail(op, "len(x) is %d, want a positive multiple of %d", len(x), Lanes)
	}
	if len(rows)%len(x) != 0 {
		fail(op, "len(rows) is %d, want a multiple of len(x) %d", len(rows), len(x))
	}
	checkRows(op, len(rows)/len(x), lo, hi)
	if len(y) < hi {
		fail(op, "len(y) is %d, want at least %d", len(y), hi)
	}
}

// CheckEmbedRow panics unless the arguments of Ops.EmbedRow fit each other.
func CheckEmbedRow(dst []float32, w *Dense, row int) {
	const op = "EmbedRow"
	checkDense(op, w)
	if !(0 <= row && row < w.Rows) {
		fail(op, "row is %d, want 0..%d", row, w.Rows-1)
	}
	checkLen(op, "dst", len(dst), w.Cols)
}

// CheckRope panics unless the arguments of Ops.Rope fit each other.
func CheckRope(x []float32, headDim int, cos, sin []float32) {
	const op = "Rope"
	if !(headDim > 0 && headDim%2 == 0) {
		fail(op, "headDim is %d, want a positive even number", headDim)
	}
	if len(x)%headDim != 0 {
		fail(op, "len(x) is %d, want a multiple of headDim %d", len(x), headDim)
	}
	checkLen(op, "cos", len(cos), headDim/2)
	checkLen(op, "sin", len(sin), headDim/2)
}

// CheckGate panics unless the arguments of Ops.Gate fit each other.
func CheckGate(h, g, u []float32, act Activation) {
	const op = "Gate"
	checkLen(op, "g", len(g), len(h))
	checkLen(op, "u", len(u), len(h))
	if !(act == SiLU || act == ReLU2) {
		fail(op, "activation is %d, want SiLU or ReLU2", act)
	}
}

// CheckAdd panics unless the arguments of Ops.Add fit each other.
func CheckAdd(x, y []float32) { checkLen("Add", "y", len(y), len(x)) }
