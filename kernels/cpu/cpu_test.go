package cpu_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/optest"
	"github.com/tritter-ai/tritter/kernels/ref"
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

// TestManyColumns: sums of codes that stand in the upper bits of a byte are up to 64
// times too large on the way; a matrix has more columns than such sums may have.
func TestManyColumns(t *testing.T) {
	const cols = 23000 * kernels.TileCols
	for _, code := range []byte{0x55, 0xff} { // +1 and -1 throughout
		w := &kernels.Ternary{Rows: 4, Cols: cols, Tiles: bytes.Repeat([]byte{code}, kernels.TernaryBytes(4, cols)), Scales: []float32{0.5}}
		for _, q := range []int8{127, -127} {
			x := &kernels.Acts{M: 1, K: cols, Stride: cols, Codes: slices.Repeat([]int8{q}, cols), Max: []float32{3}}
			want := make([]float32, 4)
			ref.New().TernaryInt8(want, 4, w, x, 0, 4)
			for _, ops := range cpu.Implementations() {
				got := make([]float32, 4)
				ops.TernaryInt8(got, 4, w, x, 0, 4)
				if !slices.Equal(got, want) {
					t.Errorf("%s, codes %#02x, activations of %d: %v, want %v", ops.Name(), code, q, got, want)
				}
			}
		}
	}
}
