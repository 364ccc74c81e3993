package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
)

type perplexityCommand struct {
	File string `arg:"" optional:"" help:"Text to measure; - is standard input." default:"-" placeholder:"FILE"`

	modelFlags
	engineFlags
	promptFlags
	Stride  int  `help:"Begin a new segment every N tokens (default: half of --context)." placeholder:"N"`
	Compare bool `help:"Compute the text with an f32 cache and no window as well, and print how far the logits are from those."`
	JSON    bool `name:"json" help:"Print JSON."`
}

// Help is printed under the command's line of help.
func (*perplexityCommand) Help() string {
	return `Every token but the first is predicted once. A text longer than --context is cut into segments of --context tokens, one every --stride tokens, so that they overlap; a segment scores the tokens that none before it has scored, each from the tokens of the segment before it. With --window there is one segment. Bits per byte are those of the text that the predicted tokens spell, and compare models of different vocabularies.`
}

// perplexityReport is what the command prints.
type perplexityReport struct {
	runtime.PerplexityResult
	Bytes       int     `json:"bytes"` // of the text that the predicted tokens spell
	BitsPerByte float64 `json:"bits_per_byte"`
	KV          string  `json:"kv"`
	Context     int     `json:"context"`
	Window      int     `json:"window,omitempty"`
	Sinks       int     `json:"sinks,omitempty"`
	Engine      string  `json:"engine"`
}

// Run measures a text.
func (c *perplexityCommand) Run(ctx context.Context) error {
	text, err := readText(c.File)
	if err != nil {
		return err
	}
	m, e, err := openEngine(ctx, &c.modelFlags, &c.engineFlags)
	if err != nil {
		return err
	}
	defer e.Close()
	if n := e.Plan().Context; c.Stride < 0 || c.Stride >= n {
		return cli.Usage("--stride wants 1 to %d, one less than the context, got %d", n-1, c.Stride)
	}
	t, ids, err := c.encode(m, text)
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return errors.New("the text is empty; give one to predict")
	}
	if len(ids) < 2 {
		return fmt.Errorf("the text has %d tokens, want at least 2: the first is not predicted", len(ids))
	}
	first, err := t.Decode(ids[:1], true)
	if err != nil {
		return err
	}
	r := perplexityReport{Bytes: len(text) - len(first), Engine: e.Name()}
	bar := cli.NewProgress(c.JSON)
	defer bar.Close()
	opt := runtime.PerplexityOptions{Stride: c.Stride, Progress: func(done int) {
		bar.Update("text", int64(float64(done)/float64(len(ids)-1)*float64(len(text))), int64(len(text)))
	}}
	if c.Compare {
		exact := c.engineFlags
		exact.KV, exact.Window, exact.Sinks = "f32", 0, nil
		if c.Window != 0 {
			exact.Context = 0 // the model's own
		}
		reference, err := exact.open(m)
		if err != nil {
			return err
		}
		defer reference.Close()
		opt.Reference = reference
	}
	if r.PerplexityResult, err = runtime.Perplexity(ctx, e, ids, opt); err != nil {
		return err
	}
	bar.Close()
	p := e.Plan()
	r.KV, r.Context, r.Window, r.Sinks = p.KV, p.Context, p.Window, p.Sinks
	if r.Bytes > 0 {
		r.BitsPerByte = r.NatsPerToken * float64(r.Tokens) / math.Ln2 / float64(r.Bytes)
	}
	if c.JSON {
		return cli.PrintJSON(r, "")
	}
	return r.print()
}

// readText reads a file or, for -, standard input.
func readText(path string) (string, error) {
	if path != "-" {
		data, err := os.ReadFile(path)
		return string(data), err
	}
	if cli.IsTerminal(os.Stdin) {
		return "", cli.Usage("no text: give a file, or a text on standard input")
	}
	data, err := io.ReadAll(os.Stdin)
	return string(data), err
}

func (r *perplexityReport) print() error {
	w := newTable()
	row := func(name, format string, args ...any) { fmt.Fprintf(w, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	row("nats per token", "%.5f (perplexity %.4f)", r.NatsPerToken, r.Perplexity)
	row("bits per byte", "%.5f", r.BitsPerByte)
	row("tokens", "%d, %d bytes", r.Tokens, r.Bytes)
	row("cache", "%s, context %d", r.KV, r.Context)
	if r.Window > 0 {
		row("window", "%d and %d sinks", r.Window, r.Sinks)
	}
	row("engine", "%s", r.Engine)
	if r.Reference != nil {
		row("f32 cache", "%.5f nats per token", *r.Reference)
		row("logits", "differ by %.3g (RMS) and at most %.3g of their spread", *r.LogitRMS, *r.LogitMax)
	}
	return w.Flush()
}
