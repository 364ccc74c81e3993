//go:build amd64 && !purego

package cpu

import (
	"math"
	"sync"
	"unsafe"

	"golang.org/x/sys/cpu"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// native lists what this processor has.
func native() (all []kernels.Ops) {
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C {
		all = append(all, avx2{})
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VNNI {
			all = append(all, vnni{})
		}
	}
	return all
}

// avx2 is the implementation for AVX2 and FMA. Its twin is ref, whose methods it
// keeps where they are not worth a kernel or a shape does not fit the registers.
type avx2 struct{ ref.Ops }

func (avx2) Name() string { return "avx2" }

// scratch is memory that a call needs for itself.
type scratch struct {
	panel  []byte
	floats []float32
	sums   []int32
	out    [16]int32 // here and not on the stack, where calls through a variable would move it to the heap
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func grow[T any](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n)
	}
	*s = (*s)[:n]
	return *s
}

// TernaryInt8 multiplies tiles in place for one token. For more, it unpacks four
// rows once and multiplies them by two tokens at a time.
func (avx2) TernaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int) {
	kernels.CheckTernaryInt8(y, ldy, w, x, lo, hi)
	ternaryInt8(y, ldy, w, x, lo, hi, ternaryKernels{gemv: ternaryGEMV, tokens: 2, gemm: func(sums *[16]int32, panel *byte, q *int8, stride int) {
		second := unsafe.Add(unsafe.Pointer(q), stride) // SAFETY: ternaryInt8 gives tokens of stride codes each
		ternaryGEMM((*[8]int32)(sums[:]), panel, stride, q, (*int8)(second), stride/32)
	}})
}

// ternaryKernels are the parts of TernaryInt8 that differ between processors.
type ternaryKernels struct {
	gemv   func(sums *[4]int32, tiles *byte, n int, q *int8)
	tokens int // how many gemm takes at once
	gemm   func(sums *[16]int32, panel *byte, q *int8, stride int)
}

func ternaryInt8(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int, k ternaryKernels) {
	if x.M == 0 || lo == hi {
		return
	}
	if w.Group != 0 {
		ternaryGroups(y, ldy, w, x, lo, hi, k)
		return
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	tiles := w.ColTiles()
	twice := grow(&s.sums, x.M)
	for m := range twice {
		twice[m] = 2 * sumInt8(&x.Codes[m*x.Stride], tiles) // codes are trit + 2
	}
	for row := lo; row < hi; row += kernels.TileRows {
		tile := &w.Tiles[row/kernels.TileRows*tiles*kernels.TileBytes]
		n := min(kernels.TileRows, hi-row)
		m := 0
		if x.M >= k.tokens {
			panel := grow(&s.panel, kernels.TileRows*x.Stride)
			ternaryPanel(&panel[0], x.Stride, tile, tiles)
			for ; m+k.tokens <= x.M; m += k.tokens {
				k.gemm(&s.out, &panel[0], &x.Codes[m*x.Stride], x.Stride)
				for t := range k.tokens {
					store(y[(m+t)*ldy+row:][:n], w, row, s.out[4*t:][:n], twice[m+t], x.Max[m+t])
				}
			}
		}
		for ; m < x.M; m++ {
			k.gemv((*[4]int32)(s.out[:]), tile, tiles, &x.Codes[m*x.Stride])
			store(y[m*ldy+row:][:n], w, row, s.out[:n], twice[m], x.Max[m])
		}
	}
}

// store scales the sums of a tile's rows (spec/numerics.md, section 8).
func store(y []float32, w *kernels.Ternary, row int, sums []int32, twice int32, a float32) {
	for r := range y {
		scale := w.Scales[0]
		if len(w.Scales) > 1 {
			scale = w.Scales[row+r]
		}
		v := float32(float32(sums[r]-twice) * (float32(scale*a) / 127))
		if w.Bias != nil {
			v += w.Bias[row+r]
		}
		y[r] = v
	}
}

// ternaryGroups is TernaryInt8 for scales of groups of columns, whole tiles each.
func ternaryGroups(y []float32, ldy int, w *kernels.Ternary, x *kernels.Acts, lo, hi int, k ternaryKernels) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	tiles, step := w.ColTiles(), w.Group/kernels.TileCols
	for row := lo; row < hi; row += kernels.TileRows {
		for m := range x.M {
			var acc [kernels.TileRows]float32
			for g := range w.Groups() {
				first := g * step
				n := min(step, tiles-first)
				q := &x.Codes[m*x.Stride+g*w.Group]
				k.gemv((*[4]int32)(s.out[:]), &w.Tiles[(row/kernels.TileRows*tiles+first)*kernels.TileBytes], n, q)
				twice := 2 * sumInt8(q, n)
				for r := range min(kernels.TileRows, hi-row) {
					acc[r] = ref.FMA32(float32(s.out[r]-twice), w.Scales[(row+r)*w.Groups()+g], acc[r])
				}
			}
			for r := range min(kernels.TileRows, hi-row) {
				v := float32(acc[r] * (x.Max[m] / 127))
				if w.Bias != nil {
					v += w.Bias[row+r]
				}
				y[m*ldy+row+r] = v
			}
		}
	}
}

