package kernels

// Acts holds the int8 activations of M tokens of K elements. The caller owns it and reuses it from step to step.
type Acts struct {
	M, K   int
	Stride int       // K rounded up to TileCols
	Codes  []int8    // M*Stride; the elements of a token past K are zero
	Max    []float32 // a of each token: its codes stand for q*a/127
}

// Resize sets the shape, keeping the buffers where they are large enough. The content is undefined until
// NormQuant has written every token.
func (x *Acts) Resize(m, k int) {
	x.M, x.K, x.Stride = m, k, PadCols(k)
	if n := m * x.Stride; cap(x.Codes) < n {
		x.Codes = make([]int8, n)
	} else {
		x.Codes = x.Codes[:n]
	}
	if cap(x.Max) < m {
		x.Max = make([]float32, m)
	} else {
		x.Max = x.Max[:m]
	}
}

// Token is the padded codes of token m, a view of Stride elements.
func (x *Acts) Token(m int) []int8 { return x.Codes[m*x.Stride : (m+1)*x.Stride] }

// RopeType says how rotary frequencies are scaled. The zero value is none of them.
type RopeType uint8

// The frequency scalings of section 11.
const (
	RopeDefault RopeType = iota + 1 // none
	RopeLinear                      // divided by Factor
	RopeLlama3                      // low frequencies divided, high ones kept, those between blended
)

// String is the type's name in a model configuration.
func (t RopeType) String() string {
	switch t {
	case RopeDefault:
		return "default"
	case RopeLinear:
		return "linear"
	case RopeLlama3:
		return "llama3"
	}
	return "rope(unknown)"
}

// RopeSpec is a model's rotary embedding. Factor is for Linear and Llama3, the fields after it for Llama3 only.
type RopeSpec struct {
	Type              RopeType
	Theta             float64 // base of the frequencies, > 0
	Factor            float64 // > 0
	LowFreq, HighFreq float64 // wavelengths a context of OriginalMax bounds: 0 < LowFreq < HighFreq
	OriginalMax       int     // the context length that the model was trained with first
}
