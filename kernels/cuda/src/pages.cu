// Storing keys and values in the formats f16, int8 and int4 of spec/numerics.md section 12; store_page of vectors.cu is for f32. The
// arguments of each kernel are those of store_page, and where to tell what a format cannot hold.
#include "pages.cuh"

// What a format cannot hold, in the order in which it is an error: not finite, or too large where it is stored.
enum : u32 { kWrongKey, kWrongValue, kLargeKey, kLargeValue };

// refuse tells of element i of a position's keys or values. Of all that is told, the first layer, the first kind and the least index stay.
FN void refuse(u64* fault, u32 layer, u32 kind, u32 i, float v) {
  atomic_min(fault, (u64)layer << 52 | (u64)kind << 50 | (u64)i << 32 | bits(v));
}

KERNEL(store_page_f16, const float* k, const float* v, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 dim, u32 ld, u64* fault, u32 layer) {
  const u32 row = block_x(), slot = positions[row] % kPage;
  u8* const page = (u8*)(tables[starts[row] + positions[row] / kPage] + offset);
  u16 *keys = (u16*)page, *values = keys + (u64)heads * dim * kPage;
  k += (u64)row * ld;
  v += (u64)row * ld;
  for (u32 i = thread(); i < heads * dim; i += threads()) {
    const u32 key = narrow16(k[i]), value = narrow16(v[i]);
    if ((key & 0x7fff) == 0x7c00) refuse(fault, layer, kWrongKey, i, k[i]);
    if ((value & 0x7fff) == 0x7c00) refuse(fault, layer, kWrongValue, i, v[i]);
    keys[(u64)i * kPage + slot] = (u16)key;
    values[((u64)(i / dim) * kPage + slot) * dim + i % dim] = (u16)value;
  }
}

// rint_within has rint(v) in its low byte, no less than lo and no more than hi; see exp32 for the sum.
FN u32 rint_within(float v, float lo, float hi) {
  v = v < lo ? lo : v;
  v = v > hi ? hi : v;
  return bits(add32(v, 0x1.8p+23f));
}

// A warp quantizes the key or the value of a head.
KERNEL(store_page_int8, const float* k, const float* v, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 dim, u32 ld, u64* fault, u32 layer) {
  const u32 row = block_x(), slot = positions[row] % kPage;
  u8* const page = (u8*)(tables[starts[row] + positions[row] / kPage] + offset);
  for (u32 w = warp(); w < 2 * heads; w += warps()) {
    const bool value = w >= heads;
    const u32 head = value ? w - heads : w;
    const float* x = (value ? v : k) + (u64)row * ld + head * dim;
    const HeadPage p = head_page<PageInt8>(page, heads, head, dim);
    u32 top = 0;
    for (u32 i = lane(); i < dim; i += 32) {
      top = greatest(top, bits(x[i]) & kMagnitude);
      if (!finite(x[i])) refuse(fault, layer, value ? kWrongValue : kWrongKey, head * dim + i, x[i]);
    }
    const float scale = div32(from_bits(warp_greatest(top)), 127.0f);
    if (lane() == 0) ((float*)(value ? p.value_scales : p.key_scales))[slot] = scale;
    u8* const to = value ? p.values + slot * dim : p.keys + slot;
    for (u32 i = lane(); i < dim; i += 32) to[value ? i : i * kPage] = scale == 0 ? 0 : (u8)rint_within(div32(x[i], scale), -127.0f, 127.0f);
  }
}

// ordinal maps numbers to integers of the same order, -0 below +0, and of_ordinal maps them back.
FN u32 ordinal(float v) { return bits(v) >> 31 ? ~bits(v) : bits(v) | 0x80000000; }
FN float of_ordinal(u32 o) { return from_bits(o >> 31 ? o & kMagnitude : ~o); }

