package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/runtime"
)

type benchCommand struct {
	modelFlags
	engineFlags
	Shape       string   `help:"Measure random weights of this shape instead of a model: 2B-4T or 700M, with :N for N layers." placeholder:"SHAPE"`
	Head        string   `help:"With --shape: encoding of embedding and head, bf16 or int8." enum:"bf16,int8" default:"bf16"`
	Tests       []string `help:"What to measure: ppN is the prefill of N tokens, tgN the decode of N tokens." default:"pp128,pp512,tg32" placeholder:"TEST,..."`
	Repetitions int      `short:"r" help:"Counted runs of each test, after one that is not." default:"3"`
	JSON        bool     `name:"json" help:"Print JSON."`
}

// benchReport is what the command prints.
type benchReport struct {
	Model     string                `json:"model"`
	Engine    string                `json:"engine"`
	Threads   int                   `json:"threads"`
	Bandwidth float64               `json:"memory_bytes_per_second"` // measured in this run
	Bytes     int64                 `json:"bytes_per_decoded_token"`
	Results   []runtime.BenchResult `json:"results"`
}

// Run measures prefill and decode.
func (c *benchCommand) Run(ctx context.Context) error {
	if c.Repetitions < 1 {
		return cli.Usage("--repetitions wants at least 1, got %d", c.Repetitions)
	}
	if len(c.Tests) == 0 || len(c.Tests) == 1 && c.Tests[0] == "" {
		return cli.Usage("--tests is empty, want ppN or tgN")
	}
	if c.Shape != "" && c.Model != "" {
		return cli.Usage("--shape and -m exclude each other")
	}
	var tests []runtime.BenchTest
	for _, name := range c.Tests {
		t, err := runtime.ParseBenchTest(name)
		if err != nil {
			return &cli.Exit{Code: cli.ExitUsage, Err: err}
		}
		tests = append(tests, t)
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
	}
	m, err := c.modelFlags.open(ctx)
	if err != nil {
		return err
	}
	e, err := c.engineFlags.open(m)
	if err != nil {
		return err
	}
	defer e.Close()
	if name == "" {
		name = "(embedded)"
	}
	r := benchReport{Model: name, Engine: e.Name(), Threads: c.Threads, Bytes: m.DecodeBytes()}
	if r.Threads == 0 {
		r.Threads = goruntime.GOMAXPROCS(0)
	}
	r.Bandwidth = runtime.MemoryBandwidth(r.Threads)
	for _, t := range tests {
		result, err := runtime.Bench(ctx, e, t, c.Repetitions)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		r.Results = append(r.Results, result)
	}
	if c.JSON {
		return cli.PrintJSON(r, "")
	}
	return r.print(tests)
}

// synthetic writes a model of random weights into dir.
func (c *benchCommand) synthetic(dir string) (string, error) {
	s, err := synth.ParseShape(c.Shape)
	if err != nil {
		return "", &cli.Exit{Code: cli.ExitUsage, Err: err}
	}
	head := format.BF16
	if c.Head == format.Int8.String() {
		head = format.Int8
	}
	path := filepath.Join(dir, "bench.trit")
	return path, synth.WriteModel(path, s.Config(), head)
}

func (r *benchReport) print(tests []runtime.BenchTest) error {
	return cli.Print(func(out io.Writer) {
		fmt.Fprintf(out, "%s; engine %s, %d threads; memory %.1f GB/s; %s a decoded token\n", r.Model, r.Engine, r.Threads, r.Bandwidth/1e9, cli.Bytes(r.Bytes))
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "TEST\tMEDIAN tok/s\tBEST tok/s\tSHARE OF MEMORY SPEED\t")
		for i, x := range r.Results {
			share := ""
			if tests[i].Decode {
				share = fmt.Sprintf("%.0f %%", 100*x.Median*float64(r.Bytes)/r.Bandwidth)
			}
			fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%s\t\n", x.Test, x.Median, x.Best, share)
		}
		w.Flush() // out keeps its error
	})
}
