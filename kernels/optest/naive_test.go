package optest

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
)

// naive is a second formulation of spec/numerics.md, written to share nothing with kernels/ref: the fused
// multiply-add is math/big's, a lane is a strided walk, a fold and the blocks are recursions, integer dots are
// big integers of single trits, attention works on the whole matrix of scores, and other operations go through f64,
// which has more than twice the digits of f32 and so rounds the same.
type naive struct{}

func (naive) Name() string { return "naive" }

const precision = 700 // bits, more than any product and sum of three f32 can span

func exact(x float32) *big.Float { return new(big.Float).SetPrec(precision).SetFloat64(float64(x)) }

func fused(a, b, c float32) float32 {
	for _, v := range []float32{a, b, c} {
		if !kernels.Finite(v) {
			return float32(float64(a)*float64(b) + float64(c))
		}
	}
	if a != 0 && b != 0 && (a == 1 || a == -1 || b == 1 || b == -1) {
		return rounded(float64(a)*float64(b), '+', float64(c)) // the common case of a trit, without big numbers
	}
	p := exact(a)
	p.Mul(p, exact(b))
	r, _ := p.Add(p, exact(c)).Float32()
	return r
}

// rounded is one f32 operation by way of f64.
func rounded(a float64, op rune, b float64) float32 {
	switch op {
	case '+':
		return float32(a + b)
	case '-':
		return float32(a - b)
	case '*':
		return float32(a * b)
	case '/':
		return float32(a / b)
	}
	panic("optest: unknown operation")
}

func op(a float32, o rune, b float32) float32 { return rounded(float64(a), o, float64(b)) }

// total is section 3: everything before the last block, and then the last block.
func total(n int, step func(acc float32, i int) float32) float32 {
	if n == 0 {
		return 0
	}
	last := (n - 1) / 1024 * 1024
	var lane [32]float32
	for j := range lane {
		for i := last + j; i < n; i += 32 {
			lane[j] = step(lane[j], i)
		}
	}
	block := tree(lane[:])
	if last == 0 {
		return block
	}
	return op(total(last, step), '+', block)
}

// tree is the fold: lane j meets the lanes whose number differs in the lowest bit last.
func tree(l []float32) float32 {
	if len(l) == 1 {
		return l[0]
	}
	var even, odd []float32
	for i, v := range l {
		if i%2 == 0 {
			even = append(even, v)
		} else {
			odd = append(odd, v)
		}
	}
	return op(tree(even), '+', tree(odd))
}

func plain(x []float32) float32 {
	return total(len(x), func(acc float32, i int) float32 { return op(acc, '+', x[i]) })
}

func dotProduct(w, x []float32) float32 {
	return total(len(x), func(acc float32, i int) float32 { return fused(w[i], x[i], acc) })
}

func trit(w *kernels.Ternary, row, col int) int {
	tile := w.Tiles[(row/4*((w.Cols+127)/128)+col/128)*128:]
	code := tile[row%4*32+col%32] >> (col % 128 / 32 * 2) & 3
	return bits.Len8(code&1) - 2*int(code>>1) // 00 is 0, 01 is 1, 11 is 1 - 2
}

func root(x float32) float32 {
	if !(x > 0) || !kernels.Finite(x) {
		return float32(math.Sqrt(float64(x)))
	}
	r, _ := new(big.Float).Sqrt(exact(x)).Float32()
	return r
}

func (naive) Norm(y, x []float32, n *kernels.Norm) error {
	kernels.CheckNorm(y, x, n)
	d := slices.Clone(x)
	if n.Kind == kernels.Layer {
		mean := op(plain(x), '/', float32(len(x)))
		for i := range d {
			d[i] = op(d[i], '-', mean)
		}
	}
	squares := dotProduct(d, d)
	r := op(1, '/', root(op(op(squares, '/', float32(len(x))), '+', n.Eps)))
	if !kernels.Finite(squares) || !kernels.Finite(r) {
		return &kernels.NonFiniteError{}
	}
	for i, v := range d {
		if n.Kind == kernels.RMS {
			y[i] = op(op(v, '*', n.Weight[i]), '*', r)
		} else {
			y[i] = op(op(v, '*', r), '*', n.Weight[i])
		}
		if n.Bias != nil {
			y[i] = op(y[i], '+', n.Bias[i])
		}
		if !kernels.Finite(y[i]) {
			return &kernels.NonFiniteError{}
		}
	}
	return nil
}

