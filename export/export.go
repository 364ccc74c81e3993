// Package export writes the model of a .trit file in the formats of other tools:
// [GGUF] for llama.cpp, [HuggingFace] for transformers.
//
// An export says exactly what the .trit says, or it is refused with the reason:
// where the other tool would compute something else, there is no file. What a
// format cannot hold to the last bit, such as a scale that GGUF stores as an f16,
// is measured and reported.
//
// Before a tensor is written its hash and codes are checked. Rows are streamed;
// memory does not grow with the model. The same file gives the same bytes, whatever
// the number of workers, and nothing appears under the final name before it is
// complete.
package export

import (
	"context"
	"errors"
	"fmt"
	goruntime "runtime"
	"sync"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

// A RefusedError says why a model cannot be exported to a format: every reason,
// one a line.
type RefusedError struct {
	Format  string // "GGUF tq2_0", "Hugging Face"
	Reasons []string
}

// Error lists the reasons.
func (e *RefusedError) Error() string {
	s := "this model cannot be exported as " + e.Format + ":"
	if len(e.Reasons) == 1 {
		return s + " " + e.Reasons[0]
	}
	for _, r := range e.Reasons {
		s += "\n  " + r
	}
	return s
}

// reasons collects why an export is refused.
type reasons struct{ list []string }

func (r *reasons) add(format string, args ...any) {
	// The second layer of a model is refused for the reasons of the first.
	const most = 12
	if s := fmt.Sprintf(format, args...); len(r.list) < most {
		r.list = append(r.list, s)
	} else if len(r.list) == most {
		r.list = append(r.list, "and more")
	}
}

func (r *reasons) err(format string) error {
	if r.list == nil {
		return nil
	}
	return &RefusedError{Format: format, Reasons: r.list}
}

// source is the file of an export with its config, held to each other.
type source struct {
	file       *format.File
	config     *model.Config
	generation *model.Generation
}

func openSource(f *format.File) (*source, error) {
	c, err := runtime.ReadConfig(f)
	if err != nil {
		return nil, err
	}
	if err := runtime.CheckManifest(c, f.Header()); err != nil {
		return nil, err
	}
	g, err := runtime.ReadGeneration(f, c.VocabSize)
	if err != nil {
		return nil, err
	}
	return &source{f, c, g}, nil
}

// section returns a section, nil when there is none.
func (s *source) section(name string) ([]byte, error) {
	data, err := s.file.Section(name)
	if errors.Is(err, format.ErrNoSection) {
		return nil, nil
	}
	return data, err
}

// info returns the record of a tensor that the manifest has.
func (s *source) info(name string) *format.TensorInfo {
	t, ok := s.file.Tensor(name)
	if !ok {
		panic("export: no tensor " + name)
	}
	return t.Info()
}

// check verifies hash and codes of a tensor.
func (s *source) check(ctx context.Context, name string) error {
	var errs []error
	if err := s.file.CheckTensor(ctx, s.info(name), func(p format.Problem) { errs = append(errs, p) }); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// parallel calls do for 0 to n-1 on some goroutines and returns the first error.
// The rest is not begun after one, or after ctx ends.
func parallel(ctx context.Context, n, workers int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if workers < 1 {
		workers = goruntime.GOMAXPROCS(0)
	}
	jobs := make(chan int)
	var wg sync.WaitGroup
	for range min(workers, n) {
		wg.Go(func() {
			for i := range jobs {
				// A fault in the map of the file is an error of this goroutine.
				if err := format.Guard(func() error { return do(ctx, i) }); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		jobs <- i
	}
	close(jobs)
	wg.Wait()
	return context.Cause(ctx)
}
