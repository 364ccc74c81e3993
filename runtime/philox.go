package runtime

import "math/bits"

// philox returns the first two words of Philox4x32-10 (Salmon, Moraes, Dror and
// Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as one number.
// The generator has no state: any engine can draw the number of any position.
func philox(seed, position uint64) uint64 {
	k0, k1 := uint32(seed), uint32(seed>>32)
	c := [4]uint32{uint32(position), uint32(position >> 32), 0, 0}
	for range 10 {
		c = philoxRound(c, k0, k1)
		k0 += 0x9e3779b9
		k1 += 0xbb67ae85
	}
	return uint64(c[0]) | uint64(c[1])<<32
}

func philoxRound(c [4]uint32, k0, k1 uint32) [4]uint32 {
	hi0, lo0 := bits.Mul32(0xd2511f53, c[0])
	hi1, lo1 := bits.Mul32(0xcd9e8d57, c[2])
	return [4]uint32{hi1 ^ c[1] ^ k0, lo1, hi0 ^ c[3] ^ k1, lo0}
}
