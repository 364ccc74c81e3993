package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
)

type generateCommand struct {
	Prompt *string `arg:"" optional:"" help:"Text to continue (default: standard input, as it is)."`

	modelFlags
	engineFlags
	promptFlags
	roundingFlags
	samplingFlags
	Stats bool `help:"Print tokens, speed, seed and memory on standard error."`
}

// samplingFlags say how text is drawn and when it ends.
type samplingFlags struct {
	MaxNewTokens      *int     `help:"Tokens to generate at most (default: the file's, or 100; 512 in a chat)." placeholder:"N"`
	Temperature       *float64 `help:"Randomness in [0, 2]; 0 always takes the most likely token (default: the file's, or 1)." placeholder:"T"`
	TopP              *float64 `help:"Draw among the most likely tokens of this total probability (default: the file's, or 0.9; 1 is off)." placeholder:"P"`
	TopK              *int     `help:"Draw among this many most likely tokens (default: the file's, or 0, off)." placeholder:"K"`
	MinP              *float64 `help:"Draw among tokens at least this likely, relative to the most likely (default: the file's, or 0, off)." placeholder:"P"`
	RepetitionPenalty *float64 `help:"Divide the logits of tokens that already appeared (default: the file's, or 1, off)." placeholder:"R"`
	Seed              *uint64  `help:"Seed of the draw (default: a random one, printed by --stats)." placeholder:"N"`
	Stop              []string `help:"End before this text appears. Repeatable." sep:"none" placeholder:"TEXT"`
}

// Run generates.
func (c *generateCommand) Run(ctx context.Context) error {
	if slices.Contains(c.Stop, "") {
		return cli.Usage("--stop is empty, want a text to end before")
	}
	prompt, err := text(c.Prompt, "a prompt")
	if err != nil {
		return err
	}
	m, err := c.modelFlags.open(ctx, c.engineFlags.fits)
	if err != nil {
		return err
	}
	go m.Tokenizer() // parsed while the engine gets ready
	request := runtime.TextRequest{EOS: m.Generation.EOS, Stop: c.Stop}
	request.Sampling, err = c.sampling(m)
	if err != nil {
		return err
	}
	if request.MaxNewTokens, err = c.maxNewTokens(m, 100); err != nil {
		return err
	}
	if c.Filter == "auto" && runtime.UseFilter(m, &request.Sampling, request.MaxNewTokens) {
		c.Filter = "on"
	}
	e, err := c.engineFlags.open(m)
	if err != nil {
		return err
	}
	defer e.Close()
	t, tokens, err := c.encode(m, prompt)
	if err != nil {
		return err
	}
	request.Tokens = tokens
	if err := c.roundingFlags.apply(e, &request); err != nil {
		return err
	}
	var writeErr error
	stats, err := runtime.GenerateText(ctx, e, t, request, func(piece string) bool {
		_, writeErr = io.WriteString(os.Stdout, piece)
		return writeErr == nil
	})
	if cli.IsTerminal(os.Stdout) {
		fmt.Println()
	}
	if err = errors.Join(err, writeErr); err != nil {
		return err
	}
	if c.Stats || cli.IsTerminal(os.Stderr) {
		c.summary(e, stats, request.Sampling.Seed)
	}
	return nil
}

// first returns the first value that is there.
func first[T any](values ...*T) *T {
	for _, v := range values {
		if v != nil {
			return v
		}
	}
	return nil
}

// maxNewTokens takes the flag, the file's value or a default.
func (c *samplingFlags) maxNewTokens(m *runtime.Model, otherwise int) (int, error) {
	n := *first(c.MaxNewTokens, m.Generation.MaxNewTokens, &otherwise)
	if n < 1 {
		return 0, cli.Usage("--max-new-tokens wants at least 1, got %d", n)
	}
	return n, nil
}

// sampling takes each value from the flags, the file or the defaults.
func (c *samplingFlags) sampling(m *runtime.Model) (runtime.Sampling, error) {
	d, g := runtime.DefaultSampling(), &m.Generation
	s := runtime.Sampling{
		Temperature:       *first(c.Temperature, g.Temperature, &d.Temperature),
		TopP:              *first(c.TopP, g.TopP, &d.TopP),
		TopK:              *first(c.TopK, g.TopK, &d.TopK),
		MinP:              *first(c.MinP, g.MinP, &d.MinP),
		RepetitionPenalty: *first(c.RepetitionPenalty, g.RepetitionPenalty, &d.RepetitionPenalty),
	}
	if c.Seed != nil {
		s.Seed = *c.Seed
	} else {
		var b [8]byte
		rand.Read(b[:]) // never fails
		s.Seed = binary.LittleEndian.Uint64(b[:])
	}
	if err := s.Validate(); err != nil {
		return s, &cli.Exit{Code: cli.ExitUsage, Err: err}
	}
	return s, nil
}

func (c *generateCommand) summary(e runtime.Engine, s runtime.TextStats, seed uint64) {
	rate := func(n int, seconds float64) float64 {
		if n <= 0 || seconds <= 0 {
			return 0
		}
		return float64(n) / seconds
	}
	fmt.Fprintf(os.Stderr, "prefill %d tokens, %.1f tok/s; new %d tokens, %.1f tok/s; end: %s; seed %d; engine %s\n", s.PromptTokens, rate(s.PromptTokens, s.Prefill.Seconds()),
		s.NewTokens, rate(s.NewTokens-1, s.Decode.Seconds()), s.Finish, seed, e.Name())
	if c.Stats {
		p := e.Plan()
		window := ""
		if p.Window > 0 {
			window = fmt.Sprintf(", window %d and %d sinks", p.Window, p.Sinks)
		}
		fmt.Fprintf(os.Stderr, "memory: weights %s from the file, %s unpacked or copied (%s in huge pages); %s cache %s for %d positions (%s each)%s; activations %s\n",
			cli.Bytes(p.Mapped), cli.Bytes(p.Loaded), cli.Bytes(p.Huge), p.KV, cli.Bytes(p.Cache), p.Context, cli.Bytes(p.PerToken), window, cli.Bytes(p.Activations))
	}
	if note := e.Plan().Note; note != "" {
		fmt.Fprintln(os.Stderr, note)
	}
}

// text returns the argument, or all of standard input, byte for byte.
func text(argument *string, what string) (string, error) {
	if argument != nil {
		return *argument, nil
	}
	if cli.IsTerminal(os.Stdin) {
		return "", cli.Usage("no text: give %s as an argument or on standard input", what)
	}
	data, err := io.ReadAll(os.Stdin)
	return string(data), err
}
