// Tritter-verify proves a .trit file.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/verify"
)

const description = `Proves a .trit file: structure, hashes, legal codes and scales, config, tokenizer, symmetry, provenance; with --source that its weights come from a checkpoint, with --run that this machine computes what the file says.

Every problem is reported. Exit codes: 0 nothing found, 3 something is wrong with the file, 1 the check could not be done, 2 usage, 130 interrupted.`

type command struct {
	File    string `arg:"" help:"File to check." placeholder:"FILE.trit"`
	Engines bool   `name:"run" help:"Also compute the self-test on every engine of this machine."`
	Source  string `help:"Also derive every trit and scale from this checkpoint again." placeholder:"DIR"`
	JSON    bool   `name:"json" help:"Print the report as JSON."`
	Quiet   bool   `short:"q" help:"Print findings only."`
	Workers int    `help:"Goroutines (default: all cores)." placeholder:"N"`
}

func main() { cli.Main("tritter-verify", description, &command{}, os.Args[1:]) }

// Run verifies.
func (c *command) Run(ctx context.Context) error {
	progress := cli.NewProgress(c.Quiet || c.JSON)
	report, err := verify.File(ctx, c.File, verify.Options{Run: c.Engines, Source: c.Source, Workers: c.Workers}, progress.Update)
	progress.Close()
	if err != nil && report.OK() {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		if err := e.Encode(report); err != nil {
			return err
		}
	} else {
		c.print(report)
	}
	if !report.OK() { // findings count more than a check that could not be done
		return &cli.Exit{Code: cli.ExitFinding, Err: err}
	}
	return nil
}

func (c *command) print(r *verify.Report) {
	if !c.Quiet {
		for _, check := range r.Checks {
			fmt.Println(strings.TrimRight(fmt.Sprintf("%-10s  %-7s  %s", check.Name, check.Status, check.Detail), " "))
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
		fmt.Printf("FOUND %s: %s%s\n", f.Check, where, f.Message)
	}
	switch n := len(r.Findings); {
	case n == 1:
		fmt.Printf("%s: a problem was found; do not use this file\n", r.Path)
	case n > 1:
		fmt.Printf("%s: %d problems were found; do not use this file\n", r.Path, n)
	case !c.Quiet:
		fmt.Printf("%s: nothing wrong; header SHA-256 %s\n", r.Path, r.SHA256)
	}
}
