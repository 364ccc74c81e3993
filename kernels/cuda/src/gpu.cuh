// The words in which the kernels are written: types, special registers, and one function for each instruction whose
// rounding or whose place in memory matters. On a GPU they are PTX; with TRITTER_EMULATOR they are ordinary C++, so
// that the tests can run the same kernels where there is no GPU.
//
// Every floating-point operation of a kernel goes through fma32, mul32, add32, sub32, div32 or sqrt32: each rounds
// once, to nearest even, keeps subnormals, and is never fused with another (spec/numerics.md section 1).
#pragma once

typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;

struct alignas(16) u32x4 {
  u32 x, y, z, w;
};
struct alignas(8) f32x2 {
  float x, y;
};
struct alignas(16) f32x4 {
  float x, y, z, w;
};

// INLINE is for lambdas: what they capture stays in registers.
#define INLINE __attribute__((always_inline))

#ifdef TRITTER_EMULATOR
#include "../emulator/words.h"
#else

#ifndef __NVCC__  // clang without the toolkit's headers
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __forceinline__ inline __attribute__((always_inline))
#endif

#define FN static __device__ __forceinline__
// APART is for a function that would take registers from its caller.
#define APART(type) static __device__ __attribute__((noinline)) type
#define UNROLL _Pragma("unroll")
#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) PRAGMA(unroll n)
#define KERNEL(name, ...) extern "C" __global__ void name(__VA_ARGS__)
#define BOUNDED_KERNEL(threads, blocks, name, ...) extern "C" __global__ void __launch_bounds__(threads, blocks) name(__VA_ARGS__)

#ifdef __NVCC__
FN u32 thread() { return threadIdx.x; }
FN u32 threads() { return blockDim.x; }
FN u32 block_x() { return blockIdx.x; }
FN u32 block_y() { return blockIdx.y; }
FN u32 blocks_x() { return gridDim.x; }
FN float fma32(float a, float b, float c) { return __fmaf_rn(a, b, c); }
FN float mul32(float a, float b) { return __fmul_rn(a, b); }
FN float add32(float a, float b) { return __fadd_rn(a, b); }
FN float sub32(float a, float b) { return __fsub_rn(a, b); }
FN float div32(float a, float b) { return __fdiv_rn(a, b); }
FN float sqrt32(float a) { return __fsqrt_rn(a); }
FN u32 bits(float v) { return __float_as_uint(v); }
FN float from_bits(u32 u) { return __uint_as_float(u); }
// to_float rounds an integer once.
FN float to_float(i32 n) { return __int2float_rn(n); }
#else
FN u32 thread() { return __nvvm_read_ptx_sreg_tid_x(); }
FN u32 threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
FN u32 block_x() { return __nvvm_read_ptx_sreg_ctaid_x(); }
FN u32 block_y() { return __nvvm_read_ptx_sreg_ctaid_y(); }
FN u32 blocks_x() { return __nvvm_read_ptx_sreg_nctaid_x(); }
FN float fma32(float a, float b, float c) { return __nvvm_fma_rn_f(a, b, c); }
FN float mul32(float a, float b) { return __nvvm_mul_rn_f(a, b); }
FN float add32(float a, float b) { return __nvvm_add_rn_f(a, b); }
FN float sub32(float a, float b) { return __nvvm_add_rn_f(a, -b); }
FN float div32(float a, float b) { return __nvvm_div_rn_f(a, b); }
FN float sqrt32(float a) { return __nvvm_sqrt_rn_f(a); }
FN u32 bits(float v) { return __builtin_bit_cast(u32, v); }
FN float from_bits(u32 u) { return __builtin_bit_cast(float, u); }
FN float to_float(i32 n) { return __nvvm_i2f_rn(n); }
#endif

