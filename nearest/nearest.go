// Package nearest finds the rows of a table that are nearest to a vector: the
// tokens nearest to a hidden state, or the codes nearest to a stretch of an image
// or a sound. The search is exact, and spec/numerics.md, section 17, gives every
// value that it compares to the bit, so that all engines find the same rows.
//
// A [Table] keeps the squared length of every row, so that a search costs one
// product with the table. The products are those of [kernels.Ops.Dense].
package nearest

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// Metric says what near means. The zero value is none of them.
type Metric uint8

// The metrics of section 17.
const (
	Euclidean Metric = iota + 1 // the least squared distance
	Cosine                      // the greatest cosine of the angle
)

// String is the metric's name on command lines.
func (m Metric) String() string {
	switch m {
	case Euclidean:
		return "euclidean"
	case Cosine:
		return "cosine"
	}
	return "metric(unknown)"
}

// ParseMetric is the inverse of String.
func ParseMetric(name string) (Metric, error) {
	for _, m := range []Metric{Euclidean, Cosine} {
		if m.String() == name {
			return m, nil
		}
	}
	return 0, fmt.Errorf("metric %q, want euclidean or cosine", name)
}

// Row is a row of a table and how near it is.
type Row struct {
	ID    int     `json:"id"`
	Value float32 `json:"value"` // squared distance, or cosine
}

// Split runs fn over [0, n) in contiguous parts, possibly at the same time, and
// returns an error of one of them.
type Split func(n int, fn func(lo, hi int) error) error

// Table is a matrix whose rows are searched. It is safe for concurrent use. The
// matrix stays the caller's and must not change.
type Table struct {
	w       kernels.Dense
	ops     kernels.Ops
	split   Split
	norms   []float32 // squared length of each row
	inverse []float32 // 1 / length, 0 for a row of zeros
}

// blockRows is how many products are taken before they are looked at: few enough
// that they stay in the nearest cache.
const blockRows = 256

