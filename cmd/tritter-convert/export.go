package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tritter-ai/tritter/export"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
)

// isTrit reports whether the source is a .trit file: then it is exported.
func (c *command) isTrit() bool {
	return strings.EqualFold(filepath.Ext(c.Source), ".trit")
}

// export writes a .trit file in another tool's form.
func (c *command) export(ctx context.Context) error {
	if c.Output == "" {
		return cli.Usage("%s is exported: name a .gguf file, or a folder for Hugging Face's packed form, with -o", c.Source)
	}
	toGGUF := strings.EqualFold(filepath.Ext(c.Output), ".gguf")
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"--dry-run", c.DryRun}, {"--rule", c.Rule != ""}, {"--activations", c.Activations != ""}, {"--scale", c.Scale != ""}, {"--i2s-layout", c.I2SLayout != ""},
		{"--head", c.Head != "keep"}, {"--generation", len(c.Generation) > 0}, {"--tokenizer", c.Tokenizer != ""}, {"--codebook", len(c.Codebook) > 0}, {"--no-self-test", c.NoSelfTest}, {"--chat-template", c.ChatTemplate != ""},
		{"--json", c.JSON && !toGGUF}, {"--no-tokenizer", c.NoTokenizer && !toGGUF},
	} {
		if f.given {
			return cli.Usage("%s does not apply to this export", f.name)
		}
	}
	if err := c.mayReplace(c.Output, "GGUF"); toGGUF && err != nil {
		return err
	}
	f, err := format.Open(c.Source)
	if err != nil {
		return err
	}
	defer f.Close()
	if !toGGUF {
		if c.Encoding != "" {
			return cli.Usage("--encoding %s: Hugging Face's packed form has one encoding; leave it out, or name a .gguf file with -o", c.Encoding)
		}
		if err := export.HuggingFace(ctx, f, c.Output); err != nil {
			return err
		}
		if !c.Quiet {
			fmt.Fprintf(os.Stderr, "%s: Hugging Face's packed safetensors (autobitlinear, scale multiplies)\n", c.Output)
		}
		return nil
	}
	if c.Encoding == "" {
		c.Encoding = "tq2_0"
	}
	report, err := export.GGUF(ctx, f, c.Output, export.GGUFOptions{Encoding: c.Encoding, NoTokenizer: c.NoTokenizer, Workers: c.Workers,
		Name: strings.TrimSuffix(filepath.Base(c.Source), filepath.Ext(c.Source))})
	if err != nil {
		return err
	}
	if c.JSON {
		return cli.PrintJSON(report, "  ")
	}
	if !c.Quiet {
		for _, w := range report.Warnings {
			fmt.Fprintln(os.Stderr, "tritter-convert: warning:", w)
		}
		fmt.Fprintf(os.Stderr, "%s: %s, %s; scales rounded to f16 with a relative error of at most %.1g\n", report.Path, report.Encoding, cli.Bytes(report.Size), report.ScaleError)
	}
	return nil
}
