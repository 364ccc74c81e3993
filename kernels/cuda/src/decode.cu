// One token of one sequence: a layer is five kernels, each of which begins with what the one before it left to do.
// Weights and old keys do not depend on that, so they are loaded before await_grid: with programmatic dependent launch
// this overlaps the kernel before. Every kernel releases the next one only after its own wait, so what a kernel reads
// before its wait may have been written by any kernel but the one before it.
#include "numerics.cuh"

enum : u32 { kWarps = 8, kThreads = 32 * kWarps, kSumBlocks = 32 };

// State of the sequence on the device; table holds the addresses of its pages.
struct State {
  u32 token, position;
  u64 table[1];
};

// normalize_shared replaces v by its normalization.
FN void normalize_shared(float* v, u32 n, const float* w, const float* b, u32 kind, float eps, u32* bad, u32 site) {
  Deviation d = deviation(v, n, kind, eps);
  bool ok = d.ok;
  for (u32 i = thread(); i < n; i += kThreads) {
    v[i] = normalized(d, v[i], w, b, i, kind);
    ok = ok && finite(v[i]);
  }
  if (!ok) atomic_min(bad, site);
  barrier();
}

// quantize_shared turns n elements of v, a multiple of 128, into codes and returns their absolute maximum. A thread
// quantizes the words that it wrote to v. gain holds the weights of the norm in shared memory.
FN float quantize_shared(u32* codes, const float* v, u32 n, const float* gain, const float* b, u32 kind, float eps, u32* bad, u32 site) {
  __shared__ float part[kSumBlocks];
  __shared__ u32 tops[kWarps];
  Deviation d = {0, 1, true};
  u32 top = 0;
  if (kind == kLayer) {
    d = deviation(v, n, kind, eps);
    for (u32 at = thread(); at < n / 4; at += kThreads)
      for (u32 c = 0; c < 4; c++) top = greatest(top, bits(normalized(d, v[4 * at + c], gain, b, 4 * at + c, kind)) & kMagnitude);
  } else {
    // Rounding is monotone: the greatest |x*w| times r is the greatest |y|.
    for (u32 at = thread(); at < n / 4; at += kThreads) {
      f32x4 x = ((const f32x4*)v)[at], g = {1, 1, 1, 1};
      if (kind == kRMS) g = ((const f32x4*)gain)[at];
      top = greatest(top, bits(mul32(x.x, g.x)) & kMagnitude);
      top = greatest(top, bits(mul32(x.y, g.y)) & kMagnitude);
      top = greatest(top, bits(mul32(x.z, g.z)) & kMagnitude);
      top = greatest(top, bits(mul32(x.w, g.w)) & kMagnitude);
    }
    if (kind == kRMS)
      for (u32 block = warp(); block * kBlock < n; block += kWarps) {
        float l = 0;
        const float* own = v + block * kBlock + lane();
        if ((block + 1) * kBlock <= n) {
          UNROLL
          for (u32 i = 0; i < kBlock; i += 32) l = fma32(own[i], own[i], l);
        } else {
          UNROLL_BY(4)
          for (u32 i = 0; i < n % kBlock; i += 32) l = fma32(own[i], own[i], l);
        }
        l = fold(l);
        if (lane() == 0) part[block] = l;
      }
  }
  top = warp_greatest(top);
  if (lane() == 0) tops[warp()] = top;
  barrier();
  for (u32 i = 0; i < kWarps; i++) top = greatest(top, tops[i]);
  float a = from_bits(top);
  if (kind == kRMS) {
    float ss = part[0];
    for (u32 i = 1; i * kBlock < n; i++) ss = add32(ss, part[i]);
    d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), eps)));
    d.ok = finite(ss) && finite(d.r);
    a = mul32(a, d.r);
  }
  if (thread() == 0 && (!d.ok || !finite(a))) atomic_min(bad, site);
  a = at_least_least(a);
  const float k = quantum(a);
  UNROLL_BY(2)
  for (u32 at = thread(); at < n / 4; at += kThreads) {
    const f32x4 x = ((const f32x4*)v)[at];
    f32x4 y;
    if (kind == kRMS) {
      const f32x4 g = ((const f32x4*)gain)[at];
      y = {mul32(mul32(x.x, g.x), d.r), mul32(mul32(x.y, g.y), d.r), mul32(mul32(x.z, g.z), d.r), mul32(mul32(x.w, g.w), d.r)};
    } else {
      y = {normalized(d, x.x, gain, b, 4 * at, kind), normalized(d, x.y, gain, b, 4 * at + 1, kind), normalized(d, x.z, gain, b, 4 * at + 2, kind), normalized(d, x.w, gain, b, 4 * at + 3, kind)};
    }
    codes[at / 32 * 32 + code_word(at % 32)] = code(y.x, k) | code(y.y, k) << 8 | code(y.z, k) << 16 | code(y.w, k) << 24;
  }
  barrier();
  return a;
}

