package conformance

import (
	"strings"

	"github.com/tritter-ai/tritter/testdata/vectors"
)

func directories() []generator {
	dir := func(name, comment string, change func(m *image), rules ...string) generator {
		return header(name, "directory", comment, change, rules...)
	}
	list := []generator{
		dir("name-empty", "a tensor without a name", putText(first(0), 128, ""), "name"),
		dir("name-upper-case", "an upper-case letter", putText(first(0), 128, "a.Weight"), "name"),
		dir("name-dash", "a dash, which only sections and features may have", putText(first(0), 128, "a-weight"), "name"),
		dir("name-slash", "a path", putText(first(0), 128, "../weight"), "name"),
		dir("name-control", "a line end", putText(first(0), 128, "a\n"), "name"),
		dir("name-utf8", "a letter beyond ASCII", putText(first(0), 128, "é"), "name"),
		dir("name-continued", "a byte behind the first zero of a name", put8(first(127), 'x'), "name"),
		dir("name-twice", "two tensors of one name", putText(second(0), 128, "a.weight"), "name-unique"),
		dir("encoding-0", "encoding 0", put16(first(encodingAt), 0), "encoding"),
		dir("encoding-7", "encoding 7", put16(first(encodingAt), 7), "encoding"),
		dir("rule-4", "rule 4", put16(first(ruleAt), 4), "rule"),
		dir("granularity-4", "granularity 4", put16(first(granularityAt), 4), "granularity"),
		dir("rank-0", "rank 0", put16(second(rankAt), 0), "rank"),
		dir("rank-3", "rank 3", put16(first(rankAt), 3), "rank"),
		dir("dim-0-zero", "a vector of no elements", put32(second(dim0At), 0), "dim"),
		dir("dim-0-2-31", "2^31 rows", put32(first(dim0At), 1<<31), "dim"),
		dir("dim-1-zero", "a matrix of no columns", put32(first(dim1At), 0), "dim"),
		dir("dim-1-2-31", "2^31 columns", put32(first(dim1At), 1<<31), "dim"),
		dir("dim-1-of-vector", "a vector with a second dim", put32(second(dim1At), 1), "dim"),
		dir("group-without", "a group size where scales are per row", put32(first(groupAt), 128), "group"),
		dir("group-0", "scales per group without a group size", put16(first(granularityAt), perGroup), "group"),
		dir("group-64", "a group of half a tile", all(put16(first(granularityAt), perGroup), put32(first(groupAt), 64)), "group"),
		dir("group-2-31", "a group of 2^31 columns", all(put16(first(granularityAt), perGroup), put32(first(groupAt), 1<<31)), "group"),
		dir("reserved-148", "a reserved byte behind the group size", put8(first(148), 1), "reserved-record"),
		dir("reserved-255", "the last byte of a record", put8(first(255), 1), "reserved-record"),
		dir("trit-without-rule", "trits without a rule", put16(first(ruleAt), 0), "combination"),
		dir("trit-without-scales", "trits without scales", put16(first(granularityAt), 0), "combination"),
		dir("trit-vector", "trits of rank 1", all(put16(first(rankAt), 1), put32(first(dim1At), 0)), "combination"),
		dir("dense-rule", "floats with a rule", put16(second(ruleAt), absmean), "combination"),
		dir("dense-scales", "floats with scales", put16(second(granularityAt), perTensor), "combination"),
		dir("scale-offset-of-dense", "the place of scales that do not exist", put64(second(scaleOffsetAt), 256), "no-scales"),
		dir("scale-length-of-dense", "the length of scales that do not exist", put64(second(scaleSizeAt), 4), "no-scales"),
		dir("scale-hash-of-dense", "the hash of scales that do not exist", put8(second(scaleHashAt+31), 1), "no-scales"),
		dir("dims-overflow", "floats of [2^31 - 1, 2^31 - 1]: the product times 4 is beyond 2^62, and negative as a signed number", all(put16(first(encodingAt), f32), put16(first(ruleAt), 0), put16(first(granularityAt), 0), put32(first(dim0At), 1<<31-1), put32(first(dim1At), 1<<31-1)), "data-length", "overflow"),
		dir("section-name-empty", "a section without a name", putText(named(0), 32, ""), "section-name"),
		dir("section-name-underscore", "an underscore, which only tensors may have", putText(named(0), 32, "con_fig"), "section-name"),
		dir("section-name-continued", "a byte behind the first zero of a name", put8(named(31), 'x'), "section-name"),
		dir("config-missing", "the only section is another one", putText(named(0), 32, "confix"), "config-present"),
		dir("section-length-0", "a section of no bytes", put64(named(sectionLengthAt), 0), "section-length"),
		dir("section-length-256-mib", "one byte more than the limit", put64(named(sectionLengthAt), 256<<20+1), "section-length"),
		dir("section-length-greatest", "2^64 - 1 bytes", put64(named(sectionLengthAt), 1<<64-1), "section-length", "overflow"),
		dir("section-reserved-80", "the first reserved byte of a section's record", put8(named(sectionReservedAt), 1), "reserved-section"),
		dir("section-reserved-127", "the last byte of a section's record", put8(named(127), 1), "reserved-section"),
	}
	content := func(name, comment string, change func(f *file), rules ...string) {
		list = append(list, opening(name, "directory", comment, change, rules...))
	}
	empty := func(name string) *section { return &section{name, []byte("{}")} }
	padded := func(name, comment string, at func(m *image) int) {
		f := two()
		f.sections = append(f.sections, empty("later")) // two sections leave 128 bytes
		m := f.image()
		m.b[at(m)] = 1
		m.hashHeader()
		list = append(list, refused(name, vectors.Opening, "directory", comment, m.b, "directory-padding"))
	}
	padded("padding-first", "the first byte behind the last record", func(m *image) int { return m.sections[1].record + sectionSize })
	padded("padding-last", "the last byte of the header", func(m *image) int { return m.header - 1 })
	content("section-order", "sections in the wrong order", func(f *file) { f.sections = append(f.sections, empty("aaa")) }, "section-order")
	content("section-twice", "two sections of one name", func(f *file) { f.sections = append(f.sections, empty("config")) }, "section-order")
	content("section-prefix", "a name before its own prefix", func(f *file) { f.sections = append([]*section{empty("config-2")}, f.sections...) }, "section-order")
	content("int8-without-scales", "int8 without scales", func(f *file) {
		t := rounded("b.weight", 2, 3)
		t.granularity, t.scales = 0, nil
		f.tensors[1] = t
	}, "combination")
	content("int8-tensor-scale", "int8 with one scale for all", func(f *file) {
		t := rounded("b.weight", 2, 3)
		t.granularity, t.scales = perTensor, t.scales[:4]
		f.tensors[1] = t
	}, "combination")
	content("int8-group-scales", "int8 with scales per group", func(f *file) {
		t := rounded("b.weight", 2, 3)
		t.granularity, t.group = perGroup, 128
		f.tensors[1] = t
	}, "combination")
	content("int8-rule", "int8 with a rule", func(f *file) {
		t := rounded("b.weight", 2, 3)
		t.rule = verbatim
		f.tensors[1] = t
	}, "combination")
	content("int8-vector", "int8 of rank 1", func(f *file) {
		t := rounded("b.weight", 3, 1)
		t.rank, t.dim1 = 1, 0
		f.tensors[1] = t
	}, "combination")
	content("name-128", "a name of 128 bytes, the last of them not allowed", func(f *file) { f.tensors[0].name = strings.Repeat("a", 127) + "A" }, "name")
	return list
}

