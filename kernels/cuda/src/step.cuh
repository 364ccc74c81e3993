// One token of one sequence through every layer, in one kernel that fills the device.
//
// A step of one token reads every weight once and has little to compute: what counts is that memory never waits for
// arithmetic, and then the chain of instructions from one vector to the next. Weights depend on nothing, so a warp of each
// block does nothing but copy the tiles that the block will multiply into a ring in shared memory, as far ahead as there is
// room, through all layers without a break; only activations travel between blocks.
//
// They do so without barriers of the grid: every vector of every layer has a place of its own in memory, which
// begin_step fills with a bit pattern that is no result (kEmpty). A block publishes what it computes, a word at a time,
// and a block that needs a word reads it until it is there. Chunks of attention, whose number grows with the context,
// share one place for all layers: there a word comes with a tag that names the step and the layer. No block can be
// ahead of another by more than one vector, since each has a part in every vector, and needs all of the one before.
//
// Each product of a matrix and a vector splits rows of tiles over the blocks, and tiles over the warps of a block; every
// block normalizes and quantizes the whole vector for itself. The warps of a block have three trades: eight compute, two make
// results of the sums while the eight already wait for the next vector, and one copies. In attention a warp takes one or two
// heads of a chunk from their scores to their sums, alone.
//
// The ladder, bitnet-b1.58-2B-4T with a bfloat16 head at position 128 on an H200, microseconds a token, and of them the layers:
//
//	1  five kernels a layer, programmatic dependent launch               1,185
//	2  one kernel; of 16 warps, one sums the squares of 1,024 elements
//	   and quantizes them, all of them in registers                      1,995
//	3  vectors pass through shared memory, all warps take part           1,190
//	4  loops in place of unrolled code, no registers spilled             1,127
//	5  8 warps, tiles of a row in a loop of 31 instructions                997   837
//	6  warps of three trades, tiles copied by the bulk, vectors padded
//	   to whole blocks, quotients and roots without branches               895   724
//	7  products by dp4a (of IMMA's eight columns seven are nothing),
//	   words awaited by a vote of the warp, no branch within a turn              557
//	8  heads in a warp each, their keys and values read in batches               489
//	9  tiles leave the second-level cache first                          660   486
//	10 without races, which moved shared memory off its lines            693   519
//	11 shared memory by whole lines, words that are there not read again 660
//
// Tritter 7B (LayerNorm of the residual stream after it, of inputs and of heads), position 128, a step: norms as loops over shared
// memory 1,540, in registers 1,004; with two copies under way 975.
//
// Tried without a gain: 120 or 108 blocks; five tiles a turn; one plane of four in the tensor cores; codes of the next turn read
// ahead; two turns unrolled; a word of each line awaited before all of a vector is read; products by bits on the tensor cores (mma.b1),
// whose eight columns are the bits of the codes: turns are faster and the token is not (docs/performance.md).
#pragma once
#include "dense.cuh"

