// fast.cu with the products of four warps of compute capability 9.0.
//
// Four warps of a block do nothing but turn pages into bf16, in a ring of buffers that products read from: while keys of a chunk are
// turned its values are on their way, and then the keys of the next. Two groups of four warps, of 64 queries each, take the buffers at
// their own pace, so that one computes weights while the other multiplies.
#include "hopper.cuh"
#include "near.cuh"

template <int Dim>
FN void attend_groups(float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  enum : u32 { Part = Dim * kPage, Own = Part / 4 / 128, Stages = 3 };
  const Tile tile = tiles[block_y()];
  const u32 head = block_x(), kv = head / (heads / kv_heads);
  u8* queries = shared_bytes() + (1024 - shared_address(shared_bytes()) % 1024) % 1024;  // [128][Dim] bf16
  u8* halves = queries + kTile * Dim * 2;               // keys and values of each stage, bf16
  float* whole = (float*)(halves + Stages * 4 * Part);  // of a chunk as they are in the page
  u64* full = (u64*)(whole + 2 * Part);
  u64* empty = full + Stages;
  const u32 chunks = (tile.position + tile.count - 1) / kPage + 1;
  if (thread() == 0) {
    for (u32 s = 0; s < Stages; s++) {
      ring_init(full + s, 128);
      ring_init(empty + s, 8);
    }
    ring_ready();
  }
  load_queries<Dim>(q + head * Dim, table, tile, ld, [&](u32 i, u32 n, float v) INLINE { put_query<Dim>(queries, i, n, v); });
  barrier();
  u32 stage = 0, turn = 0;
  if (warp() >= 8) {
    fewer_registers<56>();
    const u32 own = thread() - 256;
    auto fetch = [&](u32 chunk, bool of_values) INLINE {
      if (chunk < chunks) {
        const float* from = (const float*)(tables[tile.start + chunk] + offset) + (u64)(of_values ? kv_heads + kv : kv) * Part;
        UNROLL
        for (u32 i = 0; i < Own; i++) copy_async(whole + (of_values ? Part : 0) + (i * 128 + own) * 4, from + (i * 128 + own) * 4);
      }
      copy_commit();
    };
    fetch(0, false);
    fetch(0, true);
    for (u32 chunk = 0; chunk < chunks; chunk++) {
      const u32 last = tile.position + tile.count - 1 - chunk * kPage;
      u8 *keys = halves + stage * 4 * Part, *values = keys + Part * 2;
      ring_wait(empty + stage, turn ^ 1);
      copy_wait<1>();
      UNROLL_BY(4)
      for (u32 i = 0; i < Own; i++) round_keys(keys, ((const f32x4*)whole)[i * 128 + own], i * 128 + own, last);
      fetch(chunk + 1, false);
      copy_wait<1>();
      UNROLL_BY(4)
      for (u32 i = 0; i < Own; i++) round_values<Dim>(values, ((const f32x4*)(whole + Part))[i * 128 + own], i * 128 + own, last);
      fetch(chunk + 1, true);
      tile_publish();
      ring_arrive(full + stage);
      if (++stage == Stages) stage = 0, turn ^= 1;
    }
  } else {
    more_registers<224>();
    const u32 row = warp() * 16;
    u32 a[Dim / 16][4];
    take_queries<Dim>(a, queries, row);
    const float unit = mul32(z, 0x1.715476p+0f);
    float o[Dim / 2], m[2] = {from_bits(0xff800000), from_bits(0xff800000)}, l[2] = {0, 0};
    UNROLL
    for (int d = 0; d < Dim / 2; d++) o[d] = 0;
    for (u32 chunk = 0; chunk < chunks; chunk++) {
      const u8 *keys = halves + stage * 4 * Part, *values = keys + Part * 2;
      float s[32];
      UNROLL
      for (int n = 0; n < 32; n++) s[n] = 0;
      ring_wait(full + stage, turn);
      tile_begin();
      UNROLL
      for (int k = 0; k < Dim / 16; k++) multiply_near(s, a[k], near_operand(keys + k * 2048, 0));
      tile_commit();
      tile_wait<0>();
      u32 p[4][4];
      weigh<Dim>(p, s, o, m, l, tile, row, chunk, unit);
      tile_begin();
      UNROLL
      for (int k = 0; k < 4; k++) multiply_near(o, p[k], near_operand(values + k * 2048, 8192));
      tile_commit();
      tile_wait<0>();
      if (lane() == 0) ring_arrive(empty + stage);
      if (++stage == Stages) stage = 0, turn ^= 1;
    }
    finish_near<Dim>(out, o, l, tile, row, head, heads);
  }
}

// attend_groups_D is attend_near_D of fast.cu. Shared memory: 1,536*D and 2,048 bytes.
BOUNDED_KERNEL(384, 1, attend_groups_64, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_groups<64>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
BOUNDED_KERNEL(384, 1, attend_groups_128, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_groups<128>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
