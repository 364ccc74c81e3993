package optest

import (
	"testing"
)

// dotInt16 compares with sums in 64 bits.
func (c *comparison) dotInt16(t *testing.T) {
	for _, cols := range []int{32, 64, 96, 1024, 2560} {
		for _, rows := range []int{1, 2, 5} {
			for _, extreme := range []bool{false, true} {
				a := new(arena)
				r := random(uint64(cols + rows))
				limit := min(32767, (1<<31-1)/(127*cols))
				w, x := int8s(a, rows*cols), make([]int16, cols)
				for i := range w {
					w[i] = int8(r.IntN(255) - 127)
					if extreme {
						w[i] = -127
					}
				}
				for i := range x {
					x[i] = int16(r.IntN(2*limit+1) - limit)
					if extreme {
						x[i] = int16(limit)
					}
				}
				got := make([]int32, rows)
				c.impl.DotInt16(got, w, x, 0, rows/2)
				c.impl.DotInt16(got, w, x, rows/2, rows)
				for i := range got {
					want := int64(0)
					for j, v := range x {
						want += int64(w[i*cols+j]) * int64(v)
					}
					if int64(got[i]) != want {
						t.Fatalf("DotInt16, row %d of %d x %d: %d, want %d", i, rows, cols, got[i], want)
					}
				}
				a.free()
			}
		}
	}
}
