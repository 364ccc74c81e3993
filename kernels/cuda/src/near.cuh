// Attention of many neighbouring positions on tensor cores, whose sums are not those of spec/numerics.md: for who asks for speed
// rather than for the same bits everywhere. Queries, keys, values and weights are rounded to bf16; scores and sums are f32.
//
// A block computes one query head for a tile of 128 positions (tiles.cuh), 64 keys at a time, a warp 16 of the queries. The pages
// hold f32: each thread copies its part of a chunk while the block multiplies the chunk before the last, and turns it into bf16, in
// one of two buffers, before the block multiplies the last; so there is one barrier a chunk. Rows of a buffer trade their pieces of 16
// bytes by the row, so that the eight rows of a load meet different banks.
//
// For the prefill of 2,048 tokens by 20 heads of 128, one layer on one H200, where attend_tiles takes 696 us:
//	1  products of one warp, mma_bf16: 164 us
//	2  products of four warps, Groups: 134 us, most of it latency: a block is alone on its multiprocessor
#pragma once
#include "hopper.cuh"
#include "tiles.cuh"

// attend_near computes a tile, with Groups by the products of four warps of compute capability 9.0.
template <int Dim, bool Groups>
FN void attend_near(float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  enum : u32 { Part = Dim * kPage, Own = Part / 4 / 256 };
  const Tile tile = tiles[block_y()];
  const u32 head = block_x(), kv = head / (heads / kv_heads);
  const u32 g = lane() / 4, t = lane() % 4, line = lane() % 8, piece = lane() / 8;
  u8* queries = shared_bytes() + (1024 - shared_address(shared_bytes()) % 1024) % 1024;  // [128][Dim] bf16
  u8* halves = queries + kTile * Dim * 2;              // 2 x keys [Dim][64] and values [Dim / 64][64][64], bf16
  float* whole = (float*)(halves + 2 * 2 * Part * 2);  // keys and values of a chunk as they are in the page
  const u32 chunks = (tile.position + tile.count - 1) / kPage + 1;
  // Past the last chunk both go on with what nobody reads: a branch would make products wait (Groups).
  auto fetch = [&](u32 chunk) INLINE {
    chunk = least(chunk, chunks - 1);
    const float* keys = (const float*)(tables[tile.start + chunk] + offset) + (u64)kv * Part;
    UNROLL
    for (u32 i = 0; i < Own; i++) {
      const u32 at = (i * 256 + thread()) * 4;
      copy_async(whole + at, keys + at);
      copy_async(whole + Part + at, keys + (u64)kv_heads * Part + at);
    }
    copy_commit();
  };
  auto round = [&](u32 chunk) INLINE {
    copy_wait<0>();
    u8 *keys = halves + chunk % 2 * 2 * Part * 2, *values = keys + Part * 2;
    const u32 last = tile.position + tile.count - 1 - chunk * kPage;  // slots behind it may hold anything
    UNROLL
    for (u32 i = 0; i < Own; i++) {
      const u32 at = i * 256 + thread();
      const f32x4 k = *(const f32x4*)(whole + at * 4), v = *(const f32x4*)(whole + Part + at * 4);
      const u32 row = at / 16, slot = at / (Dim / 4), first = at % 16 * 4;
      u32* to = (u32*)(keys + row * 128 + ((at % 16 / 2) ^ row % 8) * 16 + at % 2 * 8);
      to[0] = pack_bf16(first <= last ? k.x : 0.0f, first + 1 <= last ? k.y : 0.0f);
      to[1] = pack_bf16(first + 2 <= last ? k.z : 0.0f, first + 3 <= last ? k.w : 0.0f);
      to = (u32*)(values + at % (Dim / 4) / 16 * 8192 + slot * 128 + ((at % 16 / 2) ^ slot % 8) * 16 + at % 2 * 8);
      to[0] = slot <= last ? pack_bf16(v.x, v.y) : 0;
      to[1] = slot <= last ? pack_bf16(v.z, v.w) : 0;
    }
    if (Groups) tile_publish();
  };
  fetch(0);
  load_queries<Dim>(q + head * Dim, table, tile, ld, [&](u32 i, u32 n, float v) INLINE { *(u16*)(queries + n * Dim * 2 + ((i / 8) ^ n % 8) * 16 + i % 8 * 2) = (u16)pack_bf16(v, 0.0f); });
  round(0);
  fetch(1);
  barrier();

  const u32 row = warp() * 16;  // queries row+g and row+g+8
  u32 a[Dim / 16][4];
  UNROLL
  for (int k = 0; k < Dim / 16; k++) {
    const u32 n = row + piece % 2 * 8 + line;
    load_matrices(a[k], queries + n * Dim * 2 + ((2 * k + piece / 2) ^ n % 8) * 16);
  }
  const float unit = mul32(z, 0x1.715476p+0f);  // scores to powers of two
  float o[Dim / 2], m[2] = {from_bits(0xff800000), from_bits(0xff800000)}, l[2] = {0, 0};
  UNROLL
  for (int d = 0; d < Dim / 2; d++) o[d] = 0;
  for (u32 chunk = 0; chunk < chunks; chunk++) {
    const u8 *keys = halves + chunk % 2 * 2 * Part * 2, *values = keys + Part * 2;
    // Where the last query of the warp does not reach the chunk there is nothing to do.
    const bool any = Groups || (row < tile.count && tile.position + row + 15 >= chunk * kPage);
    float s[32];
    UNROLL
    for (int n = 0; n < 32; n++) s[n] = 0;
    if (Groups) {
      tile_begin();
      UNROLL
      for (int k = 0; k < Dim / 16; k++) multiply_near(s, a[k], near_operand(keys + k * 2048, 0));
      tile_commit();
    }
    round(chunk + 1);
    fetch(chunk + 2);
    if (any) {
      if (Groups)
        tile_wait<0>();
      else
        UNROLL
        for (int k = 0; k < Dim / 16; k++)
          UNROLL
          for (int n = 0; n < 8; n += 2) {
            const u32 i = 16 * k + piece % 2 * 8 + line;
            u32 b[4];
            load_matrices_across(b, keys + i * 128 + ((n + piece / 2) ^ i % 8) * 16);
            mma_bf16(s + 4 * n, a[k], b[0], b[1]);
            mma_bf16(s + 4 * n + 4, a[k], b[2], b[3]);
          }
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
      u32 p[4][4];
      UNROLL
      for (int k = 0; k < 4; k++)
        UNROLL
        for (int i = 0; i < 4; i++) p[k][i] = pack_bf16(s[8 * k + 2 * i], s[8 * k + 2 * i + 1]);
      if (Groups) {
        tile_begin();
        UNROLL
        for (int k = 0; k < 4; k++) multiply_near(o, p[k], near_operand(values + k * 2048, 8192));
        tile_commit();
        tile_wait<0>();
      } else {
        UNROLL
        for (int k = 0; k < 4; k++)
          UNROLL
          for (int d = 0; d < Dim / 8; d += 2) {
            const u32 j = 16 * k + piece % 2 * 8 + line;
            u32 b[4];
            load_matrices_across(b, values + d / 8 * 8192 + j * 128 + ((d % 8 + piece / 2) ^ j % 8) * 16);
            mma_bf16(o + 4 * d, p[k], b[0], b[1]);
            mma_bf16(o + 4 * d + 4, p[k], b[2], b[3]);
          }
      }
    }
    barrier();
  }
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
