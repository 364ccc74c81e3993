// Attention of many neighbouring positions of one sequence (spec/numerics.md section 12), every sum in its fixed order.
//
// A block computes one query head for a tile of 64 positions, chunk by chunk. Thread (x, y) of 16 x 16 holds the scores
// of queries 4y..4y+3 with keys 4x..4x+3, a chain over the dimensions for each, so that no sum crosses threads; then
// the sums of the same queries for its dimensions, a chain over the keys for each. Weights go from the one to the other
// through shared memory, where they take the place of the keys; the columns of four queries trade places by the key, so
// that threads meet different banks.
#include "numerics.cuh"

// Tile is a stretch of rows of a batch: `count` queries at neighbouring positions of the sequence whose table of pages
// begins at start.
struct Tile {
  u32 row, count, start, position;
};

template <int Dim>
FN void attend_tile(float* out, const float* q, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, float z) {
  enum { Quads = Dim / 64 };  // groups of four dimensions of a thread, 64 apart
  const Tile tile = tiles[block_y()];
  const u32 head = block_x(), kv = head / (heads / kv_heads);
  const u32 x = thread() % 16, y = thread() / 16;
  float* queries = (float*)shared_bytes();  // [Dim][64]
  float* keys = queries + Dim * kPage;      // [Dim][64], then weights [64 keys][64 queries]
  float* values = keys + Dim * kPage;       // [64][Dim]
  for (u32 at = thread(); at < Dim * kPage; at += 256) {
    const u32 i = at % Dim, row = at / Dim;
    queries[i * kPage + row] = row < tile.count ? q[((u64)(tile.row + row) * heads + head) * Dim + i] : 0.0f;
  }
  float m[4], l[4], o[4][Quads][4];
  const u32 chunks = (tile.position + tile.count - 1) / kPage + 1;
  for (u32 chunk = 0; chunk < chunks; chunk++) {
    barrier();
    const f32x4* page_keys = (const f32x4*)((const float*)(tables[tile.start + chunk] + offset) + (u64)kv * Dim * kPage);
    const f32x4* page_values = page_keys + (u64)kv_heads * Dim * kPage / 4;
    for (u32 at = thread(); at < Dim * kPage / 4; at += 256) copy_async((f32x4*)keys + at, page_keys + at);
    copy_commit();
    for (u32 at = thread(); at < Dim * kPage / 4; at += 256) copy_async((f32x4*)values + at, page_values + at);
    copy_commit();
    u32 count[4];  // positions of the chunk that a query attends to
    UNROLL
    for (int a = 0; a < 4; a++) {
      const u32 row = 4 * y + a, reach = tile.position + row + 1;
      count[a] = row < tile.count && reach > chunk * kPage ? least(kPage, reach - chunk * kPage) : 0;
    }

    copy_wait<1>();
    barrier();
    float s[4][4] = {};
    UNROLL_BY(8)
    for (u32 i = 0; i < Dim; i++) {
      const f32x4 qs = *(const f32x4*)(queries + i * kPage + 4 * y), ks = *(const f32x4*)(keys + i * kPage + 4 * x);
      const float qa[4] = {qs.x, qs.y, qs.z, qs.w}, ka[4] = {ks.x, ks.y, ks.z, ks.w};
      UNROLL
      for (int a = 0; a < 4; a++)
        UNROLL
        for (int b = 0; b < 4; b++) s[a][b] = fma32(qa[a], ka[b], s[a][b]);
    }
    float before[4], after[4];
    UNROLL
    for (int a = 0; a < 4; a++) {
      float top = from_bits(0xff800000);
      UNROLL
      for (int b = 0; b < 4; b++) {
        s[a][b] = mul32(s[a][b], z);
        if (4 * x + b < count[a] && s[a][b] > top) top = s[a][b];
      }
      UNROLL
      for (int w = 8; w > 0; w /= 2) {
        const float other = shuffle_xor(top, w);
        top = other > top ? other : top;
      }
      UNROLL
      for (int b = 0; b < 4; b++) s[a][b] = 4 * x + b < count[a] ? exp32(sub32(s[a][b], top)) : 0.0f;
      // Lane j of the sum is key j and key j+32, eight threads on; keys that are not there add +0 to what is not
      // negative.
      float part[4];
      UNROLL
      for (int b = 0; b < 4; b++) {
        part[b] = s[a][b];
        UNROLL
        for (int w = 8; w > 0; w /= 2) part[b] = add32(part[b], shuffle_xor(part[b], w));
      }
      const float total = add32(add32(part[0], part[2]), add32(part[1], part[3]));
      if (chunk == 0) {
        m[a] = top, l[a] = total, before[a] = 0, after[a] = 0;
      } else if (count[a] > 0) {
        const float greater = top > m[a] ? top : m[a];
        before[a] = exp32(sub32(m[a], greater));
        after[a] = exp32(sub32(top, greater));
        l[a] = fma32(total, after[a], mul32(l[a], before[a]));
        m[a] = greater;
      }
    }
    barrier();
    float* weights = keys;
    UNROLL
    for (int b = 0; b < 4; b++) *(f32x4*)(weights + (4 * x + b) * kPage + 4 * (y ^ x)) = {s[0][b], s[1][b], s[2][b], s[3][b]};
    copy_wait<0>();
    barrier();

    float c[4][Quads][4] = {};
    const bool full = tile.position + 1 >= (chunk + 1) * kPage && tile.count == kPage;
    if (full) {
      UNROLL_BY(4)
      for (u32 j = 0; j < kPage; j++) {
        const f32x4 ps = *(const f32x4*)(weights + j * kPage + 4 * (y ^ (j / 4)));
        const float p[4] = {ps.x, ps.y, ps.z, ps.w};
        UNROLL
        for (int d = 0; d < Quads; d++) {
          const f32x4 vs = *(const f32x4*)(values + j * Dim + 64 * d + 4 * x);
          const float v[4] = {vs.x, vs.y, vs.z, vs.w};
          UNROLL
          for (int a = 0; a < 4; a++)
            UNROLL
            for (int b = 0; b < 4; b++) c[a][d][b] = fma32(p[a], v[b], c[a][d][b]);
        }
      }
    } else {
      for (u32 j = 0; j < kPage; j++) {
        const f32x4 ps = *(const f32x4*)(weights + j * kPage + 4 * (y ^ (j / 4)));
        const float p[4] = {ps.x, ps.y, ps.z, ps.w};
        UNROLL
        for (int d = 0; d < Quads; d++) {
          const f32x4 vs = *(const f32x4*)(values + j * Dim + 64 * d + 4 * x);
          const float v[4] = {vs.x, vs.y, vs.z, vs.w};
          UNROLL
          for (int a = 0; a < 4; a++)
            UNROLL
            for (int b = 0; b < 4; b++) c[a][d][b] = j < count[a] ? fma32(p[a], v[b], c[a][d][b]) : c[a][d][b];
        }
      }
    }
    UNROLL
    for (int a = 0; a < 4; a++)
      UNROLL
      for (int d = 0; d < Quads; d++)
        UNROLL
        for (int b = 0; b < 4; b++) {
          if (chunk == 0)
            o[a][d][b] = c[a][d][b];
          else if (count[a] > 0)
            o[a][d][b] = fma32(c[a][d][b], after[a], mul32(o[a][d][b], before[a]));
        }
  }
  UNROLL
  for (int a = 0; a < 4; a++) {
    if (4 * y + a >= tile.count) continue;
    const float inverse = div32(1.0f, l[a]);
    UNROLL
    for (int d = 0; d < Quads; d++) {
      const float* v = o[a][d];
      *(f32x4*)(out + ((u64)(tile.row + 4 * y + a) * heads + head) * Dim + 64 * d + 4 * x) = {mul32(v[0], inverse), mul32(v[1], inverse), mul32(v[2], inverse), mul32(v[3], inverse)};
    }
  }
}

// attend_tiles_D is attention for heads of D elements: block (h, t) computes query head h of tile t. Shared memory:
// 192*D floats.
BOUNDED_KERNEL(256, 2, attend_tiles_64, float* out, const float* q, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, float z) {
  attend_tile<64>(out, q, tables, tiles, offset, heads, kv_heads, z);
}
BOUNDED_KERNEL(256, 2, attend_tiles_128, float* out, const float* q, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, float z) {
  attend_tile<128>(out, q, tables, tiles, offset, heads, kv_heads, z);
}
