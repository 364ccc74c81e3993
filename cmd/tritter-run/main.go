// Tritter-run runs the models of .trit files.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/tritter-ai/tritter/demo"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/internal/cli"
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
	commands := []string{"generate", "chat", "tokenize", "detokenize", "logits", "embed", "bench", "info", "plan", "devices"}
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

// open loads the model. Closing the file is left to the end of the process.
func (m *modelFlags) open(ctx context.Context) (*runtime.Model, error) {
	f, err := openFile(ctx, m.Model, m.Check)
	if err != nil {
		return nil, err
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
	Context int `help:"Positions a sequence may hold (default: the model's maximum)." placeholder:"N"`
	Threads int `help:"Goroutines that compute (default: all cores). Does not change the result." placeholder:"N"`
	cli.DeviceFlag
}

func (e *engineFlags) open(m *runtime.Model) (runtime.Engine, error) {
	if e.Context < 0 || e.Threads < 0 {
		return nil, cli.Usage("--context and --threads want at least 1, got %d and %d", e.Context, e.Threads)
	}
	return e.OpenEngine("tritter-run", m, runtime.Options{Context: e.Context, Threads: e.Threads})
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
