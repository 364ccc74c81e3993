#!/usr/bin/env python3
"""Writes the vectors of numerics.md: numerics_vectors.py FOLDER

One JSON file for each group of operations; trit-v1-vectors.md says what they hold. All values come from numerics.py.
"""

import hashlib
import json
import math
import os
import struct
import sys
from decimal import Decimal, getcontext
from fractions import Fraction as F

from numerics import *
from numerics import H, Rng, bits, fbits, half, hexes, neg, round32, store_f16, store_int4, store_int8

getcontext().prec = 80


def f32(x):
    return round32(F(x), neg(x))


def special():
    """Values around the edges of the quantizer, the gates and exp."""
    xs = [0.0, -0.0, 1.0, -1.0, 0.5, -0.34657359, 10.0, -10.0, 88.0, H("0x1.62e42ep+6"), H("0x1.62e430p+6"), -87.0]
    xs += [H("-0x1.5d589ep+6"), H("-0x1.5d58a0p+6"), 1e-30, -1e-45, H("-0x1.765076p+2"), 200.0, -200.0, 1.0397208]
    return [f32(x) for x in xs]


def elementary():
    out = {"exp": [], "silu": [], "sums": [], "fma": [], "half": [], "log64": [], "exp64": [], "sincos64": []}
    for x in special() + Rng(1).floats(100, 17):
        out["exp"].append([bits(x), bits(exp(x))])
        out["silu"].append([bits(x), bits(silu(x))])
    for n in (0, 1, 31, 32, 33, 65, 1023, 1024, 1025, 2049, 2560):
        g = Rng(n + 7)
        w, x = g.floats(n, 22), g.floats(n, 20)
        out["sums"].append({"seed": n + 7, "n": n, "sum": bits(vsum(x)), "dot": bits(dot(w, x)), "sumsq": bits(dot(x, x))})
    for a, b, c in FMA:
        a, b, c = (f32(H(v)) for v in (a, b, c))
        out["fma"].append(hexes([a, b, c, fma(a, b, c)]))
    out["half"] = [[bits(x), "%04x" % half(x)] for x in halves() + [f32(v) for v in (65520, -65520, 65536, 65552, -131008, 1e30)]]
    f64 = lambda v: float(v).hex()
    out["log64"] = [[f64(x), f64(Decimal(x).ln()), f64(log64(x))] for x in (1.0, 2.0, 10000.0, 1e6, 500000.0, 1000042.0, 1.5, 1.0000001, 1e30)]
    ys = [0.0, -1.0, -0.1, -13.122363377404329, -69.3, -1e-9, -9.210340371976184, -0.34657359027997264, -5.5]
    out["exp64"] = [[f64(y), f64(Decimal(y).exp()), f64(exp64(y))] for y in ys]
    xs = [0.0, 1e-8, 0.5, math.pi / 4, math.pi / 2, math.pi, 3 * math.pi, 100.0, 12345.678, 131071.0, 1048575.25, 2.0**24 - 1, 2.0**24]
    xs += [abs(v) for v in Rng(3).floats(200, 0)] + [2 * abs(v) for v in Rng(4).floats(200, 5)]
    xs += [k * (math.pi / 4) for k in (1, 3, 5, 7, 9, 1001, 1000003, 20000001)]
    out["sincos64"] = [[f64(v) for v in (x, *decimal_sincos(x), *sincos64(x))] for x in xs]
    return out


def halves():
    """Ties of f16, normal and subnormal, their neighbours, and the greatest that is finite."""
    xs = [F(n) / F(2) ** k for n in (1, 3, 1023, 1024, 1025, 2047, 2049, 4095, 5) for k in (0, 1, 10, 11, 20, 24, 25, 26, 30, -4, -5)]
    return [s * round32(x) for x in xs + [F(0), F(65504), F(65519)] if x < 65520 for s in (1.0, -1.0)]


