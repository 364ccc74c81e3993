package main

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

type tokenizeCommand struct {
	Text *string `arg:"" optional:"" help:"Text to encode (default: standard input, as it is); with --modality image or audio, a PNG, JPEG or WAV file."`

	modelFlags
	Modality  string `help:"Prefix of a text for vocabularies that have one, text or code (default: what the file says), or image or audio to encode a file." enum:",text,code,image,audio" default:""`
	NoSpecial bool   `help:"Add no special tokens."`
	JSON      bool   `name:"json" help:"Print {\"ids\": [...], \"tokens\": [...]}."`
}

// Run tokenizes.
func (c *tokenizeCommand) Run(ctx context.Context) error {
	if m := tokenizer.Modality(c.Modality); m == tokenizer.Image || m == tokenizer.Audio {
		return c.file(ctx, m)
	}
	s, err := text(c.Text, "a text")
	if err != nil {
		return err
	}
	m, err := c.open(ctx)
	if err != nil {
		return err
	}
	prompt := promptFlags{Modality: c.Modality, NoSpecial: c.NoSpecial}
	t, ids, err := prompt.encode(m, s)
	if err != nil {
		return err
	}
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i], _ = t.Token(id)
	}
	return c.print(ids, tokens)
}

// file encodes an image or a sound.
func (c *tokenizeCommand) file(ctx context.Context, modality tokenizer.Modality) error {
	if c.Text == nil {
		return cli.Usage("--modality %s wants the name of a file", modality)
	}
	data, err := os.ReadFile(*c.Text)
	if err != nil {
		return err
	}
	m, err := c.open(ctx)
	if err != nil {
		return err
	}
	t, err := multiModal(m, modality)
	if err != nil {
		return err
	}
	ids, err := t.Encode(data, modality, !c.NoSpecial)
	if err != nil {
		return named(*c.Text, err)
	}
	tokens := make([]string, len(ids))
	for i, id := range ids {
		if tokens[i], err = t.Decode([]int{id}, false); err != nil {
			return err
		}
	}
	return c.print(ids, tokens)
}

// multiModal returns the model's tokenizer of all modalities, and refuses a model
// without a codebook of the one that is needed.
func multiModal(m *runtime.Model, modality tokenizer.Modality) (*tokenizer.MultiModal, error) {
	if _, err := m.Codebook(codebook.Kind(modality)); err != nil {
		return nil, err
	}
	return m.MultiModal()
}

func (c *tokenizeCommand) print(ids []int, tokens []string) error {
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
	IDs         []int  `name:"ids" required:"" help:"Ids, separated by commas." placeholder:"1,2,3"`
	SkipSpecial bool   `help:"Leave special tokens out."`
	JSON        bool   `name:"json" help:"Print {\"text\": \"...\"}."`
	Modality    string `help:"What the ids stand for: text, or image or audio to write a file with -o; ids of other modalities are left out." enum:"text,image,audio" default:"text"`
	Output      string `short:"o" help:"File to write: PNG for an image, WAV for a sound." placeholder:"FILE"`
	Float       bool   `help:"With --modality audio: write samples as 32-bit floats, which lose nothing, instead of 16-bit integers."`
}

// Run detokenizes. The text is printed as it is, without a newline of its own
// unless a person looks at it.
func (c *detokenizeCommand) Run(ctx context.Context) error {
	modality := tokenizer.Modality(c.Modality)
	switch {
	case modality != tokenizer.Text && c.Output == "":
		return cli.Usage("--modality %s wants a file to write: -o FILE", modality)
	case modality != tokenizer.Text && (c.JSON || c.SkipSpecial):
		return cli.Usage("--json and --skip-special go with --modality text")
	case modality == tokenizer.Text && c.Output != "":
		return cli.Usage("-o goes with --modality image or audio; text is printed")
	case modality != tokenizer.Audio && c.Float:
		return cli.Usage("--float goes with --modality audio")
	case len(c.IDs) == 0:
		return cli.Usage("--ids is empty, want ids separated by commas")
	}
	m, err := c.open(ctx)
	if err != nil {
		return err
	}
	if modality != tokenizer.Text {
		return c.file(m, modality)
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

// file writes an image or a sound.
func (c *detokenizeCommand) file(m *runtime.Model, modality tokenizer.Modality) error {
	t, err := multiModal(m, modality)
	if err != nil {
		return err
	}
	content, err := t.DecodeContent(c.IDs, modality)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	switch v := content.(type) {
	case image.Image:
		err = png.Encode(&out, v)
	case *codebook.Sound:
		err = codebook.WriteWAV(&out, v, c.Float)
	}
	if err != nil {
		return err
	}
	return cli.WriteOutput("-o", c.Output, out.Bytes(), c.Model)
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
	m, e, err := openEngine(ctx, &c.modelFlags, &c.engineFlags)
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