FN void barrier() { asm volatile("bar.sync 0;" ::: "memory"); }
// barrier_of is a barrier of so many threads under a name from 1 to 15, and barrier_arrive is that of a thread that does not wait.
FN void barrier_of(u32 name, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory"); }
FN void barrier_arrive(u32 name, u32 threads) { asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory"); }
FN void warp_barrier() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
FN u32 shuffle_xor(u32 v, u32 mask) {
  u32 r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(mask));
  return r;
}
FN float shuffle_xor(float v, u32 mask) { return from_bits(shuffle_xor(bits(v), mask)); }

// shuffle_up returns v of the lane that many lower, and shuffle_from that of one lane.
FN float shuffle_up(float v, u32 lanes) {
  u32 r;
  asm volatile("shfl.sync.up.b32 %0, %1, %2, 0x0, 0xffffffff;" : "=r"(r) : "r"(bits(v)), "r"(lanes));
  return from_bits(r);
}
FN float shuffle_from(float v, u32 lane) {
  u32 r;
  asm volatile("shfl.sync.idx.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(bits(v)), "r"(lane));
  return from_bits(r);
}

// mma_s8 adds to c the product of a, 16 rows x 32, and b, 32 x 8 columns, spread over the lanes of a warp as PTX
// lays out mma.m16n8k32: with g = lane/4 and t = lane%4, a[0..3] are bytes 4t..4t+3 of row g, of row g+8, and
// bytes 16+4t.. of the two; b[0..1] are the same bytes of column g; c[0..3] are row g at columns 2t and 2t+1, and
// row g+8 at the two.
FN void mma_s8(i32 c[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// warp_greatest is the greatest v of the lanes, and warp_sum the sum.
FN u32 warp_greatest(u32 v) {
  u32 r;
  asm volatile("redux.sync.max.u32 %0, %1, 0xffffffff;" : "=r"(r) : "r"(v));
  return r;
}
FN i32 warp_sum(i32 v) {
  i32 r;
  asm volatile("redux.sync.add.s32 %0, %1, 0xffffffff;" : "=r"(r) : "r"(v));
  return r;
}

// warp_all reports whether v is true in all lanes.
FN bool warp_all(bool v) {
  u32 r;
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %1, 0;\n\tvote.sync.all.pred p, p, 0xffffffff;\n\tselp.u32 %0, 1, 0, p;\n\t}" : "=r"(r) : "r"((u32)v));
  return r != 0;
}

// greatest_magnitude is the greater of a, which is not negative, and |b|, or NaN if either is.
FN float greatest_magnitude(float a, float b) {
  float r;
  asm("{\n\t.reg .f32 m;\n\tabs.f32 m, %2;\n\tmax.NaN.f32 %0, %1, m;\n\t}" : "=f"(r) : "f"(a), "f"(b));
  return r;
}

// inverse_near and inverse_root_near are 1/x and 1/sqrt(x), not rounded as they should be.
FN float inverse_near(float x) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
FN float inverse_root_near(float x) {
  float r;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// low_bytes is the lowest byte of each, the first lowest, and dot_bytes adds the products of the signed bytes of a and b to c.
FN u32 low_bytes(u32 a, u32 b, u32 c, u32 d) {
  u32 low, high, r;
  asm("prmt.b32 %0, %1, %2, 0x0040;" : "=r"(low) : "r"(a), "r"(b));
  asm("prmt.b32 %0, %1, %2, 0x0040;" : "=r"(high) : "r"(c), "r"(d));
  asm("prmt.b32 %0, %1, %2, 0x5410;" : "=r"(r) : "r"(low), "r"(high));
  return r;
}
// lowest_byte is `rest` with byte i of w for its lowest.
FN u32 lowest_byte(u32 w, u32 i, u32 rest) {
  u32 r;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(r) : "r"(w), "r"(rest), "r"(0x7650 + i));
  return r;
}
FN i32 dot_bytes(u32 a, u32 b, i32 c) {
  i32 r;
  asm("dp4a.s32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}

// dot_masks is dot_bytes with unsigned bytes in a.
FN i32 dot_masks(u32 a, u32 b, i32 c) {
  i32 r;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
}

// read_once and read_again say what the second-level cache does with what is read: it gives up first what is read once a step.
FN u64 read_once() {
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
  return policy;
}
FN u64 read_again() {
  u64 policy;
  asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0;" : "=l"(policy));
  return policy;
}

// load_weights reads 16 bytes that no other thread reads and nothing writes.
FN u32x4 load_weights(const void* p) {
  u32x4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}

// shared_bytes is the dynamic shared memory of the block.
extern __shared__ u32x4 dynamic_shared[];
FN u8* shared_bytes() { return (u8*)dynamic_shared; }
FN u32 shared_address(const void* p) {
  u64 a;
  asm("cvta.to.shared.u64 %0, %1;" : "=l"(a) : "l"(p));
  return (u32)a;
}
// copy_async starts to copy 16 bytes from global to shared memory, of which it takes a shared_address too.
FN void copy_async(u32 to, const void* from) { asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory"); }
FN void copy_async(void* to, const void* from) { copy_async(shared_address(to), from); }
// load_shared, load_shared_pair, load_shared_float and store_shared take a shared_address.
FN u32x4 load_shared(u32 from) {
  u32x4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(from) : "memory");
  return v;
}
FN void store_shared(u32 to, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(v) : "memory"); }
FN f32x2 load_shared_pair(u32 from) {
  f32x2 v;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(from) : "memory");
  return v;
}
FN float load_shared_float(u32 from) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(from) : "memory");
  return v;
}
FN void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
FN void copy_wait() { asm volatile("cp.async.wait_all;" ::: "memory"); }
// copy_wait<n> waits until at most n groups of copies of this thread are under way.
template <int N>
FN void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

FN void atomic_min(u32* p, u32 v) { asm volatile("red.global.min.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }
FN void atomic_min(u64* p, u64 v) { asm volatile("red.global.min.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory"); }
FN void atomic_max(u64* p, u64 v) { asm volatile("red.global.max.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory"); }
// shared_add adds to a word of shared memory.
FN void shared_add(u64* p, u64 v) { asm volatile("red.shared.add.u64 [%0], %1;" ::"r"(shared_address(p)), "l"(v) : "memory"); }
FN void shared_add(u32 to, i32 v) { asm volatile("red.shared.add.s32 [%0], %1;" ::"r"(to), "r"(v) : "memory"); }
FN u64 high_product(u64 a, u64 b) {
  u64 r;
  asm("mul.hi.u64 %0, %1, %2;" : "=l"(r) : "l"(a), "l"(b));
  return r;
}
FN u64 ceiling(double v) {
  u64 r;
  asm("cvt.rpi.u64.f64 %0, %1;" : "=l"(r) : "d"(v));
  return r;
}

// Words that blocks of one launch tell each other: a read is made where all blocks see it, and a word is whole. Between two
// reads that found nothing, a thread is idle.
FN u32 load_relaxed(const u32* p) {
  u32 v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
FN u64 load_relaxed(const u64* p) {
  u64 v;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
FN u32x4 load_relaxed(const u32x4* p) {
  u32x4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
  return v;
}
// load_relaxed_if reads into v if wanted, without a branch.
FN void load_relaxed_if(bool wanted, u32x4& v, const u32x4* p) {
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t@p ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];\n\t}" : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(p), "r"((u32)wanted) : "memory");
}
FN void store_relaxed(u32* p, u32 v) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }
FN void store_relaxed(u64* p, u64 v) { asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory"); }
FN void idle() {}

// Arrivals is a word in shared memory that tells when copies are there: each of so many threads announces those that it has
// started so far, and arrivals_wait returns when all of them have arrived. parity is that of the number of times before.
FN void arrivals_init(u64* p, u32 threads) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(p)), "r"(threads) : "memory"); }
FN void arrivals_announce(u64* p) { asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(p)) : "memory"); }
// arrivals_arrive announces that this thread is done with what the word is about. Both take a shared_address too.
FN void arrivals_arrive(u32 at) { asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(at) : "memory"); }
FN void arrivals_arrive(u64* p) { arrivals_arrive(shared_address(p)); }
#if __CUDA_ARCH__ >= 900
#define TRY_WAIT "try_wait"
#else
#define TRY_WAIT "test_wait"
#endif
FN void arrivals_wait(u32 at, u32 parity) {
  asm volatile("{\n\t.reg .pred p;\nAGAIN:\n\tmbarrier." TRY_WAIT ".parity.shared.b64 p, [%0], %1;\n\t@!p bra.uni AGAIN;\n\t}" ::"r"(at), "r"(parity) : "memory");
}
FN void arrivals_wait(u64* p, u32 parity) { arrivals_wait(shared_address(p), parity); }