FMA = [
    ("0x1.000002p-24", "0x1.fffffcp-1", "0x1p+0"),  # just below the midpoint above 1
    ("0x1.000002p-24", "0x1p+0", "0x1p+0"),
    ("0x1p-24", "0x1p+0", "0x1p+0"),
    ("0x1p-24", "0x1p+0", "0x1.000002p+0"),
    ("0x1.fffffep-25", "0x1.000002p+0", "0x1.000002p+0"),
    ("-0x1.fffffep-25", "0x1.000002p+0", "-0x1.000002p+0"),
    ("0x1p-75", "0x1p-75", "0x0p+0"),
    ("0x1.000002p-75", "0x1p-75", "0x0p+0"),
    ("0x1p-75", "-0x1p-75", "0x0p+0"),
    ("0x1.8p-75", "0x1p-75", "0x1p-149"),
    ("0x1.fffffep+127", "0x1p+0", "0x1p+103"),
    ("0x1.fffffep+127", "0x1p+0", "0x1.fffffep+102"),
    ("0x1.fffffep-127", "0x1.000002p+0", "0x1p-149"),
    ("-0x1p-140", "0x1p-140", "0x0p+0"),
]


def decimal_sincos(x):
    """sin and cos to more digits than an f64 has."""
    pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")
    r = Decimal(x) % (2 * pi)
    s, c, term = Decimal(0), Decimal(0), Decimal(1)
    for n in range(90):
        if n % 2 == 0:
            c += term if n % 4 == 0 else -term
        else:
            s += term if n % 4 == 1 else -term
        term = term * r / (n + 1)
    return s, c


def norm_vectors():
    """x, w and bias are drawn in this order from one seed; y is Norm, a and q are NormQuant."""
    out = []
    for kind, n, b, eps in (
        ("rms", 1, 0, 1e-5), ("rms", 31, 0, 1e-5), ("rms", 100, 0, 1e-5), ("rms", 129, 0, 0.0), ("rms", 1300, 0, 1e-6), ("rms", 2560, 0, 1e-5),
        ("layer", 1, 0, 1e-5), ("layer", 65, 0, 1e-5), ("layer", 130, 1, 1e-5), ("layer", 1025, 1, 1e-6),
    ):
        g = Rng(n)
        x, w, bias = g.floats(n, 20), g.floats(n, 22), g.floats(n, 22)
        y = norm(kind, x, w, bias if b else None, f32(eps))
        a, q = quant(y)
        out.append({"kind": kind, "seed": n, "n": n, "bias": bool(b), "eps": bits(f32(eps)), "y": hexes(y), "a": bits(a), "q": q})
    return out


def ties(a):
    """Elements that times k are halves, rounded or exactly, and their neighbours; the first is the maximum."""
    k, x = mul(div(1.0, a), 127.0), [a]
    for n in list(range(-127, 127)):
        y = f32((n + 0.5) / k)
        u = struct.unpack("<I", struct.pack("<f", y))[0]
        near = [fbits(u + d) for d in (-1, 0, 1)]
        hits = [v for v in near if mul(v, k) == n + 0.5 and abs(v) <= a]
        x += hits[:1] or near[1:2]
        if n % 8 == 0:
            x += [v for v in near if abs(v) <= a]
    return x


def quantizer():
    cases = {
        "ties at 1": ties(1.0),
        "ties at 127": ties(127.0),
        "ties at 3": ties(3.0),
        "ties at the greatest maximum": ties(f32(H("0x1.8p+120"))),
        "halves": [127.0] + [i / 2 for i in range(-254, 255)],
        "zeros": [0.0, -0.0, 0.0],
        "below the least maximum": [f32(v) for v in (1e-6, -9.999e-6, 1e-45, -1e-40, 0.0)],
        "the least maximum": [f32(1e-5), f32(-1e-5), f32(5e-6)],
        "just above it": [f32(1.0000001e-5), f32(-5e-6)],
        "minus is the maximum": [f32(v) for v in (-2.5, 2.4999998, 1.0, -1.0, 1e-30)],
        "one element": [f32(-0.3)],
        "equal": [f32(0.1)] * 33,
    }
    out = []
    for name, x in cases.items():
        a, q = quant(x)
        out.append({"name": name, "x": hexes(x), "a": bits(a), "q": q})
    return out


