"""A second implementation of numerics.md, in exact rational arithmetic.

f32 results are computed as fractions and rounded by round32 below; f64 results are Python floats, which are IEEE
binary64 and never fused. Standard library only. Run as a program it prints the values of the specification's last
section; numerics_vectors.py writes the conformance vectors.
"""
import math
import struct
from fractions import Fraction as F


def fbits(u):
    return struct.unpack("<f", struct.pack("<I", u))[0]


def bits(x):
    return "%08x" % struct.unpack("<I", struct.pack("<f", x))[0]


def round32(x, negative_zero=False):
    """The f32 nearest to the fraction x, ties to even, as a Python float."""
    if x == 0:
        return -0.0 if negative_zero else 0.0
    sign, x = (-1.0, -x) if x < 0 else (1.0, x)
    e = x.numerator.bit_length() - x.denominator.bit_length()
    if F(2) ** e > x:
        e -= 1
    assert F(2) ** e <= x < F(2) ** (e + 1)
    ulp = F(2) ** max(e - 23, -149)
    n, rest = divmod(x, ulp)
    if rest * 2 > ulp or (rest * 2 == ulp and n % 2 == 1):
        n += 1
    v = n * ulp
    if v >= F(2) ** 128:
        return sign * math.inf
    return sign * float(v)


def neg(x):
    return math.copysign(1, x) < 0


def add(a, b):
    return round32(F(a) + F(b), neg(a) and neg(b))


def sub(a, b):
    return add(a, -b)


def mul(a, b):
    return round32(F(a) * F(b), neg(a) != neg(b))


def div(a, b):
    return round32(F(a) / F(b), neg(a) != neg(b))


def fma(a, b, c):
    exact = F(a) * F(b) + F(c)
    if exact == 0 and F(c) == 0:
        return round32(exact, (neg(a) != neg(b)) and neg(c))
    r = round32(exact, exact < 0)
    return -0.0 if r == 0 and exact < 0 else r


