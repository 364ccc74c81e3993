// The words of src/gpu.cuh for a processor: threads of a block are fibers of one thread, which take turns at barriers
// and at the operations of a warp.
#pragma once
#include <math.h>
#include <string.h>

#define FN static inline __attribute__((always_inline))
#define APART(type) static type
#define UNROLL
#define UNROLL_BY(n)
#define __shared__ static

namespace emulator {
struct Fiber;
extern u32 thread_index, thread_count, block_index[2], block_count;
// Bank holds what the lanes of a warp show each other in one operation. Two take turns: a lane that has gone on to the
// next operation does not disturb those that still read.
typedef u32 Bank[32][8];
Bank& next_bank();
extern unsigned char* shared_memory;
void block_barrier(u32 name, u32 threads);
void block_arrive(u32 name, u32 threads);
void warp_barrier();
void idle();
[[noreturn]] void fail(const char* what);

// unpack reads parameters from the packed buffer of a launch.
inline unsigned long long align(unsigned long long at, unsigned long long to) { return (at + to - 1) / to * to; }
template <class T>
inline T unpack(const char* packed, unsigned long long& at) {
  at = align(at, alignof(T));
  T v;
  memcpy(&v, packed + at, sizeof v);
  at += sizeof v;
  return v;
}
template <class... A>
inline void invoke(void (*kernel)(A...), const char* packed) {
  unsigned long long at = 0;
  // Braces evaluate their arguments from left to right.
  struct Order {
    Order(void (*kernel)(A...), A... args) { kernel(args...); }
  };
  Order{kernel, unpack<A>(packed, at)...};
}
struct Kernel {
  const char* name;
  void (*run)(const char* packed);
  Kernel* next;
  static Kernel* all;
  Kernel(const char* name, void (*run)(const char*)) : name(name), run(run), next(all) { all = this; }
};
}  // namespace emulator

#define KERNEL(name, ...)                                                                                        \
  static void name(__VA_ARGS__);                                                                                 \
  static emulator::Kernel kernel_##name(#name, [](const char* packed) { emulator::invoke(&name, packed); }); \
  static void name(__VA_ARGS__)
#define BOUNDED_KERNEL(threads, blocks, name, ...) KERNEL(name, __VA_ARGS__)

FN u32 thread() { return emulator::thread_index; }
FN u32 threads() { return emulator::thread_count; }
FN u32 block_x() { return emulator::block_index[0]; }
FN u32 block_y() { return emulator::block_index[1]; }
FN u32 blocks_x() { return emulator::block_count; }

FN float fma32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
FN float mul32(float a, float b) { return a * b; }
FN float add32(float a, float b) { return a + b; }
FN float sub32(float a, float b) { return a - b; }
FN float div32(float a, float b) { return a / b; }
FN float sqrt32(float a) { return __builtin_sqrtf(a); }
FN u32 bits(float v) {
  u32 u;
  memcpy(&u, &v, 4);
  return u;
}
FN float from_bits(u32 u) {
  float v;
  memcpy(&v, &u, 4);
  return v;
}
FN float to_float(i32 n) { return (float)n; }

FN void barrier() { emulator::block_barrier(0, emulator::thread_count); }
FN void barrier_of(u32 name, u32 threads) { emulator::block_barrier(name, threads); }
FN void barrier_arrive(u32 name, u32 threads) { emulator::block_arrive(name, threads); }
FN void warp_barrier() { emulator::warp_barrier(); }
FN u32 shuffle_xor(u32 v, u32 mask) {
  u32 self = emulator::thread_index & 31;
  emulator::Bank& bank = emulator::next_bank();
  bank[self][0] = v;
  emulator::warp_barrier();
  return bank[self ^ mask][0];
}
FN float shuffle_xor(float v, u32 mask) { return from_bits(shuffle_xor(bits(v), mask)); }

FN float shuffle_from(float v, u32 lane) {
  emulator::Bank& bank = emulator::next_bank();
  bank[emulator::thread_index & 31][0] = bits(v);
  emulator::warp_barrier();
  return from_bits(bank[lane & 31][0]);
}
FN float shuffle_up(float v, u32 lanes) {
  u32 self = emulator::thread_index & 31;
  return shuffle_from(v, self < lanes ? self : self - lanes);
}

