// Attention to keys and values in formats other than f32, and in chunks.
#include "attention.cuh"

ATTEND_ROWS(attend_rows_f16, PageF16)
ATTEND_ROWS(attend_rows_int8, PageInt8)
ATTEND_ROWS(attend_rows_int4, PageInt4)
ATTEND_CHUNKS(attend_chunks_f16, PageF16)
ATTEND_CHUNKS(attend_chunks_int8, PageInt8)
ATTEND_CHUNKS(attend_chunks_int4, PageInt4)

// merge_chunks is the rest: block (h, row) merges the parts of a row in ascending order.
KERNEL(merge_chunks, float* out, const float* parts, const u32* positions, u32 heads, u32 dim, u32 chunks) {
  const u32 row = block_y(), head = block_x(), count = positions[row] / kPage + 1;
  const u64 next = (u64)heads * (dim + 2);
  parts += row * chunks * next + head * (dim + 2);
  out += ((u64)row * heads + head) * dim;
  for (u32 i = thread(); i < dim; i += threads()) {
    float o = parts[i], m = parts[dim], l = parts[dim + 1];
    UNROLL_BY(4)
    for (u32 c = 1; c < count; c++) {
      const float* part = parts + c * next;
      const Merge merged = merge(m, l, part[dim], part[dim + 1]);
      o = fma32(part[i], merged.b, mul32(o, merged.a));
      m = merged.m, l = merged.l;
    }
    out[i] = mul32(o, div32(1.0f, l));
  }
}
