package cuda

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/kernels/cuda/driver"
)

//go:embed ptx/*.ptx
var compiled embed.FS

// kernel is an index into table.
type kernel uint8

const (
	normRows kernel = iota
	quantizeRows
	rotateHeads
	storePage
	storePages
	storePageF16
	storePageInt8
	storePageInt4
	gateUnits
	addUnits
	denseF32x1
	denseF32x4
	denseF16x1
	denseF16x4
	denseBF16x1
	denseBF16x4
	denseI8x1
	denseI8x4
	embedRows
	packDense
	packTernary
	ternaryS8x8
	ternaryS8x8Grouped
	ternaryS8x128
	ternaryS8x128Grouped
	ternaryF32x1
	ternaryF32x4
	attendRowsF32
	attendRowsF16
	attendRowsInt8
	attendRowsInt4
	attendChunksF16
	attendChunksInt8
	attendChunksInt4
	mergeChunks
	attendTiles64
	attendTiles128
	attendSmall64
	attendSmall128
	multiplyParts64
	multiplyParts128
	multiplyParts160
	attendNear64
	attendNear128
	attendGroups64
	attendGroups128
	beginStep
	placeVector
	decodeStepLarge
	decodeStepMedium
	decodeStepSmall
	adjustLogits
	weighCandidates
	chooseToken
	advance
	numKernels
)

// table gives each kernel its PTX file and its parameters: p an address, u a uint32, U a uint64, f a float32.
var table = [numKernels]struct{ name, file, params string }{
	normRows:             {"norm_rows", "vectors", "ppppuuuufpu"},
	quantizeRows:         {"quantize_rows", "vectors", "pppppuuuufpu"},
	rotateHeads:          {"rotate_heads", "vectors", "pppuuu"},
	storePage:            {"store_page", "vectors", "pppppUuuu"},
	storePages:           {"store_pages", "vectors", "pppppUuuu"},
	storePageF16:         {"store_page_f16", "pages", "pppppUuuupu"},
	storePageInt8:        {"store_page_int8", "pages", "pppppUuuupu"},
	storePageInt4:        {"store_page_int4", "pages", "pppppUuuupu"},
	gateUnits:            {"gate_units", "vectors", "pppuu"},
	addUnits:             {"add_units", "vectors", "ppu"},
	denseF32x1:           {"dense_f32_1", "dense_f32", "ppppuuuuu"},
	denseF32x4:           {"dense_f32_4", "dense_f32", "ppppuuuuu"},
	denseF16x1:           {"dense_f16_1", "dense_f16", "ppppuuuuu"},
	denseF16x4:           {"dense_f16_4", "dense_f16", "ppppuuuuu"},
	denseBF16x1:          {"dense_bf16_1", "dense_bf16", "ppppuuuuu"},
	denseBF16x4:          {"dense_bf16_4", "dense_bf16", "ppppuuuuu"},
	denseI8x1:            {"dense_i8_1", "dense_i8", "ppppuuuuu"},
	denseI8x4:            {"dense_i8_4", "dense_i8", "ppppuuuuu"},
	embedRows:            {"embed_rows", "dense", "ppppuuu"},
	packDense:            {"pack_dense", "dense", "ppuuu"},
	packTernary:          {"pack_ternary", "ternary", "ppuuu"},
	ternaryS8x8:          {"ternary_s8_8", "ternary", "ppppppuuuuuu"},
	ternaryS8x8Grouped:   {"ternary_s8_8_grouped", "ternary", "ppppppuuuuuu"},
	ternaryS8x128:        {"ternary_s8_128", "ternary_many", "ppppppuuuuuu"},
	ternaryS8x128Grouped: {"ternary_s8_128_grouped", "ternary_many", "ppppppuuuuuu"},
	ternaryF32x1:         {"ternary_f32_1", "ternary_f32", "pppppuuuuuu"},
	ternaryF32x4:         {"ternary_f32_4", "ternary_f32", "pppppuuuuuu"},
	attendRowsF32:        {"attend_rows_f32", "attention", "pppppUuuuuf"},
	attendRowsF16:        {"attend_rows_f16", "attention_formats", "pppppUuuuuf"},
	attendRowsInt8:       {"attend_rows_int8", "attention_formats", "pppppUuuuuf"},
	attendRowsInt4:       {"attend_rows_int4", "attention_formats", "pppppUuuuuf"},
	attendChunksF16:      {"attend_chunks_f16", "attention_formats", "pppppUuuuufu"},
	attendChunksInt8:     {"attend_chunks_int8", "attention_formats", "pppppUuuuufu"},
	attendChunksInt4:     {"attend_chunks_int4", "attention_formats", "pppppUuuuufu"},
	mergeChunks:          {"merge_chunks", "attention_formats", "pppuuu"},
	attendTiles64:        {"attend_tiles_64", "prefill", "pppppUuuuf"},
	attendTiles128:       {"attend_tiles_128", "prefill", "pppppUuuuf"},
	attendSmall64:        {"attend_small_64", "prefill", "pppppUuuuf"},
	attendSmall128:       {"attend_small_128", "prefill", "pppppUuuuf"},
	multiplyParts64:      {"multiply_parts_64", "hopper", "ppppppuuuuuu"},
	multiplyParts128:     {"multiply_parts_128", "hopper", "ppppppuuuuuu"},
	multiplyParts160:     {"multiply_parts_160", "hopper", "ppppppuuuuuu"},
	attendNear64:         {"attend_near_64", "fast", "pppppUuuuf"},
	attendNear128:        {"attend_near_128", "fast", "pppppUuuuf"},
	attendGroups64:       {"attend_groups_64", "fast_hopper", "pppppUuuuf"},
	attendGroups128:      {"attend_groups_128", "fast_hopper", "pppppUuuuf"},
	beginStep:            {"begin_step", "decode", "pppUuuuuppuu"},
	placeVector:          {"place_vector", "decode", "ppu"},
	decodeStepLarge:      {"decode_step_large", "step_large", "pppupppppUuuuuuufuuup"},
	decodeStepMedium:     {"decode_step_medium", "step_medium", "pppupppppUuuuuuufuuup"},
	decodeStepSmall:      {"decode_step_small", "step_small", "pppupppppUuuuuuufuuup"},
	adjustLogits:         {"adjust_logits", "sample", "pppupppu"},
	weighCandidates:      {"weigh_candidates", "sample", "pppu"},
	chooseToken:          {"choose_token", "sample", "pppuppp"},
	advance:              {"advance", "decode", "pppp"},
}