// prefetch asks for the 128 bytes around an address to be brought into the second-level cache.
FN void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

// Filling is a word in shared memory that tells when the copies of one warp are there, and is waited for as arrivals are.
// For each turn all lanes call fill_begin with the bytes of all of them, fill with what each copies (a shared_address, and a
// multiple of 16 bytes) and how the second-level cache holds it, and fill_end. fill_ready makes the words known, and fill_again comes between what a thread wrote to the
// place of copies and word of it to the warp that copies.
#if __CUDA_ARCH__ >= 900
FN void fill_init(u64* p) { arrivals_init(p, 1); }
FN void fill_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
FN void fill_begin(u64* p, u32 bytes) {
  if ((thread() & 31) == 0) asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(p)), "r"(bytes) : "memory");
  warp_barrier();
}
FN void fill(u64* p, u32 to, const void* from, u32 bytes, u64 policy) {
  if (bytes > 0) asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to), "l"(from), "r"(bytes), "r"(shared_address(p)), "l"(policy) : "memory");
}
FN void fill_end(u64*) {}
FN void fill_again() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#else
FN void fill_init(u64* p) { arrivals_init(p, 32); }
FN void fill_ready() {}
FN void fill_begin(u64*, u32) {}
FN void fill(u64*, u32 to, const void* from, u32 bytes, u64 policy) {
  const u32 low = (u32)(u64)from, high = (u32)((u64)from >> 32);
  for (u32 lane = 0; lane < 32; lane++) {
    const u32 n = bits(shuffle_from(from_bits(bytes), lane)), at = bits(shuffle_from(from_bits(to), lane));
    const u8* source = (const u8*)(bits(shuffle_from(from_bits(low), lane)) | (u64)bits(shuffle_from(from_bits(high), lane)) << 32);
    for (u32 i = (thread() & 31) * 16; i < n; i += 512) asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(at + i), "l"(source + i), "l"(policy) : "memory");
  }
}
FN void fill_end(u64* p) { arrivals_announce(p); }
FN void fill_again() {}
#endif
FN void fill_wait(u64* p, u32 parity) { arrivals_wait(p, parity); }
FN void fill_wait(u32 at, u32 parity) { arrivals_wait(at, parity); }

