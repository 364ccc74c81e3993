// Attention of many neighbouring positions of one sequence (spec/numerics.md section 12), every sum in its fixed order.
//
// A block computes one query head for a tile of 128 positions, two chunks of 64 keys at a time. A warp has 32 queries and, of the
// scores, one of the chunks; of the sums, one half of the dimensions. A lane has eight queries by eight keys, a chain over the
// dimensions for each, so that no sum crosses threads, and then the same queries by eight dimensions, a chain over the
// keys for each: four loads of 16 bytes from shared memory feed 64 products. Weights go from the one to the other through shared
// memory, where they take the place of the keys; quads of queries trade places by the key, so that lanes meet different banks.
// One thread for each query merges the chunks.
//
// Shared memory holds the queries, the values of two chunks and three more chunks: the keys of two, and then their weights, while the
// third takes keys of the next two. So every copy has a phase of products to run behind.
//
// For the prefill of 2,048 tokens by 20 heads of 128, one layer on one H200:
//	1  a block of 64 queries, a thread 4 x 4 (attend_small)
//	2  128 queries, two chunks, 8 x 8: 730 us
//	3  weights of all queries step by step and without branches: 696 us, two thirds of it in the two loops of products,
//	   which issue in nine of ten cycles; 4 % in the loads of queries, which have since been made four at a time
#include "tiles.cuh"

// exp_down is exp32 for what is not positive.
FN float exp_down(float x) {
  const float magic = 0x1.8p+23f;
  const float shifted = add32(mul32(x, 0x1.715476p+0f), magic);
  const float n = sub32(shifted, magic);
  float r = fma32(-n, 0x1.62e43p-1f, x);
  r = fma32(-n, -0x1.05c61p-29f, r);
  float p = fma32(0x1.6a4f26p-10f, r, 0x1.12398p-7f);
  p = fma32(p, r, 0x1.5558aep-5f);
  p = fma32(p, r, 0x1.555492p-3f);
  p = fma32(p, r, 0x1.fffffcp-2f);
  p = fma32(p, r, 1.0f);
  p = fma32(p, r, 1.0f);
  p = from_bits(bits(p) + (bits(shifted) << 23));
  p = x < -0x1.5d589ep+6f ? 0.0f : p;
  return x != x ? x : p;
}

