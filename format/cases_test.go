package format

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The order of everySpec and of the sections in everyFile.
const (
	tF32 = iota
	tF16
	tBF16
	tInt8
	tTrit2Tensor
	tTrit2Row
	tTrit2Group
	tTrit3Tensor
	tTrit3Row
	tTrit3Group
	tensorCount
)

// patch writes bytes of a file wrongly. rec and sec give the offsets of records.
type patch func(b []byte)

func rec(i int, field int64) int64 { return recordOffset(i) + field }
func sec(i int, field int64) int64 {
	return recordOffset(tensorCount) + int64(i)*SectionRecordSize + field
}

func put8(at int64, v byte) patch { return func(b []byte) { b[at] = v } }
func put16(at int64, v uint16) patch {
	return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], v) }
}
func put32(at int64, v uint32) patch {
	return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
}
func put64(at int64, v uint64) patch {
	return func(b []byte) { binary.LittleEndian.PutUint64(b[at:], v) }
}
func add64(at int64, v uint64) patch {
	return func(b []byte) {
		binary.LittleEndian.PutUint64(b[at:], binary.LittleEndian.Uint64(b[at:])+v)
	}
}
func putName(at int64, size int, name string) patch {
	return func(b []byte) {
		clear(b[at : at+int64(size)])
		copy(b[at:at+int64(size)], name)
	}
}
func both(patches ...patch) patch {
	return func(b []byte) {
		for _, p := range patches {
			p(b)
		}
	}
}

// A ruleCase breaks one rule of everyFile.
type ruleCase struct {
	name  string
	patch patch
	class Class
	at    int64
	got   string // in the message
	want  string
}

