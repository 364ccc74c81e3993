// Dense matrices: the output head and the embedding (spec/numerics.md section 10).
#pragma once
#include "dense.cuh"

// A warp computes a number of rows for up to four tokens, lane j of the warp being lane j of the sum: a weight is read once
// for the tokens, and an activation once for the rows.
template <class E, int Tokens, int Rows>
FN void dense(float* y, const u8* w, const float* scales, const float* x, u32 rows, u32 cols, u32 m, u32 ldx, u32 ldy) {
  const u32 row = Rows * (block_x() * warps() + warp());
  const u32 chunks = (cols + 32 * E::count - 1) / (32 * E::count);
  const u32 first = block_y() * Tokens;
  if (row >= rows) return;
  const u8* base[Rows];
  UNROLL
  for (int r = 0; r < Rows; r++) base[r] = w + (u64)least(row + r, rows - 1) * chunks * 512 + 16 * lane();
  float sum[Rows][Tokens] = {}, l[Rows][Tokens] = {};
  for (u32 c = 0; c < chunks; c++) {
    u32 words[Rows][4];
    UNROLL
    for (int r = 0; r < Rows; r++) {
      u32x4 v = load_weights(base[r] + (u64)c * 512);
      words[r][0] = v.x, words[r][1] = v.y, words[r][2] = v.z, words[r][3] = v.w;
    }
    UNROLL
    for (int s = 0; s < E::count; s++) {
      u32 i = c * 32 * E::count + 32 * s + lane();
      if (i < cols) {
        UNROLL
        for (int t = 0; t < Tokens; t++) {
          float v = x[(u64)least(first + t, m - 1) * ldx + i];
          UNROLL
          for (int r = 0; r < Rows; r++) l[r][t] = fma32(E::at(words[r], s), v, l[r][t]);
        }
      }
    }
    if ((c + 1) % (kBlock / (32 * E::count)) == 0 || c + 1 == chunks) {
      UNROLL
      for (int r = 0; r < Rows; r++)
        UNROLL
        for (int t = 0; t < Tokens; t++) {
          float s = fold(l[r][t]);
          sum[r][t] = c < kBlock / (32 * E::count) ? s : add32(sum[r][t], s);
          l[r][t] = 0;
        }
    }
  }
  if (lane() == 0)
    UNROLL
    for (int r = 0; r < Rows; r++)
      UNROLL
      for (int t = 0; t < Tokens; t++)
        if (row + r < rows && first + t < m) y[(u64)(first + t) * ldy + row + r] = scales ? mul32(sum[r][t], scales[row + r]) : sum[r][t];
}

// dense_TYPE_N multiplies rows of the matrix by m tokens, N of them in a block: y[token*ldy + row]. Where rows are short, a warp
// takes more of them.
#define DENSE(name, type, tokens, per_warp)                                                                                                                                           \
  BOUNDED_KERNEL(256, 2, name, float* y, const u8* w, const float* scales, const float* x, u32 rows, u32 cols, u32 m, u32 ldx, u32 ldy) { \
    dense<type, tokens, per_warp>(y, w, scales, x, rows, cols, m, ldx, ldy);                                                                                                          \
  }