// NormQuant finds the maximum among bit patterns and each code by comparing both neighbours.
func (n naive) NormQuant(q []int8, x []float32, norm *kernels.Norm) (float32, error) {
	kernels.CheckNormQuant(q, x, norm)
	y := slices.Clone(x)
	if norm != nil {
		if err := n.Norm(y, x, norm); err != nil {
			return 0, err
		}
	}
	top := math.Float32bits(1e-5)
	for _, v := range y {
		top = max(top, math.Float32bits(v)&^(1<<31))
	}
	if top >= 0x7f800000 {
		return 0, &kernels.NonFiniteError{}
	}
	a := math.Float32frombits(top)
	k := op(op(1, '/', a), '*', 127)
	for i := range q {
		q[i] = 0
		if i < len(y) {
			v := float64(op(y[i], '*', k))
			low := math.Floor(v)
			switch {
			case v-low > 0.5 || v-low == 0.5 && int(low)%2 != 0:
				q[i] = int8(low) + 1
			default:
				q[i] = int8(low)
			}
		}
	}
	return a, nil
}

func biased(w *kernels.Ternary, row int, y float32) float32 {
	if w.Bias != nil {
		return op(y, '+', w.Bias[row])
	}
	return y
}

// groupsOf are the columns of each scale group and its scale.
func groupsOf(w *kernels.Ternary, row int, visit func(lo, hi int, scale float32)) {
	for lo := 0; lo < w.Cols; lo += w.Group {
		visit(lo, min(w.Cols, lo+w.Group), w.Scales[row*((w.Cols+w.Group-1)/w.Group)+lo/w.Group])
	}
}

func (naive) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	for m := range x.M {
		a := x.Max[m]
		for row := lo; row < hi; row++ {
			integer := func(from, to int) float32 {
				var pos, neg uint64 // the codes under +1 and under -1, apart
				for k := from; k < to; k++ {
					v := int64(trit(w, row, k)) * int64(x.Codes[m*x.Stride+k])
					if v > 0 {
						pos += uint64(v)
					} else {
						neg += uint64(-v)
					}
				}
				d := new(big.Int).Sub(new(big.Int).SetUint64(pos), new(big.Int).SetUint64(neg))
				f, _ := new(big.Float).SetInt(d).Float32()
				return f
			}
			var v float32
			if w.Group == 0 {
				s := w.Scales[row%len(w.Scales)]
				v = op(integer(0, w.Cols), '*', op(op(s, '*', a), '/', 127))
			} else {
				groupsOf(w, row, func(from, to int, s float32) { v = fused(s, integer(from, to), v) })
				v = op(v, '*', op(a, '/', 127))
			}
			y[m*ldy+row] = biased(w, row, v)
		}
	}
}

func (naive) TernaryFloat(y []float32, ldy int, w *kernels.Ternary, x []float32, m, ldx, lo, hi int) {
	kernels.CheckTernaryFloat(y, ldy, w, x, m, ldx, lo, hi)
	for token := range m {
		for row := lo; row < hi; row++ {
			sum := func(from, to int) float32 {
				return total(to-from, func(acc float32, i int) float32 {
					return fused(x[token*ldx+from+i], float32(trit(w, row, from+i)), acc)
				})
			}
			var v float32
			if w.Group == 0 {
				v = op(w.Scales[row%len(w.Scales)], '*', sum(0, w.Cols))
			} else {
				groupsOf(w, row, func(from, to int, s float32) { v = fused(s, sum(from, to), v) })
			}
			y[token*ldy+row] = biased(w, row, v)
		}
	}
}

// element widens one element by the definition of its type.
func element(w *kernels.Dense, row, col int) float32 {
	i := (row*w.Cols + col) * w.Type.Size()
	b := append(slices.Clone(w.Data[i:i+w.Type.Size()]), 0, 0, 0, 0)
	u := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
	switch w.Type {
	case kernels.F32:
		return math.Float32frombits(u)
	case kernels.BF16:
		return math.Float32frombits(u << 16)
	case kernels.I8:
		return float32(int8(b[0]))
	}
	e, f := int(u>>10&31), float64(u&1023)
	v := math.Ldexp(1024+f, e-25)
	if e == 0 {
		v = math.Ldexp(f, -24)
	}
	return float32(math.Copysign(v, float64(1-2*int(u>>15&1))))
}

func (n naive) Dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	kernels.CheckDense(y, ldy, w, x, m, ldx, lo, hi)
	for token := range m {
		for row := lo; row < hi; row++ {
			v := total(w.Cols, func(acc float32, i int) float32 { return fused(x[token*ldx+i], element(w, row, i), acc) })
			if w.Type == kernels.I8 {
				v = op(w.Scales[row], '*', v)
			}
			y[token*ldy+row] = v
		}
	}
}

func (naive) EmbedRow(dst []float32, w *kernels.Dense, row int) {
	kernels.CheckEmbedRow(dst, w, row)
	for i := range dst {
		dst[i] = element(w, row, i)
		if w.Type == kernels.I8 {
			dst[i] = op(dst[i], '*', w.Scales[row])
		}
	}
}

