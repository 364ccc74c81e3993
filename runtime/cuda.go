package runtime

import "github.com/tritter-ai/tritter/kernels/cuda/driver"

// NewCUDA returns the engine that computes m on the CUDA device of number
// opt.Device. The error is of the kind driver.ErrUnavailable where the build has no
// such engine.
func NewCUDA(m *Model, opt Options) (Engine, error) { return nil, driver.ErrUnavailable }
