package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/internal/synth"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

type planCommand struct {
	File string `arg:"" optional:"" help:"Model to plan for (default: -m, or the embedded one)." placeholder:"FILE.trit"`

	Model   string  `short:"m" help:"Model to plan for." placeholder:"FILE.trit" env:"TRITTER_MODEL"`
	Shape   string  `help:"Plan for a shape instead of a file: a preset (test, 125M, 350M, 1B, 3B, 7B, 3B-base, 7B-base), 2B-4T, 700M, or a TritterConfig as a .json file." placeholder:"SHAPE"`
	KVHeads int     `name:"kv-heads" help:"With --shape: key-value heads in place of the shape's." placeholder:"N"`
	Head    string  `help:"With --shape: storage of embedding and head (default: bf16); ternary of the head alone, beside a bf16 embedding." enum:",bf16,f16,f32,int8,ternary" default:""`
	Context int     `help:"Positions of a sequence (default: the model's maximum)." placeholder:"N"`
	Batch   int     `help:"Sequences at the same time." default:"1" placeholder:"N"`
	KV      string  `name:"kv" help:"Format of the key-value cache (default: f32; for a TritterConfig what it says)." enum:",f32,f16,int8,int4" default:""`
	Memory  float64 `help:"Memory to fit in, in GB of 10^9 bytes (default: what this machine has available; for a TritterConfig what it says)." placeholder:"GB"`
	JSON    bool    `name:"json" help:"Print JSON."`
}

// Help is the long help of the command.
func (c *planCommand) Help() string {
	return "Accounts for the memory of a model before it is loaded: weights, key-value cache, activations. Exit codes: 0 it fits, 1 it does not or cannot be planned, 2 usage."
}

// planReport is what the command prints.
type planReport struct {
	Model string `json:"model"`
	model.MemoryPlan
	Memory         int64  `json:"memory"`          // to fit in
	MemoryOf       string `json:"memory_of"`       // whose memory it is
	Fits           bool   `json:"fits"`            // whether Total is at most Memory
	LargestContext int    `json:"largest_context"` // that fits with this batch; 0 if none
	LargestBatch   int    `json:"largest_batch"`   // that fits with this context; 0 if none
}

// subject is what is planned for.
type subject struct {
	name     string
	config   *model.Config
	weights  int64          // 0: by the shape
	kv       model.KVFormat // "": f32
	memoryGB float64        // 0: this machine's
}

// Run plans.
func (c *planCommand) Run(ctx context.Context) error {
	switch {
	case !(c.Memory >= 0 && c.Memory <= 1e9):
		return cli.Usage("--memory wants a number of GB up to 1e9, got %g", c.Memory)
	case c.Context < 0 || c.KVHeads < 0:
		return cli.Usage("--context and --kv-heads want 1 or more, got %d and %d", c.Context, c.KVHeads)
	case c.Batch < 1:
		return cli.Usage("--batch wants 1 or more, got %d", c.Batch)
	case c.Head != "" && c.Shape == "":
		return cli.Usage("--head is for --shape: a file's head is what it is")
	}
	s, err := c.subject(ctx)
	if err != nil {
		return err
	}
	r, err := c.report(s)
	if err != nil {
		return err
	}
	if c.JSON {
		err = cli.PrintJSON(r, "")
	} else {
		err = r.print()
	}
	if err == nil && !r.Fits {
		err = &cli.Exit{Code: cli.ExitFailed}
	}
	return err
}

func (c *planCommand) subject(ctx context.Context) (*subject, error) {
	if c.Shape == "" {
		if c.KVHeads != 0 {
			return nil, cli.Usage("--kv-heads changes a --shape; a file has the heads that it has")
		}
		path := c.File
		if path == "" {
			path = c.Model
		}
		return fileSubject(ctx, path)
	}
	if c.File != "" {
		return nil, cli.Usage("--shape and a file exclude each other")
	}
	s, err := shapeSubject(c.Shape)
	if err != nil {
		return nil, err
	}
	if c.KVHeads != 0 {
		s.config.NumKVHeads = c.KVHeads
		s.name += fmt.Sprintf(" with %d key-value heads", c.KVHeads)
	}
	return s, s.config.Validate()
}

