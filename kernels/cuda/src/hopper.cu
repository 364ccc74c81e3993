// The product of ternary matrices and the codes of many tokens (spec/numerics.md section 8) on the tensor cores of compute capability
// 9.0. Tiles of weights are those of ternary.cu, codes lie as code_chunk says, and sums of integers have no order, so that the
// results are those of multiply_s8.
//
// Blocks stay and take one part of the product after another: 256 rows by N tokens. One warp copies 128 columns at a time into a ring
// in shared memory, the weights still in two bits, and gives its registers to the others; eight warps, in two groups, turn the weights into bytes in registers, where
// the product takes them from, and never wait for the copies of a part after the first. Each group has two tiles of 64 rows,
// so that the weights of one are turned while the product of the other is under way, and a warp's rows are neighbours.
#include "hopper.cuh"
#include "numerics.cuh"

// What becomes of a product, as launch.go numbers it: it is stored, or added to what is there, or, of two matrices one after the
// other, the gate and the values, section 13 is stored.
enum : u32 { kPartStore = 0, kPartAdd = 1, kPartSiLU = 2, kPartReLU2 = 3 };

template <int N>
FN void multiply_parts(float* y, const u8* w, const float* scales, const float* bias, const u8* q, const float* maxima, u32 rows, u32 columns, u32 m, u32 tokens, u32 ldy, u32 mode) {
  enum : u32 { Bytes = N * 128 + 16 * 512, Stages = N > 128 ? 7 : 8, Pitch = 36 };
  u8* ring = shared_bytes() + (1024 - shared_address(shared_bytes()) % 1024) % 1024;
  float* exchange = (float*)(ring + Stages * Bytes);  // 8 warps, 8 tokens of 32 rows and some
  u64* full = (u64*)(exchange + 8 * 8 * Pitch);
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
    const u32 g = lane() / 4, t = lane() % 4;
    float* mine = exchange + warp() * 8 * Pitch;
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

      // Rows of a warp are next to each other: eight tokens at a time trade places through shared memory.
      const u32 token = part / across * N;
      const u32 start = part % across * high * 16 + warp() * (gated ? 16 : 32);
      float scale[4], shift[4];
      UNROLL
      for (int r = 0; r < 4; r++) {
        const u32 row = gated ? least(start + g + r % 2 * 8, rows - 1) + r / 2 * rows : least(start + g + r * 8, rows - 1);
        scale[r] = scales[row];
        shift[r] = bias ? bias[row] : 0.0f;
      }
      const bool wide = ldy % 4 == 0 && rows % 4 == 0;
      UNROLL
      for (int j = 0; j < N / 8; j++) {
        if (token + 8 * j >= m) break;
        float v[2][4];  // of two tokens
        UNROLL
        for (int h = 0; h < 2; h++) {
          const float maximum = maxima[least(token + 8 * j + 2 * t + h, m - 1)];
          UNROLL
          for (int r = 0; r < 4; r++) {
            const i32 sum = r < 2 ? low[4 * j + 2 * r + h] : upper[4 * j + 2 * (r - 2) + h];
            v[h][r] = mul32(to_float(sum >> 6), over127(mul32(scale[r], maximum)));
            if (bias) v[h][r] = add32(v[h][r], shift[r]);
          }
        }
        const u32 width = gated ? 16 : 32, pitch = gated ? 20 : Pitch;
        UNROLL
        for (int h = 0; h < 2; h++) {
          if (gated) {
            mine[(2 * t + h) * pitch + g] = gate(v[h][0], v[h][2], mode == kPartReLU2);
            mine[(2 * t + h) * pitch + g + 8] = gate(v[h][1], v[h][3], mode == kPartReLU2);
          } else {
            UNROLL
            for (int r = 0; r < 4; r++) mine[(2 * t + h) * pitch + g + 8 * r] = v[h][r];
          }
        }
        warp_barrier();
        for (u32 c = lane(); c < 2 * width; c += 32) {
          const u32 n = c / (width / 4), at = c % (width / 4) * 4, row = start + at;
          if (token + 8 * j + n >= m || row >= rows) continue;
          float* to = y + (u64)(token + 8 * j + n) * ldy + row;
          f32x4 s = *(const f32x4*)(mine + n * pitch + at);
          if (wide) {
            if (mode == kPartAdd) {
              const f32x4 x = *(const f32x4*)to;
              s = {add32(x.x, s.x), add32(x.y, s.y), add32(x.z, s.z), add32(x.w, s.w)};
            }
            *(f32x4*)to = s;
          } else {
            const float e[4] = {s.x, s.y, s.z, s.w};
            UNROLL
            for (int i = 0; i < 4; i++)
              if (row + i < rows) to[i] = mode == kPartAdd ? add32(to[i], e[i]) : e[i];
          }
        }
        warp_barrier();
      }
    }
  }
}

// multiply_parts_N computes y[token*ldy + row] for m tokens, whose codes are padded to `tokens`, a multiple of 8. columns counts tiles;
// of two matrices, rows is the number of each. Shared memory: the ring, 9,216 bytes and 2,048 more.
#define MULTIPLY_PARTS(n)                                                                                                                                                                                                            \
  BOUNDED_KERNEL(384, 1, multiply_parts_##n, float* y, const u8* w, const float* scales, const float* bias, const u8* q, const float* maxima, u32 rows, u32 columns, u32 m, u32 tokens, u32 ldy, u32 mode) { \
    multiply_parts<n>(y, w, scales, bias, q, maxima, rows, columns, m, tokens, ldy, mode);                                                                                                                                \
  }
MULTIPLY_PARTS(64)
MULTIPLY_PARTS(128)
MULTIPLY_PARTS(160)
