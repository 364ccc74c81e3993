// One token of one sequence through every layer, in one kernel that fills the device.
//
// A step of one token reads every weight once and has little to compute: what counts is that memory never waits for
// arithmetic. Weights depend on nothing, so one warp of each block does nothing but copy the tiles that the block will
// multiply, and the keys and values that it will attend to, into shared memory, as far ahead as there is room; only
// activations travel between blocks.
//
// They do so without barriers of the grid: every vector of every layer has a place of its own in memory, which
// begin_step fills with a bit pattern that is no result (kEmpty). A block publishes what it computes, a word at a time,
// and a block that needs a word reads it until it is there. Chunks of attention, whose number grows with the
// context, share one place for all layers: there a word comes with a tag that names the step and the layer. No block
// can be ahead of another by more than one vector, since each has a part in every vector, and needs all of the one
// before.
//
// Each product of a matrix and a vector splits rows of tiles over the blocks, and tiles over the warps of a block; every
// block normalizes and quantizes the whole vector for itself. From one vector to the next there is one chain of
// instructions, with few warps to hide what each waits for: its length is the time that a step takes.
//
// The ladder, bitnet-b1.58-2B-4T with a bfloat16 head at position 128 on an H200, microseconds a token:
//
//	1  five kernels a layer, programmatic dependent launch              1,185
//	2  one kernel, a warp sums the squares of its own 1,024 elements    1,995
//	3  vectors through shared memory, fewer registers and instructions  1,127
//	4  8 warps in place of 16                                             997
#include "dense.cuh"

enum : u32 { kWarps = 7, kThreads = 32 * kWarps, kEmpty = 0xffffffff };  // warps that compute, besides the one that copies
enum : u32 { kStage = 64 };                                                // tiles of a stage of the ring, at most

// State of the sequence on the device; table holds the addresses of its pages.
struct State {
  u32 token, position;
  u64 table[1];
};

struct NormOf {
  const float *w, *b;
  u32 kind;
  float eps;
};
// Matrix is one of whole tiles, and the norms of its input: pre is that of the residual stream itself, if it has one. gain has the weights of
// own in the order of place.
struct Matrix {
  const u32x4* tiles;
  const float *scales, *bias;
  NormOf pre, own;
  const float* gain;
};
// Layer holds q, k and v as one matrix, o, gate and up as one, and down. Behind the last layer comes one whose first matrix is
// a ternary head.
struct Layer {
  Matrix matrices[4];
  NormOf q, k;
};

// Phases of a layer in the order of Layer's matrices, and that of a ternary head.
enum : u32 { kQKV, kO, kGateUp, kDown, kHead, kPhases };

// Shape is what a block computes of a matrix: own rows of tiles of the result, from the first on. With a gate there are twice
// as many lines of tiles, those of up behind those of gate.
// The tiles are copied in stages of the ring, of `stage` tiles each but the last. reciprocal is 2^32/columns, rounded up.
struct Shape {
  u32 columns, results, first, own, lines, stage;
  u64 reciprocal;
};

// Exchange is what the warps of a block tell each other.
struct Exchange {
  Shape shapes[kPhases];
  float part[2 * kWarps];  // sums of blocks of elements
  u32 tops[kWarps];
  i32 sums[kWarps];  // of codes
  Deviation pre;     // of the residual stream
  u64 filled[8], emptied[8];        // stages of the ring
  u64 page_filled, page_emptied;  // keys and values
};

// compute_barrier is a barrier of the warps that compute.
FN void compute_barrier() { barrier_of(1, kThreads); }

// place is where element i of a vector lies, so that lane i%32 finds four of its elements side by side.
FN u32 place(u32 i) { return (i & ~1023u) | (i & 0x380) | (i & 31) << 2 | (i >> 5 & 3); }

FN void publish(float* p, float v) {
  const u32 u = bits(v);
  store_relaxed((u32*)p, u == kEmpty ? kMagnitude : u);
}
FN void publish_tagged(u64* p, float v, u32 tag) { store_relaxed(p, (u64)tag << 32 | bits(v)); }

FN bool there(const u32& v, u32) { return v != kEmpty; }
FN bool there(const u32x4& v, u32) { return v.x != kEmpty && v.y != kEmpty && v.z != kEmpty && v.w != kEmpty; }
FN bool there(const u64& v, u32 tag) { return (u32)(v >> 32) == tag; }

// await_words reads N words until they are there, from `from`, from + step and so on, but none behind last. While the first is not there, the
// others are left alone: all blocks wait at the same time, and each read is traffic.
template <int N, class W>
FN void await_words(W (&w)[N], const W* from, u32 step, const W* last, u32 tag = 0) {
  const W* at[N];
  UNROLL
  for (int k = 0; k < N; k++) {
    at[k] = from + k * step < last ? from + k * step : last;
    w[k] = load_relaxed(at[k]);
  }
  while (!there(w[0], tag)) {
    idle();
    w[0] = load_relaxed(at[0]);
  }
  for (bool all = N == 1; !all;) {
    all = true;
    UNROLL
    for (int k = 1; k < N; k++)
      if (!there(w[k], tag)) {
        all = false;
        w[k] = load_relaxed(at[k]);
      }
    if (!all) idle();
  }
}

