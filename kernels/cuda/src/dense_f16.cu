#include "dense_rows.cuh"

DENSE(dense_f16_1, ElementsF16, 1, 2)
DENSE(dense_f16_4, ElementsF16, 4, 2)
