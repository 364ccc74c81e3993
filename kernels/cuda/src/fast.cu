// Attention of many neighbouring positions on tensor cores, which is not exact (near.cuh).
//
// A block computes one query head for a tile of 128 positions (tiles.cuh), 64 keys at a time, a warp 16 of the queries. The pages
// hold f32: each thread copies its part of a chunk while the block multiplies the chunk before the last, and turns it into bf16, in
// one of two buffers, before the block multiplies the last; so there is one barrier a chunk.
#include "near.cuh"

template <int Dim>
FN void attend_near(float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  enum : u32 { Part = Dim * kPage, Own = Part / 4 / 256 };
  const Tile tile = tiles[block_y()];
  const u32 head = block_x(), kv = head / (heads / kv_heads);
  const u32 line = lane() % 8, piece = lane() / 8;
  u8* queries = shared_bytes();                        // [128][Dim] bf16
  u8* halves = queries + kTile * Dim * 2;              // 2 x keys [Dim][64] and values [Dim / 64][64][64], bf16
  float* whole = (float*)(halves + 2 * 2 * Part * 2);  // keys and values of a chunk as they are in the page
  const u32 chunks = (tile.position + tile.count - 1) / kPage + 1;
  auto fetch = [&](u32 chunk) INLINE {
    if (chunk >= chunks) return;
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
    if (chunk >= chunks) return;
    copy_wait<0>();
    u8 *keys = halves + chunk % 2 * 2 * Part * 2, *values = keys + Part * 2;
    const u32 last = tile.position + tile.count - 1 - chunk * kPage;  // slots behind it may hold anything
    UNROLL
    for (u32 i = 0; i < Own; i++) {
      const u32 at = i * 256 + thread();
      const f32x4 k = *(const f32x4*)(whole + at * 4), v = *(const f32x4*)(whole + Part + at * 4);
      round_keys(keys, k, at, last);
      round_values<Dim>(values, v, at, last);
    }
  };
  fetch(0);
  load_queries<Dim>(q + head * Dim, table, tile, ld, [&](u32 i, u32 n, float v) INLINE { put_query<Dim>(queries, i, n, v); });
  round(0);
  fetch(1);
  barrier();

  const u32 row = warp() * 16;  // queries row+g and row+g+8
  u32 a[Dim / 16][4];
  take_queries<Dim>(a, queries, row);
  const float unit = mul32(z, 0x1.715476p+0f);  // scores to powers of two
  float o[Dim / 2], m[2] = {from_bits(0xff800000), from_bits(0xff800000)}, l[2] = {0, 0};
  UNROLL
  for (int d = 0; d < Dim / 2; d++) o[d] = 0;
  for (u32 chunk = 0; chunk < chunks; chunk++) {
    const u8 *keys = halves + chunk % 2 * 2 * Part * 2, *values = keys + Part * 2;
    round(chunk + 1);
    fetch(chunk + 2);
    // Where the last query of the warp does not reach the chunk there is nothing to do.
    const bool any = row < tile.count && tile.position + row + 15 >= chunk * kPage;
    float s[32];
    UNROLL
    for (int n = 0; n < 32; n++) s[n] = 0;
    if (any) {
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
      u32 p[4][4];
      weigh<Dim>(p, s, o, m, l, tile, row, chunk, unit);
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
    barrier();
  }
  finish_near<Dim>(out, o, l, tile, row, head, heads);
}

// attend_near_D is attend_tiles_D of prefill.cu, near to it. Shared memory: 1,280*D bytes.
BOUNDED_KERNEL(256, 1, attend_near_64, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_near<64>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
BOUNDED_KERNEL(256, 1, attend_near_128, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_near<128>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