// sum_blocks is a vector sum of section 3 over a vector in shared memory of n elements, at most 16 blocks: own gives what a lane has of the
// kBlock elements from one on. It begins and ends with a barrier.
template <class Own>
FN float sum_blocks(u32 n, Exchange* x, Own own) {
  const u32 blocks = (n + kBlock - 1) / kBlock;
  compute_barrier();
  UNROLL_BY(1)
  for (u32 block = warp(); block < blocks; block += kWarps) {
    const float l = fold(own(block * kBlock));
    if (lane() == 0) x->part[block] = l;
  }
  compute_barrier();
  float sum = x->part[0];
  UNROLL_BY(1)
  for (u32 i = 1; i < blocks; i++) sum = add32(sum, x->part[i]);
  return sum;
}

// normalize_vector normalizes v in place, in the order of place.
FN Deviation normalize_vector(f32x4* v, u32 n, Exchange* x, const NormOf& norm) {
  Deviation d = {0, 1, true};
  auto each = [&](u32 block, auto step) INLINE {
    float l = 0;
    UNROLL_BY(1)
    for (u32 i = block + lane(); i < least(block + kBlock, n); i += 32) l = step(l, ((const float*)v)[place(i)]);
    return l;
  };
  if (norm.kind == kLayer) {
    d.mean = div32(sum_blocks(n, x, [&](u32 block) INLINE { return each(block, [](float l, float e) INLINE { return add32(l, e); }); }), (float)n);
  }
  const float ss = sum_blocks(n, x, [&](u32 block) INLINE {
    return each(block, [&](float l, float e) INLINE {
      e = sub32(e, d.mean);
      return fma32(e, e, l);
    });
  });
  d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), norm.eps)));
  d.ok = finite(ss) && finite(d.r);
  UNROLL_BY(1)
  for (u32 i = thread(); i < n; i += kThreads) {
    float* e = (float*)v + place(i);
    *e = normalized(d, *e, norm.w, norm.b, i, norm.kind);
    d.ok = d.ok && finite(*e);
  }
  return d;
}

// A vector has up to kTurns * kQuads quads of elements for each thread.
enum : u32 { kQuads = 4, kTurns = 4 };

