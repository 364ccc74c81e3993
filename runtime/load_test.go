package runtime_test

import (
	"context"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
)

// TestLoads: however weights are held, logits are the same, whatever the head and
// the encodings.
func TestLoads(t *testing.T) {
	models := map[string]*runtime.Model{}
	for name := range shapes {
		models[name] = tiny(t, name)
	}
	untied := small
	untied.Tied = false
	models["ternary head"] = synthetic(t, untied, format.Trit2)
	models["f16"] = synthetic(t, small, format.F16)
	tritter := synth.Shapes["125M"]
	tritter.Hidden, tritter.Intermediate, tritter.Heads, tritter.KVHeads, tritter.Layers, tritter.Vocab = 128, 256, 2, 2, 2, 64
	models["tritter"] = synthetic(t, tritter, format.Int8)
	for name, m := range models {
		t.Run(name, func(t *testing.T) {
			tokens := ids(70, m.Config.VocabSize, 1)
			var want []float32
			var mapped int64
			for _, opt := range []runtime.Options{{Context: 70}, {Context: 70, Prefault: true}, {Context: 70, Load: runtime.LoadHuge}} {
				e := engine(t, m, opt)
				got := forward(t, e, runtime.Span{Seq: e.NewSequence(), Tokens: tokens, Logits: runtime.PositionAll})[0].Logits
				if want == nil {
					want = got
				}
				require.True(t, slices.Equal(want, got), "%+v", opt)
				p := e.Plan()
				switch {
				case opt.Load == runtime.LoadMmap || opt.Load == "":
					require.Equal(t, runtime.LoadMmap, p.Load)
					mapped = p.Mapped
				case p.Load == runtime.LoadHuge:
					require.Less(t, p.Mapped, mapped)
				default:
					require.NotEmpty(t, p.Note, "why there are no huge pages")
					require.Equal(t, mapped, p.Mapped)
				}
				require.NoError(t, e.Close())
				require.NoError(t, e.Close(), "again")
				_, err := e.Forward(context.Background(), nil)
				require.ErrorContains(t, err, "closed")
			}
		})
	}
	_, err := runtime.NewCPU(models["f16"], runtime.Options{Load: "disk"})
	require.ErrorContains(t, err, `load is "disk", want "mmap" or "huge"`)
}

// TestShrinkingFile: a file that shrinks is an error whenever it is noticed: while
// weights are copied, in the caller's part of a step or in a worker's. The engine
// is none the worse for it.
func TestShrinkingFile(t *testing.T) {
	if goruntime.GOOS != "linux" && goruntime.GOOS != "darwin" {
		t.Skip("files are not mapped on this system")
	}
	open := func() (string, *runtime.Model) {
		path := filepath.Join(t.TempDir(), "shrinks.trit")
		require.NoError(t, synth.WriteModel(path, small.Config(), format.BF16))
		f, err := format.Open(path)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, f.Close()) })
		m, err := runtime.LoadModel(f)
		require.NoError(t, err)
		return path, m
	}
	refused := func(err error) {
		require.Equal(t, format.ClassBounds, format.ClassOf(err), "%v", err)
		require.ErrorContains(t, err, "truncated while in use")
	}
	for _, threads := range []int{1, 2, 4} {
		path, m := open()
		e := engine(t, m, runtime.Options{Threads: threads, Context: 64})
		s := e.NewSequence()
		forward(t, e, runtime.Span{Seq: s, Tokens: []int{1, 2, 3}})
		whole, err := os.ReadFile(path)
		require.NoError(t, err)
		want := forward(t, e, runtime.Span{Seq: s.Fork(), Tokens: []int{4}, Logits: runtime.PositionLast})[0].Logits
		for range 5 {
			require.NoError(t, os.Truncate(path, 4096))
			_, err = e.Forward(context.Background(), []runtime.Span{{Seq: s, Tokens: []int{4}}})
			refused(err)
			require.Equal(t, 3, s.Len())
			require.NoError(t, os.WriteFile(path, whole, 0o644)) // the same inode: the map is whole again
			got := forward(t, e, runtime.Span{Seq: s.Fork(), Tokens: []int{4}, Logits: runtime.PositionLast})[0].Logits
			require.Equal(t, want, got)
		}
		require.NoError(t, os.Truncate(path, 4096))
		_, err = runtime.NewCPU(m, runtime.Options{Threads: threads, Context: 64, Load: runtime.LoadHuge})
		if err != nil { // a system without huge pages copies nothing
			refused(err)
		} else {
			require.NotEqual(t, "linux", goruntime.GOOS)
		}
	}
}
