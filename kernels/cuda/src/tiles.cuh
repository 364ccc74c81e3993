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
// n to put(i, n, v). table holds the angles of each position. 256 threads.
template <int Dim, class Put>
FN void load_queries(const float* q, const float* table, const Tile& tile, u32 ld, Put put) {
  // Four elements by four are on their way at once.
  enum : u32 { Batch = 4 };
  UNROLL_BY(1)
  for (u32 first = 0; first < kTile * Dim / 8; first += Batch * 256) {
    f32x4 a[Batch], b[Batch], c[Batch], s[Batch];
    UNROLL
    for (u32 k = 0; k < Batch; k++) {
      const u32 at = first + k * 256 + thread(), n = at % kTile, i = at / kTile * 4;
      const bool there = n < tile.count;
      const float *x = q + (u64)(tile.row + n) * ld + i, *angles = table + (u64)(tile.position + n) * Dim + i;
      a[k] = load_f32x4_if(there, x), b[k] = load_f32x4_if(there, x + Dim / 2);
      c[k] = load_f32x4_if(there, angles), s[k] = load_f32x4_if(there, angles + Dim / 2);
    }
    UNROLL
    for (u32 k = 0; k < Batch; k++) {
      const u32 at = first + k * 256 + thread(), n = at % kTile, i = at / kTile * 4;
      const float as[4] = {a[k].x, a[k].y, a[k].z, a[k].w}, bs[4] = {b[k].x, b[k].y, b[k].z, b[k].w}, cs[4] = {c[k].x, c[k].y, c[k].z, c[k].w}, ss[4] = {s[k].x, s[k].y, s[k].z, s[k].w};
      UNROLL
      for (int e = 0; e < 4; e++) {
        put(i + e, n, sub32(mul32(as[e], cs[e]), mul32(bs[e], ss[e])));
        put(i + e + Dim / 2, n, add32(mul32(bs[e], cs[e]), mul32(as[e], ss[e])));
      }
    }
  }
}

// reached is how many keys of a chunk a query of the tile attends to.
FN u32 reached(const Tile& tile, u32 query, u32 chunk) {
  const u32 reach = tile.position + query + 1;
  return query < tile.count && reach > chunk * kPage ? least(kPage, reach - chunk * kPage) : 0;
}
