package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
)

type infoCommand struct {
	File string `arg:"" optional:"" help:"Model to describe (default: -m, or the embedded one)." placeholder:"FILE.trit"`

	Model  string `short:"m" help:"Model to describe." placeholder:"FILE.trit" env:"TRITTER_MODEL"`
	Preset string `help:"Describe a preset instead of a file: test, 125M, 350M, 1B, 3B, 7B, 3B-base or 7B-base." placeholder:"NAME"`
	JSON   bool   `name:"json" help:"Print JSON."`
}

// info is what the command prints.
type info struct {
	Path       string            `json:"path"`
	Version    string            `json:"version"`
	Size       int64             `json:"size"`
	SHA256     string            `json:"header_sha256"`
	Config     *model.Config     `json:"config"`
	Costs      []model.Cost      `json:"costs"`
	Generation *model.Generation `json:"generation"`
	Sections   []sectionInfo     `json:"sections"`
	Tensors    []tensorInfo      `json:"tensors"`
	Parameters int64             `json:"parameters"`
	Bits       float64           `json:"bits_per_weight"` // of the projections, scales included
}

type sectionInfo struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

type tensorInfo struct {
	Name        string  `json:"name"`
	Shape       []int   `json:"shape"`
	Encoding    string  `json:"encoding"`
	Rule        string  `json:"rule"`
	Granularity string  `json:"granularity"`
	Bytes       int64   `json:"bytes"`
	Bits        float64 `json:"bits_per_weight"`
}

// Run describes a file.
func (c *infoCommand) Run(ctx context.Context) error {
	if c.Preset != "" {
		return c.preset()
	}
	path := c.File
	if path == "" {
		path = c.Model
	}
	f, err := openFile(ctx, path, false)
	if err != nil {
		return err
	}
	defer f.Close()
	i, err := describe(f)
	if err != nil {
		return named(path, err)
	}
	if i.Path = path; i.Path == "" {
		i.Path = "(embedded)"
	}
	if c.JSON {
		return cli.PrintJSON(i, "")
	}
	return i.print()
}

// preset describes a Config that no file belongs to.
func (c *infoCommand) preset() error {
	if c.File != "" {
		return cli.Usage("--preset and a file exclude each other")
	}
	config, err := model.Preset(c.Preset)
	if err != nil {
		return &cli.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("--preset: %w", err)}
	}
	if c.JSON {
		return cli.PrintJSON(struct {
			Preset string        `json:"preset"`
			Config *model.Config `json:"config"`
			Costs  []model.Cost  `json:"costs"`
		}{c.Preset, config, config.Costs()}, "")
	}
	t := newTable()
	row(t, "preset", "%s", c.Preset)
	configRows(t, config)
	costRows(t, config.Costs())
	return t.Flush()
}

func describe(f *format.File) (*info, error) {
	h := f.Header()
	config, err := runtime.ReadConfig(f)
	if err != nil {
		return nil, err
	}
	generation, err := runtime.ReadGeneration(f, config.VocabSize)
	if err != nil {
		return nil, err
	}
	i := &info{Version: fmt.Sprintf("%d.%d", h.Major, h.Minor), Size: h.FileLength, SHA256: fmt.Sprintf("%x", h.SHA256), Config: config, Costs: config.Costs(), Generation: generation}
	for _, s := range h.Sections {
		i.Sections = append(i.Sections, sectionInfo{s.Name, s.Length})
	}
	var ternary, ternaryBytes int64
	for _, t := range h.Tensors {
		n := int64(1)
		for _, d := range t.Dims {
			n *= int64(d)
		}
		bytes := t.Length + t.ScaleLength
		i.Parameters += n
		if t.Encoding.Ternary() {
			ternary, ternaryBytes = ternary+n, ternaryBytes+bytes
		}
		i.Tensors = append(i.Tensors, tensorInfo{t.Name, t.Dims, t.Encoding.String(), t.Rule.String(), t.Granularity.String(), bytes, float64(8*bytes) / float64(n)})
	}
	if ternary > 0 {
		i.Bits = float64(8*ternaryBytes) / float64(ternary)
	}
	return i, nil
}

func newTable() *tabwriter.Writer { return tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0) }

func row(t *tabwriter.Writer, name, format string, args ...any) {
	fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
}

func (i *info) print() error {
	t := newTable()
	row(t, "file", "%s, version %s, %s", i.Path, i.Version, cli.Bytes(i.Size))
	row(t, "SHA-256 of header", "%s", i.SHA256)
	row(t, "parameters", "%.1f M, %.3f bits a ternary weight", float64(i.Parameters)/1e6, i.Bits)
	configRows(t, i.Config)
	row(t, "end of text", "%s", strings.Trim(fmt.Sprint(i.Generation.EOS), "[]"))
	for _, s := range i.Sections {
		row(t, "section "+s.Name, "%s", cli.Bytes(s.Bytes))
	}
	costRows(t, i.Costs)
	fmt.Fprintln(t, "\nTENSOR\tSHAPE\tENCODING\tRULE\tSCALES\tBYTES\tBITS/WEIGHT")
	for _, x := range i.Tensors {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%.3f\n", x.Name, strings.Trim(fmt.Sprint(x.Shape), "[]"), x.Encoding, x.Rule, x.Granularity, x.Bytes, x.Bits)
	}
	return t.Flush()
}

func configRows(t *tabwriter.Writer, c *model.Config) {
	row(t, "hidden size", "%d, %d layers, feed-forward %d (%s)", c.HiddenSize, c.NumLayers, c.IntermediateSize, c.Activation)
	row(t, "heads", "%d of %d, %d key-value heads", c.NumHeads, c.HeadDim, c.NumKVHeads)
	row(t, "vocabulary", "%d, head %s, modalities %s", c.VocabSize, map[bool]string{true: "tied", false: "of its own"}[c.TiedHead], join(c.Modalities))
	row(t, "context", "%d positions, %s RoPE, theta %g", c.MaxPositionEmbeddings, c.Rope.Type, c.Rope.Theta)
	row(t, "norms", "%s, eps %g: %s", c.Norm, c.NormEps, join(c.Norms))
	row(t, "activations", "%s", c.ActivationQuant)
	if len(c.Biases) > 0 {
		row(t, "biases", "%s", join(c.Biases))
	}
}

func costRows(t *tabwriter.Writer, costs []model.Cost) {
	fmt.Fprintln(t, "\nFIELD\tVALUE\tCOSTS\tWHY")
	for _, c := range costs {
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", c.Field, c.Value, cli.Bytes(c.Bytes), c.Why)
	}
}

func join[T ~string](values []T) string {
	s := make([]string, len(values))
	for i, v := range values {
		s[i] = string(v)
	}
	return strings.Join(s, ", ")
}
