package runtime

import (
	"fmt"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/model"
)

// PlanFile accounts for the memory that the engine on the CPU would use for a file,
// without loading it.
func PlanFile(f *format.File, opt Options) (MemoryPlan, error) {
	c, err := ReadConfig(f)
	if err != nil {
		return MemoryPlan{}, err
	}
	if err := opt.complete(c); err != nil {
		return MemoryPlan{}, err
	}
	return newPlan(c, f.Header(), &opt), nil
}

// CheckMemory refuses a file whose weights, cache and activations this machine
// cannot hold now, before anything of it is loaded. The error is a *MemoryError.
func CheckMemory(f *format.File, opt Options) error {
	p, err := PlanFile(f, opt)
	if err != nil {
		return err
	}
	return p.reserve(hostTracker(), p.Total())
}

// newPlan accounts for a model of which nothing is loaded. opt is complete.
func newPlan(c *model.Config, h *format.Header, opt *Options) MemoryPlan {
	p := MemoryPlan{Context: opt.Context, Load: opt.Load, Activations: activationBytes(c, opt.Context), KV: opt.KV.String(), Window: opt.Window, Sinks: opt.Sinks}
	for i := range h.Tensors {
		t := &h.Tensors[i]
		p.Mapped += t.ScaleLength
		if t.Encoding == format.Trit3 || opt.Load == LoadHuge {
			p.Loaded += usedBytes(t)
		} else {
			p.Mapped += usedBytes(t)
		}
	}
	if opt.Filter {
		p.Filter = filterBytes(c, headEncoding(c, h))
		p.Loaded += p.Filter
	}
	kv := newCache(c, opt)
	p.PerToken = kv.perPosition()
	p.Cache = int64(kv.greatest(p.Context)) * kernels.PageLen * p.PerToken
	return p
}

// activationBytes returns what the buffers of a step take, with the logits of one
// position.
func activationBytes(c *model.Config, context int) int64 {
	rows := int64(min(batchLen, context))
	row := 4*c.HiddenSize + 2*c.NumHeads*c.HeadDim + 2*c.NumKVHeads*c.HeadDim + 2*c.IntermediateSize + c.HeadDim
	codes := max(c.HiddenSize, c.IntermediateSize, c.NumHeads*c.HeadDim)
	return rows*(4*int64(row)+int64(codes)) + 4*int64(c.VocabSize)
}

// reserve takes n bytes of the plan, or says what could be done with less.
func (p *MemoryPlan) reserve(t *MemoryTracker, n int64) error {
	err := t.Reserve(fmt.Sprintf("weights %s, key-value cache of %d positions %s, activations %s", megabytes(p.Mapped+p.Loaded), p.Context, megabytes(p.Cache), megabytes(p.Activations)), n, "")
	if e, ok := err.(*MemoryError); ok {
		e.Fix = "use a machine with more memory, or a smaller model"
		if context := (e.Have - (n - p.Cache)) / p.PerToken / kernels.PageLen * kernels.PageLen; context > 0 {
			e.Fix = fmt.Sprintf("use --context %d or less, or a smaller cache format (--kv int8)", context)
		}
	}
	return err
}
