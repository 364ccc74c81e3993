// The shared formulas of spec/numerics.md.
#pragma once
#include "gpu.cuh"

enum : u32 { kPage = 64, kBlock = 1024, kInfinity = 0x7f800000, kMagnitude = 0x7fffffff };

FN f32x4 floats_of(const u32x4& v) { return {from_bits(v.x), from_bits(v.y), from_bits(v.z), from_bits(v.w)}; }
FN bool finite(float v) { return (bits(v) & kInfinity) != kInfinity; }

// Of ordinary numbers, those far from the ends of the range, quotients and roots are rounded as by div32 and sqrt32 and take no
// branch: the remainder of what an approximation gives, which a fused product has without an error, corrects it. inverse is 1/b.
constexpr float kOrdinaryLeast = 0x1p-60f, kOrdinaryGreatest = 0x1p60f;
FN float ordinary_inverse(float x) {
  const float y = inverse_near(x);
  return fma32(fma32(-x, y, 1.0f), y, y);
}
FN float ordinary_root(float x) {
  const float y = inverse_root_near(x), s = mul32(x, y);
  return fma32(fma32(-s, s, x), mul32(0.5f, y), s);
}
FN float ordinary_quotient(float a, float b, float inverse) {
  float q = mul32(a, inverse);
  q = fma32(fma32(-b, q, a), inverse, q);
  return fma32(fma32(-b, q, a), inverse, q);
}

// widen16 is an f16 as f32: its fields in their places, where the exponent is 112 short.
FN float widen16(u32 h) {
  u32 sign = (h & 0x8000) << 16, rest = (h & 0x7fff) << 13;
  if (rest >= 0x0f800000) return from_bits(sign | rest | kInfinity);
  return from_bits(sign | bits(mul32(from_bits(rest), 0x1p112f)));
}

// narrow16 is the f16 nearest to v, ties to even, infinite from 65520 on and for a NaN. Below the normal numbers, a sum with 0.5 leaves
// units of 2^-24 and rounds the rest.
FN u32 narrow16(float v) {
  const u32 sign = bits(v) >> 16 & 0x8000, u = bits(v) & kMagnitude;
  if (u >= 0x477ff000) return sign | 0x7c00;
  if (u < 0x38800000) return sign | (bits(add32(from_bits(u), 0.5f)) - 0x3f000000);
  return sign | (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13;
}

// exp32 is section 4. Adding 1.5 * 2^23 rounds to an integer, ties to even, and leaves it in the low bits.
FN float exp32(float x) {
  const float magic = 0x1.8p+23f;
  float shifted = add32(mul32(x, 0x1.715476p+0f), magic);
  float n = sub32(shifted, magic);
  float r = fma32(-n, 0x1.62e43p-1f, x);
  r = fma32(-n, -0x1.05c61p-29f, r);
  float p = fma32(0x1.6a4f26p-10f, r, 0x1.12398p-7f);
  p = fma32(p, r, 0x1.5558aep-5f);
  p = fma32(p, r, 0x1.555492p-3f);
  p = fma32(p, r, 0x1.fffffcp-2f);
  p = fma32(p, r, 1.0f);
  p = fma32(p, r, 1.0f);
  p = from_bits(bits(p) + (bits(shifted) << 23));
  if (x < -0x1.5d589ep+6f) p = 0.0f;
  if (x > 0x1.62e42ep+6f) p = from_bits(kInfinity);
  return x != x ? x : p;
}

// fold adds the 32 lanes of section 3; every lane returns the sum. Addition commutes, so the halves that a butterfly
// adds twice have the same bits.
FN float fold(float l) {
  for (u32 w = 16; w > 0; w /= 2) l = add32(l, shuffle_xor(l, w));
  return l;
}

// block_sum is a vector sum of section 3 over all threads, whose number is a multiple of 32: step(l, i) takes element
// i into the lane's l. Every thread returns it. It begins and ends with a barrier.
template <class Step>
FN float block_sum(u32 n, Step step) {
  __shared__ float part[32];
  float s = 0;
  for (u32 first = 0; first * kBlock < n; first += warps()) {
    u32 lo = (first + warp()) * kBlock;
    float l = 0;
    const u32 end = least(lo + kBlock, n);
    UNROLL_BY(8)
    for (u32 i = lo + lane(); i < end; i += 32) l = step(l, i);
    l = fold(l);
    barrier();
    if (lane() == 0) part[warp()] = l;
    barrier();
    for (u32 w = 0; w < warps() && (first + w) * kBlock < n; w++) s = first + w == 0 ? part[0] : add32(s, part[w]);
  }
  barrier();
  return s;
}

// block_greatest is the greatest v of all threads.
FN u32 block_greatest(u32 v) {
  __shared__ u32 part[32];
  v = warp_greatest(v);
  barrier();
  if (lane() == 0) part[warp()] = v;
  barrier();
  v = 0;
  for (u32 w = 0; w < warps(); w++) v = greatest(v, part[w]);
  barrier();
  return v;
}

// Kinds of a normalization, as package kernels numbers them; kNoNorm takes the vector as it is.
enum : u32 { kNoNorm = 0, kRMS = 1, kLayer = 2 };

// Deviation is what a normalization needs to know of a whole vector (section 6). ok is false where the section asks
// for an error.
struct Deviation {
  float mean, r;
  bool ok;
};

FN Deviation deviation(const float* x, u32 n, u32 kind, float eps) {
  Deviation d = {0, 1, true};
  if (kind == kNoNorm) return d;
  if (kind == kLayer) d.mean = div32(block_sum(n, [&](float l, u32 i) { return add32(l, x[i]); }), (float)n);
  float ss;
  if (kind == kLayer)
    ss = block_sum(n, [&](float l, u32 i) {
      float v = sub32(x[i], d.mean);
      return fma32(v, v, l);
    });
  else
    ss = block_sum(n, [&](float l, u32 i) { return fma32(x[i], x[i], l); });
  d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), eps)));
  d.ok = finite(ss) && finite(d.r);
  return d;
}

