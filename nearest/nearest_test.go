package nearest_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/nearest"
)

// randomTable draws a table; rows that follow each other at distance 7 are equal
// where the shape is small, so that there are ties.
func randomTable(seed uint64, rows, cols int, dtype kernels.DType) *kernels.Dense {
	rng := rand.New(rand.NewPCG(seed, 17))
	w := &kernels.Dense{Rows: rows, Cols: cols, Type: dtype, Data: make([]byte, rows*cols*dtype.Size())}
	if dtype == kernels.I8 {
		w.Scales = make([]float32, rows)
		for i := range w.Scales {
			w.Scales[i] = 1.0 / 32
		}
	}
	for i := range rows * cols {
		v := rng.Uint32()
		switch dtype {
		case kernels.F32:
			binary.LittleEndian.PutUint32(w.Data[4*i:], math.Float32bits(float32(int32(v))/(1<<30)))
		case kernels.BF16:
			binary.LittleEndian.PutUint16(w.Data[2*i:], uint16(0x3f00|v&0x80ff))
		case kernels.F16:
			binary.LittleEndian.PutUint16(w.Data[2*i:], uint16(0x3800|v&0x87ff))
		case kernels.I8:
			w.Data[i] = byte(int8(v%255) - 127)
		}
	}
	if size := cols * dtype.Size(); rows < 1000 {
		for i := 7; i < rows; i += 7 {
			copy(w.Data[i*size:(i+1)*size], w.Data[(i-7)*size:])
		}
	}
	return w
}

// naive follows section 17 row by row.
func naive(w *kernels.Dense, z []float32, metric nearest.Metric) []nearest.Row {
	ops := ref.New()
	q := ref.Dot(z, z)
	var out []nearest.Row
	row, n, d := make([]float32, w.Cols), make([]float32, w.Rows), make([]float32, w.Rows)
	ops.Dense(d, w.Rows, w, z, 1, w.Cols, 0, w.Rows)
	for i := range w.Rows {
		ops.EmbedRow(row, w, i)
		ops.Dense(n, w.Rows, w, row, 1, w.Cols, i, i+1)
		v := (q + n[i]) - float32(2*d[i])
		if metric == nearest.Cosine {
			v = float32(d[i]*reciprocal(n[i])) * reciprocal(q)
		}
		out = append(out, nearest.Row{ID: i, Value: v})
	}
	slices.SortStableFunc(out, func(a, b nearest.Row) int {
		switch {
		case a.Value == b.Value:
			return 0
		case (a.Value < b.Value) == (metric == nearest.Euclidean):
			return -1
		}
		return 1
	})
	return out
}

func reciprocal(square float32) float32 {
	if square == 0 {
		return 0
	}
	return 1 / float32(math.Sqrt(float64(square)))
}

// Every implementation, metric, type, k and number of threads gives the rows and
// the bits of the definition.
func TestSearch(t *testing.T) {
	for _, dtype := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16, kernels.I8} {
		for _, shape := range [][2]int{{1, 1}, {3, 33}, {300, 64}, {531, 40}} {
			w := randomTable(uint64(shape[0]), shape[0], shape[1], dtype)
			queries := [][]float32{make([]float32, w.Cols), make([]float32, w.Cols), make([]float32, w.Cols)}
			ref.New().EmbedRow(queries[0], w, w.Rows/2)
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range queries[1] {
				queries[1][i] = float32(rng.NormFloat64())
			} // and the vector of zeros, equally far in angle from every row
			var tables []*nearest.Table
			for _, ops := range cpu.Implementations() {
				for _, threads := range []int{1, 3} {
					table, err := nearest.New(w, ops, nearest.Threads(threads, nil))
					require.NoError(t, err)
					tables = append(tables, table)
				}
			}
			for _, metric := range []nearest.Metric{nearest.Euclidean, nearest.Cosine} {
				for _, z := range queries {
					want := naive(w, z, metric)
					for i, table := range tables {
						for _, k := range []int{1, 2, 9, w.Rows, w.Rows + 5} {
							got, err := table.Search(z, metric, k)
							require.NoError(t, err)
							require.Equal(t, want[:min(k, w.Rows)], got, "%v %v %v, table %d", dtype, shape, metric, i)
						}
					}
				}
			}
		}
	}
}

