//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/conformance"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/verify"
)

// TestShrinkingFile takes the pages of a mapped file away from everything that
// reads it: each use is an error of the class bounds, and none ends the program.
func TestShrinkingFile(t *testing.T) {
	ctx := context.Background()
	shape := synth.Shape{Class: "BitNetForCausalLM", Hidden: 256, Layers: 2, Heads: 4, KVHeads: 2, Intermediate: 512, Vocab: 500, Context: 64, Tied: true}
	converted := func(seed uint64) (source, path string) {
		source, path = t.TempDir(), filepath.Join(t.TempDir(), "whole.trit")
		require.NoError(t, synth.Write(source, shape, synth.Online, checkpoint.BF16, seed))
		plan, err := convert.Open(source, convert.Options{})
		require.NoError(t, err)
		_, err = plan.Write(ctx, path, nil)
		require.NoError(t, err)
		require.NoError(t, plan.Close())
		return source, path
	}
	source, path := converted(1)
	_, other := converted(2)
	data, err := os.ReadFile(path)
	require.NoError(t, err)

	opened := func(t *testing.T) (*format.File, string) {
		path := filepath.Join(t.TempDir(), "m.trit")
		require.NoError(t, os.WriteFile(path, data, 0o666))
		f, err := format.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		return f, path
	}
	shrink := func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, 12288)) }
	bounds := func(t *testing.T, err error) {
		t.Helper()
		require.Equal(t, format.ClassBounds, format.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, "truncated while in use")
	}

	t.Run("load", func(t *testing.T) {
		f, path := opened(t)
		shrink(t, path)
		_, err := runtime.LoadModel(f)
		bounds(t, err)
	})
	for _, ops := range cpu.Implementations() {
		t.Run("forward on "+ops.Name(), func(t *testing.T) {
			for _, tokens := range [][]int{{1}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}} {
				f, path := opened(t)
				m, err := runtime.LoadModel(f)
				require.NoError(t, err)
				e, err := runtime.NewCPU(m, runtime.Options{Threads: 2, Kernels: ops})
				require.NoError(t, err)
				defer e.Close()
				shrink(t, path)
				seq := e.NewSequence()
				_, err = e.Forward(ctx, []runtime.Span{{Seq: seq, Tokens: tokens, Logits: runtime.PositionAll}})
				bounds(t, err)
				seq.Close()
				_, err = runtime.Embed(ctx, e, []int{400}, false)
				bounds(t, err)
			}
		})
	}
	t.Run("start", func(t *testing.T) {
		for _, opt := range []runtime.Options{{Filter: true}, {Load: runtime.LoadHuge}} { // which read weights before the first token
			f, path := opened(t)
			m, err := runtime.LoadModel(f)
			require.NoError(t, err)
			shrink(t, path)
			e, err := runtime.NewCPU(m, opt)
			if err == nil && opt.Load == runtime.LoadHuge && e.Plan().Load == runtime.LoadMmap {
				require.NoError(t, e.Close())
				t.Skipf("nothing is copied: %s", e.Plan().Note)
			}
			bounds(t, err)
		}
		f, path := opened(t)
		m, err := runtime.LoadModel(f)
		require.NoError(t, err)
		shrink(t, path)
		e, err := runtime.NewCPU(m, runtime.Options{Prefault: true})
		require.NoError(t, err)
		defer e.Close()
		_, err = runtime.Embed(ctx, e, []int{400}, false)
		bounds(t, err)
	})
	t.Run("verify", func(t *testing.T) {
		for _, opt := range []verify.Options{{}, {Run: true}, {Tensors: true}, {Source: source}} {
			_, path := opened(t)
			var once sync.Once
			report, err := verify.File(ctx, path, opt, func(string, int64, int64) { once.Do(func() { shrink(t, path) }) })
			require.NoError(t, err)
			require.False(t, report.OK())
			require.Equal(t, string(format.ClassBounds), report.Findings[0].Class)
		}
	})
	t.Run("compare", func(t *testing.T) {
		_, path := opened(t)
		var once sync.Once
		report, err := verify.File(ctx, other, verify.Options{Compare: path, Workers: 1}, func(check string, _, _ int64) {
			if check == "compare" { // after the first of many tensors
				once.Do(func() { shrink(t, path) })
			}
		})
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(report.Findings, func(f verify.Finding) bool { return f.Class == string(format.ClassBounds) }), "%v", report.Findings)
	})
	t.Run("export", func(t *testing.T) {
		f, path := opened(t)
		shrink(t, path)
		out := t.TempDir()
		_, err := export.GGUF(ctx, f, filepath.Join(out, "m.gguf"), export.GGUFOptions{Encoding: "tq2_0", NoTokenizer: true})
		bounds(t, err)
		bounds(t, export.HuggingFace(ctx, f, filepath.Join(out, "hf")))
		left, err := os.ReadDir(out)
		require.NoError(t, err)
		require.Empty(t, left)
	})
	t.Run("release", func(t *testing.T) {
		f, path := opened(t)
		shrink(t, path)
		_, err := conformance.Release(f)
		bounds(t, err)
	})
}