// Dense takes the dot of every row, in the 32 lanes of the specification.
func (a avx2) Dense(y []float32, ldy int, w *kernels.Dense, x []float32, m, ldx, lo, hi int) {
	if w.Cols%kernels.Lanes != 0 {
		a.Ops.Dense(y, ldy, w, x, m, ldx, lo, hi)
		return
	}
	kernels.CheckDense(y, ldy, w, x, m, ldx, lo, hi)
	dot := map[kernels.DType]func(*byte, *float32, int) float32{kernels.F32: dotF32, kernels.BF16: dotBF16, kernels.F16: dotF16, kernels.I8: dotI8}[w.Type]
	for row := lo; row < hi; row++ {
		data := &w.Data[row*w.Cols*w.Type.Size()]
		for k := range m {
			s := dot(data, &x[k*ldx], w.Cols/kernels.Lanes)
			if w.Type == kernels.I8 {
				s *= w.Scales[row]
			}
			y[k*ldy+row] = s
		}
	}
}

// rms normalizes x into y and reports whether every step was finite; where not,
// the reference tells what was wrong.
func rms(y, x []float32, n *kernels.Norm) bool {
	ss := sumSquares(&x[0], len(x)/kernels.Lanes)
	r := 1 / float32(math.Sqrt(float64(ss/float32(len(x))+n.Eps)))
	scaleNorm(&y[0], &x[0], &n.Weight[0], r, len(x)/8)
	return kernels.Finite(ss) && kernels.Finite(r) && absMax(&y[0], len(y)/8) < 0x7f800000
}

// Norm is an RMS norm in one pass for its sum and one for its result.
func (a avx2) Norm(y, x []float32, n *kernels.Norm) error {
	if n.Kind != kernels.RMS || len(x)%kernels.Lanes != 0 || len(x) == 0 {
		return a.Ops.Norm(y, x, n)
	}
	kernels.CheckNorm(y, x, n)
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	if out := grow(&s.floats, len(x)); rms(out, x, n) { // y may be x, which an error must leave to the reference
		copy(y, out)
		return nil
	}
	return a.Ops.Norm(y, x, n)
}

// NormQuant normalizes and rounds to int8.
func (a avx2) NormQuant(q []int8, x []float32, n *kernels.Norm) (float32, error) {
	if n != nil && n.Kind != kernels.RMS || len(x)%kernels.Lanes != 0 || len(x) == 0 {
		return a.Ops.NormQuant(q, x, n)
	}
	kernels.CheckNormQuant(q, x, n)
	y := x
	if n != nil {
		s := scratches.Get().(*scratch)
		defer scratches.Put(s)
		if y = grow(&s.floats, len(x)); !rms(y, x, n) {
			return a.Ops.NormQuant(q, x, n)
		}
	}
	top := absMax(&y[0], len(y)/8)
	if top >= 0x7f800000 {
		return a.Ops.NormQuant(q, x, n)
	}
	amax := max(math.Float32frombits(top), minAbsMax)
	roundInt8(&q[0], &y[0], float32(1/amax)*127, len(y)/kernels.Lanes)
	clear(q[len(y):])
	return amax, nil
}

const minAbsMax float32 = 1e-5