// What becomes of a product.
enum : u32 { kStore = 0, kResidual = 1, kSiLU = 2, kReLU2 = 3 };

// multiply_vector multiplies a matrix of whole tiles by the vector x of n elements, a multiple of 128, which is first
// normalized twice, by `pre` and by the norm of the matrix, and quantized. Every block does that for itself; block 0
// keeps the result of pre in kept. A block computes `lines` rows of tiles at a time, 8/lines warps for each, which
// split the columns; a warp has the first Held tiles of its part in registers before await_grid. With a gate, the matrix
// holds the rows of gate and then those of up, and half of the lines are of each.
//
// Shared memory: 9n bytes.
template <int Held>
FN void multiply_vector(float* y, const float* residual, const float* x, float* kept, const float* pre_w, const float* pre_b, u32 pre_kind, float pre_eps, const float* w, const float* b, u32 kind, float eps, const u32x4* tiles, const float* scales,
                        const float* bias, u32 n, u32 tile_rows, u32 lines, u32 mode, u32* bad, u32 site) {
  __shared__ i32 sums[kWarps][16];
  float* v = (float*)shared_bytes();
  float* gain = v + n;
  u32* codes = (u32*)(gain + n);
  const u32 t = lane() % 4, columns = n / 128, split = kWarps / lines;
  const u32 line = warp() / split, part = warp() % split;
  const u32 begin = part * columns / split, end = (part + 1) * columns / split;
  const bool gated = mode >= kSiLU;
  const u32 own = gated ? lines / 2 : lines;  // rows of tiles of the result in a block
  const u32 results = gated ? tile_rows / 2 : tile_rows;

  auto row_of = [&](u32 group, u32 line) { return gated && line >= own ? results + group * own + line - own : group * own + line; };
  u32x4 held[Held];
  auto hold = [&](u32 group, u32 first) {
    const u32x4* from = tiles + (u64)least(row_of(group, line), tile_rows - 1) * columns * 32 + lane();
    UNROLL
    for (int i = 0; i < Held; i++) {
      held[i] = load_weights_if(first + i < end, from + (u64)(first + i) * 32);
    }
  };
  // The first threads each finish a row: its scale and bias, and those of up.
  const u32 mine = thread() / 16, r = thread() % 16;
  float scale = 0, shift = 0, up_scale = 0, up_shift = 0, old = 0;
  auto finish = [&](u32 group) {
    if (mine >= own || group * own + mine >= results) return;
    const u32 row = row_of(group, mine) * 16 + r, up = gated ? row_of(group, mine + own) * 16 + r : row;
    scale = scales[row], up_scale = scales[up];
    if (bias) shift = bias[row], up_shift = bias[up];
  };
  u32 group = block_x();
  hold(group, begin);
  finish(group);
  if (kind != kNoNorm)
    for (u32 at = thread(); at < n / 4; at += kThreads) copy_async((f32x4*)gain + at, (const f32x4*)w + at);
  copy_commit();
  await_grid();
  release_grid();

  if (mode == kResidual && mine < own && group * own + mine < results) old = residual[(group * own + mine) * 16 + r];
  for (u32 first = thread(); first < n / 4; first += 8 * kThreads) {
    f32x4 batch[8];  // all on their way before the first is used
    UNROLL
    for (u32 i = 0; i < 8; i++) {
      const f32x4* from = (const f32x4*)x + least(first + i * kThreads, n / 4 - 1);
      batch[i].x = from->x, batch[i].y = from->y, batch[i].z = from->z, batch[i].w = from->w;
    }
    UNROLL
    for (u32 i = 0; i < 8; i++)
      if (first + i * kThreads < n / 4) {
        f32x4* to = (f32x4*)v + first + i * kThreads;
        to->x = batch[i].x, to->y = batch[i].y, to->z = batch[i].z, to->w = batch[i].w;
      }
  }
  copy_wait<0>();
  barrier();
  if (pre_kind != kNoNorm) {
    normalize_shared(v, n, pre_w, pre_b, pre_kind, pre_eps, bad, site - 1);
    if (block_x() == 0)
      for (u32 i = thread(); i < n; i += kThreads) kept[i] = v[i];
  }
  const float a = quantize_shared(codes, v, n, gain, b, kind, eps, bad, site);

  for (;;) {
    i32 acc[4][4] = {};
    for (u32 first = begin;;) {
      UNROLL
      for (int i = 0; i < Held; i++) {
        const u32x4& h = held[i];
        const u32x4* q = (const u32x4*)codes + least(first + i, columns - 1) * 8 + 2 * t;
        const u32x4 low = q[0], high = q[1];
        mma_s8(acc[0], plane<0>(h.x), plane<0>(h.y), plane<0>(h.z), plane<0>(h.w), low.x, low.y);
        mma_s8(acc[1], plane<1>(h.x), plane<1>(h.y), plane<1>(h.z), plane<1>(h.w), low.z, low.w);
        mma_s8(acc[2], plane<2>(h.x), plane<2>(h.y), plane<2>(h.z), plane<2>(h.w), high.x, high.y);
        mma_s8(acc[3], plane<3>(h.x), plane<3>(h.y), plane<3>(h.z), plane<3>(h.w), high.z, high.w);
      }
      first += Held;
      if (first >= end) break;
      hold(group, first);
    }
    if (t == 0) {
      sums[warp()][lane() / 4] = acc[0][0] + acc[1][0] + acc[2][0] + acc[3][0];
      sums[warp()][lane() / 4 + 8] = acc[0][2] + acc[1][2] + acc[2][2] + acc[3][2];
    }
    barrier();
    auto result = [&](u32 line, float scale, float shift) {
      i32 sum = 0;
      for (u32 part = 0; part < split; part++) sum += sums[line * split + part][r];
      const float value = mul32(to_float(sum >> 6), div32(mul32(scale, a), 127.0f));
      return bias ? add32(value, shift) : value;
    };
    if (mine < own && group * own + mine < results) {
      float value = result(mine, scale, shift);
      if (mode == kResidual) value = add32(old, value);
      if (mode == kReLU2) {
        value = value <= 0 ? 0.0f : value;
        value = mul32(mul32(value, value), result(mine + own, up_scale, up_shift));
      }
      if (mode == kSiLU) value = mul32(div32(value, add32(1.0f, exp32(-value))), result(mine + own, up_scale, up_shift));
      y[(group * own + mine) * 16 + r] = value;
    }
    group += blocks_x();
    if (group * own >= results) break;
    hold(group, begin);
    finish(group);
    if (mode == kResidual && mine < own && group * own + mine < results) old = residual[(group * own + mine) * 16 + r];
    barrier();
  }
}