enum : u32 {
  kWarps = 8,  // that compute
  kThreads = 32 * kWarps,
  kResultThreads = 64,
  kCopier = kWarps + kResultThreads / 32,  // the warp that copies
  kEmpty = 0xffffffff
};

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
// Placed are weights of a norm in the order of place, zero behind the last.
struct Placed {
  const float *w, *b;
};
// Matrix is one of whole tiles, and the norms of its input: pre is that of the residual stream itself, if it has one. gain is what
// quantize_vector multiplies by: the weights of own if that is kRMS, or ones.
struct Matrix {
  const u32x4* tiles;
  const float *scales, *bias;
  NormOf pre, own;
  Placed placed_pre, placed_own;  // where there is such a norm
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

// Tiles of a line are taken in groups of four, the last of which may be short. A warp takes a part of the groups of a block.
enum : u32 { kGroup = 4, kGroupBytes = kGroup * 512 };
struct Part {
  u32 line, group, count;  // the first group, and how many from there on
};

// Shape is what a block computes of a matrix: own rows of tiles of the result, from the first on. With a gate there are twice
// as many lines of tiles, those of up behind those of gate. The ring takes `turns` groups for each warp.
struct Shape {
  u32 columns, groups;        // tiles of a line, and groups of them
  u32 blocks;                 // of a vector sum: kBlock elements or less
  float inverse;              // of the number of elements
  u32 input, output;          // where the vectors of a layer are; with output 0, elsewhere
  u32 results, first, own, turns;
  Part parts[kWarps];
};

// Heads is the geometry of attention. A unit of it is a chunk of one kv head for `group` of its `shared` query heads, from `first` of them
// on; there are `splits` such groups.
struct Unit {
  u32 chunk, kv, first;
};
struct Heads {
  u32 heads, kv_heads, shared, group, splits, dim;
  u32 position, chunks, units;
  float z;
  u64* parts;  // for each kv head and chunk: shared*dim sums, shared maxima, shared totals
};

// Room says where in shared memory what has no fixed place is: angles of the position; queries, a new key and value, and scores; keys and values of a chunk,
// [dim][64] and [64][dim].
struct Room {
  u32 vector, sums, angles, scratch, keys, values;
};

template <u32 N>
struct Count {
  static constexpr u32 value = N;
};

enum : u32 { kStages = 8, kManyTurns = 16 };  // stages of the ring at most, and turns of a layer with one copy under way

// Exchange is what the warps of a block tell each other. What lies behind it begins with a line of shared memory: elsewhere a warp that
// reads 512 bytes touches a line more, and a token took 27 us more.
struct alignas(128) Exchange {
  Shape shapes[kPhases];
  Heads heads;
  Room room;
  alignas(16) float part[2 * kWarps];  // sums of blocks of elements
  alignas(16) float tops[kWarps];
  // Of the codes of each phase of a layer: a warp that makes no results may read them late.
  i32 sums[kPhases][kWarps];
  float maxima[kPhases];
  i32 spare[32];     // for what is nobody's
  Unit unit;         // the first of the block
  Deviation pre;     // of the residual stream
  alignas(16) u64 filled[kStages], emptied[kStages];  // stages of the ring
  u64 page_filled, page_emptied;                      // keys and values
  alignas(16) Layer table[2];
};

static_assert(sizeof(Exchange) + 64 <= 2560, "exchangeLen of decode.go must be greater");

// Barriers of some of the warps: of those that compute, and with them of those that make results, when codes are there and when sums
// are. For the latter none that computes waits.
FN void compute_barrier() { barrier_of(1, kThreads); }
FN void codes_barrier() { barrier_of(2, kThreads + kResultThreads); }
FN void sums_barrier() { barrier_of(3, kThreads + kResultThreads); }
FN void sums_ready() { barrier_arrive(3, kThreads + kResultThreads); }

// place is where element i of a vector lies, so that lane i%32 finds four of its elements side by side.
FN u32 place(u32 i) { return (i & ~1023u) | (i & 0x380) | (i & 31) << 2 | (i >> 5 & 3); }

// padded is the room of a vector of n elements: whole blocks, of which what lies behind the elements is always zero.
FN u32 padded(u32 n) { return (n + kBlock - 1) / kBlock * kBlock; }

// line_of rounds up to whole lines of shared memory.
FN u32 line_of(u32 bytes) { return (bytes + 127) / 128 * 128; }

// Vectors says where those of a layer lie behind each other, in the order of their use: the first is its input.
struct Vectors {
  u32 qkv, att, middle, gated, words;
};
FN Vectors vectors_of(u32 hidden, u32 q_dim, u32 kv_dim, u32 ffn) {
  Vectors v;
  v.qkv = padded(hidden), v.att = v.qkv + q_dim + 2 * kv_dim, v.middle = v.att + padded(q_dim), v.gated = v.middle + padded(hidden), v.words = v.gated + padded(ffn);
  return v;
}

FN void publish(float* p, float v) {
  const u32 u = bits(v);
  store_relaxed((u32*)p, u == kEmpty ? kMagnitude : u);
}
FN void publish_tagged(u64* p, float v, u32 tag) { store_relaxed(p, (u64)tag << 32 | bits(v)); }

FN bool there(const u32& v, u32) { return v != kEmpty; }
FN bool there(const u32x4& v, u32) { return v.x != kEmpty && v.y != kEmpty && v.z != kEmpty && v.w != kEmpty; }
FN bool there(const u64& v, u32 tag) { return (u32)(v >> 32) == tag; }

// await_each reads N words in each lane of a warp, the address of each from a function, but none behind last, until all are there.
// await_words reads words `step` from one to the next.
template <int N, class W, class At>
FN void await_each(W (&w)[N], At at, u32 last, u32 tag) {
  for (;;) {
    bool all = true;
    UNROLL
    for (u32 k = 0; k < N; k++) w[k] = load_relaxed(at(least(k, last)));
    UNROLL
    for (u32 k = 0; k < N; k++) all &= there(w[k], tag);
    if (warp_all(all)) return;
    idle();
  }
}
template <int N, class W>
FN void await_words(W (&w)[N], const W* from, u32 step, u32 last) {
  await_each(w, [=](u32 k) INLINE { return from + (u64)k * step; }, last, 0);
}

// unit_of is a unit of attention by its number.
FN Unit unit_of(const Heads& h, u32 unit) {
  Unit u;
  u.chunk = unit / (h.kv_heads * h.splits), u.kv = unit / h.splits % h.kv_heads, u.first = unit % h.splits * h.group;
  return u;
}

// exchange is the Exchange behind a ring of so many stages.
template <u32 Stages>
FN Exchange* exchange() {
  return (Exchange*)(shared_bytes() + Stages * kWarps * kGroupBytes);
}

// At is where the parts of shared memory are, as addresses in it. They are computed once: a pointer is made anew of the number of the
// block in its cluster where it is used.
struct At {
  u32 ring, exchange, codes, vector, sums;
};
#define OF(member) (at.exchange + (u32)__builtin_offsetof(Exchange, member))

// sum_parts adds the sums of up to 16 blocks, which are at part; what lies behind them in the first half is zero.
FN float sum_parts(u32 part, u32 blocks) {
  const u32x4 p = load_shared(part), q = load_shared(part + 16);
  float sum = add32(add32(add32(from_bits(p.x), from_bits(p.y)), from_bits(p.z)), from_bits(p.w));
  sum = add32(add32(add32(add32(sum, from_bits(q.x)), from_bits(q.y)), from_bits(q.z)), from_bits(q.w));
  UNROLL_BY(1)
  for (u32 i = kWarps; i < blocks; i++) sum = add32(sum, load_shared_float(part + 4 * i));
  return sum;
}

// mean_of is the quotient of a sum and n, and factor_of what a normalization multiplies by for the sum of n squares. inverse is 1/n.
FN float mean_of(float sum, float n, float inverse) {
  const float magnitude = from_bits(bits(sum) & kMagnitude), mean = ordinary_quotient(sum, n, inverse);
  return magnitude >= kOrdinaryLeast && magnitude <= kOrdinaryGreatest ? mean : div32(sum, n);
}
FN float factor_of(float squares, float n, float inverse, float eps) {
  const float r = ordinary_inverse(ordinary_root(add32(ordinary_quotient(squares, n, inverse), eps)));
  return squares >= kOrdinaryLeast && squares <= kOrdinaryGreatest ? r : div32(1.0f, sqrt32(add32(div32(squares, n), eps)));
}

// applied is an element of a normalization that is not kNoNorm, and b its bias, or -0, which changes no sum. The mean of kRMS is zero.
FN float applied(const Deviation& d, float x, float w, float b, u32 kind) {
  const bool layer = kind == kLayer;
  return add32(mul32(mul32(sub32(x, d.mean), layer ? d.r : w), layer ? w : d.r), b);
}

// normalize_vector normalizes the vector at v in place. It begins and ends with a barrier.
APART(bool) normalize_vector(u32 v, u32 n, u32 part, const NormOf* norm, Deviation* keep) {
  Deviation d = {0, 1, true};
  const u32 kind = norm->kind;
  auto each = [&](u32 block, auto step) INLINE {
    float l = 0;
    UNROLL_BY(1)
    for (u32 i = block + lane(); i < least(block + kBlock, n); i += 32) l = step(l, load_shared_float(v + 4 * i));
    return l;
  };
  auto sum = [&](auto step) INLINE {
    UNROLL_BY(1)
    for (u32 block = warp(); block == warp() || block * kBlock < n; block += kWarps) {
      const float l = fold(each(block * kBlock, step));
      if (lane() == 0) store_shared(part + 4 * block, l);
    }
    compute_barrier();
    return sum_parts(part, (n + kBlock - 1) / kBlock);
  };
  compute_barrier();
  if (kind == kLayer) {
    d.mean = div32(sum([](float l, float e) INLINE { return add32(l, e); }), (float)n);
    compute_barrier();
  }
  const float ss = sum([&](float l, float e) INLINE {
    e = sub32(e, d.mean);
    return fma32(e, e, l);
  });
  d.r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), norm->eps)));
  d.ok = finite(ss) && finite(d.r);
  if (keep && thread() == 0) *keep = d;
  const float *w = norm->w, *b = norm->b;
  UNROLL_BY(1)
  for (u32 i = thread(); i < n; i += kThreads) {
    const float y = normalized(d, load_shared_float(v + 4 * i), w, b, i, kind);
    store_shared(v + 4 * i, y);
    d.ok = d.ok && finite(y);
  }
  compute_barrier();
  return d.ok;
}

// spread_four stores elements that are 32 apart.
FN void spread_four(u32 to, const f32x4& v) { store_shared(to, v.x), store_shared(to + 128, v.y), store_shared(to + 256, v.z), store_shared(to + 384, v.w); }

// arrive waits for the elements of a block of a vector, four to a word, in one warp. gather waits for a vector and puts it into its order.
FN void arrive(u32x4 (&w)[kBlock / 128], const float* from, u32 block) {
  const u32x4* all = (const u32x4*)(from + block * kBlock) + lane();
  UNROLL
  for (u32 k = 0; k < kBlock / 128; k++) w[k] = {kEmpty, kEmpty, kEmpty, kEmpty};
  for (;;) {
    // What is there is not read again: all blocks ask for the same words.
    UNROLL
    for (u32 k = 0; k < kBlock / 128; k++) load_relaxed_if(!there(w[k], 0), w[k], all + 32 * k);
    bool missing = false;
    UNROLL
    for (u32 k = 0; k < kBlock / 128; k++) missing |= !there(w[k], 0);
    if (warp_all(!missing)) return;
    idle();
  }
}
FN void gather(u32 v, const float* from, u32 blocks) {
  UNROLL_BY(1)
  for (u32 block = warp(); block < blocks; block += kWarps) {
    u32x4 w[kBlock / 128];
    arrive(w, from, block);
    const u32 to = v + (block * kBlock + lane()) * 4;
    UNROLL
    for (u32 k = 0; k < kBlock / 128; k++) spread_four(to + 512 * k, floats_of(w[k]));
  }
}

