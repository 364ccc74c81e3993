package nearest_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/nearest"
)

// The golden values of spec/numerics.md, section 17, on every implementation.
func TestSpec(t *testing.T) {
	data, err := os.ReadFile("../spec/numerics.md")
	require.NoError(t, err)
	lines := 0
	for line := range strings.SplitSeq(string(data), "\n") {
		call, want, ok := strings.Cut(strings.TrimSpace(line), " = ")
		var seed uint32
		var rows, cols, k int
		var name string
		if n, _ := fmt.Sscanf(call, "nearest %d %d %d %s %d", &seed, &rows, &cols, &name, &k); !ok || n != 5 {
			continue
		}
		lines++
		next := func() float32 { // the generator of section 16, shift 22
			seed = 1664525*seed + 1013904223
			return float32(int32(seed>>8)-1<<23) / (1 << 22)
		}
		z := make([]float32, cols)
		for i := range z {
			z[i] = next()
		}
		w := &kernels.Dense{Rows: rows, Cols: cols, Type: kernels.F32}
		for range rows * cols {
			w.Data = binary.LittleEndian.AppendUint32(w.Data, math.Float32bits(next()))
		}
		metric, err := nearest.ParseMetric(name)
		require.NoError(t, err)
		for _, ops := range cpu.Implementations() {
			table, err := nearest.New(w, ops, nearest.Threads(2, nil))
			require.NoError(t, err)
			found, err := table.Search(z, metric, k)
			require.NoError(t, err)
			var got []string
			for _, r := range found {
				got = append(got, fmt.Sprintf("%d %08x", r.ID, math.Float32bits(r.Value)))
			}
			require.Equal(t, want, strings.Join(got, " "), "%s: %s", ops.Name(), call)
		}
	}
	require.Equal(t, 4, lines)
}
