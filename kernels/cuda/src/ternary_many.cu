#include "ternary.cuh"

TERNARY_S8(ternary_s8_128, 4, 2, 2, 8, false)
TERNARY_S8(ternary_s8_128_grouped, 4, 2, 2, 8, true)
