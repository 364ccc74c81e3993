// What comes before and after the step of a token.
#include "step.cuh"

// begin_step prepares a step: it counts steps, empties the vectors of all layers, n words, and makes the first the state's row of the
// embedding. Room behind a vector is not emptied: it stays zero.
KERNEL(begin_step, const State* state, u32* steps, float* vectors, u64 n, u32 hidden, u32 q_dim, u32 kv_dim, u32 ffn, const u8* w, const float* scales, u32 rows, u32 type) {
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
  const Vectors at = vectors_of(hidden, q_dim, kv_dim, ffn);
  for (u64 i = padded(hidden) / 4 + self; i < n / 4; i += (u64)blocks_x() * threads()) {
    const u32 in = (u32)(i * 4 % at.words);
    if (in < hidden || in >= at.qkv && in < at.qkv + q_dim + 2 * kv_dim || in >= at.att && in < at.att + q_dim || in >= at.middle && in < at.middle + hidden || in >= at.gated && in < at.gated + ffn)
      ((u32x4*)vectors)[i] = {kEmpty, kEmpty, kEmpty, kEmpty};
  }
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
