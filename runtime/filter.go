package runtime

import (
	"math"
	"slices"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/model"
)

// headFilter finds the tokens that can have the greatest logits without reading
// the head: it keeps the rows of a float head once more, rounded to int8, and
// bounds how far the logits of those can be from the true ones. Rows whose upper
// bound reaches the lower bound of the k-th best are computed from the head
// itself, so the k greatest logits and their order are exactly those of the whole
// head; all others are left out.
//
// With W a row, s its scale, c its codes, x the hidden state and x' = sx q its
// rounding to integers, by the inequality of Cauchy and Schwarz
//
//	|W x - s c x'| <= |W - s c| |x| + |s c| |x - x'|
//
// and the logit that section 10 of spec/numerics.md gives is within
// (64 + K/1024) 2^-24 |W| |x| of W x, each of its roundings being at most 2^-24 of
// a partial sum.
type headFilter struct {
	hidden, stride int
	codes          []int8    // [vocab, stride], zero past hidden
	scale          []float32 // a row
	lost           []float32 // |W - s c| of a row, rounded up
	norm           []float32 // |W| of a row, rounded up

	x                 []int16 // the hidden state as integers
	xScale            float64
	xNorm, xLost      float64
	dots              []int32
	lower, upper      []float64
	best              []float64 // the greatest lower bounds: a heap, the least first
	rows              []int     // survivors
	misses            int
	limit, roundings  float64
	buildPart, bounds func(lo, hi int) error
	rescore           func(lo, hi int) error
}

const (
	// filterMaxTop bounds for how many greatest logits the filter is used.
	filterMaxTop = 1024
	// filterShare is the share of rows that may survive; beyond, the whole head is
	// cheaper.
	filterShare = 1.0 / 16
	// filterMisses is after how many tokens in a row that were not worth it the
	// filter gives up.
	filterMisses = 4
	// filterLargest bounds logits, so that no later step of sampling overflows.
	filterLargest = 1e30
)

// filterBytes returns what the filter of a head takes, 0 for a head that has none:
// ternary and int8 heads are as small as their filter would be.
func filterBytes(c *model.Config, head format.Encoding) int64 {
	if head != format.F32 && head != format.F16 && head != format.BF16 {
		return 0
	}
	return int64(c.VocabSize) * (int64(kernels.PadLanes(c.HiddenSize)) + 3*4 + 2*8 + 4)
}

// headEncoding returns how the head of a model is stored.
func headEncoding(c *model.Config, h *format.Header) format.Encoding {
	role := model.RoleHead
	if c.TiedHead {
		role = model.RoleEmbed
	}
	name := model.Name(model.NoLayer, role, "weight")
	return h.Tensors[slices.IndexFunc(h.Tensors, func(t format.TensorInfo) bool { return t.Name == name })].Encoding
}

// newFilter builds the filter of the engine's head.
func (e *cpuEngine) newFilter() (*headFilter, error) {
	c, w := &e.model.Config, e.weights.head.Dense
	f := &headFilter{hidden: c.HiddenSize, stride: kernels.PadLanes(c.HiddenSize)}
	f.codes = make([]int8, c.VocabSize*f.stride)
	f.scale, f.lost, f.norm = make([]float32, c.VocabSize), make([]float32, c.VocabSize), make([]float32, c.VocabSize)
	f.x, f.dots = make([]int16, f.stride), make([]int32, c.VocabSize)
	f.lower, f.upper = make([]float64, c.VocabSize), make([]float64, c.VocabSize)
	f.limit = float64(min(math.MaxInt16, math.MaxInt32/(127*f.stride)))
	f.roundings = (64 + float64(f.hidden)/kernels.BlockLen) * 0x1p-24
	f.buildPart = func(lo, hi int) error {
		row := make([]float32, f.hidden)
		for i := lo; i < hi; i++ {
			e.ops.EmbedRow(row, w, i)
			f.setRow(i, row)
		}
		return nil
	}
	f.bounds = func(lo, hi int) error {
		e.ops.DotInt16(f.dots, f.codes, f.x, lo, hi)
		f.boundRows(lo, hi)
		return nil
	}
	f.rescore = func(lo, hi int) error {
		h := &e.step.head
		for _, row := range f.rows[lo:hi] {
			e.ops.Dense(h.y, c.VocabSize, w, h.x, 1, f.hidden, row, row+1)
		}
		return nil
	}
	return f, e.pool.guarded(func() error { return e.pool.split(c.VocabSize, rowAlign, f.buildPart) })
}

// setRow rounds one row.
func (f *headFilter) setRow(i int, row []float32) {
	most := float32(0)
	for _, v := range row {
		most = max(most, float32(math.Abs(float64(v))))
	}
	if most == 0 {
		return
	}
	s := most / 127
	if s == 0 { // subnormal: leave the codes zero and the whole row to its bound
		s = 1
	}
	f.scale[i] = s
	codes := f.codes[i*f.stride:][:f.hidden]
	inverse := 1 / float64(s)
	var lost, norm float64
	for j, v := range row {
		w := float64(v)
		code := max(-127, min(127, math.RoundToEven(w*inverse)))
		codes[j] = int8(code)
		d := w - float64(code*float64(s))
		lost += float64(d * d)
		norm += float64(w * w)
	}
	f.lost[i], f.norm[i] = roundedUp(math.Sqrt(lost)), roundedUp(math.Sqrt(norm))
}

