package cuda

import (
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// The tiles of src/ternary.cuh.
const (
	tileRows  = 16
	tileBytes = 512
)

// allocator hands out device memory: an arena, or a count of bytes.
type allocator interface {
	Alloc(n int64) (driver.Ptr, error)
}

// counter is an allocator that has no memory and counts what an arena of 256-byte pieces would need.
type counter struct{ pieces []int64 }

func (c *counter) Alloc(n int64) (driver.Ptr, error) {
	c.pieces = append(c.pieces, n)
	return 0, nil
}

// ternary is a matrix on the device, in the tiles of src/ternary.cuh. Rows are padded to whole tiles, with scales and
// biases of zero.
type ternary struct {
	rows, cols int
	group      int // columns of a scale's group, 0 without
	tiles      driver.Ptr
	scales     driver.Ptr // one a row, or one a row and group
	bias       driver.Ptr // or 0
}

func padRows(rows int) int { return (rows + tileRows - 1) / tileRows * tileRows }

// columns is the number of tiles along a row.
func (w *ternary) columns() int { return kernels.PadCols(w.cols) / kernels.TileCols }

func (w *ternary) groups() int {
	if w.group == 0 {
		return 1
	}
	return (w.cols + w.group - 1) / w.group
}

// followed returns w and next as one matrix, if next lies behind w.
func (w *ternary) followed(next *ternary) (both ternary, ok bool) {
	lines := padRows(w.rows)
	both = *w
	both.rows += next.rows
	ok = lines == w.rows && w.cols == next.cols && w.group == next.group && next.tiles == w.tiles+driver.Ptr(lines/tileRows*w.columns()*tileBytes) &&
		next.scales == w.scales+driver.Ptr(4*lines*w.groups()) && (w.bias == 0 && next.bias == 0 || w.bias != 0 && next.bias == w.bias+driver.Ptr(4*lines))
	return both, ok
}

// allocTernary makes room for matrices of one number of columns that follow each other on the device, so that they can
// be used as one.
func allocTernary(a allocator, to []*ternary, from []*kernels.Ternary) error {
	var tiles, scales, biases int64
	bias := false
	for i, w := range from {
		*to[i] = ternary{rows: w.Rows, cols: w.Cols, group: w.Group}
		tiles += int64(padRows(w.Rows)/tileRows) * int64(to[i].columns()) * tileBytes
		scales += 4 * int64(padRows(w.Rows)) * int64(to[i].groups())
		biases += 4 * int64(padRows(w.Rows))
		bias = bias || w.Bias != nil
	}
	tp, err := a.Alloc(tiles)
	if err != nil {
		return err
	}
	sp, err := a.Alloc(scales)
	if err != nil {
		return err
	}
	var bp driver.Ptr
	if bias {
		if bp, err = a.Alloc(biases); err != nil {
			return err
		}
	}
	for i, w := range from {
		to[i].tiles, to[i].scales = tp, sp
		if w.Bias != nil {
			to[i].bias = bp
		}
		tp += driver.Ptr(padRows(w.Rows) / tileRows * to[i].columns() * tileBytes)
		sp += driver.Ptr(4 * padRows(w.Rows) * to[i].groups())
		if bias {
			bp += driver.Ptr(4 * padRows(w.Rows))
		}
	}
	return nil
}

// uploadTernary copies a matrix and packs its tiles on the device.
func (d *Device) uploadTernary(to *ternary, from *kernels.Ternary) {
	columns := to.columns()
	quads := (from.Rows + kernels.TileRows - 1) / kernels.TileRows
	quadBytes := columns * kernels.TileBytes
	step := max(stagingBytes/quadBytes/4*4, 4) // whole tiles of 16 rows
	for q := 0; q < quads && d.err == nil; q += step {
		n := min(step, quads-q)
		host, raw := d.up.next()
		copy(host.Bytes(), from.Tiles[q*quadBytes:(q+n)*quadBytes])
		d.fail(d.ctx.CopyToDevice(raw, host, 0, n*quadBytes, d.stream))
		rows := (n + 3) / 4
		at := to.tiles + driver.Ptr(q/4*columns*tileBytes)
		d.args.Reset().Ptr(at).Ptr(raw).U32(uint32(rows)).U32(uint32(n)).U32(uint32(columns))
		d.launch(packTernary, spread(rows*columns*32), 1, 256, 0)
		d.up.sent()
	}
	scales := make([]float32, padRows(from.Rows)*to.groups())
	if len(from.Scales) == 1 {
		for i := range from.Rows {
			scales[i] = from.Scales[0]
		}
	} else {
		copy(scales, from.Scales)
	}
	d.up.floats(to.scales, scales)
	if to.bias != 0 {
		bias := make([]float32, padRows(from.Rows))
		copy(bias, from.Bias)
		d.up.floats(to.bias, bias)
	}
}

// spread is a number of blocks of 256 threads for n independent elements: enough to fill a GPU, and the kernel's loop
// does the rest.
func spread(n int) int { return max(1, min((n+255)/256, 4096)) }

// dense is a matrix on the device, in the chunks of src/dense.cuh.
type dense struct {
	rows, cols   int
	dtype        kernels.DType
	data, scales driver.Ptr
}

// chunkBytes is what the 32 lanes of a warp load at once.
const chunkBytes = 512

func rowBytes(w *kernels.Dense) int {
	count := chunkBytes / w.Type.Size()
	return (w.Cols + count - 1) / count * chunkBytes
}

func allocDense(a allocator, w *kernels.Dense) (to dense, err error) {
	to = dense{rows: w.Rows, cols: w.Cols, dtype: w.Type}
	if to.data, err = a.Alloc(int64(w.Rows) * int64(rowBytes(w))); err != nil {
		return to, err
	}
	if w.Type == kernels.I8 {
		to.scales, err = a.Alloc(4 * int64(w.Rows))
	}
	return to, err
}

// uploadDense copies a matrix and packs its rows on the device.
func (d *Device) uploadDense(to *dense, from *kernels.Dense) {
	size := from.Type.Size()
	line := from.Cols * size
	step := max(stagingBytes/line, 1)
	for row := 0; row < from.Rows && d.err == nil; row += step {
		n := min(step, from.Rows-row)
		host, raw := d.up.next()
		copy(host.Bytes(), from.Data[row*line:(row+n)*line])
		d.fail(d.ctx.CopyToDevice(raw, host, 0, n*line, d.stream))
		at := to.data + driver.Ptr(row*rowBytes(from))
		d.args.Reset().Ptr(at).Ptr(raw).U32(uint32(n)).U32(uint32(from.Cols)).U32(uint32(size))
		d.launch(packDense, spread(n*rowBytes(from)/16), 1, 256, 0)
		d.up.sent()
	}
	if to.scales != 0 {
		d.up.floats(to.scales, from.Scales)
	}
}

// norm is a normalization on the device; the zero value takes a vector as it is.
type norm struct {
	kind         kernels.NormKind
	weight, bias driver.Ptr
	eps          float32
}

func allocNorm(a allocator, n *kernels.Norm) (to norm, err error) {
	if n == nil {
		return norm{}, nil
	}
	to = norm{kind: n.Kind, eps: n.Eps}
	if to.weight, err = a.Alloc(4 * int64(len(n.Weight))); err != nil {
		return to, err
	}
	if n.Bias != nil {
		to.bias, err = a.Alloc(4 * int64(len(n.Bias)))
	}
	return to, err
}

func (d *Device) uploadNorm(to norm, from *kernels.Norm) {
	if from != nil {
		d.up.floats(to.weight, from.Weight)
		d.up.floats(to.bias, from.Bias)
	}
}