// A row is nearest to itself, or to an equal one before it.
func TestOwnRow(t *testing.T) {
	for _, dtype := range []kernels.DType{kernels.F32, kernels.F16, kernels.BF16, kernels.I8} {
		w := randomTable(5, 60, 96, dtype)
		table, err := nearest.New(w, cpu.New(), nearest.Threads(2, nil))
		require.NoError(t, err)
		for i := range w.Rows {
			z := make([]float32, w.Cols)
			cpu.New().EmbedRow(z, w, i)
			for _, metric := range []nearest.Metric{nearest.Euclidean, nearest.Cosine} {
				got, err := table.Search(z, metric, 1)
				require.NoError(t, err)
				require.Equal(t, i-i/7*7*b2i(i%7 == 0), got[0].ID)
			}
		}
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestAssign(t *testing.T) {
	w := randomTable(9, 700, 48, kernels.F32)
	for _, ops := range cpu.Implementations() {
		table, err := nearest.New(w, ops, nearest.Threads(3, nil))
		require.NoError(t, err)
		for _, n := range []int{0, 1, 15, 16, 17, 50} {
			x := make([]float32, n*w.Cols)
			rng := rand.New(rand.NewPCG(uint64(n), 2))
			for i := range x {
				x[i] = float32(rng.NormFloat64())
			}
			got, want := make([]int, n), make([]int, n)
			require.NoError(t, table.Assign(got, x))
			for m := range want {
				want[m] = naive(w, x[m*w.Cols:(m+1)*w.Cols], nearest.Euclidean)[0].ID
			}
			require.Equal(t, want, got)
		}
		require.ErrorContains(t, table.Assign(make([]int, 2), make([]float32, 5)), "5 elements for 2 vectors, want 96, 48 each")
	}
}

func TestErrors(t *testing.T) {
	w := &kernels.Dense{Rows: 3, Cols: 2, Type: kernels.F32, Data: make([]byte, 24)}
	put := func(i int, v float32) { binary.LittleEndian.PutUint32(w.Data[4*i:], math.Float32bits(v)) }
	put(2, 3e19)
	_, err := nearest.New(w, ref.New(), nearest.Threads(2, nil))
	require.ErrorContains(t, err, "squared length of row 1 is +Inf, want a finite number")
	put(2, 1e19)
	table, err := nearest.New(w, ref.New(), nearest.Threads(2, nil))
	require.NoError(t, err)
	nan := float32(math.NaN())
	for want, call := range map[string]func() error{
		"k is 0, want at least 1":                  func() error { _, err := table.Search(make([]float32, 2), nearest.Cosine, 0); return err },
		"a vector of 3 elements, want 2":           func() error { _, err := table.Search(make([]float32, 3), nearest.Cosine, 1); return err },
		"metric 0, want 1":                         func() error { _, err := table.Search(make([]float32, 2), 0, 1); return err },
		"squared length of the vector is NaN":      func() error { _, err := table.Search([]float32{nan, 0}, nearest.Cosine, 1); return err },
		"value of row 1 is +Inf":                   func() error { _, err := table.Search([]float32{-1.8e19, 0}, nearest.Euclidean, 1); return err },
		"vectors 0 to 0: the distance to row 1 is": func() error { return table.Assign([]int{0}, []float32{-1.8e19, 0}) },
	} {
		require.ErrorContains(t, call(), want)
	}
	_, err = nearest.ParseMetric("manhattan")
	require.EqualError(t, err, `metric "manhattan", want euclidean or cosine`)
	m, err := nearest.ParseMetric("cosine")
	require.NoError(t, err)
	require.Equal(t, nearest.Cosine, m)
}

// Threads covers every element once and returns the first error by place.
func TestThreads(t *testing.T) {
	for _, threads := range []int{0, 1, 2, 5} {
		for _, n := range []int{0, 1, 2, 7, 100, 1000} {
			seen := make([]atomic.Int32, n)
			require.NoError(t, nearest.Threads(threads, nil)(n, func(lo, hi int) error {
				for i := lo; i < hi; i++ {
					seen[i].Add(1)
				}
				return nil
			}))
			for i := range seen {
				require.EqualValues(t, 1, seen[i].Load())
			}
		}
	}
	err := nearest.Threads(4, nil)(1000, func(lo, hi int) error { return fmt.Errorf("from %d", lo) })
	require.EqualError(t, err, "from 0")
	stop := errors.New("guarded")
	require.Equal(t, stop, nearest.Threads(2, func(func() error) error { return stop })(10, nil))
}