// normalize_block does what normalize_vector does, for a vector of at most as many blocks as there are warps: each waits for one, whose
// elements stay in its registers from the first sum to the last product. It waits for the vector, applies pre and, if wanted, own, and
// leaves the result at v, where a lane reads what it wrote without a barrier. Behind it there is as much room again.
FN void normalize_block(u32 v, u32 part, Deviation* keep, const Shape& s, const float* from, const Matrix* m, bool own, u32* bad, u32 site) {
  const u32 n = s.columns * 128, block = warp();
  const u32 quads = block < s.blocks ? least(n - block * kBlock, kBlock) / 128 : 0;  // a lane has four elements of each
  u32x4 x[kBlock / 128] = {};  // elements 32 from one to the next
  const NormOf* norm = m->pre.kind != kNoNorm ? &m->pre : &m->own;
  const Placed* placed = m->pre.kind != kNoNorm ? &m->placed_pre : &m->placed_own;
  // What a lane adds lies where it will write its results, and what it multiplies by in the room behind. Both are on their way while it
  // waits for the vector or for sums.
  const u32 first = block * kBlock + lane() * 4, add = v + first * 4, by = add + s.blocks * kBlock * 4;
  auto weights = [&]() INLINE {
    UNROLL_BY(1)
    for (u32 k = 0; k < quads; k++) {
      copy_async(by + 512 * k, placed->w + first + 128 * k);
      if (norm->kind == kLayer) copy_async(add + 512 * k, placed->b + first + 128 * k);
    }
  };
  weights();
  if (own && norm != &m->own && quads > 0) prefetch(m->placed_own.w + block * kBlock + lane() * 32), prefetch((m->own.kind == kLayer ? m->placed_own.b : m->placed_own.w) + block * kBlock + lane() * 32);
  if (quads > 0) arrive(x, from, block);
  // sum is a vector sum. Sums in turn use two places.
  auto sum = [&](u32 part, auto step) INLINE {
    float l = 0;
    UNROLL
    for (u32 k = 0; k < kBlock / 128; k++) {
      const float more = step(step(step(step(l, from_bits(x[k].x)), from_bits(x[k].y)), from_bits(x[k].z)), from_bits(x[k].w));
      l = k < quads ? more : l;
    }
    l = fold(l);
    if (lane() == 0) store_shared(part + 4 * block, l);
    compute_barrier();
    return sum_parts(part, s.blocks);
  };
  UNROLL_BY(1)
  for (bool last = m->pre.kind == kNoNorm || !own;; last = true) {
    const bool layer = norm->kind == kLayer;
    Deviation d = {0, 1, true};
    if (layer) d.mean = mean_of(sum(part, [](float l, float e) INLINE { return add32(l, e); }), (float)n, s.inverse);
    const float ss = sum(part + 4 * kWarps, [&](float l, float e) INLINE {
      e = sub32(e, d.mean);
      return fma32(e, e, l);
    });
    d.r = factor_of(ss, (float)n, s.inverse, norm->eps);
    d.ok = finite(ss) && finite(d.r);
    if (norm == &m->pre && thread() == 0) *keep = d;
    copy_wait();
    if (quads > 0)
      UNROLL
    for (u32 k = 0; k < kBlock / 128; k++) {
      const u32x4 g = load_shared(by + 512 * k), h = layer ? load_shared(add + 512 * k) : u32x4{0x80000000, 0x80000000, 0x80000000, 0x80000000};  // -0 changes no sum
      auto apply = [&](u32& e, u32 g, u32 h) INLINE {
        const float y = applied(d, from_bits(e), from_bits(g), from_bits(h), norm->kind);
        e = k < quads ? bits(y) : 0, d.ok = d.ok && (k >= quads || finite(y));
      };
      apply(x[k].x, g.x, h.x), apply(x[k].y, g.y, h.y), apply(x[k].z, g.z, h.z), apply(x[k].w, g.w, h.w);
    }
    if (!d.ok) atomic_min(bad, norm == &m->pre ? site - 1 : site);
    if (last) break;
    norm = &m->own, placed = &m->placed_own;
    weights();
  }
  const u32 to = v + (block * kBlock + lane()) * 4;
  warp_barrier();
  if (quads > 0)
    UNROLL
  for (u32 k = 0; k < kBlock / 128; k++) spread_four(to + 512 * k, floats_of(x[k]));
}

// normalize_input waits for the input of a matrix, normalizes it by pre and, if wanted, by own, and leaves it at v, where there is
// room for so many blocks. part is room for sums.
APART(void) normalize_input(u32 v, u32 room, u32 part, Deviation* pre, const Shape& s, const float* from, const Matrix* m, bool own, u32* bad, u32 site) {
  if (s.blocks <= kWarps && 2 * s.blocks <= room) return normalize_block(v, part, pre, s, from, m, own, bad, site);
  const u32 n = s.columns * 128;
  gather(v, from, s.blocks);
  if (m->pre.kind != kNoNorm && !normalize_vector(v, n, part, &m->pre, pre)) atomic_min(bad, site - 1);
  if (own && !normalize_vector(v, n, part, &m->own, nullptr)) atomic_min(bad, site);
}

