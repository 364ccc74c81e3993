package conformance

import (
	"bytes"
	"math"

	"github.com/tritter-ai/tritter/testdata/vectors"
)

func preludes() []generator {
	good := two().image()
	cut := func(name, class, comment string, n int, rules ...string) generator {
		return refused(name, vectors.Opening, class, comment, bytes.Clone(good.b[:n]), rules...)
	}
	stale := func(name, class, comment string, change func(m *image), rules ...string) generator {
		m := two().image()
		change(m)
		return refused(name, vectors.Opening, class, comment, m.b, rules...)
	}
	length := int64(len(good.b))
	return []generator{
		cut("empty", "not-trit", "a file of 0 bytes", 0, "magic"),
		cut("cut-magic", "not-trit", "the first 7 bytes of a file", 7, "magic"),
		cut("cut-version", "bounds", "the first 11 bytes of a file: the major version is there, the minor is not", 11, "file-length"),
		cut("cut-prelude", "bounds", "one byte less than a prelude", 383, "file-length"),
		cut("cut-directory", "bounds", "the prelude alone", 384, "file-length"),
		cut("cut-header", "bounds", "one byte less than a header", good.header-1, "file-length"),
		cut("cut-last", "bounds", "the last byte is missing", len(good.b)-1, "file-length"),
		stale("appended", "bounds", "a byte follows the end", func(m *image) { m.b = append(m.b, 0) }, "file-length"),

		header("magic-first", "not-trit", "the first byte lost its high bit in a transfer of 7 bits", put8(0, 0x09), "magic"),
		header("magic-newline", "not-trit", "a transfer in text mode turned 0d 0a into 0a", func(m *image) { copy(m.b[5:], m.b[6:8]); m.b[7] = 0 }, "magic"),
		header("magic-gguf", "not-trit", "a file of another format", putText(0, 8, "GGUF\x03"), "magic"),
		header("version-0", "unsupported-version", "major version 0", put16(majorAt, 0), "version"),
		header("version-2", "unsupported-version", "major version 2", put16(majorAt, 2), "version"),
		header("version-big-endian", "unsupported-version", "the version of a big-endian writer", put16(majorAt, 0x100), "version"),
		header("file-length-short", "bounds", "one byte less than the file has", add64(lengthAt, -1), "file-length"),
		header("file-length-long", "bounds", "256 bytes more than the file has", add64(lengthAt, 256), "file-length"),
		header("file-length-greatest", "bounds", "2^64 - 1", put64(lengthAt, math.MaxUint64), "file-length", "overflow"),
		header("tensor-count-0", "header", "no tensors", put32(tensorsAt, 0), "tensor-count"),
		header("tensor-count-65537", "header", "one tensor more than the limit", put32(tensorsAt, 65537), "tensor-count"),
		header("tensor-count-greatest", "header", "2^32 - 1 tensors: 1 TiB of records", put32(tensorsAt, math.MaxUint32), "tensor-count", "allocation"),
		header("tensor-count-65536", "bounds", "as many tensors as the limit allows, with the header length that they need, in a small file", all(put32(tensorsAt, 65536), put64(headerAt, uint64(up(preludeSize+65536*recordSize+sectionSize)))), "allocation", "file-length"),
		header("section-count-0", "header", "no sections", put32(sectionsAt, 0), "section-count"),
		header("section-count-33", "header", "one section more than the limit", put32(sectionsAt, 33), "section-count"),
		header("section-count-greatest", "header", "2^32 - 1 sections", put32(sectionsAt, math.MaxUint32), "section-count", "allocation"),
		header("header-length-short", "header", "256 bytes less than the records need", add64(headerAt, -256), "header-length"),
		header("header-length-long", "header", "256 bytes more than the records need", add64(headerAt, 256), "header-length"),
		header("header-length-unaligned", "header", "one byte more", add64(headerAt, 1), "header-length"),
		header("header-length-2-63", "header", "2^63, negative as a signed number", put64(headerAt, 1<<63), "header-length", "overflow"),

		stale("header-hash", "checksum", "a bit of the hash itself is wrong", func(m *image) { m.b[headerHashAt] ^= 1 }, "header-hash"),
		stale("header-hash-zero", "checksum", "the hash was never written", func(m *image) { clear(m.b[headerHashAt : headerHashAt+32]) }, "header-hash"),
		stale("header-damaged", "checksum", "a bit of a tensor's hash flipped", func(m *image) { m.b[first(hashAt)] ^= 16 }, "header-hash"),
		stale("header-minor-damaged", "checksum", "a bit of the minor version flipped: nothing but the hash shows it", func(m *image) { m.b[minorAt] ^= 1 }, "header-hash"),

		header("reserved-12", "header", "a reserved byte behind the version", put8(12, 1), "reserved-prelude"),
		header("reserved-40", "header", "the first reserved byte behind the counts", put8(40, 0x80), "reserved-prelude"),
		header("reserved-63", "header", "the last reserved byte before the features", put8(63, 1), "reserved-prelude"),
		header("reserved-352", "header", "the first reserved byte behind the hash", put8(352, 1), "reserved-prelude"),
		header("reserved-383", "header", "the last byte of the prelude", put8(383, 1), "reserved-prelude"),

		header("feature-upper-case", "header", "an upper-case letter in an optional feature", putText(optionalAt, 16, "Alpha"), "feature-name"),
		header("feature-nul", "header", "a zero byte inside an optional feature's name", putText(optionalAt, 16, "al\x00pha"), "feature-name"),
		header("feature-required-form", "header", "a required feature whose name is not one: malformed, not unsupported", putText(requiredAt, 16, "trit 5"), "feature-name"),
		header("feature-order", "header", "optional features in the wrong order", all(putText(optionalAt, 16, "b"), putText(optionalAt+16, 16, "a")), "feature-order"),
		header("feature-twice", "header", "an optional feature twice", all(putText(optionalAt, 16, "a"), putText(optionalAt+16, 16, "a")), "feature-order"),
		header("feature-required-order", "header", "required features in the wrong order", all(putText(requiredAt, 16, "b"), putText(requiredAt+16, 16, "a")), "feature-order"),
		header("feature-gap", "header", "an unused slot before a used one", putText(optionalAt+16, 16, "a"), "feature-unused"),
		header("feature-unused", "header", "a byte that is not zero in the last slot, behind unused ones", put8(optionalAt+127, 1), "feature-unused"),
		header("feature-required", "unsupported-version", "a required feature that no reader of version 1.0 knows", putText(requiredAt, 16, "trit5"), "feature-required"),
		header("feature-required-minor", "unsupported-version", "a required feature in a later minor version", all(put16(minorAt, 3), putText(requiredAt, 16, "trit5")), "feature-required"),
		header("feature-required-directory", "unsupported-version", "a required feature, and a directory that only a reader that knows it can read", all(putText(requiredAt, 16, "trit5"), put16(first(encodingAt), 7)), "feature-directory", "order"),

		stale("order-magic-version", "not-trit", "magic and version are wrong: the magic comes first", all(put8(0, 0), put16(majorAt, 2)), "order"),
		stale("order-version-length", "unsupported-version", "version, length and hash are wrong: a later version may have another length", all(put16(majorAt, 2), add64(lengthAt, 1)), "order"),
		stale("order-version-short", "unsupported-version", "a file of another version that is shorter than a prelude", func(m *image) { le.PutUint16(m.b[majorAt:], 2); m.b = m.b[:100] }, "order"),
		stale("order-length-hash", "bounds", "length and hash are wrong: a cut file is told from a damaged one", func(m *image) { m.b[first(hashAt)] ^= 1; m.b = m.b[:length-200] }, "order"),
		stale("order-hash-reserved", "checksum", "a reserved byte is damaged: the hash comes first", put8(40, 1), "order"),
		stale("order-hash-directory", "checksum", "the directory is damaged: the hash comes first", put16(first(encodingAt), 9), "order"),
		header("order-reserved-feature", "header", "a reserved byte of the prelude and a required feature: malformed, not unsupported", all(put8(352, 1), putText(requiredAt, 16, "trit5")), "order"),
	}
}