FN void mma_s8(i32 c[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  u32 self = emulator::thread_index & 31, mine[6] = {a0, a1, a2, a3, b0, b1};
  emulator::Bank& bank = emulator::next_bank();
  memcpy(bank[self], mine, sizeof mine);
  emulator::warp_barrier();
  for (u32 e = 0; e < 4; e++) {
    u32 row = self / 4, column = self % 4 * 2 + e % 2;
    for (u32 t = 0; t < 4; t++) {
      i8 a[8], b[8];
      memcpy(a, &bank[4 * row + t][e / 2], 4);
      memcpy(a + 4, &bank[4 * row + t][2 + e / 2], 4);
      memcpy(b, &bank[4 * column + t][4], 8);
      for (int i = 0; i < 8; i++) c[e] += a[i] * b[i];
    }
  }
}

FN u32 warp_greatest(u32 v) {
  emulator::Bank& bank = emulator::next_bank();
  bank[emulator::thread_index & 31][0] = v;
  emulator::warp_barrier();
  for (u32 i = 0; i < 32; i++) v = bank[i][0] > v ? bank[i][0] : v;
  return v;
}
FN i32 warp_sum(i32 v) {
  emulator::Bank& bank = emulator::next_bank();
  bank[emulator::thread_index & 31][0] = (u32)v;
  emulator::warp_barrier();
  v = 0;
  for (u32 i = 0; i < 32; i++) v += (i32)bank[i][0];
  return v;
}
FN bool warp_all(bool v) { return warp_sum(v) == 32; }

FN float greatest_magnitude(float a, float b) {
  b = b < 0 ? -b : b;
  return a != a ? a : b != b || b > a ? b : a;
}
// Near is what the last two bits of an approximation may be off.
FN float inverse_near(float x) { return (float)(1.0 / x * (1 + 0x1p-24)); }
FN float inverse_root_near(float x) { return (float)(1.0 / __builtin_sqrt((double)x) * (1 - 0x1p-24)); }
FN u32 low_bytes(u32 a, u32 b, u32 c, u32 d) { return (a & 0xff) | (b & 0xff) << 8 | (c & 0xff) << 16 | d << 24; }
FN u32 lowest_byte(u32 w, u32 i, u32 rest) { return (rest & ~0xffu) | (w >> 8 * i & 0xff); }
FN i32 dot_bytes(u32 a, u32 b, i32 c) {
  for (u32 i = 0; i < 32; i += 8) c += (i8)(a >> i) * (i8)(b >> i);
  return c;
}
FN i32 dot_masks(u32 a, u32 b, i32 c) {
  for (u32 i = 0; i < 32; i += 8) c += (i32)(a >> i & 0xff) * (i8)(b >> i);
  return c;
}

// aligned holds an address to what a GPU asks of an access of 16 bytes.
FN const void* aligned(const void* p) {
  if ((u64)p % 16) emulator::fail("an access of 16 bytes is not aligned");
  return p;
}
FN u32x4 load_weights(const void* p) { return *(const u32x4*)aligned(p); }
FN u64 read_once() { return 0; }
FN u64 read_again() { return 0; }
FN u8* shared_bytes() { return emulator::shared_memory; }
FN void copy_async(void* to, const void* from) { memcpy((void*)aligned(to), aligned(from), 16); }
FN u32 shared_address(const void* p) { return (u32)((const u8*)p - emulator::shared_memory); }
FN u32x4 load_shared(u32 from) { return *(const u32x4*)aligned(emulator::shared_memory + from); }
FN void copy_async(u32 to, const void* from) { copy_async(emulator::shared_memory + to, from); }
FN void store_shared(u32 to, float v) { *(float*)(emulator::shared_memory + to) = v; }
FN f32x2 load_shared_pair(u32 from) { return *(const f32x2*)(emulator::shared_memory + from); }
FN float load_shared_float(u32 from) { return *(const float*)(emulator::shared_memory + from); }
FN void copy_commit() {}
FN void copy_wait() {}
template <int N>
FN void copy_wait() {}

FN void atomic_min(u32* p, u32 v) { *p = v < *p ? v : *p; }
FN void atomic_min(u64* p, u64 v) { *p = v < *p ? v : *p; }
FN void atomic_max(u64* p, u64 v) { *p = v > *p ? v : *p; }
FN void shared_add(u64* p, u64 v) { *p += v; }
FN void shared_add(u32 to, i32 v) { *(i32*)(emulator::shared_memory + to) += v; }
FN u64 high_product(u64 a, u64 b) { return (u64)((unsigned __int128)a * b >> 64); }
FN u64 ceiling(double v) { return (u64)ceil(v); }
FN u32 load_relaxed(const u32* p) { return *(const volatile u32*)p; }
FN u64 load_relaxed(const u64* p) { return *(const volatile u64*)p; }
FN u32x4 load_relaxed(const u32x4* p) {
  asm volatile("" ::: "memory");
  return *(const u32x4*)aligned(p);
}
FN void load_relaxed_if(bool wanted, u32x4& v, const u32x4* p) {
  if (wanted) v = load_relaxed(p);
}
FN void store_relaxed(u32* p, u32 v) { *(volatile u32*)p = v; }
FN void store_relaxed(u64* p, u64 v) { *(volatile u64*)p = v; }
FN void idle() { emulator::idle(); }
FN void prefetch(const void*) {}
// A word of arrivals: the number of threads, of those that have announced themselves, and the parity of the times that all had.
FN void arrivals_init(u64* p, u32 threads) { *p = threads; }
FN void arrivals_announce(u64* p) {
  *p += 1ull << 32;
  if ((*p >> 32 & 0xffff) == (*p & 0xffff)) *p = (*p & 0xffff) | ((*p >> 63 ^ 1) << 63);
}
FN void arrivals_arrive(u64* p) { arrivals_announce(p); }
FN void arrivals_arrive(u32 at) { arrivals_announce((u64*)(emulator::shared_memory + at)); }
FN void arrivals_wait(u64* p, u32 parity) {
  while (*(volatile u64*)p >> 63 == parity) emulator::idle();
}
FN void arrivals_wait(u32 at, u32 parity) { arrivals_wait((u64*)(emulator::shared_memory + at), parity); }
// A filling is arrivals of 32 lanes.
FN void fill_init(u64* p) { arrivals_init(p, 32); }
FN void fill_ready() {}
FN void fill_begin(u64*, u32) {}
FN void fill(u64*, u32 to, const void* from, u32 bytes, u64) {
  if (bytes % 16) emulator::fail("a copy is not of whole chunks of 16 bytes");
  memcpy((void*)aligned(emulator::shared_memory + to), aligned(from), bytes);
}
FN void fill_end(u64* p) { arrivals_announce(p); }
FN void fill_again() {}
FN void fill_wait(u64* p, u32 parity) { arrivals_wait(p, parity); }
FN void fill_wait(u32 at, u32 parity) { arrivals_wait(at, parity); }
FN f32x4 load_f32x4_if(bool wanted, const float* p) { return wanted ? *(const f32x4*)aligned(p) : f32x4{0, 0, 0, 0}; }
FN void store_f32x4_if(bool wanted, float* p, const f32x4& v) {
  if (wanted) *(f32x4*)aligned(p) = v;
}
FN u32 to_bf16(float v) {
  const u32 u = bits(v);
  return v != v ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
FN u32 pack_bf16(float low, float high) { return to_bf16(low) | to_bf16(high) << 16; }
FN void mma_bf16(float c[4], const u32 a[4], u32 b0, u32 b1) {
  u32 self = emulator::thread_index & 31, mine[6] = {a[0], a[1], a[2], a[3], b0, b1};
  emulator::Bank& bank = emulator::next_bank();
  memcpy(bank[self], mine, sizeof mine);
  emulator::warp_barrier();
  for (u32 e = 0; e < 4; e++) {
    u32 row = self / 4, column = self % 4 * 2 + e % 2;
    for (u32 k = 0; k < 16; k++) {
      const u32 t = k % 8 / 2, x = bank[4 * row + t][k / 8 * 2 + e / 2], y = bank[4 * column + t][4 + k / 8];
      c[e] += from_bits(k % 2 ? x & 0xffff0000 : x << 16) * from_bits(k % 2 ? y & 0xffff0000 : y << 16);
    }
  }
}
FN float exp2_near(float x) { return exp2f(x); }

// matrix_word is the word of a row of 16 bytes that a lane shows the others.
FN u32 matrix_word(emulator::Bank& bank, u32 lane, u32 byte) {
  const u8* row;
  memcpy(&row, bank[lane], 8);
  u32 v;
  memcpy(&v, row + byte, 4);
  return v;
}
FN emulator::Bank& show_row(const void* row) {
  if ((u64)row % 16) emulator::fail("a row of a matrix is not aligned");
  emulator::Bank& bank = emulator::next_bank();
  memcpy(bank[emulator::thread_index & 31], &row, 8);
  emulator::warp_barrier();
  return bank;
}
FN void load_matrices(u32 v[4], const void* row) {
  emulator::Bank& bank = show_row(row);
  const u32 g = emulator::thread_index % 32 / 4, t = emulator::thread_index % 4;
  for (u32 i = 0; i < 4; i++) v[i] = matrix_word(bank, 8 * i + g, 4 * t);
}
FN void load_matrices_across(u32 v[4], const void* row) {
  emulator::Bank& bank = show_row(row);
  const u32 g = emulator::thread_index % 32 / 4, t = emulator::thread_index % 4;
  for (u32 i = 0; i < 4; i++) {
    v[i] = 0;
    for (u32 h = 0; h < 2; h++) v[i] |= (matrix_word(bank, 8 * i + 2 * t + h, g / 2 * 4) >> g % 2 * 16 & 0xffff) << 16 * h;
  }
}
FN void await_grid() {}
FN void release_grid() {}

// The words of src/hopper.cuh. A ring barrier is the arrivals it wants, those that lack (from bit 12), its parity (bit 24) and the bytes
// that lack (from bit 32).
FN void ring_turn(u64* p) {
  if ((*p >> 12 & 0xfff) == 0 && (i32)(*p >> 32) == 0) *p = (*p & 0xfff) | (*p & 0xfff) << 12 | ((*p >> 24 & 1) ^ 1) << 24;
}
FN void ring_init(u64* p, u32 arrivals) { *p = arrivals | arrivals << 12; }
FN void ring_ready() {}
FN void ring_arrive(u64* p) {
  if ((*p >> 12 & 0xfff) == 0) emulator::fail("more arrivals than a ring barrier wants");
  *p -= 1 << 12;
  ring_turn(p);
}
FN void ring_expect(u64* p, u32 bytes) {
  *p += (u64)bytes << 32;
  ring_arrive(p);
}
FN void ring_wait(u64* p, u32 parity) {
  while ((*(volatile u64*)p >> 24 & 1) == parity) emulator::idle();
}
FN void copy_bulk(void* to, const void* from, u32 bytes, u64* p) {
  if (bytes % 16) emulator::fail("a copy is not of whole chunks of 16 bytes");
  memcpy((void*)aligned(to), aligned(from), bytes);
  *p -= (u64)bytes << 32;
  ring_turn(p);
}
FN u64 tile_operand(const void* p, u32 i) {
  if (shared_address(p) % 1024) emulator::fail("an operand in shared memory is not aligned to 1024 bytes");
  return shared_address(p) | (u64)i << 32;
}
FN void tile_begin() {}
FN void tile_commit() {}
template <int N>
FN void tile_wait() {}
template <int Words>
FN void multiply_tile(i32 (&c)[Words], const u32* a, u64 b) {
  const u32 self = emulator::thread_index & 31, g = self / 4, t = self % 4, i = (u32)(b >> 32);
  const u8* columns = emulator::shared_memory + (u32)b;
  emulator::Bank& bank = emulator::next_bank();
  memcpy(bank[self], a, 16);
  emulator::warp_barrier();
  i8 rows[2][32];
  for (u32 l = 0; l < 4; l++)
    for (u32 k = 0; k < 4; k++) memcpy(rows[k % 2] + k / 2 * 16 + 4 * l, &bank[4 * g + l][k], 4);
  for (u32 w = 0; w < Words; w++) {
    const u32 column = w / 4 * 8 + 2 * t + w % 2;
    for (u32 h = 0; h < 2; h++) {
      const i8* x = (const i8*)columns + column * 128 + (2 * i + h ^ column % 8) * 16;
      const i8* r = rows[w / 2 % 2] + 16 * h;
      for (u32 k = 0; k < 16; k++) c[w] += r[k] * x[k];
    }
  }
}
template <int N>
FN void fewer_registers() {}
template <int N>
FN void more_registers() {}
FN u64 near_operand(const void* p, u32 stride) {
  if (shared_address(p) % 1024) emulator::fail("an operand in shared memory is not aligned to 1024 bytes");
  return shared_address(p) | (u64)stride << 32;
}
FN void tile_publish() {}
template <int Words>
FN void multiply_near(float (&c)[Words], const u32* a, u64 b) {
  const u32 self = emulator::thread_index & 31, g = self / 4, t = self % 4;
  const u8* rows = emulator::shared_memory + (u32)b;
  emulator::Bank& bank = emulator::next_bank();
  memcpy(bank[self], a, 16);
  emulator::warp_barrier();
  for (u32 w = 0; w < Words; w++) {
    const u32 column = w / 4 * 8 + 2 * t + w % 2, h = w / 2 % 2;
    for (u32 k = 0; k < 16; k++) {
      const u32 x = bank[4 * g + k % 8 / 2][k / 8 * 2 + h];
      u16 y;
      memcpy(&y, rows + column / 64 * (u32)(b >> 32) + k * 128 + (column % 64 / 8 ^ k % 8) * 16 + column % 8 * 2, 2);
      c[w] += from_bits(k % 2 ? x & 0xffff0000 : x << 16) * from_bits((u32)y << 16);
    }
  }
}
