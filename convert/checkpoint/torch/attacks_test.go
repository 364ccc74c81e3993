package torch

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

var update = flag.Bool("update", false, "write the corpus of attacks")

const attacksDir = "../../../testdata/attacks"

// An attack is a hostile file with one trick. Unless the reader does not
// support it (unsupported), the file is wrong; it is refused when opened, or
// when its tensors are read (late).
type attack struct {
	name        string
	file        []byte
	err         string
	unsupported bool
	late        bool
}

// one is the body of a good file: tensor w of two floats in storage 0.
var one = dict(str("w"), floats("0", 2))

// weights is data.pkl of that file, with storage 0.
func weights(records ...zipRecord) []zipRecord {
	return append([]zipRecord{{name: "m/data.pkl", data: whole(one)}, data("0", 8)}, records...)
}

// with is that file with other things beside the tensor.
func with(items ...string) []byte {
	return fileOf(dict(str("model"), one, str("x"), strings.Join(items, "")), data("0", 8))
}

func withView(storage string, offset int, shape, stride string) []byte {
	return fileOf(dict(str("w"), viewOf(storage, offset, shape, stride)), data("0", 24))
}

var attacks = append(zipAttacks(), pickleAttacks()...)

func zipAttacks() []attack {
	six := storageID("FloatStorage", "0", 6)
	cut := fileOf(one, data("0", 8))
	record := func(change func(r *zipRecord)) []byte {
		w := weights()
		change(&w[1])
		return archiveOf(zipEnd{}, w...)
	}
	return []attack{
		{name: "compressed", file: record(func(r *zipRecord) { r.method = 8 }), err: "compression method 8"},
		{name: "encrypted", file: record(func(r *zipRecord) { r.flags = 1 }), err: "flags 0x0809"},
		{name: "local-name", file: record(func(r *zipRecord) { r.localName = "m/data/1" }), err: "another name in the local header"},
		{name: "local-flags", file: record(func(r *zipRecord) { r.localFlags = 1 }), err: "flags 0x0809 and method 0 in the local header"},
		{name: "local-size", file: record(func(r *zipRecord) { r.localSize = 7 }), err: "sizes 7, 7 in the local header"},
		{name: "local-crc", file: record(func(r *zipRecord) { r.localCRC = 7 }), err: "CRC 00000007"},
		{name: "no-descriptor", file: record(func(r *zipRecord) { r.noDescriptor, r.localCRC = true, 1 }), err: "CRC 00000001 and sizes 0, 0 in the local header"},
		{name: "descriptor", file: record(func(r *zipRecord) { r.descriptor = descriptorSig + u32(0) + u32(8) + u32(8) }), err: "want a data descriptor"},
		{name: "record-past-directory", file: record(func(r *zipRecord) { r.size = 4096 }), err: "want a record that ends before the directory"},
		{name: "record-size-2-64", file: record(func(r *zipRecord) {
			r.extra, r.size = "\x01\x00\x10\x00"+u64(-1)+u64(-1), math32-8
		}), err: "18446744073709551615 bytes after offset"},
		{name: "zip64-missing", file: record(func(r *zipRecord) { r.size = math32 - 8 }), err: "sizes of 64 bits that its extra field lacks"},
		{name: "extra-length", file: record(func(r *zipRecord) { r.extra, r.size = "\x01\x00\xff\xff", math32-8 }), err: "sizes of 64 bits that its extra field lacks"},
		{name: "overlap", file: record(func(r *zipRecord) { r.offset = -1 }), err: "no overlap and no gap"},
		{name: "same-header-twice", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/data/1", offset: -1 << 7})...), err: "no overlap and no gap"},
		{name: "gap", file: record(func(r *zipRecord) { r.gap = 3 }), err: "want it at"},
		{name: "bytes-before", file: archiveOf(zipEnd{before: "PK\x03\x04"}, weights()...), err: "no overlap and no gap"},
		{name: "bytes-after", file: archiveOf(zipEnd{after: "x"}, weights()...), err: "want PyTorch's end-of-directory record in the last 22 bytes"},
		{name: "archive-comment", file: archiveOf(zipEnd{comment: "x"}, weights()...), err: "want PyTorch's end-of-directory record in the last 22 bytes"},
		{name: "record-comment", file: record(func(r *zipRecord) { r.comment = "x" }), err: "a comment or a second disk"},
		{name: "entries-too-many", file: archiveOf(zipEnd{count: 1}, weights(zipRecord{name: "m/version", extra: "FB\x40\x00" + strings.Repeat("Z", 64)})...), err: "no entry"},
		{name: "entries-too-few", file: archiveOf(zipEnd{count: -1}, weights()...), err: "bytes after its last entry"},
		{name: "entries-4-billion", file: archiveOf(zipEnd{count: math32}, weights()...), err: "want at most 65536", unsupported: true},
		{name: "entries-more-than-fit", file: archiveOf(zipEnd{count: 1000}, weights()...), err: "which a directory of 110 bytes can hold"},
		{name: "entries-none", file: archiveOf(zipEnd{}), err: "want the records of a checkpoint"},
		{name: "directory-length", file: archiveOf(zipEnd{size: 1, plain: true}, weights()...), err: "want a directory that ends at"},
		{name: "directory-offset-2-63", file: archiveOf(zipEnd{offset: -1 << 63}, weights()...), err: "want a directory that ends at"},
		{name: "zip64-locator", file: archiveOf(zipEnd{locator: 1}, weights()...), err: "zip64 locator"},
		{name: "duplicate-name", file: archiveOf(zipEnd{}, weights(data("0", 8))...), err: `a record of the same name, "m/data/0"`},
		{name: "duplicate-case", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/DATA.PKL", data: whole(one)})...), err: `a record of the same name, "m/data.pkl"`},
		{name: "duplicate-basename", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/other/0"})...), err: `a record of the same name, "m/data/0"`},
		{name: "second-folder", file: archiveOf(zipEnd{}, weights(zipRecord{name: "n/data.pkl", data: whole(one)})...), err: "all records in one folder"},
		{name: "dot-dot", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/../etc/passwd"})...), err: "an empty part or dots"},
		{name: "no-folder", file: archiveOf(zipEnd{}, zipRecord{name: "data.pkl", data: whole(one)}), err: "a name without folder"},
		{name: "name-nul", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/a\x00b"})...), err: "a control character"},
		{name: "name-utf8", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/\xff"})...), err: "invalid UTF-8"},
		{name: "no-pickle", file: archiveOf(zipEnd{}, data("0", 8)), err: "no such record"},
		{name: "crc-pickle", file: archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: whole(one), crc: 1}, data("0", 8)), err: "got CRC-32"},
		{name: "crc-storage", file: record(func(r *zipRecord) { r.crc = 1 }), err: "got CRC-32", late: true},
		{name: "crc-empty", file: fileOf(dict(str("w"), viewOf(storageID("FloatStorage", "0", 0), 0, ints(0), ints(1))), zipRecord{name: "m/data/0", crc: 1}), err: "got CRC-32"},
		{name: "big-endian", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/byteorder", data: "big"})...), err: `byte order "big"`, unsupported: true},
		{name: "torchscript-constants", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/constants.pkl"})...), err: "TorchScript", unsupported: true},
		{name: "torchscript-code", file: archiveOf(zipEnd{}, weights(zipRecord{name: "m/code/__torch__.py"})...), err: "TorchScript", unsupported: true},
		{name: "truncated", file: cut[:len(cut)-30], err: "interrupted"},
		{name: "tar", file: []byte(strings.Repeat("x", 257) + "ustar" + strings.Repeat("\x00", 250)), err: "a tar archive", unsupported: true},
		{name: "bare-pickle", file: []byte(whole(one)), err: "without PyTorch's magic number", unsupported: true},
		{name: "storage-short", file: fileOf(dict(str("w"), viewOf(six, 0, ints(6), ints(1))), data("0", 8)), err: "a record of 8 bytes, want 24"},
		{name: "storage-long", file: fileOf(one, data("0", 24)), err: "a record of 24 bytes, want 8"},
		{name: "storage-missing", file: fileOf(one), err: `storage "0" without its record`},
		{name: "legacy-big-endian", file: legacyOf(dict(str("little_endian"), "\x89"), one, legacyStorage{"0", 2, 8}), err: "a big-endian file", unsupported: true},
		{name: "legacy-protocol", file: []byte(string(legacyMagic) + "\x80\x02M\xea\x03."), err: "version 1001"},
		{name: "legacy-count", file: legacyOf(littleSystem, one, legacyStorage{"0", 3, 8}), err: "3 elements, want 2, as the object says"},
		{name: "legacy-short", file: legacyOf(littleSystem, one, legacyStorage{"0", 2, 7}), err: "want at most 7, the bytes left"},
		{name: "legacy-bytes-after", file: legacyOf(littleSystem, one, legacyStorage{"0", 2, 9}), err: "1 bytes after the last storage"},
		{name: "legacy-key-twice", file: legacyOf(littleSystem, one, legacyStorage{"0", 2, 8}, legacyStorage{"0", 2, 8}), err: "want every storage of the object once"},
		{name: "legacy-key-missing", file: legacyOf(littleSystem, one), err: "0 keys, want 1"},
		{name: "legacy-key-unknown", file: legacyOf(littleSystem, one, legacyStorage{"1", 2, 8}), err: `key "1"`},
		{name: "legacy-keys", file: []byte(string(legacyMagic) + string(legacyProtocol) + whole(littleSystem) + whole(one) + whole("}")), err: "want a list of keys"},
		{name: "legacy-no-count", file: legacyOf(littleSystem, one, legacyStorage{"0", 2, 8})[:len(legacyOf(littleSystem, one, legacyStorage{"0", 2, 8}))-12], err: "4 bytes left, want the count of its elements"},
		{name: "legacy-complex", file: legacyOf(littleSystem, dict(str("w"), viewOf(storageID("ComplexFloatStorage", "0", 1), 0, ints(1), ints(1))), legacyStorage{"0", 1, 8}), err: "torch.complex64 is not supported", unsupported: true},
		{name: "legacy-os-system", file: legacyOf(call(name("os", "system"), str("id")), one), err: `global "os.system"`},
		{name: "legacy-system", file: legacyOf(list(), one), err: "want a dictionary with little_endian"},
		{name: "legacy-system-endless", file: legacyOf(strings.Repeat("]", 5000), one), err: "want at most 4096", unsupported: true},
	}
}

// math32 is a 32-bit length of all ones.
const math32 = 1<<32 - 1

func pickleAttacks() []attack {
	six := storageID("FloatStorage", "0", 6)
	system := name("os", "system") + tuple(str("id")) + "R"
	return []attack{
		{name: "os-system", file: fileOf(system), err: `global "os.system"`},
		{name: "os-system-in-config", file: with(system), err: `global "os.system"`},
		{name: "posix-system-stack-global", file: with("\x8c\x05posix\x8c\x06system\x93" + tuple(str("id")) + "R"), err: `global "posix.system"`},
		{name: "stack-global-of-memo", file: with("\x8c\x02osq\x01\x8c\x06systemq\x02]\x8c\x01xah\x01h\x02\x93" + tuple(str("id")) + "R"), err: `global "os.system"`},
		{name: "builtins-eval", file: with(call(name("builtins", "eval"), str("1"))), err: `global "builtins.eval"`},
		{name: "builtin-getattr", file: with(call(name("__builtin__", "getattr"), str("1"))), err: `global "__builtin__.getattr"`},
		{name: "subprocess-Popen", file: with(name("subprocess", "Popen") + tuple(str("id")) + "\x81"), err: `global "subprocess.Popen"`},
		{name: "submodule-of-os", file: with(call(name("os.path", "Exists"))), err: `global "os.path.Exists"`},
		{name: "pickle-loads", file: with(call(name("_pickle", "loads"), str("x"))), err: `global "_pickle.loads"`},
		{name: "reconstructor", file: with(name("copy_reg", "_reconstructor")), err: `global "copy_reg._reconstructor"`},
		{name: "runpy", file: with(call(name("runpy", "_run_code"), str("x"))), err: `global "runpy._run_code"`},
		{name: "numpy-runstring", file: with(call(name("numpy.testing._private.utils", "runstring"), str("x"))), err: `global "numpy.testing._private.utils.runstring"`, unsupported: true},
		{name: "torch-load-from-bytes", file: with(call(name("torch.storage", "_load_from_bytes"), str("x"))), err: `global "torch.storage._load_from_bytes"`, unsupported: true},
		{name: "torch-hub", file: with(call(name("torch.hub", "load"), str("x"))), err: `global "torch.hub.load"`, unsupported: true},
		{name: "unknown-function", file: with(call(name("my.module", "build"), str("x"))), err: `global "my.module.build"`, unsupported: true},
		{name: "unknown-method", file: with(name("my.module", "Config.from_pretrained")), err: `global "my.module.Config.from_pretrained"`, unsupported: true},
		{name: "name-with-space", file: with(name("my module", "Config")), err: `global "my module.Config"`, unsupported: true},
		{name: "whole-module", file: fileOf(name("my.model", "Net")+")\x81"+dict(str("w"), floats("0", 2))+"b", data("0", 8)), err: `an object of class "my.model.Net"`, unsupported: true},
		{name: "module-source", file: fileOf(tuple(str("module"), name("my", "Net"), str("a.py"), str("x"), num(0)) + "Q"), err: "a pickled module", unsupported: true},

		{name: "string-of-64-gigabytes", file: with("\x8d" + u64(64<<30)), err: "a length of 68719476736"},
		{name: "string-of-4-gigabytes", file: with("X" + u32(-1)), err: "a length of 4294967295"},
		{name: "string-of-2-64", file: with("\x8d" + u64(-1)), err: "a length of 18446744073709551615"},
		{name: "bytes-past-end", file: with("B" + u32(1000)), err: "a length of 1000"},
		{name: "string-not-utf8", file: with(str("\xff")), err: "a string that is not UTF-8"},
		{name: "integer-of-0-bytes", file: with("\x8a\x00"), err: "an integer of 0 bytes"},
		{name: "integer-of-255-bytes", file: with("\x8a\xff" + strings.Repeat("x", 255)), err: "an integer of 255 bytes"},
		{name: "long4", file: with("\x8b" + u32(1<<30)), err: "operation 0x8b"},
		{name: "frame-of-2-62", file: with("\x95" + u64(1<<62)), err: "a frame of 4611686018427387904 bytes"},
		{name: "frame-in-frame", file: with("\x95" + u64(20) + "\x95" + u64(1) + strings.Repeat("N", 20)), err: "a frame inside a frame"},
		{name: "frame-cuts-operation", file: with("\x95" + u64(2) + str("abc")), err: "an operation across the end of a frame"},
		{name: "bytearray", file: with("\x96" + u64(1<<40)), err: "operation 0x96"},
		{name: "extension", file: with("\x82\x01"), err: "operation 0x82"},
		{name: "instance-by-text", file: with("(ios\nsystem\n"), err: "operation 0x69"},
		{name: "integer-by-text", file: with("I" + strings.Repeat("9", 100) + "\n"), err: "operation 0x49"},
		{name: "dup", file: with("N2"), err: "operation 0x32"},
		{name: "pop", file: with("NN0"), err: "operation 0x30"},
		{name: "zero-bytes", file: with("\x00"), err: "operation 0x00"},
		{name: "byte-255", file: with("\xff"), err: "operation 0xff"},
		{name: "protocol-0", file: archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: "(dp0\n."}), err: "want PROTO, protocol 2 or later"},
		{name: "protocol-9", file: archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: "\x80\x09}."}), err: "PROTO 9"},
		{name: "protocol-twice", file: with("\x80\x02N"), err: "PROTO 2"},
		{name: "empty-pickle", file: archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl"}), err: "want the STOP operation"},
		{name: "no-stop", file: archiveOf(zipEnd{}, zipRecord{name: "m/data.pkl", data: "\x80\x02}"}), err: "want the STOP operation"},
		{name: "stop-on-empty-stack", file: fileOf(""), err: "STOP with 0 values"},
		{name: "stop-on-mark", file: fileOf("}("), err: "STOP with 1 values and 1 marks"},
		{name: "bytes-after-pickle", file: fileOf("}.}"), err: "2 bytes after the pickle"},
		{name: "marks", file: with(strings.Repeat("(", 200)), err: "want at most 128", unsupported: true},
		{name: "stack", file: with(strings.Repeat("N", 70_000)), err: "a further value on the stack", unsupported: true},
		{name: "memo-index", file: with("Nr" + u32(-1)), err: "memo index 4294967295", unsupported: true},
		{name: "memo-not-written", file: with("h\x07"), err: "memo entry 7"},
		{name: "memo-of-nothing", file: fileOf("q\x00"), err: "no value on the stack"},
		{name: "tuple-of-too-few", file: fileOf("N\x86"), err: "1 values on the stack"},
		{name: "tuple-below-mark", file: with("N(N\x86"), err: "1 values on the stack"},
		{name: "mark-missing", file: with("Nt"), err: "no mark on the stack", late: false},
		{name: "odd-items", file: with("}(Nu"), err: "1 keys and values"},
		{name: "item-of-tensor", file: with(floats("0", 2) + "NNs"), err: "got a rebuilt value, want a dict"},
		{name: "append-to-string", file: with(str("x") + "Na"), err: "got a string, want a list"},
		{name: "list-as-key", file: with("}]Ns"), err: "a list as a key"},
		{name: "bytes-as-key", file: with("}C\x01xNs"), err: "bytes as a key"},
		{name: "add-list-to-set", file: with("\x8f(]\x90"), err: "a list as a key"},
		{name: "call-of-string", file: with(call(str("x"))), err: "a call of a string"},
		{name: "call-of-dtype", file: with(call(name("torch", "float32"))), err: "a call of a constant"},
		{name: "call-without-tuple", file: with(name("my", "Config") + "]R"), err: "arguments that are a list"},
		{name: "object-of-function", file: with(name("torch", "Size") + ")\x81"), err: "an object of a function"},
		{name: "state-of-number", file: with("K\x01}b"), err: "got a number, want an object"},
		{name: "state-of-ordered-dict", file: with(ordered() + "Nb"), err: "with None as its attributes"},
		{name: "ordered-dict-of-pairs", file: with(call(name("collections", "OrderedDict"), list())), err: "an OrderedDict of 1 arguments"},
		{name: "attribute-not-string", file: with(ordered() + dict(num(1), num(2)) + "b"), err: "string key"},
		{name: "persistent-string", file: with(str("0") + "Q"), err: "a persistent id that is a string"},
		{name: "persistent-kind", file: with(tuple(str("file"), name("torch", "FloatStorage"), str("0"), str("cpu"), num(2)) + "Q"), err: "arguments of another kind"},
		{name: "persistent-view", file: with(tuple(str("storage"), name("torch", "FloatStorage"), str("0"), str("cpu"), num(2), tuple(str("1"), num(0), num(1))) + "Q"), err: "a part of another", unsupported: true},
		{name: "rebuild-of-nothing", file: with(call(name("torch._utils", "_rebuild_tensor_v2"))), err: "0 arguments, want 6 to 7"},
		{name: "rebuild-of-dict", file: with(call(name("torch._utils", "_rebuild_tensor_v2"), "}", "}", "}", "}", "}", "}")), err: "arguments of another kind"},
		{name: "global-without-end", file: with("c" + strings.Repeat("a", 2000)), err: "a name without its end"},
		{name: "stack-global-of-numbers", file: with(num(1) + num(2) + "\x93"), err: "a global named by a number"},
		{name: "tensor-alone", file: fileOf(floats("0", 2), data("0", 8)), err: "one tensor is not supported", unsupported: true},
		{name: "function-as-parameter", file: with(call(name("torch._utils", "_rebuild_parameter"), "N", "\x88", "N")), err: "arguments of another kind"},
		{name: "persistent-id-short", file: with(tuple(str("storage")) + "Q"), err: "a persistent id that is a tuple"},
		{name: "state-missing", file: with(name("my", "C") + ")\x81b"), err: "want an object"},
		{name: "rebuild-in-rebuild", file: with(call(name("torch._tensor", "_rebuild_from_type_v2"), name("torch._tensor", "_rebuild_from_type_v2")+"q\x00",
			"N", tuple("h\x00", "N", tuple(), "N"), "N")), err: "arguments of another kind"},

		{name: "view-past-storage", file: withView(six, 1, ints(6), ints(1)), err: "want one inside its storage"},
		{name: "view-stride-past-storage", file: withView(six, 0, ints(2, 2), ints(5, 1)), err: "want one inside its storage"},
		{name: "view-stride-overflow", file: withView(six, 0, ints(5, 1), ints(1<<62, 1)), err: "want one inside its storage"},
		{name: "view-sum-overflow", file: withView(six, 0, ints(2, 2, 2, 2, 2), ints(1<<62, 1<<62, 1<<62, 1<<62, 0)), err: "want one inside its storage"},
		{name: "view-negative-offset", file: withView(six, -1, ints(2), ints(1)), err: "storage offset: got -1"},
		{name: "view-negative-stride", file: withView(six, 5, ints(6), ints(-1)), err: "no negative number"},
		{name: "view-negative-dim", file: withView(six, 0, ints(-1, -6), ints(1, 1)), err: "no negative number"},
		{name: "view-shape-overflow", file: withView(six, 0, ints(1<<40, 1<<40), ints(0, 0)), err: "fewer elements than 2^60"},
		{name: "view-repeats", file: withView(six, 0, ints(1<<40), ints(0)), err: "that repeat the 6 of its storage", unsupported: true},
		{name: "view-rank-differs", file: withView(six, 0, ints(2, 3), ints(1)), err: "as many of each"},
		{name: "view-rank-9", file: withView(six, 0, ints(1, 1, 1, 1, 1, 1, 1, 1, 1), ints(1, 1, 1, 1, 1, 1, 1, 1, 1)), err: "rank 9"},
		{name: "view-shape-of-strings", file: withView(six, 0, tuple(str("6")), ints(1)), err: "arguments of another kind"},
		{name: "view-empty-past-storage", file: withView(six, 7, ints(0), ints(1)), err: "want one inside its storage"},
		{name: "storage-negative", file: withView(storageID("FloatStorage", "0", -1), 0, ints(0), ints(1)), err: "a storage of -1 elements"},
		{name: "storage-overflow", file: withView(storageID("DoubleStorage", "0", 1<<61), 0, ints(1), ints(1)), err: "want one inside the file"},
		{name: "storage-two-dtypes", file: fileOf(dict(str("a"), viewOf(six, 0, ints(6), ints(1)), str("b"), viewOf(storageID("IntStorage", "0", 6), 0, ints(6), ints(1))), data("0", 24)), err: "used as FloatStorage and as IntStorage"},
		{name: "storage-two-lengths", file: fileOf(dict(str("a"), viewOf(six, 0, ints(6), ints(1)), str("b"), floats("0", 2)), data("0", 24)), err: "of 24 and of 8 bytes"},
		{name: "untyped-two-dtypes", file: fileOf(dict(str("a"), untyped("0", 8, "uint16", 4), str("b"), untyped("0", 8, "float8_e5m2", 8)), data("0", 8)), err: "used as uint16 and as float8_e5m2"},
		{name: "untyped-without-dtype", file: withView(storageID("UntypedStorage", "0", 24), 0, ints(6), ints(1)), err: "an untyped storage without an element type"},
		{name: "untyped-odd-length", file: fileOf(dict(str("a"), untyped("0", 7, "uint32", 1)), data("0", 7)), err: "got 7 bytes, want a multiple of 4"},
		{name: "complex", file: withView(storageID("ComplexFloatStorage", "0", 3), 0, ints(3), ints(1)), err: "torch.complex64 is not supported", unsupported: true},
		{name: "no-tensors", file: fileOf(dict(str("a"), num(1))), err: `no tensors under "a"`},
		{name: "list-of-tensors", file: fileOf(list(floats("0", 2)), data("0", 8)), err: "a list is not supported", unsupported: true},
		{name: "dictionary-of-itself", file: fileOf("}q\x00" + str("model") + "h\x00s"), err: "no tensors"},
		{name: "containers-too-deep", file: fileOf(dict(str("model"), dict(str("model"), dict(str("model"), dict(str("model"), dict(str("model"), one))))), data("0", 8)), err: "no tensors"},
		{name: "two-models", file: fileOf(dict(str("model"), one, str("state_dict"), dict(str("v"), floats("1", 2))), data("0", 8), data("1", 8)), err: `tensors under both "model" and "state_dict"`, unsupported: true},
		{name: "tensor-twice", file: fileOf(dict(str("w"), floats("0", 2), str("w"), floats("1", 2)), data("0", 8), data("1", 8)), err: "the name twice"},
		{name: "tensor-twice-unwrapped", file: fileOf(dict(str("w"), floats("0", 2), str("_orig_mod.w"), floats("1", 2)), data("0", 8), data("1", 8)), err: "the name twice"},
		{name: "tensor-name-empty", file: fileOf(dict(str(""), floats("0", 2)), data("0", 8)), err: "no name"},
		{name: "tensor-name-control", file: fileOf(dict(str("a\x1b[2J"), floats("0", 2)), data("0", 8)), err: "a control character"},
		{name: "tensor-name-long", file: fileOf(dict(str(strings.Repeat("a", 1025)), floats("0", 2)), data("0", 8)), err: "1025 bytes"},
	}
}

// untyped is a vector of n elements of an untyped storage of so many bytes.
func untyped(key string, bytes int, dtype string, n int) string {
	return call(name("torch._utils", "_rebuild_tensor_v3"), storageID("UntypedStorage", key, bytes), num(0), ints(n), ints(1), "\x89", ordered(), name("torch", dtype))
}

// requireGoodError holds what every error of a reader of bytes must be: one of
// the two kinds, complete, printable and short.
func requireGoodError(t testing.TB, err error) {
	var format *tensor.FormatError
	var unsupported *tensor.UnsupportedError
	require.Error(t, err)
	switch {
	case errors.As(err, &format):
	case errors.As(err, &unsupported):
		format = (*tensor.FormatError)(unsupported)
	default:
		require.Fail(t, "error of another kind", err)
	}
	require.NotEmpty(t, format.File)
	require.NotEmpty(t, format.Field)
	require.NotEmpty(t, format.Got)
	require.NotEmpty(t, format.Want)
	require.Less(t, len(err.Error()), 1500)
	require.True(t, utf8.ValidString(err.Error()))
	for _, c := range err.Error() {
		require.False(t, c < ' ' || c == 0x7f, "%q", err)
	}
}

// readAll reads every tensor to its end.
func readAll(r *Reader) error {
	for _, tn := range r.Tensors() {
		if _, err := io.Copy(io.Discard, io.NewSectionReader(tn, 0, tn.Size)); err != nil {
			return err
		}
	}
	return nil
}

func TestAttacks(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(attacksDir, "README.md"))
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			require.False(t, seen[a.name])
			seen[a.name] = true
			require.Contains(t, string(readme), fmt.Sprintf("| %s |", a.name))
			path := filepath.Join(attacksDir, "torch", a.name+".pt")
			if *update {
				require.NoError(t, os.WriteFile(path, a.file, 0o644))
			}
			stored, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, a.file, stored, "go test -run TestAttacks -update writes the corpus")

			r, err := Open(path)
			if a.late {
				require.NoError(t, err)
				err = readAll(r)
				require.NoError(t, r.Close())
			} else {
				require.Nil(t, r)
			}
			requireGoodError(t, err)
			require.ErrorContains(t, err, a.err)
			var unsupported *tensor.UnsupportedError
			require.Equal(t, a.unsupported, errors.As(err, &unsupported), err)
		})
	}
	entries, err := os.ReadDir(filepath.Join(attacksDir, "torch"))
	require.NoError(t, err)
	require.Len(t, entries, len(attacks))
}
