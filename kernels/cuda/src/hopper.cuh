// Words for what compute capability 9.0 alone has: products of four warps, whose second operand lies in shared memory, and copies
// that a barrier in shared memory counts.
#pragma once
#include "gpu.cuh"

#ifndef TRITTER_EMULATOR

// A ring barrier is open once so many arrivals and the bytes that were announced have come; then it begins anew. parity is that of
// the number of times before.
FN void ring_init(u64* p, u32 arrivals) { asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(p)), "r"(arrivals) : "memory"); }
// ring_ready makes the barriers known to the unit that copies, before the barrier of the block.
FN void ring_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
FN void ring_arrive(u64* p) { asm volatile("mbarrier.arrive.shared.b64 _, [%0];" ::"r"(shared_address(p)) : "memory"); }
// ring_expect arrives, and announces bytes.
FN void ring_expect(u64* p, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(shared_address(p)), "r"(bytes) : "memory"); }
FN void ring_wait(u64* p, u32 parity) {
  u32 done = 0;
  while (!done)
    asm volatile("{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}" : "=r"(done) : "r"(shared_address(p)), "r"(parity) : "memory");
}
// copy_bulk starts to copy bytes, a multiple of 16, of which p was told or will be.
FN void copy_bulk(void* to, const void* from, u32 bytes, u64* p) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)), "l"(from), "r"(bytes), "r"(shared_address(p)) : "memory");
}

// multiply_tile adds to c the product of a, 64 rows x 32, and b, 32 x N columns, for the four warps of a group; a and the four words
// of c of each eight columns are those of mma_s8, 16 rows to a warp. b comes from tile_operand: columns of 128 bytes after one
// another, in the order of code_chunk, from byte 32i of 128 on; p is aligned to 1024 bytes.
//
// Products run behind the program: between tile_begin and the tile_wait that sees their tile_commit off, neither a nor c may be
// touched. tile_wait waits until at most n commits are under way.
FN u64 tile_operand(const void* p, u32 i) { return (u64)((shared_address(p) + 32 * i) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62; }
FN void tile_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
FN void tile_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
FN void tile_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

// fewer_registers and more_registers set the registers of a thread, for all warps of a group and where a kernel's bounds leave room.
template <int N>
FN void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
FN void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
#define ACC4(i) "+r"(c[i]), "+r"(c[i + 1]), "+r"(c[i + 2]), "+r"(c[i + 3])
#define ACC16(i) ACC4(i), ACC4(i + 4), ACC4(i + 8), ACC4(i + 12)
FN void multiply_tile(i32 (&c)[32], const u32* a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, 1;"
      : ACC16(0), ACC16(16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
FN void multiply_tile(i32 (&c)[64], const u32* a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, 1;"
      : ACC16(0), ACC16(16), ACC16(32), ACC16(48)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
FN void multiply_tile(i32 (&c)[80], const u32* a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n160k32.s32.s8.s8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
      "}, {%80, %81, %82, %83}, %84, 1;"
      : ACC16(0), ACC16(16), ACC16(32), ACC16(48), ACC16(64)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef ACC4
#undef ACC16

// multiply_near is multiply_tile for bf16: a as for mma_bf16, and b from near_operand, 16 rows of 64 columns after one another, in
// which chunks of 16 bytes trade places by the row as in code_chunk; the next 64 columns are `stride` bytes on.
// tile_publish makes what this thread has written to shared memory known to the products behind the next barrier.
FN u64 near_operand(const void* p, u32 stride) { return (u64)(shared_address(p) >> 4) | (u64)(stride >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62; }
FN void tile_publish() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
#define NEAR4(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3])
#define NEAR16(i) NEAR4(i), NEAR4(i + 4), NEAR4(i + 8), NEAR4(i + 12)
FN void multiply_near(float (&c)[32], const u32* a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
      "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"
      : NEAR16(0), NEAR16(16)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
FN void multiply_near(float (&c)[64], const u32* a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
      "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
      : NEAR16(0), NEAR16(16), NEAR16(32), NEAR16(48)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
#undef NEAR4
#undef NEAR16

#endif