// quantize_vector waits for a vector, the input of a matrix, normalizes it by own if that is kRMS, and quantizes it
// into codes, in the order of code_word, with zeros up to a whole block. It leaves their absolute maximum and their sums in the Exchange, and
// ends before a barrier. A vector that is there is at at.vector, where the others get by the way.
//
// Every block does this for every matrix, and all wait for it: what counts is the number of instructions from the last word that
// arrives to the last code, and a branch counts for ten of them. So a warp takes a whole block of a sum: the squares of what arrives
// are added where it arrives.
FN void quantize_vector(At at, bool is_there, const Shape& s, const float* from, const Matrix* m, u32 kind, u32* bad, u32 site) {
  at.exchange = opaque(at.exchange);  // no addresses to keep for the next phase
  const u32 n = s.columns * 128, blocks = s.blocks;
  const bool rms = m->own.kind == kRMS;
  const float eps = m->own.eps;
  auto weights = [&](f32x4(&g)[kBlock / 128], u32 block) INLINE {
    const f32x4* gain = (const f32x4*)(m->gain + block * kBlock) + lane();
    UNROLL
    for (u32 k = 0; k < kBlock / 128; k++) g[k] = gain[32 * k];
  };
  // Rounding is monotone: the greatest |x*w| times r is the greatest |y| of an RMS norm.
  f32x4 tops = {};
  UNROLL_BY(1)
  for (u32 block = warp(); block == warp() || block < blocks; block += kWarps) {
    float l = 0;
    if (block < blocks) {
      f32x4 g[kBlock / 128];
      u32x4 w[kBlock / 128];
      const u32 own = at.vector + (block * kBlock + lane()) * 4;
      weights(g, block);
      if (!is_there) {
        arrive(w, from, block);
      } else {
        UNROLL
        for (u32 k = 0; k < kBlock / 128; k++) w[k].x = bits(load_shared_float(own + 512 * k)), w[k].y = bits(load_shared_float(own + 512 * k + 128)), w[k].z = bits(load_shared_float(own + 512 * k + 256)), w[k].w = bits(load_shared_float(own + 512 * k + 384));
      }
      UNROLL
      for (u32 k = 0; k < kBlock / 128; k++) {
        const f32x4 e = floats_of(w[k]);
        l = fma32(e.w, e.w, fma32(e.z, e.z, fma32(e.y, e.y, fma32(e.x, e.x, l))));
        const f32x4 p = {mul32(e.x, g[k].x), mul32(e.y, g[k].y), mul32(e.z, g[k].z), mul32(e.w, g[k].w)};
        tops = {greatest_magnitude(tops.x, p.x), greatest_magnitude(tops.y, p.y), greatest_magnitude(tops.z, p.z), greatest_magnitude(tops.w, p.w)};
        spread_four(own + 512 * k, p);
      }
      l = fold(l);
    }
    if (lane() == 0) store_shared(OF(part) + 4 * block, l);
  }
  const u32 most = warp_greatest(bits(greatest_magnitude(greatest_magnitude(tops.x, tops.y), greatest_magnitude(tops.z, tops.w))));
  if (lane() == 0) store_shared(OF(tops) + 4 * warp(), from_bits(most));
  compute_barrier();
  const u32x4 t = load_shared(OF(tops)), u = load_shared(OF(tops) + 16);
  const float ss = sum_parts(OF(part), blocks);
  const float top = greatest_magnitude(greatest_magnitude(greatest_magnitude(from_bits(t.x), from_bits(t.y)), greatest_magnitude(from_bits(t.z), from_bits(t.w))), greatest_magnitude(greatest_magnitude(from_bits(u.x), from_bits(u.y)), greatest_magnitude(from_bits(u.z), from_bits(u.w))));
  float r = ordinary_inverse(ordinary_root(add32(ordinary_quotient(ss, (float)n, s.inverse), eps)));
  if (!rms) r = 1;
  float a = at_least_least(mul32(top, r)), factor = mul32(ordinary_inverse(a), 127.0f);
  if (!(ss >= kOrdinaryLeast && ss <= kOrdinaryGreatest && top <= kOrdinaryGreatest)) {
    if (rms) r = div32(1.0f, sqrt32(add32(div32(ss, (float)n), eps)));
    a = mul32(top, r);
    if (!finite(a) || rms && (!finite(ss) || !finite(r))) atomic_min(bad, site);
    a = at_least_least(a), factor = quantum(a);
  }
  u32 to = at.codes + (warp() * 32 + code_word(lane())) * 4, p = at.vector + thread() * 16;
  i32 sum = 0;
  // Four words of codes at a time, so that one does not wait for another. There may be fewer: then the first is made again.
  UNROLL_BY(1)
  for (u32 rest = blocks;; rest -= 4, to += 4 * kBlock, p += 16 * kBlock) {
    u32x4 e[4];
    u32 skip[4], c[4];
    UNROLL
    for (u32 k = 0; k < 4; k++) {
      skip[k] = k < rest ? k * kBlock : 0;
      e[k] = load_shared(p + 4 * skip[k]);
    }
    UNROLL
    for (u32 k = 0; k < 4; k++)
      c[k] = low_bytes(rounded(mul32(from_bits(e[k].x), r), factor), rounded(mul32(from_bits(e[k].y), r), factor), rounded(mul32(from_bits(e[k].z), r), factor), rounded(mul32(from_bits(e[k].w), r), factor));
    UNROLL
    for (u32 k = 0; k < 4; k++) {
      store_shared(to + skip[k], from_bits(c[k]));
      sum = dot_bytes(c[k], k < rest ? 0x01010101 : 0, sum);
    }
    if (rest <= 4) break;
  }
  sum = warp_sum(sum);
  if (lane() == 0) store_shared(OF(sums) + 4 * (kind * kWarps + warp()), from_bits((u32)sum));
  if (thread() == 0) store_shared(OF(maxima) + 4 * kind, a);
}

// What becomes of gate and up.
enum : u32 { kSiLU = 2, kReLU2 = 3 };

// prepare_head waits for a head of dim elements, a multiple of 32 up to 256, and unless it is a value normalizes it and rotates it, in one
// warp.
APART(void) prepare_head(float* to, const float* from, u32 dim, const NormOf* norm, const float* angles, u32* bad, u32 site) {
  const u32 half = dim / 2, last = dim / 32 - 1;
  if (norm && dim % 64 == 0) {
    // A lane has elements 32 from one to the next, and half behind each the other of its pair: number 2k is element 32k.
    const u32 kind = norm->kind;
    auto index = [&](u32 k) INLINE { return lane() + k / 2 * 32 + k % 2 * half; };
    u32 words[8];
    float w[8] = {}, b[8] = {}, x[8];
    if (kind != kNoNorm)
      UNROLL
    for (u32 k = 0; k < 8; k++) w[k] = norm->w[index(least(k, last))], b[k] = kind == kLayer && norm->b ? norm->b[index(least(k, last))] : -0.0f;
    await_each(words, [=](u32 k) INLINE { return (const u32*)from + index(k); }, last, 0);
    UNROLL
    for (u32 k = 0; k < 8; k++) x[k] = from_bits(words[k]);
    if (kind != kNoNorm) {
      // sum takes the elements in their order.
      auto sum = [&](auto step) INLINE {
        float l = 0;
        UNROLL
        for (u32 k = 0; k < 8; k++) {
          const u32 i = k % 4 * 2 + k / 4;
          const float more = step(l, x[i]);
          l = i <= last ? more : l;
        }
        return fold(l);
      };
      const float n = (float)dim, inverse = ordinary_inverse(n);
      Deviation d = {0, 1, true};
      if (kind == kLayer) d.mean = mean_of(sum([](float l, float e) INLINE { return add32(l, e); }), n, inverse);
      const float ss = sum([&](float l, float e) INLINE {
        e = sub32(e, d.mean);
        return fma32(e, e, l);
      });
      d.r = factor_of(ss, n, inverse, norm->eps);
      d.ok = finite(ss) && finite(d.r);
      UNROLL
      for (u32 k = 0; k < 8; k++) x[k] = applied(d, x[k], w[k], b[k], kind), d.ok = d.ok && finite(x[k]);
      if (!d.ok) atomic_min(bad, site);
    }
    UNROLL
    for (u32 k = 0; k < 4; k++)
      if (k * 64 < dim) {
        const u32 i = lane() + 32 * k;
        const float p = x[2 * k], q = x[2 * k + 1], c = angles[i], s = angles[i + half];
        to[i] = sub32(mul32(p, c), mul32(q, s));
        to[i + half] = add32(mul32(q, c), mul32(p, s));
      }
    return;
  }
  u32 words[8];
  await_words(words, (const u32*)from + lane(), 32, last);
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
      const float v = normalized(d, to[i], norm->w, norm->b, i, norm->kind);
      to[i] = v;
      ok = ok && finite(v);
    }
    if (!ok) atomic_min(bad, site);
  }
  warp_barrier();
  UNROLL_BY(1)
  for (u32 i = lane(); i < half; i += 32) {
    const float p = to[i], q = to[i + half], c = angles[i], s = angles[i + half];
    to[i] = sub32(mul32(p, c), mul32(q, s));
    to[i + half] = add32(mul32(q, c), mul32(p, s));
  }
}

