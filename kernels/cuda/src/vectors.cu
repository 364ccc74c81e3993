// Kernels over vectors of activations: norms, quantization, embedding, rotation, gate and sum (spec/numerics.md
// sections 6, 7, 10, 11 and 13). One block a row, one thread an element; the sums are block_sum.
#include "numerics.cuh"

// norm_rows normalizes each of the rows of n elements; y may be x. Where section 6 asks for an error, bad becomes the
// least site that saw one.
KERNEL(norm_rows, float* y, const float* x, const float* w, const float* b, u32 n, u32 kind, float eps, u32* bad, u32 site) {
  y += (u64)block_x() * n;
  x += (u64)block_x() * n;
  Deviation d = deviation(x, n, kind, eps);
  bool ok = d.ok;
  for (u32 i = thread(); i < n; i += threads()) {
    float v = normalized(d, x[i], w, b, i, kind);
    ok = ok && finite(v);
    y[i] = v;
  }
  if (!ok) atomic_min(bad, site);
}

// quantize_rows normalizes rows of n elements and quantizes them to rows of stride codes, a multiple of 128, in the
// order of code_word, zeros after them. maxima gets each row's absolute maximum.
KERNEL(quantize_rows, i8* q, float* maxima, const float* x, const float* w, const float* b, u32 n, u32 stride, u32 kind, float eps, u32* bad, u32 site) {
  x += (u64)block_x() * n;
  u32* words = (u32*)(q + (u64)block_x() * stride);
  Deviation d = deviation(x, n, kind, eps);
  u32 top = 0;
  for (u32 i = thread(); i < n; i += threads()) top = greatest(top, bits(normalized(d, x[i], w, b, i, kind)) & kMagnitude);
  top = block_greatest(top);
  if (thread() == 0 && (!d.ok || top >= kInfinity)) atomic_min(bad, site);
  float a = at_least_least(from_bits(top));
  float k = quantum(a);
  for (u32 at = thread(); at < stride / 4; at += threads()) {
    u32 word = 0;
    for (u32 c = 0; c < 4; c++) {
      u32 i = 4 * at + c;
      if (i < n) word |= code(normalized(d, x[i], w, b, i, kind), k) << (8 * c);
    }
    words[at / 32 * 32 + code_word(at % 32)] = word;
  }
  if (thread() == 0) maxima[block_x()] = a;
}

// rotate_heads turns heads of 2*half elements in place: head h of row block_x, which holds `heads` of them, by row
// positions[block_x] of the table of half cosines and half sines.
KERNEL(rotate_heads, float* x, const float* table, const u32* positions, u32 heads, u32 half) {
  const float* cosines = table + (u64)positions[block_x()] * 2 * half;
  const float* sines = cosines + half;
  x += (u64)block_x() * heads * 2 * half;
  for (u32 i = thread(); i < heads * half; i += threads()) {
    u32 pair = i % half;
    float* at = x + (u64)(i / half) * 2 * half + pair;
    float a = at[0], b = at[half], c = cosines[pair], s = sines[pair];
    at[0] = sub32(mul32(a, c), mul32(b, s));
    at[half] = add32(mul32(b, c), mul32(a, s));
  }
}

// store_page puts the keys and values of row block_x, heads*dim of each, into its slot of its page of the layer.
// tables holds the address of each page's first layer; a row's own table begins at starts[row].
KERNEL(store_page, const float* k, const float* v, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 dim) {
  u32 row = block_x(), slot = positions[row] % kPage;
  float* page = (float*)(tables[starts[row] + positions[row] / kPage] + offset);
  float* values = page + (u64)heads * dim * kPage;
  for (u32 i = thread(); i < heads * dim; i += threads()) {
    page[(u64)i * kPage + slot] = k[(u64)row * heads * dim + i];
    values[((u64)(i / dim) * kPage + slot) * dim + i % dim] = v[(u64)row * heads * dim + i];
  }
}

// gate_units is section 13: h = act(g) * u; h may be g or u.
KERNEL(gate_units, float* h, const float* g, const float* u, u32 n, u32 relu2) {
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) {
    float v = g[i];
    if (relu2) {
      v = v <= 0 ? 0.0f : v;
      v = mul32(v, v);
    } else {
      v = div32(v, add32(1.0f, exp32(-v)));
    }
    h[i] = mul32(v, u[i]);
  }
}

// add_units adds y to x.
KERNEL(add_units, float* x, const float* y, u32 n) {
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) x[i] = add32(x[i], y[i]);
}
