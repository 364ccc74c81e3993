// The step, for devices with 227 KiB of shared memory a block.
#include "step.cuh"

STEP(decode_step_large, 6, true)