// Reads of keys and values: of shared memory by its address, or with Staged false of the page itself. Those of shared memory keep their
// order, so that a batch of them is under way before the first is used.
template <bool Staged>
FN void read(u64 at, float (&v)[1]) {
  v[0] = Staged ? load_shared_float((u32)at) : *(const float*)at;
}
template <bool Staged>
FN void read(u64 at, float (&v)[2]) {
  const f32x2 p = Staged ? load_shared_pair((u32)at) : *(const f32x2*)at;
  v[0] = p.x, v[1] = p.y;
}
template <bool Staged>
FN void read(u64 at, float (&v)[4]) {
  const u32x4 p = Staged ? load_shared((u32)at) : *(const u32x4*)at;
  v[0] = from_bits(p.x), v[1] = from_bits(p.y), v[2] = from_bits(p.z), v[3] = from_bits(p.w);
}

// weigh_values adds the values of a chunk by weights for N heads in one warp, of which a lane has K elements next to each other. weights is an
// address in shared memory.
template <bool Staged, u32 N, u32 K>
FN void weigh_values(u64* part, u32 weights, u64 values, u32 dim, u32 count, u32 tag) {
  UNROLL_BY(1)
  for (u32 first = lane() * K; first < dim; first += 32 * K) {
    u64 value = values + 4 * first;
    float o[N][K] = {};
    u32 j = 0;
    // add adds 16 positions, all of which are read before. Behind the last is anything: the weights are zero there, and 0 * -0 changes no sum.
    auto add = [&](auto whole) INLINE {
      float v[16][K], w[N][4][4];
      UNROLL
      for (u32 i = 0; i < 4; i++) {
        UNROLL
        for (u32 n = 0; n < N; n++) read<true>(weights + 4 * (n * kPage + j + 4 * i), w[n][i]);
        UNROLL
        for (u32 e = 0; e < 4; e++) read<Staged>(value + 4 * (4 * i + e) * dim, v[4 * i + e]);
      }
      UNROLL
      for (u32 i = 0; i < 16; i++)
        UNROLL
      for (u32 k = 0; k < K; k++) {
        const float x = whole.value || j + i < count ? v[i][k] : -0.0f;
        UNROLL
        for (u32 n = 0; n < N; n++) o[n][k] = fma32(w[n][i / 4][i % 4], x, o[n][k]);
      }
      j += 16, value += 64 * dim;
    };
    UNROLL_BY(1)
    while (j + 16 <= count) add(Count<1>());
    if (j < count) add(Count<0>());
    UNROLL
    for (u32 n = 0; n < N; n++)
      UNROLL
    for (u32 k = 0; k < K; k++) publish_tagged(part + n * dim + first + k, o[n][k], tag);
  }
}

// attend_heads is attention of N heads to a chunk of count positions, in one warp. A lane has the scores of two keys.
template <bool Staged, u32 N>
FN void attend_heads(u64* part, u64* totals, u32 shared, float* weights, const float* queries, u64 keys, u64 values, u32 dim, u32 count, float z, u32 tag) {
  float s[N][2] = {};
  u64 key = keys + 8 * lane();
  u32 query = shared_address(queries);
  // All of 32 elements are read before any is used.
  UNROLL_BY(1)
  for (u32 i = 0; i < dim; i += 32, key += 128 * kPage, query += 128) {
    float k[32][2], q[N][8][4];
    UNROLL
    for (u32 j = 0; j < 8; j++) {
      UNROLL
      for (u32 n = 0; n < N; n++) read<true>(query + 4 * n * dim + 16 * j, q[n][j]);
      UNROLL
      for (u32 e = 0; e < 4; e++) read<Staged>(key + 4 * (4 * j + e) * kPage, k[4 * j + e]);
    }
    UNROLL
    for (u32 j = 0; j < 32; j++)
      UNROLL
    for (u32 n = 0; n < N; n++) s[n][0] = fma32(q[n][j / 4][j % 4], k[j][0], s[n][0]), s[n][1] = fma32(q[n][j / 4][j % 4], k[j][1], s[n][1]);
  }
  UNROLL
  for (u32 n = 0; n < N; n++) *(f32x2*)(weights + n * kPage + 2 * lane()) = {mul32(s[n][0], z), mul32(s[n][1], z)};
  warp_barrier();
  const bool low = lane() < count, high = lane() + 32 < count;
  const float none = from_bits(0xff800000);
  float m[N], l[N];
  UNROLL
  for (u32 n = 0; n < N; n++) {
    s[n][0] = weights[n * kPage + lane()], s[n][1] = weights[n * kPage + lane() + 32];
    m[n] = low ? s[n][0] : none;
    const float other = high ? s[n][1] : none;
    m[n] = other > m[n] ? other : m[n];
  }
  for (u32 d = 16; d > 0; d /= 2) {
    UNROLL
    for (u32 n = 0; n < N; n++) {
      const float other = shuffle_xor(m[n], d);
      m[n] = other > m[n] ? other : m[n];
    }
  }
  UNROLL
  for (u32 n = 0; n < N; n++) {
    const float a = exp32(sub32(s[n][0], m[n])), b = exp32(sub32(s[n][1], m[n]));
    s[n][0] = low ? a : 0.0f, s[n][1] = high ? b : 0.0f;
    weights[n * kPage + lane()] = s[n][0], weights[n * kPage + lane() + 32] = s[n][1];
    l[n] = add32(s[n][0], s[n][1]);
  }
  for (u32 d = 16; d > 0; d /= 2) {
    UNROLL
    for (u32 n = 0; n < N; n++) l[n] = add32(l[n], shuffle_xor(l[n], d));
  }
  warp_barrier();
  if (lane() == 0) {
    UNROLL
    for (u32 n = 0; n < N; n++) publish_tagged(totals + n, m[n], tag), publish_tagged(totals + shared + n, l[n], tag);
  }
  if (dim % 128 == 0)
    weigh_values<Staged, N, 4>(part, shared_address(weights), values, dim, count, tag);
  else if (dim % 64 == 0)
    weigh_values<Staged, N, 2>(part, shared_address(weights), values, dim, count, tag);
  else
    weigh_values<Staged, N, 1>(part, shared_address(weights), values, dim, count, tag);
}

