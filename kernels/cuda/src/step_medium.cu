// The step, for devices with less shared memory, of which keys and values still have their part.
#include "step.cuh"

STEP(decode_step_medium, 3, true)
