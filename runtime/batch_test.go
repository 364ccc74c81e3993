package runtime_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/runtime"
)

// recorder is an engine that keeps the last logits of every sequence's steps.
type recorder struct {
	runtime.Engine
	logits map[runtime.Sequence][]float32
}

func (r *recorder) ForwardInto(ctx context.Context, spans []runtime.Span, results []runtime.Result) ([]runtime.Result, error) {
	results, err := r.Engine.ForwardInto(ctx, spans, results)
	if err == nil {
		for i, sp := range spans {
			r.logits[sp.Seq] = append(r.logits[sp.Seq], results[i].Logits...)
		}
	}
	return results, err
}

// TestBatchIsEachAlone: requests that join and leave at any time get the tokens,
// and the bits of every logit, that they get alone.
func TestBatchIsEachAlone(t *testing.T) {
	m := tiny(t, "bitnet")
	e := engine(t, m, runtime.Options{Threads: 2})
	run := func(req runtime.Request) (tokens []int, logits []float32) {
		rec := &recorder{e, map[runtime.Sequence][]float32{}}
		req.Seq = e.NewSequence()
		defer req.Seq.Close()
		b := runtime.NewBatch(rec)
		_, err := b.Add(req)
		require.NoError(t, err)
		for b.Len() > 0 {
			events, err := b.Step(context.Background())
			require.NoError(t, err)
			for _, ev := range events {
				require.NoError(t, ev.Err)
				tokens = append(tokens, ev.Token)
			}
		}
		return tokens, rec.logits[req.Seq]
	}
	rapid.Check(t, func(t *rapid.T) {
		rec := &recorder{e, map[runtime.Sequence][]float32{}}
		b := runtime.NewBatch(rec)
		var requests []runtime.Request
		var tokens [][]int
		removed := map[int]bool{}
		for step := 0; step < 12 || b.Len() > 0; step++ {
			for step < 12 && len(requests) < 6 && rapid.IntRange(0, 2).Draw(t, "join") == 0 {
				r := runtime.Request{Seq: e.NewSequence(), Tokens: ids(rapid.SampledFrom([]int{1, 2, 40, 70}).Draw(t, "prompt"), m.Config.VocabSize, len(requests)),
					MaxNewTokens: rapid.IntRange(1, 9).Draw(t, "length"), Sampling: runtime.Sampling{Temperature: 1, TopP: 0.9, RepetitionPenalty: 1.2, Seed: uint64(len(requests))}}
				id, err := b.Add(r)
				require.NoError(t, err)
				require.Equal(t, len(requests), id)
				requests, tokens = append(requests, r), append(tokens, nil)
			}
			if b.Len() == 0 {
				continue
			}
			events, err := b.Step(context.Background())
			require.NoError(t, err)
			for _, ev := range events {
				require.NoError(t, ev.Err)
				tokens[ev.ID] = append(tokens[ev.ID], ev.Token)
				if rapid.IntRange(0, 12).Draw(t, "leave") == 0 {
					b.Remove(ev.ID)
					removed[ev.ID] = true
				}
			}
		}
		for i, r := range requests {
			want, logits := run(r)
			if !removed[i] {
				require.Len(t, tokens[i], r.MaxNewTokens)
			}
			require.Equal(t, want[:len(tokens[i])], tokens[i])
			got := rec.logits[r.Seq]
			require.Equal(t, logits[:len(got)], got)
			r.Seq.Close()
		}
	})
}

// TestBatchLongPrompt: one who joins with a long prompt delays the others by a
// bounded amount of work a step.
func TestBatchLongPrompt(t *testing.T) {
	m := synthetic(t, small, bf16)
	e := engine(t, m, runtime.Options{})
	b := runtime.NewBatch(e)
	defer b.Close()
	first, err := b.Add(runtime.Request{Tokens: []int{1}, MaxNewTokens: 9, Sampling: greedy})
	require.NoError(t, err)
	second, err := b.Add(runtime.Request{Tokens: ids(1500, small.Vocab, 1), MaxNewTokens: 1, Sampling: greedy})
	require.NoError(t, err)
	for step := range 3 {
		events, err := b.Step(context.Background())
		require.NoError(t, err)
		require.Equal(t, first, events[0].ID)
		if step < 2 {
			require.Len(t, events, 1)
			continue
		}
		require.Len(t, events, 2, "512 tokens of the prompt a step")
		require.Equal(t, second, events[1].ID)
		require.Equal(t, runtime.FinishLength, events[1].Finish)
	}
	require.Equal(t, 1, b.Len())
}