// load_matrices loads four matrices of 8 rows x 16 bytes from shared memory: lane 8i+r names row r of matrix i, and of matrix i
// each lane gets into v[i] the bytes 4t..4t+3 of row g, with g = lane/4 and t = lane%4. load_matrices_across takes elements of two
// bytes and gives those of rows 2t and 2t+1 in column g.
FN void load_matrices(u32 v[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(shared_address(row)) : "memory");
}
FN void load_matrices_across(u32 v[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3]) : "r"(shared_address(row)) : "memory");
}

// load_f32x4_if and store_f32x4_if move 16 bytes at once and without a branch, or nothing; what is not loaded is zero.
FN f32x4 load_f32x4_if(bool wanted, const float* p) {
  f32x4 v;
  asm volatile(
      "{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\tmov.f32 %0, 0f00000000;\n\tmov.f32 %1, 0f00000000;\n\tmov.f32 %2, 0f00000000;\n\tmov.f32 %3, 0f00000000;\n\t"
      "@p ld.global.v4.f32 {%0, %1, %2, %3}, [%4];\n\t}"
      : "=&f"(v.x), "=&f"(v.y), "=&f"(v.z), "=&f"(v.w)
      : "l"(p), "r"((u32)wanted)
      : "memory");
  return v;
}
FN void store_f32x4_if(bool wanted, float* p, const f32x4& v) {
  asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t@p st.global.v4.f32 [%4], {%0, %1, %2, %3};\n\t}" ::"f"(v.x), "f"(v.y), "f"(v.z), "f"(v.w), "l"(p), "r"((u32)wanted) : "memory");
}

// Words of what need not be exact (fast.cu): bf16 pairs, the first in the low half, products of matrices of them, and powers of two.
FN u32 pack_bf16(float low, float high) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}
// mma_bf16 adds to c the product of a, 16 rows x 16, and b, 16 x 8 columns, laid out as for mma_s8 with two elements to a word.
FN void mma_bf16(float c[4], const u32 a[4], u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
FN float exp2_near(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}

// Programmatic dependent launch: await_grid returns when the kernels before this one have finished and their writes
// are visible, and release_grid lets the next kernel start. Without it, and before sm_90, both do nothing, because
// kernels of a stream follow each other.
#if __CUDA_ARCH__ >= 900
FN void await_grid() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
FN void release_grid() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
#else
FN void await_grid() {}
FN void release_grid() {}
#endif
#endif

// opaque returns v, of which the compiler does not know that it is the same each time.
FN u32 opaque(u32 v) {
  asm volatile("" : "+r"(v));
  return v;
}

FN u32 lane() { return thread() & 31; }
FN u32 warp() { return thread() >> 5; }
FN u32 warps() { return threads() >> 5; }

FN u32 least(u32 a, u32 b) { return a < b ? a : b; }
FN u32 greatest(u32 a, u32 b) { return a > b ? a : b; }
