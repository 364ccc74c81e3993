// The step, for all other devices.
#include "step.cuh"

STEP(decode_step_small, 2, false)
