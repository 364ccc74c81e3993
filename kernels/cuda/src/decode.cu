// One token of one sequence through every layer, in one kernel that fills the device.
//
// A step of one token reads every weight once and has little to compute: what counts is that memory never waits for
// arithmetic. Weights depend on nothing, so each warp copies the tiles that it will multiply into a ring of its own in
// shared memory, as far ahead as there is room, through all layers without a break; only activations travel between
// blocks.
//
// They do so without barriers of the grid: every vector of every layer has a place of its own in memory, which
// begin_step fills with a bit pattern that is no result (kEmpty). A block publishes what it computes, a word at a time,
// and a block that needs a word reads it until it is there. Chunks of attention, whose number grows with the context,
// share one place for all layers: there a word comes with a tag that names the step and the layer. No block can be
// ahead of another by more than one vector, since each has a part in every vector, and needs all of the one before.
//
// Each product of a matrix and a vector splits rows of tiles over the blocks, and tiles over the warps of a block; every
// block normalizes and quantizes the whole vector for itself. From one vector to the next there is one chain of
// instructions, with few warps to hide what each of them waits for: its length is the time that a step takes.
//
// The ladder, bitnet-b1.58-2B-4T with a bfloat16 head at position 128 on an H200, microseconds a token:
//
//	1  five kernels a layer, programmatic dependent launch               1,185
//	2  one kernel; of 16 warps, one sums the squares of 1,024 elements
//	   and quantizes them, all of them in registers                      1,995
//	3  vectors pass through shared memory, all warps take part           1,190
//	4  loops in place of unrolled code, no registers spilled             1,127
//	5  8 warps, tiles of a row in a loop of 31 instructions                997
#include "dense.cuh"

enum : u32 { kWarps = 8, kThreads = 32 * kWarps, kEmpty = 0xffffffff };

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
struct Shape {
  u32 columns, results, first, own, lines;
};

// Exchange is what the warps of a block tell each other.
struct Exchange {
  Shape shapes[kPhases];
  float part[2 * kWarps];  // sums of blocks of elements
  u32 tops[kWarps];
  i32 sums[kWarps];  // of codes
  Deviation pre;     // of the residual stream
  u64 arrived;       // pages in shared memory
};

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

// await_words reads `count` of N words, `step` from one to the next, until they are there. While the first is not, the others are
// left alone: all blocks wait at the same time, and each read is traffic.
template <int N, class W>
FN void await_words(W (&w)[N], const W* from, u64 step, u32 count, u32 tag = 0) {
  w[0] = load_relaxed(from);
  while (!there(w[0], tag)) {
    idle();
    w[0] = load_relaxed(from);
  }
  UNROLL
  for (int k = 1; k < N; k++)
    if ((u32)k < count) w[k] = load_relaxed(from + k * step);
  for (bool all = false; !all;) {
    all = true;
    UNROLL
    for (int k = 1; k < N; k++)
      if ((u32)k < count && !there(w[k], tag)) {
        all = false;
        w[k] = load_relaxed(from + k * step);
      }
    if (!all) idle();
  }
}

enum : u32 { kQuads = 8 };  // of a vector that a thread takes at a time