// broken is an engine on which one sequence gives logits, or steps, that fail.
type broken struct {
	runtime.Engine
	seq  runtime.Sequence
	fail error
}

func (e *broken) ForwardInto(ctx context.Context, spans []runtime.Span, results []runtime.Result) ([]runtime.Result, error) {
	for _, sp := range spans {
		if sp.Seq == e.seq && e.fail != nil {
			return nil, e.fail
		}
	}
	results, err := e.Engine.ForwardInto(ctx, spans, results)
	for i, sp := range spans {
		if sp.Seq == e.seq && err == nil {
			results[i].Logits[5] = float32(math.NaN())
		}
	}
	return results, err
}

// TestBatchFailures: a request that fails ends alone.
func TestBatchFailures(t *testing.T) {
	m := tiny(t, "llama")
	e := engine(t, m, runtime.Options{})
	want, _ := generate(t, e, runtime.Request{Tokens: []int{1, 2, 3}, MaxNewTokens: 4, Sampling: greedy})
	for _, fail := range []error{nil, context.DeadlineExceeded} { // as an error of its own, not of the context
		b := runtime.NewBatch(&broken{e, e.NewSequence(), fail})
		good, err := b.Add(runtime.Request{Tokens: []int{1, 2, 3}, MaxNewTokens: 4, Sampling: greedy})
		require.NoError(t, err)
		bad, err := b.Add(runtime.Request{Seq: b.Engine().(*broken).seq, Tokens: []int{4}, MaxNewTokens: 4, Sampling: greedy})
		require.NoError(t, err)
		var tokens []int
		failed := 0
		for b.Len() > 0 {
			events, err := b.Step(context.Background())
			require.NoError(t, err)
			for _, ev := range events {
				if ev.ID == good {
					tokens = append(tokens, ev.Token)
					continue
				}
				failed++
				require.Equal(t, bad, ev.ID)
				require.Equal(t, runtime.FinishError, ev.Finish)
				require.Equal(t, -1, ev.Token)
				if fail != nil {
					require.ErrorIs(t, ev.Err, fail)
				} else {
					require.ErrorContains(t, ev.Err, "value 5 is NaN")
				}
			}
		}
		require.Equal(t, want[0], tokens)
		require.Equal(t, 1, failed)
	}

	// An ended context leaves everything as it was.
	b := runtime.NewBatch(e)
	defer b.Close()
	for range 2 {
		_, err := b.Add(runtime.Request{Tokens: []int{1, 2, 3}, MaxNewTokens: 4, Sampling: greedy})
		require.NoError(t, err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := b.Step(ended)
	require.ErrorIs(t, err, context.Canceled)
	events, err := b.Step(context.Background())
	require.NoError(t, err)
	require.Equal(t, want[0][0], events[0].Token)
	require.Equal(t, want[0][0], events[1].Token)
}

// TestBatchAllocatesNothing: a step of a batch, sampling included.
func TestBatchAllocatesNothing(t *testing.T) {
	if len(cpu.Implementations()) == 1 {
		t.Skip("the reference kernels, the only ones here, allocate")
	}
	if runtime.RaceEnabled {
		t.Skip("sync.Pool allocates under the race detector")
	}
	b := runtime.NewBatch(engine(t, synthetic(t, small, bf16), runtime.Options{}))
	defer b.Close()
	for i := range 3 {
		_, err := b.Add(runtime.Request{Tokens: ids(70, small.Vocab, i), MaxNewTokens: 1000, Sampling: runtime.Sampling{Temperature: 1, TopP: 0.9, RepetitionPenalty: 1}})
		require.NoError(t, err)
	}
	step := func() {
		if _, err := b.Step(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	step()
	step()
	require.Zero(t, testing.AllocsPerRun(40, step), "inside a page")
}
