package convert

import (
	"cmp"
	"context"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"

	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/ref"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

const noOffset = tensor.NoOffset

// Report says what a conversion did.
type Report struct {
	Path     string         `json:"path"`
	Size     int64          `json:"size"` // bytes
	SHA256   string         `json:"header_sha256"`
	Tensors  []TensorReport `json:"tensors"`
	Warnings []string       `json:"warnings"`
}

// TensorReport describes one tensor of the file.
type TensorReport struct {
	Name     string   `json:"name"`
	Shape    []int    `json:"shape"`
	Source   string   `json:"source"`
	DType    string   `json:"dtype"`
	Encoding string   `json:"encoding"`
	Rule     string   `json:"rule"`
	Bytes    int64    `json:"bytes"`           // payload and scales
	Error    *float64 `json:"error,omitempty"` // |w - trit x scale| / |w|, where a dense model was quantized
}

// Progress is told what is going on: stage is "convert" with the bytes of source
// read, of about total, or "self-test" with 0 of 0. It is called from several
// goroutines.
type Progress func(stage string, done, total int64)

// Describe returns the plan as a report without a file: what Write would do.
func (p *Plan) Describe() (*Report, error) {
	layout, err := p.layout()
	if err != nil {
		return nil, err
	}
	return p.report(layout.Tensors(), nil), nil
}

func (p *Plan) report(infos []format.TensorInfo, sums []sourceSums) *Report {
	r := &Report{Tensors: []TensorReport{}, Warnings: append([]string{}, p.Warnings...)}
	for i, t := range p.Targets {
		tr := TensorReport{Name: t.Spec.Name, Shape: t.Spec.Dims, Source: t.Source.Name, DType: string(t.Source.DType),
			Encoding: t.Spec.Encoding.String(), Rule: t.Rule, Bytes: infos[i].Length + infos[i].ScaleLength}
		if sums != nil {
			if e, ok := sums[i].rounding.Relative(); ok {
				tr.Error = &e
			}
		}
		r.Tensors = append(r.Tensors, tr)
		if sums != nil && sums[i].strange > 0 {
			r.Warnings = append(r.Warnings, fmt.Sprintf("%s: tensor %s has %d rows with TQ1_0 bytes that no quantizer writes; they are read as llama.cpp reads them, but the file may be damaged", t.Source.File, t.Source.Name, sums[i].strange))
		}
	}
	return r
}

func (p *Plan) layout() (*format.Layout, error) {
	specs := make([]format.TensorSpec, len(p.Targets))
	for i := range p.Targets {
		specs[i] = p.Targets[i].Spec
	}
	sections := []string{format.SectionConfig, format.SectionGeneration, format.SectionProvenance}
	if p.Tokenizer != nil {
		sections = append(sections, format.SectionTokenizer)
	}
	if p.Chat != nil {
		sections = append(sections, format.SectionChat)
	}
	for _, book := range p.Codebooks {
		sections = append(sections, book.Kind.SectionName())
	}
	if !p.options.NoSelfTest {
		sections = append(sections, format.SectionSelfTest)
	}
	return format.NewLayout(specs, sections...)
}

// Write converts the checkpoint to a file at path. The file appears under that
// name complete or not at all; on an error or when ctx ends, nothing is left of
// the attempt. progress may be nil.
func (p *Plan) Write(ctx context.Context, path string, progress Progress) (*Report, error) {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	layout, err := p.layout()
	if err != nil {
		return nil, err
	}
	w, err := format.Create(path, layout)
	if err != nil {
		return nil, err
	}
	defer w.Abort() // does nothing after Finish
	report, err := p.write(ctx, w, progress)
	if err == nil {
		err = ctx.Err() // the last chance of an interrupt: from here on the file is renamed
	}
	if err == nil {
		err = w.Finish()
	}
	if err != nil {
		return nil, err
	}
	report.Path = path
	f, err := format.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the finished file does not open: %w", err)
	}
	defer f.Close()
	report.Size, report.SHA256 = f.Header().FileLength, fmt.Sprintf("%x", f.Header().SHA256)
	return report, nil
}

