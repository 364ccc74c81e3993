package runtime

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/cuda"
)

// BenchTest is one measurement, named as llama-bench names them: pp512 is the
// prefill of 512 tokens, tg32 the decode of 32 tokens one by one, after a prompt
// of 16.
type BenchTest struct {
	Name   string
	Decode bool
	Tokens int
}

// ParseBenchTest reads "ppN" or "tgN".
func ParseBenchTest(name string) (BenchTest, error) {
	if len(name) > 2 && (name[:2] == "pp" || name[:2] == "tg") {
		if n, err := strconv.Atoi(name[2:]); err == nil && n > 0 {
			return BenchTest{Name: name, Decode: name[:2] == "tg", Tokens: n}, nil
		}
	}
	return BenchTest{}, fmt.Errorf("test %q, want ppN (prefill of N tokens) or tgN (decode of N tokens), such as pp512 or tg32", name)
}

// BenchResult is what a test gave: tokens a second, of several repetitions.
type BenchResult struct {
	Test   string  `json:"test"`
	Median float64 `json:"median_tokens_per_second"`
	Best   float64 `json:"best_tokens_per_second"`
	Runs   int     `json:"runs"`
}

const benchPrompt = 16

// sink keeps the compiler from dropping sums that nobody reads.
var sink atomic.Uint64

// Bench measures a test. The first repetition, which pays for cold pages, is left
// out.
func Bench(ctx context.Context, e Engine, test BenchTest, repetitions int) (BenchResult, error) {
	if repetitions < 1 {
		return BenchResult{}, fmt.Errorf("%d repetitions, want at least 1", repetitions)
	}
	positions := test.Tokens
	if test.Decode {
		positions += min(benchPrompt, e.Plan().Context)
	}
	if n := e.Plan().Context; positions > n || positions < test.Tokens {
		return BenchResult{}, fmt.Errorf("%s needs %d positions and the context has %d; measure fewer tokens, or another model", test.Name, positions, n)
	}
	var rates []float64
	for i := range repetitions + 1 {
		rate, err := benchOnce(ctx, e, test)
		if err != nil {
			return BenchResult{}, err
		}
		if i > 0 {
			rates = append(rates, rate)
		}
	}
	slices.Sort(rates)
	return BenchResult{Test: test.Name, Median: rates[len(rates)/2], Best: rates[len(rates)-1], Runs: repetitions}, nil
}

func benchOnce(ctx context.Context, e Engine, test BenchTest) (float64, error) {
	seq := e.NewSequence()
	defer seq.Close()
	tokens := benchTokens(max(test.Tokens, benchPrompt), e.Model().Config.VocabSize)
	step := func(tokens []int) error {
		_, err := e.Forward(ctx, []Span{{Seq: seq, Tokens: tokens, Logits: PositionLast}})
		return err
	}
	if !test.Decode {
		begun := time.Now()
		err := step(tokens[:test.Tokens])
		return float64(test.Tokens) / time.Since(begun).Seconds(), err
	}
	if err := step(tokens[:benchPrompt]); err != nil {
		return 0, err
	}
	next := func(i int) error { return step(tokens[i : i+1]) }
	if c, ok := e.(*cudaEngine); ok && c.engine.CanDecode() {
		d := c.engine.Decode(seq.(*cudaSequence).Sequence, tokens[0], test.Tokens, cuda.Sampling{Penalty: 1, TopP: 1}, nil)
		next = func(int) error {
			_, err := c.next(ctx, d)
			return err
		}
	}
	begun := time.Now()
	for i := range test.Tokens {
		if err := next(i); err != nil {
			return 0, err
		}
	}
	return float64(test.Tokens) / time.Since(begun).Seconds(), nil
}

// benchTokens returns n ids of a vocabulary.
func benchTokens(n, vocab int) []int {
	tokens := make([]int, n)
	for i := range tokens {
		at := i % vocab
		tokens[i] = (at*at*31 + at*7 + 1) % vocab
	}
	return tokens
}

// DecodeBytes returns how many bytes of weights the decode of one token reads.
func (m *Model) DecodeBytes() int64 {
	h := m.file.Header()
	total := m.loaded
	for i := range h.Tensors {
		t := &h.Tensors[i]
		if t.Name == "embed.weight" && !m.Config.TiedHead {
			continue // one row of it
		}
		if t.Encoding != format.Trit3 { // loaded in another form
			total += t.Length
		}
		total += t.ScaleLength
	}
	return total
}

// Bandwidth measures how many bytes a second the memory gives that e computes from.
func Bandwidth(e Engine, threads int) (float64, error) {
	if c, ok := e.(*cudaEngine); ok {
		return c.device.CopyBandwidth()
	}
	return MemoryBandwidth(threads), nil
}

// MemoryBandwidth measures how many bytes a second this machine's memory gives to
// a number of goroutines that only read: the best of three passes over buffers
// that no cache holds.
func MemoryBandwidth(threads int) float64 {
	words := max(1<<30/threads, 4<<20) / 8
	buffers := make([][]uint64, threads)
	for i := range buffers {
		buffers[i] = make([]uint64, words)
		for j := range buffers[i] {
			buffers[i][j] = uint64(j)
		}
	}
	best := 0.0
	for range 3 {
		var wg sync.WaitGroup
		begun := time.Now()
		for _, b := range buffers {
			wg.Go(func() {
				var s0, s1, s2, s3 uint64
				for ; len(b) >= 8; b = b[8:] {
					s0 += b[0] + b[4]
					s1 += b[1] + b[5]
					s2 += b[2] + b[6]
					s3 += b[3] + b[7]
				}
				sink.Store(s0 + s1 + s2 + s3)
			})
		}
		wg.Wait()
		best = max(best, float64(threads)*float64(words)*8/time.Since(begun).Seconds())
	}
	return best
}
