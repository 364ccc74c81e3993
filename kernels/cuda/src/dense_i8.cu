#include "dense_rows.cuh"

DENSE(dense_i8_1, ElementsI8, 1, 4)
DENSE(dense_i8_4, ElementsI8, 4, 2)
