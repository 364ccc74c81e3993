// What the two kernels of attention that is not exact share (fast.cu, fast_hopper.cu). Sums are not those of spec/numerics.md: they are
// for who asks for speed rather than for the same bits everywhere. Queries, keys, values and weights are rounded to bf16; scores
// and sums are f32. A warp has 16 queries; scores and sums lie as mma_bf16 has them.
#pragma once
#include "tiles.cuh"

// round_keys and round_values turn four floats of a page, number `at`, into bf16 in rows of 128 bytes whose chunks of 16 bytes trade
// places by the row: keys [Dim][64], values [Dim / 64][64][64]. Slots of the page after the last may hold anything and become zeros.
FN void round_keys(u8* keys, const f32x4& k, u32 at, u32 last) {
  const u32 row = at / 16, first = at % 16 * 4;
  u32* to = (u32*)(keys + row * 128 + ((at % 16 / 2) ^ row % 8) * 16 + at % 2 * 8);
  to[0] = pack_bf16(first <= last ? k.x : 0.0f, first + 1 <= last ? k.y : 0.0f);
  to[1] = pack_bf16(first + 2 <= last ? k.z : 0.0f, first + 3 <= last ? k.w : 0.0f);
}
template <int Dim>
FN void round_values(u8* values, const f32x4& v, u32 at, u32 last) {
  const u32 slot = at / (Dim / 4);
  u32* to = (u32*)(values + at % (Dim / 4) / 16 * 8192 + slot * 128 + ((at % 16 / 2) ^ slot % 8) * 16 + at % 2 * 8);
  to[0] = slot <= last ? pack_bf16(v.x, v.y) : 0;
  to[1] = slot <= last ? pack_bf16(v.z, v.w) : 0;
}

// put_query writes an element of a query for take_queries, which gives a warp those of its 16 queries from row on.
template <int Dim>
FN void put_query(u8* queries, u32 i, u32 n, float v) {
  *(u16*)(queries + n * Dim * 2 + ((i / 8) ^ n % 8) * 16 + i % 8 * 2) = (u16)pack_bf16(v, 0.0f);
}
template <int Dim>
FN void take_queries(u32 (&a)[Dim / 16][4], const u8* queries, u32 row) {
  const u32 n = row + lane() / 8 % 2 * 8 + lane() % 8;
  UNROLL
  for (int k = 0; k < Dim / 16; k++) load_matrices(a[k], queries + n * Dim * 2 + ((2 * k + lane() / 16) ^ n % 8) * 16);
}

// weigh turns scores into weights p, as the first operand of the product with the values, and rescales the sums so far. unit makes
// scores exponents of two.
template <int Dim>
FN void weigh(u32 (&p)[4][4], float (&s)[32], float (&o)[Dim / 2], float (&m)[2], float (&l)[2], const Tile& tile, u32 row, u32 chunk, float unit) {
  const u32 g = lane() / 4, t = lane() % 4;
  const u32 reach = tile.position + row + g;  // the last key of query row+g
  if (tile.position + row < chunk * kPage + kPage - 1)
    UNROLL
    for (int n = 0; n < 8; n++)
      UNROLL
      for (int e = 0; e < 4; e++)
        if (chunk * kPage + 8 * n + 2 * t + e % 2 > reach + e / 2 * 8) s[4 * n + e] = from_bits(0xff800000);
  UNROLL
  for (int h = 0; h < 2; h++) {
    float top = m[h];
    UNROLL
    for (int n = 0; n < 8; n++)
      UNROLL
      for (int e = 0; e < 2; e++) top = s[4 * n + 2 * h + e] > top ? s[4 * n + 2 * h + e] : top;
    for (u32 w = 2; w > 0; w /= 2) {
      const float other = shuffle_xor(top, w);
      top = other > top ? other : top;
    }
    const float before = exp2_near(mul32(sub32(m[h], top), unit)), base = -mul32(top, unit);
    m[h] = top;
    float total = 0;
    UNROLL
    for (int n = 0; n < 8; n++)
      UNROLL
      for (int e = 0; e < 2; e++) {
        s[4 * n + 2 * h + e] = exp2_near(fma32(s[4 * n + 2 * h + e], unit, base));
        total = add32(total, s[4 * n + 2 * h + e]);
      }
    l[h] = fma32(l[h], before, total);
    UNROLL
    for (int d = 0; d < Dim / 8; d++)
      UNROLL
      for (int e = 0; e < 2; e++) o[4 * d + 2 * h + e] = mul32(o[4 * d + 2 * h + e], before);
  }
  UNROLL
  for (int k = 0; k < 4; k++)
    UNROLL
    for (int i = 0; i < 4; i++) p[k][i] = pack_bf16(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
}

// finish_near stores the sums of a warp.
template <int Dim>
FN void finish_near(float* out, const float (&o)[Dim / 2], float (&l)[2], const Tile& tile, u32 row, u32 head, u32 heads) {
  const u32 g = lane() / 4, t = lane() % 4;
  UNROLL
  for (int h = 0; h < 2; h++) {
    for (u32 w = 2; w > 0; w /= 2) l[h] = add32(l[h], shuffle_xor(l[h], w));
    const u32 query = row + g + 8 * h;
    if (query >= tile.count) continue;
    const float inverse = div32(1.0f, l[h]);
    float* to = out + ((u64)(tile.row + query) * heads + head) * Dim + 2 * t;
    UNROLL
    for (int d = 0; d < Dim / 8; d++) {
      to[8 * d] = mul32(o[4 * d + 2 * h], inverse);
      to[8 * d + 1] = mul32(o[4 * d + 2 * h + 1], inverse);
    }
  }
}