func (p *Plan) write(ctx context.Context, w *format.Writer, progress Progress) (*Report, error) {
	sums, dropped, err := p.writeTensors(ctx, w, progress)
	if err != nil {
		return nil, err
	}
	for name, v := range map[string]any{format.SectionConfig: &p.Config, format.SectionGeneration: &p.Generation, format.SectionProvenance: p.provenance(sums, dropped)} {
		data, err := format.EncodeJSON(v)
		if err != nil {
			return nil, err
		}
		if err := w.SetSection(name, data); err != nil {
			return nil, err
		}
	}
	if p.Tokenizer != nil {
		if err := w.SetSection(format.SectionTokenizer, p.Tokenizer); err != nil {
			return nil, err
		}
	}
	if p.Chat != nil {
		if err := w.SetSection(format.SectionChat, p.Chat); err != nil {
			return nil, err
		}
	}
	if err := p.writeCodebooks(w); err != nil {
		return nil, err
	}
	if !p.options.NoSelfTest {
		progress("self-test", 0, 0)
		if err := p.selfTest(ctx, w); err != nil {
			return nil, err
		}
	}
	return p.report(w.Layout().Tensors(), sums), nil
}

// writeTensors streams every tensor. Workers take whole tensors, the largest
// first, so that none is left alone with a large one at the end.
func (p *Plan) writeTensors(ctx context.Context, w *format.Writer, progress Progress) (sums []sourceSums, dropped [][32]byte, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	sums, dropped = make([]sourceSums, len(p.Targets)), make([][32]byte, len(p.Dropped))
	order := make([]int, len(p.Targets))
	var total, done int64
	for i := range p.Targets {
		order[i] = i
		total += p.Targets[i].reads()
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(p.Targets[b].reads(), p.Targets[a].reads()) })

	var mu sync.Mutex
	advance := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done += n
		progress("convert", done, total)
	}
	jobs := make(chan int)
	var wg sync.WaitGroup
	workers := p.options.Workers
	if workers < 1 {
		workers = goruntime.GOMAXPROCS(0)
	}
	for range min(workers, len(order)+1) {
		wg.Go(func() {
			d := &deriver{ctx: ctx, progress: advance, measure: p.Config.ActivationQuant == model.ActivationNone || p.options.Rule != ""}
			for i := range jobs {
				var err error
				if i < len(p.Targets) {
					sums[i], err = d.derive(&p.Targets[i], w.TensorWriter(i))
				} else {
					dropped[i-len(p.Targets)], err = d.hashTensor(p.Dropped[i-len(p.Targets)])
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range p.Dropped {
		order = append(order, len(p.Targets)+i)
	}
	for _, i := range order {
		if ctx.Err() != nil {
			break
		}
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	return sums, dropped, context.Cause(ctx)
}

// reads returns how many bytes of the source deriving t reads through rows.
func (t *Target) reads() int64 {
	if t.Rule == model.RuleAbsMean {
		return 2 * t.Source.Size
	}
	return t.Source.Size
}

// selfTest computes the self-test from the file that has just been written.
func (p *Plan) selfTest(ctx context.Context, w *format.Writer) error {
	f, err := w.Preview()
	if err != nil {
		return err
	}
	defer f.Close()
	m, err := runtime.LoadModel(f)
	if err != nil {
		return err
	}
	e, err := runtime.NewCPU(m, runtime.Options{Threads: min(p.options.Workers, runtime.MaxThreads), Kernels: ref.New()}) // the judge, not the fastest
	if err != nil {
		return err
	}
	defer e.Close()
	test, err := runtime.NewSelfTest(ctx, e, p.tokenizer)
	if err != nil {
		return fmt.Errorf("%w; --no-self-test writes the file without it", err)
	}
	data, err := format.EncodeJSON(test)
	if err != nil {
		return err
	}
	return w.SetSection(format.SectionSelfTest, data)
}

// HashTensor returns the SHA-256 of a tensor of the checkpoint.
func (p *Plan) HashTensor(ctx context.Context, t *checkpoint.Tensor) ([32]byte, error) {
	d := &deriver{ctx: ctx, progress: func(int64) {}}
	return d.hashTensor(t)
}

// SourceTensor returns the tensor of the checkpoint with a name.
func (p *Plan) SourceTensor(name string) (*checkpoint.Tensor, bool) {
	return p.dir.Weights.Lookup(name)
}