func extents() []generator {
	bounds := func(name, comment string, change func(m *image), rules ...string) generator {
		return header(name, "bounds", comment, change, rules...)
	}
	list := []generator{
		bounds("data-offset-hole", "a tensor 256 bytes behind its place", add64(second(offsetAt), 256), "offset"),
		bounds("data-offset-overlap", "a tensor over the scales of the one before", add64(second(offsetAt), -256), "offset"),
		bounds("data-offset-unaligned", "a tensor one byte behind its place", add64(second(offsetAt), 1), "offset"),
		bounds("data-offset-header", "data that begins in the header", put64(first(offsetAt), 0), "offset"),
		bounds("data-offset-2-63", "an offset that is negative as a signed number", add64(first(offsetAt), -1<<63), "offset", "overflow"),
		bounds("data-length-short", "one byte less than the dims give", add64(first(sizeAt), -1), "length"),
		bounds("data-length-long", "one byte more than the dims give", add64(first(sizeAt), 1), "length"),
		bounds("data-length-greatest", "2^64 - 1: added to the offset, less than the offset", put64(second(sizeAt), 1<<64-1), "length", "overflow"),
		bounds("scale-offset", "scales 256 bytes behind their place", add64(first(scaleOffsetAt), 256), "offset"),
		bounds("scale-length-long", "one scale more than there are rows", add64(first(scaleSizeAt), 4), "length"),
		bounds("scale-length-0", "no scales where there are rows", put64(first(scaleSizeAt), 0), "length"),
		bounds("section-offset", "a section at the place of a tensor", add64(named(sectionOffsetAt), -256), "offset"),
		bounds("section-past-end", "a section one byte longer than the file", add64(named(sectionLengthAt), 1), "offset"),
		bounds("last-extent", "a byte behind the last extent that belongs to nothing", func(m *image) {
			m.b = append(m.b, 0)
			put64(lengthAt, uint64(len(m.b)))(m)
		}, "last-extent"),
		bounds("tensor-past-end", "[2^31 - 1, 128] trits with the length that they have, in a small file: 64 GiB", func(m *image) {
			put32(first(dim0At), 1<<31-1)(m)
			put32(first(dim1At), 128)(m)
			put64(first(sizeAt), 1<<29*128)(m)
		}, "offset", "allocation"),
		bounds("scales-past-end", "as many scales as there are rows, 8 GiB of them, in a small file", func(m *image) {
			put32(first(dim0At), 1<<31-1)(m)
			put32(first(dim1At), 1)(m)
			put64(first(sizeAt), 1<<29*128)(m)
			put64(first(scaleSizeAt), 4*(1<<31-1))(m)
		}, "offset", "allocation"),
		bounds("extents-swapped", "two tensors of equal length in each other's place", func(m *image) {
			f := two()
			f.tensors[1] = ternary("b.weight", trit2, verbatim, perRow, 2, 130, 0)
			*m = *f.image()
			a, b := le.Uint64(m.b[first(offsetAt):]), le.Uint64(m.b[second(offsetAt):])
			put64(first(offsetAt), b)(m)
			put64(second(offsetAt), a)(m)
		}, "offset"),
	}
	dim := func(out, in uint32) func(m *image) {
		return all(put32(first(dim0At), out), put32(first(dim1At), in))
	}
	list = append(list,
		bounds("dims-tile", "128 columns less than the data has", dim(2, 2), "length"),
		bounds("dims-rows", "a tile row more than the data has", dim(5, 130), "length"),
	)
	list = append(list,
		damage("padding-behind-data", "bounds", "the last byte between a tensor's data and its scales", plain(), func(m *image) { m.b[m.tensors[1].scales-1] = 1 }, "extent-padding"),
		damage("padding-behind-scales", "bounds", "the first byte behind a tensor's scales", plain(), func(m *image) { m.b[m.tensors[1].end] = 0x80 }, "extent-padding"),
		damage("padding-before-section", "bounds", "the last byte before a section", plain(), func(m *image) { m.b[m.sections[0].data-1] = 1 }, "extent-padding"),
	)
	return list
}
