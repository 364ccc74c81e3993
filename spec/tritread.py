#!/usr/bin/env python3
"""A reader of .trit files in plain Python, written from trit-v1.md.

usage: tritread.py [--json] [--check | --content] [--tensor NAME] [--release] FILE

Without options it prints the header, the tensors and the sections of FILE,
after applying every rule for opening a file. --json prints the same as JSON,
--check verifies every other byte too, --content also what the sections say
(tritcontent.py), --tensor NAME prints one tensor decoded as JSON: its trits,
integers or floats row by row, and its scales; --release prints the SHA-256 of
all that FILE holds, as trit-v1-vectors.md defines it.

Exit status: 0 fine, 1 FILE cannot be read or has no such tensor, 2 usage,
3 FILE is malformed or unsupported; the message begins with the class of
failure of trit-v1.md, 14.
"""

import argparse
import hashlib
import json
import math
import os
import re
import struct
import sys

MAGIC = b"\x89TRIT\r\n\x1a"
ENCODINGS = {1: "f32", 2: "f16", 3: "bf16", 4: "int8", 5: "trit2", 6: "trit3"}
RULES = ["none", "absmean", "threshold", "verbatim"]
GRANULARITIES = ["none", "tensor", "row", "group"]
JSON_SECTIONS = {"config", "generation", "provenance", "self-test"}
CODEBOOK_KEYS = {
    "audio": {"channels", "frame_length", "sample_rate"},
    "embedding": set(),
    "image": {"channels", "patch_size", "range"},
}
BLOCK = 1 << 20


class Refused(Exception):
    """The file breaks a rule: class, offset, field, value seen and expected."""

    def __init__(self, kind, offset, field, got, want):
        super().__init__(f"{kind}: offset {offset}: {field} is {got}, want {want}")


def up(n, to=256):
    return (n + to - 1) // to * to


def require(ok, kind, offset, field, got, want):
    if not ok:
        raise Refused(kind, offset, field, got, want)


def require_zero(data, begin, end, kind, field):
    part = data[begin:end]
    if part.strip(b"\0"):
        at = len(part) - len(part.lstrip(b"\0"))
        raise Refused(kind, begin + at, field, f"0x{part[at]:02x}", "0x00")


