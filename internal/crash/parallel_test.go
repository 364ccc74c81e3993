//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/verify"
)

// TestParallel converts, verifies and runs at the same time: conversions of one
// plan's source onto one name, verifications and engines over one open file. The
// race detector runs it in CI; the results are the same without it.
func TestParallel(t *testing.T) {
	ctx, dir, source := context.Background(), t.TempDir(), t.TempDir()
	shape := synth.Shape{Class: "BitNetForCausalLM", Hidden: 64, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 96, Vocab: 100, Context: 32, Tied: true}
	require.NoError(t, synth.Write(source, shape, synth.Online, checkpoint.BF16, 1))
	target := filepath.Join(dir, "m.trit")
	convertOnce := func() error {
		plan, err := convert.Open(source, convert.Options{Workers: 3})
		if err != nil {
			return err
		}
		defer plan.Close()
		_, err = plan.Write(ctx, target, func(string, int64, int64) {})
		return err
	}
	require.NoError(t, convertOnce())
	want, err := os.ReadFile(target)
	require.NoError(t, err)
	f, err := format.Open(target)
	require.NoError(t, err)
	defer f.Close()
	m, err := runtime.LoadModel(f)
	require.NoError(t, err)
	e, err := runtime.NewCPU(m, runtime.Options{Threads: 3})
	require.NoError(t, err)
	defer e.Close()

	forward := func() ([]float32, error) {
		seq := e.NewSequence()
		defer seq.Close()
		r, err := e.Forward(ctx, []runtime.Span{{Seq: seq, Tokens: []int{1, 2, 3, 4, 5}, Logits: runtime.PositionLast}})
		if err != nil {
			return nil, err
		}
		return append([]float32(nil), r[0].Logits...), nil
	}
	logits, err := forward()
	require.NoError(t, err)

	var wg sync.WaitGroup
	errs := make(chan error, 12)
	for range 3 {
		wg.Go(func() { errs <- convertOnce() })
		wg.Go(func() {
			r, err := verify.File(ctx, target, verify.Options{Run: true, Workers: 3, Source: source}, func(string, int64, int64) {})
			if err == nil && !r.OK() {
				t.Errorf("%v", r.Findings)
			}
			errs <- err
		})
		wg.Go(func() { errs <- f.Check(ctx, 3, func(p format.Problem) { t.Error(p) }, func(int64) {}) })
		wg.Go(func() {
			got, err := forward()
			if err == nil {
				for i := range got {
					if got[i] != logits[i] {
						t.Errorf("logit %d is %v, want %v", i, got[i], logits[i])
					}
				}
			}
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	got, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, want, got)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}
