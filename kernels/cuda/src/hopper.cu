// The product of ternary matrices and the codes of many tokens (spec/numerics.md section 8) on the tensor cores of compute capability
// 9.0. Tiles of weights are those of ternary.cu, codes lie as code_chunk says, and sums of integers have no order, so that the
// results are those of multiply_s8.
//
// Blocks stay and take one part of the product after another: 256 rows by N tokens. One warp copies 128 columns at a time into a ring
// in shared memory, the weights still in two bits, and gives its registers to the others; eight warps, in two groups, turn the weights into bytes in registers, where
// the product takes them from, and never wait for the copies of a part after the first. Each group has two tiles of 64 rows,
// so that the weights of one are turned while the product of the other is under way, and a warp's rows are neighbours.
//
// For the prefill of 2,048 tokens of bitnet-b1.58-2B-4T on one H200, all four products of a layer:
//	1  eight warps and a ninth that copies: the products wait for each other where registers are short: 840 us
//	2  registers moved from the warps that copy to those that multiply: 457 us, half of it the stores of single elements
//	3  stores of sixteen tokens at a time: 396 us, with the loads for sums ahead
//	4  stores without branches: 327 us = 871 TOPS; without any stores it was 270 us
#include "hopper.cuh"
#include "numerics.cuh"

// What becomes of a product, as launch.go numbers it: it is stored, or added to what is there, or, of two matrices one after the
// other, the gate and the values, section 13 is stored.
enum : u32 { kPartStore = 0, kPartAdd = 1, kPartSiLU = 2, kPartReLU2 = 3 };

template <u32 Mode>
struct With {
  static constexpr u32 mode = Mode;
};

enum : u32 { kExchange = 16 * 36 + 160 };  // floats of a warp: 16 tokens of 32 rows and some, and maxima of all tokens

// finish_part scales the products of a warp, whose rows from `start` on are next to each other, and stores them. Sixteen tokens at a time
// trade places through shared memory, so that lanes store 16 bytes and those of a token follow each other; what the next
// sixteen are added to is on its way meanwhile.
template <int N, u32 Mode>
FN void finish_part(float* y, const i32 (&low)[N / 2], const i32 (&upper)[N / 2], const float* scales, const float* bias, const float* maxima, float* mine, u32 start, u32 token, u32 rows, u32 m, u32 ldy) {
  enum : u32 { Gated = Mode >= kPartSiLU, Width = Gated ? 16 : 32, Pitch = Width + 4, Per = 128 / Width, Passes = 16 / Per };  // tokens of one store of the warp
  const u32 g = lane() / 4, t = lane() % 4, row = start + lane() % (Width / 4) * 4;
  float* tops = mine + 16 * 36;
  float scale[4], shift[4];
  UNROLL
  for (int r = 0; r < 4; r++) {
    const u32 at = Gated ? least(start + g + r % 2 * 8, rows - 1) + r / 2 * rows : least(start + g + r * 8, rows - 1);
    scale[r] = scales[at];
    shift[r] = bias ? bias[at] : -0.0f;  // which changes nothing
  }
  UNROLL
  for (u32 c = 0; c < N; c += 32) tops[c + lane()] = maxima[least(token + c + lane(), m - 1)];
  warp_barrier();

  const u32 end = row < rows ? m : 0;
  const u32 mover = token + lane() / (Width / 4);  // the first token that this lane stores
  float* to = y + (u64)mover * ldy + row;
  f32x4 was[Passes], next[Passes];
  auto get = [&](u32 batch) INLINE {
    UNROLL
    for (u32 p = 0; p < Passes; p++) {
      const u32 n = 16 * batch + p * Per;
      next[p] = load_f32x4_if(mover + n < end, to + (u64)n * ldy);
    }
  };
  if (Mode == kPartAdd) get(0);
  UNROLL
  for (u32 batch = 0; batch < N / 16; batch++) {
    if (token + 16 * batch >= m) break;
    if (Mode == kPartAdd) {
      UNROLL
      for (u32 p = 0; p < Passes; p++) was[p] = next[p];
      if (batch + 1 < N / 16) get(batch + 1);
    }
    UNROLL
    for (u32 h = 0; h < 4; h++) {  // tokens 2t, 2t+1 and those eight on
      const u32 n = h / 2 * 8 + 2 * t + h % 2, j = 2 * batch + h / 2;
      const float maximum = tops[16 * batch + n];
      float v[4];
      UNROLL
      for (int r = 0; r < 4; r++) {
        const i32 sum = r < 2 ? low[4 * j + 2 * r + h % 2] : upper[4 * j + 2 * (r - 2) + h % 2];
        v[r] = add32(mul32(to_float(sum >> 6), over127(mul32(scale[r], maximum))), shift[r]);
      }
      if (Gated) {
        mine[n * Pitch + g] = gate(v[0], v[2], Mode == kPartReLU2);
        mine[n * Pitch + g + 8] = gate(v[1], v[3], Mode == kPartReLU2);
      } else {
        UNROLL
        for (int r = 0; r < 4; r++) mine[n * Pitch + g + 8 * r] = v[r];
      }
    }
    warp_barrier();
    UNROLL
    for (u32 p = 0; p < Passes; p++) {
      const u32 n = 16 * batch + p * Per;
      f32x4 s = *(const f32x4*)(mine + (p * Per + lane() / (Width / 4)) * Pitch + lane() % (Width / 4) * 4);
      if (Mode == kPartAdd) s = {add32(was[p].x, s.x), add32(was[p].y, s.y), add32(was[p].z, s.z), add32(was[p].w, s.w)};
      store_f32x4_if(mover + n < end, to + (u64)n * ldy, s);
    }
    warp_barrier();
  }
}