class File:
    """A file whose header is verified. read(offset, n) gives its bytes."""

    def __init__(self, stream):
        self.stream = stream
        self.size = stream.seek(0, os.SEEK_END)
        self.open()

    def read(self, offset, n):
        self.stream.seek(offset)
        data = self.stream.read(n)
        require(len(data) == n, "bounds", offset + len(data), "file length", offset + len(data), offset + n)
        return data

    def open(self):
        start = self.read(0, min(self.size, 384))
        require(start[:8] == MAGIC, "not-trit", 0, "magic", start[:8].hex(" "), MAGIC.hex(" "))
        require(len(start) >= 12, "bounds", len(start), "file length", self.size, "at least 384")
        self.major, self.minor = struct.unpack_from("<HH", start, 8)
        require(self.major == 1, "unsupported-version", 8, "version", f"{self.major}.{self.minor}", "1.x")
        require(len(start) == 384, "bounds", len(start), "file length", self.size, "at least 384")
        length, self.header_length, tensors, sections = struct.unpack_from("<QQII", start, 16)
        require(length == self.size, "bounds", 16, "file length", length, self.size)
        require(1 <= tensors <= 65536, "header", 32, "tensor count", tensors, "1..65536")
        require(1 <= sections <= 32, "header", 36, "section count", sections, "1..32")
        want = up(384 + 256 * tensors + 128 * sections)
        require(self.header_length == want, "header", 24, "header length", self.header_length, want)
        require(want <= self.size, "bounds", 24, "header length", want, f"at most {self.size}")

        head = self.head = self.read(0, want)
        self.sha256 = head[320:352]
        got = hashlib.sha256(head[:320] + bytes(32) + head[352:]).digest()
        require(got == self.sha256, "checksum", 320, "SHA-256 of the header", self.sha256.hex(), got.hex())
        for begin, end in ((12, 16), (40, 64), (352, 384)):
            require_zero(head, begin, end, "header", "reserved byte")
        self.required = self.features(64)
        self.optional = self.features(192)
        require(not self.required, "unsupported-version", 64, "required feature", self.required, "none")
        self.directory(tensors, sections)

    def features(self, at):
        names = []
        for slot in range(at, at + 128, 16):
            name = self.head[slot : slot + 16].rstrip(b"\0")
            if not name:
                require_zero(self.head, slot, at + 128, "header", "unused feature slot")
                break
            require(re.fullmatch(rb"[a-z0-9-]+", name), "header", slot, "feature", name, "[a-z0-9-]")
            require(not names or names[-1] < name.decode(), "header", slot, "feature", name, "ascending names")
            names.append(name.decode())
        return names

    def name(self, at, size, pattern):
        raw = self.head[at : at + size].rstrip(b"\0")
        require(re.fullmatch(pattern + rb"+", raw), "directory", at, "name", raw, pattern.decode())
        return raw.decode()

    def directory(self, tensors, sections):
        self.end = self.header_length
        self.tensors, self.sections = {}, {}
        at = 384
        for _ in range(tensors):
            t = self.tensor_record(at)
            require(t["name"] not in self.tensors, "directory", at, "name", t["name"], "a unique name")
            self.tensors[t["name"]] = t
            at += 256
        last = ""
        for _ in range(sections):
            name = self.name(at, 32, rb"[a-z0-9-]")
            require(last < name, "directory", at, "section", name, f"a name after {last!r}")
            last = name
            offset, length = struct.unpack_from("<QQ", self.head, at + 32)
            require(1 <= length <= 256 << 20, "directory", at + 40, "section length", length, "1..268435456")
            require_zero(self.head, at + 80, at + 128, "directory", "reserved byte")
            self.place(at + 32, offset, length)
            self.sections[name] = {"name": name, "offset": offset, "length": length, "sha256": self.head[at + 48 : at + 80]}
            at += 128
        require("config" in self.sections, "directory", 384 + 256 * tensors, "section config", "missing", "present")
        require_zero(self.head, at, len(self.head), "directory", "padding")
        require(self.end == self.size, "bounds", self.end, "end of the last extent", self.end, self.size)

    def tensor_record(self, at):
        head = self.head
        name = self.name(at, 128, rb"[a-z0-9_.]")
        encoding, rule, granularity, rank, out, cols, group = struct.unpack_from("<HHHHIII", head, at + 128)

        def need(ok, field, offset, got, want):
            require(ok, "directory", at + offset, f"{name}: {field}", got, want)

        need(encoding in ENCODINGS, "encoding", 128, encoding, "1..6")
        need(rule <= 3, "rule", 130, rule, "0..3")
        need(granularity <= 3, "granularity", 132, granularity, "0..3")
        need(rank in (1, 2), "rank", 134, rank, "1 or 2")
        need(1 <= out < 1 << 31, "dim 0", 136, out, "1..2^31-1")
        if rank == 2:
            need(1 <= cols < 1 << 31, "dim 1", 140, cols, "1..2^31-1")
        else:
            need(cols == 0, "dim 1", 140, cols, "0 for rank 1")
            cols = 1
        if encoding >= 5:
            need(rule != 0, "rule", 130, rule, "1..3 for trits")
            need(granularity != 0, "granularity", 132, granularity, "1..3 for trits")
        else:
            need(rule == 0, "rule", 130, rule, "0")
            need(granularity == (2 if encoding == 4 else 0), "granularity", 132, granularity, "2 for int8, otherwise 0")
        need(rank == 2 or encoding <= 3, "rank", 134, rank, "2")
        if granularity == 3:
            need(128 <= group < 1 << 31 and group % 128 == 0, "group", 144, group, "a multiple of 128")
        else:
            need(group == 0, "group", 144, group, "0")
        require_zero(head, at + 148, at + 152, "directory", f"{name}: reserved byte")
        require_zero(head, at + 248, at + 256, "directory", f"{name}: reserved byte")

        if encoding >= 5:
            length = -(-out // 4) * -(-cols // 128) * (128 if encoding == 5 else 104)
        else:
            length = out * cols * (0, 4, 2, 2, 1)[encoding]
        need(length <= 1 << 62, "size", 136, length, "at most 2^62")
        scales = (0, 1, out, out * -(-cols // group) if group else 0)[granularity]
        offset, have, scale_offset, scale_length = struct.unpack_from("<QQQQ", head, at + 152)
        require(have == length, "bounds", at + 160, f"{name}: data length", have, length)
        self.place(at + 152, offset, length)
        if scales:
            require(scale_length == 4 * scales, "bounds", at + 176, f"{name}: scale length", scale_length, 4 * scales)
            self.place(at + 168, scale_offset, scale_length)
        else:
            require_zero(head, at + 168, at + 184, "directory", f"{name}: scale extent")
            require_zero(head, at + 216, at + 248, "directory", f"{name}: scale hash")
        return {
            "name": name, "encoding": ENCODINGS[encoding], "rule": RULES[rule],
            "granularity": GRANULARITIES[granularity], "dims": [out, cols][:rank], "group": group,
            "offset": offset, "length": length, "scale_offset": scale_offset, "scale_length": scale_length,
            "sha256": head[at + 184 : at + 216], "scale_sha256": head[at + 216 : at + 248],
        }

    def place(self, at, offset, length):
        want = up(self.end)
        require(offset == want, "bounds", at, "offset", offset, want)
        require(offset + length <= self.size, "bounds", at + 8, "end of the extent", offset + length, f"at most {self.size}")
        self.end = offset + length

    # Verifying.

    def extents(self):
        """Offset, length, hash and name of every extent, in the order of the file."""
        for t in self.tensors.values():
            yield t["offset"], t["length"], t["sha256"], "tensor " + t["name"]
            if t["scale_length"]:
                yield t["scale_offset"], t["scale_length"], t["scale_sha256"], "scales of " + t["name"]
        for s in self.sections.values():
            yield s["offset"], s["length"], s["sha256"], "section " + s["name"]

    def check(self):
        end = self.header_length
        for offset, length, want, what in self.extents():
            require_zero_at(self.read(end, offset - end), end)
            digest = hashlib.sha256()
            for at in range(offset, offset + length, BLOCK):
                digest.update(self.read(at, min(BLOCK, offset + length - at)))
            require(digest.digest() == want, "checksum", offset, "SHA-256 of " + what, digest.hexdigest(), want.hex())
            end = offset + length
        for t in self.tensors.values():
            self.check_data(t)
            self.scales(t)
        for s in self.sections.values():
            if s["name"] in JSON_SECTIONS:
                check_json(self.read(s["offset"], s["length"]), s)
            elif s["name"].startswith("codebook-") and s["name"][9:] in CODEBOOK_KEYS:
                check_codebook(self.read(s["offset"], s["length"]), s)

    def content(self):
        import tritcontent  # which needs this module

        tritcontent.check(self)

    def check_data(self, t):
        if t["encoding"] not in ("trit2", "trit3"):
            for _ in self.rows(t):
                pass
            return
        # Each place of a tile admits a set of bytes; deleting those from the
        # bytes at that place of all tiles of a tile row leaves the illegal ones.
        encoding, (out, cols) = t["encoding"], t["dims"]
        width = 32 if encoding == "trit2" else 26
        tiles_per_row = -(-cols // 128)
        last = cols - (tiles_per_row - 1) * 128
        legal = [legal_bytes(encoding, k) for k in range(6)]
        at = t["offset"]
        for first in range(0, out, 4):
            data = self.read(at, tiles_per_row * 4 * width)
            for place in range(4 * width):
                run, m = divmod(place, width)
                row_exists = first + run < out
                full = legal[len(range(m, 128, width)) if row_exists else 0]
                edge = legal[len(range(m, last, width)) if row_exists else 0]
                column = data[place :: 4 * width]
                if column[:-1].translate(None, full) or column[-1:].translate(None, edge):
                    n = next(n for n, v in enumerate(column) if v not in (full if n < tiles_per_row - 1 else edge))
                    raise Refused(
                        "code", at + n * 4 * width + place, f"{t['name']}: byte {m} of row {first + run} in tile column {n}",
                        f"0x{column[n]:02x}", "a legal code, and zero where there is no weight",
                    )
            at += len(data)

    def scales(self, t):
        values = struct.unpack(f"<{t['scale_length'] // 4}f", self.read(t["scale_offset"], t["scale_length"]))
        for i, s in enumerate(values):
            ok = math.isfinite(s) and (s > 0 or t["rule"] != "absmean") and (s >= 0 or t["encoding"] != "int8")
            require(ok, "scale", t["scale_offset"] + 4 * i, f"{t['name']}: scale {i}", s, "a finite number, above 0 for absmean, at least 0 for int8")
        return values

    def rows(self, t):
        """The values of a tensor, row by row: trits, integers or floats."""
        encoding, dims = t["encoding"], t["dims"]
        out, cols = dims if len(dims) == 2 else (1, dims[0])
        if encoding in ("trit2", "trit3"):
            yield from self.trit_rows(t, out, cols)
            return
        width, code = {"f32": (4, "f"), "f16": (2, "e"), "bf16": (2, "H"), "int8": (1, "b")}[encoding]
        for r in range(out):
            at = t["offset"] + r * cols * width
            row = list(struct.unpack(f"<{cols}{code}", self.read(at, cols * width)))
            if encoding == "bf16":
                row = list(struct.unpack(f"<{cols}f", struct.pack(f"<{cols}I", *(v << 16 for v in row))))
            for c, v in enumerate(row):
                ok = v != -128 if encoding == "int8" else math.isfinite(v)
                require(ok, "code", at + c * width, f"{t['name']}: value {r},{c}", v, "finite" if encoding != "int8" else "-127..127")
            yield row

    def trit_rows(self, t, out, cols):
        tiles_per_row = -(-cols // 128)
        two = t["encoding"] == "trit2"
        width = 32 if two else 26
        for r in range(out):
            base = t["offset"] + (r // 4 * tiles_per_row * 4 + r % 4) * width
            runs = [self.read(base + n * 4 * width, width) for n in range(tiles_per_row)]
            row = []
            for c in range(cols):
                byte, j = runs[c // 128][c % 128 % width], c % 128 // width
                if two:
                    digit = byte >> 2 * j & 3
                    trit = (0, 1, None, -1)[digit]
                else:
                    digit = byte // 3**j % 3
                    trit = (0, 1, -1)[digit] if byte <= 242 else None
                require(trit is not None, "code", base + c // 128 * 4 * width + c % 128 % width, f"{t['name']}: row {r}, column {c}", f"0x{byte:02x}", "a legal code")
                row.append(trit)
            yield row

    def decode(self, name):
        t = self.tensors[name]
        result = {key: t[key] for key in ("name", "encoding", "rule", "granularity", "dims", "group")}
        values = list(self.rows(t))
        result["values"] = values if len(t["dims"]) == 2 else values[0]
        result["scales"] = list(self.scales(t))
        return result

    def release(self):
        """The SHA-256 of every value and section, whatever they are encoded in."""
        digest = hashlib.sha256()
        for t in self.tensors.values():
            dims = t["dims"] + [0] * (2 - len(t["dims"]))
            line = [t["name"], t["encoding"], t["rule"], t["granularity"], t["group"], *dims]
            digest.update((" ".join(map(str, line)) + "\n").encode())
            kind = "b" if t["granularity"] != "none" else "f"
            for row in self.rows(t):
                digest.update(struct.pack(f"<{len(row)}{kind}", *row))
            digest.update(struct.pack(f"<{t['scale_length'] // 4}f", *self.scales(t)))
        for s in self.sections.values():
            digest.update(f"{s['name']} {s['length']}\n".encode())
            digest.update(self.read(s["offset"], s["length"]))
        return digest.hexdigest()

    def describe(self):
        def plain(record):
            return {k: v.hex() if isinstance(v, bytes) else v for k, v in record.items()}

        return {
            "version": f"{self.major}.{self.minor}", "required": self.required, "optional": self.optional,
            "file_length": self.size, "header_length": self.header_length, "sha256": self.sha256.hex(),
            "tensors": [plain(t) for t in self.tensors.values()],
            "sections": [plain(s) for s in self.sections.values()],
        }


def require_zero_at(data, offset):
    if data.strip(b"\0"):
        at = len(data) - len(data.lstrip(b"\0"))
        raise Refused("bounds", offset + at, "padding between extents", f"0x{data[at]:02x}", "0x00")


def legal_bytes(encoding, exist):
    """The bytes whose first exist places hold legal codes and whose others are 0."""
    if encoding == "trit3":
        return bytes(range(3**exist))
    codes = [0]
    for j in range(min(exist, 4)):
        codes = [c | v << 2 * j for c in codes for v in (0, 1, 3)]
    return bytes(codes)


# Canonical JSON.


def number(f):
    """A double as ECMAScript prints it (Number::toString)."""
    if f == 0:
        return "0"
    sign, f = ("-", -f) if f < 0 else ("", f)
    mantissa, _, exponent = repr(f).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS times ten to the power of point.
    point = len(whole.lstrip("0")) + int(exponent or 0)
    if not whole.lstrip("0"):
        point -= len(fraction) - len(fraction.lstrip("0"))
    digits = digits.rstrip("0")
    k = len(digits)
    if k <= point <= 21:
        return sign + digits + "0" * (point - k)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    e = point - 1
    return sign + digits[0] + ("." + digits[1:] if k > 1 else "") + "e" + ("+" if e > 0 else "-") + str(abs(e))


def text(s):
    return json.dumps(s, ensure_ascii=False)


def canonical(v, depth=0):
    if isinstance(v, (dict, list)) and depth == 4:
        raise ValueError("more than 4 levels")
    if isinstance(v, dict):
        keys = sorted(v, key=lambda k: k.encode("utf-16-be"))
        return "{" + ",".join(text(k) + ":" + canonical(v[k], depth + 1) for k in keys) + "}"
    if isinstance(v, list):
        return "[" + ",".join(canonical(e, depth + 1) for e in v) + "]"
    if isinstance(v, float):
        if not math.isfinite(v):
            raise ValueError("a number that is not finite")
        return number(v)
    if isinstance(v, str):
        return text(v)
    return {None: "null", True: "true", False: "false"}[v]


def unique(pairs):
    d = dict(pairs)
    if len(d) != len(pairs):
        raise ValueError("a key occurs twice")
    return d


def check_json(data, section):
    field = "section " + section["name"]
    try:
        value = json.loads(data.decode("utf-8"), parse_int=float, object_pairs_hook=unique)
        want = canonical(value).encode("utf-8")
    except (ValueError, RecursionError) as e:
        raise Refused("config", section["offset"], field, e, "canonical JSON") from None
    if want != data:
        at = next((i for i, (a, b) in enumerate(zip(data, want)) if a != b), min(len(data), len(want)))
        raise Refused("config", section["offset"] + at, field, data[at : at + 16], want[at : at + 16])


def check_codebook(data, section):
    """Section 18, but for what takes the config and the tokenizer."""
    field, at = "section " + section["name"], section["offset"]
    require(len(data) >= 8, "config", at, field, len(data), "at least 8 bytes")
    (length,) = struct.unpack_from("<Q", data)
    start = (8 + length + 63) // 64 * 64
    require(start <= len(data), "config", at, field + ": length of the header", length, "a header inside the section")
    text = data[8 : 8 + length]
    check_json(text, {"name": section["name"], "offset": at + 8})
    require_zero(data, 8 + length, start, "config", field + ": padding")
    h, kind = json.loads(text), section["name"][9:]
    require(isinstance(h, dict), "config", at + 8, field, text[:16], "an object")
    keys = CODEBOOK_KEYS[kind] | {"codes", "dim", "dtype", "first_id", "kind"}
    require(set(h) == keys, "config", at + 8, field + ": keys", sorted(h), sorted(keys))
    limits = {"codes": 2**24 - 2, "dim": 2**24, "first_id": 2**24 - 2, "channels": 8, "patch_size": 1024, "frame_length": 2**20, "sample_rate": 2**20}
    for key in sorted(keys & set(limits)):
        low = 0 if key == "first_id" else 1
        require(type(h[key]) is int and low <= h[key] <= limits[key], "config", at + 8, f"{field}: {key}", h[key], f"{low} to {limits[key]}")
    dims = {"audio": lambda: h["frame_length"] * h["channels"], "embedding": lambda: h["dim"], "image": lambda: h["patch_size"] ** 2 * h["channels"]}
    require(h["kind"] == kind, "config", at + 8, field + ": kind", h["kind"], kind)
    require(h["dim"] == dims[kind](), "config", at + 8, field + ": dim", h["dim"], dims[kind]())
    require(kind != "image" or h["channels"] in (1, 3), "config", at + 8, field + ": channels", h.get("channels"), "1 or 3")
    require(kind != "image" or h["range"] in ("unit", "signed"), "config", at + 8, field + ": range", h.get("range"), "unit or signed")
    # The exponent of a number that is not finite is all ones.
    dtypes = {"f32": ("I", 0x7F800000), "f16": ("H", 0x7C00), "bf16": ("H", 0x7F80)}
    require(h["dtype"] in dtypes, "config", at + 8, field + ": dtype", h["dtype"], "f32, f16 or bf16")
    code, exponent = dtypes[h["dtype"]]
    n = h["codes"] * h["dim"]
    require(len(data) - start == n * struct.calcsize(code), "config", at + start, field + ": vectors", len(data) - start, n * struct.calcsize(code))
    finite = all(v & exponent != exponent for (v,) in struct.iter_unpack("<" + code, data[start:]))
    require(finite, "config", at + start, field + ": vectors", "a number that is not finite", "finite numbers")


def main():
    parser = argparse.ArgumentParser(description="Lists, verifies and decodes a .trit file.")
    parser.add_argument("file")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.add_argument("--check", action="store_true", help="verify hashes, codes, scales and padding")
    parser.add_argument("--content", action="store_true", help="verify what the sections say as well")
    parser.add_argument("--release", action="store_true", help="print the SHA-256 of all values and sections")
    parser.add_argument("--tensor", metavar="NAME", help="print this tensor decoded, as JSON")
    args = parser.parse_args()
    try:
        with open(args.file, "rb") as stream:
            file = File(stream)
            if args.check or args.content:
                file.check()
            if args.content:
                file.content()
            if args.tensor is not None:
                if args.tensor not in file.tensors:
                    print(f"tritread: no tensor {args.tensor!r} in {args.file}", file=sys.stderr)
                    return 1
                print(json.dumps(file.decode(args.tensor)))
            elif args.release:
                print(file.release())
            elif args.json:
                print(json.dumps(file.describe()))
            else:
                show(file.describe())
    except Refused as e:
        print(f"{e}", file=sys.stderr)
        return 3
    except OSError as e:
        print(f"tritread: {e}", file=sys.stderr)
        return 1
    return 0


def show(d):
    print(f"trit {d['version']}, {d['file_length']} bytes, header {d['header_length']} bytes, {d['sha256']}")
    for t in d["tensors"]:
        dims = " x ".join(map(str, t["dims"]))
        print(f"tensor   {t['name']:40} {t['encoding']:6} {dims:16} {t['rule']:10} {t['granularity']:7} {t['offset']:12} {t['length']:12}")
    for s in d["sections"]:
        print(f"section  {s['name']:40} {s['offset']:12} {s['length']:12}")


if __name__ == "__main__":
    import tritread  # not the module __main__, whose Refused tritcontent does not raise

    sys.exit(tritread.main())