func (naive) DotInt16(y []int32, rows []int8, x []int16, lo, hi int) {
	kernels.CheckDotInt16(y, rows, x, lo, hi)
	for row := lo; row < hi; row++ {
		y[row] = 0
		for i := range x {
			y[row] += int32(rows[row*len(x)+i]) * int32(x[i])
		}
	}
}

func (naive) Rope(x []float32, headDim int, cos, sin []float32) {
	kernels.CheckRope(x, headDim, cos, sin)
	y := slices.Clone(x)
	for i := range x {
		at, half := i%headDim, headDim/2
		if at < half {
			x[i] = op(op(y[i], '*', cos[at]), '-', op(y[i+half], '*', sin[at]))
		} else {
			x[i] = op(op(y[i], '*', cos[at-half]), '+', op(y[i-half], '*', sin[at-half]))
		}
	}
}

func power(x float32) float32 {
	if x != x || x < -0x1.5d589ep+6 || x > 0x1.62e42ep+6 {
		switch {
		case x < 0:
			return 0
		case x > 0:
			return float32(math.Inf(1))
		}
		return x
	}
	n := op(op(op(x, '*', 0x1.715476p+0), '+', 0x1.8p23), '-', 0x1.8p23) // adding 1.5 * 2^23 rounds to an integer
	r := fused(n, 0x1.05c61p-29, fused(n, -0x1.62e43p-1, x))
	p := float32(0x1.6a4f26p-10)
	for _, c := range []float32{0x1.12398p-7, 0x1.5558aep-5, 0x1.555492p-3, 0x1.fffffcp-2, 1, 1} {
		p = fused(r, p, c)
	}
	return float32(math.Ldexp(float64(p), int(n)))
}

func (naive) Attention(out, q []float32, pages []*kernels.Page, kvHead, kvHeads, headDim, n int, scratch []float32) {
	kernels.CheckAttention(out, q, pages, kvHead, kvHeads, headDim, n, scratch)
	key := func(p, d int) float32 { return pages[p/64].K[(kvHead*headDim+d)*64+p%64] }
	value := func(p, d int) float32 { return pages[p/64].V[(kvHead*64+p%64)*headDim+d] }
	inv := float32(1 / math.Sqrt(float64(headDim)))
	scores := make([]float32, n)
	for p := range scores {
		for d := range q {
			scores[p] = fused(key(p, d), q[d], scores[p])
		}
		scores[p] = op(scores[p], '*', inv)
	}
	type part struct {
		m, l float32
		o    []float32
	}
	chunk := func(lo, hi int) part {
		s := part{m: scores[lo], o: make([]float32, headDim)}
		for _, v := range scores[lo:hi] {
			if v > s.m {
				s.m = v
			}
		}
		weight := make([]float32, hi-lo)
		for i := range weight {
			weight[i] = power(op(scores[lo+i], '-', s.m))
		}
		s.l = plain(weight)
		for d := range s.o {
			for i, w := range weight {
				s.o[d] = fused(value(lo+i, d), w, s.o[d])
			}
		}
		return s
	}
	var merged func(n int) part
	merged = func(n int) part {
		last := (n - 1) / 64 * 64
		b := chunk(last, n)
		if last == 0 {
			return b
		}
		a := merged(last)
		m := a.m
		if b.m > m {
			m = b.m
		}
		fa, fb := power(op(a.m, '-', m)), power(op(b.m, '-', m))
		for d := range a.o {
			a.o[d] = fused(fb, b.o[d], op(a.o[d], '*', fa))
		}
		return part{m, fused(fb, b.l, op(fa, '*', a.l)), a.o}
	}
	all := merged(n)
	for d := range out {
		out[d] = op(all.o[d], '*', op(1, '/', all.l))
	}
}

func (naive) Gate(h, g, u []float32, act kernels.Activation) {
	kernels.CheckGate(h, g, u, act)
	for i, v := range g {
		a := op(v, '/', op(1, '+', power(-v)))
		if act == kernels.ReLU2 {
			v = float32(math.Max(float64(v), 0)) // math.Max keeps a NaN
			a = op(v, '*', v)
		}
		h[i] = op(a, '*', u[i])
	}
}

func (naive) Add(x, y []float32) {
	kernels.CheckAdd(x, y)
	for i := range x {
		x[i] = op(y[i], '+', x[i])
	}
}

// The judge is judged: kernels/ref and naive have to agree on everything.
func TestReference(t *testing.T) { Run(t, naive{}) }

func FuzzReference(f *testing.F) { Fuzz(f, naive{}) }
