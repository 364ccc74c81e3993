// Attention that is not exact, for compute capability 9.0 (near.cuh).
#include "near.cuh"

// attend_groups_D is attend_near_D of fast.cu. Shared memory: 1,280*D and 1,024 bytes.
BOUNDED_KERNEL(256, 1, attend_groups_64, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_near<64, true>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
BOUNDED_KERNEL(256, 1, attend_groups_128, float* out, const float* q, const float* table, const u64* tables, const Tile* tiles, u64 offset, u32 heads, u32 kv_heads, u32 ld, float z) {
  attend_near<128, true>(out, q, table, tables, tiles, offset, heads, kv_heads, ld, z);
}
