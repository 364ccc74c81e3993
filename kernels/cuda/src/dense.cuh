// The elements of a dense matrix on the device. A row is padded to whole chunks of 512 bytes, in which each of the 32
// lanes of section 3 finds its elements side by side: with E elements in 16 bytes, column 32*E*c + 32*s + j is element
// s of lane j of chunk c.
#pragma once
#include "numerics.cuh"

// Element types, as package kernels numbers them.
enum : u32 { kF32 = 1, kF16 = 2, kBF16 = 3, kI8 = 4 };

// Each type says how many elements 16 bytes hold and what element s of them is.
struct ElementsF32 {
  enum { count = 4 };
  FN float at(const u32 w[4], int s) { return from_bits(w[s]); }
};
struct ElementsF16 {
  enum { count = 8 };
  FN float at(const u32 w[4], int s) { return widen16(s & 1 ? w[s >> 1] >> 16 : w[s >> 1] & 0xffff); }
};
struct ElementsBF16 {
  enum { count = 8 };
  FN float at(const u32 w[4], int s) { return from_bits(s & 1 ? w[s >> 1] & 0xffff0000 : w[s >> 1] << 16); }
};
// A code of -127 to 127 with its sign bit turned is 128 more, and becomes the lowest byte of 2^23 + that number.
struct ElementsI8 {
  enum { count = 16 };
  FN float at(const u32 w[4], int s) { return sub32(from_bits(lowest_byte(w[s >> 2] ^ 0x80808080, s & 3, 0x4b000000)), 0x1.0001p+23f); }
};