// headerCases break each rule of prelude and directory; their hash must be made
// right again.
func headerCases(h *Header) []ruleCase {
	used := sec(len(h.Sections), 0)
	return []ruleCase{
		{"first byte", put8(0, 0x88), ClassNotTrit, 0, "88 54", "89 54 52 49 54 0d 0a 1a"},
		{"last byte of the magic", put8(7, 0), ClassNotTrit, 0, "0a 00", "0a 1a"},
		{"text mode", func(b []byte) { copy(b, "\x89TRIT\n\x1a") }, ClassNotTrit, 0, "text mode", "0d 0a 1a"},
		{"gguf", func(b []byte) { copy(b, "GGUF") }, ClassNotTrit, 0, "GGUF", "0d 0a 1a"},
		{"zip", func(b []byte) { copy(b, "PK\x03\x04") }, ClassNotTrit, 0, "zip", "0d 0a 1a"},
		{"safetensors", func(b []byte) { copy(b, "\x10\x00\x00\x00\x00\x00\x00\x00") }, ClassNotTrit, 0, "safetensors", "0d 0a 1a"},
		{"version 0", put16(preMajor, 0), ClassUnsupported, preMajor, "version 0.0", "version 1"},
		{"version 2", put16(preMajor, 2), ClassUnsupported, preMajor, "version 2.0", "version 1"},
		{"big-endian version", put16(preMajor, 0x100), ClassUnsupported, preMajor, "version 256.0", "version 1"},
		{"prelude zero 12", put8(12, 1), ClassHeader, 12, "0x01", "0x00"},
		{"prelude zero 15", put8(15, 1), ClassHeader, 15, "0x01", "0x00"},
		{"prelude zero 40", put8(40, 7), ClassHeader, 40, "0x07", "0x00"},
		{"prelude zero 63", put8(63, 7), ClassHeader, 63, "0x07", "0x00"},
		{"prelude zero 352", put8(352, 9), ClassHeader, 352, "0x09", "0x00"},
		{"prelude zero 383", put8(383, 9), ClassHeader, 383, "0x09", "0x00"},
		{"file length short", add64(preFileLength, ^uint64(0)), ClassBounds, preFileLength, fmt.Sprint(h.FileLength - 1), fmt.Sprint(h.FileLength)},
		{"file length long", add64(preFileLength, 1), ClassBounds, preFileLength, fmt.Sprint(h.FileLength + 1), "interrupted download"},
		{"file length huge", put64(preFileLength, math.MaxUint64), ClassBounds, preFileLength, "18446744073709551615", fmt.Sprint(h.FileLength)},
		{"header length", add64(preHeaderLength, 256), ClassHeader, preHeaderLength, fmt.Sprint(h.HeaderLength + 256), fmt.Sprint(h.HeaderLength)},
		{"header length unaligned", add64(preHeaderLength, 1), ClassHeader, preHeaderLength, fmt.Sprint(h.HeaderLength + 1), fmt.Sprint(h.HeaderLength)},
		{"header length huge", put64(preHeaderLength, 1<<63), ClassHeader, preHeaderLength, "9223372036854775808", fmt.Sprint(h.HeaderLength)},
		{"no tensors", put32(preTensors, 0), ClassHeader, preTensors, "is 0", "1..65536"},
		{"too many tensors", put32(preTensors, MaxTensors+1), ClassHeader, preTensors, "65537", "1..65536"},
		{"many tensors", both(put32(preTensors, MaxTensors), put64(preHeaderLength, uint64(headerLength(MaxTensors, 4)))), ClassBounds, preHeaderLength, fmt.Sprint(headerLength(MaxTensors, 4)), fmt.Sprint(h.FileLength)},
		{"no sections", put32(preSections, 0), ClassHeader, preSections, "is 0", "1..32"},
		{"too many sections", put32(preSections, 33), ClassHeader, preSections, "33", "1..32"},
		{"required feature", putName(preRequired, 16, "trit5"), ClassUnsupported, preRequired, "feature trit5", "version 1.0"},
		{"required feature in a later minor", both(put16(preMinor, 9), putName(preRequired, 16, "trit5")), ClassUnsupported, preRequired, "feature trit5", "version 1.0"},
		{"feature letter", putName(preRequired, 16, "Trit5"), ClassHeader, preRequired, `"Trit5"`, "[a-z0-9-]"},
		{"feature with a NUL", putName(preOptional, 16, "tri\x00t"), ClassHeader, preOptional + 3, `"tri\x00t"`, "[a-z0-9-]"},
		{"feature gap", putName(preOptional+16, 16, "b"), ClassHeader, preOptional + 16, "0x62", "0x00"},
		{"feature order", both(putName(preOptional, 16, "b"), putName(preOptional+16, 16, "a")), ClassHeader, preOptional + 16, `"a"`, `after "b"`},
		{"feature twice", both(putName(preRequired, 16, "b"), putName(preRequired+16, 16, "b")), ClassHeader, preRequired + 16, `"b"`, `after "b"`},

		{"empty tensor name", putName(rec(0, 0), 128, ""), ClassDirectory, rec(0, 0), "0 bytes", "1 to 128"},
		{"upper-case tensor name", putName(rec(1, 0), 128, "a.F16"), ClassDirectory, rec(1, 2), `"a.F16"`, "[a-z0-9_.]"},
		{"control character in a name", putName(rec(1, 0), 128, "a\n"), ClassDirectory, rec(1, 1), `\n`, "[a-z0-9_.]"},
		{"slash in a name", putName(rec(1, 0), 128, "../a"), ClassDirectory, rec(1, 2), `"../a"`, "[a-z0-9_.]"},
		{"name with invalid UTF-8", putName(rec(1, 0), 128, "\xff"), ClassDirectory, rec(1, 0), `"\xff"`, "[a-z0-9_.]"},
		{"name with UTF-8", putName(rec(1, 0), 128, "é"), ClassDirectory, rec(1, 0), `"é"`, "[a-z0-9_.]"},
		{"byte after a name's end", put8(rec(0, 100), 'x'), ClassDirectory, rec(0, 100), "0x78", "zeros after the name"},
		{"tensor name twice", putName(rec(2, 0), 128, "a.f16"), ClassDirectory, rec(2, 0), `"a.f16"`, "tensor 1 has the same"},
		{"encoding 0", put16(rec(0, recEncoding), 0), ClassDirectory, rec(0, recEncoding), "is 0", "1..6"},
		{"encoding 7", put16(rec(0, recEncoding), 7), ClassDirectory, rec(0, recEncoding), "is 7", "1..6"},
		{"rule 4", put16(rec(tTrit2Row, recRule), 4), ClassDirectory, rec(tTrit2Row, recRule), "is 4", "0..3"},
		{"ternary without a rule", put16(rec(tTrit2Row, recRule), 0), ClassDirectory, rec(tTrit2Row, recRule), "none", "absmean, threshold or verbatim"},
		{"dense with a rule", put16(rec(tF32, recRule), 1), ClassDirectory, rec(tF32, recRule), "absmean", "none"},
		{"int8 with a rule", put16(rec(tInt8, recRule), 3), ClassDirectory, rec(tInt8, recRule), "verbatim", "none"},
		{"granularity 4", put16(rec(0, recGranularity), 4), ClassDirectory, rec(0, recGranularity), "is 4", "0..3"},
		{"ternary without scales", put16(rec(tTrit3Row, recGranularity), 0), ClassDirectory, rec(tTrit3Row, recGranularity), "none", "tensor, row or group"},
		{"dense with scales", put16(rec(tBF16, recGranularity), 2), ClassDirectory, rec(tBF16, recGranularity), "row", "none"},
		{"int8 without scales", put16(rec(tInt8, recGranularity), 0), ClassDirectory, rec(tInt8, recGranularity), "none", "row"},
		{"int8 with a tensor's scale", put16(rec(tInt8, recGranularity), 1), ClassDirectory, rec(tInt8, recGranularity), "tensor", "row"},
		{"int8 with group scales", put16(rec(tInt8, recGranularity), 3), ClassDirectory, rec(tInt8, recGranularity), "group", "row"},
		{"rank 0", put16(rec(0, recRank), 0), ClassDirectory, rec(0, recRank), "is 0", "1 or 2"},
		{"rank 3", put16(rec(1, recRank), 3), ClassDirectory, rec(1, recRank), "is 3", "1 or 2"},
		{"ternary of rank 1", both(put16(rec(tTrit2Row, recRank), 1), put32(rec(tTrit2Row, recDim1), 0)), ClassDirectory, rec(tTrit2Row, recRank), "is 1", "want 2"},
		{"int8 of rank 1", both(put16(rec(tInt8, recRank), 1), put32(rec(tInt8, recDim1), 0)), ClassDirectory, rec(tInt8, recRank), "is 1", "want 2"},
		{"second dim of rank 1", put32(rec(tF32, recDim1), 1), ClassDirectory, rec(tF32, recDim1), "is 1", "want 0"},
		{"dim 0 is 0", put32(rec(1, recDim0), 0), ClassDirectory, rec(1, recDim0), "is 0", "1..2147483647"},
		{"dim 1 is 0", put32(rec(1, recDim1), 0), ClassDirectory, rec(1, recDim1), "is 0", "1..2147483647"},
		{"dim 0 is negative", put32(rec(1, recDim0), 0xffffffff), ClassDirectory, rec(1, recDim0), "4294967295", "2147483647"},
		{"dim 1 is 2^31", put32(rec(1, recDim1), 1<<31), ClassDirectory, rec(1, recDim1), "2147483648", "2147483647"},
		{"dims overflow", both(put32(rec(1, recDim0), MaxDim), put32(rec(1, recDim1), MaxDim), put16(rec(1, recEncoding), 1)), ClassDirectory, rec(1, recDim0), "2147483647", "2^62"},
		{"group without group scales", put32(rec(tTrit2Row, recGroup), 128), ClassDirectory, rec(tTrit2Row, recGroup), "128", "want 0"},
		{"group of 0", put32(rec(tTrit2Group, recGroup), 0), ClassDirectory, rec(tTrit2Group, recGroup), "is 0", "multiple of 128"},
		{"group of 64", put32(rec(tTrit2Group, recGroup), 64), ClassDirectory, rec(tTrit2Group, recGroup), "is 64", "multiple of 128"},
		{"group of 2^31", put32(rec(tTrit2Group, recGroup), 1<<31), ClassDirectory, rec(tTrit2Group, recGroup), "2147483648", "2147483647"},
		{"tensor zero 148", put8(rec(0, 148), 1), ClassDirectory, rec(0, 148), "0x01", "0x00"},
		{"tensor zero 255", put8(rec(4, 255), 1), ClassDirectory, rec(4, 255), "0x01", "0x00"},
		{"data offset beyond", add64(rec(1, recOffset), 256), ClassBounds, rec(1, recOffset), fmt.Sprint(h.Tensors[1].Offset + 256), "hole"},
		{"data offset before", add64(rec(1, recOffset), ^uint64(255)), ClassBounds, rec(1, recOffset), fmt.Sprint(h.Tensors[1].Offset - 256), "overlaps"},
		{"data offset unaligned", add64(rec(1, recOffset), 1), ClassBounds, rec(1, recOffset), fmt.Sprint(h.Tensors[1].Offset + 1), "aligned"},
		{"data offset past the end", put64(rec(1, recOffset), 1<<63), ClassBounds, rec(1, recOffset), "9223372036854775808", fmt.Sprint(h.Tensors[1].Offset)},
		{"data length short", add64(rec(1, recLength), ^uint64(0)), ClassBounds, rec(1, recLength), fmt.Sprint(h.Tensors[1].Length - 1), fmt.Sprint(h.Tensors[1].Length)},
		{"data length huge", put64(rec(1, recLength), math.MaxUint64), ClassBounds, rec(1, recLength), "18446744073709551615", fmt.Sprint(h.Tensors[1].Length)},
		{"shape beyond the file", both(put32(rec(9, recDim0), 1<<20), put64(rec(9, recLength), 1<<18*3*104)), ClassBounds, rec(9, recLength), fmt.Sprint(h.Tensors[9].Offset + 1<<18*3*104), fmt.Sprint(h.FileLength)},
		{"scale offset", add64(rec(3, recScaleOffset), 256), ClassBounds, rec(3, recScaleOffset), fmt.Sprint(h.Tensors[3].ScaleOffset + 256), fmt.Sprint(h.Tensors[3].ScaleOffset)},
		{"scale length", add64(rec(3, recScaleLength), 4), ClassBounds, rec(3, recScaleLength), "24", "want 20"},
		{"scale extent of a dense tensor", put64(rec(0, recScaleOffset), 4096), ClassDirectory, rec(0, recScaleOffset) + 1, "0x10", "0x00"},
		{"scale length of a dense tensor", put64(rec(0, recScaleLength), 4), ClassDirectory, rec(0, recScaleLength), "0x04", "0x00"},
		{"scale hash of a dense tensor", put8(rec(0, recScaleSHA+31), 4), ClassDirectory, rec(0, recScaleSHA+31), "0x04", "0x00"},

		{"empty section name", putName(sec(0, 0), 32, ""), ClassDirectory, sec(0, 0), "0 bytes", "1 to 32"},
		{"section name", putName(sec(0, 0), 32, "con_fig"), ClassDirectory, sec(0, 3), `"con_fig"`, "[a-z0-9-]"},
		{"byte after a section name's end", put8(sec(0, 31), 'x'), ClassDirectory, sec(0, 31), "0x78", "zeros after the name"},
		{"section order", putName(sec(1, 0), 32, "a"), ClassDirectory, sec(1, 0), `"a"`, `after "config"`},
		{"section twice", putName(sec(1, 0), 32, "config"), ClassDirectory, sec(1, 0), `"config"`, `after "config"`},
		{"no config", putName(sec(0, 0), 32, "confix"), ClassDirectory, sec(0, 0), "missing", "present"},
		{"empty section", put64(sec(1, secLength), 0), ClassDirectory, sec(1, secLength), "is 0", fmt.Sprint(MaxSection)},
		{"section over its limit", put64(sec(1, secLength), MaxSection+1), ClassDirectory, sec(1, secLength), fmt.Sprint(MaxSection + 1), fmt.Sprint(MaxSection)},
		{"section past the end", add64(sec(3, secLength), 1), ClassBounds, sec(3, secLength), fmt.Sprint(h.FileLength + 1), fmt.Sprint(h.FileLength)},
		{"trailing bytes", add64(sec(3, secLength), ^uint64(0)), ClassBounds, h.FileLength - 1, fmt.Sprint(h.FileLength - 1), fmt.Sprint(h.FileLength)},
		{"section offset", add64(sec(2, secOffset), 256), ClassBounds, sec(2, secOffset), fmt.Sprint(h.Sections[2].Offset + 256), "hole"},
		{"section zero 80", put8(sec(1, 80), 1), ClassDirectory, sec(1, 80), "0x01", "0x00"},
		{"section zero 127", put8(sec(1, 127), 1), ClassDirectory, sec(1, 127), "0x01", "0x00"},
		{"directory padding begins", put8(used, 1), ClassDirectory, used, "0x01", "0x00"},
		{"directory padding ends", put8(h.HeaderLength-1, 1), ClassDirectory, h.HeaderLength - 1, "0x01", "0x00"},
	}
}

