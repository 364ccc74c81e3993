// The embedding, and how dense matrices get into their form.
#include "dense.cuh"

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
