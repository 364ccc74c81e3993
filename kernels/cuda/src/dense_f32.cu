#include "dense_rows.cuh"

DENSE(dense_f32_1, ElementsF32, 1, 2)
DENSE(dense_f32_4, ElementsF32, 4, 2)
