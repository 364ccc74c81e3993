// Dense matrices: the output head and the embedding (spec/numerics.md section 10).
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
DENSE(dense_f32_1, ElementsF32, 1, 2)
DENSE(dense_f32_4, ElementsF32, 4, 2)
DENSE(dense_f16_1, ElementsF16, 1, 2)
DENSE(dense_f16_4, ElementsF16, 4, 2)
DENSE(dense_bf16_1, ElementsBF16, 1, 2)
DENSE(dense_bf16_4, ElementsBF16, 4, 2)
DENSE(dense_i8_1, ElementsI8, 1, 4)
DENSE(dense_i8_4, ElementsI8, 4, 2)

template <class E>
FN void embed(float* y, const u8* w, const float* scales, u32 row, u32 cols) {
  const u32 chunks = (cols + 32 * E::count - 1) / (32 * E::count);
  for (u32 c = warp(); c < chunks; c += warps()) {
    u32x4 v = load_weights(w + ((u64)row * chunks + c) * 512 + 16 * lane());
    u32 words[4] = {v.x, v.y, v.z, v.w};
    UNROLL
    for (int s = 0; s < E::count; s++) {
      u32 i = c * 32 * E::count + 32 * s + lane();
      if (i < cols) y[i] = scales ? mul32(E::at(words, s), scales[row]) : E::at(words, s);
    }
  }
}

// embed_rows writes row rows[i] of a matrix of a type to row i of y. An index past the matrix leaves its row alone:
// the host fills that one.
KERNEL(embed_rows, float* y, const u8* w, const float* scales, const u32* indices, u32 rows, u32 cols, u32 type) {
  u32 row = indices[block_x()];
  y += (u64)block_x() * cols;
  if (row >= rows) return;
  if (type == kF32) embed<ElementsF32>(y, w, scales, row, cols);
  if (type == kF16) embed<ElementsF16>(y, w, scales, row, cols);
  if (type == kBF16) embed<ElementsBF16>(y, w, scales, row, cols);
  if (type == kI8) embed<ElementsI8>(y, w, scales, row, cols);
}

// pack_dense moves rows of a file's matrix, cols elements of size bytes, into the chunks of dense.cuh.
KERNEL(pack_dense, u8* to, const u8* from, u32 rows, u32 cols, u32 size) {
  const u32 count = 16 / size, chunks = (cols + 32 * count - 1) / (32 * count);
  for (u64 at = block_x() * threads() + thread(); at < (u64)rows * chunks * 32; at += blocks_x() * threads()) {
    u32 j = at % 32, c = at / 32 % chunks, row = at / 32 / chunks;
    for (u32 s = 0; s < count; s++) {
      u32 i = c * 32 * count + 32 * s + j;
      for (u32 b = 0; b < size; b++) to[at * 16 + s * size + b] = i < cols ? from[((u64)row * cols + i) * size + b] : 0;
    }
  }
}
