// Tritter-convert turns a trained checkpoint into one .trit file.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/chat"
	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
)

const description = `Turns a checkpoint of a ternary language model (a Hugging Face folder, or a .safetensors, PyTorch or GGUF file) into one .trit file: weights, configuration, tokenizer, hashes, provenance and a self-test.

A .trit file as the source is exported: to a .gguf that llama.cpp runs, or to a folder in Hugging Face's packed form, as -o says.

The file appears complete or not at all. The same input and options give the same bytes. Exit codes: 0 fine, 1 failed, 2 usage, 130 interrupted.`

type command struct {
	Source string `arg:"" help:"Checkpoint: a folder, or one file of weights with config.json beside it; or a .trit file to export." placeholder:"DIR_OR_FILE"`

	Output string `short:"o" help:"File to write (default: the source's name with .trit, in the current folder)." placeholder:"FILE"`
	Force  bool   `help:"Replace an output file of another kind."`
	DryRun bool   `help:"Print what would become of every tensor and stop."`
	JSON   bool   `name:"json" help:"Print the report as JSON."`
	Quiet  bool   `short:"q" help:"No progress bar, no summary."`

	Rule         string            `help:"Quantize float weights: absmean (one scale a tensor), absmean-row, absmean-group=N. Needed for dense models." placeholder:"RULE"`
	Activations  string            `help:"Input of ternary matrices: int8 or none (default: what the checkpoint was trained with)." placeholder:"KIND"`
	Scale        string            `help:"Packed weights: whether weight_scale multiplies or divides, where config.json does not say." placeholder:"multiply|divide"`
	I2SLayout    string            `name:"i2s-layout" help:"Layout of I2_S matrices in a .gguf, which does not say it: x86." placeholder:"x86"`
	Encoding     string            `help:"Ternary encoding: trit2 (default: 2 bits, used in place) or trit3 (1.6 bits, unpacked when loaded); of a .gguf, tq2_0 (default), tq1_0 or f16." placeholder:"NAME"`
	Head         string            `help:"Output head: keep, or int8 (smaller and faster, not exact)." default:"keep"`
	Generation   map[string]string `help:"Generation default: eos, temperature, top_p, top_k, min_p, repetition_penalty, max_new_tokens or modality. Repeatable." placeholder:"KEY=VALUE" mapsep:"none"`
	Tokenizer    string            `help:"tokenizer.json to store instead of the checkpoint's." placeholder:"FILE"`
	NoTokenizer  bool              `help:"Store no tokenizer."`
	ChatTemplate string            `help:"Chat template to store instead of the checkpoint's: a Jinja file, or a built-in one (bitnet, chatml, gemma, llama2, llama3, mistral, plain)." placeholder:"FILE|NAME"`
	Codebook     []string          `help:"Store the codebook of images, sounds or hidden states of this .safetensors file, whose metadata says what it is (docs/modalities.md). Repeatable." sep:"none" placeholder:"FILE"`
	NoSelfTest   bool              `help:"Store no self-test (it costs 8 tokens of the reference engine)."`
	Workers      int               `help:"Goroutines (default: all cores). Does not change the result." placeholder:"N"`

	cli.Common
}

func main() { cli.Main("tritter-convert", description, &command{}, os.Args[1:]) }

// Run converts.
func (c *command) Run(ctx context.Context) error {
	if c.isTrit() {
		return c.export(ctx)
	}
	opt := convert.Options{Rule: c.Rule, Scale: c.Scale, I2SLayout: c.I2SLayout, Activations: c.Activations, Generation: c.Generation, Tokenizer: c.Tokenizer, Encoding: c.Encoding, Head: c.Head,
		NoTokenizer: c.NoTokenizer, Codebooks: c.Codebook, NoSelfTest: c.NoSelfTest, Workers: c.Workers}
	if c.ChatTemplate != "" {
		var err error
		if opt.ChatTemplate, err = chat.Load(c.ChatTemplate); err != nil {
			return err
		}
	}
	if err := opt.Validate(); err != nil {
		return &cli.Exit{Code: cli.ExitUsage, Err: err}
	}
	plan, err := convert.Open(c.Source, opt)
	if err != nil {
		return err
	}
	defer plan.Close()
	if c.DryRun {
		report, err := plan.Describe()
		if err != nil {
			return err
		}
		return c.print(report)
	}
	output, err := c.output()
	if err != nil {
		return err
	}
	progress := cli.NewProgress(c.Quiet)
	report, err := plan.Write(ctx, output, progress.Update)
	progress.Close()
	if err != nil {
		return err
	}
	return c.print(report)
}

