// Ternary matrices (spec/numerics.md sections 8 and 9).
//
// On the device a matrix lies in tiles of 16 rows x 128 columns, 512 bytes, along the columns and then down the rows,
// padded with zeros. Lane L = 4g + t of a warp owns 16 bytes of a tile: words 0 and 1 are columns 4t..4t+3 of each
// 32 in rows g and g+8, words 2 and 3 columns 16+4t.. of the same rows; byte b of a word holds, in bits 2i and
// 2i+1, the column 32i + 4t + b. So plane i of the four words is the first operand of mma_s8, and a tile is one load.
// Two bits are a trit plus 2, so that masking is all that a product with unsigned bytes needs (decode.cu).
#pragma once
#include "numerics.cuh"

// multiply_s8 is a tile of the product of a matrix and the codes of m tokens. WR x WC warps compute TR tiles of 16
// rows by TC times 8 tokens each; Grouped when scales are per group of `group` tiles. The codes of a block's tokens
// go through a ring of buffers in shared memory, 128 columns at a time. Codes are padded to whole blocks of tokens.
template <int WR, int WC, int TR, int TC, bool Grouped>
FN void multiply_s8(float* y, const u32x4* w, const float* scales, const float* bias, const i8* q, const float* maxima, u32 rows, u32 columns, u32 m, u32 tokens, u32 ldy, u32 group) {
  const int Stages = 3, Tokens = WC * TC * 8, Threads = WR * WC * 32;
  const u32 g = lane() / 4, t = lane() % 4;
  const u32 tile_rows = (rows + 15) / 16;
  const u32 first = (block_x() * WR + warp() / WC) * TR;
  const u32 token = block_y() * Tokens + warp() % WC * TC * 8;
  u8* ring = shared_bytes();

  auto fetch = [&](u32 tile) {
    if (tile < columns)
      for (u32 c = thread(); c < Tokens * 8; c += Threads) {
        copy_async(ring + tile % Stages * Tokens * 128 + c * 16, q + ((u64)tile * tokens + block_y() * Tokens) * 128 + c * 16);
      }
    copy_commit();
  };
  auto weights = [&](u32x4 v[TR], u32 tile) {
    UNROLL
    for (int r = 0; r < TR; r++) v[r] = load_weights(w + ((u64)least(first + r, tile_rows - 1) * columns + least(tile, columns - 1)) * 32 + lane());
  };

  i32 acc[TR][TC][4] = {};
  float sum[Grouped ? TR : 1][Grouped ? TC : 1][4] = {};
  u32x4 now[TR], next[TR];
  weights(now, 0);
  for (u32 tile = 0; tile < Stages - 1; tile++) fetch(tile);
  for (u32 tile = 0; tile < columns; tile++) {
    copy_wait<Stages - 2>();
    barrier();
    fetch(tile + Stages - 1);
    weights(next, tile + 1);
    const u8* buffer = ring + (tile % Stages * Tokens + warp() % WC * TC * 8) * 128;
    UNROLL
    for (int half = 0; half < 2; half++) {
      u32 b[TC][4];
      UNROLL
      for (int c = 0; c < TC; c++) load_matrices(b[c], buffer + (c * 8 + lane() % 8) * 128 + ((4 * half + lane() / 8) ^ lane() % 8) * 16);
      UNROLL
      for (int r = 0; r < TR; r++) {
        const u32x4& v = now[r];
        if (half == 0) {
          UNROLL
          for (int c = 0; c < TC; c++) mma_s8(acc[r][c], plane<0>(v.x), plane<0>(v.y), plane<0>(v.z), plane<0>(v.w), b[c][0], b[c][1]);
          UNROLL
          for (int c = 0; c < TC; c++) mma_s8(acc[r][c], plane<1>(v.x), plane<1>(v.y), plane<1>(v.z), plane<1>(v.w), b[c][2], b[c][3]);
        } else {
          UNROLL
          for (int c = 0; c < TC; c++) mma_s8(acc[r][c], plane<2>(v.x), plane<2>(v.y), plane<2>(v.z), plane<2>(v.w), b[c][0], b[c][1]);
          UNROLL
          for (int c = 0; c < TC; c++) mma_s8(acc[r][c], plane<3>(v.x), plane<3>(v.y), plane<3>(v.z), plane<3>(v.w), b[c][2], b[c][3]);
        }
      }
    }
    if (Grouped && ((tile + 1) % group == 0 || tile + 1 == columns)) {
      const u32 groups = (columns + group - 1) / group;
      UNROLL
      for (int r = 0; r < TR; r++)
        UNROLL
        for (int c = 0; c < TC; c++)
          UNROLL
          for (int e = 0; e < 4; e++) {
            u32 row = least((first + r) * 16 + g + e / 2 * 8, rows - 1);
            float& s = sum[Grouped ? r : 0][Grouped ? c : 0][e];
            s = fma32(to_float(acc[r][c][e] >> 6), scales[(u64)row * groups + tile / group], s);
            acc[r][c][e] = 0;
          }
    }
    UNROLL
    for (int r = 0; r < TR; r++) now[r] = next[r];
  }
  UNROLL
  for (int r = 0; r < TR; r++)
    UNROLL
    for (int c = 0; c < TC; c++)
      UNROLL
      for (int e = 0; e < 4; e++) {
        u32 row = (first + r) * 16 + g + e / 2 * 8, n = token + c * 8 + 2 * t + e % 2;
        if (row < rows && n < m) {
          float v;
          if (Grouped)
            v = mul32(sum[Grouped ? r : 0][Grouped ? c : 0][e], over127(maxima[n]));
          else
            v = scaled(acc[r][c][e] >> 6, scales[row], maxima[n]);
          y[(u64)n * ldy + row] = bias ? add32(v, bias[row]) : v;
        }
      }
}