#define MULTIPLY(name, held, blocks)                                                                                                                                                                                                          \
  BOUNDED_KERNEL(kThreads, blocks, name, float* y, const float* residual, const float* x, float* kept, const float* pre_w, const float* pre_b, u32 pre_kind, float pre_eps, const float* w, const float* b, u32 kind, float eps, \
                 const u32x4* tiles, const float* scales, const float* bias, u32 n, u32 tile_rows, u32 lines, u32 mode, u32* bad, u32 site) {                                                                                         \
    multiply_vector<held>(y, residual, x, kept, pre_w, pre_b, pre_kind, pre_eps, w, b, kind, eps, tiles, scales, bias, n, tile_rows, lines, mode, bad, site);                                                                        \
  }
MULTIPLY(decode_multiply_4, 4, 3)
MULTIPLY(decode_multiply_8, 8, 3)
MULTIPLY(decode_multiply_12, 12, 2)

// prepare_head loads one head of dim elements, a multiple of 32, into to, normalizes it and rotates it, in one warp.
FN void prepare_head(float* to, const float* from, u32 dim, const float* w, const float* b, u32 kind, float eps, const float* angles, u32* bad, u32 site) {
  UNROLL_BY(4)
  for (u32 i = lane(); i < dim; i += 32) to[i] = from[i];
  if (kind != kNoNorm) {
    Deviation d = {0, 1, true};
    float l = 0;
    if (kind == kLayer) {
      for (u32 i = lane(); i < dim; i += 32) l = add32(l, to[i]);
      d.mean = div32(fold(l), (float)dim);
      l = 0;
      for (u32 i = lane(); i < dim; i += 32) {
        float v = sub32(to[i], d.mean);
        l = fma32(v, v, l);
      }
    } else {
      for (u32 i = lane(); i < dim; i += 32) l = fma32(to[i], to[i], l);
    }
    const float ss = fold(l);
    d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)dim), eps)));
    bool ok = finite(ss) && finite(d.r);
    for (u32 i = lane(); i < dim; i += 32) {
      to[i] = normalized(d, to[i], w, b, i, kind);
      ok = ok && finite(to[i]);
    }
    if (!ok) atomic_min(bad, site);
  }
  warp_barrier();
  for (u32 i = lane(); i < dim / 2; i += 32) {
    const float p = to[i], q = to[i + dim / 2], c = angles[i], s = angles[i + dim / 2];
    to[i] = sub32(mul32(p, c), mul32(q, s));
    to[i + dim / 2] = add32(mul32(q, c), mul32(p, s));
  }
}