template <int N>
FN void multiply_parts(float* y, const u8* w, const float* scales, const float* bias, const u8* q, const float* maxima, u32 rows, u32 columns, u32 m, u32 tokens, u32 ldy, u32 mode) {
  enum : u32 { Bytes = N * 128 + 16 * 512, Stages = N > 128 ? 7 : 8 };
  u8* ring = shared_bytes() + (1024 - shared_address(shared_bytes()) % 1024) % 1024;
  float* exchange = (float*)(ring + Stages * Bytes);
  u64* full = (u64*)(exchange + 8 * kExchange);
  u64* empty = full + Stages;
  if (thread() == 0) {
    for (u32 s = 0; s < Stages; s++) {
      ring_init(full + s, 1);
      ring_init(empty + s, 8);
    }
    ring_ready();
  }
  barrier();

  const bool gated = mode >= kPartSiLU;
  const u32 tile_rows = (rows + 15) / 16, high = gated ? 8 : 16;  // rows of tiles of a part, of each matrix
  const u32 across = (tile_rows + high - 1) / high, parts = across * ((m + N - 1) / N);
  u32 stage = 0, turn = 0;
  if (warp() >= 8) {
    fewer_registers<24>();
    for (u32 part = block_x(); part < parts && warp() == 8; part += blocks_x()) {
      const u32 first = part % across * high, token = part / across * N;
      const u32 codes = least(N, tokens - token) * 128;
      // Rows past the end are those before it, and nobody reads their products.
      u32 row = least(first + (gated ? lane() % 16 / 2 : lane() % 16), tile_rows - 1);
      if (gated && lane() % 2) row += tile_rows;
      const u8* weights = w + (u64)row * columns * 512;
      for (u32 k = 0; k < columns; k++) {
        ring_wait(empty + stage, turn ^ 1);
        u8* to = ring + stage * Bytes;
        if (lane() == 0) ring_expect(full + stage, codes + 16 * 512);
        warp_barrier();
        if (lane() < 16)
          copy_bulk(to + N * 128 + lane() * 512, weights + k * 512, 512, full + stage);
        else if (lane() == 16)
          copy_bulk(to, q + ((u64)k * tokens + token) * 128, codes, full + stage);
        if (++stage == Stages) stage = 0, turn ^= 1;
      }
    }
  } else {
    more_registers<240>();
    float* mine = exchange + warp() * kExchange;
    for (u32 part = block_x(); part < parts; part += blocks_x()) {
      i32 low[N / 2], upper[N / 2];
      UNROLL
      for (int i = 0; i < N / 2; i++) low[i] = 0, upper[i] = 0;
      u32 before = 0;  // the stage of the columns before these
      for (u32 k = 0; k < columns; k++) {
        u32 a[16], b[16];
        ring_wait(full + stage, turn);
        const u8* codes = ring + stage * Bytes;
        const u32x4* weights = (const u32x4*)(codes + N * 128 + warp() * 1024) + lane();
        const auto turned = [](u32* to, const u32x4& v) INLINE {
          to[0] = plane<0>(v.x), to[1] = plane<0>(v.y), to[2] = plane<0>(v.z), to[3] = plane<0>(v.w);
          to[4] = plane<1>(v.x), to[5] = plane<1>(v.y), to[6] = plane<1>(v.z), to[7] = plane<1>(v.w);
          to[8] = plane<2>(v.x), to[9] = plane<2>(v.y), to[10] = plane<2>(v.z), to[11] = plane<2>(v.w);
          to[12] = plane<3>(v.x), to[13] = plane<3>(v.y), to[14] = plane<3>(v.z), to[15] = plane<3>(v.w);
        };
        const u32x4 one = weights[0], two = weights[32];
        turned(a, one);
        tile_begin();
        UNROLL
        for (int i = 0; i < 4; i++) multiply_tile(low, a + 4 * i, tile_operand(codes, i));
        tile_commit();
        tile_wait<1>();
        if (k > 0 && lane() == 0) ring_arrive(empty + before);
        turned(b, two);
        tile_begin();
        UNROLL
        for (int i = 0; i < 4; i++) multiply_tile(upper, b + 4 * i, tile_operand(codes, i));
        tile_commit();
        tile_wait<1>();
        before = stage;
        if (++stage == Stages) stage = 0, turn ^= 1;
      }
      tile_wait<0>();
      if (lane() == 0) ring_arrive(empty + before);

      const u32 token = part / across * N;
      const u32 start = part % across * high * 16 + warp() * (gated ? 16 : 32);
      const auto finish = [&](auto with) INLINE { finish_part<N, with.mode>(y, low, upper, scales, bias, maxima, mine, start, token, rows, m, ldy); };
      if (mode == kPartStore)
        finish(With<kPartStore>());
      else if (mode == kPartAdd)
        finish(With<kPartAdd>());
      else if (mode == kPartSiLU)
        finish(With<kPartSiLU>());
      else
        finish(With<kPartReLU2>());
    }
  }
}

// multiply_parts_N computes y[token*ldy + row], rows and ldy multiples of 4, for m tokens, whose codes are padded to `tokens`, a multiple of 8. columns counts tiles;
// of two matrices, rows is the number of each. Shared memory: the ring, 23,552 bytes and 2,048 more.
#define MULTIPLY_PARTS(n)                                                                                                                                                                                                            \
  BOUNDED_KERNEL(384, 1, multiply_parts_##n, float* y, const u8* w, const float* scales, const float* bias, const u8* q, const float* maxima, u32 rows, u32 columns, u32 m, u32 tokens, u32 ldy, u32 mode) { \
    multiply_parts<n>(y, w, scales, bias, q, maxima, rows, columns, m, tokens, ldy, mode);                                                                                                                                \
  }
MULTIPLY_PARTS(64)
MULTIPLY_PARTS(128)
MULTIPLY_PARTS(160)
