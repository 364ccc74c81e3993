package torch

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// dtypesBySize are classes of storages whose elements have 1, 2, 4, 8 bytes.
var dtypesBySize = map[int]string{1: "ByteStorage", 2: "BFloat16Storage", 4: "FloatStorage", 8: "LongStorage"}

// plainView copies the elements of a view in the most obvious way.
func plainView(storage []byte, item, offset int, shape, stride []int) []byte {
	var out []byte
	index := make([]int, len(shape))
	if slices.Contains(shape, 0) {
		return nil
	}
	for {
		at := offset
		for i, x := range index {
			at += x * stride[i]
		}
		out = append(out, storage[at*item:][:item]...)
		i := len(index) - 1
		for ; i >= 0; i-- {
			if index[i]++; index[i] < shape[i] {
				break
			}
			index[i] = 0
		}
		if i < 0 {
			return out
		}
	}
}

// Every view that fits its storage reads as its elements one by one, whole and
// from any byte to any other.
func TestViewsReadAsTheirElements(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		item := rapid.SampledFrom([]int{1, 2, 4, 8}).Draw(t, "item")
		rank := rapid.IntRange(0, 4).Draw(t, "rank")
		shape, stride := make([]int, rank), make([]int, rank)
		// A contiguous array in a random order of dimensions, then a slice of it.
		order := rapid.Permutation(seq(rank)).Draw(t, "order")
		step := 1
		for _, d := range order {
			full := rapid.IntRange(1, 7).Draw(t, "full")
			by := rapid.IntRange(1, 3).Draw(t, "by")
			shape[d], stride[d] = rapid.IntRange(0, full).Draw(t, "n"), step*by
			step *= full * by
		}
		offset := rapid.IntRange(0, 9).Draw(t, "offset")
		storage := data("0", (step+offset)*item)
		file := fileOf(dict(str("w"), viewOf(storageID(dtypesBySize[item], "0", step+offset), offset, ints(shape...), ints(stride...))), storage)
		r, err := openBytes(file)
		require.NoError(t, err)
		tn := r.Tensors()[0]
		want := plainView([]byte(storage.data), item, offset, shape, stride)
		require.Equal(t, int64(len(want)), tn.Size)
		got := make([]byte, len(want))
		_, err = tn.ReadAt(got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
		lo := rapid.IntRange(0, len(want)).Draw(t, "lo")
		hi := rapid.IntRange(lo, len(want)).Draw(t, "hi")
		_, err = tn.ReadAt(got[:hi-lo], int64(lo))
		if lo == len(want) && err == io.EOF {
			err = nil
		}
		require.NoError(t, err)
		require.True(t, bytes.Equal(want[lo:hi], got[:hi-lo]))
	})
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// counting counts what is read.
type counting struct {
	r     io.ReaderAt
	calls int
	bytes int64
}

func (c *counting) ReadAt(p []byte, off int64) (int, error) {
	c.calls++
	c.bytes += int64(len(p))
	return c.r.ReadAt(p, off)
}

// Views larger than a window: a transposed matrix, columns of a wide one, one
// element of each page. What is read stays near what is asked for.
func TestLargeViews(t *testing.T) {
	const rows, cols = 600, 1500
	for _, c := range []struct {
		name          string
		shape, stride []int
		offset        int
		atMost        int64 // bytes read for all of it
	}{
		{"transposed", []int{cols, rows}, []int{1, cols}, 0, 2 * 2 * rows * cols},
		{"columns", []int{rows, 2}, []int{cols, 1}, 7, 2 * rows * cols},
		{"every hundredth row", []int{6, cols}, []int{100 * cols, 1}, 0, 2 * 6 * cols},
		{"few elements far apart", []int{6}, []int{100 * cols}, 3, 2 * 6},
		{"rows backwards in three dimensions", []int{3, 200, 100}, []int{100, cols, 1}, 0, 2 * 2 * rows * cols},
	} {
		t.Run(c.name, func(t *testing.T) {
			storage := data("0", 2*rows*cols)
			file := fileOf(dict(str("w"), viewOf(storageID("BFloat16Storage", "0", rows*cols), c.offset, ints(c.shape...), ints(c.stride...))), storage)
			count := &counting{r: bytes.NewReader(file)}
			r, err := New("test.pt", count, int64(len(file)))
			require.NoError(t, err)
			opening := count.bytes
			require.Less(t, opening, int64(2000), "opening reads no tensor")
			tn := r.Tensors()[0]
			got := make([]byte, tn.Size)
			_, err = tn.ReadAt(got, 0)
			require.NoError(t, err)
			require.True(t, bytes.Equal(plainView([]byte(storage.data), 2, c.offset, c.shape, c.stride), got))
			require.LessOrEqual(t, count.bytes-opening, c.atMost)
		})
	}
}

// A repeated axis is read as it stands when it does not make more of the
// storage than there is.
func TestRepeatedAxis(t *testing.T) {
	six := storageID("ByteStorage", "0", 6)
	r := requireOpens(t, fileOf(dict(str("w"), viewOf(six, 1, ints(2, 3), ints(0, 2))), data("0", 6)))
	got := make([]byte, 6)
	_, err := r.Tensors()[0].ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, []byte{1, 3, 5, 1, 3, 5}, got)
}

// Opening a file with an optimizer reads nothing of it, and nothing of the
// model either.
func TestNothingIsReadEarly(t *testing.T) {
	const n = 100_000
	state := dict(num(0), dict(str("exp_avg"), floats("1", n)))
	file := fileOf(dict(str("model"), dict(str("w"), floats("0", n)), str("optimizer"), dict(str("state"), state)), data("0", 4*n), data("1", 4*n))
	count := &counting{r: bytes.NewReader(file)}
	r, err := New("test.pt", count, int64(len(file)))
	require.NoError(t, err)
	require.Len(t, r.Tensors(), 1)
	require.Empty(t, r.Config())
	require.NoError(t, readAll(r))
	require.Less(t, count.bytes, int64(4*n+4000))
}

func TestFileShrinks(t *testing.T) {
	file := fileOf(one, data("0", 8))
	r, err := New("test.pt", bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	tn := r.Tensors()[0]
	short, err := New("test.pt", &shrunk{bytes.NewReader(file), tn.Offset() + 4}, int64(len(file)))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Nil(t, short)
	s := &shrunk{bytes.NewReader(file), int64(len(file))}
	r, err = New("test.pt", s, int64(len(file)))
	require.NoError(t, err)
	s.size = tn.Offset() + 4
	_, err = r.Tensors()[0].ReadAt(make([]byte, 8), 0)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.True(t, strings.HasPrefix(err.Error(), "test.pt: offset "), err)
}

// A shrunk file ends at size.
type shrunk struct {
	r    io.ReaderAt
	size int64
}

func (s *shrunk) ReadAt(p []byte, off int64) (int, error) {
	if off >= s.size {
		return 0, io.EOF
	}
	if int64(len(p)) > s.size-off {
		n, _ := s.r.ReadAt(p[:s.size-off], off)
		return n, io.EOF
	}
	return s.r.ReadAt(p, off)
}
