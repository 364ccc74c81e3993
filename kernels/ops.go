// Package kernels names the arithmetic that every engine provides: the types of packed weights, activations
// and KV pages, and Ops, the small set of operations that a transformer needs.
//
// It holds shapes and bytes and does no arithmetic. The meaning of every operation, down to the bit, is
// spec/numerics.md; kernels/ref is that document in obvious Go, and kernels/optest holds every other
// implementation to it with ==.
//
// Letters: N output rows, K input columns, M tokens. All floats are f32 and all matrices are row-major,
// except where a layout is spelled out.
package kernels

// The fixed sizes that files, engines and the order of sums agree on (spec/numerics.md sections 3, 8 and 12).
const (
	TileRows  = 4    // rows of a ternary tile
	TileCols  = 128  // columns of a ternary tile
	TileBytes = 128  // bytes of a tile of 2-bit codes
	PageLen   = 64   // positions of a KV page, which is also the attention chunk
	Lanes     = 32   // partial sums of a vector sum
	BlockLen  = 1024 // elements of a block of a vector sum
)

// Ops is one implementation of the operations of spec/numerics.md. All of them give the same bits for the same
// arguments; only the bits of a NaN are free.
//
// Methods are safe for concurrent use as long as no two calls write the same elements: an engine splits work by
// output rows (lo, hi), by head or by token and by nothing else. Inputs are only read, and outputs do not
// overlap inputs unless a method says so. Arguments of the wrong size are programmer errors and panic with a
// message that names them; the Check functions of this package are those tests.
type Ops interface {
	// Name is the implementation's short name, such as "ref" or "avx2".
	Name() string

	// Norm writes the normalized vector to y (section 6); y may be x. The error is a *NonFiniteError, after
	// which y is undefined.
	Norm(y, x []float32, n *Norm) error

	// NormQuant normalizes x (n nil: takes x itself), quantizes it to int8 and returns the token's absolute
	// maximum a, with which the codes stand for q*a/127 (section 7). q has PadCols(len(x)) elements; those
	// past len(x) are set to zero. The error is a *NonFiniteError, after which q is undefined.
	NormQuant(q []int8, x []float32, n *Norm) (a float32, err error)

	// TernaryInt8 multiplies rows lo..hi-1 of w by the M tokens of x: y[m*ldy+row] (section 8). lo is a
	// multiple of TileRows; elements of y outside the rows are left alone.
	TernaryInt8(y []float32, ldy int, w *Ternary, x *Acts, lo, hi int)

	// TernaryFloat is TernaryInt8 for activations that stay f32: token m is x[m*ldx : m*ldx+w.Cols]
	// (section 9).
	TernaryFloat(y []float32, ldy int, w *Ternary, x []float32, m, ldx, lo, hi int)

	// Dense multiplies rows lo..hi-1 of a dense matrix by m tokens, laid out as in TernaryFloat (section 10).
	Dense(y []float32, ldy int, w *Dense, x []float32, m, ldx, lo, hi int)

	// DotInt16 writes the exact dots of rows lo..hi-1 of int8 with x: y[row]. Rows are len(x) codes, which is a
	// multiple of Lanes. The sum of |code * x| over a row must fit an int32; the caller sees to that.
	DotInt16(y []int32, rows []int8, x []int16, lo, hi int)

	// EmbedRow writes one row of w, exact for the float types, code*scale for I8 (section 10). dst has w.Cols
	// elements.
	EmbedRow(dst []float32, w *Dense, row int)

	// Rope rotates heads of headDim elements in place; x holds any whole number of them. cos and sin have
	// headDim/2 elements and belong to one position (section 11).
	Rope(x []float32, headDim int, cos, sin []float32)

	// StoreKV stores one position's keys and values, [kvHeads][headDim] each, keys already rotated, in the format of
	// the page (section 12). slot is the position within the page. Calls for different slots of a page may run at
	// the same time. The error is a *KVRangeError, after which the slot's content is undefined.
	StoreKV(page *Page, slot int, k, v []float32) error

	// Attention merges chunks lo..hi-1, ascending, into one part for every query of a (section 12). parts is
	// [a.Rows][a.Heads][AttentionPart(headDim)]. A query that attends to none of the chunks gets an empty part.
	Attention(parts []float32, a *Queries, lo, hi int)

	// MergeAttention finishes one query: it merges n parts, ascending, of which all but the first hold one chunk or
	// none, and writes the attention to out, headDim elements (section 12). Part i begins at parts[i*stride]. At
	// least one part is not empty.
	MergeAttention(out, parts []float32, stride, n int)

	// Gate writes act(g)*u element by element (section 13); h may be g or u.
	Gate(h, g, u []float32, act Activation)

	// Add adds y to x in place.
	Add(x, y []float32)
}

// Activation is the function on the gate of a feed-forward block. The zero value is none of them.
type Activation uint8

// The activation functions of section 13.
const (
	SiLU  Activation = iota + 1 // g / (1 + exp(-g))
	ReLU2                       // max(g, 0) squared
)

// String is the function's name in a model configuration.
func (a Activation) String() string {
	switch a {
	case SiLU:
		return "silu"
	case ReLU2:
		return "relu2"
	}
	return "activation(unknown)"
}

// NormKind is the kind of a normalization. The zero value is none of them.
type NormKind uint8

// The normalizations of section 6.
const (
	RMS   NormKind = iota + 1 // root mean square
	Layer                     // mean and variance
)

// String is the kind's name in a model configuration.
func (k NormKind) String() string {
	switch k {
	case RMS:
		return "rms"
	case Layer:
		return "layer"
	}
	return "norm(unknown)"
}

// Norm is a normalization of vectors of len(Weight) elements. Bias is for Layer and may be nil; RMS has none.
type Norm struct {
	Kind   NormKind
	Weight []float32
	Bias   []float32
	Eps    float32 // added to the mean square; finite, not negative
}
