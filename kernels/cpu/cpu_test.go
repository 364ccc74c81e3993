package cpu_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/optest"
)

// implementations are all there are; a machine that must have one says so in
// TRITTER_REQUIRE.
var implementations = []string{"avx2", "avx512", "amx", "neon"}

func TestOps(t *testing.T) {
	required := strings.Split(os.Getenv("TRITTER_REQUIRE"), ",")
	for _, name := range implementations {
		t.Run(name, func(t *testing.T) {
			for _, impl := range cpu.Implementations() {
				if impl.Name() == name {
					optest.Run(t, impl)
					return
				}
			}
			if slices.Contains(required, name) {
				t.Fatalf("this machine does not have %s, which TRITTER_REQUIRE asks for", name)
			}
			t.Skipf("this machine, or this build, does not have %s", name)
		})
	}
}

func FuzzOps(f *testing.F) { optest.Fuzz(f, cpu.Implementations()...) }