// fileSubject takes config and weights from a .trit file.
func fileSubject(ctx context.Context, path string) (*subject, error) {
	f, err := openFile(ctx, path, false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := &subject{name: path}
	if path == "" {
		s.name = "(embedded)"
	}
	if s.config, err = runtime.ReadConfig(f); err != nil {
		return nil, named(path, err)
	}
	s.weights = runtime.WeightBytes(f.Header())
	return s, nil
}

// shapeSubject knows the shapes by name, and configurations by file.
func shapeSubject(name string) (*subject, error) {
	s := &subject{name: name}
	if strings.HasSuffix(name, ".json") {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		t, unknown, err := model.ParseTritterConfig(data)
		if err != nil {
			return nil, named(name, err)
		}
		if len(unknown) > 0 {
			fmt.Fprintf(os.Stderr, "tritter-run: warning: %s has keys that this version does not know and ignores: %s\n", name, strings.Join(unknown, ", "))
		}
		s.kv, s.memoryGB = t.KV(), float64(t.MaxMemoryGB)
		s.config, err = t.Config()
		return s, err
	}
	config, err := model.Preset(name)
	if err == nil {
		s.config = config
		return s, nil
	}
	shape, synthErr := synth.ParseShape(name)
	if synthErr != nil {
		return nil, &cli.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("--shape: %w, 2B-4T, 700M or a .json file", err)}
	}
	s.config = shape.Config()
	return s, nil
}

func (c *planCommand) report(s *subject) (*planReport, error) {
	opt := model.PlanOptions{Context: c.Context, Batch: c.Batch, KV: model.KVFormat(c.KV), Head: c.Head, Weights: s.weights}
	if opt.KV == "" {
		opt.KV = s.kv
	}
	r := &planReport{Model: s.name}
	var err error
	if r.MemoryPlan, err = s.config.Plan(opt); err != nil {
		return nil, err
	}
	switch {
	case c.Memory > 0:
		r.Memory, r.MemoryOf = int64(c.Memory*1e9), "--memory"
	case s.memoryGB > 0:
		r.Memory, r.MemoryOf = int64(s.memoryGB*1e9), "max_memory_gb"
	default:
		if _, r.Memory, err = runtime.HostMemory(); err != nil {
			return nil, fmt.Errorf("%w; give it by --memory GB", err)
		}
		r.MemoryOf = "this machine"
	}
	r.Fits = r.MemoryPlan.Fits(r.Memory)
	if r.LargestContext, err = s.config.LargestContext(opt, r.Memory); err != nil {
		return nil, err
	}
	r.LargestBatch, err = s.config.LargestBatch(opt, r.Memory)
	return r, err
}

func (r *planReport) print() error {
	return cli.Print(func(out io.Writer) {
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		row := func(name string, bytes int64, format string, args ...any) {
			fmt.Fprintf(t, "%s\t%s\t%s\n", name, decimal(bytes), fmt.Sprintf(format, args...))
		}
		fmt.Fprintf(out, "%s, %d positions, batch %d, %s cache\n\n", r.Model, r.Context, r.Batch, r.KV)
		row("weights", r.Weights, "")
		row("cache", r.Cache, "%d B a position", r.PerPosition)
		row("activations", r.Activations, "")
		verdict := "fits"
		if !r.Fits {
			verdict = "does not fit"
		}
		row("total", r.Total, "%s in %s (%s)", verdict, decimal(r.Memory), r.MemoryOf)
		t.Flush() // out keeps its error
		switch {
		case r.LargestContext > 0:
			fmt.Fprintf(out, "\nlargest context that fits at batch %d: %d positions\n", r.Batch, r.LargestContext)
		default:
			fmt.Fprintf(out, "\nno context fits at batch %d\n", r.Batch)
		}
		switch {
		case r.LargestBatch > 0:
			fmt.Fprintf(out, "largest batch that fits at this context: %d\n", r.LargestBatch)
		default:
			fmt.Fprintln(out, "no batch fits at this context; a smaller --context, or --kv int4, needs less")
		}
	})
}

// decimal spells bytes in GB or MB of powers of ten, as memory is sold.
func decimal(bytes int64) string {
	if bytes >= 1e8 {
		return fmt.Sprintf("%.2f GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.2f MB", float64(bytes)/1e6)
}
