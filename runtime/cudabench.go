package runtime

import (
	"context"
	"fmt"
	"slices"

	"github.com/tritter-ai/tritter/kernels/cuda"
)

// GPUBench is what the decode of one token costs on a GPU, measured by events of the
// device around each step.
type GPUBench struct {
	Context   int               `json:"context"` // positions before the first step
	Steps     int               `json:"steps"`
	Median    float64           `json:"median_microseconds"`
	P95       float64           `json:"p95_microseconds"`
	Layer     float64           `json:"microseconds_per_layer"`         // median over layers, head included
	Bandwidth float64           `json:"copy_bytes_per_second"`          // measured: a copy within the device
	Share     float64           `json:"share_of_copy_bandwidth"`        // weights a median step reads
	Kernels   []cuda.KernelTime `json:"kernels_launched_one_after_one"` // their sum is more than a step
	Prefill   []cuda.KernelTime `json:"kernels_of_prefill"`             // of the positions before the first step, at most 2,048 of them
}

// BenchGPU measures steps of greedy decode after a prompt of so many positions. It
// needs an engine of NewCUDA with the short path for one token.
func BenchGPU(ctx context.Context, e Engine, prompt, steps int) (*GPUBench, error) {
	c, ok := e.(*cudaEngine)
	if !ok || !c.engine.CanDecode() {
		return nil, fmt.Errorf("%s has no path for one token on a GPU to measure", e.Name())
	}
	if most := c.opt.Context; prompt < 1 || steps < 2 || prompt+steps+1 > most {
		return nil, fmt.Errorf("%d positions, %d steps and one more, want at least 1 and 2 of them and no more than %d together", prompt, steps, most)
	}
	s, empty := e.NewSequence(), e.NewSequence()
	defer s.Close()
	defer empty.Close()
	tokens := benchTokens(prompt, c.model.Config.VocabSize)
	if _, err := e.Forward(ctx, []Span{{Seq: s, Tokens: tokens}}); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &GPUBench{Context: prompt, Steps: steps}
	seq := s.(*cudaSequence).Sequence
	var err error
	if b.Prefill, err = c.engine.ProfilePrefill(empty.(*cudaSequence).Sequence, tokens, 5); err != nil {
		return nil, err
	}
	if b.Kernels, err = c.engine.Profile(seq, 1, 9); err != nil {
		return nil, err
	}
	times, err := c.engine.StepTimes(seq, 1, steps)
	if err != nil {
		return nil, err
	}
	times = times[1:] // the first makes the graph
	slices.Sort(times)
	b.Median, b.P95 = times[len(times)/2], times[len(times)*95/100]
	b.Layer = b.Median / float64(c.model.Config.NumLayers)
	if b.Bandwidth, err = c.device.CopyBandwidth(); err != nil {
		return nil, err
	}
	b.Share = float64(c.model.DecodeBytes()) / (b.Median / 1e6) / b.Bandwidth
	return b, nil
}