// ternary_s8_N multiplies by the codes of m tokens, N in a block: y[token*ldy + row]. For few tokens blocks are small, so
// that there are enough of them. columns counts tiles; group,
// for the grouped kernels, the tiles of a scale's group.
#define TERNARY_S8(name, wr, wc, tr, tc, grouped)                                                                                                                                                                                     \
  BOUNDED_KERNEL(32 * wr * wc, 1, name, float* y, const u32x4* w, const float* scales, const float* bias, const i8* q, const float* maxima, u32 rows, u32 columns, u32 m, u32 tokens, u32 ldy, u32 group) { \
    multiply_s8<wr, wc, tr, tc, grouped>(y, w, scales, bias, q, maxima, rows, columns, m, tokens, ldy, group);                                                                                                                    \
  }

// trit is the number that bit pair `pair` of a word stands for.
FN float trit(u32 w, u32 pair) {
  u32 c = w >> (2 * pair);
  return from_bits((c & 1) * 0x3f800000 | (~c & 2) << 30);
}

// multiply_f32 computes one row of tiles for Tokens tokens in one warp. A lane holds, for its two rows, the lanes
// 4t..4t+3 and 16+4t.. of the sum of section 3.
template <int Tokens>
FN void multiply_f32(float* y, const u32x4* w, const float* scales, const float* bias, const float* x, u32 rows, u32 cols, u32 m, u32 ldx, u32 ldy, u32 group) {
  const u32 g = lane() / 4, t = lane() % 4, columns = (cols + 127) / 128;
  const u32 tile_row = block_x() * warps() + warp();
  if (tile_row * 16 >= rows) return;
  const u32 period = group ? group : columns;
  const u32 groups = (columns + period - 1) / period;
  const u32x4* tiles = w + (u64)tile_row * columns * 32 + lane();
  float l[Tokens][2][8] = {}, dot[Tokens][2] = {}, sum[Tokens][2] = {};
  for (u32 tile = 0; tile < columns; tile++) {
    const u32x4 v = load_weights(tiles + (u64)tile * 32);
    const u32 words[2][2] = {{v.x, v.z}, {v.y, v.w}};
    UNROLL
    for (int i = 0; i < 4; i++)
      UNROLL
      for (int c = 0; c < 8; c++) {
        u32 column = tile * 128 + 32 * i + c / 4 * 16 + 4 * t + c % 4;
        UNROLL
        for (int n = 0; n < Tokens; n++) {
          // Past the end the trit is 0, and adding 0 to a sum that began with +0 changes nothing.
          float a = column < cols ? x[(u64)least(block_y() * Tokens + n, m - 1) * ldx + column] : 0.0f;
          UNROLL
          for (int r = 0; r < 2; r++) l[n][r][c] = fma32(trit(words[r][c / 4], 4 * (c % 4) + i), a, l[n][r][c]);
        }
      }
    const u32 inside = tile % period;
    const bool last = inside + 1 == period || tile + 1 == columns;
    if (inside % 8 == 7 || last)
      UNROLL
      for (int n = 0; n < Tokens; n++)
        UNROLL
        for (int r = 0; r < 2; r++) {
          float s[4];
          UNROLL
          for (int c = 0; c < 4; c++) {
            s[c] = add32(l[n][r][c], l[n][r][c + 4]);
            s[c] = add32(s[c], shuffle_xor(s[c], 2));
            s[c] = add32(s[c], shuffle_xor(s[c], 1));
          }
          float block = add32(add32(s[0], s[2]), add32(s[1], s[3]));
          dot[n][r] = inside < 8 ? block : add32(dot[n][r], block);
          UNROLL
          for (int c = 0; c < 8; c++) l[n][r][c] = 0;
          if (group && last) sum[n][r] = fma32(scales[(u64)least(tile_row * 16 + g + 8 * r, rows - 1) * groups + tile / period], dot[n][r], sum[n][r]);
        }
  }
  UNROLL
  for (int n = 0; n < Tokens; n++)
    UNROLL
    for (int r = 0; r < 2; r++) {
      u32 row = tile_row * 16 + g + 8 * r, token = block_y() * Tokens + n;
      if (t == 0 && row < rows && token < m) {
        float v = group ? sum[n][r] : mul32(scales[row], dot[n][r]);
        y[(u64)token * ldy + row] = bias ? add32(v, bias[row]) : v;
      }
    }
}

// ternary_f32_N multiplies by m tokens of f32, N in a block.
#define TERNARY_F32(name, tokens)                                                                                                                                                                                \
  BOUNDED_KERNEL(256, 1, name, float* y, const u32x4* w, const float* scales, const float* bias, const float* x, u32 rows, u32 cols, u32 m, u32 ldx, u32 ldy, u32 group) { \
    multiply_f32<tokens>(y, w, scales, bias, x, rows, cols, m, ldx, ldy, group);                                                                                                                     \
  }