// attend computes the units of attention of a block in a layer, whose queries, keys and values are at qkv. The keys and values of a chunk are
// those of its page, behind `offset`, or copies in shared memory; in the newest chunk the unit of the first heads stores the new ones. pages
// counts the copies, and attend returns it for the next layer. Heads are ready when the block meets; from there on each warp goes alone.
template <u32 Stages, bool Staged>
APART(u32) attend(const State* state, u64 offset, const Layer* layer, const float* qkv, u32 tag, u32 pages, u32* bad, u32 site) {
  Exchange* const x = exchange<Stages>();
  UNROLL_BY(1)
  for (u32 unit = block_x();;) {
    const Heads& h = x->heads;
    const u32 dim = opaque(h.dim), shared = opaque(h.shared), group = h.group, kv_dim = h.kv_heads * dim;  // nothing to keep for the next unit
    const float* angles = (const float*)(shared_bytes() + x->room.angles);
    float* queries = (float*)(shared_bytes() + x->room.scratch);
    float* weights = queries + (shared + 2) * dim;  // [group][64], behind the new key and the new value
    const Unit u = unit == block_x() ? x->unit : unit_of(h, unit);
    const u32 chunk = u.chunk, kv = u.kv, first = u.first;
    const u32 count = least(kPage, h.position + 1 - chunk * kPage), slot = h.position % kPage;
    const bool newest = chunk + 1 == h.chunks;
    float* page_keys = (float*)(state->table[chunk] + offset) + (u64)kv * dim * kPage;
    float* page_values = page_keys + (u64)kv_dim * kPage;
    float* keys = Staged ? (float*)(shared_bytes() + x->room.keys) : page_keys;
    float* values = Staged ? (float*)(shared_bytes() + x->room.values) : page_values;
    if (Staged) fill_wait(&x->page_filled, pages % 2);
    UNROLL_BY(1)
    for (u32 w = warp(); w < group + 2 * newest; w += kWarps) {
      const bool query = w < group, key = w == group;
      float* to = queries + w * dim;
      prepare_head(to, qkv + (query ? kv * shared + first + w : h.heads + kv + (w - group) * h.kv_heads) * dim, dim, query ? &layer->q : key ? &layer->k : nullptr, angles, bad, query ? site : site + 1);
      if (query) continue;
      float* page = key ? page_keys + slot : page_values + slot * dim;
      float* copy = key ? keys + slot : values + slot * dim;
      const u32 step = key ? kPage : 1;
      warp_barrier();
      UNROLL_BY(2)
      for (u32 i = lane(); i < dim; i += 32) {
        const float v = to[i];
        copy[i * step] = v;
        if (Staged && first == 0) page[i * step] = v;
      }
    }
    compute_barrier();
    u64* part = h.parts + ((u64)kv * h.chunks + chunk) * shared * (dim + 2);
    auto heads = [&](auto n) INLINE {
      constexpr u32 N = n.value;
      UNROLL_BY(1)
      for (u32 w = warp() * N; w < group; w += kWarps * N)
        attend_heads<Staged, N>(part + (first + w) * dim, part + shared * dim + first + w, shared, weights + w * kPage, queries + w * dim, Staged ? shared_address(keys) : (u64)keys, Staged ? shared_address(values) : (u64)values, dim, count, h.z, tag);
    };
    if (group % 2 == 0)
      heads(Count<2>());
    else
      heads(Count<1>());
    pages++;
    if (Staged) {
      fill_again();
      arrivals_arrive(&x->page_emptied);
    }
    unit += blocks_x();
    if (unit >= h.units) return pages;
    compute_barrier();
  }
}

// merge_slice merges the chunks of 32 elements of a query head, in order, and publishes the result. One warp.
FN void merge_slice(const Heads& h, u32 tag, u32 first, float* att) {
  const u32 dim = h.dim, shared = h.shared, head = first / dim, stride = shared * (dim + 2);
  const u64* part = h.parts + (u64)(head / shared) * h.chunks * stride;
  const u64* tops = part + shared * dim + head % shared;
  const u64* sums = part + head % shared * dim + first % dim + lane();
  float top = from_bits(0xff800000), l = 0, o = 0;
  const float none = from_bits(0xff800000);
  UNROLL_BY(1)
  for (u32 begin = 0; begin < h.chunks; begin += 32) {
    // Of the chunks of a round each lane has one: its maximum, the greatest so far, and the factors of section 12. Sums are read
    // beside the maxima, eight chunks at a time.
    const u32 c = begin + lane(), end = least(begin + 32, h.chunks);
    u64 words[10];
    auto read = [&](u32 first) INLINE {
      await_each(words, [=](u32 k) INLINE { return k < 2 ? tops + (u64)least(c, h.chunks - 1) * stride + k * shared : sums + (u64)least(first + k - 2, end - 1) * stride; }, 9, tag);
    };
    read(begin);
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
    for (u32 first = begin;;) {
      UNROLL
      for (u32 i = 0; i < 8; i++)
        if (first + i < end) {
          const u32 from = (first + i) % 32;
          const float a = shuffle_from(before, from), b = shuffle_from(after, from), lc = shuffle_from(length, from);
          const float sum = from_bits((u32)words[2 + i]);
          const bool one = first + i == 0;
          const float longer = fma32(lc, b, mul32(l, a)), more = fma32(sum, b, mul32(o, a));
          l = one ? lc : longer, o = one ? sum : more;
        }
      first += 8;
      if (first >= end) break;
      read(first);
    }
  }
  publish(att + place(first + lane()), mul32(o, div32(1.0f, l)));
}

