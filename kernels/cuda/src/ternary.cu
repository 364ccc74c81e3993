#include "ternary.cuh"

// pack_ternary moves the words of a file's tiles of 4 rows x 128 columns, which hold 4*quads rows, into rows/16 rows
// of tiles, and turns the high bit of each code. One thread moves 16 bytes.
KERNEL(pack_ternary, u32x4* to, const u32* from, u32 rows, u32 quads, u32 columns) {
  for (u64 at = block_x() * threads() + thread(); at < (u64)rows * columns * 32; at += blocks_x() * threads()) {
    u32 l = at % 32, g = l / 4, t = l % 4, tile = at / 32 % columns;
    u32 low = at / 32 / columns * 16 + g, high = low + 8;
    u32x4 v = {kTritsZero, kTritsZero, kTritsZero, kTritsZero};
    if (low / 4 < quads) {
      const u32* w = from + ((u64)(low / 4) * columns + tile) * 32 + low % 4 * 8 + t;
      v.x = w[0] ^ kTritsZero, v.z = w[4] ^ kTritsZero;
    }
    if (high / 4 < quads) {
      const u32* w = from + ((u64)(high / 4) * columns + tile) * 32 + high % 4 * 8 + t;
      v.y = w[0] ^ kTritsZero, v.w = w[4] ^ kTritsZero;
    }
    to[at] = v;
  }
}

TERNARY_S8(ternary_s8_8, 2, 1, 1, 1, false)
TERNARY_S8(ternary_s8_8_grouped, 2, 1, 1, 1, true)
