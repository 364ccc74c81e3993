package ref_test

import (
	"testing"

	"github.com/tritter-ai/tritter/kernels/optest"
	"github.com/tritter-ai/tritter/kernels/ref"
)

// TestGolden: the judge is held to values that were not made with it.
func TestGolden(t *testing.T) { optest.Golden(t, ref.New()) }
