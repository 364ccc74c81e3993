// Kernels over vectors of activations: norms, quantization, embedding, rotation, gate and sum (spec/numerics.md
// sections 6, 7, 10, 11 and 13). One block a row, one thread an element; the sums are block_sum.
#include "numerics.cuh"

// norm_rows normalizes vectors of n elements, `heads` to a row and the rows of x and y ld apart; y may be x. Where section 6 asks for
// an error, bad becomes the least site that saw one.
KERNEL(norm_rows, float* y, const float* x, const float* w, const float* b, u32 n, u32 heads, u32 ld, u32 kind, float eps, u32* bad, u32 site) {
  const u64 at = (u64)(block_x() / heads) * ld + block_x() % heads * n;
  y += at;
  x += at;
  Deviation d = deviation(x, n, kind, eps);
  bool ok = d.ok;
  for (u32 i = thread(); i < n; i += threads()) {
    float v = normalized(d, x[i], w, b, i, kind);
    ok = ok && finite(v);
    y[i] = v;
  }
  if (!ok) atomic_min(bad, site);
}

// quantize_rows normalizes rows of n elements and quantizes them to codes of `tokens` tokens (see code_chunk), zeros after those of
// a row. maxima gets each row's absolute maximum. A warp computes blocks of 1024 elements and keeps its first in registers, so that
// a row is read once where there is a warp for each block. Shared memory: 1024 bytes a warp.
BOUNDED_KERNEL(256, 3, quantize_rows, i8* q, float* maxima, const float* x, const float* w, const float* b, u32 n, u32 columns, u32 tokens, u32 kind, float eps, u32* bad, u32 site) {
  __shared__ float part[32];
  const u32 row = block_x(), first = warp() * kBlock + lane(), stride = warps() * kBlock;
  const bool once = n <= stride;
  x += (u64)row * n;
  // Elements past the end are zeros, which change no sum below, and loads go to the last one: no lane waits at a branch.
  float held[32];
  u32 at = first;
  auto hold = [&](u32 base) INLINE {
    UNROLL
    for (u32 j = 0; j < 32; j++) {
      const float v = x[least(base + 32 * j, n - 1)];
      held[j] = base + 32 * j < n ? v : 0.0f;
    }
    at = base;
  };
  hold(first);
  auto sum = [&](auto step) INLINE {
    float s = 0;
    for (u32 start = 0; start < n; start += stride) {
      if (at != start + first) hold(start + first);
      float l = 0;
      UNROLL
      for (u32 j = 0; j < 32; j++) l = step(l, held[j], at + 32 * j < n);
      l = fold(l);
      barrier();
      if (lane() == 0) part[warp()] = l;
      barrier();
      for (u32 i = 0; i < warps() && start + i * kBlock < n; i++) s = start + i == 0 ? part[0] : add32(s, part[i]);
    }
    return s;
  };
  Deviation d = {0, 1, true};
  if (kind == kLayer) d.mean = div32(sum([](float l, float v, bool) INLINE { return add32(l, v); }), (float)n);
  if (kind != kNoNorm) {
    const float ss = kind == kLayer ? sum([&](float l, float v, bool inside) INLINE {
      v = inside ? sub32(v, d.mean) : 0.0f;
      return fma32(v, v, l);
    }) : sum([](float l, float v, bool) INLINE { return fma32(v, v, l); });
    d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), eps)));
    d.ok = finite(ss) && finite(d.r);
  }
  auto norm = [&](u32 base) INLINE {
    if (at != base) hold(base);
    if (kind == kNoNorm) return;
    if (kind == kRMS) {  // without the choice for each element, which would make each load of a weight wait for the one before
      UNROLL
      for (u32 j = 0; j < 32; j++) held[j] = normalized(d, held[j], w, b, least(base + 32 * j, n - 1), kRMS);
    } else {
      UNROLL
      for (u32 j = 0; j < 32; j++) held[j] = normalized(d, held[j], w, b, least(base + 32 * j, n - 1), kLayer);
    }
    UNROLL
    for (u32 j = 0; j < 32; j++) held[j] = base + 32 * j < n ? held[j] : 0.0f;
    at = once ? at : ~0u;
  };
  u32 top = 0;
  for (u32 start = 0; start < n; start += stride) {
    norm(start + first);
    UNROLL
    for (u32 j = 0; j < 32; j++) top = greatest(top, bits(held[j]) & kMagnitude);
  }
  top = block_greatest(top);
  if (thread() == 0 && (!d.ok || top >= kInfinity)) atomic_min(bad, site);
  const float a = at_least_least(from_bits(top)), k = quantum(a);
  if (thread() == 0) maxima[row] = a;
  u8* codes = shared_bytes();
  for (u32 start = 0; start < columns * 128; start += stride) {
    if (!once) norm(start + first);
    UNROLL
    for (u32 j = 0; j < 32; j++) codes[first + 32 * j] = (u8)code(held[j], k);
    barrier();
    for (u32 c = thread(); c < stride / 16 && start + 16 * c < columns * 128; c += threads())
      *(u32x4*)(q + code_chunk(start / 16 + c, row, tokens)) = *(const u32x4*)(codes + 16 * c);
    barrier();
  }
}