// paramBytes is the length of a packed parameter list, each parameter aligned to its size.
func paramBytes(params string) (n int) {
	for _, p := range params {
		size := 4
		if p == 'p' || p == 'U' {
			size = 8
		}
		n = (n+size-1)/size*size + size
	}
	return n
}

// need compiles the files of kernels where that is still to be done. On a newer device, a file whose name with _sm90 exists is that one.
func (d *Device) need(wanted ...kernel) {
	if d.err != nil {
		return
	}
	var files, texts []string
	for _, k := range wanted {
		file := table[k].file
		if d.fn[k] != nil || slices.Contains(files, file) {
			continue
		}
		text, err := compiled.ReadFile("ptx/" + file + "_sm90.ptx")
		if err != nil || !d.newer {
			if text, err = compiled.ReadFile("ptx/" + file + ".ptx"); err != nil {
				d.fail(err)
				return
			}
		}
		files, texts = append(files, file), append(texts, string(text))
	}
	if len(files) == 0 {
		return
	}
	modules, err := d.ctx.LoadModules(texts...)
	if err != nil {
		d.fail(fmt.Errorf("kernels %s: %w", strings.Join(files, ", "), err))
		return
	}
	for k := range numKernels {
		i := slices.Index(files, table[k].file)
		if i < 0 {
			continue
		}
		f, err := modules[i].Function(table[k].name)
		if n := sharedOf[k]; err == nil && n > 0 && n <= d.dev.Info.SharedPerBlockOptin {
			err = f.SetMaxDynamicShared(n)
		}
		if err != nil {
			d.fail(err)
			return
		}
		d.fn[k] = f
	}
}

// sharedOf is the dynamic shared memory of kernels that use more than a launch may by itself, and always the same.
var sharedOf = map[kernel]int{
	ternaryS8x128: ringBytes(128), ternaryS8x128Grouped: ringBytes(128),
	attendTiles64: tileShared(64), attendTiles128: tileShared(128), attendSmall64: smallShared(64), attendSmall128: smallShared(128),
	attendNear64: nearShared(64), attendNear128: nearShared(128), attendGroups64: nearShared(64), attendGroups128: nearShared(128),
	multiplyParts64: partBytes(64), multiplyParts128: partBytes(128), multiplyParts160: partBytes(160),
}

// launch puts a kernel with the parameters in d.args into the stream. The first error stays, and nothing is launched
// after it: take it with d.took.
func (d *Device) launch(k kernel, x, y, threads, shared int) {
	if d.err != nil {
		return
	}
	if d.args.Len() != d.bytes[k] {
		panic(fmt.Sprintf("cuda: kernel %s has parameters of %d bytes, got %d", table[k].name, d.bytes[k], d.args.Len()))
	}
	if x == 0 || y == 0 {
		return
	}
	if d.need(k); d.err != nil {
		return
	}
	d.config = driver.LaunchConfig{Programmatic: d.dependent && k >= adjustLogits, Cooperative: k >= decodeStepLarge && k <= decodeStepSmall, Grid: [3]uint32{uint32(x), uint32(y), 1}, Block: [3]uint32{uint32(threads), 1, 1}, Shared: uint32(shared)}
	if d.profile != nil {
		d.config.Programmatic = false
		d.fail(d.profile.mark(d, k))
	}
	if err := d.ctx.Launch(d.fn[k], &d.config, d.stream, &d.args); err != nil {
		d.err = fmt.Errorf("kernel %s: %w", table[k].name, err)
	}
}

// fail keeps the first error.
func (d *Device) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

// took returns the first error since the last call.
func (d *Device) took() error {
	err := d.err
	d.err = nil
	return err
}