// Nibbles is what turns a vector into codes of four bits: scale and zero as they are used and as they are stored.
struct Nibbles {
  float scale, zero;
  u32 scale16, zero16;
};
FN Nibbles nibbles(float lo, float hi) {
  Nibbles q;
  q.scale = div32(sub32(hi, lo), 15.0f);
  q.scale = q.scale > 0x1.5798eep-27f ? q.scale : 0x1.5798eep-27f;
  q.zero = sub32(-8.0f, div32(lo, q.scale));
  q.scale16 = narrow16(q.scale), q.zero16 = narrow16(q.zero);
  if (q.scale16 == 0 || (q.zero16 & 0x7fff) == 0x7c00) {  // as good as a constant
    q.scale16 = 0;
    q.zero16 = narrow16(add32(mul32(hi, 0.5f), mul32(lo, 0.5f)));
  }
  return q;
}
FN u32 nibble(const Nibbles& q, float x) { return q.scale16 == 0 ? 0 : (rint_within(add32(div32(x, q.scale), q.zero), -8.0f, 7.0f) + 8) & 15; }

// nibble_pair is the byte of elements 2i and 2i+1 of a vector of n.
FN u8 nibble_pair(const Nibbles& q, const float* x, u32 n, u32 i) { return (u8)(nibble(q, x[2 * i]) << 4 | (2 * i + 1 < n ? nibble(q, x[2 * i + 1]) : 0)); }

// store_nibbles stores scale and zero for one thread, and tells if they are too large: it is the vector's greatest that is.
FN void store_nibbles(const Nibbles& q, u8* scales, u32 slot, const float* x, u32 n, u64* fault, u32 layer, u32 kind, u32 first) {
  ((u16*)scales)[slot] = (u16)q.scale16;
  ((u16*)scales)[kPage + slot] = (u16)q.zero16;
  if (q.scale16 != 0x7c00 && (q.zero16 & 0x7fff) != 0x7c00) return;
  u32 top = 0;
  for (u32 i = 1; i < n; i++)
    if ((bits(x[i]) & kMagnitude) > (bits(x[top]) & kMagnitude)) top = i;
  refuse(fault, layer, kind, first + top, x[top]);
}

// A warp quantizes the key of a head, and the block the values of all heads together.
KERNEL(store_page_int4, const float* k, const float* v, const u64* tables, const u32* starts, const u32* positions, u64 offset, u32 heads, u32 dim, u32 ld, u64* fault, u32 layer) {
  const u32 row = block_x(), slot = positions[row] % kPage, n = heads * dim, pairs = (dim + 1) / 2;
  u8* const page = (u8*)(tables[starts[row] + positions[row] / kPage] + offset);
  k += (u64)row * ld;
  v += (u64)row * ld;
  for (u32 head = warp(); head < heads; head += warps()) {
    const float* x = k + head * dim;
    const HeadPage p = head_page<PageInt4>(page, heads, head, dim);
    u32 low = 0, high = 0;
    for (u32 i = lane(); i < dim; i += 32) {
      low = greatest(low, ~ordinal(x[i])), high = greatest(high, ordinal(x[i]));
      if (!finite(x[i])) refuse(fault, layer, kWrongKey, head * dim + i, x[i]);
    }
    const Nibbles q = nibbles(of_ordinal(~warp_greatest(low)), of_ordinal(warp_greatest(high)));
    for (u32 i = lane(); i < pairs; i += 32) p.keys[i * kPage + slot] = nibble_pair(q, x, dim, i);
    if (lane() == 0) store_nibbles(q, p.key_scales, slot, x, dim, fault, layer, kLargeKey, head * dim);
  }
  u32 low = 0, high = 0;
  for (u32 i = thread(); i < n; i += threads()) {
    low = greatest(low, ~ordinal(v[i])), high = greatest(high, ordinal(v[i]));
    if (!finite(v[i])) refuse(fault, layer, kWrongValue, i, v[i]);
  }
  low = block_greatest(low);
  high = block_greatest(high);
  const Nibbles q = nibbles(of_ordinal(~low), of_ordinal(high));
  for (u32 i = thread(); i < heads * pairs; i += threads()) {
    const u32 head = i / pairs;
    head_page<PageInt4>(page, heads, head, dim).values[slot * pairs + i % pairs] = nibble_pair(q, v + head * dim, dim, i % pairs);
  }
  if (thread() == 0) store_nibbles(q, head_page<PageInt4>(page, heads, 0, dim).value_scales, slot, v, n, fault, layer, kLargeValue, 0);
}
