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
	// The f64 nearest to the exact result rounds to the f32 nearest to it, unless it lies half-way between two.
	if s := math.FMA(float64(a), float64(b), float64(c)); math.Abs(s) > 0x1p-120 && math.Abs(s) < 0x1p120 && math.Float64bits(s)<<35 != 1<<63 {
		return float32(s)
	}
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

// half rounds through the neighbours that the spacing of binary16 leaves.
func half(x float32) uint16 {
	v := math.Abs(float64(x))
	exp := max(math.Ilogb(v), -14)
	unit := math.Ldexp(1, exp-10)
	n := math.RoundToEven(v / unit)
	bits := uint16(0x7c00)
	if v < 65520 {
		bits = uint16(int(n) + (exp+14)*1024) // a carry lands in the exponent
	}
	if math.Signbit(float64(x)) {
		bits |= 0x8000
	}
	return bits
}

func (naive) StoreKV(p *kernels.Page, slot int, k, v []float32) error {
	kernels.CheckStoreKV(p, slot, k, v)
	d := p.HeadDim
	bad := func(what string, i int, x float32) error {
		return &kernels.KVRangeError{Format: p.Format, What: what, Index: i, Value: x}
	}
	for _, s := range []struct {
		what string
		x    []float32
	}{{"key", k}, {"value", v}} {
		for i, x := range s.x {
			if p.Format != kernels.KVF32 && !kernels.Finite(x) || p.Format == kernels.KVF16 && half(x)&0x7fff == 0x7c00 {
				return bad(s.what, i, x)
			}
		}
	}
	keyAt := func(h, i int) int { return (h*d+i)*64 + slot }
	valueAt := func(h, i int) int { return (h*64+slot)*d + i }
	byte8 := func(x, s float32) byte {
		if s == 0 {
			return 0
		}
		return byte(int8(math.Max(-127, math.Min(127, math.RoundToEven(float64(op(x, '/', s)))))))
	}
	scale := func(x []float32) float32 {
		var top uint32
		for _, v := range x {
			top = max(top, math.Float32bits(v)<<1)
		}
		return op(math.Float32frombits(top>>1), '/', 127)
	}
	for h := range p.KVHeads {
		for i := range d {
			x, y := k[h*d+i], v[h*d+i]
			switch p.Format {
			case kernels.KVF32:
				p.K[keyAt(h, i)], p.V[valueAt(h, i)] = x, y
			case kernels.KVF16:
				p.KHalf[keyAt(h, i)], p.VHalf[valueAt(h, i)] = half(x), half(y)
			case kernels.KVInt8:
				ks, vs := scale(k[h*d:][:d]), scale(v[h*d:][:d])
				p.KScale[h*64+slot], p.VScale[h*64+slot] = ks, vs
				p.KCodes[keyAt(h, i)], p.VCodes[valueAt(h, i)] = byte8(x, ks), byte8(y, vs)
			}
		}
	}
	if p.Format != kernels.KVInt4 {
		return nil
	}
	pairs := (d + 1) / 2
	put := func(at func(i int) *byte, i int, code byte) {
		b := at(i / 2)
		if i%2 == 0 {
			*b = code * 16
		} else {
			*b += code
		}
	}
	quantizer := func(x []float32) (s16, o16 uint16, code func(float32) byte) {
		lo, hi := slices.Min(x), slices.Max(x)
		s := op(op(hi, '-', lo), '/', 15)
		if s < 1e-8 {
			s = 1e-8
		}
		o := op(-8, '-', op(lo, '/', s))
		s16, o16 = half(s), half(o)
		code = func(v float32) byte {
			return byte(8 + math.Max(-8, math.Min(7, math.RoundToEven(float64(op(op(v, '/', s), '+', o))))))
		}
		if s16 == 0 || o16&0x7fff >= 0x7c00 {
			s16, o16 = 0, half(op(op(hi, '*', 0.5), '+', op(lo, '*', 0.5)))
			code = func(float32) byte { return 0 }
		}
		return s16, o16, code
	}
	top := func(x []float32) int {
		at := 0
		for i, v := range x {
			if math.Abs(float64(v)) > math.Abs(float64(x[at])) {
				at = i
			}
		}
		return at
	}
	for h := range p.KVHeads {
		s, o, code := quantizer(k[h*d:][:d])
		if s == 0x7c00 || o&0x7fff == 0x7c00 {
			at := h*d + top(k[h*d:][:d])
			return bad("key", at, k[at])
		}
		p.KAffine[h*128+slot], p.KAffine[h*128+64+slot] = s, o
		for i := range d {
			put(func(i int) *byte { return &p.KCodes[(h*pairs+i)*64+slot] }, i, code(k[h*d+i]))
		}
	}
	s, o, code := quantizer(v)
	if s == 0x7c00 || o&0x7fff == 0x7c00 {
		return bad("value", top(v), v[top(v)])
	}
	p.VAffine[slot], p.VAffine[64+slot] = s, o
	for i, x := range v {
		put(func(i int) *byte { return &p.VCodes[(i/pairs*64+slot)*pairs+i%pairs] }, i/d*2*pairs+i%d, code(x))
	}
	return nil
}