// quantize_vector waits for a vector of n elements, a multiple of 128, normalizes it by pre and by norm, and quantizes it
// into codes, in the order of code_word. It returns their absolute maximum. It ends before a barrier.
FN float quantize_vector(u8* codes, f32x4* v, Exchange* x, const float* from, u32 n, const Matrix* m, u32* bad, u32 site) {
  const u32 quads = n / 4;
  const bool rms = m->own.kind == kRMS;
  const u32x4* vector = (const u32x4*)from;
  const f32x4* gain = (const f32x4*)m->gain;
  float p[kTurns * kQuads][4];  // x*w
  u32 top = 0;
  auto take = [&](float (&p)[4], const f32x4& e) INLINE {
    p[0] = mul32(e.x, p[0]), p[1] = mul32(e.y, p[1]), p[2] = mul32(e.z, p[2]), p[3] = mul32(e.w, p[3]);
    top = greatest(greatest(top, bits(p[0]) & kMagnitude), bits(p[1]) & kMagnitude);
    top = greatest(greatest(top, bits(p[2]) & kMagnitude), bits(p[3]) & kMagnitude);
  };
  UNROLL
  for (u32 turn = 0; turn < kTurns; turn++) {
    const u32 first = turn * kQuads * kThreads + thread();
    if (turn > 0 && turn * kQuads * kThreads >= quads) break;
    UNROLL
    for (u32 k = 0; k < kQuads; k++) {
      float(&g)[4] = p[turn * kQuads + k];
      g[0] = g[1] = g[2] = g[3] = 1;
      const f32x4* at = gain + least(first + k * kThreads, quads - 1);
      if (rms) g[0] = at->x, g[1] = at->y, g[2] = at->z, g[3] = at->w;
    }
    u32x4 words[kQuads];
    await_words(words, vector + least(first, quads - 1), kThreads, vector + quads - 1);
    UNROLL
    for (u32 k = 0; k < kQuads; k++) {
      const f32x4 e = {from_bits(words[k].x), from_bits(words[k].y), from_bits(words[k].z), from_bits(words[k].w)};
      if (first + k * kThreads < quads) v[first + k * kThreads] = e;
      take(p[turn * kQuads + k], e);
    }
  }
  // Zeros up to a whole block change no sum of squares.
  if (thread() < (0 - quads) % (kBlock / 4)) v[quads + thread()] = {0, 0, 0, 0};
  if (m->own.kind == kLayer || m->pre.kind != kNoNorm) {
    if (m->pre.kind != kNoNorm) {
      const Deviation d = normalize_vector(v, n, x, m->pre);
      if (!d.ok) atomic_min(bad, site - 1);
      if (thread() == 0) x->pre = d;
      compute_barrier();
    }
    if (m->own.kind == kLayer) {
      const Deviation d = normalize_vector(v, n, x, m->own);
      if (!d.ok) atomic_min(bad, site);
      compute_barrier();
    }
    top = 0;
    UNROLL
    for (u32 k = 0; k < kTurns * kQuads; k++) {
      const u32 at = least(k * kThreads + thread(), quads - 1);
      p[k][0] = p[k][1] = p[k][2] = p[k][3] = 1;
      if (rms) p[k][0] = gain[at].x, p[k][1] = gain[at].y, p[k][2] = gain[at].z, p[k][3] = gain[at].w;
      take(p[k], v[at]);
    }
  }
  // Rounding is monotone: the greatest |x*w| times r is the greatest |y| of an RMS norm.
  top = warp_greatest(top);
  if (lane() == 0) x->tops[warp()] = top;
  float r = 1;
  if (rms) {
    const float ss = sum_blocks(n, x, [&](u32 block) INLINE {
      float l = 0;
      UNROLL
      for (u32 k = 0; k < kBlock / 128; k++) {
        const f32x4 e = v[block / 4 + 32 * k + lane()];
        l = fma32(e.x, e.x, l), l = fma32(e.y, e.y, l), l = fma32(e.z, e.z, l), l = fma32(e.w, e.w, l);
      }
      return l;
    });
    r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), m->own.eps)));
    if (!finite(ss) || !finite(r)) atomic_min(bad, site);
  } else {
    compute_barrier();
  }
  top = warp_greatest(lane() < kWarps ? x->tops[lane()] : 0);
  float a = mul32(from_bits(top), r);
  if (!finite(a)) atomic_min(bad, site);
  a = at_least_least(a);
  const float factor = quantum(a);
  u8* to = codes + warp() * 128 + (lane() >> 2 & 3) * 32 + (lane() >> 4) * 4 + (lane() & 3);
  i32 sum = 0;
  UNROLL
  for (u32 turn = 0; turn < kTurns; turn++) {
    if (turn > 0 && turn * kQuads * kThreads >= quads) break;
    UNROLL
    for (u32 k = turn * kQuads; k < (turn + 1) * kQuads; k++) {
      const u32 c0 = code(mul32(p[k][0], r), factor), c1 = code(mul32(p[k][1], r), factor), c2 = code(mul32(p[k][2], r), factor), c3 = code(mul32(p[k][3], r), factor);
      if (k * kThreads + thread() < quads) {
        u8* at = to + k * kWarps * 128;
        at[0] = (u8)c0, at[8] = (u8)c1, at[16] = (u8)c2, at[24] = (u8)c3;
        sum += (i8)c0 + (i8)c1 + (i8)c2 + (i8)c3;
      }
    }
  }
  sum = warp_sum(sum);
  if (lane() == 0) x->sums[warp()] = sum;
  return a;
}

// What becomes of gate and up.
enum : u32 { kSiLU = 2, kReLU2 = 3 };

// prepare_head waits for a head of dim elements, a multiple of 32 up to 256, and unless it is a value normalizes it and rotates it, in one warp.
FN void prepare_head(float* to, const float* from, u32 dim, const NormOf* norm, const float* angles, u32* bad, u32 site) {
  u32 words[8];
  await_words(words, (const u32*)from + lane(), 32, (const u32*)from + dim - 32 + lane());
  UNROLL
  for (u32 k = 0; k < 8; k++)
    if (32 * k < dim) to[32 * k + lane()] = from_bits(words[k]);
  if (!norm) return;
  if (norm->kind != kNoNorm) {
    Deviation d = {0, 1, true};
    float l = 0;
    if (norm->kind == kLayer) {
      UNROLL_BY(1)
      for (u32 i = lane(); i < dim; i += 32) l = add32(l, to[i]);
      d.mean = div32(fold(l), (float)dim);
      l = 0;
    }
    UNROLL_BY(1)
    for (u32 i = lane(); i < dim; i += 32) {
      const float v = sub32(to[i], d.mean);
      l = fma32(v, v, l);
    }
    const float ss = fold(l);
    d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)dim), norm->eps)));
    bool ok = finite(ss) && finite(d.r);
    UNROLL_BY(1)
    for (u32 i = lane(); i < dim; i += 32) {
      to[i] = normalized(d, to[i], norm->w, norm->b, i, norm->kind);
      ok = ok && finite(to[i]);
    }
    if (!ok) atomic_min(bad, site);
  }
  warp_barrier();
  UNROLL_BY(1)
  for (u32 i = lane(); i < dim / 2; i += 32) {
    const float p = to[i], q = to[i + dim / 2], c = angles[i], s = angles[i + dim / 2];
    to[i] = sub32(mul32(p, c), mul32(q, s));
    to[i + dim / 2] = add32(mul32(q, c), mul32(p, s));
  }
}

