package conformance

import "math"

func payloads() []generator {
	const q, up = "layers.0.q.weight", "layers.0.up.weight"
	var list []generator
	add := func(name, class, comment string, f *file, change func(f *file), rules ...string) {
		list = append(list, payload(name, class, comment, f, change, rules...))
	}
	set8 := func(name string, at int, v byte) func(f *file) { return func(f *file) { f.tensor(name).data[at] = v } }
	set16 := func(name string, at int, v uint16) func(f *file) {
		return func(f *file) { le.PutUint16(f.tensor(name).data[at:], v) }
	}
	set32 := func(name string, at int, v uint32) func(f *file) {
		return func(f *file) { le.PutUint32(f.tensor(name).data[at:], v) }
	}
	scale := func(name string, i int, v float64) func(f *file) {
		return func(f *file) { le.PutUint32(f.tensor(name).scales[4*i:], math.Float32bits(float32(v))) }
	}
	with := func(change func(s *shape)) *file {
		s := small()
		s.hidden, s.table = 130, bf16
		change(&s)
		return s.file()
	}
	stored := func(encoding, rule, granularity uint16) *file {
		return with(func(s *shape) { s.encoding, s.rule, s.granularity = encoding, rule, granularity })
	}
	floats := func(encoding uint16) *file {
		return with(func(s *shape) { s.table, s.vector, s.hidden = encoding, encoding, 5 })
	}

	// Hashes that do not fit their bytes.
	flip := func(name, comment string, f *file, at func(m *image) int, rules ...string) {
		list = append(list, damage(name, "checksum", comment, f, func(m *image) { m.b[at(m)] ^= 1 }, rules...))
	}
	flip("hash-data", "a bit of the data of floats flipped", plain(), func(m *image) int { return m.tensors[0].data }, "hash-extent")
	flip("hash-scales", "a bit of a scale flipped", plain(), func(m *image) int { return m.tensors[1].scales }, "hash-extent")
	flip("hash-config", "a digit of the config flipped", plain(), func(m *image) int { return m.sections[0].end - 2 }, "hash-section")
	flip("hash-tokenizer", "a bit of the tokenizer flipped", plain().with("tokenizer", tokenizerJSON), func(m *image) int { return m.sections[1].data + 2 }, "hash-section")
	flip("hash-unknown-section", "a bit of a section that nobody knows flipped", plain().with("later", "content"), func(m *image) int { return m.sections[1].data }, "hash-section")
	list = append(list,
		damage("hash-swapped", "checksum", "eight bytes of two tensors in each other's place", plain(), func(m *image) {
			a, b := m.b[m.tensors[0].data:], m.b[m.tensors[8].data:]
			for i := range 8 {
				a[i], b[i] = b[i], a[i]
			}
		}, "hash-extent"),
		damage("hash-hole", "checksum", "a hole of zeros where data was: an interrupted download", stored(trit2, absmean, perRow), func(m *image) {
			p := m.tensors[1]
			clear(m.b[p.data:p.scales])
		}, "hash-extent"),
	)

	// Floats.
	add("f32-nan", "code", "a NaN", floats(f32), set32("embed.weight", 4, 0x7fc00001), "finite")
	add("f32-infinity", "code", "minus infinity, in the last element of a norm", floats(f32), set32("norm.weight", 16, 0xff800000), "finite")
	add("f16-infinity", "code", "infinity", floats(f16), set16("embed.weight", 28, 0x7c00), "finite")
	add("f16-nan", "code", "a NaN whose lowest bit is the only one", floats(f16), set16("norm.weight", 8, 0xfc01), "finite")
	add("bf16-infinity", "code", "infinity", floats(bf16), set16("embed.weight", 2, 0x7f80), "finite")
	add("bf16-nan", "code", "a NaN", floats(bf16), set16("norm.weight", 0, 0xffff), "finite")
	add("int8-128", "code", "the code -128, in the last element", with(func(s *shape) { s.table, s.hidden = int8s, 7 }), set8("embed.weight", 20, 0x80), "int8")

	// Trits of 2 bits. q is [2, 130], up [3, 130]: two tiles a row of tiles.
	add("trit2-code", "code", "code 10 at row 1, column 65", stored(trit2, absmean, perTensor), set8(q, 33, 0x20), "trit2-code")
	add("trit2-code-last", "code", "code 10 at the last weight: row 2, column 129", stored(trit2, absmean, perTensor), set8(up, 128+2*32+1, 2), "trit2-code")
	add("trit2-row-padding", "code", "a trit in the fourth row of three", stored(trit2, absmean, perTensor), set8(up, 3*32, 1), "trit2-padding")
	add("trit2-row-padding-last", "code", "a trit in the last byte of a tile, a row that does not exist", stored(trit2, absmean, perTensor), set8(q, 127, 0xc0), "trit2-padding")
	add("trit2-column-padding", "code", "a trit at column 130 of 130", stored(trit2, absmean, perTensor), set8(q, 128+2, 3), "trit2-padding")
	add("trit2-column-padding-high", "code", "a trit at column 162 of 130, in a byte with a weight", stored(trit2, absmean, perTensor), set8(q, 128, 1<<2|1), "trit2-padding")
	add("trit2-padding-code", "code", "code 10 where there is no weight", stored(trit2, absmean, perTensor), set8(q, 128+31, 0x80), "trit2-padding")

	// Trits in base 3. Bytes 0 and 1 of the second tile's runs hold one digit each.
	add("trit3-243", "code", "the least byte that is not five digits", stored(trit3, absmean, perTensor), set8(q, 0, 243), "trit3-digit")
	add("trit3-255", "code", "the greatest byte", stored(trit3, absmean, perTensor), set8(q, 26+23, 255), "trit3-digit")
	add("trit3-column-128", "code", "a digit for column 128 of a tile, which has none", stored(trit3, absmean, perTensor), set8(q, 24, 81), "trit3-padding")
	add("trit3-column-129", "code", "a digit for column 129 of a tile", stored(trit3, absmean, perTensor), set8(q, 25, 242), "trit3-padding")
	add("trit3-column-padding", "code", "a digit at column 130 of 130", stored(trit3, absmean, perTensor), set8(q, 104+2, 1), "trit3-padding")
	add("trit3-column-padding-high", "code", "a digit at column 154 of 130, in a byte with a weight", stored(trit3, absmean, perTensor), set8(q, 104, 3), "trit3-padding")
	add("trit3-row-padding", "code", "a digit in a row that does not exist", stored(trit3, absmean, perTensor), set8(up, 3*26, 1), "trit3-padding")

	// Scales.
	add("scale-nan", "scale", "a NaN", stored(trit2, verbatim, perRow), scale(q, 1, math.NaN()), "scale-finite")
	add("scale-infinity", "scale", "infinity under the rule threshold", stored(trit3, threshold, perRow), scale(up, 2, math.Inf(1)), "scale-finite")
	add("scale-minus-infinity", "scale", "minus infinity, of a group", with(func(s *shape) { s.rule, s.granularity, s.group = verbatim, perGroup, 128 }), scale(q, 3, math.Inf(-1)), "scale-finite")
	add("scale-int8-nan", "scale", "a NaN for a row of int8", with(func(s *shape) { s.table, s.hidden = int8s, 7 }), scale("embed.weight", 2, math.NaN()), "scale-finite")
	add("scale-absmean-zero", "scale", "zero under the rule absmean", stored(trit2, absmean, perTensor), scale(q, 0, 0), "scale-absmean")
	add("scale-absmean-minus-zero", "scale", "minus zero under the rule absmean", stored(trit2, absmean, perTensor), scale(q, 0, math.Copysign(0, -1)), "scale-absmean")
	add("scale-absmean-negative", "scale", "a negative scale under the rule absmean, of the last row", stored(trit3, absmean, perRow), scale(up, 2, -1), "scale-absmean")
	add("scale-int8-negative", "scale", "a negative scale of int8", with(func(s *shape) { s.table, s.hidden = int8s, 7 }), scale("embed.weight", 0, -1e-30), "scale-int8")
	return list
}