// step is a step in a block, whose shared memory has the ring, Stages of a group of tiles for each warp that computes, then an Exchange and a
// Room. Staged when keys and values are copied ahead into shared memory; it is for devices that have enough.
template <u32 Stages, bool Staged>
FN void step(const State* state, const u32* steps, const Layer* layers, u32 count, float* vectors, u64* parts, float* final, float* logits, const float* angles, u64 page, u32 hidden, u32 ffn, u32 heads, u32 kv_heads, u32 dim, u32 vocab, float z, u32 mode,
             u32 widest, u32 most_lines, u32* bad) {
  const u32 kStage = kWarps * kGroupBytes;
  const u32 shared = heads / kv_heads, q_dim = heads * dim, kv_dim = kv_heads * dim;
  const u32 phases = 4 * count + (logits ? 1 : 0);
  const u32 position = state->position, chunks = position / kPage + 1;
  const Vectors at_of = vectors_of(hidden, q_dim, kv_dim, ffn);
  // While there are blocks without a unit of attention, units of fewer heads take less time.
  u32 group = shared;
  while (group % 2 == 0 && kv_heads * (shared / group) * 2 * chunks <= blocks_x()) group /= 2;
  const u32 splits = shared / group, units = kv_heads * splits * chunks;
  Exchange* const e = exchange<Stages>();
  u8* const codes = (u8*)(e + 1);
  At at;
  at.ring = opaque(shared_address(shared_bytes())), at.exchange = at.ring + Stages * kStage, at.codes = at.exchange + sizeof(Exchange), at.vector = at.codes + padded(widest), at.sums = at.codes + 5 * padded(widest);
  auto kind_of = [&](u32 phase) INLINE { return phase == 4 * count ? (u32)kHead : phase % 4; };
  if (thread() < kPhases) {
    const u32 inputs[] = {hidden, q_dim, hidden, ffn, hidden}, outputs[] = {q_dim + 2 * kv_dim, hidden, ffn, hidden, vocab}, from[] = {0, at_of.att, at_of.middle, at_of.gated, 0},
              to[] = {at_of.qkv, at_of.middle, at_of.gated, at_of.words, 0};
    u32 n = inputs[0], rows = outputs[0];
    u32 input = from[0], output = to[0];
    UNROLL
    for (u32 p = 1; p < kPhases; p++)
      if (thread() == p) n = inputs[p], rows = outputs[p], input = from[p], output = to[p];
    Shape& s = e->shapes[thread()];
    const u32 columns = n / 128, groups = (columns + kGroup - 1) / kGroup, results = rows / 16;
    const u32 first = block_x() * results / blocks_x(), own = (block_x() + 1) * results / blocks_x() - first, all = (thread() == kGateUp ? 2 * own : own) * groups;
    s.columns = columns, s.groups = groups, s.blocks = padded(n) / kBlock, s.inverse = div32(1.0f, (float)n), s.input = input, s.output = output;
    s.results = results, s.first = first, s.own = own, s.turns = (all + kWarps - 1) / kWarps;
    UNROLL_BY(1)
    for (u32 w = 0; w < kWarps; w++) {
      const u32 begin = w * all / kWarps;
      s.parts[w].line = begin / groups, s.parts[w].group = begin % groups, s.parts[w].count = (w + 1) * all / kWarps - begin;
    }
  }
  auto tabulate = [&](u32 layer, u32 self) INLINE {
    if (self < sizeof(Layer) / 8) ((u64*)(e->table + layer % 2))[self] = ((const u64*)(layers + layer))[self];
  };
  tabulate(0, thread());
  UNROLL_BY(1)
  for (u32 i = thread(); i < most_lines * 16; i += threads()) ((i32*)(codes + 5 * padded(widest)))[i] = 0;
  UNROLL_BY(1)
  for (u32 i = thread(); i < dim; i += threads()) ((float*)(codes + 5 * padded(widest) + line_of(64 * most_lines)))[i] = angles[(u64)position * dim + i];
  if (thread() == 0) {
    Room& r = e->room;
    r.vector = Stages * kStage + sizeof(Exchange) + padded(widest);
    r.sums = r.vector + 4 * padded(widest);
    r.angles = r.sums + line_of(64 * most_lines);
    r.scratch = r.angles + 4 * dim;
    r.keys = r.scratch + 4 * ((shared + 2) * dim + shared * kPage);
    r.values = r.keys + 4 * kPage * dim;
    Heads& h = e->heads;
    h.heads = heads, h.kv_heads = kv_heads, h.shared = shared, h.group = group, h.splits = splits, h.dim = dim, h.position = position, h.chunks = chunks, h.units = units, h.z = z, h.parts = parts;
    e->unit = unit_of(h, block_x());
    UNROLL_BY(1)
    for (u32 i = 0; i < Stages; i++) fill_init(e->filled + i), arrivals_init(e->emptied + i, kThreads);
    fill_init(&e->page_filled), arrivals_init(&e->page_emptied, kThreads);
    fill_ready();
  }
  barrier();

  if (warp() == kCopier) {
    const u64 once = read_once();
    u32 slot = 0, parity = 1, pages = 0, begun = 0, most = 0;
    // A layer of many turns waits for memory more than for words: with two copies under way Tritter 7B takes 4 % less, 2B-4T 1 % more.
    UNROLL_BY(1)
    for (u32 kind = 0; kind < kHead; kind++) most += e->shapes[kind].turns;
    most = most > kManyTurns ? 2 : 1;
    auto copy_page = [&](u32 layer, u32 unit) INLINE {
      if (pages > 0) fill_wait(&e->page_emptied, (pages - 1) % 2);
      pages++;
      const u32 bytes = dim * kPage * 4;
      const float* from = (const float*)(state->table[unit / (kv_heads * splits)] + layer * page) + ((u64)(unit / splits % kv_heads) * dim + (lane() == 1 ? kv_dim : 0)) * kPage;
      fill_begin(&e->page_filled, 2 * bytes);
      fill(&e->page_filled, at.ring + e->room.keys + lane() * bytes, from, lane() < 2 ? bytes : 0, read_again());
      fill_end(&e->page_filled);
    };
    UNROLL_BY(1)
    for (u32 phase = 0; phase < phases; phase++) {
      const u32 kind = kind_of(phase);
      if (Staged && kind == kQKV && block_x() < units) copy_page(phase / 4, block_x());
      if (Staged && kind == kO) {
        UNROLL_BY(1)
        for (u32 unit = block_x() + blocks_x(); unit < units; unit += blocks_x()) copy_page(phase / 4, unit);
      }
      const Shape& s = e->shapes[kind];
      const u8* tiles = (const u8*)(layers[phase / 4].matrices[phase % 4].tiles + (u64)s.first * s.columns * 32);
      // A lane copies for a warp. The lines of up lie further away.
      Part part = {0, 0, 0};
      if (lane() < kWarps) part = s.parts[lane()];
      const u32 columns = s.columns, groups = s.groups, own = s.own, jump = s.results - own, turns = s.turns;
      UNROLL_BY(1)
      for (u32 turn = 0; turn < turns; turn++) {
        const u32 n = turn < part.count ? least(kGroup, columns - part.group * kGroup) : 0;
        const u8* from = tiles + ((u64)(part.line < own ? part.line : part.line + jump) * columns + part.group * kGroup) * 512;
        const u32 bytes = (u32)warp_sum(n) * 512;
        fill_wait(OF(emptied) + 8 * slot, parity);
        // Few at a time: words that blocks tell each other must not queue behind weights.
        if (begun >= most) fill_wait(OF(filled) + 8 * (slot < most ? slot + Stages - most : slot - most), slot < most ? parity : parity ^ 1);
        begun++;
        fill_begin(e->filled + slot, bytes);
        fill(e->filled + slot, at.ring + slot * kStage + lane() * kGroupBytes, from, n * 512, once);
        fill_end(e->filled + slot);
        if (++part.group == groups) part.group = 0, part.line++;
        if (++slot == Stages) slot = 0, parity ^= 1;
      }
    }
    return;
  }

  const u32 first_tag = *steps * count + 1;
  if (warp() >= kWarps) {  // makes results
    const u32 self = thread() - kThreads;
    float* in = vectors;  // of the layer
    UNROLL_BY(1)
    for (u32 phase = 0; phase < phases; phase++) {
      const u32 layer = phase / 4, kind = kind_of(phase);
      if (kind == kO) {
        tabulate(layer + 1, self);
        UNROLL_BY(1)
        for (u32 slice = block_x() + self / 32 * blocks_x(); slice < q_dim / 32; slice += kResultThreads / 32 * blocks_x()) merge_slice(e->heads, first_tag + layer, slice * 32, in + at_of.att);
      }
      const Shape& s = e->shapes[kind];
      const Matrix* m = &e->table[layer % 2].matrices[phase % 4];
      const u32 first = s.first * 16, rows = s.own * 16, apart = s.results * 16;
      const bool pairs = kind == kGateUp, biased = m->bias != nullptr, adds = kind == kO || kind == kDown;
      float scale = 0, shift = 0, up_scale = 0, up_shift = 0, old = 0;
      auto factors = [&](u32 i) INLINE {
        const u32 row = first + i;
        scale = m->scales[row];
        if (pairs) up_scale = m->scales[row + apart];
        if (biased) shift = m->bias[row];
        if (biased && pairs) up_shift = m->bias[row + apart];
        if (adds) {
          // The residual stream, which the phase before took as its input.
          const NormOf& pre = m[-1].pre;
          const u32 kind_of_pre = pre.kind;
          float by = 0, more = -0.0f;
          if (kind_of_pre != kNoNorm) by = pre.w[row];
          if (kind_of_pre == kLayer && pre.b) more = pre.b[row];
          u32 word[1];
          await_words(word, (const u32*)in + (kind == kO ? 0 : at_of.middle) + place(row), 0, 0);
          old = from_bits(word[0]);
          if (kind_of_pre != kNoNorm) old = applied(e->pre, old, by, more, kind_of_pre);
        }
      };
      // A warp has 32 rows, of which the last may be more than there are.
      const bool some = self - lane() < rows;
      if (some) factors(least(self, rows - 1));
      codes_barrier();
      const float a = load_shared_float(OF(maxima) + 4 * kind);
      const u32 own_sum = bits(load_shared_float(OF(sums) + 4 * (kind * kWarps + lane() % kWarps)));
      const i32 excess = 2 * warp_sum(lane() < kWarps ? (i32)own_sum : 0);  // the codes of trits are 2 more than the trits
      float by = over127(mul32(scale, a)), up_by = over127(mul32(up_scale, a));
      float* out = kind == kHead ? logits : in + s.output;
      const bool straight = kind == kQKV || kind == kHead;
      sums_barrier();
      UNROLL_BY(1)
      for (u32 i = self; i - lane() < rows; i += kResultThreads) {
        if (i != self) factors(least(i, rows - 1)), by = over127(mul32(scale, a)), up_by = over127(mul32(up_scale, a));
        const bool own = i < rows;
        const u32 row = first + i;
        const u32 sum_at = at.sums + 4 * i, up_at = pairs ? sum_at + 4 * rows : sum_at;
        const i32 sum = bits(load_shared_float(sum_at)), up_sum = bits(load_shared_float(up_at));
        float v = mul32(to_float(sum - excess), by);
        const float shifted = add32(v, shift);
        v = biased ? shifted : v;
        if (pairs) {
          float up = mul32(to_float(up_sum - excess), up_by);
          const float up_shifted = add32(up, up_shift);
          v = gate(v, biased ? up_shifted : up, mode == kReLU2);
        }
        const float added = add32(old, v);
        v = adds ? added : v;
        if (own) publish(out + (straight ? row : place(row)), v);
        if (own) store_shared(sum_at, 0), store_shared(up_at, 0);
      }
      if (kind == kDown) in += at_of.words;
    }
    return;
  }

  const u32 ring = at.ring + warp() * kGroupBytes + lane() * 16;
  u32 slot = 0, parity = 0, pages = 0;
  UNROLL_BY(1)
  for (u32 phase = 0; phase < phases; phase++) {
    const u32 layer = phase / 4, kind = kind_of(phase);
    float* in = vectors + (u64)layer * at_of.words;
    const Layer* l = e->table + layer % 2;
    const u32 site = layer * 8 + (kind == kO ? 3 : kind == kGateUp ? 5 : kind == kDown ? 6 : 0);
    if (kind == kO && block_x() < units) pages = attend<Stages, Staged>(state, layer * page, l, in + at_of.qkv, first_tag + layer, pages, bad, site - 2);
    const Shape& s = e->shapes[kind];
    const Matrix* m = l->matrices + phase % 4;
    const bool is_there = m->own.kind == kLayer || m->pre.kind != kNoNorm;
    if (is_there) normalize_input(at.vector, padded(widest) / kBlock, OF(part), &e->pre, s, in + s.input, m, m->own.kind == kLayer, bad, site);
    const Part part = s.parts[warp()];
    const u32 groups = s.groups, turns = s.turns;
    // Tiles of a turn are in registers before it begins, and those of the first before the vector is there.
    u32x4 t[kGroup] = {};
    auto load = [&]() INLINE {
      fill_wait(OF(filled) + 8 * slot, parity);
      const u32 from = ring + slot * kStage;
      UNROLL
      for (u32 i = 0; i < kGroup; i++) t[i] = load_shared(from + 512 * i);
    };
    if (turns > 0) load();
    quantize_vector(at, is_there, s, in + s.input, m, kind, bad, site);

    // The product, a group of tiles at a time. Codes behind the vector are zero, and a warp that has no group in the last turn adds to the
    // spare words: a branch would take longer.
    const u32 line = at.codes + lane() % 4 * 32, end = line + groups * (kGroup * 128), spare = OF(spare) + 4 * lane();
    u32 q = line + part.group * (kGroup * 128), sum = at.sums + lane() / 4 * 4 + part.line * 64;
    codes_barrier();
    UNROLL_BY(1)
    for (u32 turn = 0; turn < turns;) {
      i32 acc[2][4] = {};
      auto multiply = [&](const u32x4& t, u32 q) INLINE {
        const u32x4 low = load_shared(q), high = load_shared(q + 16);
        const u32 codes[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
        UNROLL
        for (u32 p = 0; p < 4; p++) {
          const u32 mask = 0x03030303u << 2 * p;
          acc[0][p] = dot_masks(t.z & mask, codes[2 * p + 1], dot_masks(t.x & mask, codes[2 * p], acc[0][p]));
          acc[1][p] = dot_masks(t.w & mask, codes[2 * p + 1], dot_masks(t.y & mask, codes[2 * p], acc[1][p]));
        }
      };
      UNROLL
      for (u32 i = 0; i < kGroup; i++) multiply(t[i], q + 128 * i);
      arrivals_arrive(OF(emptied) + 8 * slot);
      slot = slot + 1 == Stages ? 0 : slot + 1, parity ^= slot == 0;
      const u32 to = turn < part.count ? sum : spare;
      // The masked codes of plane p are 4^p times too great, and so is their sum.
      shared_add(to, acc[0][0] + (acc[0][1] >> 2) + (acc[0][2] >> 4) + (acc[0][3] >> 6));
      shared_add(to == spare ? spare : to + 32, acc[1][0] + (acc[1][1] >> 2) + (acc[1][2] >> 4) + (acc[1][3] >> 6));
      q += kGroup * 128;
      sum = q == end ? sum + 64 : sum;
      q = q == end ? line : q;
      if (++turn == turns) break;
      load();
    }
    sums_ready();
  }
  if (logits || block_x() > 0) return;
  // The input of a head that is not ternary.
  const Matrix* head = e->table[count % 2].matrices;
  normalize_input(at.vector, padded(widest) / kBlock, OF(part), &e->pre, e->shapes[kQKV], vectors + (u64)count * at_of.words, head, true, bad, 8 * count);
  compute_barrier();
  UNROLL_BY(1)
  for (u32 i = thread(); i < hidden; i += kThreads) final[i] = load_shared_float(at.vector + 4 * i);
}

// STEP is the kernel of a variant.
#define STEP(name, stages, staged)                                                                                                                                                                                                          \
  BOUNDED_KERNEL(kThreads + kResultThreads + 32, 1, name, const State* state, const u32* steps, const Layer* layers, u32 count, float* vectors, u64* parts, float* final, float* logits, const float* angles, u64 page, u32 hidden, u32 ffn, u32 heads, \
                 u32 kv_heads, u32 dim, u32 vocab, float z, u32 mode, u32 widest, u32 most_lines, u32* bad) {                                                                                                                               \
    step<stages, staged>(state, steps, layers, count, vectors, parts, final, logits, angles, page, hidden, ffn, heads, kv_heads, dim, vocab, z, mode, widest, most_lines, bad);                                                                 \
  }
