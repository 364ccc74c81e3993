// What the kernels of attention over tiles share.
#pragma once
#include "numerics.cuh"

// Tile is a stretch of rows of a batch: `count` queries at neighbouring positions of the sequence whose table of pages
// begins at start.
struct Tile {
  u32 row, count, start, position;
};

enum : u32 { kTile = 128 };

// load_queries turns the queries of a tile (section 11) and writes them with a pitch of kTile, zeros past the end: element i of row
// n to put(i, n, v). table holds the angles of each position.
template <int Dim, class Put>
FN void load_queries(const float* q, const float* table, const Tile& tile, u32 ld, Put put) {
  for (u32 at = thread(); at < kTile * Dim / 8; at += threads()) {
    const u32 n = at % kTile, i = at / kTile * 4;
    f32x4 a = {0, 0, 0, 0}, b = a, c = a, s = a;
    if (n < tile.count) {
      const float *x = q + (u64)(tile.row + n) * ld + i, *angles = table + (u64)(tile.position + n) * Dim + i;
      a = *(const f32x4*)x, b = *(const f32x4*)(x + Dim / 2);
      c = *(const f32x4*)angles, s = *(const f32x4*)(angles + Dim / 2);
    }
    const float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w}, cs[4] = {c.x, c.y, c.z, c.w}, ss[4] = {s.x, s.y, s.z, s.w};
    UNROLL
    for (int e = 0; e < 4; e++) {
      put(i + e, n, sub32(mul32(as[e], cs[e]), mul32(bs[e], ss[e])));
      put(i + e + Dim / 2, n, add32(mul32(bs[e], cs[e]), mul32(as[e], ss[e])));
    }
  }
}

// reached is how many keys of a chunk a query of the tile attends to.
FN u32 reached(const Tile& tile, u32 query, u32 chunk) {
  const u32 reach = tile.position + query + 1;
  return query < tile.count && reach > chunk * kPage ? least(kPage, reach - chunk * kPage) : 0;
}
