package main

import (
	"context"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
)

type embedCommand struct {
	Text *string `arg:"" optional:"" help:"Text to embed (default: standard input, as it is)."`

	modelFlags
	engineFlags
	promptFlags
	IDs []int `name:"ids" help:"Ids instead of a text, separated by commas." placeholder:"1,5,6"`
	All bool  `help:"Hidden states of every position, not only the last."`
}

// Run prints hidden states after the final norm.
func (c *embedCommand) Run(ctx context.Context) error {
	if c.IDs != nil && c.Text != nil {
		return cli.Usage("give a text or --ids, not both")
	}
	if c.IDs != nil && len(c.IDs) == 0 {
		return cli.Usage("--ids is empty, want ids separated by commas")
	}
	m, err := c.modelFlags.open(ctx, c.engineFlags.fits)
	if err != nil {
		return err
	}
	ids := c.IDs
	if ids == nil {
		s, err := text(c.Text, "a text")
		if err != nil {
			return err
		}
		if _, ids, err = c.encode(m, s); err != nil {
			return err
		}
	}
	e, err := c.engineFlags.open(m)
	if err != nil {
		return err
	}
	defer e.Close()
	states, err := runtime.Embed(ctx, e, ids, c.All)
	if err != nil {
		return err
	}
	return cli.PrintJSON(struct {
		IDs        []int       `json:"ids"`
		Embeddings [][]float32 `json:"embeddings"`
	}{ids, matrix(states, m.Config.HiddenSize)}, "")
}