// Heads is the geometry of attention. A unit of it is a chunk of one kv head for `group` of its `shared` query heads.
struct Heads {
  u32 heads, kv_heads, shared, group, dim;
  u32 position, chunks, tag;
  float z;
  const float* qkv;
  u64* parts;  // for each kv head and chunk: shared*dim sums, shared maxima, shared totals
};

// attend_unit computes query heads of a kv head, from `first` of those that share it on, over the 64 positions of a chunk that lies in
// shared memory, keys as [dim][64] and values as [64][dim]. In the newest chunk the unit of the first heads stores the new key and value.
FN void attend_unit(const Heads& h, u32 kv, u32 first, u32 chunk, float* keys, float* values, float* scratch, const float* turn, u64* filled, u32 parity, const Layer* layer, float* page, u32* bad, u32 site) {
  const u32 dim = h.dim, shared = h.shared, group = h.group;
  const u32 count = least(kPage, h.position + 1 - chunk * kPage), slot = h.position % kPage;
  const bool newest = chunk + 1 == h.chunks;
  float* heads_of = scratch;                      // queries, the new key and the new value
  float* weights = scratch + (shared + 2) * dim;  // [group][64]
  const float* k = h.qkv + (h.heads + kv) * dim;
  const float* v = k + h.kv_heads * dim;
  UNROLL_BY(1)
  for (u32 w = warp(); w < group + 2 * newest; w += kWarps)
    prepare_head(heads_of + w * dim, w < group ? h.qkv + (kv * shared + first + w) * dim : w == group ? k : v, dim, w < group ? &layer->q : w == group ? &layer->k : nullptr, turn, bad, w < group ? site : site + 1);
  arrivals_wait(filled, parity);
  compute_barrier();
  if (newest) {
    UNROLL_BY(1)
    for (u32 i = thread(); i < dim; i += kThreads) {
      const float key = heads_of[group * dim + i], value = heads_of[(group + 1) * dim + i];
      keys[i * kPage + slot] = key;
      values[slot * dim + i] = value;
      if (first == 0) {
        page[i * kPage + slot] = key;
        page[(u64)h.kv_heads * dim * kPage + slot * dim + i] = value;
      }
    }
    compute_barrier();
  }
  // A thread takes two heads, for which it reads a key once.
  UNROLL_BY(1)
  for (u32 at = thread(); at < (group + 1) / 2 * kPage; at += kThreads) {
    const u32 j = at % kPage, head = at / kPage * 2, other = least(head + 1, group - 1);
    const float *q0 = heads_of + head * dim, *q1 = heads_of + other * dim;
    const float* key = keys + j;
    float s0 = 0, s1 = 0;
    UNROLL_BY(4)
    for (u32 i = 0; i < dim; i += 4, key += 4 * kPage) {
      const f32x4 x = *(const f32x4*)(q0 + i), y = *(const f32x4*)(q1 + i);
      const float k0 = key[0], k1 = key[kPage], k2 = key[2 * kPage], k3 = key[3 * kPage];
      s0 = fma32(x.w, k3, fma32(x.z, k2, fma32(x.y, k1, fma32(x.x, k0, s0))));
      s1 = fma32(y.w, k3, fma32(y.z, k2, fma32(y.y, k1, fma32(y.x, k0, s1))));
    }
    weights[head * kPage + j] = mul32(s0, h.z);
    if (head + 1 < group) weights[head * kPage + kPage + j] = mul32(s1, h.z);
  }
  compute_barrier();
  u64* part = h.parts + ((u64)kv * h.chunks + chunk) * shared * (dim + 2);
  UNROLL_BY(1)
  for (u32 w = warp(); w < group; w += kWarps) {
    float* p = weights + w * kPage + lane();
    const bool low = lane() < count, high = lane() + 32 < count;
    float m = low ? p[0] : from_bits(0xff800000);
    if (high && p[32] > m) m = p[32];
    for (u32 d = 16; d > 0; d /= 2) {
      const float other = shuffle_xor(m, d);
      m = other > m ? other : m;
    }
    p[0] = low ? exp32(sub32(p[0], m)) : 0.0f;
    p[32] = high ? exp32(sub32(p[32], m)) : 0.0f;
    const float l = fold(add32(p[0], p[32]));
    if (lane() == 0) {
      publish_tagged(part + shared * dim + first + w, m, h.tag);
      publish_tagged(part + shared * dim + shared + first + w, l, h.tag);
    }
  }
  compute_barrier();
  UNROLL_BY(1)
  for (u32 at = thread(); at < (group + 1) / 2 * dim; at += kThreads) {
    const u32 i = at % dim, head = at / dim * 2, other = least(head + 1, group - 1);
    const float *w0 = weights + head * kPage, *w1 = weights + other * kPage;
    const float* value = values + i;
    float o0 = 0, o1 = 0;
    u32 j = 0;
    UNROLL_BY(4)
    for (; j + 4 <= count; j += 4, value += 4 * dim) {
      const f32x4 x = *(const f32x4*)(w0 + j), y = *(const f32x4*)(w1 + j);
      const float v0 = value[0], v1 = value[dim], v2 = value[2 * dim], v3 = value[3 * dim];
      o0 = fma32(x.w, v3, fma32(x.z, v2, fma32(x.y, v1, fma32(x.x, v0, o0))));
      o1 = fma32(y.w, v3, fma32(y.z, v2, fma32(y.y, v1, fma32(y.x, v0, o1))));
    }
    UNROLL_BY(1)
    for (; j < count; j++, value += dim) o0 = fma32(w0[j], value[0], o0), o1 = fma32(w1[j], value[0], o1);
    publish_tagged(part + (first + head) * dim + i, o0, h.tag);
    if (head + 1 < group) publish_tagged(part + (first + head + 1) * dim + i, o1, h.tag);
  }
}

