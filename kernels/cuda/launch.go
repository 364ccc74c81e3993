package cuda

import (
	"math"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

// Methods of this file launch one kernel each. Rows are tokens, of n elements next to each other.

// ringBytes is the shared memory of multiply_s8 for so many tokens a block.
func ringBytes(tokens int) int { return 3 * tokens * kernels.TileCols }

// fewTokens is the most tokens for which weights are read again for every 8 of them rather than padded to 128.
const fewTokens = 32

// padTokens is the number of tokens of codes that multiply_s8 may read for m.
func padTokens(m int) int {
	if m <= fewTokens {
		return (m + 7) / 8 * 8
	}
	return (m + 127) / 128 * 128
}

// vectorThreads is enough threads for a vector of n elements.
func vectorThreads(n int) int { return min(max((n/8+31)/32*32, 32), 256) }

func (d *Device) norm(y, x driver.Ptr, rows, n int, w norm, site int) {
	d.normHeads(y, x, rows, 1, n, n, w, site)
}

// normHeads normalizes vectors of n elements, so many heads next to each other in rows that are ld apart.
func (d *Device) normHeads(y, x driver.Ptr, rows, heads, n, ld int, w norm, site int) {
	d.args.Reset().Ptr(y).Ptr(x).Ptr(w.weight).Ptr(w.bias).U32(uint32(n)).U32(uint32(heads)).U32(uint32(ld)).U32(uint32(w.kind)).F32(w.eps).Ptr(d.bad).U32(uint32(site))
	d.launch(normRows, rows*heads, 1, vectorThreads(n), 0)
}

// codes are quantized activations, as code_chunk of src/numerics.cuh orders them for padTokens tokens, and a maximum a token.
type codes struct {
	data, maxima driver.Ptr
}

func (d *Device) quantize(q codes, x driver.Ptr, rows, n int, w norm, site int) {
	warps := min((n+kernels.BlockLen-1)/kernels.BlockLen, 8)
	d.args.Reset().Ptr(q.data).Ptr(q.maxima).Ptr(x).Ptr(w.weight).Ptr(w.bias).U32(uint32(n)).U32(uint32(kernels.PadCols(n) / kernels.TileCols)).U32(uint32(padTokens(rows))).U32(uint32(w.kind)).F32(w.eps).Ptr(d.bad).U32(uint32(site))
	d.launch(quantizeRows, rows, 1, 32*warps, kernels.BlockLen*warps)
}

func (d *Device) rotate(x, table, positions driver.Ptr, rows, heads, dim, ld int) {
	d.args.Reset().Ptr(x).Ptr(table).Ptr(positions).U32(uint32(heads)).U32(uint32(dim / 2)).U32(uint32(ld))
	d.launch(rotateHeads, rows, 1, vectorThreads(heads*dim/2), 0)
}

// paging says where the pages of the rows of a batch are.
type paging struct {
	tables, starts, positions driver.Ptr
	tiles                     driver.Ptr // struct Tile of src/prefill.cu
	count                     int        // of tiles; none for attention by rows
	chunks                    int        // most chunks of a row
}

// store puts keys and values of a layer into its pages. What the format cannot hold is what readFault returns.
func (d *Device) store(f kernels.KVFormat, k, v driver.Ptr, p paging, offset uint64, layer, rows, heads, dim, ld int) {
	d.args.Reset().Ptr(k).Ptr(v).Ptr(p.tables).Ptr(p.starts).Ptr(p.positions).U64(offset).U32(uint32(heads)).U32(uint32(dim)).U32(uint32(ld))
	if f == kernels.KVF32 {
		d.launch(storePage, rows, 1, vectorThreads(heads*dim), 0)
		return
	}
	d.args.Ptr(d.fault).U32(uint32(layer))
	d.launch(storePageF16+kernel(f-kernels.KVF16), rows, 1, 256, 0)
}

// storeTiles is rotate, of the keys, and store for rows in tiles.
func (d *Device) storeTiles(k, v, table driver.Ptr, p paging, offset uint64, heads, dim, ld int) {
	d.args.Reset().Ptr(k).Ptr(v).Ptr(table).Ptr(p.tables).Ptr(p.tiles).U64(offset).U32(uint32(heads)).U32(uint32(dim)).U32(uint32(ld))
	d.launch(storePages, heads, 2*p.count, 256, 4*(kernels.PageLen+1)*dim)
}

// attendThreads is the number of threads of the kernels of src/attention.cuh: one for each position of a page, and no more than those that
// have an element of the sum.
func attendThreads(dim int) int { return max(kernels.PageLen, min((dim+31)/32*32, 256)) }

func (d *Device) attend(f kernels.KVFormat, out, q driver.Ptr, p paging, offset uint64, rows, heads, kvHeads, dim, ld int) {
	z := float32(1 / math.Sqrt(float64(dim)))
	d.args.Reset().Ptr(out).Ptr(q).Ptr(p.tables).Ptr(p.starts).Ptr(p.positions).U64(offset).U32(uint32(heads)).U32(uint32(kvHeads)).U32(uint32(dim)).U32(uint32(ld)).F32(z)
	d.launch(attendRowsF32+kernel(f-kernels.KVF32), heads, rows, attendThreads(dim), 8*dim)
}

// attendChunks is attend for rows of at most so many chunks, each of them by a block of its own, in a format other than f32. parts has
// dim + 2 floats for each row, chunk and head.
func (d *Device) attendChunks(f kernels.KVFormat, out, parts, q driver.Ptr, p paging, offset uint64, rows, chunks, heads, kvHeads, dim, ld int) {
	z := float32(1 / math.Sqrt(float64(dim)))
	d.args.Reset().Ptr(parts).Ptr(q).Ptr(p.tables).Ptr(p.starts).Ptr(p.positions).U64(offset).U32(uint32(heads)).U32(uint32(kvHeads)).U32(uint32(dim)).U32(uint32(ld)).F32(z).U32(uint32(chunks))
	d.launch(attendChunksF16+kernel(f-kernels.KVF16), rows*chunks, heads, attendThreads(dim), 4*dim)
	d.args.Reset().Ptr(out).Ptr(parts).Ptr(p.positions).U32(uint32(heads)).U32(uint32(dim)).U32(uint32(chunks))
	d.launch(mergeChunks, heads, rows, min((dim+31)/32*32, 256), 0)
}

// tileLen is the most positions of a tile.
const tileLen = 128

// tileShared is the shared memory of attend_tile.
func tileShared(dim int) int {
	return 4 * (2*tileLen*dim + 3*kernels.PageLen*tileLen + 4*tileLen)
}

// nearShared is the shared memory of attend_near.
func nearShared(dim int) int { return 1280*dim + 1024 }

// smallShared is the shared memory of attend_small.
func smallShared(dim int) int { return 4 * 3 * kernels.PageLen * dim }

// hasTiles reports whether attendTiles is there for a size of heads.
func (d *Device) hasTiles(dim int) bool {
	return (dim == 64 || dim == 128) && smallShared(dim) <= d.dev.Info.SharedPerBlockOptin
}

// hasNear reports whether attendTiles can be fast.
func (d *Device) hasNear(dim int) bool {
	return d.hasTiles(dim) && nearShared(dim) <= d.dev.Info.SharedPerBlockOptin
}

// attendTiles is rotate, of the queries, and attend for rows in tiles, or with near what src/fast.cu makes of it.
func (d *Device) attendTiles(out, q, table driver.Ptr, p paging, offset uint64, heads, kvHeads, dim, ld int, near bool) {
	k, shared, blocks := attendTiles64, tileShared(dim), p.count
	switch {
	case near && d.hopper:
		k, shared = attendGroups64, nearShared(dim)
	case near:
		k, shared = attendNear64, nearShared(dim)
	case d.portable || shared > d.dev.Info.SharedPerBlockOptin:
		k, shared, blocks = attendSmall64, smallShared(dim), 2*p.count
	}
	if dim == 128 {
		k++
	}
	z := float32(1 / math.Sqrt(float64(dim)))
	d.args.Reset().Ptr(out).Ptr(q).Ptr(table).Ptr(p.tables).Ptr(p.tiles).U64(offset).U32(uint32(heads)).U32(uint32(kvHeads)).U32(uint32(ld)).F32(z)
	d.launch(k, heads, blocks, 256, shared)
}

func (d *Device) gate(h, g, u driver.Ptr, n int, act kernels.Activation) {
	relu2 := uint32(0)
	if act == kernels.ReLU2 {
		relu2 = 1
	}
	d.args.Reset().Ptr(h).Ptr(g).Ptr(u).U32(uint32(n)).U32(relu2)
	d.launch(gateUnits, spread(n), 1, 256, 0)
}

func (d *Device) add(x, y driver.Ptr, n int) {
	d.args.Reset().Ptr(x).Ptr(y).U32(uint32(n))
	d.launch(addUnits, spread(n), 1, 256, 0)
}

func (d *Device) embed(y driver.Ptr, w *dense, indices driver.Ptr, rows int) {
	d.args.Reset().Ptr(y).Ptr(w.data).Ptr(w.scales).Ptr(indices).U32(uint32(w.rows)).U32(uint32(w.cols)).U32(uint32(w.dtype))
	d.launch(embedRows, rows, 1, 128, 0)
}

var denseKernels = map[kernels.DType][2]kernel{
	kernels.F32: {denseF32x1, denseF32x4}, kernels.F16: {denseF16x1, denseF16x4},
	kernels.BF16: {denseBF16x1, denseBF16x4}, kernels.I8: {denseI8x1, denseI8x4},
}

// multiplyDense computes y[token*ldy+row] for m tokens, ldx elements from one to the next.
func (d *Device) multiplyDense(y driver.Ptr, ldy int, w *dense, x driver.Ptr, m, ldx int) {
	k, groups := denseKernels[w.dtype][0], m
	if m > 1 {
		k, groups = denseKernels[w.dtype][1], (m+3)/4
	}
	d.args.Reset().Ptr(y).Ptr(w.data).Ptr(w.scales).Ptr(x).U32(uint32(w.rows)).U32(uint32(w.cols)).U32(uint32(m)).U32(uint32(ldx)).U32(uint32(ldy))
	perBlock := 2 * 8 // rows of a warp, as src/dense_*.cu say, and warps
	if k == denseI8x1 {
		perBlock = 4 * 8
	}
	d.launch(k, (w.rows+perBlock-1)/perBlock, groups, 256, 0)
}

// multiplyInt8 computes y[token*ldy+row] from codes of w.cols columns.
func (d *Device) multiplyInt8(y driver.Ptr, ldy int, w *ternary, q codes, m int) {
	if d.hasParts(w, m, ldy) {
		d.multiplyParts(partStore, y, ldy, w, w.rows, q, m)
		return
	}
	k, rows, tokens, threads := ternaryS8x8, 32, 8, 64
	if m > fewTokens {
		k, rows, tokens, threads = ternaryS8x128, 128, 128, 256
	}
	if w.group > 0 {
		k++
	}
	d.args.Reset().Ptr(y).Ptr(w.tiles).Ptr(w.scales).Ptr(w.bias).Ptr(q.data).Ptr(q.maxima).U32(uint32(w.rows)).U32(uint32(w.columns())).U32(uint32(m)).U32(uint32(padTokens(m))).U32(uint32(ldy)).U32(uint32(w.group / kernels.TileCols))
	d.launch(k, (w.rows+rows-1)/rows, (m+tokens-1)/tokens, threads, ringBytes(tokens))
}

// What becomes of a product, as src/hopper.cu numbers it.
const (
	partStore = iota
	partAdd   // to what is there
	partSiLU  // of the gate and the values, whose rows follow those of the gate
	partReLU2
)

// partBytes is the shared memory of multiply_parts for so many tokens.
func partBytes(tokens int) int {
	stages := 8
	if tokens > 128 {
		stages = 7
	}
	return stages*(tokens*kernels.TileCols+16*tileBytes) + 25<<10
}

// hasParts reports whether multiplyParts can multiply m tokens, results ldy apart.
func (d *Device) hasParts(w *ternary, m, ldy int) bool {
	return d.hopper && m > fewTokens && w.group == 0 && w.rows%4 == 0 && ldy%4 == 0
}

// multiplyParts is multiplyInt8 with something done to the product; of a gate and its values, rows is the number of each.
func (d *Device) multiplyParts(mode int, y driver.Ptr, ldy int, w *ternary, rows int, q codes, m int) {
	high := 256 // rows of a part
	if mode >= partSiLU {
		high = 128
	}
	// The size that is done first, if time goes with the tokens of a part and a few for its beginning and end.
	best, least, blocks := multiplyParts64, math.MaxInt, 0
	for i, tokens := range []int{64, 128, 160} {
		if d.part > 0 && d.part != tokens {
			continue
		}
		parts := ((rows + high - 1) / high) * ((m + tokens - 1) / tokens)
		turns := (parts + d.dev.Info.SMs - 1) / d.dev.Info.SMs
		if time := turns * (tokens + 16); time <= least {
			best, least, blocks = multiplyParts64+kernel(i), time, min(parts, d.dev.Info.SMs)
		}
	}
	d.args.Reset().Ptr(y).Ptr(w.tiles).Ptr(w.scales).Ptr(w.bias).Ptr(q.data).Ptr(q.maxima).U32(uint32(rows)).U32(uint32(w.columns())).U32(uint32(m)).U32(uint32(padTokens(m))).U32(uint32(ldy)).U32(uint32(mode))
	d.launch(best, blocks, 1, 384, partBytes([]int{64, 128, 160}[best-multiplyParts64]))
}

// multiplyFloat is multiplyInt8 for activations that stay f32.
func (d *Device) multiplyFloat(y driver.Ptr, ldy int, w *ternary, x driver.Ptr, m, ldx int) {
	k, groups := ternaryF32x1, m
	if m > 1 {
		k, groups = ternaryF32x4, (m+3)/4
	}
	d.args.Reset().Ptr(y).Ptr(w.tiles).Ptr(w.scales).Ptr(w.bias).Ptr(x).U32(uint32(w.rows)).U32(uint32(w.cols)).U32(uint32(m)).U32(uint32(ldx)).U32(uint32(ldy)).U32(uint32(w.group / kernels.TileCols))
	d.launch(k, (padRows(w.rows)/tileRows+7)/8, groups, 256, 0)
}
