// Tritter-run runs the models of .trit files.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
	"github.com/tritter-ai/tritter/kernels"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

const description = `Runs ternary language models: tritter-run "prompt" continues the prompt. Without -m it uses a small model of Go code that is part of the program.

The same model, prompt, settings and seed give the same text on every machine. A prompt that is also the name of a command goes after --: tritter-run -- info. Exit codes: 0 fine, 1 failed, 2 usage, 130 interrupted.`

type grammar struct {
	Generate   generateCommand   `cmd:"" default:"withargs" help:"Continue a prompt (the default command)."`
	Chat       chatCommand       `cmd:"" help:"Hold a conversation."`
	Tokenize   tokenizeCommand   `cmd:"" help:"Print the ids of a text."`
	Detokenize detokenizeCommand `cmd:"" help:"Print the text of ids."`
	Logits     logitsCommand     `cmd:"" help:"Print the logits of ids as JSON, to compare engines."`
	Embed      embedCommand      `cmd:"" help:"Print hidden states of a text as JSON."`
	Perplexity perplexityCommand `cmd:"" help:"Measure how well a model predicts a text."`
	Bench      benchCommand      `cmd:"" help:"Measure prefill and decode."`
	Info       infoCommand       `cmd:"" help:"Describe a model: config, tensors, sizes."`
	Plan       planCommand       `cmd:"" help:"Account for the memory of a model: does it fit, and with what context?"`
	Devices    devicesCommand    `cmd:"" help:"List where models can run: CPU and GPUs, with their memory."`

	cli.Common
}

func main() { cli.Main("tritter-run", description, &grammar{}, separate(os.Args[1:])) }

// separate makes -- end the commands as well as the flags: without it, kong would
// still take a prompt such as "info" after -- for the command of that name.
func separate(args []string) []string {
	commands := []string{"generate", "chat", "tokenize", "detokenize", "logits", "embed", "perplexity", "bench", "info", "plan", "devices"}
	if slices.Contains(args, "--") && !slices.Contains(commands, args[0]) {
		return append([]string{"generate"}, args...)
	}
	return args
}

// modelFlags open a model.
type modelFlags struct {
	Model     string `short:"m" help:"Model to use (default: the embedded model of Go code)." placeholder:"FILE.trit" env:"TRITTER_MODEL"`
	Tokenizer string `help:"tokenizer.json to use instead of the file's." placeholder:"FILE"`
	Check     bool   `help:"Check every hash, code and scale of the file before using it."`
}