// sum_blocks is a vector sum of section 3 over a vector in shared memory of n elements, at most 16 blocks: own gives what a lane has of the
// kBlock elements from one on. It begins and ends with a barrier.
template <class Own>
FN float sum_blocks(u32 n, Exchange* x, Own own) {
  const u32 blocks = (n + kBlock - 1) / kBlock;
  barrier();
  UNROLL_BY(1)
  for (u32 block = warp(); block < blocks; block += kWarps) {
    const float l = fold(own(block * kBlock));
    if (lane() == 0) x->part[block] = l;
  }
  barrier();
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

// quantize_vector waits for a vector of n elements, a multiple of 128, normalizes it by pre and by norm, and quantizes it
// into codes, in the order of code_word. It returns their absolute maximum. It ends before a barrier.
//
// Every block does this for every matrix, and all wait for it: what counts is the number of instructions from the last word that
// arrives to the last code.
FN float quantize_vector(u8* codes, f32x4* v, Exchange* x, const float* from, u32 n, const Matrix* m, u32* bad, u32 site) {
  const u32 quads = n / 4;
  const bool rms = m->own.kind == kRMS;
  const f32x4* gain = (const f32x4*)m->gain;
  u32 top = 0;
  auto take = [&](const f32x4& e, const f32x4& g) INLINE {
    top = greatest(greatest(top, bits(mul32(e.x, g.x)) & kMagnitude), bits(mul32(e.y, g.y)) & kMagnitude);
    top = greatest(greatest(top, bits(mul32(e.z, g.z)) & kMagnitude), bits(mul32(e.w, g.w)) & kMagnitude);
  };
  UNROLL_BY(1)
  for (u32 first = thread(); first < quads; first += kQuads * kThreads) {
    f32x4 g[kQuads];
    UNROLL
    for (u32 k = 0; k < kQuads; k++) {
      const u32 at = least(first + k * kThreads, quads - 1);
      g[k].x = g[k].y = g[k].z = g[k].w = 1;
      if (rms) g[k].x = gain[at].x, g[k].y = gain[at].y, g[k].z = gain[at].z, g[k].w = gain[at].w;
    }
    u32x4 words[kQuads];
    await_words(words, (const u32x4*)from + first, kThreads, (quads - first + kThreads - 1) / kThreads);
    UNROLL
    for (u32 k = 0; k < kQuads; k++)
      if (first + k * kThreads < quads) {
        const f32x4 e = {from_bits(words[k].x), from_bits(words[k].y), from_bits(words[k].z), from_bits(words[k].w)};
        v[first + k * kThreads] = e;
        take(e, g[k]);
      }
  }
  // Zeros up to a whole block change no sum of squares.
  UNROLL_BY(1)
  for (u32 at = quads + thread(); at < (n + kBlock - 1) / kBlock * (kBlock / 4); at += kThreads) v[at] = {0, 0, 0, 0};
  if (m->own.kind == kLayer || m->pre.kind != kNoNorm) {
    if (m->pre.kind != kNoNorm) {
      const Deviation d = normalize_vector(v, n, x, m->pre);
      if (!d.ok) atomic_min(bad, site - 1);
      if (thread() == 0) x->pre = d;
      barrier();
    }
    if (m->own.kind == kLayer) {
      const Deviation d = normalize_vector(v, n, x, m->own);
      if (!d.ok) atomic_min(bad, site);
      barrier();
    }
    top = 0;
    UNROLL_BY(1)
    for (u32 at = thread(); at < quads; at += kThreads) take(v[at], rms ? gain[at] : f32x4{1, 1, 1, 1});
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
    barrier();
  }
  top = warp_greatest(x->tops[lane() % kWarps]);
  float a = mul32(from_bits(top), r);
  if (!finite(a)) atomic_min(bad, site);
  a = at_least_least(a);
  const float factor = quantum(a);
  u8* to = codes + warp() * 128 + (lane() >> 2 & 3) * 32 + (lane() >> 4) * 4 + (lane() & 3);
  i32 sum = 0;
  UNROLL_BY(2)
  for (u32 at = thread(); at < quads; at += kThreads) {
    f32x4 e = v[at];
    if (rms) {
      const f32x4 g = gain[at];
      e = {mul32(mul32(e.x, g.x), r), mul32(mul32(e.y, g.y), r), mul32(mul32(e.z, g.z), r), mul32(mul32(e.w, g.w), r)};
    }
    const u32 c0 = code(e.x, factor), c1 = code(e.y, factor), c2 = code(e.z, factor), c3 = code(e.w, factor);
    to[0] = (u8)c0, to[8] = (u8)c1, to[16] = (u8)c2, to[24] = (u8)c3;
    to += kWarps * 128;
    sum += (i8)c0 + (i8)c1 + (i8)c2 + (i8)c3;
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
  await_words(words, (const u32*)from + lane(), 32, dim / 32);
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

// Heads is the geometry of attention. A unit of it is a chunk of one kv head.
struct Heads {
  u32 heads, kv_heads, shared, dim;
  u32 position, chunks, tag;
  float z;
  const float* qkv;
  u64* parts;  // for each kv head and chunk: shared*dim sums, shared maxima, shared totals
};

// attend_unit computes the query heads of a kv head over the 64 positions of a chunk, keys as [dim][64] and
// values as [64][dim]. The unit of the newest chunk first stores the new key and value.
FN void attend_unit(const Heads& h, u32 kv, u32 chunk, float* keys, float* values, float* scratch, const float* turn, const Layer* layer, float* page_keys, float* page_values, u32* bad, u32 site) {
  const u32 dim = h.dim, shared = h.shared;
  const u32 count = least(kPage, h.position + 1 - chunk * kPage), slot = h.position % kPage;
  const bool newest = chunk + 1 == h.chunks;
  float* heads_of = scratch;                  // shared queries, the new key and the new value
  float* weights = scratch + (shared + 2) * dim;  // [shared][64]
  const float* k = h.qkv + h.heads * dim + kv * dim;
  const float* v = k + h.kv_heads * dim;
  UNROLL_BY(1)
  for (u32 w = warp(); w < shared + 2 * newest; w += kWarps)
    prepare_head(heads_of + w * dim, w < shared ? h.qkv + (kv * shared + w) * dim : w == shared ? k : v, dim, w < shared ? &layer->q : w == shared ? &layer->k : nullptr, turn, bad, w < shared ? site : site + 1);
  barrier();
  if (newest) {
    UNROLL_BY(1)
    for (u32 i = thread(); i < dim; i += kThreads) {
      const float key = heads_of[shared * dim + i], value = heads_of[(shared + 1) * dim + i];
      keys[i * kPage + slot] = key;
      values[slot * dim + i] = value;
      page_keys[i * kPage + slot] = key;
      page_values[slot * dim + i] = value;
    }
    barrier();
  }
  // A thread takes two heads, for which it reads a key once.
  UNROLL_BY(1)
  for (u32 at = thread(); at < (shared + 1) / 2 * kPage; at += kThreads) {
    const u32 j = at % kPage, head = at / kPage * 2, other = least(head + 1, shared - 1);
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
    if (head + 1 < shared) weights[head * kPage + kPage + j] = mul32(s1, h.z);
  }
  barrier();
  u64* part = h.parts + ((u64)kv * h.chunks + chunk) * shared * (dim + 2);
  UNROLL_BY(1)
  for (u32 w = warp(); w < shared; w += kWarps) {
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
      publish_tagged(part + shared * dim + w, m, h.tag);
      publish_tagged(part + shared * dim + shared + w, l, h.tag);
    }
  }
  barrier();
  UNROLL_BY(1)
  for (u32 at = thread(); at < (shared + 1) / 2 * dim; at += kThreads) {
    const u32 i = at % dim, head = at / dim * 2, other = least(head + 1, shared - 1);
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
    publish_tagged(part + head * dim + i, o0, h.tag);
    if (head + 1 < shared) publish_tagged(part + head * dim + dim + i, o1, h.tag);
  }
}

// merge_slice merges the chunks of 32 elements of a query head, in order, and publishes the result. One warp.
FN void merge_slice(const Heads& h, u32 first, float* att) {
  const u32 dim = h.dim, shared = h.shared, head = first / dim, stride = shared * (dim + 2);
  const u64* part = h.parts + (u64)(head / shared) * h.chunks * stride;
  const u64* tops = part + shared * dim + head % shared;
  const u64* sums = part + head % shared * dim + first % dim + lane();
  float top = from_bits(0xff800000), l = 0, o = 0;
  UNROLL_BY(1)
  for (u32 begin = 0; begin < h.chunks; begin += 32) {
    // Of the chunks of a round each lane has one: its maximum, the greatest so far, and the factors of section 12.
    const u32 c = begin + lane();
    const float none = from_bits(0xff800000);
    u64 words[2];
    await_words(words, tops + (u64)least(c, h.chunks - 1) * stride, shared, 2, h.tag);
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
    const u32 end = least(begin + 32, h.chunks);
    UNROLL_BY(1)
    for (u32 first = begin; first < end; first += 8) {
      u64 sum[8];
      await_words(sum, sums + (u64)first * stride, stride, end - first, h.tag);
      UNROLL
      for (u32 i = 0; i < 8; i++)
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

// wait_for waits until at most about n groups of copies are under way.
template <u32 Depth>
FN void wait_for(u32 n) {
  if (n >= Depth * 3 / 4)
    copy_wait<Depth * 3 / 4>();
  else if (n >= Depth / 2)
    copy_wait<Depth / 2>();
  else if (n >= Depth / 4)
    copy_wait<Depth / 4>();
  else
    copy_wait<0>();
}

// Room is a block's shared memory.
struct Room {
  float *keys, *values;  // of a chunk: [dim][64] and [64][dim]; only of a step with stages
  float* scratch;        // of attention
  float* turn;           // angles of the position
  f32x4* vector;
  u8* codes;  // of the vector
  i32* sums;  // of lines
  Layer* table;  // two
  Exchange* exchange;
};
FN Room room_of(u8* base, bool staged, u32 dim, u32 shared, u32 widest, u32 most_lines) {
  Room r;
  r.keys = (float*)base;
  r.values = r.keys + kPage * dim;
  r.scratch = r.keys + (staged ? 2 * kPage * dim : 0);
  r.turn = r.scratch + (shared + 2) * dim + shared * kPage;
  r.vector = (f32x4*)(r.turn + dim);
  r.codes = (u8*)(r.vector + (widest + kBlock - 1) / kBlock * (kBlock / 4));
  r.sums = (i32*)(r.codes + widest);
  r.table = (Layer*)(r.sums + most_lines * 16);
  r.exchange = (Exchange*)(r.table + 2);
  return r;
}

// step is a step in a block, whose shared memory has the rings, Depth tiles for each warp, and then a Room. Staged when the keys and values of
// the block's first unit are copied ahead into shared memory; it is for devices that have enough. What a loop does not change a compiler keeps in registers, and
// here there would be too many of them: rooms are made anew in each turn.
template <u32 Depth, bool Staged>
FN void step(const State* state, const u32* steps, const Layer* layers, u32 count, float* vectors, u64* parts, float* x, float* logits, const float* angles, u64 page, u32 hidden, u32 ffn, u32 heads, u32 kv_heads, u32 dim, u32 vocab, float z, u32 mode,
             u32 widest, u32 most_lines, u32* bad) {
  const u32 g = lane() / 4, t = lane() % 4, shared = heads / kv_heads;
  auto room = [&]() INLINE { return room_of(shared_bytes() + opaque(kWarps * Depth * 512), Staged, dim, shared, widest, most_lines); };
  const u32 phases = 4 * count + (logits ? 1 : 0);
  const u32 q_dim = heads * dim, kv_dim = kv_heads * dim;
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
    room().exchange->shapes[thread()] = s;
  }
  auto tabulate = [&](u32 layer) INLINE {
    if (thread() < sizeof(Layer) / 8) ((u64*)(room().table + layer % 2))[thread()] = ((const u64*)(layers + layer))[thread()];
  };
  tabulate(0);
  UNROLL_BY(1)
  for (u32 i = thread(); i < most_lines * 16; i += kThreads) room().sums[i] = 0;
  if (thread() == 0) arrivals_init(&room().exchange->arrived, kThreads);
  barrier();

  // The ring: tiles from `at` to `end` of a phase are still to be copied, those from split on further away by jump.
  const u32 ring = shared_address(shared_bytes()) + (warp() * Depth * 32 + lane()) * 16;
  u32 copying = 0, at = 0, end = 0, split = 0, jump = 0, full = 0, next = 0;  // slots to fill and to use
  const u8* tiles = nullptr;
  auto begin_copies = [&]() INLINE {
    const Shape* s = room().exchange->shapes + (copying == 4 * count ? (u32)kHead : copying % 4);
    const u32 all = s->lines * s->columns;
    at = warp() * all / kWarps, end = (warp() + 1) * all / kWarps;
    split = s->own * s->columns, jump = (s->results - s->own) * s->columns;
    tiles = (const u8*)(layers[copying / 4].matrices[copying % 4].tiles + s->first * s->columns * 32 + lane());
  };
  // refill fills n slots of the ring. There is a group of copies for each, if perhaps an empty one, so that their number says which
  // have arrived.
  auto refill = [&](u32 n) INLINE {
    UNROLL_BY(1)
    while (n > 0) {
      if (at == end && copying + 1 < phases) {
        copying++;
        begin_copies();
        continue;
      }
      // As many as lie in one piece, both there and here.
      u32 len = least(n, Depth - full);
      const bool any = at < end;
      if (any) len = least(len, (at < split ? least(split, end) : end) - at);
      const u8* from = tiles + (u64)(at >= split ? at + jump : at) * 512;
      u32 to = ring + full * 512;
      n -= len, full += len;
      if (full == Depth) full = 0;
      if (any) at += len;
      UNROLL_BY(1)
      for (; len > 0; len--) {
        if (any) copy_async_to(to, from);
        copy_commit();
        from += 512, to += 512;
      }
    }
  };
  begin_copies();
  refill(Depth);

  const u32 position = state->position, units = kv_heads * (position / kPage + 1), first_tag = *steps * count + 1;
  u32 parity = 0;
  auto page_of = [&](u32 layer, u32 unit) INLINE { return (float*)(state->table[unit / kv_heads] + layer * page) + (u64)(unit % kv_heads) * dim * kPage; };
  auto copy_page = [&](u32 layer, u32 unit) INLINE {
    const float* from = page_of(layer, unit);
    const Room r = room();
    UNROLL_BY(1)
    for (u32 i = thread(); i < dim * kPage / 4; i += kThreads) {
      copy_async((f32x4*)r.keys + i, (const f32x4*)from + i);
      copy_async((f32x4*)r.values + i, (const f32x4*)(from + (u64)kv_dim * kPage) + i);
    }
    arrivals_announce(&r.exchange->arrived);
  };
  if (block_x() < units) {
    UNROLL_BY(1)
    for (u32 i = thread(); i < dim; i += kThreads) room().turn[i] = angles[(u64)position * dim + i];
    if (Staged) copy_page(0, block_x());
  }

  UNROLL_BY(1)
  for (u32 phase = 0; phase < phases; phase++) {
    // Vectors of the layer, in the order of their use.
    const u32 layer = phase / 4, kind = phase == 4 * count ? (u32)kHead : phase % 4;
    float* in = vectors + (u64)layer * (2 * hidden + 2 * q_dim + 2 * kv_dim + ffn);
    float* qkv = in + hidden;
    float* att = qkv + q_dim + 2 * kv_dim;
    float* middle = att + q_dim;
    float* gated = middle + hidden;
    float* out = gated + ffn;  // the next layer's in
    const u32 site = layer * 8 + (kind == kO ? 3 : kind == kGateUp ? 5 : kind == kDown ? 6 : 0);

    if (kind == kO) {
      const Heads h = {heads, kv_heads, shared, dim, position, position / kPage + 1, first_tag + layer, z, qkv, parts};
      UNROLL_BY(1)
      for (u32 unit = block_x(); unit < units; unit += blocks_x()) {
        const Room r = room();
        float* page_keys = page_of(layer, unit);
        float* page_values = page_keys + (u64)kv_dim * kPage;
        if (Staged) {
          if (unit != block_x()) copy_page(layer, unit);
          arrivals_wait(&r.exchange->arrived, parity);
          parity ^= 1;
        }
        attend_unit(h, unit % kv_heads, unit / kv_heads, Staged ? r.keys : page_keys, Staged ? r.values : page_values, r.scratch, r.turn, r.table + layer % 2, page_keys, page_values, bad, site - 2);
        barrier();
      }
      if (Staged && block_x() < units && layer + 1 < count) copy_page(layer + 1, block_x());
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
        await_words(word, (const u32*)(kind == kO ? in : middle) + place(row), 0, 1);
        old = from_bits(word[0]);
        if (m[-1].pre.kind != kNoNorm) old = normalized(r.exchange->pre, old, m[-1].pre.w, m[-1].pre.b, row, m[-1].pre.kind);
      }
    };
    if (thread() < threads) factors(thread());
    const float a = quantize_vector(r.codes, r.vector, r.exchange, kind == kO ? att : kind == kGateUp ? middle : kind == kDown ? gated : in, n, m, bad, site);
    barrier();
    const i32 excess = 2 * warp_sum(lane() < kWarps ? r.exchange->sums[lane()] : 0);  // the codes of trits are 2 more than the trits

    // The product.
    const u32 all = s.lines * s.columns, stop = (warp() + 1) * all / kWarps;
    u32 i = warp() * all / kWarps, line = i / s.columns, left = s.columns - (i - line * s.columns), used = 0;
    u32 q = shared_address(r.codes) + (s.columns - left) * 128 + t * 32;
    i32 acc[4][4] = {};
    UNROLL_BY(1)
    while (i < stop) {
      refill(used);
      used = least(stop - i, Depth);
      wait_for<Depth>(Depth - used);
      UNROLL_BY(1)
      for (u32 rest = used; rest > 0;) {
        // As many as lie in one line, and before the ring's end.
        u32 len = least(least(rest, left), Depth - next), slot = ring + next * 512;
        rest -= len, i += len, left -= len, next += len;
        if (next == Depth) next = 0;
        UNROLL_BY(1)
        for (; len > 0; len--) {
          const u32x4 w = load_shared(slot), low = load_shared(q), high = load_shared(q + 16);
          slot += 512, q += 128;
          mma_u8(acc[0], w.x & 0x03030303, w.y & 0x03030303, w.z & 0x03030303, w.w & 0x03030303, low.x, low.y);
          mma_u8(acc[1], w.x & 0x0c0c0c0c, w.y & 0x0c0c0c0c, w.z & 0x0c0c0c0c, w.w & 0x0c0c0c0c, low.z, low.w);
          mma_u8(acc[2], w.x & 0x30303030, w.y & 0x30303030, w.z & 0x30303030, w.w & 0x30303030, high.x, high.y);
          mma_u8(acc[3], w.x & 0xc0c0c0c0, w.y & 0xc0c0c0c0, w.z & 0xc0c0c0c0, w.w & 0xc0c0c0c0, high.z, high.w);
        }
        if (left == 0 || i == stop) {
          // The masked codes of plane p are 4^p times too great, and so is their sum.
          if (t == 0) {
            shared_add(r.sums + line * 16 + g, acc[0][0] + (acc[1][0] >> 2) + (acc[2][0] >> 4) + (acc[3][0] >> 6));
            shared_add(r.sums + line * 16 + g + 8, acc[0][2] + (acc[1][2] >> 2) + (acc[2][2] >> 4) + (acc[3][2] >> 6));
          }
          UNROLL
          for (int p = 0; p < 4; p++)
            UNROLL
          for (int e = 0; e < 4; e++) acc[p][e] = 0;
          left = s.columns, line++;
          q -= s.columns * 128;
        }
      }
    }
    barrier();

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
    // Copies come behind what others wait for.
    refill(used);
  }
}

#define STEP(name, depth, staged)                                                                                                                                                                                                       \
  BOUNDED_KERNEL(kThreads, 1, name, const State* state, const u32* steps, const Layer* layers, u32 count, float* vectors, u64* parts, float* x, float* logits, const float* angles, u64 page, u32 hidden, u32 ffn, u32 heads, \
                 u32 kv_heads, u32 dim, u32 vocab, float z, u32 mode, u32 widest, u32 most_lines, u32* bad) {                                                                                                                 \
    step<depth, staged>(state, steps, layers, count, vectors, parts, x, logits, angles, page, hidden, ffn, heads, kv_heads, dim, vocab, z, mode, widest, most_lines, bad);                                                            \
  }
STEP(decode_step_24, 24, true)
STEP(decode_step_12, 12, true)
STEP(decode_step_small, 8, false)

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
