// Package convert turns trained checkpoints into .trit files.
//
// [Open] reads a checkpoint's configuration and decides, before a weight is read,
// what becomes of every tensor: a [Plan]. [Plan.Write] then streams the rows of
// each tensor through a few buffers a worker into the file, whose bytes depend on
// the source and the options only, never on the number of workers. [Plan.Derive]
// produces the same bytes for a reader that wants to compare them.
//
// Nothing is guessed: a configuration and tensors that disagree, a value that is
// not known, a scale whose convention is not certain are errors that say which
// option decides.
package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/codebook"
	"github.com/tritter-ai/tritter/convert/checkpoint"
	"github.com/tritter-ai/tritter/convert/checkpoint/gguf"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/tokenizer"
)

// Tool names this converter in the provenance of its files.
const Tool = "tritter-convert 0.1"

// Options are the choices of a conversion. The zero value keeps what the
// checkpoint says.
type Options struct {
	Rule         string            // quantize float weights: absmean, absmean-row, absmean-group=N
	Scale        string            // "multiply" or "divide", for packed weights whose config does not say
	Activations  string            // "int8" or "none"
	I2SLayout    string            // "x86": the layout of I2_S matrices in a GGUF file, which does not say it
	Encoding     string            // of ternary matrices: "trit2" (default) or "trit3"
	Head         string            // of the output head: "keep" (default) or "int8"
	Generation   map[string]string // generation defaults, over those of the checkpoint
	Tokenizer    string            // a tokenizer.json to use instead of the checkpoint's
	NoTokenizer  bool              // leave the tokenizer out
	ChatTemplate string            // source of a chat template to store instead of the checkpoint's
	Codebooks    []string          // safetensors files of codebooks to store, one of each kind at most
	WeightsOnly  bool              // plan for Derive: neither tokenizer nor generation defaults are looked at
	NoSelfTest   bool              // leave the self-test out
	Workers      int               // 0 is GOMAXPROCS
}

// Plan says what becomes of every tensor of a checkpoint. It holds the checkpoint
// open; close it.
type Plan struct {
	Family     string
	Config     model.Config
	Generation model.Generation
	Tokenizer  []byte               // tokenizer.json verbatim; nil without one
	Chat       []byte               // Jinja template of a conversation, verbatim; nil without one
	Codebooks  []*codebook.Codebook // by kind
	Targets    []Target
	Dropped    []*checkpoint.Tensor // not needed: equal to, or computed from, something kept
	Warnings   []string

	dir       *checkpoint.Dir
	gguf      *gguf.Reader // of dir, when that is a GGUF file
	where     string       // what says the configuration, for messages
	configSum [32]byte     // SHA-256 of config.json, or of what a GGUF file has in front of its tensors
	options   Options
	tokenizer *tokenizer.Tokenizer
}

// Target is one tensor of the .trit file and where it comes from.
type Target struct {
	Spec   format.TensorSpec
	Source *checkpoint.Tensor
	Scale  *checkpoint.Tensor // of packed weights; nil otherwise
	Rule   string             // a model.Rule* constant: how Source becomes the target

	divide bool         // Scale divides
	i2s    *gguf.Reader // of an I2_S Source, which knows where its scale is
}

// Open opens the checkpoint at path, a folder or a file, and plans its conversion.
func Open(path string, opt Options) (*Plan, error) {
	if err := opt.Validate(); err != nil {
		return nil, err
	}
	dir, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	p := &Plan{dir: dir, options: opt}
	if err := p.plan(); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return p, nil
}

// Close closes the checkpoint.
func (p *Plan) Close() error { return p.dir.Close() }

func (p *Plan) plan() error {
	h, err := p.readConfig()
	if err != nil {
		return err
	}
	a, err := newAssignment(p, h)
	if err != nil {
		return err
	}
	p.Family, p.Config, p.Warnings, p.where = h.family.name, h.config, h.warnings, h.where
	p.planActivations(h)
	p.Config.Modalities = []model.Modality{model.Text}
	if !p.options.WeightsOnly {
		if err := p.planTokenizer(); err != nil {
			return err
		}
		if err := p.planChat(); err != nil {
			return err
		}
		if err := p.planCodebooks(); err != nil {
			return err
		}
	}
	if err := p.Config.Validate(); err != nil {
		return fmt.Errorf("%s: %w", h.where, err)
	}
	if !p.options.WeightsOnly {
		if err := p.planGeneration(h.eos); err != nil {
			return err
		}
	}
	return a.all()
}