// merge_slice merges the chunks of 32 elements of a query head, in order, and publishes the result. One warp.
FN void merge_slice(const Heads& h, u32 first, float* att) {
  const u32 dim = h.dim, shared = h.shared, head = first / dim, stride = shared * (dim + 2);
  const u64* part = h.parts + (u64)(head / shared) * h.chunks * stride;
  const u64* tops = part + shared * dim + head % shared;
  const u64* sums = part + head % shared * dim + first % dim + lane();
  const u64* last = sums + (u64)(h.chunks - 1) * stride;
  const float none = from_bits(0xff800000);
  float top = none, l = 0, o = 0;
  UNROLL_BY(1)
  for (u32 begin = 0; begin < h.chunks; begin += 32) {
    // Of the chunks of a round each lane has one: its maximum, the greatest so far, and the factors of section 12.
    const u32 c = begin + lane(), end = least(begin + 32, h.chunks);
    u64 words[2], sum[4];
    const u64* mine = tops + (u64)least(c, h.chunks - 1) * stride;
    await_words(words, mine, shared, mine + shared, h.tag);
    const float own = c < h.chunks ? from_bits((u32)words[0]) : none, length = from_bits((u32)words[1]);
    float m = own;
    for (u32 w = 1; w < 32; w *= 2) {
      const float other = shuffle_up(m, w);
      if (lane() >= w && other > m) m = other;
    }
    m = top > m ? top : m;
    float previous = shuffle_up(m, 1);
    if (lane() == 0) previous = top;
    const float before = exp32(sub32(previous, m)), after = exp32(sub32(own, m));
    top = shuffle_from(m, 31);
    UNROLL_BY(1)
    for (u32 first = begin; first < end; first += 4) {
      await_words(sum, sums + (u64)first * stride, stride, last, h.tag);
      UNROLL
      for (u32 i = 0; i < 4; i++)
        if (first + i < end) {
          const u32 from = (first + i) % 32;
          const float a = shuffle_from(before, from), b = shuffle_from(after, from), lc = shuffle_from(length, from);
          if (first + i == 0) {
            l = lc, o = from_bits((u32)sum[i]);
          } else {
            l = fma32(lc, b, mul32(l, a));
            o = fma32(from_bits((u32)sum[i]), b, mul32(o, a));
          }
        }
    }
  }
  publish(att + place(first + lane()), mul32(o, div32(1.0f, l)));
}

// Room is a block's shared memory.
struct Room {
  float *keys, *values;  // of a chunk: [dim][64] and [64][dim]
  float* scratch;        // of attention
  float* turn;           // angles of the position
  f32x4* vector;
  u8* codes;  // of the vector
  i32* sums;  // of lines
  Layer* table;  // two
  Exchange* exchange;
};
FN Room room_of(u8* base, u32 dim, u32 shared, u32 widest, u32 most_lines) {
  Room r;
  r.keys = (float*)base;
  r.values = r.keys + kPage * dim;
  r.scratch = r.values + kPage * dim;
  r.turn = r.scratch + (shared + 2) * dim + shared * kPage;
  r.vector = (f32x4*)(r.turn + dim);
  r.codes = (u8*)(r.vector + (widest + kBlock - 1) / kBlock * (kBlock / 4));
  r.sums = (i32*)(r.codes + widest);
  r.table = (Layer*)(r.sums + most_lines * 16);
  r.exchange = (Exchange*)(r.table + 2);
  return r;
}

