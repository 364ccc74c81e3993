package runtime

import (
	"math"
	"math/bits"
	"slices"
	"sync"

	"github.com/tritter-ai/tritter/kernels/ref"
)

// candidate is a token that may be drawn. Its weight is its probability relative
// to the greatest, in units of 2^-40: sums of integers are exact, so they do not
// depend on the order in which they are added.
type candidate struct {
	id     int
	logit  float32
	weight uint64
}

// draft is one draw. Sorting a vocabulary would take longer than anything else, so
// tokens are counted by how far they lie below the greatest logit, in bins. A bin
// comes before those of lower logits as a whole, and only one that a limit or the
// draw falls into is sorted.
type draft struct {
	logits []float32
	top    float32
	minE   float64 // of min-p; less is not counted

	bins [binCount]bin
	last int         // the last bin with survivors
	kept []candidate // the survivors of bin last, in order; nil: all of it
	buf  []candidate
}

// bin is the sum of some tokens.
type bin struct {
	count  int
	weight uint64
}

const (
	binsPerUnit = 8
	farthest    = 28 // exp(-28) < 2^-40: no weight
	binCount    = farthest*binsPerUnit + 1
)

var drafts = sync.Pool{New: func() any { return new(draft) }}

// binOf returns the bin of a token whose logit lies d below the greatest, or -1
// for one that is never drawn.
func binOf(d float32) int {
	if d < -farthest {
		return -1
	}
	return int(d * -binsPerUnit)
}

// weight returns floor(e 2^40) for 0 <= e <= 1.
func weight(e float32) uint64 { return uint64(int64(float64(e) * (1 << 40))) }

// draw applies top-k, top-p and min-p and draws among what is left
// (spec/numerics.md, section 15, steps 3 to 8).
func (d *draft) draw(s *Sampling, logits []float32, top float32, position int) int {
	d.logits, d.top, d.minE = logits, top, 0
	d.count()
	d.last, d.kept = binCount-1, nil
	if s.TopK > 0 {
		d.keep(func(b bin) uint64 { return uint64(b.count) }, func(candidate) uint64 { return 1 }, uint64(s.TopK))
	}
	if s.TopP < 1 {
		goal := uint64(math.Ceil(float64(s.TopP) * float64(d.total())))
		d.keep(func(b bin) uint64 { return b.weight }, func(c candidate) uint64 { return c.weight }, goal)
	}
	if s.MinP > 0 {
		d.atLeast(s.MinP)
	}
	target, _ := bits.Mul64(philox(s.Seed, uint64(position)), d.total())
	id := d.at(target)
	d.logits = nil
	return id
}

// count fills the bins.
func (d *draft) count() {
	clear(d.bins[:])
	low := float32(-farthest)
	if d.minE > 0 {
		low = max(low, float32(math.Log(d.minE))-0.001) // below, e is certainly less
	}
	for _, l := range d.logits {
		x := l - d.top
		if x < low {
			continue
		}
		at, e := binOf(x), expBelow(x)
		if float64(e) < d.minE {
			continue
		}
		b := &d.bins[at]
		b.count++
		b.weight += weight(e)
	}
}

func (d *draft) total() (sum uint64) {
	for i := range d.bins[:d.last+1] {
		sum += d.bins[i].weight
	}
	return sum
}

// keep leaves the shortest prefix of the survivors whose sizes add up to goal, or
// all of them if none does.
func (d *draft) keep(ofBin func(bin) uint64, of func(candidate) uint64, goal uint64) {
	run := uint64(0)
	for i := range d.bins[:d.last+1] {
		if before := run; run+ofBin(d.bins[i]) >= goal {
			in := d.sorted(i)
			n := 0
			for run = before; n < len(in) && run < goal; n++ {
				run += of(in[n])
			}
			d.cut(i, in[:n])
			return
		}
		run += ofBin(d.bins[i])
	}
}

// cut makes in, a part of bin i in order, the end of the survivors.
func (d *draft) cut(i int, in []candidate) {
	d.last, d.kept = i, in
	d.bins[i] = bin{count: len(in)}
	for _, c := range in {
		d.bins[i].weight += c.weight
	}
}

// atLeast leaves the survivors whose e is at least p, and the first, whose e is 1.
func (d *draft) atLeast(p float64) {
	last, kept := d.last, d.kept
	d.minE = min(p, 1)
	d.count()
	d.last, d.kept = last, nil
	if kept != nil {
		kept = slices.DeleteFunc(kept, func(c candidate) bool { return float64(expBelow(c.logit-d.top)) < d.minE })
		d.cut(last, kept)
	}
}

// sorted returns the survivors of bin i by descending logit, then ascending id.
func (d *draft) sorted(i int) []candidate {
	if i == d.last && d.kept != nil {
		return d.kept
	}
	d.buf = d.buf[:0]
	for id, l := range d.logits {
		if binOf(l-d.top) == i {
			if e := expBelow(l - d.top); float64(e) >= d.minE {
				d.buf = append(d.buf, candidate{id, l, weight(e)})
			}
		}
	}
	slices.SortFunc(d.buf, func(a, b candidate) int {
		switch {
		case a.logit > b.logit:
			return -1
		case a.logit < b.logit:
			return 1
		}
		return a.id - b.id
	})
	return d.buf
}

// at returns the first survivor at which the running sum of weights exceeds target.
func (d *draft) at(target uint64) int {
	for i := range d.bins[:d.last+1] {
		if w := d.bins[i].weight; target >= w {
			target -= w
			continue
		}
		for _, c := range d.sorted(i) {
			if target < c.weight {
				return c.id
			}
			target -= c.weight
		}
	}
	panic("runtime: the weights of a draw do not add up to their sum")
}

// expBelow is ref.Exp32 for -28 <= x <= 0. There the reduced argument is exact in
// float64, so that rounding it to float32 is the fused result, and no sum of the
// polynomial is subnormal: one test for all of its roundings is enough.
func expBelow(x float32) float32 {
	const (
		log2e = float32(0x1.715476p+0)
		magic = float32(0x1.8p+23) // x + magic - magic rounds to an integer, ties to even
	)
	n := float32(x*log2e) + magic - magic
	m := -float64(n)
	r := float64(float32(float64(m*0x1.62e43p-1) + float64(x)))
	r = float64(float32(float64(m*-0x1.05c61p-29) + r))
	doubt := uint64(0)
	fused := func(a, c float64) float64 {
		s := float64(a*r) + c
		// The lower 29 bits are lost. Exactly half of the last bit that stays leaves
		// the rounding to digits that s does not have.
		doubt |= (math.Float64bits(s)&0x1fffffff ^ 0x10000000) - 1
		return float64(float32(s))
	}
	p := fused(0x1.6a4f26p-10, 0x1.12398p-7)
	p = fused(p, 0x1.5558aep-5)
	p = fused(p, 0x1.555492p-3)
	p = fused(p, 0x1.fffffcp-2)
	p = fused(p, 1)
	p = fused(p, 1)
	if int64(doubt) < 0 {
		return ref.Exp32(x)
	}
	return math.Float32frombits(math.Float32bits(float32(p)) + uint32(int32(n))<<23)
}
