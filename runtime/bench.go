package runtime

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tritter-ai/tritter/format"
)

// BenchTest is one measurement, named as llama-bench names them: pp512 is the
// prefill of 512 tokens, tg32 the decode of 32 tokens one by one, after a prompt
// of 16. tg32@8 does so for 8 sequences in the same steps.
type BenchTest struct {
	Name   string
	Decode bool
	Tokens int // of each sequence
	Batch  int // sequences
}

// ParseBenchTest reads "ppN" or "tgN", with "@B" for B sequences.
func ParseBenchTest(name string) (BenchTest, error) {
	t := BenchTest{Name: name, Decode: strings.HasPrefix(name, "tg"), Batch: 1}
	length, batch, several := strings.Cut(name, "@")
	var err error
	if several {
		t.Batch, err = strconv.Atoi(batch)
	}
	if len(length) > 2 && (length[:2] == "pp" || length[:2] == "tg") && err == nil {
		t.Tokens, err = strconv.Atoi(length[2:])
	}
	if err != nil || t.Tokens < 1 || t.Batch < 1 {
		return BenchTest{}, fmt.Errorf("test %q, want ppN (prefill of N tokens) or tgN (decode of N tokens), such as pp512 or tg32, with @B for B sequences at once", name)
	}
	return t, nil
}

// Positions returns how long the sequences of the test become.
func (t *BenchTest) Positions() int {
	if t.Decode {
		return t.Tokens + benchPrompt
	}
	return t.Tokens
}

// BenchResult is what a test gave: tokens a second of all sequences together, of
// several repetitions.
type BenchResult struct {
	Test   string  `json:"test"`
	Median float64 `json:"median_tokens_per_second"`
	Best   float64 `json:"best_tokens_per_second"`
	Runs   int     `json:"runs"`

	// Share is the part of the memory's speed that the median takes: of a decode,
	// where the weights are larger than the caches; otherwise 0.
	Share float64 `json:"share_of_memory_speed,omitempty"`
	// ReadSpeed is the greatest speed, in bytes a second, at which the engine's
	// threads could read its weights, measured between the repetitions; with Share.
	ReadSpeed float64 `json:"read_bytes_per_second,omitempty"`
}

const benchPrompt = 16

// Bench measures a test. The first repetition, which pays for cold pages, is left
// out.
func Bench(ctx context.Context, e Engine, test BenchTest, repetitions int) (BenchResult, error) {
	if repetitions < 1 {
		return BenchResult{}, fmt.Errorf("%d repetitions, want at least 1", repetitions)
	}
	positions, limit := test.Positions(), e.Plan().Context
	if positions > limit || positions < test.Tokens {
		return BenchResult{}, fmt.Errorf("%s needs %d positions and the context has %d; measure fewer tokens, or another model", test.Name, positions, limit)
	}
	result := BenchResult{Test: test.Name, Runs: repetitions}
	reader, _ := e.(weightReader)
	var rates []float64
	for i := range repetitions + 1 {
		rate, err := benchOnce(ctx, e, test)
		if err != nil {
			return BenchResult{}, err
		}
		if i > 0 {
			rates = append(rates, rate)
		}
		if reader != nil && test.Decode && e.Plan().Filter == 0 && e.Model().DecodeBytes() > 2*lastCache() {
			for range 3 {
				speed, err := readSpeed(reader)
				if err != nil {
					return BenchResult{}, err
				}
				result.ReadSpeed = max(result.ReadSpeed, speed)
			}
		}
	}
	slices.Sort(rates)
	result.Median, result.Best = rates[len(rates)/2], rates[len(rates)-1]
	if result.ReadSpeed > 0 {
		result.Share = result.Median / float64(test.Batch) * float64(e.Model().DecodeBytes()) / result.ReadSpeed
	}
	return result, nil
}

func benchOnce(ctx context.Context, e Engine, test BenchTest) (float64, error) {
	vocab := e.Model().Config.VocabSize
	tokens := make([]int, max(test.Tokens, benchPrompt))
	for i := range tokens {
		at := i % vocab
		tokens[i] = (at*at*31 + at*7 + 1) % vocab
	}
	spans := make([]Span, test.Batch)
	for i := range spans {
		spans[i] = Span{Seq: e.NewSequence(), Logits: PositionLast}
		if e.Plan().Filter > 0 {
			spans[i].Top = 1
		}
		defer spans[i].Seq.Close()
	}
	var results []Result
	step := func(tokens []int) (err error) {
		for i := range spans {
			spans[i].Tokens = tokens
		}
		results, err = e.ForwardInto(ctx, spans, results)
		return err
	}
	all := float64(test.Batch * test.Tokens)
	if !test.Decode {
		begun := time.Now()
		err := step(tokens[:test.Tokens])
		return all / time.Since(begun).Seconds(), err
	}
	if err := step(tokens[:benchPrompt]); err != nil {
		return 0, err
	}
	begun := time.Now()
	for i := range test.Tokens {
		if err := step(tokens[i : i+1]); err != nil {
			return 0, err
		}
	}
	return all / time.Since(begun).Seconds(), nil
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
