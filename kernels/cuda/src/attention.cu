#include "attention.cuh"

ATTEND_ROWS(attend_rows_f32, PageF32)
