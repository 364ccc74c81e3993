// Attention over pages of 64 positions (spec/numerics.md section 12), by rows: for every format of pages and any head size.
#pragma once
#include "pages.cuh"

// Merge is the state of a query over the chunks so far: the factors by which the old and the new sums count.
struct Merge {
  float m, l, a, b;
};
FN Merge merge(float m, float l, float mc, float lc) {
  Merge r;
  r.m = mc > m ? mc : m;
  r.a = exp32(sub32(m, r.m));
  r.b = exp32(sub32(mc, r.m));
  r.l = fma32(lc, r.b, mul32(l, r.a));
  return r;
}

// Weighed is a chunk of which the weights are known: greatest score, sum of the weights, and what the sums of values begin with.
struct Weighed {
  float m, l, start;
};

// weigh computes the weights of the first count positions of a page for a query: those with which its values count. At least
// 64 threads; between calls there is a barrier.
template <class F>
FN Weighed weigh(const HeadPage& page, const float* query, float query_sum, u32 count, u32 dim, float z, float* weight) {
  __shared__ float top[2], total[2];
  const u32 j = thread();
  float s = 0;
  if (j < kPage) {
    if (j < count) s = mul32(F::score(page, query, query_sum, dim, j), z);
    // A NaN among the scores makes everything NaN, whatever the maximum is.
    float best = j < count ? s : from_bits(0xff800000);
    for (u32 w = 16; w > 0; w /= 2) {
      float other = shuffle_xor(best, w);
      best = other > best ? other : best;
    }
    if (lane() == 0) top[warp()] = best;
  }
  barrier();
  const float m = top[1] > top[0] ? top[1] : top[0];
  if (j < kPage) weight[j] = j < count ? exp32(sub32(s, m)) : 0.0f;
  barrier();
  if (warp() == 0) {
    // Weights are not negative, so that adding +0 for a position that is not there changes nothing.
    const float part = fold(add32(weight[j], weight[j + 32]));
    float start = 0;
    if (F::zeros) {
      if (j < count) start = fma32(weight[j], F::zero(page, j), start);
      if (j + 32 < count) start = fma32(weight[j + 32], F::zero(page, j + 32), start);
      start = fold(start);
    }
    if (j == 0) total[0] = part, total[1] = start;
  }
  barrier();
  if (F::weighs) {
    if (j < count) weight[j] = mul32(weight[j], F::factor(page, j));
    barrier();
  }
  return {m, total[0], total[1]};
}

// weighted is element i of the sum of a chunk's values.
template <class F>
FN float weighted(const HeadPage& page, const float* weight, float start, u32 count, u32 dim, u32 i) {
  float o = start;
  UNROLL_BY(8)
  for (u32 j = 0; j < count; j++) o = fma32(weight[j], F::value(page, dim, j, i), o);
  return o;
}

// load_query copies a query to shared memory and returns the sum of its elements for formats that want it.
template <class F>
FN float load_query(float* query, const float* q, u32 dim) {
  for (u32 i = thread(); i < dim; i += threads()) query[i] = q[i];
  barrier();
  return F::zeros ? block_sum(dim, [&](float l, u32 i) { return add32(l, query[i]); }) : 0.0f;
}

// attend_rows is attention for any head size: block (h, row) computes query head h of a row, over positions 0 to the
// row's own. Rows of q are ld apart; tables, starts, positions and offset are those of store_page. Shared memory: 2*dim floats.
template <class F>
FN void attend_rows(float* out, const float* q, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 kv_heads, u32 dim, u32 ld, float z) {
  __shared__ float weight[kPage];
  const u32 row = block_y(), head = block_x(), kv = head / (heads / kv_heads);
  const u32 n = positions[row] + 1;
  float* query = (float*)shared_bytes();
  float* sum = query + dim;
  out += ((u64)row * heads + head) * dim;
  const float query_sum = load_query<F>(query, q + (u64)row * ld + head * dim, dim);
  float m = 0, l = 0;
  for (u32 chunk = 0; chunk * kPage < n; chunk++) {
    const u32 count = least(kPage, n - chunk * kPage);
    const HeadPage page = head_page<F>((u8*)(tables[starts[row] + chunk] + offset), kv_heads, kv, dim);
    const Weighed c = weigh<F>(page, query, query_sum, count, dim, z, weight);
    Merge merged = {c.m, c.l, 0, 0};
    if (chunk > 0) merged = merge(m, l, c.m, c.l);
    for (u32 i = thread(); i < dim; i += threads()) {
      const float o = weighted<F>(page, weight, c.start, count, dim, i);
      sum[i] = chunk == 0 ? o : fma32(o, merged.b, mul32(sum[i], merged.a));
    }
    m = merged.m, l = merged.l;
    barrier();
  }
  const float inverse = div32(1.0f, l);
  for (u32 i = thread(); i < dim; i += threads()) out[i] = mul32(sum[i], inverse);
}

// attend_chunks is attend_rows up to the merge of chunks: block (row*chunks + c, h) computes chunk c of a row, if it has so many, and
// writes sums, greatest score and sum of weights, dim + 2 floats, to its part. Shared memory: dim floats.
template <class F>
FN void attend_chunks(float* parts, const float* q, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 kv_heads, u32 dim, u32 ld, float z, u32 chunks) {
  __shared__ float weight[kPage];
  const u32 row = block_x() / chunks, chunk = block_x() % chunks, head = block_y(), kv = head / (heads / kv_heads);
  const u32 n = positions[row] + 1;
  if (chunk * kPage >= n) return;
  float* query = (float*)shared_bytes();
  float* part = parts + ((u64)block_x() * heads + head) * (dim + 2);
  const float query_sum = load_query<F>(query, q + (u64)row * ld + head * dim, dim);
  const u32 count = least(kPage, n - chunk * kPage);
  const HeadPage page = head_page<F>((u8*)(tables[starts[row] + chunk] + offset), kv_heads, kv, dim);
  const Weighed c = weigh<F>(page, query, query_sum, count, dim, z, weight);
  for (u32 i = thread(); i < dim; i += threads()) part[i] = weighted<F>(page, weight, c.start, count, dim, i);
  if (thread() == 0) part[dim] = c.m, part[dim + 1] = c.l;
}

#define ATTEND_ROWS(name, format)                                                                                                                                                                   \
  KERNEL(name, float* out, const float* q, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 kv_heads, u32 dim, u32 ld, float z) { \
    attend_rows<format>(out, q, tables, starts, positions, offset, heads, kv_heads, dim, ld, z);                                                                                                    \
  }

#define ATTEND_CHUNKS(name, format)                                                                                                                                                                               \
  KERNEL(name, float* parts, const float* q, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 kv_heads, u32 dim, u32 ld, float z, u32 chunks) { \
    attend_chunks<format>(parts, q, tables, starts, positions, offset, heads, kv_heads, dim, ld, z, chunks);                                                                                                      \
  }