def pack(rows, cols, width, digits):
    """Tiles of 4 rows x 128 columns, with the given bytes a run."""
    tiles = -(-cols // 128)
    data = bytearray(-(-len(rows) // 4) * tiles * 4 * width)
    for r, row in enumerate(rows):
        for c, v in enumerate(row):
            at = ((r // 4 * tiles + c // 128) * 4 + r % 4) * width + c % 128 % width
            data[at] += digits[v] * (4 if width == 32 else 3) ** (c % 128 // width)
    return bytes(data)


def ternary():
    """Drawn from one seed: the trits of all rows, the scales, the bias, then the tokens."""
    out = []
    for rows, cols, group, scales, bias, tokens in (
        (1, 1, 0, "tensor", 0, 1), (3, 127, 0, "tensor", 1, 2), (5, 128, 0, "row", 0, 1), (4, 129, 0, "row", 1, 2),
        (5, 300, 128, "group", 0, 1), (2, 512, 256, "group", 1, 2), (1, 2600, 1280, "group", 0, 1), (2, 1100, 0, "row", 0, 1), (6, 640, 0, "tensor", 0, 1),
    ):
        g = Rng(rows * 10000 + cols)
        t = [g.trits(cols) for _ in range(rows)]
        groups = -(-cols // group) if group else 1
        count = {"tensor": 1, "row": rows, "group": rows * groups}[scales]
        s = g.floats(count, 24)
        b = g.floats(rows, 20) if bias else []
        ints, floats, maxima = [], [], []
        for _ in range(tokens):
            x = g.floats(cols, 21)
            a, q = quant(x)
            maxima.append(a)
            for r in range(rows):
                if group:
                    part = s[r * groups : (r + 1) * groups]
                    i, f = tern_int8_groups(t[r], part, group, q, a), tern_float_groups(t[r], part, group, x)
                else:
                    i, f = tern_int8(t[r], s[r % count], q, a), tern_float(t[r], s[r % count], x)
                if bias:
                    i, f = add(i, b[r]), add(f, b[r])
                ints.append(i)
                floats.append(f)
        sha = lambda v: hashlib.sha256(v).hexdigest()
        out.append({
            "seed": rows * 10000 + cols, "rows": rows, "cols": cols, "tokens": tokens, "scales": scales, "group": group, "bias": bool(bias),
            "trit2_sha256": sha(pack(t, cols, 32, {0: 0, 1: 1, -1: 3})), "trit3_sha256": sha(pack(t, cols, 26, {0: 0, 1: 1, -1: 2})),
            "a": hexes(maxima), "int8": hexes(ints), "float": hexes(floats),
        })
    return out


def dense():
    """Drawn from one seed: the matrix, for int8 its scales, then the tokens. Elements of f16 are the upper half of the
    generator's state, with the highest bit of the exponent cleared; those of bf16 are f32 cut to 16 bits; those of int8
    are the state's upper 24 bits modulo 255, less 127."""
    out = []
    for dtype in ("f32", "f16", "bf16", "i8"):
        for rows, cols, tokens in ((1, 1, 1), (3, 33, 2), (2, 129, 1), (1, 1025, 1)):
            seed = cols + 5
            g = Rng(seed)
            n = rows * cols
            if dtype == "f32":
                w = g.floats(n, 22)
            else:
                w = []
                for _ in range(n):
                    g.floats(1, 0)
                    if dtype == "f16":
                        w.append(struct.unpack("<e", struct.pack("<H", g.state >> 16 & 0xBFFF))[0])
                    elif dtype == "bf16":
                        v = math.ldexp((g.state >> 8) - 2**23, -22)
                        w.append(struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", v))[0] >> 16 << 16))[0])
                    else:
                        w.append(float((g.state >> 8) % 255 - 127))
            s = g.floats(rows, 24) if dtype == "i8" else []
            y = []
            for _ in range(tokens):
                x = g.floats(cols, 21)
                for r in range(rows):
                    v = dot(w[r * cols : (r + 1) * cols], x)
                    y.append(mul(v, s[r]) if s else v)
            row = w[(rows - 1) * cols :]
            embed = [mul(v, s[-1]) for v in row] if s else row
            out.append({"dtype": dtype, "seed": seed, "rows": rows, "cols": cols, "tokens": tokens, "y": hexes(y), "embed": hexes(embed)})
    return out


def rope():
    out = []
    specs = [
        {"type": "default", "theta": 10000.0},
        {"type": "linear", "theta": 10000.0, "factor": 4.0},
        {"type": "llama3", "theta": 500000.0, "factor": 8.0, "low": 1.0, "high": 4.0, "original": 8192},
        {"type": "llama3", "theta": 10000.0, "factor": 32.0, "low": 1.0, "high": 4.0, "original": 64},
    ]
    for spec in specs:
        for d, pos in ((2, 1), (16, 0), (16, 3), (32, 511), (64, 131071), (128, 4095), (8, 2**24 - 1)):
            cs, sn = angles(spec, d, pos)
            x = Rng(pos % 1000).floats(d, 22)
            out.append({"spec": spec, "dim": d, "pos": pos, "cos": hexes(cs), "sin": hexes(sn), "seed": pos % 1000, "rotated": hexes(rotate(x, cs, sn))})
    return out


def attention_vectors():
    """Drawn from one seed: q; under a window the query for the sinks; the keys, the values, position by position and in
    each the kv heads one after the other. slope times the position is then added to every element of a key: scores rise
    or fall from chunk to chunk."""
    plain = [
        (1, 4, 1, 0, 0), (2, 3, 1, 0, 0), (33, 8, 2, 1, 0), (63, 4, 1, 0, 0), (64, 8, 1, 0, 0), (65, 8, 1, 0, 0), (66, 5, 3, 1, 0),
        (128, 4, 1, 0, 0), (129, 4, 1, 0, 0), (150, 16, 1, 0, 0), (70, 64, 1, 0, 0), (193, 2, 1, 0, 1), (193, 2, 1, 0, -1), (140, 2, 1, 0, 64),
    ]
    stored = [
        (1, 4, 1, 0, 0), (64, 7, 1, 0, 0), (65, 8, 1, 0, 0), (130, 8, 3, 1, 0), (140, 5, 2, 1, 0), (70, 64, 1, 0, 0), (193, 2, 1, 0, 1), (193, 2, 1, 0, -1),
    ]
    windows = [
        (70, 5, 1, 0, 1, 0), (65, 8, 1, 0, 65, 3), (150, 8, 1, 0, 9, 2), (150, 16, 2, 1, 30, 4), (140, 6, 1, 0, 60, 70), (260, 4, 1, 0, 70, 1),
        (130, 3, 2, 0, 64, 0), (39, 4, 1, 0, 35, 4), (40, 4, 1, 0, 35, 4),
    ]
    cases = [("f32", c, 0, 0) for c in plain] + [(f, c, 0, 0) for f in ("f16", "int8", "int4") for c in stored]
    cases += [(f, (*c[:4], 0), *c[4:]) for f in ("f32", "f16", "int8", "int4") for c in windows]
    out = []
    for fmt, (n, d, heads, head, slope), span, sinks in cases:
        seed = n + d + slope * 1000 + 1000000
        g = Rng(seed)
        q = g.floats(d, 21)
        sink_q = g.floats(d, 21) if span else None
        keys = [[add(v, float(slope * j)) for v in g.floats(heads * d, 22)] for j in range(n)]
        values = [g.floats(heads * d, 22) for _ in range(n)]
        v = {"format": fmt, "seed": seed, "n": n, "dim": d, "kv_heads": heads, "kv_head": head, "slope": slope, "window": span, "sinks": sinks}
        out.append({**v, "out": hexes(attention(q, keys, values, fmt, span, sinks, sink_q, head))})
    return out


def store():
    """What each format keeps of x, as a position's keys and as its values; null where an error has to be reported."""
    cases = [(1, Rng(n).floats(n, 22)) for n in (1, 2, 7, 8, 33, 64)] + [(h, Rng(h * 100 + d).floats(h * d, 22)) for h, d in ((2, 5), (3, 8), (2, 16))]
    cases.append((1, halves()))
    for heads, x in (
        (1, [0.0] * 3), (1, [-0.0] * 8), (1, [-0.0, 0.0]), (1, [0.0, -0.0]), (1, [0.0, -0.0] * 8), (1, [-0.0, 0.0] * 8), (1, [1.5] * 4), (1, [-3.14159] * 16),
        (1, [1000.0, 1000.0625]), (1, [5e-8, 1e-7, -1e-7]), (1, [1e-30, -1e-30]), (1, [-60000.0, 65000.0]), (1, [1e-44, 3e-44, -2e-45] + [0.0] * 5),
        (1, [65519.0, -65519.0]), (1, [65520.0] * 8), (1, [-65520.0, 0.0]), (1, [1e6, 1e6]), (1, [1e6, -1e6]), (1, [982799.0, 0.0]), (1, [982800.0, 0.0]),
        (1, [3e38, -3e38]), (2, [1e5, 1e5, -1e5, -1e5]), (2, [0.5, 0.25, 9e5, 0.0]), (2, [0.5, 0.25, -9e5, 9e5]), (2, [1e6, 2e6, 0.0, 0.0]),
        (1, [math.inf, 0.0]), (1, [1.0] * 9 + [-math.inf]), (1, [0.0, math.nan]), (2, [1.0] * 15 + [math.nan]),
    ):
        cases.append((heads, [f32(v) if math.isfinite(v) else v for v in x]))
    words = lambda v: " ".join("%04x" % u for u in v)
    out = []
    for heads, x in cases:
        d = len(x) // heads
        parts = [x[h * d : (h + 1) * d] for h in range(heads)]
        flat = lambda parts: [int(u) for p in parts for u in p[-1]]
        v = {"kv_heads": heads, "x": hexes(x), "f16": None, "int8": None, "int4_key": None, "int4_value": None}
        if (h := store_f16(x)) is not None:
            v["f16"] = words(h)
        if all(s := [store_int8(p) for p in parts]):
            v["int8"] = {"scale": hexes(p[0] for p in s), "codes": flat(s)}
        if all(s := [store_int4(p) for p in parts]):
            v["int4_key"] = {"affine": words(u for p in s for u in p[:2]), "codes": flat(s)}
        if s := store_int4(x):
            v["int4_value"] = {"affine": words(s[:2]), "codes": flat([s])}
        out.append(v)
    return out


def gate():
    """h of act(g) * u, and sum of the residual x + y with x = g, y = u."""
    g = special()
    g = [v for v in g] + Rng(21).floats(45, 20)
    u = [f32(v) for v in (1.0, -0.0, 0.0, H("0x1.fffffep+127"), H("0x1p-149"))] + Rng(22).floats(len(g) - 5, 22)
    out = {"g": hexes(g), "u": hexes(u), "silu": hexes(mul(silu(a), b) for a, b in zip(g, u))}
    out["relu2"] = hexes(mul(relu2(a), b) for a, b in zip(g, u))
    out["sum"] = hexes(add(a, b) for a, b in zip(g, u))
    return [out]


def sampling():
    """Logits of n tokens, drawn from the seed with a shift; then the first equal ones are made equal. Every third token
    has been seen."""
    out = []
    for n, shift, equal, p, t, k, top, low, seed, position in (
        (100, 21, 0, 1.0, 1.0, 0, 1.0, 0.0, 42, 7), (100, 21, 0, 1.0, 0.7, 0, 0.9, 0.0, 42, 8), (100, 21, 0, 1.3, 0.7, 20, 0.9, 0.02, 2**40 + 5, 9),
        (100, 21, 0, 1.0, 2.0, 5, 1.0, 0.0, 2**64 - 1, 2**33), (100, 21, 0, 1.3, 0.0, 0, 1.0, 0.0, 0, 10), (50, 23, 50, 1.0, 1.0, 3, 1.0, 0.0, 1, 1),
        (50, 23, 50, 1.0, 1.0, 0, 0.1, 0.0, 1, 2), (50, 17, 0, 1.0, 1.0, 0, 1.0, 0.0, 5, 3), (7, 20, 3, 1.1, 0.0, 0, 1.0, 0.0, 5, 4),
        (1, 20, 0, 1.0, 1.0, 0, 0.5, 0.5, 5, 5), (300, 22, 0, 0.8, 1.0, 0, 0.5, 0.0, 77, 2**32 - 1), (300, 22, 0, 1.0, 0.01, 0, 1.0, 1.0, 77, 0),
    ):
        logits = Rng(8 + n).floats(n, shift)
        logits[:equal] = logits[:1] * equal
        token = sample(logits, list(range(0, n, 3)), p, t, k, top, low, seed, position)
        out.append({"n": n, "seed": 8 + n, "shift": shift, "equal": equal, "penalty": p, "temperature": t, "top_k": k, "top_p": top,
                    "min_p": low, "random_seed": str(seed), "position": position, "token": token})
    return out


def main():
    folder = sys.argv[1]
    groups = {
        "elementary": elementary, "norm": norm_vectors, "quantizer": quantizer, "ternary": ternary, "dense": dense,
        "rope": rope, "store": store, "attention": attention_vectors, "gate": gate, "sampling": sampling,
    }
    row = lambda v: json.dumps(v, separators=(",", ":"))
    for name, make in groups.items():
        v = make()
        if isinstance(v, dict):
            text = "{" + ",\n".join(f'"{k}":[\n' + ",\n".join(map(row, e)) + "]" for k, e in v.items()) + "}\n"
        else:
            text = "[\n" + ",\n".join(map(row, v)) + "]\n"
        with open(os.path.join(folder, name + ".json"), "w") as stream:
            stream.write(text)


if __name__ == "__main__":
    main()