// A payloadCase breaks one rule of the bytes after everyFile's header.
type payloadCase struct {
	name   string
	patch  patch
	class  Class
	at     int64
	count  int64
	tensor string
	got    string // in the message
	want   string
}

// payloadCases break each rule of values, scales, padding and sections; all
// hashes must be made right again.
func payloadCases(h *Header) []payloadCase {
	data := func(i int) int64 { return h.Tensors[i].Offset }
	scale := func(i int) int64 { return h.Tensors[i].ScaleOffset }
	float := func(at int64, v float64) patch { return put32(at, math.Float32bits(float32(v))) }
	section := func(i int, content string) patch {
		return func(b []byte) { copy(b[h.Sections[i].Offset:h.Sections[i].Offset+h.Sections[i].Length], content) }
	}
	return []payloadCase{
		{"f32 NaN", put32(data(tF32)+8, 0x7fc00000), ClassCode, data(tF32) + 8, 1, "norm.weight", "element 2", "finite"},
		{"f32 -Inf", put32(data(tF32), 0xff800000), ClassCode, data(tF32), 1, "norm.weight", "0xff800000", "finite"},
		{"f16 Inf", put16(data(tF16)+28, 0x7c00), ClassCode, data(tF16) + 28, 1, "a.f16", "row 2, column 4", "finite"},
		{"f16 NaN", put16(data(tF16)+2, 0xfc01), ClassCode, data(tF16) + 2, 1, "a.f16", "0xfc01", "finite"},
		{"bf16 Inf twice", both(put16(data(tBF16)+2, 0xff80), put16(data(tBF16)+10, 0x7f80)), ClassCode, data(tBF16) + 2, 2, "a.bf16", "0xff80", "finite"},
		{"int8 -128", put8(data(tInt8)+34, 0x80), ClassCode, data(tInt8) + 34, 1, "embed.weight", "row 4, column 6", "-127..127"},
		{"int8 -128 in a word", put8(data(tInt8)+9, 0x80), ClassCode, data(tInt8) + 9, 1, "embed.weight", "row 1, column 2", "-127..127"},
		{"trit2 code 10", put8(data(tTrit2Row)+33, 0x20), ClassCode, data(tTrit2Row) + 33, 1, "layers.0.k.weight", "row 1, column 65 is 10", "00, 01 or 11"},
		{"trit2 code 10 in the second tile row", put8(data(tTrit2Row)+256+31, 0x80), ClassCode, data(tTrit2Row) + 256 + 31, 1, "layers.0.k.weight", "row 4, column 127 is 10", "00, 01 or 11"},
		// 200 columns: the second tile has 72, byte 8 holds columns 8, 40 and
		// not 72; row 4 is the second tile row's only one.
		{"trit2 padding column", put8(data(tTrit2Row)+128+8, 0x10), ClassCode, data(tTrit2Row) + 128 + 8, 1, "layers.0.k.weight", "row 0, column 200 is 0x10", "0x0f"},
		{"trit2 padding column of code 10", put8(data(tTrit2Row)+128+8, 0x80), ClassCode, data(tTrit2Row) + 128 + 8, 1, "layers.0.k.weight", "row 0, column 232 is 0x80", "0x0f"},
		{"trit2 padding row", put8(data(tTrit2Row)+256+32, 1), ClassCode, data(tTrit2Row) + 256 + 32, 1, "layers.0.k.weight", "row 5, column 0 is 0x01", "0x00"},
		{"trit3 byte 243", put8(data(tTrit3Row)+27, 243), ClassCode, data(tTrit3Row) + 27, 1, "layers.0.up.weight", "row 1, column 1 is 243", "242"},
		{"trit3 byte 255", put8(data(tTrit3Row)+23, 255), ClassCode, data(tTrit3Row) + 23, 1, "layers.0.up.weight", "is 255", "242"},
		{"trit3 digit that does not exist", put8(data(tTrit3Row)+24, 81), ClassCode, data(tTrit3Row) + 24, 1, "layers.0.up.weight", "is 81", "80"},
		{"trit3 digit that does not exist, greatest", put8(data(tTrit3Row)+103, 255), ClassCode, data(tTrit3Row) + 103, 1, "layers.0.up.weight", "is 255", "80"},
		// 72 columns in the second tile: byte 20 holds columns 20, 46 and not 72.
		{"trit3 padding column", put8(data(tTrit3Row)+104+20, 9), ClassCode, data(tTrit3Row) + 104 + 20, 1, "layers.0.up.weight", "is 9", "at most 8"},
		{"trit3 padding row", put8(data(tTrit3Row)+208+26, 1), ClassCode, data(tTrit3Row) + 208 + 26, 1, "layers.0.up.weight", "row 5", "at most 0"},
		{"absmean scale 0", float(scale(tTrit2Tensor), 0), ClassScale, scale(tTrit2Tensor), 1, "layers.0.q.weight", "scale 0 is 0", "above 0"},
		{"absmean scale negative", float(scale(tTrit3Tensor), -1), ClassScale, scale(tTrit3Tensor), 1, "layers.0.o.weight", "is -1", "above 0"},
		{"threshold scale NaN", float(scale(tTrit2Row)+16, math.NaN()), ClassScale, scale(tTrit2Row) + 16, 1, "layers.0.k.weight", "scale 4 is NaN", "finite"},
		{"verbatim scale Inf", both(float(scale(tTrit3Group)+4, math.Inf(1)), float(scale(tTrit3Group)+12, math.Inf(-1))), ClassScale, scale(tTrit3Group) + 4, 2, "layers.0.down.weight", "+Inf", "finite"},
		{"int8 scale negative", float(scale(tInt8), -1e-30), ClassScale, scale(tInt8), 1, "embed.weight", "-1e-30", "at least 0"},
		{"padding before the first extent's successor", put8(data(tF32)+12, 1), ClassBounds, data(tF32) + 12, 1, "", "0x01", "0x00"},
		{"padding of 3 bytes", func(b []byte) { copy(b[h.Sections[2].Offset-5:], "abc") }, ClassBounds, h.Sections[2].Offset - 5, 3, "", "0x61", "0x00"},
		{"config with a space", section(0, `{"hidden_size": 8}`), ClassConfig, h.Sections[0].Offset + 15, 1, "", `" 8`, "no spaces"},
		{"generation with a long number", section(1, `{"e":[2.00]}`), ClassConfig, h.Sections[1].Offset + 7, 1, "", `"2.00"`, "ECMAScript"},
	}
}