// step is a step in a block, whose shared memory has the ring and then a Room. What a loop does not change a compiler keeps in registers, and
// here there would be too many of them: rooms are made anew in each turn.
template <u32 Stages>
FN void step(const State* state, const u32* steps, const Layer* layers, u32 count, float* vectors, u64* parts, float* x, float* logits, const float* angles, u64 page, u32 hidden, u32 ffn, u32 heads, u32 kv_heads, u32 dim, u32 vocab, float z, u32 mode,
             u32 widest, u32 most_lines, u32* bad) {
  const u32 shared = heads / kv_heads, q_dim = heads * dim, kv_dim = kv_heads * dim;
  const u32 phases = 4 * count + (logits ? 1 : 0);
  const u32 position = state->position, chunks = position / kPage + 1;
  // While there are blocks without a unit of attention, units of fewer heads take less time.
  u32 group = shared;
  while (group % 2 == 0 && kv_heads * (shared / group) * 2 * chunks <= blocks_x()) group /= 2;
  const u32 splits = shared / group, units = kv_heads * splits * chunks;
  auto room = [&]() INLINE { return room_of(shared_bytes() + opaque(Stages * kStage * 512), dim, shared, widest, most_lines); };
  auto kind_of = [&](u32 phase) INLINE { return phase == 4 * count ? (u32)kHead : phase % 4; };
  auto page_of = [&](u32 layer, u32 unit) INLINE { return (float*)(state->table[unit / (kv_heads * splits)] + layer * page) + (u64)(unit / splits % kv_heads) * dim * kPage; };

  if (thread() < kPhases) {
    const u32 inputs[] = {hidden, q_dim, hidden, ffn, hidden}, outputs[] = {q_dim + 2 * kv_dim, hidden, ffn, hidden, vocab};
    Shape s;
    s.columns = inputs[0] / 128, s.results = outputs[0] / 16;
    UNROLL
    for (u32 p = 1; p < kPhases; p++)
      if (thread() == p) s.columns = inputs[p] / 128, s.results = outputs[p] / 16;
    s.first = block_x() * s.results / blocks_x();
    s.own = (block_x() + 1) * s.results / blocks_x() - s.first;
    s.lines = thread() == kGateUp ? 2 * s.own : s.own;
    const u32 all = s.lines * s.columns, stages = (all + kStage - 1) / kStage;
    s.stage = stages > 0 ? (all + stages - 1) / stages : 0;
    s.reciprocal = ((1ull << 32) + s.columns - 1) / s.columns;
    room().exchange->shapes[thread()] = s;
  }
  auto tabulate = [&](u32 layer) INLINE {
    if (thread() < sizeof(Layer) / 8) ((u64*)(room().table + layer % 2))[thread()] = ((const u64*)(layers + layer))[thread()];
  };
  tabulate(0);
  UNROLL_BY(1)
  for (u32 i = thread(); i < most_lines * 16; i += kThreads) room().sums[i] = 0;
  UNROLL_BY(1)
  for (u32 i = thread(); i < dim; i += kThreads) room().turn[i] = angles[(u64)position * dim + i];
  if (thread() == 0) {
    Exchange* e = room().exchange;
    for (u32 i = 0; i < Stages; i++) arrivals_init(e->filled + i, 32), arrivals_init(e->emptied + i, kWarps);
    arrivals_init(&e->page_filled, 32), arrivals_init(&e->page_emptied, kWarps);
  }
  barrier();

  const u32 ring = shared_address(shared_bytes()) + lane() * 16;
  if (warp() == kWarps) {  // copies
    u32 turn = 0, pages = 0;
    auto copy_page = [&](u32 layer, u32 unit) INLINE {
      const Room r = room();
      if (pages > 0) arrivals_wait(&r.exchange->page_emptied, (pages - 1) % 2);
      pages++;
      const float* from = page_of(layer, unit);
      UNROLL_BY(1)
      for (u32 i = lane(); i < dim * kPage / 4; i += 32) {
        copy_async((f32x4*)r.keys + i, (const f32x4*)from + i);
        copy_async((f32x4*)r.values + i, (const f32x4*)(from + (u64)kv_dim * kPage) + i);
      }
      arrivals_announce(&r.exchange->page_filled);
    };
    UNROLL_BY(1)
    for (u32 phase = 0; phase < phases; phase++) {
      const u32 kind = kind_of(phase);
      if (kind == kQKV && block_x() < units) copy_page(phase / 4, block_x());
      if (kind == kO)
        UNROLL_BY(1)
      for (u32 unit = block_x() + blocks_x(); unit < units; unit += blocks_x()) copy_page(phase / 4, unit);
      const Room r = room();
      const Shape s = r.exchange->shapes[kind];
      const u8* tiles = (const u8*)(layers[phase / 4].matrices[phase % 4].tiles + s.first * s.columns * 32 + lane());
      const u32 all = s.lines * s.columns, split = s.own * s.columns;
      UNROLL_BY(1)
      for (u32 at = 0; at < all;) {
        const u32 slot = turn % Stages, end = least(at + s.stage, all);
        if (turn >= Stages) arrivals_wait(r.exchange->emptied + slot, (turn / Stages - 1) % 2);
        turn++;
        u32 to = ring + slot * kStage * 512;
        UNROLL_BY(1)
        while (at < end) {
          // The tiles of up lie further away.
          const u32 stop = at < split ? least(split, end) : end;
          const u8* from = tiles + (u64)(at < split ? at : at + (s.results - s.own) * s.columns) * 512;
          UNROLL_BY(1)
          for (; at + 4 <= stop; at += 4, to += 2048, from += 2048) copy_async_to(to, from), copy_async_to(to + 512, from + 512), copy_async_to(to + 1024, from + 1024), copy_async_to(to + 1536, from + 1536);
          UNROLL_BY(1)
          for (; at < stop; at++, to += 512, from += 512) copy_async_to(to, from);
        }
        arrivals_announce(r.exchange->filled + slot);
      }
    }
    copy_wait_all();
    return;
  }

  const u32 first_tag = *steps * count + 1;
  u32 taken = 0, pages = 0;  // stages and pages
  UNROLL_BY(1)
  for (u32 phase = 0; phase < phases; phase++) {
    // Vectors of the layer, in the order of their use.
    const u32 layer = phase / 4, kind = kind_of(phase);
    float* in = vectors + (u64)layer * (2 * hidden + 2 * q_dim + 2 * kv_dim + ffn);
    float* qkv = in + hidden;
    float* att = qkv + q_dim + 2 * kv_dim;
    float* middle = att + q_dim;
    float* gated = middle + hidden;
    float* out = gated + ffn;  // the next layer's in
    const u32 site = layer * 8 + (kind == kO ? 3 : kind == kGateUp ? 5 : kind == kDown ? 6 : 0);

    if (kind == kO) {
      const Heads h = {heads, kv_heads, shared, group, dim, position, chunks, first_tag + layer, z, qkv, parts};
      UNROLL_BY(1)
      for (u32 unit = block_x(); unit < units; unit += blocks_x()) {
        const Room r = room();
        attend_unit(h, unit / splits % kv_heads, unit % splits * group, unit / (kv_heads * splits), r.keys, r.values, r.scratch, r.turn, &r.exchange->page_filled, pages % 2, r.table + layer % 2, page_of(layer, unit), bad, site - 2);
        pages++;
        compute_barrier();
        if (lane() == 0) arrivals_arrive(&r.exchange->page_emptied);
      }
      UNROLL_BY(1)
      for (u32 slice = block_x() + warp() * blocks_x(); slice < q_dim / 32; slice += kWarps * blocks_x()) merge_slice(h, slice * 32, att);
    }
    if (kind == kGateUp) tabulate(layer + 1);

    // The input: what does not depend on it first.
    const Room r = room();
    const Shape s = r.exchange->shapes[kind];
    const Matrix* m = &r.table[layer % 2].matrices[phase % 4];
    const u32 n = s.columns * 128, threads = s.own * 16;
    const bool pairs = s.lines > s.own, biased = m->bias != nullptr, adds = kind == kO || kind == kDown;
    float scale = 0, shift = 0, up_scale = 0, up_shift = 0, old = 0;
    auto factors = [&](u32 i) INLINE {
      const u32 row = s.first * 16 + i, up = row + s.results * 16;
      scale = m->scales[row];
      if (pairs) up_scale = m->scales[up];
      if (biased) shift = m->bias[row];
      if (biased && pairs) up_shift = m->bias[up];
      if (adds) {
        // The residual stream, which the phase before took as its input.
        u32 word[1];
        const u32* from = (const u32*)(kind == kO ? in : middle) + place(row);
        await_words(word, from, 0, from);
        old = from_bits(word[0]);
        if (m[-1].pre.kind != kNoNorm) old = normalized(r.exchange->pre, old, m[-1].pre.w, m[-1].pre.b, row, m[-1].pre.kind);
      }
    };
    if (thread() < threads) factors(thread());
    const float a = quantize_vector(r.codes, r.vector, r.exchange, kind == kO ? att : kind == kGateUp ? middle : kind == kDown ? gated : in, n, m, bad, site);
    compute_barrier();
    const i32 excess = 2 * warp_sum(lane() < kWarps ? r.exchange->sums[lane()] : 0);  // the codes of trits are 2 more than the trits

    // The product, a stage of tiles at a time.
    const u32 all = s.lines * s.columns;
    UNROLL_BY(1)
    for (u32 begin = 0; begin < all; begin += s.stage) {
      const u32 slot = taken % Stages, tiles = least(s.stage, all - begin);
      u32 i = warp() * tiles / kWarps;
      const u32 stop = (warp() + 1) * tiles / kWarps;
      u32 line = (begin + i) * s.reciprocal >> 32;
      u32 left = (line + 1) * s.columns - (begin + i);
      u32 q = shared_address(r.codes) + (s.columns - left) * 128 + lane() % 4 * 32, w = ring + (slot * kStage + i) * 512;
      arrivals_wait(r.exchange->filled + slot, taken / Stages % 2);
      taken++;
      UNROLL_BY(1)
      while (i < stop) {
        u32 len = least(stop - i, left);  // in one line
        i += len, left -= len;
        i32 acc[4][4] = {};
        auto tile = [&](u32 at) INLINE {
          const u32x4 t = load_shared(w + 512 * at), low = load_shared(q + 128 * at), high = load_shared(q + 128 * at + 16);
          mma_u8(acc[0], t.x & 0x03030303, t.y & 0x03030303, t.z & 0x03030303, t.w & 0x03030303, low.x, low.y);
          mma_u8(acc[1], t.x & 0x0c0c0c0c, t.y & 0x0c0c0c0c, t.z & 0x0c0c0c0c, t.w & 0x0c0c0c0c, low.z, low.w);
          mma_u8(acc[2], t.x & 0x30303030, t.y & 0x30303030, t.z & 0x30303030, t.w & 0x30303030, high.x, high.y);
          mma_u8(acc[3], t.x & 0xc0c0c0c0, t.y & 0xc0c0c0c0, t.z & 0xc0c0c0c0, t.w & 0xc0c0c0c0, high.z, high.w);
        };
        UNROLL_BY(1)
        for (; len >= 2; len -= 2, w += 1024, q += 256) tile(0), tile(1);
        if (len > 0) tile(0), w += 512, q += 128;
        // The masked codes of plane p are 4^p times too great, and so is their sum.
        if (lane() % 4 == 0) {
          i32* sum = r.sums + line * 16 + lane() / 4;
          shared_add(sum, acc[0][0] + (acc[1][0] >> 2) + (acc[2][0] >> 4) + (acc[3][0] >> 6));
          shared_add(sum + 8, acc[0][2] + (acc[1][2] >> 2) + (acc[2][2] >> 4) + (acc[3][2] >> 6));
        }
        line++, left = s.columns;
        q -= s.columns * 128;
      }
      warp_barrier();
      if (lane() == 0) arrivals_arrive(r.exchange->emptied + slot);
    }
    compute_barrier();

    // The results.
    UNROLL_BY(1)
    for (u32 i = thread(); i < threads; i += kThreads) {
      if (i >= kThreads) factors(i);
      auto result = [&](u32 i, float scale, float shift) INLINE {
        const float v = mul32(to_float(r.sums[i] - excess), div32(mul32(scale, a), 127.0f));
        r.sums[i] = 0;
        return biased ? add32(v, shift) : v;
      };
      const u32 row = s.first * 16 + i;
      float v = result(i, scale, shift);
      if (pairs) {
        if (mode == kReLU2) {
          v = v <= 0 ? 0.0f : v;
          v = mul32(v, v);
        } else {
          v = div32(v, add32(1.0f, exp32(-v)));
        }
        v = mul32(v, result(threads + i, up_scale, up_shift));
      }
      if (adds) v = add32(old, v);
      if (kind == kHead)
        logits[row] = v;
      else
        publish(kind == kQKV ? qkv + row : (kind == kO ? middle : kind == kGateUp ? gated : out) + place(row), v);
      if (phase + 1 == 4 * count) x[row] = v;
    }
  }
}