// openFile opens the model's file.
func openFile(ctx context.Context, path string, check bool) (*format.File, error) {
	var f *format.File
	var err error
	if path == "" {
		f, err = format.OpenBytes(demo.Model())
	} else {
		f, err = format.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if check {
		var found error
		err := f.Check(ctx, 0, func(p format.Problem) {
			if found == nil {
				found = p
			}
		}, nil)
		if err == nil && found != nil {
			err = fmt.Errorf("%w; tritter-verify lists every problem", found)
		}
		if err != nil {
			return nil, errors.Join(named(path, err), f.Close())
		}
	}
	return f, nil
}

// named puts a path in front of an error.
func named(path string, err error) error {
	if err == nil {
		return nil
	}
	if path == "" {
		return err // the embedded model has none
	}
	return fmt.Errorf("%s: %w", path, err)
}

// open loads the model, unless one of the checks refuses its file first. Closing
// the file is left to the end of the process.
func (m *modelFlags) open(ctx context.Context, checks ...func(*format.File) error) (*runtime.Model, error) {
	f, err := openFile(ctx, m.Model, m.Check)
	if err != nil {
		return nil, err
	}
	for _, check := range checks {
		if err := check(f); err != nil {
			if exit := new(cli.Exit); errors.As(err, &exit) {
				return nil, err // about the flags, not the file
			}
			return nil, named(m.Model, err)
		}
	}
	loaded, err := runtime.LoadModel(f)
	if err != nil {
		return nil, named(m.Model, err)
	}
	if m.Tokenizer != "" {
		t, err := readTokenizer(m.Tokenizer)
		if err != nil {
			return nil, err
		}
		if err := loaded.UseTokenizer(t); err != nil {
			return nil, named(m.Tokenizer, err)
		}
	}
	return loaded, nil
}

func readTokenizer(path string) (*tokenizer.Tokenizer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > tokenizer.MaxJSONSize {
		return nil, fmt.Errorf("%s: want a tokenizer.json file of at most %d bytes", path, tokenizer.MaxJSONSize)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Parse(data)
	return t, named(path, err)
}

// engineFlags choose and configure an engine.
type engineFlags struct {
	Context  int        `help:"Positions a sequence may have, for which the cache is sized (default: the model's maximum; with --window 2^24)." placeholder:"N"`
	KV       string     `name:"kv" help:"How keys and values are cached: f32, f16, int8 or int4. All but f32 change the result." enum:"f32,f16,int8,int4" default:"f32"`
	Window   windowFlag `help:"Attend only to the last N positions and the --sinks, in memory for those, however long the text grows; on is 4096, or what the model can do." placeholder:"N|on"`
	Sinks    *int       `help:"With --window: first positions that stay attended to (default: 4)." placeholder:"N"`
	Threads  int        `help:"Goroutines that compute (default: all cores). Does not change the result." placeholder:"N"`
	Filter   string     `help:"For greedy and top-k sampling, find the greatest logits in an int8 copy of the head and compute only those: exact, less to read, a third more memory. auto does so for long texts." enum:"auto,on,off" default:"auto"`
	Load     string     `help:"How the CPU holds weights: mmap uses the file in place, huge copies it into 2 MiB pages (Linux)." enum:"mmap,huge" default:"mmap"`
	Prefault bool       `help:"Page the file's weights in while the program starts: for a file that is not in the page cache."`
	Fast     bool       `help:"On a GPU, compute the attention of prompts in bfloat16 on tensor cores: faster for long ones. Changes the result a little; without it results are the same bits everywhere."`
	Kernels  string     `help:"CPU implementation: ref, avx2 ... (default: the fastest of this machine). Does not change the result." placeholder:"NAME"`
	cli.DeviceFlag
}

// windowFlag is a number of positions, 0 without a window.
type windowFlag int

// windowOn asks for the usual window.
const windowOn windowFlag = -1

// UnmarshalText reads a number of positions or "on".
func (w *windowFlag) UnmarshalText(text []byte) error {
	if string(text) == "on" {
		*w = windowOn
		return nil
	}
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 {
		return fmt.Errorf("want a number of positions, at least 1, or on, got %q", text)
	}
	*w = windowFlag(n)
	return nil
}

// options turns the flags into options of an engine for a model.
func (e *engineFlags) options(c *model.Config) (runtime.Options, error) {
	opt := runtime.Options{Context: e.Context, Threads: e.Threads, Window: int(e.Window), Load: runtime.Load(e.Load), Prefault: e.Prefault, Filter: e.Filter == "on", Fast: e.Fast}
	if e.Context < 0 || e.Threads < 0 {
		return opt, cli.Usage("--context and --threads want at least 1, got %d and %d", e.Context, e.Threads)
	}
	var err error
	if opt.KV, err = kernels.ParseKVFormat(e.KV); err != nil {
		return opt, err
	}
	if e.Window == 0 && e.Sinks != nil {
		return opt, cli.Usage("--sinks is for --window; give --window N or leave --sinks out")
	}
	if e.Window != 0 {
		limit := c.MaxPositionEmbeddings
		opt.Sinks = *first(e.Sinks, new(runtime.DefaultSinks))
		if e.Window == windowOn {
			opt.Window = min(runtime.DefaultWindow, limit-opt.Sinks)
		}
		if opt.Sinks < 0 || opt.Window < 1 || opt.Window > limit-opt.Sinks {
			return opt, cli.Usage("--window %d and --sinks %d want at least 1 and 0, and together at most %d, the model's max_position_embeddings", opt.Window, opt.Sinks, limit)
		}
	}
	if e.Kernels == "" {
		return opt, nil
	}
	var names []string
	for _, ops := range cpu.Implementations() {
		names = append(names, ops.Name())
		if ops.Name() == e.Kernels {
			opt.Kernels = ops
		}
	}
	if opt.Kernels == nil {
		return opt, cli.Usage("--kernels %s: this machine has %s", e.Kernels, strings.Join(names, ", "))
	}
	return opt, nil
}

// fits refuses a file that this machine's CPU cannot hold, before it is loaded.
func (e *engineFlags) fits(f *format.File) error {
	if e.Device != runtime.DeviceAuto && e.Device != runtime.DeviceCPU {
		return nil // the memory that counts is the device's
	}
	c, err := runtime.ReadConfig(f)
	if err != nil {
		return err
	}
	opt, err := e.options(c)
	if err != nil {
		return err
	}
	return runtime.CheckMemory(f, opt)
}

func (e *engineFlags) open(m *runtime.Model) (runtime.Engine, error) {
	opt, err := e.options(&m.Config)
	if err != nil {
		return nil, err
	}
	return e.OpenEngine("tritter-run", m, opt)
}

// openEngine opens a model that fits the machine, and the engine that computes it.
func openEngine(ctx context.Context, model *modelFlags, engine *engineFlags) (*runtime.Model, runtime.Engine, error) {
	m, err := model.open(ctx, engine.fits)
	if err != nil {
		return nil, nil, err
	}
	e, err := engine.open(m)
	return m, e, err
}

// promptFlags say how text becomes ids.
type promptFlags struct {
	Modality  string `help:"Prefix of the prompt for vocabularies that have one: text or code (default: what the file says)." enum:",text,code" default:""`
	NoSpecial bool   `help:"Add no special tokens to the text."`
}

func (p *promptFlags) encode(m *runtime.Model, text string) (*tokenizer.Tokenizer, []int, error) {
	t, err := m.Tokenizer()
	if err != nil {
		return nil, nil, err
	}
	opt := tokenizer.EncodeOptions{AddSpecial: !p.NoSpecial, Modality: tokenizer.Modality(p.Modality)}
	if opt.Modality == "" && len(t.Modalities()) > 0 {
		opt.Modality = tokenizer.Text
		if g := m.Generation.Modality; g != nil {
			opt.Modality = tokenizer.Modality(*g)
		}
	}
	ids, err := t.Encode(text, opt)
	return t, ids, err
}
