package ref

import "github.com/tritter-ai/tritter/kernels"

// lanes are the partial sums of one block (section 3).
type lanes [kernels.Lanes]float32

// fold adds the lanes as a tree: 16, 8, 4, 2, 1.
func (l *lanes) fold() float32 {
	for w := kernels.Lanes / 2; w > 0; w /= 2 {
		for j := range w {
			l[j] += l[j+w]
		}
	}
	return l[0]
}

// blocks adds up the sums of the blocks of n elements, ascending. No elements sum to +0.
func blocks(n int, block func(lo, hi int) float32) float32 {
	var s float32
	for lo := 0; lo < n; lo += kernels.BlockLen {
		b := block(lo, min(lo+kernels.BlockLen, n))
		if lo == 0 {
			s = b
		} else {
			s += b
		}
	}
	return s
}

// Sum is the vector sum of x (section 3).
func Sum(x []float32) float32 {
	return blocks(len(x), func(lo, hi int) float32 {
		var l lanes
		for i, v := range x[lo:hi] {
			l[i%kernels.Lanes] += v
		}
		return l.fold()
	})
}

// Dot is the dot product of two vectors of one length (section 3); Dot(x, x) is the sum of squares.
func Dot(w, x []float32) float32 {
	return blocks(len(x), func(lo, hi int) float32 {
		var l lanes
		w, x := w[lo:hi], x[lo:hi]
		for len(w) >= kernels.Lanes && len(x) >= kernels.Lanes {
			for j := range l {
				l[j] = FMA32(w[j], x[j], l[j])
			}
			w, x = w[kernels.Lanes:], x[kernels.Lanes:]
		}
		for j, v := range w {
			l[j] = FMA32(v, x[j], l[j])
		}
		return l.fold()
	})
}

// ternaryDot is Dot for a vector of trits: a product with a trit is exact, so a sum with it rounds once, fused or not.
func ternaryDot(t, x []float32) float32 {
	return blocks(len(x), func(lo, hi int) float32 {
		var l lanes
		t, x := t[lo:hi], x[lo:hi]
		for len(t) >= kernels.Lanes && len(x) >= kernels.Lanes {
			for j := range l {
				l[j] += float32(t[j] * x[j])
			}
			t, x = t[kernels.Lanes:], x[kernels.Lanes:]
		}
		for j, v := range t {
			l[j] += float32(v * x[j])
		}
		return l.fold()
	})
}