#define STEP(name, stages)                                                                                                                                                                                                           \
  BOUNDED_KERNEL(kThreads + 32, 1, name, const State* state, const u32* steps, const Layer* layers, u32 count, float* vectors, u64* parts, float* x, float* logits, const float* angles, u64 page, u32 hidden, u32 ffn, u32 heads, \
                 u32 kv_heads, u32 dim, u32 vocab, float z, u32 mode, u32 widest, u32 most_lines, u32* bad) {                                                                                                                 \
    step<stages>(state, steps, layers, count, vectors, parts, x, logits, angles, page, hidden, ffn, heads, kv_heads, dim, vocab, z, mode, widest, most_lines, bad);                                                           \
  }
STEP(decode_step_3, 3)
STEP(decode_step_2, 2)
STEP(decode_step_1, 1)

// begin_step prepares a step: it counts steps, empties the n words of vectors, and makes the first hidden of them the state's row of the embedding.
KERNEL(begin_step, const State* state, u32* steps, float* vectors, u64 n, u32 hidden, const u8* w, const float* scales, u32 rows, u32 type) {
  const u32 row = least(state->token, rows - 1);
  const u32 size = type == kF32 ? 4 : type == kI8 ? 1 : 2, count = 16 / size, chunks = (hidden + 32 * count - 1) / (32 * count);
  const u64 self = (u64)block_x() * threads() + thread();
  if (self == 0) ++*steps;
  for (u64 i = self; i < hidden; i += (u64)blocks_x() * threads()) {
    const u8* e = w + ((u64)row * chunks + i / (32 * count)) * 512 + i % 32 * 16 + i % (32 * count) / 32 * size;
    float v;
    if (type == kF32)
      v = *(const float*)e;
    else if (type == kF16)
      v = widen16(*(const u16*)e);
    else if (type == kBF16)
      v = from_bits((u32) * (const u16*)e << 16);
    else
      v = to_float(*(const i8*)e);
    publish(vectors + place(i), scales ? mul32(v, scales[row]) : v);
  }
  for (u64 i = hidden / 4 + self; i < n / 4; i += (u64)blocks_x() * threads()) ((u32x4*)vectors)[i] = {kEmpty, kEmpty, kEmpty, kEmpty};
}

// place_vector puts n elements into the order of place.
KERNEL(place_vector, float* to, const float* from, u32 n) {
  for (u32 i = block_x() * threads() + thread(); i < n; i += blocks_x() * threads()) to[place(i)] = from[i];
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