template <int Dim>
FN void attend_tile(float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  enum : u32 { Quads = Dim / 64, Part = Dim * kPage, Room = Dim > 128 ? Part : 128 * kPage };
  const Tile tile = tiles[block_y()];
  const u32 head = block_x(), kv = head / (heads / kv_heads);
  const u32 x = lane() % 8, half = warp() % 2;
  const u32 row = warp() / 2 * 32, y = row + lane() / 8 * 4;  // of queries: y..y+3 and y+16..y+19
  float* queries = (float*)shared_bytes();                    // [Dim][128]
  float* values = queries + kTile * Dim;                      // 2 x [64][Dim]
  float* rooms = values + 2 * Part;                           // 3 x keys [Dim][64] or weights [64][128]
  float* top = rooms + 3 * Room;                              // 2 x [128]: greatest score of a chunk, then the factor of what was before
  float* total = top + 2 * kTile;                             // 2 x [128]: sum of the weights, then the factor of the chunk
  const u32 chunks = (tile.position + tile.count - 1) / kPage + 1;

  auto copy = [&](float* to, u32 chunk, bool of_values) INLINE {
    if (chunk < chunks) {
      const float* from = (const float*)(tables[tile.start + chunk] + offset) + (u64)(of_values ? kv_heads + kv : kv) * Part;
      for (u32 at = thread() * 4; at < Part; at += 1024) copy_async(to + at, from + at);
    }
    copy_commit();
  };
  u32 room = 0;  // keys of the first chunk; those of the second are in the next room
  copy(rooms, 0, false);
  copy(values, 0, true);
  copy(rooms + Room, 1, false);
  load_queries<Dim>(q + head * Dim, table, tile, ld, [&](u32 i, u32 n, float v) INLINE { queries[i * kTile + n] = v; });

  float m = 0, l = 0;  // of query thread()
  float o[8][Quads][4];
  for (u32 chunk = 0; chunk < chunks; chunk += 2) {
    copy_wait<0>();
    barrier();
    float* const first = rooms + room * Room;
    float* const second = rooms + (room + 1) % 3 * Room;
    copy(values + Part, chunk + 1, true);
    copy(rooms + (room + 2) % 3 * Room, chunk + 2, false);
    room = (room + 2) % 3;

    // Scores of a warp whose queries reach the chunk, and their weights.
    const u32 own = chunk + half;
    const bool any = reached(tile, least(row + 31, tile.count - 1), own) > 0 && row < tile.count;
    float s[8][8];
    UNROLL
    for (int a = 0; a < 8; a++)
      UNROLL
      for (int b = 0; b < 8; b++) s[a][b] = 0;
    if (any) {
      const float* keys = (half ? second : first) + 4 * x;
      const float* mine = queries + y;
      UNROLL_BY(4)
      for (u32 i = 0; i < Dim; i++) {
        const f32x4 q0 = *(const f32x4*)(mine + i * kTile), q1 = *(const f32x4*)(mine + i * kTile + 16);
        const f32x4 k0 = *(const f32x4*)(keys + i * kPage), k1 = *(const f32x4*)(keys + i * kPage + 32);
        const float qs[8] = {q0.x, q0.y, q0.z, q0.w, q1.x, q1.y, q1.z, q1.w}, ks[8] = {k0.x, k0.y, k0.z, k0.w, k1.x, k1.y, k1.z, k1.w};
        UNROLL
        for (int a = 0; a < 8; a++)
          UNROLL
          for (int b = 0; b < 8; b++) s[a][b] = fma32(qs[a], ks[b], s[a][b]);
      }
      // All queries step by step, and without branches, so that none waits for another.
      float best[8];
      u32 count[8];
      UNROLL
      for (int a = 0; a < 8; a++) {
        count[a] = reached(tile, y + a % 4 + a / 4 * 16, own);
        best[a] = from_bits(0xff800000);
        UNROLL
        for (int b = 0; b < 8; b++) {
          s[a][b] = mul32(s[a][b], z);
          best[a] = ((4 * x + b % 4 + b / 4 * 32 < count[a]) & (s[a][b] > best[a])) ? s[a][b] : best[a];
        }
      }
      UNROLL
      for (int w = 4; w > 0; w /= 2)
        UNROLL
        for (int a = 0; a < 8; a++) {
          const float other = shuffle_xor(best[a], w);
          best[a] = other > best[a] ? other : best[a];
        }
      UNROLL
      for (int a = 0; a < 8; a++) {
        UNROLL
        for (int b = 0; b < 8; b++) {
          const u32 weight = bits(exp_down(sub32(s[a][b], best[a])));
          s[a][b] = from_bits(weight & (4 * x + b % 4 + b / 4 * 32 < count[a] ? ~0u : 0u));
        }
        // Lane j of the sum is key j and key j+32; keys that are not there add +0 to what is not negative.
        float part[4];
        UNROLL
        for (int b = 0; b < 4; b++) part[b] = add32(s[a][b], s[a][b + 4]);
        UNROLL
        for (int w = 4; w > 0; w /= 2)
          UNROLL
          for (int b = 0; b < 4; b++) part[b] = add32(part[b], shuffle_xor(part[b], w));
        if (x == 0) {
          const u32 query = y + a % 4 + a / 4 * 16;
          top[half * kTile + query] = best[a];
          total[half * kTile + query] = add32(add32(part[0], part[2]), add32(part[1], part[3]));
        }
      }
    }
    barrier();
    if (any) {
      float* weights = half ? second : first;
      UNROLL
      for (int b = 0; b < 8; b++) {
        float* to = weights + (4 * x + b % 4 + b / 4 * 32) * kTile;
        *(f32x4*)(to + ((y / 4) ^ x) * 4) = {s[0][b], s[1][b], s[2][b], s[3][b]};
        *(f32x4*)(to + ((y / 4 + 4) ^ x) * 4) = {s[4][b], s[5][b], s[6][b], s[7][b]};
      }
    }
    barrier();
    if (thread() < kTile)
      for (u32 h = 0; h < 2; h++) {
        if (reached(tile, thread(), chunk + h) == 0) break;
        float *mc = top + h * kTile + thread(), *lc = total + h * kTile + thread();
        if (chunk + h == 0) {
          m = *mc, l = *lc;
          continue;
        }
        const float greater = *mc > m ? *mc : m, before = exp_down(sub32(m, greater)), after = exp_down(sub32(*mc, greater));
        l = fma32(*lc, after, mul32(l, before));
        m = greater;
        *mc = before, *lc = after;
      }

    // Sums of the values of both chunks.
    for (u32 h = 0; h < 2; h++) {
      const u32 most = row < tile.count ? reached(tile, least(row + 31, tile.count - 1), chunk + h) : 0;
      const u32 all = reached(tile, row + 31, chunk + h) > 0 ? reached(tile, row, chunk + h) : 0;  // keys that every query of the warp has
      float c[8][Quads][4];
      UNROLL
      for (int a = 0; a < 8; a++)
        UNROLL
        for (int d = 0; d < (int)Quads; d++)
          UNROLL
          for (int e = 0; e < 4; e++) c[a][d][e] = 0;
      const float* weights = h ? second : first;
      const float* from = values + h * Part + Dim / 2 * half + 4 * x;
      auto step = [&](u32 j, auto takes) INLINE {
        const u32 turn = j / 4 % 8;
        const f32x4 p0 = *(const f32x4*)(weights + j * kTile + ((y / 4) ^ turn) * 4), p1 = *(const f32x4*)(weights + j * kTile + ((y / 4 + 4) ^ turn) * 4);
        const float ps[8] = {p0.x, p0.y, p0.z, p0.w, p1.x, p1.y, p1.z, p1.w};
        UNROLL
        for (int d = 0; d < (int)Quads; d++) {
          const f32x4 vs = *(const f32x4*)(from + j * Dim + 32 * d);
          const float v[4] = {vs.x, vs.y, vs.z, vs.w};
          UNROLL
          for (int a = 0; a < 8; a++)
            UNROLL
            for (int e = 0; e < 4; e++) {
              const float sum = fma32(ps[a], v[e], c[a][d][e]);
              c[a][d][e] = takes(a) ? sum : c[a][d][e];
            }
        }
      };
      u32 j = 0;
      const u32 even = all / 4 * 4;
      UNROLL_BY(1)
      for (; j < even; j += 4) {
        UNROLL
        for (u32 e = 0; e < 4; e++) step(j + e, [](int) INLINE { return true; });
      }
      UNROLL_BY(1)
      for (; j < most; j++) step(j, [&](int a) INLINE { return j < reached(tile, y + a % 4 + a / 4 * 16, chunk + h); });
      if (h == 0) {
        // All threads are through with the first chunk, the factors are there, and so are the values of the second.
        copy_wait<1>();
        barrier();
        copy(values, chunk + 2, true);
        copy(first, chunk + 3, false);
      }
      UNROLL
      for (int a = 0; a < 8; a++) {
        const u32 query = y + a % 4 + a / 4 * 16;
        const bool merges = reached(tile, query, chunk + h) > 0;
        const float before = top[h * kTile + query], after = total[h * kTile + query];
        UNROLL
        for (int d = 0; d < (int)Quads; d++)
          UNROLL
          for (int e = 0; e < 4; e++) {
            if (chunk + h == 0)
              o[a][d][e] = c[a][d][e];
            else if (merges)
              o[a][d][e] = fma32(c[a][d][e], after, mul32(o[a][d][e], before));
          }
      }
    }
  }
  barrier();
  if (thread() < kTile) top[thread()] = div32(1.0f, l);
  barrier();
  UNROLL
  for (int a = 0; a < 8; a++) {
    const u32 query = y + a % 4 + a / 4 * 16;
    if (query >= tile.count) continue;
    const float inverse = top[query];
    UNROLL
    for (int d = 0; d < (int)Quads; d++) {
      const float* v = o[a][d];
      *(f32x4*)(out + ((u64)(tile.row + query) * heads + head) * Dim + Dim / 2 * half + 32 * d + 4 * x) = {mul32(v[0], inverse), mul32(v[1], inverse), mul32(v[2], inverse), mul32(v[3], inverse)};
    }
  }
}

