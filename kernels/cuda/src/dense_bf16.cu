#include "dense_rows.cuh"

DENSE(dense_bf16_1, ElementsBF16, 1, 2)
DENSE(dense_bf16_4, ElementsBF16, 4, 2)