// roundedUp returns a float32 that is surely not less than x, of which the last
// bits may be wrong.
func roundedUp(x float64) float32 {
	return math.Nextafter32(float32(x*(1+1e-9)), float32(math.Inf(1)))
}

// set rounds the hidden state; false says that the filter cannot be used for it.
func (f *headFilter) set(x []float32) bool {
	most := 0.0
	for _, v := range x {
		most = max(most, math.Abs(float64(v)))
	}
	if !(most > 0x1p-100 && most < filterLargest) {
		return false
	}
	f.xScale = most / f.limit
	var norm, lost float64
	for i, v := range x {
		q := math.RoundToEven(float64(v) / f.xScale)
		f.x[i] = int16(q)
		d := float64(v) - float64(q*f.xScale)
		lost += float64(d * d)
		norm += float64(float64(v) * float64(v))
	}
	f.xNorm, f.xLost = math.Sqrt(norm)*(1+1e-9), math.Sqrt(lost)*(1+1e-9)+most*1e-12
	return true
}

// boundRows bounds the logits of rows lo to hi-1 on both sides.
func (f *headFilter) boundRows(lo, hi int) {
	for i := lo; i < hi; i++ {
		lost, norm := float64(f.lost[i]), float64(f.norm[i])
		about := float64(f.scale[i]) * (f.xScale * float64(f.dots[i]))
		margin := lost*f.xNorm + (lost+norm)*f.xLost + f.roundings*norm*f.xNorm + 1e-12*math.Abs(about) + 1e-40
		f.lower[i], f.upper[i] = about-margin, about+margin
	}
}

// survivors collects the rows that can be among the top greatest of those outside
// keep, and those of keep. False says that they are too many, or too large.
func (f *headFilter) survivors(top int, keep map[int]bool) bool {
	best := f.best[:0]
	for i, l := range f.lower {
		switch {
		case len(keep) > 0 && keep[i]:
		case len(best) < top:
			best = append(best, l)
			for at := len(best) - 1; at > 0 && best[at] < best[(at-1)/2]; at = (at - 1) / 2 {
				best[at], best[(at-1)/2] = best[(at-1)/2], best[at]
			}
		case l > best[0]:
			best[0] = l
			settle(best)
		}
	}
	f.best = best
	least := math.Inf(-1)
	if len(best) == top {
		least = best[0]
	}
	f.rows = f.rows[:0]
	most := int(filterShare * float64(len(f.upper)))
	for i, u := range f.upper {
		if u >= least || len(keep) > 0 && keep[i] {
			if len(f.rows) == most || u > filterLargest || f.lower[i] < -filterLargest {
				return false
			}
			f.rows = append(f.rows, i)
		}
	}
	return true
}

// settle restores a heap whose first element has grown.
func settle(heap []float64) {
	for at := 0; ; {
		child := 2*at + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1] < heap[child] {
			child++
		}
		if heap[at] <= heap[child] {
			return
		}
		heap[at], heap[child] = heap[child], heap[at]
		at = child
	}
}

// filtered computes the logits of one position that can matter to sp and marks
// the others as absent. False says that nothing was computed: the whole head is
// needed.
func (e *cpuEngine) filtered(sp *Span, y, x []float32) (bool, error) {
	f := e.filter
	if f == nil || f.misses == filterMisses || sp.Top < 1 || sp.Top > filterMaxTop || !f.set(x) {
		return false, nil
	}
	if err := e.pool.split(len(f.scale), rowAlign, f.bounds); err != nil {
		return false, err
	}
	if !f.survivors(sp.Top, sp.Keep) {
		f.misses++
		return false, nil
	}
	f.misses = 0
	absent := float32(math.Inf(-1))
	for i := range y {
		y[i] = absent
	}
	e.step.head = head{y: y, x: x, m: 1}
	return true, e.pool.split(len(f.rows), 1, f.rescore)
}

// UseFilter reports whether a filter before the head is worth its memory and the
// time to build it: when sampling needs the greatest logits only, and enough
// tokens are asked for.
func UseFilter(m *Model, s *Sampling, newTokens int) bool {
	return filterBytes(&m.Config, headEncoding(&m.Config, m.file.Header())) > 0 && m.Config.VocabSize >= 16384 && s.top() > 0 && s.top() <= filterMaxTop && newTokens >= 64
}

// top returns how many of the greatest logits decide about a token, 0 for all.
func (s *Sampling) top() int {
	switch {
	case s.Temperature == 0:
		return 1
	case s.TopK > 0 && s.Temperature >= 1e-3: // so that logits up to filterLargest do not overflow
		return s.TopK
	}
	return 0
}