// planChat takes the chat template from the options, its own file, or the
// configuration of the tokenizer: a template, or a list of named ones of which
// "default" counts.
func (p *Plan) planChat() error {
	if p.options.ChatTemplate != "" {
		p.Chat = []byte(p.options.ChatTemplate)
	} else if p.gguf != nil {
		p.Chat = []byte(p.gguf.Metadata()["tokenizer.chat_template"])
	} else if p.dir.ChatTemplate != nil {
		p.Chat = p.dir.ChatTemplate
	} else if p.dir.TokenizerConfig != nil {
		o, err := parseObject("tokenizer_config.json", p.dir.TokenizerConfig)
		if err != nil {
			return err
		}
		var named []struct{ Name, Template string }
		if raw := bytes.TrimSpace(o.fields["chat_template"]); len(raw) > 0 && raw[0] == '[' {
			o.get("chat_template", "a template or a list of named ones", &named)
		} else if s, ok := o.str("chat_template"); ok {
			p.Chat = []byte(s)
		}
		for _, t := range named {
			if t.Name == "default" {
				p.Chat = []byte(t.Template)
			}
		}
		if o.err != nil {
			return o.err
		}
	}
	if !utf8.Valid(p.Chat) {
		return errors.New("the chat template is not valid UTF-8")
	}
	if len(p.Chat) == 0 {
		p.Chat = nil
	}
	return nil
}

// readConfig reads config.json, or, for GGUF and for a Tritter checkpoint without
// one, what the weights say of themselves.
func (p *Plan) readConfig() (*hfConfig, error) {
	if r, ok := p.dir.Weights.(*gguf.Reader); ok {
		return p.ggufConfig(r)
	}
	p.configSum = sha256.Sum256(p.dir.Config)
	if p.dir.Config == nil {
		if h, err := tritterConfig(p.dir.Weights); h != nil || err != nil {
			return h, err
		}
	}
	return parseConfig(p.dir.Config)
}

func (p *Plan) planActivations(h *hfConfig) {
	switch p.options.Activations {
	case "":
		p.Config.ActivationQuant = model.ActivationNone
		if h.family.ternary || h.quant != nil || h.int8 {
			p.Config.ActivationQuant = model.ActivationInt8
		}
	default:
		p.Config.ActivationQuant = model.ActivationQuant(p.options.Activations)
	}
}

func (p *Plan) planTokenizer() error {
	where := "tokenizer.json"
	p.Tokenizer = p.dir.Tokenizer
	if path := p.options.Tokenizer; path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > tokenizer.MaxJSONSize {
			return fmt.Errorf("%s: want a tokenizer.json file of at most %d bytes", path, tokenizer.MaxJSONSize)
		}
		if p.Tokenizer, err = os.ReadFile(path); err != nil {
			return err
		}
		where = path
	}
	if p.Tokenizer == nil && p.dir.TokenizerModel != nil {
		p.Tokenizer, where = p.dir.TokenizerModel, "tokenizer.model"
	}
	switch {
	case p.options.NoTokenizer:
		p.Tokenizer = nil
	case p.gguf != nil && p.options.Tokenizer == "":
		var err error
		if p.Tokenizer, err = ggufTokenizer(p.gguf); err != nil {
			return fmt.Errorf("%w; --tokenizer PATH stores the tokenizer.json of the original model, --no-tokenizer none", err)
		}
		where = p.gguf.Files()[0]
	}
	if p.Tokenizer == nil {
		p.Warnings = append(p.Warnings, "no tokenizer: the file will work on ids only; --tokenizer PATH adds one")
		return nil
	}
	var err error
	if p.Tokenizer, err = p.tokenizerJSON(p.Tokenizer, where); err != nil {
		return err
	}
	t, err := tokenizer.Parse(p.Tokenizer)
	if err != nil {
		return fmt.Errorf("%w; --no-tokenizer converts without it", err)
	}
	if n := t.VocabSize(); n > p.Config.VocabSize {
		return fmt.Errorf("%s: ids up to %d, but vocab_size in %s is %d: the tokenizer belongs to another model, or vocab_size is wrong", where, n-1, p.where, p.Config.VocabSize)
	}
	if ms := t.Modalities(); len(ms) > 0 {
		p.Config.Modalities = nil
		for _, m := range ms {
			p.Config.Modalities = append(p.Config.Modalities, model.Modality(m))
		}
		slices.Sort(p.Config.Modalities)
	}
	p.tokenizer = t
	return nil
}

// tooMany joins errors, the first dozen of them.
func tooMany(errs []error) error {
	const most = 12
	if n := len(errs); n > most {
		errs = append(slices.Clone(errs[:most]), fmt.Errorf("and %d more", n-most))
	}
	return errors.Join(errs...)
}

// provenance describes the source once the hashes of its tensors are known.
func (p *Plan) provenance(sums []sourceSums, dropped [][32]byte) *model.Provenance {
	out := &model.Provenance{ConfigSHA256: hex.EncodeToString(p.configSum[:]), Family: p.Family, Options: p.recorded(), Tensors: []model.SourceTensor{}, Tool: Tool}
	add := func(t *checkpoint.Tensor, rule, target string, sum [32]byte) {
		out.Tensors = append(out.Tensors, model.SourceTensor{DType: string(t.DType), File: t.File, Name: t.Name, Rule: rule,
			SHA256: hex.EncodeToString(sum[:]), Shape: append([]int64{}, t.Shape...), Target: target})
	}
	for i, t := range p.Targets {
		add(t.Source, t.Rule, t.Spec.Name, sums[i].source)
		if t.Scale != nil && t.Rule != model.RuleScaledBias {
			add(t.Scale, t.scaleRule(), t.Spec.Name, sums[i].scale)
		}
	}
	for i, t := range p.Dropped {
		add(t, model.RuleDropped, "", dropped[i])
	}
	return out
}