// output returns the file to write, and refuses to replace something else.
func (c *command) output() (string, error) {
	path := c.Output
	if path == "" {
		source, err := filepath.Abs(c.Source)
		if err != nil {
			return "", err
		}
		base := filepath.Base(source)
		for _, ext := range []string{".index.json", ".safetensors", ".bin", ".pt", ".pth", ".gguf"} {
			base = strings.TrimSuffix(base, ext)
		}
		path = base + ".trit"
	}
	if c.isSource(path) {
		return "", fmt.Errorf("%s is part of the source; choose another name with -o", path)
	}
	return path, c.mayReplace(path, format.Magic)
}

// isSource reports whether path is the source or a file in its folder that is not
// a .trit file: --force must not destroy what is being read.
func (c *command) isSource(path string) bool {
	out, err := os.Stat(path)
	if err != nil {
		return false // not there yet
	}
	files := []string{c.Source}
	if list, err := os.ReadDir(c.Source); err == nil {
		for _, e := range list {
			if !strings.EqualFold(filepath.Ext(e.Name()), ".trit") {
				files = append(files, filepath.Join(c.Source, e.Name()))
			}
		}
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && os.SameFile(info, out) {
			return true
		}
	}
	return false
}

// mayReplace refuses to replace a file that does not begin as the new one will.
func (c *command) mayReplace(path, magic string) error {
	info, err := os.Stat(path)
	if err != nil || c.Force || !info.Mode().IsRegular() {
		return nil // not there; anything else is reported when it is created
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f, head); err != nil || string(head) != magic {
		return fmt.Errorf("%s exists and is not of the kind that would replace it; choose another name with -o, or pass --force", path)
	}
	return nil
}

func (c *command) print(r *convert.Report) error {
	if c.JSON {
		return cli.PrintJSON(r, "  ")
	}
	if !c.Quiet {
		for _, w := range r.Warnings {
			fmt.Fprintln(os.Stderr, "tritter-convert: warning:", w)
		}
	}
	if c.DryRun {
		return table(os.Stdout, r)
	}
	if !c.Quiet {
		if err := errorTable(os.Stdout, r); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %d tensors, %s; check it with: tritter-verify --run %s\n", r.Path, len(r.Tensors), cli.Bytes(r.Size), r.Path)
	}
	return nil
}

// errorTable prints what rounding did to weights that were not trained for it.
func errorTable(w io.Writer, r *convert.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	n := 0
	for _, x := range r.Tensors {
		if x.Error == nil {
			continue
		}
		if n++; n == 1 {
			fmt.Fprintln(os.Stderr, "tritter-convert: warning: these weights were not trained to be ternary; expect a much weaker model")
			fmt.Fprintln(t, "TENSOR\tERROR, |w - trit x scale| / |w|")
		}
		fmt.Fprintf(t, "%s\t%.3f\n", x.Name, *x.Error)
	}
	return t.Flush()
}

func table(w io.Writer, r *convert.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TENSOR\tSHAPE\tSOURCE\tDTYPE\tRULE\tENCODING\tBYTES")
	var total int64
	for _, x := range r.Tensors {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", x.Name, strings.Trim(fmt.Sprint(x.Shape), "[]"), x.Source, x.DType, x.Rule, x.Encoding, x.Bytes)
		total += x.Bytes
	}
	fmt.Fprintf(t, "%d tensors\t\t\t\t\t\t%d\n", len(r.Tensors), total)
	return t.Flush()
}
