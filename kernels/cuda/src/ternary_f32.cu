#include "ternary.cuh"

TERNARY_F32(ternary_f32_1, 1)
TERNARY_F32(ternary_f32_4, 4)
