// Tritter-verify proves a .trit file.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/verify"
)

const description = `Proves a .trit file: structure, hashes, legal codes and scales, config, tokenizer, symmetry, provenance; with --source that its weights come from a checkpoint, with --run that this machine computes what the file says, with --allowed-signers who vouches for it.

Every problem is reported. Exit codes: 0 nothing found, 3 something is wrong with the file (or, with --compare, different), 1 the check could not be done, 2 usage, 130 interrupted.`

type command struct {
	File    string `arg:"" help:"File to check." placeholder:"FILE.trit"`
	Quick   bool   `help:"Check the header, the config and the tokenizer only, not the weights."`
	Engines bool   `name:"run" help:"Also compute the self-test on every engine of this machine."`

	Device cli.Device `help:"Engines of --run: auto (all that can), cpu, cuda, or cuda:N for the N-th GPU." placeholder:"auto" default:"auto" env:"TRITTER_DEVICE"`

	Source  string `help:"Also derive every trit and scale from this checkpoint again." placeholder:"DIR"`
	Compare string `help:"Also hold the weights, config and tokenizer to those of another file." placeholder:"OTHER.trit"`
	Tensors bool   `help:"Also measure every tensor: shares of -1, 0 and +1, scales, anomalies (in --json)."`
	Report  string `help:"Also write a page for people, with --tensors' numbers." placeholder:"OUT.html"`

	AllowedSigners string `help:"Demand a signature by one of these keys (format of ssh-keygen)." placeholder:"FILE"`
	Signature      string `help:"Where the signature is (default: FILE.trit.sig)." placeholder:"FILE"`
	Sign           string `help:"When nothing is wrong, sign with this SSH private key, into FILE.trit.sig." placeholder:"KEY"`

	JSON    bool `name:"json" help:"Print the report as JSON (spec/verify-report.schema.json)."`
	Quiet   bool `short:"q" help:"Print findings only."`
	Workers int  `help:"Goroutines (default: all cores)." placeholder:"N"`

	cli.Common
}

func main() { cli.Main("tritter-verify", description, &command{}, os.Args[1:]) }

// Validate refuses flags that contradict each other.
func (c *command) Validate() error {
	switch {
	case c.Quick && (c.Sign != "" || c.Report != "" || c.Tensors || c.Engines || c.Source != "" || c.Compare != ""):
		return errors.New("--quick leaves the weights alone: it does not go with --run, --source, --compare, --tensors, --report or --sign")
	case c.Sign != "" && c.AllowedSigners != "":
		return errors.New("--sign replaces the signature that --allowed-signers checks; run twice")
	}
	return nil
}

// Run verifies.
func (c *command) Run(ctx context.Context) error {
	progress := cli.NewProgress(c.Quiet || c.JSON)
	report, err := verify.File(ctx, c.File, verify.Options{Quick: c.Quick, Run: c.Engines, Device: string(c.Device), Source: c.Source, Compare: c.Compare, Tensors: c.Tensors || c.Report != "",
		AllowedSigners: c.AllowedSigners, Signature: c.Signature, Unsigned: c.Sign != "", Workers: c.Workers}, progress.Update)
	progress.Close()
	if err != nil && report.OK() {
		return err
	}
	if c.JSON {
		if err := cli.PrintJSON(report, "  "); err != nil {
			return err
		}
	} else if err := cli.Print(func(w io.Writer) { c.print(w, report) }); err != nil {
		return err
	}
	if c.Report != "" {
		if err := c.writePage(report); err != nil {
			return err
		}
	}
	if !report.OK() { // findings count more than a check that could not be done
		return &cli.Exit{Code: cli.ExitFinding, Err: err}
	}
	if c.Sign != "" {
		out, err := verify.Sign(c.File, c.Sign, passphrase)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "signed: %s; others check it with: tritter-verify --allowed-signers FILE %s\n", out, c.File)
	}
	return nil
}

func (c *command) writePage(r *verify.Report) error {
	var page bytes.Buffer
	if err := r.WriteHTML(&page); err != nil {
		return err
	}
	return cli.WriteOutput("--report", c.Report, page.Bytes(), c.File, c.File+verify.SignatureSuffix, c.Signature, c.Compare, c.AllowedSigners, c.Sign)
}

// passphrase asks on the terminal.
func passphrase() ([]byte, error) {
	if !cli.IsTerminal(os.Stdin) {
		return nil, errors.New("the key is encrypted and there is no terminal to ask for its passphrase; use ssh-keygen -p to make a copy without one, or run this on a terminal")
	}
	fmt.Fprint(os.Stderr, "passphrase: ")
	defer fmt.Fprintln(os.Stderr)
	return term.ReadPassword(int(os.Stdin.Fd()))
}

func (c *command) print(w io.Writer, r *verify.Report) {
	if !c.Quiet {
		for _, check := range r.Checks {
			fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-10s  %-7s  %s", check.Name, check.Status, check.Detail), " "))
		}
	}
	for _, f := range r.Findings {
		where := f.Tensor
		if where == "" {
			where = f.Section
		}
		if where != "" {
			where += ": "
		}
		fmt.Fprintf(w, "FOUND %s: %s%s\n", f.Check, where, f.Message)
	}
	switch n := len(r.Findings); {
	case n == 1:
		fmt.Fprintf(w, "%s: a problem was found; do not use this file\n", r.Path)
	case n > 1:
		fmt.Fprintf(w, "%s: %d problems were found; do not use this file\n", r.Path, n)
	case !c.Quiet:
		fmt.Fprintf(w, "%s: nothing wrong; header SHA-256 %s\n", r.Path, r.SHA256)
	}
}