// rotate_heads turns heads of 2*half elements in place: head h of row block_x, which holds `heads` of them and begins ld elements
// after the one before, by row positions[block_x] of the table of half cosines and half sines.
KERNEL(rotate_heads, float* x, const float* table, const u32* positions, u32 heads, u32 half, u32 ld) {
  const float* cosines = table + (u64)positions[block_x()] * 2 * half;
  const float* sines = cosines + half;
  x += (u64)block_x() * ld;
  for (u32 i = thread(); i < heads * half; i += threads()) {
    u32 pair = i % half;
    float* at = x + (u64)(i / half) * 2 * half + pair;
    float a = at[0], b = at[half], c = cosines[pair], s = sines[pair];
    at[0] = sub32(mul32(a, c), mul32(b, s));
    at[half] = add32(mul32(b, c), mul32(a, s));
  }
}

// store_page puts the keys and values of row block_x, heads*dim of each in rows that are ld apart, into its slot of its page of the
// layer. tables holds the address of each page's first layer; a row's own table begins at starts[row].
KERNEL(store_page, const float* k, const float* v, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 dim, u32 ld) {
  u32 row = block_x(), slot = positions[row] % kPage;
  float* page = (float*)(tables[starts[row] + positions[row] / kPage] + offset);
  float* values = page + (u64)heads * dim * kPage;
  for (u32 i = thread(); i < heads * dim; i += threads()) {
    page[(u64)i * kPage + slot] = k[(u64)row * ld + i];
    values[((u64)(i / dim) * kPage + slot) * dim + i % dim] = v[(u64)row * ld + i];
  }
}

// store_pages is rotate_heads, of the keys, and store_page for tiles of up to 128 neighbouring positions (struct Tile of prefill.cu),
// with dim a multiple of 8: block (h, 2t+i) moves head h of the 64 positions i of tile t. Shared memory: 65*dim floats, in which keys trade rows for columns.
KERNEL(store_pages, const float* k, const float* v, const float* table, const u64* tables, const u32x4* tiles, u64 offset, u32 heads, u32 dim, u32 ld) {
  const u32x4 t = tiles[block_y() / 2];
  const u32 skip = block_y() % 2 * kPage;
  if (t.y <= skip) return;
  const u32 row = t.x + skip, count = least(t.y - skip, kPage), start = t.z, position = t.w + skip, head = block_x();
  float* turn = (float*)shared_bytes();
  // The slots of a tile are in two pages at most.
  const u32 slot = position % kPage;
  float* const one = (float*)(tables[start + position / kPage] + offset);
  float* const two = (float*)(tables[start + (position + count - 1) / kPage] + offset);
  k += (u64)row * ld + head * dim;
  v += (u64)row * ld + head * dim;
  UNROLL_BY(4)
  for (u32 at = thread(); at < count * dim / 8; at += threads()) {
    const u32 i = at % (dim / 8) * 4, n = at / (dim / 8);
    const float *x = k + (u64)n * ld + i, *angles = table + (u64)(position + n) * dim + i;
    const f32x4 a = *(const f32x4*)x, b = *(const f32x4*)(x + dim / 2), c = *(const f32x4*)angles, s = *(const f32x4*)(angles + dim / 2);
    const float as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w}, cs[4] = {c.x, c.y, c.z, c.w}, ss[4] = {s.x, s.y, s.z, s.w};
    UNROLL
    for (int e = 0; e < 4; e++) {
      turn[(i + e) * 65 + n] = sub32(mul32(as[e], cs[e]), mul32(bs[e], ss[e]));
      turn[(i + e + dim / 2) * 65 + n] = add32(mul32(bs[e], cs[e]), mul32(as[e], ss[e]));
    }
  }
  UNROLL_BY(4)
  for (u32 at = thread(); at < count * dim / 4; at += threads()) {
    const u32 i = at % (dim / 4) * 4, p = slot + at / (dim / 4);
    *(f32x4*)((p < kPage ? one : two) + ((u64)(heads + head) * kPage + p % kPage) * dim + i) = *(const f32x4*)(v + (u64)(p - slot) * ld + i);
  }
  barrier();
  UNROLL_BY(8)
  for (u32 at = thread(); at < kPage * dim; at += threads()) {
    const u32 i = at / kPage, n = at % kPage, p = slot + n;
    if (n < count) (p < kPage ? one : two)[((u64)head * dim + i) * kPage + p % kPage] = turn[i * 65 + n];
  }
}

// gate_units is section 13: h = act(g) * u; h may be g or u.
KERNEL(gate_units, float* h, const float* g, const float* u, u32 n, u32 relu2) {
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) h[i] = gate(g[i], u[i], relu2);
}

// add_units adds y to x.
KERNEL(add_units, float* x, const float* y, u32 n) {
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) x[i] = add32(x[i], y[i]);
}