// decode_attend: block (kv head, chunk) computes the query heads of one kv head over 64 positions; the block of the
// newest chunk first stores the new key and value. The last block of a kv head to finish merges the chunks in order.
// parts holds, for each kv head and chunk, shared*dim sums, shared maxima and shared totals. With `chunks` the number
// of chunks that the grid has, blocks past the position do nothing.
//
// Shared memory: 128*dim + (shared+2)*dim + 64*shared floats.
BOUNDED_KERNEL(kThreads, 2, decode_attend, float* out, const float* q, const float* k, const float* v, const State* state, const float* angles, u64 offset, u32 heads, u32 kv_heads, u32 dim, float z, const float* qn_w, const float* qn_b, u32 qn_kind,
               float qn_eps, const float* kn_w, const float* kn_b, u32 kn_kind, float kn_eps, float* parts, u32* done, u32* bad, u32 site) {
  __shared__ u32 ticket;
  __shared__ float totals[32];
  const u32 kv = block_x(), chunk = block_y(), shared = heads / kv_heads;
  const u32 position = state->position, chunks = position / kPage + 1;
  if (chunk >= chunks) return;
  const u32 count = least(kPage, position + 1 - chunk * kPage), slot = position % kPage;
  const bool newest = chunk + 1 == chunks;
  float* keys = (float*)shared_bytes();    // [dim][64]
  float* values = keys + kPage * dim;      // [64][dim]
  float* heads_of = values + kPage * dim;  // shared queries and the new key
  float* turn = heads_of + (shared + 1) * dim;  // cosines and sines of the position
  float* weights = turn + dim;
  float* page_keys = (float*)(state->table[chunk] + offset) + (u64)kv * dim * kPage;
  float* page_values = page_keys + (u64)kv_heads * dim * kPage;
  for (u32 at = thread(); at < dim * kPage / 4; at += kThreads) {
    copy_async((f32x4*)keys + at, (const f32x4*)page_keys + at);
    copy_async((f32x4*)values + at, (const f32x4*)page_values + at);
  }
  for (u32 at = thread(); at < dim / 4; at += kThreads) copy_async((f32x4*)turn + at, (const f32x4*)(angles + (u64)position * dim) + at);
  copy_commit();
  await_grid();
  release_grid();
  const float value = newest && thread() < dim ? v[kv * dim + thread()] : 0.0f;
  copy_wait<0>();
  barrier();
  for (u32 h = warp(); h < shared + newest; h += kWarps) {
    if (h < shared)
      prepare_head(heads_of + h * dim, q + (kv * shared + h) * dim, dim, qn_w, qn_b, qn_kind, qn_eps, turn, bad, site);
    else
      prepare_head(heads_of + h * dim, k + kv * dim, dim, kn_w, kn_b, kn_kind, kn_eps, turn, bad, site + 1);
  }
  barrier();
  if (newest) {
    const u32 i = thread();
    if (i < dim) {
      const float key = heads_of[shared * dim + i];
      keys[i * kPage + slot] = key;
      values[slot * dim + i] = value;
      page_keys[i * kPage + slot] = key;
      page_values[slot * dim + i] = value;
    }
    barrier();
  }

  for (u32 h = thread() / kPage; h < shared; h += kThreads / kPage) {
    const u32 j = thread() % kPage;
    float s = 0;
    UNROLL_BY(8)
    for (u32 i = 0; i < dim; i += 4) {
      const f32x4 x = *(const f32x4*)(heads_of + h * dim + i);
      s = fma32(x.x, keys[i * kPage + j], s);
      s = fma32(x.y, keys[(i + 1) * kPage + j], s);
      s = fma32(x.z, keys[(i + 2) * kPage + j], s);
      s = fma32(x.w, keys[(i + 3) * kPage + j], s);
    }
    weights[h * kPage + j] = mul32(s, z);
  }
  barrier();
  const u32 part = shared * dim + 2 * shared;  // floats
  float* mine = parts + ((u64)kv * (chunks > 1 ? chunks : 1) + chunk) * part;
  for (u32 h = warp(); h < shared; h += kWarps) {
    float* p = weights + h * kPage + lane();
    const bool low = lane() < count, high = lane() + 32 < count;
    float m = low ? p[0] : from_bits(0xff800000);
    if (high && p[32] > m) m = p[32];
    for (u32 w = 16; w > 0; w /= 2) {
      const float other = shuffle_xor(m, w);
      m = other > m ? other : m;
    }
    p[0] = low ? exp32(sub32(p[0], m)) : 0.0f;
    p[32] = high ? exp32(sub32(p[32], m)) : 0.0f;
    const float l = fold(add32(p[0], p[32]));
    if (lane() == 0) {
      totals[h % 32] = l;
      mine[shared * dim + h] = m;
      mine[shared * dim + shared + h] = l;
    }
  }
  barrier();
  for (u32 at = thread(); at < shared * dim; at += kThreads) {
    const u32 h = at / dim, i = at % dim;
    float o = 0;
    UNROLL_BY(8)
    for (u32 j = 0; j < count; j++) o = fma32(weights[h * kPage + j], values[j * dim + i], o);
    if (chunks == 1)
      out[kv * shared * dim + at] = mul32(o, div32(1.0f, totals[h]));
    else
      mine[at] = o;
  }
  if (chunks == 1) return;

  fence();
  barrier();
  if (thread() == 0) ticket = atomic_add(done + kv, 1);
  barrier();
  if (ticket + 1 != chunks) return;
  fence();
  if (thread() == 0) done[kv] = 0;
  const float* all = parts + (u64)kv * chunks * part;
  float* before = (float*)shared_bytes();     // [shared][chunks]: the factor of the sums so far,
  float* after = before + shared * chunks;    // and that of the chunk
  for (u32 h = warp(); h < shared; h += kWarps) {
    const float* tops = all + shared * dim + h;
    float top = from_bits(0xff800000);
    for (u32 first = 0; first < chunks; first += 32) {
      const u32 c = first + lane();
      const float own = c < chunks ? tops[(u64)c * part] : from_bits(0xff800000);
      float m = own;  // the greatest of this chunk and those before it
      for (u32 w = 1; w < 32; w *= 2) {
        const float other = shuffle_up(m, w);
        if (lane() >= w && other > m) m = other;
      }
      m = top > m ? top : m;
      float previous = shuffle_up(m, 1);
      if (lane() == 0) previous = top;
      if (c < chunks) {
        before[h * chunks + c] = exp32(sub32(previous, m));
        after[h * chunks + c] = exp32(sub32(own, m));
      }
      top = shuffle_from(m, 31);
    }
    warp_barrier();
    if (lane() == 0) {
      float l = tops[shared];
      for (u32 c = 1; c < chunks; c++) l = fma32(tops[(u64)c * part + shared], after[h * chunks + c], mul32(l, before[h * chunks + c]));
      totals[h % 32] = l;
    }
  }
  barrier();
  for (u32 at = thread(); at < shared * dim; at += kThreads) {
    const u32 h = at / dim;
    float o = all[at];
    UNROLL_BY(8)
    for (u32 c = 1; c < chunks; c++) o = fma32(all[(u64)c * part + at], after[h * chunks + c], mul32(o, before[h * chunks + c]));
    out[kv * shared * dim + at] = mul32(o, div32(1.0f, totals[h]));
  }
}

// advance makes the token whose image is best (sample.cu) the next one, one position on, and tells the host: entry
// position%64 of told, two words each, is the token and the least site that was not finite.
KERNEL(advance, State* state, u64* best, u32* told, const u32* bad) {
  await_grid();
  release_grid();
  if (thread() != 0) return;
  const u32 token = 0xffffffff - (u32)*best;
  u32* entry = told + state->position % 64 * 2;
  entry[0] = token;
  entry[1] = *bad;
  *best = 0;
  state->token = token;
  state->position++;
}