// New measures the rows of w, of any dense type. ops multiplies; split shares the
// work of every later call among threads. The error names a row that is too long
// for float32.
func New(w *kernels.Dense, ops kernels.Ops, split Split) (*Table, error) {
	t := &Table{w: *w, ops: ops, split: split, norms: make([]float32, w.Rows), inverse: make([]float32, w.Rows)}
	err := split(w.Rows, func(lo, hi int) error {
		row := make([]float32, w.Cols)
		for i := lo; i < hi; i++ {
			ops.EmbedRow(row, w, i)
			one := t.rows(i, i+1)
			ops.Dense(t.norms[i:i+1], 1, &one, row, 1, w.Cols, 0, 1)
			n := t.norms[i]
			if !kernels.Finite(n) {
				return fmt.Errorf("the squared length of row %d is %v, want a finite number: its values are too large to measure distances in float32", i, n)
			}
			t.inverse[i] = inverse(n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// inverse returns the reciprocal of a length, given its square, and 0 for 0.
func inverse(square float32) float32 {
	if square == 0 {
		return 0
	}
	return 1 / float32(math.Sqrt(float64(square)))
}

// rows is a view of rows lo to hi-1.
func (t *Table) rows(lo, hi int) kernels.Dense {
	size := t.w.Cols * t.w.Type.Size()
	v := kernels.Dense{Rows: hi - lo, Cols: t.w.Cols, Type: t.w.Type, Data: t.w.Data[lo*size : hi*size]}
	if t.w.Scales != nil {
		v.Scales = t.w.Scales[lo:hi]
	}
	return v
}

// Rows returns the number of rows.
func (t *Table) Rows() int { return t.w.Rows }

// Cols returns the length of a row.
func (t *Table) Cols() int { return t.w.Cols }

// Search returns the k rows nearest to z, nearest first, rows that are equally
// near by ascending id, and all rows where there are fewer. z has Cols elements.
// The error reports a z of another length or one that is not finite, and a k
// below 1.
func (t *Table) Search(z []float32, metric Metric, k int) ([]Row, error) {
	if metric != Euclidean && metric != Cosine {
		return nil, fmt.Errorf("metric %d, want %d (euclidean) or %d (cosine)", metric, Euclidean, Cosine)
	}
	if k < 1 {
		return nil, fmt.Errorf("k is %d, want at least 1", k)
	}
	if len(z) != t.w.Cols {
		return nil, fmt.Errorf("a vector of %d elements, want %d, the columns of the table", len(z), t.w.Cols)
	}
	q, err := measure(z)
	if err != nil {
		return nil, err
	}
	k = min(k, t.w.Rows)
	var mu sync.Mutex
	var rows []Row
	err = t.split(t.w.Rows, func(lo, hi int) error {
		best := best{metric: metric, k: k, rows: make([]Row, 0, min(k, hi-lo))}
		y := make([]float32, min(blockRows, hi-lo))
		for ; lo < hi; lo += blockRows {
			w := t.rows(lo, min(lo+blockRows, hi))
			t.ops.Dense(y, w.Rows, &w, z, 1, len(z), 0, w.Rows)
			for i, d := range y[:w.Rows] {
				v := t.value(metric, lo+i, d, q)
				if !kernels.Finite(v) {
					return fmt.Errorf("the %v value of row %d is %v, want a finite number: the vector is too long for float32", metric, lo+i, v)
				}
				best.add(Row{lo + i, v})
			}
		}
		mu.Lock()
		defer mu.Unlock()
		rows = append(rows, best.rows...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(rows, func(a, b Row) int {
		if nearer(metric, a, b) {
			return -1
		}
		return 1
	})
	return rows[:k], nil
}

// Assign writes the id of the nearest row of each of the vectors x, [len(ids),
// Cols], by squared distance.
func (t *Table) Assign(ids []int, x []float32) error {
	cols := t.w.Cols
	if len(x) != len(ids)*cols {
		return fmt.Errorf("%d elements for %d vectors, want %d, %d each", len(x), len(ids), len(ids)*cols, cols)
	}
	const together = 16 // vectors that share a pass over the table
	return t.split((len(ids)+together-1)/together, func(lo, hi int) error {
		y := make([]float32, together*blockRows)
		for first := lo * together; first < min(hi*together, len(ids)); first += together {
			n := min(together, len(ids)-first)
			if err := t.assign(ids[first:first+n], x[first*cols:(first+n)*cols], y); err != nil {
				return fmt.Errorf("vectors %d to %d: %w", first, first+n-1, err)
			}
		}
		return nil
	})
}

func (t *Table) assign(ids []int, x, y []float32) error {
	n, cols := len(ids), t.w.Cols
	lengths, least := make([]length, n), make([]float32, n)
	for m := range lengths {
		var err error
		if lengths[m], err = measure(x[m*cols : (m+1)*cols]); err != nil {
			return err
		}
	}
	for lo := 0; lo < t.w.Rows; lo += blockRows {
		w := t.rows(lo, min(lo+blockRows, t.w.Rows))
		t.ops.Dense(y, w.Rows, &w, x, n, cols, 0, w.Rows)
		for m := range n {
			for i, d := range y[m*w.Rows : (m+1)*w.Rows] {
				v := t.value(Euclidean, lo+i, d, lengths[m])
				if !kernels.Finite(v) {
					return fmt.Errorf("the distance to row %d is %v, want a finite number: the vector is too long for float32", lo+i, v)
				}
				if lo+i == 0 || v < least[m] {
					least[m], ids[m] = v, lo+i
				}
			}
		}
	}
	return nil
}

// length is the squared length of a vector and the reciprocal of its length.
type length struct{ square, inverse float32 }

func measure(z []float32) (length, error) {
	q := ref.Dot(z, z)
	if !kernels.Finite(q) {
		return length{}, fmt.Errorf("the squared length of the vector is %v, want a finite number", q)
	}
	return length{q, inverse(q)}, nil
}

// value compares row i, whose product with the vector is d, with the vector.
func (t *Table) value(metric Metric, i int, d float32, z length) float32 {
	if metric == Cosine {
		return float32(d*t.inverse[i]) * z.inverse
	}
	return (z.square + t.norms[i]) - float32(2*d)
}

// nearer reports whether a comes before b.
func nearer(metric Metric, a, b Row) bool {
	if a.Value == b.Value {
		return a.ID < b.ID
	}
	return (a.Value < b.Value) == (metric == Euclidean)
}

// best keeps the k nearest rows seen, the farthest of them at the root of a heap.
type best struct {
	metric Metric
	k      int
	rows   []Row
}

func (b *best) add(r Row) {
	if len(b.rows) < b.k {
		b.rows = append(b.rows, r)
		for i := len(b.rows) - 1; i > 0; {
			parent := (i - 1) / 2
			if !nearer(b.metric, b.rows[parent], b.rows[i]) {
				break
			}
			b.rows[i], b.rows[parent] = b.rows[parent], b.rows[i]
			i = parent
		}
		return
	}
	if !nearer(b.metric, r, b.rows[0]) {
		return
	}
	b.rows[0] = r
	for i := 0; ; {
		far := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(b.rows); c++ {
			if nearer(b.metric, b.rows[far], b.rows[c]) {
				far = c
			}
		}
		if far == i {
			return
		}
		b.rows[i], b.rows[far] = b.rows[far], b.rows[i]
		i = far
	}
}
