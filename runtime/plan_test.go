package runtime_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

// TestPlanAgreesWithEngine: what is planned without loading anything is what the
// engine says of itself.
func TestPlanAgreesWithEngine(t *testing.T) {
	preset, err := model.Preset("test")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "test.trit")
	require.NoError(t, synth.WriteModel(path, preset, format.BF16))
	file, err := format.Open(path)
	require.NoError(t, err)
	defer file.Close()
	embedded, err := format.OpenBytes(demo.Model())
	require.NoError(t, err)
	plan, err := convert.Open("../testdata/fixtures/bitnet-packed", convert.Options{Encoding: "trit3", NoSelfTest: true})
	require.NoError(t, err)
	defer plan.Close()
	base3 := filepath.Join(t.TempDir(), "base3.trit")
	_, err = plan.Write(t.Context(), base3, nil)
	require.NoError(t, err)
	unpacked, err := format.Open(base3)
	require.NoError(t, err)
	defer unpacked.Close()
	for _, f := range []*format.File{file, embedded, unpacked} {
		m, err := runtime.LoadModel(f)
		require.NoError(t, err)
		for _, context := range []int{1, 64, 65, 120} {
			e, err := runtime.NewCPU(m, runtime.Options{Context: context, Threads: 1})
			require.NoError(t, err)
			want := e.Plan()
			require.NoError(t, e.Close())
			weights := runtime.WeightBytes(f.Header())
			require.Equal(t, want.Mapped+want.Loaded, weights)
			p, err := m.Config.Plan(model.PlanOptions{Context: context, Weights: weights})
			require.NoError(t, err)
			require.Equal(t, want.Cache, p.Cache)
			require.Equal(t, want.PerToken, p.PerPosition)
			require.Equal(t, want.Context, p.Context)
		}
	}

	// By the shape alone the weights are known to within the scales: this file has
	// one a matrix, where the plan counts one a row.
	computed, err := preset.WeightBytes("bf16")
	require.NoError(t, err)
	weights := runtime.WeightBytes(file.Header())
	rows := int64(0)
	for _, x := range preset.Manifest() {
		if x.Kind == model.Matrix {
			rows += int64(x.Shape[0]) - 1
		}
	}
	require.Equal(t, weights+4*rows, computed)
}