// normalized is element i of section 6.
FN float normalized(const Deviation& d, float x, const float* w, const float* b, u32 i, u32 kind) {
  if (kind == kNoNorm) return x;
  if (kind == kRMS) return mul32(mul32(x, w[i]), d.r);
  float y = mul32(mul32(sub32(x, d.mean), d.r), w[i]);
  return b ? add32(y, b[i]) : y;
}

// Codes of 128 columns lie so that a lane of mma_s8 finds its words of all four planes side by side: the word of
// columns 32i + 16h + 4t .. +3 is number 8t + 2i + h.
FN u32 code_word(u32 natural) { return (natural & 3) * 8 + (natural >> 3) * 2 + ((natural >> 2) & 1); }

// Codes of many tokens lie in tiles of 128 columns, one tile after the other for all tokens, a number that is padded: 128 bytes of
// a token follow those of the token before. The chunks of 16 bytes of a token trade places by its number, so that those of
// eight tokens meet different banks; it is what the tensor cores of Hopper call a swizzle of 128 bytes.
// code_chunk is the place of a chunk.
FN u64 code_chunk(u32 chunk, u32 token, u32 tokens) { return ((u64)(chunk / 8) * tokens + token) * 128 + (chunk % 8 ^ token % 8) * 16; }

// quantum is the factor of section 7 for an absolute maximum.
FN float quantum(float a) { return mul32(div32(1.0f, a), 127.0f); }
FN float at_least_least(float a) { return a > 0x1.4f8b58p-17f ? a : 0x1.4f8b58p-17f; }
// rounded has rint(y*k) in the low byte; see exp32 for the sum. code is that byte.
FN u32 rounded(float y, float k) { return bits(add32(mul32(y, k), 0x1.8p+23f)); }
FN u32 code(float y, float k) { return rounded(y, k) & 0xff; }

// kTritsZero is a word of sixteen zeros on the device, whose codes are trits plus 2.
enum : u32 { kTritsZero = 0xaaaaaaaa };

// plane is bit pair i of each byte of a word of codes as four s8 of 64 times the trit.
template <int I>
FN u32 plane(u32 w) {
  return ((w << (6 - 2 * I)) ^ 0x80808080) & 0xc0c0c0c0;
}

// over127 is x / 127. The quotient that one product gives is off by a unit at most, and the remainder, which is exact, corrects it:
// an exhaustive test holds it to the division. Infinity has no remainder.
FN float over127(float x) {
  const float inverse = 0x1.020408p-7f, q = mul32(x, inverse);
  return finite(x) ? fma32(fma32(-127.0f, q, x), inverse, q) : q;
}

// scaled is section 8 for a row of one scale. On the device every row has a scale of its own.
FN float scaled(i32 sum, float scale, float maximum) { return mul32(to_float(sum), over127(mul32(scale, maximum))); }

// gate is section 13 for one unit.
FN float gate(float g, float u, bool relu2) {
  if (relu2) {
    g = g <= 0 ? 0.0f : g;
    return mul32(mul32(g, g), u);
  }
  return mul32(div32(g, add32(1.0f, exp32(-g))), u);
}
