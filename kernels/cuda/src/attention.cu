// Attention over pages of 64 positions (spec/numerics.md section 12). A page of a layer holds keys [heads][dim][64]
// and then values [heads][64][dim].
#include "numerics.cuh"

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

// attend_rows is attention for any head size: block (h, row) computes query head h of a row, over positions 0 to the
// row's own. Rows of q are ld apart; tables, starts, positions and offset are those of store_page. Shared memory: 2*dim floats.
KERNEL(attend_rows, float* out, const float* q, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 kv_heads, u32 dim, u32 ld, float z) {
  __shared__ float weight[kPage];
  __shared__ float top[2], total[2];
  const u32 row = block_y(), head = block_x(), kv = head / (heads / kv_heads);
  const u32 n = positions[row] + 1;
  float* query = (float*)shared_bytes();
  float* sum = query + dim;
  q += (u64)row * ld + head * dim;
  out += ((u64)row * heads + head) * dim;
  for (u32 i = thread(); i < dim; i += threads()) query[i] = q[i];
  barrier();
  float m = 0, l = 0;
  for (u32 chunk = 0; chunk * kPage < n; chunk++) {
    const u32 count = least(kPage, n - chunk * kPage);
    const float* keys = (const float*)(tables[starts[row] + chunk] + offset) + (u64)kv * dim * kPage;
    const float* values = keys + (u64)kv_heads * dim * kPage;
    const u32 j = thread();
    float s = 0;
    if (j < kPage) {
      if (j < count) {
        for (u32 i = 0; i < dim; i++) s = fma32(query[i], keys[(u64)i * kPage + j], s);
        s = mul32(s, z);
      }
      // A NaN among the scores makes everything NaN, whatever the maximum is.
      float best = j < count ? s : from_bits(0xff800000);
      for (u32 w = 16; w > 0; w /= 2) {
        float other = shuffle_xor(best, w);
        best = other > best ? other : best;
      }
      if (lane() == 0) top[warp()] = best;
    }
    barrier();
    const float mc = top[1] > top[0] ? top[1] : top[0];
    if (j < kPage) weight[j] = j < count ? exp32(sub32(s, mc)) : 0.0f;
    barrier();
    if (warp() == 0) {
      // Weights are not negative, so that adding +0 for a position that is not there changes nothing.
      float part = fold(add32(weight[lane()], weight[lane() + 32]));
      if (lane() == 0) total[0] = part;
    }
    barrier();
    const float lc = total[0];
    Merge merged = {mc, lc, 0, 0};
    if (chunk > 0) merged = merge(m, l, mc, lc);
    for (u32 i = thread(); i < dim; i += threads()) {
      float o = 0;
      for (u32 p = 0; p < count; p++) o = fma32(weight[p], values[(u64)p * dim + i], o);
      sum[i] = chunk == 0 ? o : fma32(o, merged.b, mul32(sum[i], merged.a));
    }
    m = merged.m, l = merged.l;
    barrier();
  }
  const float inverse = div32(1.0f, l);
  for (u32 i = thread(); i < dim; i += threads()) out[i] = mul32(sum[i], inverse);
}
