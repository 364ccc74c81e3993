// The formats of a page (spec/numerics.md section 12). A page of a layer holds what kernels.Page does, one after the other: the
// keys of all heads, the values, what scales the keys, what scales the values.
#pragma once
#include "numerics.cuh"

// HeadPage is the part of a page that is one head's.
struct HeadPage {
  u8 *keys, *values, *key_scales, *value_scales;
};

// head_page finds it: a format says how many bytes a position's key of a head has, and all that scales a head's keys or values.
template <class F>
FN HeadPage head_page(u8* page, u32 heads, u32 head, u32 dim) {
  const u64 part = (u64)F::bytes(dim) * kPage;
  u8* const scales = page + 2 * heads * part;
  return {page + head * part, page + (heads + head) * part, scales + head * F::key_scales, scales + heads * F::key_scales + head * F::value_scales};
}

// products is the chain of products of a query with the elements of a key.
template <class Key>
FN float products(const float* query, u32 dim, Key key) {
  float v = 0;
  UNROLL_BY(8)
  for (u32 i = 0; i < dim; i++) v = fma32(query[i], key(i), v);
  return v;
}

// Each format says what a query, whose elements have that sum, scores with position j before it is scaled by the root of dim; what
// element i of position j's value is, and the factor of its weight if it has one (weighs); and with zeros what times its weight is
// added to all elements.
struct PageF32 {
  enum : u32 { key_scales = 0, value_scales = 0, weighs = 0, zeros = 0 };
  FN u32 bytes(u32 dim) { return 4 * dim; }
  FN float score(const HeadPage& p, const float* query, float, u32 dim, u32 j) {
    const float* keys = (const float*)p.keys + j;
    return products(query, dim, [&](u32 i) INLINE { return keys[(u64)i * kPage]; });
  }
  FN float value(const HeadPage& p, u32 dim, u32 j, u32 i) { return ((const float*)p.values)[(u64)j * dim + i]; }
  FN float factor(const HeadPage&, u32) { return 1; }
  FN float zero(const HeadPage&, u32) { return 0; }
};

struct PageF16 {
  enum : u32 { key_scales = 0, value_scales = 0, weighs = 0, zeros = 0 };
  FN u32 bytes(u32 dim) { return 2 * dim; }
  FN float score(const HeadPage& p, const float* query, float, u32 dim, u32 j) {
    const u16* keys = (const u16*)p.keys + j;
    return products(query, dim, [&](u32 i) INLINE { return widen16(keys[(u64)i * kPage]); });
  }
  FN float value(const HeadPage& p, u32 dim, u32 j, u32 i) { return widen16(((const u16*)p.values)[(u64)j * dim + i]); }
  FN float factor(const HeadPage&, u32) { return 1; }
  FN float zero(const HeadPage&, u32) { return 0; }
};

struct PageInt8 {
  enum : u32 { key_scales = 4 * kPage, value_scales = 4 * kPage, weighs = 1, zeros = 0 };
  FN u32 bytes(u32 dim) { return dim; }
  // A code with its sign bit turned is 128 more, and lies in the low bits of 2^23 + that number.
  FN float number(u32 code) { return sub32(from_bits(0x4b000000 | (code ^ 0x80)), 0x1.0001p+23f); }
  FN float score(const HeadPage& p, const float* query, float, u32 dim, u32 j) {
    const u8* keys = p.keys + j;
    return mul32(products(query, dim, [&](u32 i) INLINE { return number(keys[(u64)i * kPage]); }), ((const float*)p.key_scales)[j]);
  }
  FN float value(const HeadPage& p, u32 dim, u32 j, u32 i) { return number(p.values[(u64)j * dim + i]); }
  FN float factor(const HeadPage& p, u32 j) { return ((const float*)p.value_scales)[j]; }
  FN float zero(const HeadPage&, u32) { return 0; }
};

struct PageInt4 {
  enum : u32 { key_scales = 4 * kPage, value_scales = 0, weighs = 1, zeros = 1 };
  FN u32 bytes(u32 dim) { return (dim + 1) / 2; }
  FN float number(u32 code) { return sub32(from_bits(0x4b000000 | code), 0x1p+23f); }
  // slope and zero_of are a and b of position j, whose scale and zero are 64 apart.
  FN float slope(const u8* scales, u32 j) { return widen16(((const u16*)scales)[j]); }
  FN float zero_of(const u8* scales, u32 j) {
    const float a = slope(scales, j), b = slope(scales, kPage + j);
    return a == 0 ? b : mul32(-add32(b, 8.0f), a);
  }
  FN float score(const HeadPage& p, const float* query, float sum, u32 dim, u32 j) {
    const u8* keys = p.keys + j;
    float v = 0;
    UNROLL_BY(4)
    for (u32 i = 0; i < dim / 2; i++) {
      const u32 two = keys[(u64)i * kPage];
      v = fma32(query[2 * i], number(two >> 4), v);
      v = fma32(query[2 * i + 1], number(two & 15), v);
    }
    if (dim % 2 != 0) v = fma32(query[dim - 1], number(keys[(u64)(dim / 2) * kPage] >> 4), v);
    return fma32(v, slope(p.key_scales, j), mul32(zero_of(p.key_scales, j), sum));
  }
  FN float value(const HeadPage& p, u32 dim, u32 j, u32 i) { return number(p.values[(u64)j * bytes(dim) + i / 2] >> (i % 2 == 0 ? 4 : 0) & 15); }
  FN float factor(const HeadPage& p, u32 j) { return slope(p.value_scales, j); }
  FN float zero(const HeadPage& p, u32 j) { return zero_of(p.value_scales, j); }
};
