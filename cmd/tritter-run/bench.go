package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/kernels/cuda"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

type benchCommand struct {
	modelFlags
	engineFlags
	Shape       string   `help:"Measure random weights of this shape instead of a model: 2B-4T, 700M, or a size of Tritter (125M, 350M, 1B, 3B, 7B), with :N for N layers." placeholder:"SHAPE"`
	Head        string   `help:"With --shape: encoding of embedding and head, bf16, f16, int8, or ternary (of the head alone)." enum:"bf16,f16,int8,ternary" default:"bf16"`
	Activations string   `help:"With --shape: int8 quantizes the inputs of ternary matrices, none leaves them f32 (default: as the models of the shape do)." enum:",int8,none" default:""`
	Tests       []string `help:"What to measure: ppN is the prefill of N tokens, tgN the decode of N tokens, with @B for B sequences at once." default:"pp128,pp512,tg32" placeholder:"TEST,..."`
	Batch       int      `help:"Run the tests also with this many sequences at once: tg32@8." default:"1" placeholder:"B"`
	Repetitions int      `short:"r" help:"Counted runs of each test, after one that is not." default:"3"`
	At          []int    `help:"On a GPU: also time the kernels of a prefill of so many positions, and steps and kernels of the decode after it." placeholder:"N,..."`
	JSON        bool     `name:"json" help:"Print JSON (docs/bench.md)."`
}

// gpuSteps is how many steps --at measures.
const gpuSteps = 200

// benchReport is what the command prints. docs/bench.md describes it.
type benchReport struct {
	Model   string                `json:"model"`
	Engine  string                `json:"engine"`
	Threads int                   `json:"threads"`
	Load    runtime.Load          `json:"load"`
	Bytes   int64                 `json:"bytes_per_decoded_token"`
	Note    string                `json:"note,omitempty"`
	Results []runtime.BenchResult `json:"results"`
	GPU     []*runtime.GPUBench   `json:"gpu,omitempty"`
}

// tests reads --tests and --batch.
func (c *benchCommand) tests() (tests []runtime.BenchTest, err error) {
	if len(c.Tests) == 0 || len(c.Tests) == 1 && c.Tests[0] == "" {
		return nil, cli.Usage("--tests is empty, want ppN or tgN")
	}
	for _, name := range c.Tests {
		names := []string{name}
		if c.Batch > 1 && !strings.Contains(name, "@") {
			names = append(names, fmt.Sprintf("%s@%d", name, c.Batch))
		}
		for _, name := range names {
			t, err := runtime.ParseBenchTest(name)
			if err != nil {
				return nil, &cli.Exit{Code: cli.ExitUsage, Err: err}
			}
			tests = append(tests, t)
		}
	}
	return tests, nil
}

// Run measures prefill and decode.
func (c *benchCommand) Run(ctx context.Context) error {
	if c.Repetitions < 1 || c.Batch < 1 {
		return cli.Usage("--repetitions and --batch want at least 1, got %d and %d", c.Repetitions, c.Batch)
	}
	if c.Shape != "" && c.Model != "" {
		return cli.Usage("--shape and -m exclude each other")
	}
	tests, err := c.tests()
	if err != nil {
		return err
	}
	name := c.Model
	if c.Shape != "" {
		dir, err := os.MkdirTemp("", "tritter-bench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		if c.Model, err = c.synthetic(dir); err != nil {
			return err
		}
		name = c.Shape + ", random weights, head " + c.Head
		if c.Activations != "" {
			name += ", activations " + c.Activations
		}
	}
	if c.Context == 0 { // what the tests need: a model's whole context may not fit the machine
		for _, t := range tests {
			c.Context = max(c.Context, t.Positions())
		}
		for _, at := range c.At {
			c.Context = max(c.Context, at+gpuSteps+1)
		}
	}
	m, e, err := openEngine(ctx, &c.modelFlags, &c.engineFlags)
	if err != nil {
		return err
	}
	defer e.Close()
	if name == "" {
		name = "(embedded)"
	}
	r := benchReport{Model: name, Engine: e.Name(), Threads: c.Threads, Load: e.Plan().Load, Note: e.Plan().Note, Bytes: m.DecodeBytes()}
	if r.Threads == 0 {
		r.Threads = goruntime.GOMAXPROCS(0)
	}
	for _, t := range tests {
		result, err := runtime.Bench(ctx, e, t, c.Repetitions)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		r.Results = append(r.Results, result)
	}
	for _, at := range c.At {
		g, err := runtime.BenchGPU(ctx, e, at, gpuSteps)
		if err != nil {
			return fmt.Errorf("--at %d: %w", at, err)
		}
		r.GPU = append(r.GPU, g)
	}
	if c.JSON {
		return cli.PrintJSON(r, "")
	}
	return r.print()
}

// synthetic writes a model of random weights into dir.
func (c *benchCommand) synthetic(dir string) (string, error) {
	s, err := synth.ParseShape(c.Shape)
	if err != nil {
		return "", &cli.Exit{Code: cli.ExitUsage, Err: err}
	}
	heads := map[string]format.Encoding{"bf16": format.BF16, "f16": format.F16, "int8": format.Int8, "ternary": format.Trit2}
	if c.Head == "ternary" {
		s.Tied = false
	}
	config := s.Config()
	if c.Activations != "" {
		config.ActivationQuant = model.ActivationQuant(c.Activations)
	}
	path := filepath.Join(dir, "bench.trit")
	return path, synth.WriteModel(path, config, heads[c.Head])
}

func (r *benchReport) print() error {
	return cli.Print(func(out io.Writer) {
		fmt.Fprintf(out, "%s; engine %s, %d threads, weights by %s; %s a decoded token\n", r.Model, r.Engine, r.Threads, r.Load, cli.Bytes(r.Bytes))
		if r.Note != "" {
			fmt.Fprintln(out, r.Note)
		}
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "TEST\tMEDIAN tok/s\tBEST tok/s\tMEMORY READS GB/s\tSHARE OF THAT\t")
		for _, x := range r.Results {
			speed, share := "", ""
			if x.ReadSpeed > 0 {
				speed, share = fmt.Sprintf("%.1f", x.ReadSpeed/1e9), fmt.Sprintf("%.0f %%", 100*x.Share)
			}
			fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%s\t%s\t\n", x.Test, x.Median, x.Best, speed, share)
		}
		w.Flush() // out keeps its error
		for _, g := range r.GPU {
			fmt.Fprintf(out, "\nafter %d positions: step %.1f us median, %.1f us p95 (%.0f tok/s), %.2f us a layer, %.0f %% of the copy bandwidth of %.2f TB/s\n",
				g.Context, g.Median, g.P95, 1e6/g.Median, g.Layer, 100*g.Share, g.Bandwidth/1e12)
			printKernels(w, "us A STEP", g.Kernels)
			printKernels(w, "us A PREFILL", g.Prefill)
		}
	})
}

func printKernels(w *tabwriter.Writer, of string, kernels []cuda.KernelTime) {
	fmt.Fprintf(w, "KERNEL, ALONE\tLAUNCHES\t%s\tus EACH\tREGISTERS\tSPILLED\t\n", of)
	for _, k := range kernels {
		fmt.Fprintf(w, "%s\t%d\t%.1f\t%.2f\t%d\t%d\t\n", k.Kernel, k.Launches, k.Micros, k.Micros/float64(k.Launches), k.Registers, k.Spilled)
	}
	w.Flush()
}