def sqrt(x):
    """Integer root with 40 more digits than f32 has; a sticky bit below stands for the rest."""
    shift = 200
    n = F(x) * 4**shift
    root = math.isqrt(n.numerator // n.denominator)
    r = F(root)
    if F(root) ** 2 != n:
        r += F(1, 2)
    return round32(r / 2**shift)


def rint(x):
    return float(round(F(x)))  # round() of a fraction is half to even


# Section 3
def total(n, acc):
    def block(lo, hi):
        lane = [0.0] * 32
        for i in range(lo, hi):
            lane[(i - lo) % 32] = acc(lane[(i - lo) % 32], i)
        w = 16
        while w:
            for j in range(w):
                lane[j] = add(lane[j], lane[j + w])
            w //= 2
        return lane[0]

    s = block(0, min(n, 1024))
    for lo in range(1024, n, 1024):
        s = add(s, block(lo, min(lo + 1024, n)))
    return s


def vsum(x):
    return total(len(x), lambda l, i: add(l, x[i]))


def dot(w, x):
    return total(len(x), lambda l, i: fma(w[i], x[i], l))


# Section 4
H = float.fromhex


def exp(x):
    if x < H("-0x1.5d589ep+6"):
        return 0.0
    if x > H("0x1.62e42ep+6"):
        return math.inf
    n = rint(mul(x, H("0x1.715476p+0")))
    r = fma(-n, H("0x1.62e43p-1"), x)
    r = fma(-n, H("-0x1.05c61p-29"), r)
    p = fma(H("0x1.6a4f26p-10"), r, H("0x1.12398p-7"))
    for c in ("0x1.5558aep-5", "0x1.555492p-3", "0x1.fffffcp-2", "0x1p+0", "0x1p+0"):
        p = fma(p, r, H(c))
    return math.ldexp(p, int(n))


# Section 5
def horner(c, z):
    p = c[0]
    for v in c[1:]:
        p = p * z + v
    return p


def log64(x):
    m, e = math.frexp(x)
    if m < H("0x1.6a09e667f3bcdp-1"):
        m, e = m * 2, e - 1
    f = (m - 1) / (m + 1)
    z = f * f
    t = f + f
    g = t + (t * z) * horner([float(F(1, k)) for k in range(21, 2, -2)], z)
    return e * H("0x1.62e42feep-1") + (e * H("0x1.a39ef35793c76p-33") + g)


def exp64(y):
    n = float(round(y * H("0x1.71547652b82fep+0")))
    r = (y - n * H("0x1.62e42feep-1")) - n * H("0x1.a39ef35793c76p-33")
    return math.ldexp(horner([float(F(1, math.factorial(k))) for k in range(13, -1, -1)], r), int(n))


def sincos64(x):
    k = float(round(x * H("0x1.45f306dc9c883p-1")))
    r = ((x - k * H("0x1.921fb54p+0")) - k * H("0x1.10b4611p-30")) - k * H("0x1.4c4c6628b80dcp-59")
    z = r * r
    inv = lambda n, sign: sign * float(F(1, math.factorial(n)))
    s = r + (r * z) * horner([inv(n, -1 if n % 4 == 3 else 1) for n in range(15, 2, -2)], z)
    c = 1 + z * horner([inv(n, -1 if n % 4 == 2 else 1) for n in range(16, 1, -2)], z)
    return [(s, c), (c, -s), (-s, -c), (-c, s)][int(k) % 4]


# Sections 6 and 7
def norm(kind, x, w, b, eps):
    n = float(len(x))
    d = x
    if kind == "layer":
        mean = div(vsum(x), n)
        d = [sub(v, mean) for v in x]
    r = div(1.0, sqrt(add(div(dot(d, d), n), eps)))
    if kind == "rms":
        return [mul(mul(v, g), r) for v, g in zip(x, w)]
    y = [mul(mul(v, r), g) for v, g in zip(d, w)]
    return [add(v, c) for v, c in zip(y, b)] if b else y


def quant(y):
    a = max(max(abs(v) for v in y), round32(F(1, 100000)))
    k = mul(div(1.0, a), 127.0)
    return a, [int(rint(mul(v, k))) for v in y]


# Sections 8, 9, 10
def tern_int8(t, s, q, a):
    return mul(float(sum(i * j for i, j in zip(t, q))), div(mul(s, a), 127.0))


def tern_int8_groups(t, s, G, q, a):
    v = 0.0
    for g, sg in enumerate(s):
        c = slice(g * G, (g + 1) * G)
        v = fma(float(sum(i * j for i, j in zip(t[c], q[c]))), sg, v)
    return mul(v, div(a, 127.0))


def tern_float(t, s, x):
    return mul(s, dot([float(v) for v in t], x))


def tern_float_groups(t, s, G, x):
    v = 0.0
    for g, sg in enumerate(s):
        c = slice(g * G, (g + 1) * G)
        v = fma(sg, dot([float(u) for u in t[c]], x[c]), v)
    return v


# Section 11
def frequencies(spec, d):
    L = log64(spec["theta"])
    fs = [exp64(-((2.0 * i / d) * L)) for i in range(d // 2)]
    if spec["type"] == "linear":
        fs = [f / spec["factor"] for f in fs]
    if spec["type"] == "llama3":
        n, low, high, factor = float(spec["original"]), spec["low"], spec["high"], spec["factor"]
        for i, f in enumerate(fs):
            wave = H("0x1.921fb54442d18p+2") / f
            if wave < n / high:
                continue
            if wave > n / low:
                fs[i] = f / factor
            else:
                u = (n / wave - low) / (high - low)
                fs[i] = ((1 - u) * f) / factor + u * f
    return fs


def angles(spec, d, pos):
    cs, sn = [], []
    for f in frequencies(spec, d):
        s, c = sincos64(pos * f)
        cs.append(round32(F(c), neg(c)))
        sn.append(round32(F(s), neg(s)))
    return cs, sn


def rotate(x, cs, sn):
    h = len(x) // 2
    lo = [sub(mul(x[i], cs[i]), mul(x[i + h], sn[i])) for i in range(h)]
    hi = [add(mul(x[i + h], cs[i]), mul(x[i], sn[i])) for i in range(h)]
    return lo + hi


# Section 12
def half(x):
    """The bits of the f16 nearest to x, from the definition of f16's spacing."""
    if abs(x) >= 65520:
        return 0x7C00 | (0x8000 if neg(x) else 0)
    e = max(math.frexp(x)[1] - 1, -14) if x else -14
    n = round(F(abs(x)) / F(2) ** (e - 10))  # half to even; 2048 carries into the exponent
    return ((e + 14) << 10) + n | (0x8000 if neg(x) else 0)


def unhalf(u):
    return struct.unpack("<e", struct.pack("<H", u))[0]


def store_f16(x):
    """The bits of each element, or None where an error has to be reported; likewise below."""
    return None if any(not math.isfinite(v) or abs(v) >= 65520 for v in x) else [half(v) for v in x]


def store_int8(x):
    if not all(map(math.isfinite, x)):
        return None
    s = div(max(abs(v) for v in x), 127.0)
    return s, [0.0 if s == 0 else float(max(-127, min(127, rint(div(v, s))))) for v in x]


def store_int4(x):
    if not all(map(math.isfinite, x)):
        return None
    order = lambda v: (v, not neg(v))
    lo, hi = min(x, key=order), max(x, key=order)
    if sub(hi, lo) == math.inf:
        return None  # an infinite scale
    s = max(div(sub(hi, lo), 15.0), round32(F(1, 10**8)))
    o = sub(-8.0, div(lo, s))
    s16, o16, codes = half(s), half(o), None
    if s16 == 0 or o16 & 0x7FFF == 0x7C00:
        s16, o16, codes = 0, half(add(mul(hi, 0.5), mul(lo, 0.5))), [0.0] * len(x)
    if s16 == 0x7C00 or o16 & 0x7FFF == 0x7C00:
        return None
    return s16, o16, codes or [float(max(-8, min(7, rint(add(div(v, s), o)))) + 8) for v in x]


def affine(s16, o16):
    a, o = unhalf(s16), unhalf(o16)
    return (a, o) if a == 0 else (a, mul(-add(o, 8.0), a))


def attention(q, keys, values, fmt="f32", window=0, sinks=0, sink_q=None, head=0):
    """The query at the last position, over kv head `head`. keys and values are those of all kv heads, position by position."""
    d, t = len(q), len(keys) - 1
    own = slice(head * d, (head + 1) * d)
    z = round32(F(1 / math.sqrt(float(d))))
    if fmt == "int4":
        kept = [store_int4(x[own]) for x in keys], [store_int4(x) for x in values]
        (kab, vab), (keys, values) = ([affine(*x[:2]) for x in m] for m in kept), ([x[2] for x in m] for m in kept)
        values = [x[own] for x in values]
    else:
        keys, values = ([x[own] for x in m] for m in (keys, values))
    if fmt == "f16":
        keys, values = ([[unhalf(u) for u in store_f16(x)] for x in m] for m in (keys, values))
    if fmt == "int8":
        (ks, keys), (vs, values) = (zip(*map(store_int8, m)) for m in (keys, values))
    m = l = o = None
    for c in range(0, t + 1, 64):
        js = [j for j in range(c, min(c + 64, t + 1)) if not window or j < sinks or j > t - window]
        if not js:
            continue
        s = {}
        for j in js:
            qj = sink_q if window and j < sinks and t > sinks + window - 1 else q
            v = 0.0
            for i in range(d):
                v = fma(qj[i], keys[j][i], v)
            if fmt == "int8":
                v = mul(v, ks[j])
            if fmt == "int4":
                v = fma(v, kab[j][0], mul(kab[j][1], vsum(qj)))
            s[j] = mul(v, z)
        mc = max(s.values())
        p = {j: exp(sub(s[j], mc)) for j in js}
        lanes = lambda step: total(64, lambda l, i: step(l, c + i) if c + i in p else l)
        lc = lanes(lambda l, j: add(l, p[j]))
        start, g = 0.0, p
        if fmt == "int8":
            g = {j: mul(p[j], vs[j]) for j in js}
        if fmt == "int4":
            start = lanes(lambda l, j: fma(p[j], vab[j][1], l))
            g = {j: mul(p[j], vab[j][0]) for j in js}
        oc = [start] * d
        for j in js:
            oc = [fma(g[j], values[j][i], oc[i]) for i in range(d)]
        if m is None:
            m, l, o = mc, lc, oc
            continue
        top = max(m, mc)
        A, B = exp(sub(m, top)), exp(sub(mc, top))
        l = fma(lc, B, mul(l, A))
        o = [fma(oc[i], B, mul(o[i], A)) for i in range(d)]
        m = top
    inv = div(1.0, l)
    return [mul(v, inv) for v in o]


def window(fmt, seed, n, d, w, s):
    g = Rng(seed)
    q, sink_q = g.floats(d, 21), g.floats(d, 21)
    keys = [g.floats(d, 22) for _ in range(n)]
    values = [g.floats(d, 22) for _ in range(n)]
    return hexes(attention(q, keys, values, fmt, w, s, sink_q))


# Section 13
def silu(g):
    e = exp(-g)
    return math.copysign(0.0, g) if e == math.inf else div(g, add(1.0, e))


def relu2(g):
    v = 0.0 if g <= 0 else g
    return mul(v, v)


# Section 15
def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b % 2**32, (a >> 32) ^ c[3] ^ k[1], a % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def sample(logits, seen, penalty, temperature, top_k, top_p, min_p, seed, position):
    penalty, temperature = round32(F(penalty)), round32(F(temperature))
    l = list(logits)
    for i in set(seen):
        l[i] = div(l[i], penalty) if l[i] > 0 else mul(l[i], penalty)
    if temperature == 0:
        return min(range(len(l)), key=lambda i: (-l[i], i))
    l = [div(v, temperature) for v in l]
    order = sorted(range(len(l)), key=lambda i: (-l[i], i))
    e = [exp(sub(v, l[order[0]])) for v in l]
    w = [int(v * 2.0**40) for v in e]
    if top_k > 0:
        order = order[:top_k]
    if top_p < 1:
        goal, kept, run = math.ceil(top_p * float(sum(w[i] for i in order))), 0, 0
        while kept < len(order) and (kept == 0 or run < goal):
            run += w[order[kept]]
            kept += 1
        order = order[:kept]
    order = [i for i in order if e[i] >= min_p or i == order[0]]
    c = philox([position % 2**32, position >> 32, 0, 0], [seed % 2**32, seed >> 32])
    target = (c[0] + 2**32 * c[1]) * sum(w[i] for i in order) >> 64
    for i in order:
        target -= w[i]
        if target < 0:
            return i


# Inputs: element i is ((state >> 8) - 2^23) / 2^shift after i+1 steps of state = 1664525*state + 1013904223.
class Rng:
    def __init__(self, seed):
        self.state = seed

    def floats(self, n, shift):
        out = []
        for _ in range(n):
            self.state = (1664525 * self.state + 1013904223) % 2**32
            out.append(math.ldexp((self.state >> 8) - 2**23, -shift))
        return out

    def trits(self, n):
        return [int(abs(v)) % 3 - 1 for v in self.floats(n, 0)]


def hexes(v):
    return " ".join(bits(x) for x in v)


def spec():
    for a, b, c in (("1p-24", "1p+0", "1p+0"), ("1.000002p-24", "1.fffffcp-1", "1p+0"), ("1.8p-75", "1p-75", "1p-149")):
        v = [H("0x" + x) for x in (a, b, c)]
        print("    fma %s = %s" % (hexes(v), bits(fma(*v))))
    for x in (1.0, -10.0, 0.34657359, 80.787430, -87.0):
        x = round32(F(x))
        print("    exp %s = %s" % (bits(x), bits(exp(x))))
    for x in (1.0, -3.5):
        print("    silu %s = %s" % (bits(x), bits(silu(x))))
    for seed, n in ((1, 33), (2, 1025), (3, 2560)):
        x = Rng(seed).floats(n, 20)
        print("    sum %d %d = %s" % (seed, n, bits(vsum(x))))
        print("    sumsq %d %d = %s" % (seed, n, bits(dot(x, x))))
    for seed, n in ((4, 5), (5, 130)):
        x = Rng(seed).floats(n, 20)
        a, q = quant(norm("rms", x, [1.0] * n, None, round32(F(1, 100000))))
        print("    rmsquant %d %d = %s %s" % (seed, n, bits(a), " ".join(map(str, q[:5]))))
    for theta, d, pos in ((10000, 8, 3), (500000, 8, 131071), (10000, 2, 2**24 - 1)):
        cs, sn = angles({"type": "default", "theta": float(theta)}, d, pos)
        print("    rope %d %d %d = %s %s" % (theta, d, pos, hexes(cs), hexes(sn)))
    for seed, n, d in ((6, 3, 2), (7, 130, 4)):
        g = Rng(seed)
        q = g.floats(d, 21)
        keys = [g.floats(d, 22) for _ in range(n)]
        print("    attention %d %d %d = %s" % (seed, n, d, hexes(attention(q, keys, [g.floats(d, 22) for _ in range(n)]))))
    for args in (("f16", 9, 130, 4, 0, 0), ("int8", 10, 130, 4, 0, 0), ("int4", 11, 130, 4, 0, 0), ("f32", 12, 150, 4, 9, 2), ("int4", 13, 140, 4, 60, 70)):
        print("    window %s %d %d %d %d %d = %s" % (args + (window(*args),)))
    for x in ("1.ffcp-15", "1.ffdfp+15", "1.ffep+15", "1p-25", "1.8p-25", "1.006p+0"):
        print("    half %s = %04x" % (bits(H("0x" + x)), half(H("0x" + x))))
    for seed, d in ((14, 8), (15, 5)):
        x = Rng(seed).floats(d, 22)
        s8, u8 = store_int8(x)
        print("    int8 %d %d = %s %s" % (seed, d, bits(s8), " ".join("%d" % v for v in u8)))
        s16, o16, u4 = store_int4(x)
        print("    int4 %d %d = %04x %04x %s" % (seed, d, s16, o16, " ".join("%d" % v for v in u4)))
    for c, k in (((0,) * 4, (0,) * 2), ((2**32 - 1,) * 4, (2**32 - 1,) * 2), ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))):
        words = lambda v: " ".join("%08x" % x for x in v)
        print("    philox %s %s = %s" % (words(c), words(k), words(philox(c, k))))
    for args in (
        (1.0, 1.0, 0, 1.0, 0.0, 42, 7),
        (1.0, 0.7, 0, 0.9, 0.0, 42, 8),
        (1.3, 0.7, 20, 0.9, 0.02, 2**40 + 5, 9),
        (1.0, 2.0, 5, 1.0, 0.0, 2**64 - 1, 2**33),
        (1.3, 0.0, 0, 1.0, 0.0, 0, 10),
    ):
        logits = [v for v in Rng(8).floats(100, 21)]
        seen = list(range(0, 100, 3))
        print("    sample %s %s %d %s %s %d %d = %d" % (args + (sample(logits, seen, *args),)))


if __name__ == "__main__":
    spec()
