package runtime

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/synth"
)

func TestMemoryTracker(t *testing.T) {
	m := NewMemoryTracker(100 << 20)
	require.NoError(t, m.Reserve("a", 60<<20, ""))
	err := m.Reserve("the cache", 50<<20, "use a smaller one")
	require.EqualError(t, err, "the cache: 50 MiB of memory needed, 40 MiB available; use a smaller one")
	var e *MemoryError
	require.ErrorAs(t, err, &e)
	require.Equal(t, int64(60<<20), m.Used(), "what is refused is not counted")
	m.Release(60 << 20)
	require.NoError(t, m.Reserve("b", 100<<20, ""))
	require.NoError(t, NewMemoryTracker(0).Reserve("all", 1<<62, ""), "no limit")
	var none *MemoryTracker
	require.NoError(t, none.Reserve("all", 1<<62, ""))
}

// TestRefusedBeforeLoading: a context whose cache no machine holds is refused with
// the one that fits, by the file alone and by the engine.
func TestRefusedBeforeLoading(t *testing.T) {
	shape := synth.Shape{Class: "LlamaForCausalLM", Hidden: 128, Layers: 64, Heads: 64, KVHeads: 64, HeadDim: 64, Intermediate: 128, Vocab: 32, Context: 1 << 24, Tied: true}
	path := filepath.Join(t.TempDir(), "long.trit")
	require.NoError(t, synth.WriteModel(path, shape.Config(), format.BF16))
	f, err := format.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var e *MemoryError
	require.ErrorAs(t, CheckMemory(f, Options{}), &e)
	require.Equal(t, int64(64*64*64*2*4)<<24, e.Need/(1<<45)<<45, "the cache is nearly all of it")
	require.Regexp(t, `key-value cache of 16777216 positions \d+ MiB, .*use --context \d+ or less`, e.Error())
	require.NoError(t, CheckMemory(f, Options{Context: 64}))
	require.ErrorContains(t, CheckMemory(f, Options{Context: 1<<24 + 1}), "want 1 to 16777216")
	m, err := LoadModel(f)
	require.NoError(t, err)
	_, err = NewCPU(m, Options{})
	require.ErrorAs(t, err, &e)
	engine, err := NewCPU(m, Options{Context: 64})
	require.NoError(t, err)
	defer engine.Close()
	plan, err := PlanFile(f, Options{Context: 64})
	require.NoError(t, err)
	require.Equal(t, plan, engine.Plan())
	require.Equal(t, plan.Mapped+plan.Loaded+plan.Cache+plan.Activations, plan.Total())
}

// TestCacheIsAccountedFor: sequences beyond the planned one take memory into
// account block by block, and a refusal leaves everything as it was.
func TestCacheIsAccountedFor(t *testing.T) {
	shape := synth.Shape{Class: "LlamaForCausalLM", Hidden: 128, Layers: 1, Heads: 2, KVHeads: 2, Intermediate: 128, Vocab: 32, Context: 256, Tied: true}
	path := filepath.Join(t.TempDir(), "small.trit")
	require.NoError(t, synth.WriteModel(path, shape.Config(), format.BF16))
	f, err := format.Open(path)
	require.NoError(t, err)
	defer f.Close()
	m, err := LoadModel(f)
	require.NoError(t, err)
	opened, err := NewCPU(m, Options{Context: 128})
	require.NoError(t, err)
	defer opened.Close()
	e := opened.(*cpuEngine)
	const block = 64 * 2 * 64 * 2 * 4
	e.tracker = NewMemoryTracker(2 * block) // beyond the two blocks that are planned
	feed := func(s Sequence, n int) error {
		_, err := e.Forward(context.Background(), []Span{{Seq: s, Tokens: make([]int, n)}})
		return err
	}
	a, b, c := e.NewSequence(), e.NewSequence(), e.NewSequence()
	require.NoError(t, feed(a, 128))
	require.Zero(t, e.tracker.Used())
	require.NoError(t, feed(b, 65))
	require.Equal(t, int64(2*block), e.tracker.Used())
	var memory *MemoryError
	require.ErrorAs(t, feed(c, 1), &memory)
	require.Zero(t, c.Len())
	fork := b.Fork()
	require.ErrorAs(t, feed(fork, 1), &memory, "a fork copies the page that it writes to")
	fork.Close()
	a.Close()
	require.NoError(t, feed(c, 128), "blocks of a closed sequence are used again")
	require.Equal(t, int64(2*block), e.tracker.Used())
}
