package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
)

type tokenizeCommand struct {
	Text *string `arg:"" optional:"" help:"Text to encode (default: standard input, as it is)."`

	modelFlags
	promptFlags
	JSON bool `name:"json" help:"Print {\"ids\": [...], \"tokens\": [...]}."`
}

// Run tokenizes.
func (c *tokenizeCommand) Run(ctx context.Context) error {
	s, err := text(c.Text, "a text")
	if err != nil {
		return err
	}
	m, err := c.open(ctx)
	if err != nil {
		return err
	}
	t, ids, err := c.encode(m, s)
	if err != nil {
		return err
	}
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i], _ = t.Token(id)
	}
	if c.JSON {
		return cli.PrintJSON(struct {
			IDs    []int    `json:"ids"`
			Tokens []string `json:"tokens"`
		}{append([]int{}, ids...), tokens}, "")
	}
	return cli.Print(func(w io.Writer) {
		for i, id := range ids {
			fmt.Fprintf(w, "%d\t%q\n", id, tokens[i])
		}
	})
}

type detokenizeCommand struct {
	modelFlags
	IDs         []int `name:"ids" required:"" help:"Ids, separated by commas." placeholder:"1,2,3"`
	SkipSpecial bool  `help:"Leave special tokens out."`
	JSON        bool  `name:"json" help:"Print {\"text\": \"...\"}."`
}

// Run detokenizes. The text is printed as it is, without a newline of its own
// unless a person looks at it.
func (c *detokenizeCommand) Run(ctx context.Context) error {
	if len(c.IDs) == 0 {
		return cli.Usage("--ids is empty, want ids separated by commas")
	}
	m, err := c.open(ctx)
	if err != nil {
		return err
	}
	t, err := m.Tokenizer()
	if err != nil {
		return err
	}
	s, err := t.Decode(c.IDs, c.SkipSpecial)
	if err != nil {
		return err
	}
	if c.JSON {
		return cli.PrintJSON(struct {
			Text string `json:"text"`
		}{s}, "")
	}
	_, err = io.WriteString(os.Stdout, s)
	if cli.IsTerminal(os.Stdout) {
		fmt.Println()
	}
	return err
}

type logitsCommand struct {
	modelFlags
	engineFlags
	IDs []int `name:"ids" required:"" help:"Ids, separated by commas." placeholder:"1,5,6"`
	All bool  `help:"Logits of every position, not only the last."`
}

// Run prints logits with the shortest digits that give the same float32 again.
func (c *logitsCommand) Run(ctx context.Context) error {
	if len(c.IDs) == 0 {
		return cli.Usage("--ids is empty, want ids separated by commas")
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
	want := runtime.PositionLast
	if c.All {
		want = runtime.PositionAll
	}
	seq := e.NewSequence()
	defer seq.Close()
	results, err := e.Forward(ctx, []runtime.Span{{Seq: seq, Tokens: c.IDs, Logits: want}})
	if err != nil {
		return err
	}
	return cli.PrintJSON(struct {
		IDs    []int       `json:"ids"`
		Logits [][]float32 `json:"logits"`
	}{c.IDs, matrix(results[0].Logits, m.Config.VocabSize)}, "")
}

// matrix cuts values into rows.
func matrix(values []float32, width int) (rows [][]float32) {
	for ; len(values) > 0; values = values[width:] {
		rows = append(rows, values[:width])
	}
	return rows
}