// stored are the numbers of a position of a page: elements or codes, and what turns codes into numbers.
func stored(p *kernels.Page, keys bool, head, slot int) (u []float32, a, b float32) {
	d := p.HeadDim
	u = make([]float32, d)
	at := func(i, width int) int {
		if keys {
			return (head*width+i)*64 + slot
		}
		return (head*64+slot)*width + i
	}
	pick := func(k, v []uint16, i int) uint16 {
		if keys {
			return k[i]
		}
		return v[i]
	}
	for i := range u {
		switch p.Format {
		case kernels.KVF32:
			if keys {
				u[i] = p.K[at(i, d)]
			} else {
				u[i] = p.V[at(i, d)]
			}
		case kernels.KVF16:
			u[i] = unhalf(pick(p.KHalf, p.VHalf, at(i, d)))
		default:
			codes, width := p.VCodes, d
			if keys {
				codes = p.KCodes
			}
			if p.Format == kernels.KVInt8 {
				u[i] = float32(int8(codes[at(i, width)]))
			} else {
				u[i] = float32([]byte{codes[at(i/2, (d+1)/2)] / 16, codes[at(i/2, (d+1)/2)] % 16}[i%2])
			}
		}
	}
	switch p.Format {
	case kernels.KVInt8:
		if keys {
			return u, p.KScale[head*64+slot], 0
		}
		return u, p.VScale[head*64+slot], 0
	case kernels.KVInt4:
		base := slot
		if keys {
			base += head * 128
		}
		a, b = unhalf(pick(p.KAffine, p.VAffine, base)), unhalf(pick(p.KAffine, p.VAffine, base+64))
		if a != 0 {
			b = -op(op(b, '+', 8), '*', a)
		}
	}
	return u, a, b
}

func unhalf(u uint16) float32 {
	return element(&kernels.Dense{Cols: 1, Type: kernels.F16, Data: []byte{byte(u), byte(u >> 8)}}, 0, 0)
}

// naivePart is the part of one chunk, from the scores of all positions that it attends to.
func naivePart(x *kernels.Queries, row, g, c int) (part []float32) {
	page := x.Page(c)
	t := x.Pos + row
	var at []int
	for p := c * 64; p < c*64+64 && p <= t; p++ {
		if x.Window == 0 || p < x.Sinks || p > t-x.Window {
			at = append(at, p)
		}
	}
	if len(at) == 0 {
		return nil
	}
	d := page.HeadDim
	inv := float32(1 / math.Sqrt(float64(d)))
	scores, weights := make([]float32, len(at)), make([]float32, len(at))
	for i, p := range at {
		q := x.Q[row*x.Stride+g*d:][:d]
		if x.Window > 0 && p < x.Sinks && t > x.Sinks+x.Window-1 {
			q = x.SinkQ[row*x.Stride+g*d:][:d]
		}
		key, a, b := stored(page, true, x.KVHead, p%64)
		var v float32
		for j := range q {
			v = fused(key[j], q[j], v)
		}
		switch page.Format {
		case kernels.KVInt8:
			v = op(a, '*', v)
		case kernels.KVInt4:
			v = fused(a, v, op(plain(q), '*', b))
		}
		scores[i] = op(v, '*', inv)
	}
	m := scores[0]
	for _, v := range scores {
		if v > m {
			m = v
		}
	}
	lane := func(step func(acc float32, i int) float32) float32 {
		var l [32]float32
		for i, p := range at {
			l[p%32] = step(l[p%32], i)
		}
		return tree(l[:])
	}
	for i, v := range scores {
		weights[i] = power(op(v, '-', m))
	}
	l := lane(func(acc float32, i int) float32 { return op(acc, '+', weights[i]) })
	o := make([]float32, d)
	if page.Format == kernels.KVInt4 {
		start := lane(func(acc float32, i int) float32 {
			_, _, b := stored(page, false, x.KVHead, at[i]%64)
			return fused(b, weights[i], acc)
		})
		for i := range o {
			o[i] = start
		}
	}
	for i, p := range at {
		value, a, _ := stored(page, false, x.KVHead, p%64)
		w := weights[i]
		if page.Format == kernels.KVInt8 || page.Format == kernels.KVInt4 {
			w = op(a, '*', w)
		}
		for j := range o {
			o[j] = fused(value[j], w, o[j])
		}
	}
	return append(o, m, l)
}

func (n naive) Attention(parts []float32, x *kernels.Queries, lo, hi int) {
	kernels.CheckAttention(parts, x, lo, hi)
	size := len(parts) / (x.Rows * x.Heads)
	for row := range x.Rows {
		for g := range x.Heads {
			var all []float32
			for c := lo; c < hi; c++ {
				if p := naivePart(x, row, g, c); p != nil {
					all = append(all, p...)
				}
			}
			part := parts[(row*x.Heads+g)*size:][:size]
			clear(part)
			if len(all) > 0 {
				copy(part, merged(all, size, len(all)/size))
			}
		}
	}
}

// merged are the first n parts: all but the last, and then the last.
func merged(parts []float32, size, n int) []float32 {
	b := parts[(n-1)*size:][:size]
	if n == 1 {
		return slices.Clone(b)
	}
	a := merged(parts, size, n-1)
	d := size - 2
	m := a[d]
	if b[d] > m {
		m = b[d]
	}
	fa, fb := power(op(a[d], '-', m)), power(op(b[d], '-', m))
	for i := range a {
		a[i] = fused(fb, b[i], op(a[i], '*', fa))
	}
	a[d] = m
	return a
}

func (naive) MergeAttention(out, parts []float32, stride, n int) {
	kernels.CheckMergeAttention(out, parts, stride, n)
	size := len(out) + 2
	var all []float32
	for i := range n {
		if p := parts[i*stride:][:size]; p[size-1] != 0 {
			all = append(all, p...)
		}
	}
	a := merged(all, size, len(all)/size)
	for i := range out {
		out[i] = op(a[i], '*', op(1, '/', a[size-1]))
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