func (t *Target) scaleRule() string {
	if t.divide {
		return model.RuleInverseScale
	}
	return model.RuleScale
}

// recorded returns the options that a second conversion needs for the same bytes
// of weights. [OptionsFrom] is its inverse.
func (p *Plan) recorded() map[string]string {
	out := map[string]string{}
	defaults := map[string]string{"encoding": format.Trit2.String(), "head": "keep"}
	for key, value := range map[string]string{"activations": p.options.Activations, "encoding": p.options.Encoding, "head": p.options.Head, "i2s_layout": p.options.I2SLayout, "rule": p.options.Rule, "scale": p.options.Scale} {
		if value != "" && value != defaults[key] {
			out[key] = value
		}
	}
	return out
}

// OptionsFrom returns the options recorded in a provenance, with which the source
// gives the same weights again.
func OptionsFrom(p *model.Provenance) (Options, error) {
	var o Options
	fields := map[string]*string{"activations": &o.Activations, "encoding": &o.Encoding, "head": &o.Head, "i2s_layout": &o.I2SLayout, "rule": &o.Rule, "scale": &o.Scale}
	for key, value := range p.Options {
		to, ok := fields[key]
		if !ok {
			return o, fmt.Errorf("provenance: unknown option %q; the file was made by %s", key, p.Tool)
		}
		*to = value
	}
	return o, nil
}

// planGeneration reads generation_config.json and the options over it.
func (p *Plan) planGeneration(eos []int) error {
	g := &p.Generation
	g.EOS = eos
	if p.dir.GenerationConfig != nil {
		o, err := parseObject("generation_config.json", p.dir.GenerationConfig)
		if err != nil {
			return err
		}
		readGeneration(o, g)
		if o.err != nil {
			return o.err
		}
	}
	for key, value := range p.options.Generation {
		if err := setGeneration(g, key, value); err != nil {
			return err
		}
	}
	if g.EOS == nil {
		g.EOS = []int{}
		p.Warnings = append(p.Warnings, "no eos_token_id: generation will end at max_new_tokens only; --generation eos=ID sets one")
	}
	slices.Sort(g.EOS)
	g.EOS = slices.Compact(g.EOS)
	if g.Modality != nil && !slices.Contains(p.Config.Modalities, *g.Modality) {
		return fmt.Errorf("generation modality %q, want one of %q, the modalities of this vocabulary", *g.Modality, p.Config.Modalities)
	}
	if err := g.Validate(p.Config.VocabSize); err != nil {
		return fmt.Errorf("generation defaults: %w; --generation key=value overrides one", err)
	}
	return nil
}

func readGeneration(o *object, g *model.Generation) {
	if ids, ok := o.integers("eos_token_id"); ok {
		g.EOS = ids
	}
	if n, ok := o.integer("max_new_tokens"); ok {
		g.MaxNewTokens = &n
	}
	if n, ok := o.integer("top_k"); ok {
		g.TopK = &n
	}
	for key, to := range map[string]**float64{"temperature": &g.Temperature, "top_p": &g.TopP, "min_p": &g.MinP, "repetition_penalty": &g.RepetitionPenalty} {
		if v, ok := o.number(key); ok {
			*to = &v
		}
	}
	if sample, ok := o.boolean("do_sample"); ok && !sample {
		g.Temperature = new(float64) // greedy, whatever the other values say
	}
}

// setGeneration applies one --generation key=value.
func setGeneration(g *model.Generation, key, value string) error {
	bad := func(want string) error { return fmt.Errorf("--generation %s=%s, want %s", key, value, want) }
	switch key {
	case "eos":
		g.EOS = []int{}
		for _, s := range strings.FieldsFunc(value, func(r rune) bool { return r == ',' }) {
			id, err := strconv.Atoi(strings.TrimSpace(s))
			if err != nil {
				return bad("ids separated by commas")
			}
			g.EOS = append(g.EOS, id)
		}
	case "modality":
		m := model.Modality(value)
		g.Modality = &m
	case "max_new_tokens", "top_k":
		n, err := strconv.Atoi(value)
		if err != nil {
			return bad("an integer")
		}
		*map[string]**int{"max_new_tokens": &g.MaxNewTokens, "top_k": &g.TopK}[key] = &n
	case "temperature", "top_p", "min_p", "repetition_penalty":
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return bad("a number")
		}
		*map[string]**float64{"temperature": &g.Temperature, "top_p": &g.TopP, "min_p": &g.MinP, "repetition_penalty": &g.RepetitionPenalty}[key] = &v
	default:
		return fmt.Errorf("--generation %s=%s: unknown key, want eos, max_new_tokens, temperature, top_p, top_k, min_p, repetition_penalty or modality", key, value)
	}
	return nil
}