// attend_tiles_D is attention for heads of D elements: block (h, t) computes query head h of tile t. Rows of q are ld apart and not yet
// turned. Shared memory: 4*D*64 + 3*8192 + 512 floats.
BOUNDED_KERNEL(256, 1, attend_tiles_64, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_tile<64>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
BOUNDED_KERNEL(256, 1, attend_tiles_128, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_tile<128>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}

// attend_small is attend_tile for devices whose blocks have less shared memory: 64 queries, one chunk at a time, four queries by four
// keys or dimensions a thread.
template <int Dim>
FN void attend_small(float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  enum { Quads = Dim / 64 };  // groups of four dimensions of a thread, 64 apart
  Tile tile = tiles[block_y() / 2];
  const u32 skip = block_y() % 2 * kPage;
  if (tile.count <= skip) return;
  tile = {tile.row + skip, least(tile.count - skip, kPage), tile.start, tile.position + skip};
  const u32 head = block_x(), kv = head / (heads / kv_heads);
  const u32 x = thread() % 16, y = thread() / 16;
  float* queries = (float*)shared_bytes();  // [Dim][64]
  float* keys = queries + Dim * kPage;      // [Dim][64], then weights [64 keys][64 queries]
  float* values = keys + Dim * kPage;       // [64][Dim]
  load_queries<Dim>(q + head * Dim, table, tile, ld, [&](u32 i, u32 n, float v) INLINE {
    if (n < kPage) queries[i * kPage + n] = v;
  });
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
      for (int b = 0; b < 4; b++) s[a][b] = 4 * x + b < count[a] ? exp_down(sub32(s[a][b], top)) : 0.0f;
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
        before[a] = exp_down(sub32(m[a], greater));
        after[a] = exp_down(sub32(top, greater));
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

// attend_small_D is attend_tiles_D where block (h, 2t+i) computes query head h of the 64 positions i of tile t. Shared memory: 192*D
// floats.
BOUNDED_KERNEL(256, 2, attend_small_64, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_small<64>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
BOUNDED_KERNEL(256, 2, attend_small_128, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_small<128>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
