// Package verify proves .trit files: their structure, hashes, codes and scales,
// what their config, tokenizer and provenance say, that their weights come from
// their source, and that this machine's engines compute what they promise.
//
// A check returns findings and prints nothing. A finding is something wrong with
// the file; an error is a check that could not be done.
package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

// Options select the checks beyond those of the file itself.
type Options struct {
	Run     bool   // compute the self-test on every engine of this machine
	Source  string // a checkpoint: derive every trit and scale from it again
	Workers int    // 0 is GOMAXPROCS
}

// Report is the outcome of all checks.
type Report struct {
	Path     string    `json:"path"`
	Size     int64     `json:"size"`
	SHA256   string    `json:"header_sha256,omitempty"` // names the whole content
	Checks   []Check   `json:"checks"`
	Findings []Finding `json:"findings"`
}

// OK reports whether nothing was found.
func (r *Report) OK() bool { return len(r.Findings) == 0 }

// Check is one check that was done, or why it was not.
type Check struct {
	Name    string  `json:"name"`
	Status  Status  `json:"status"`
	Detail  string  `json:"detail"` // what was looked at, or why not
	Seconds float64 `json:"seconds"`
}

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	Passed  Status = "passed"
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Finding is something wrong with the file.
type Finding struct {
	Check   string `json:"check"`
	Class   string `json:"class,omitempty"` // a format.Class, where it has one
	Tensor  string `json:"tensor,omitempty"`
	Section string `json:"section,omitempty"`
	Offset  int64  `json:"offset"` // in the file; 0 where no byte is to blame
	Message string `json:"message"`
}

// Progress is told which check runs and how many of its total bytes are done.
type Progress func(check string, done, total int64)

// verifier holds one run.
type verifier struct {
	ctx      context.Context
	opt      Options
	progress Progress
	file     *format.File
	report   *Report

	config    *model.Config // nil when it could not be read
	manifest  bool          // the directory fits the config
	tokenizer *tokenizer.Tokenizer
	selfTest  *runtime.SelfTest
}

// File runs every check that opt selects on the file at path and reports every
// finding. progress may be nil. The error says why a check could not be done: the
// file cannot be read, its version is not supported, the source cannot be opened,
// or ctx ended.
func File(ctx context.Context, path string, opt Options, progress Progress) (*Report, error) {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	v := &verifier{ctx: ctx, opt: opt, progress: progress, report: &Report{Path: path, Checks: []Check{}, Findings: []Finding{}}}
	return v.report, v.all(func() (*format.File, error) { return format.Open(path) })
}

func (v *verifier) all(open func() (*format.File, error)) error {
	f, err := v.open(open)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	v.file = f
	checks := []struct {
		name string
		run  func() (detail string, err error)
	}{
		{"payload", v.checkPayload},
		{"config", v.checkConfig},
		{"tokenizer", v.checkTokenizer},
		{"symmetry", v.checkSymmetry},
		{"provenance", v.checkProvenance},
		{"self-test", v.checkSelfTest},
		{"source", v.checkSource},
	}
	for _, c := range checks {
		if err := v.run(c.name, c.run); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// errSkipped says that a check does not apply; its detail says why.
var errSkipped = errors.New("skipped")

func (v *verifier) run(name string, check func() (string, error)) error {
	before, begun := len(v.report.Findings), time.Now()
	var detail string
	err := format.Guard(func() (err error) {
		detail, err = check()
		return err
	})
	ended := false
	if fe, ok := errors.AsType[*format.FormatError](err); ok { // the file shrank, or is wrong in a way that ends the check
		v.find(name, fe)
		ended, err = true, nil
	}
	c := Check{Name: name, Status: Passed, Detail: detail, Seconds: time.Since(begun).Seconds()}
	switch {
	case errors.Is(err, errSkipped):
		c.Status, err = Skipped, nil
	case err != nil:
		return err
	case ended || len(v.report.Findings) > before:
		c.Status = Failed
	}
	v.report.Checks = append(v.report.Checks, c)
	return nil
}

// find records everything that err joins.
func (v *verifier) find(check string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			v.find(check, e)
		}
		return
	}
	f := Finding{Check: check, Class: string(format.ClassOf(err)), Message: err.Error()}
	for _, before := range v.report.Findings {
		if before.Class == f.Class && before.Message == f.Message {
			return // a checksum that another check needed as well
		}
	}
	if p, ok := errors.AsType[format.Problem](err); ok {
		f.Tensor, f.Section, f.Offset = p.Tensor, p.Section, p.Err.Offset
	} else if fe, ok := errors.AsType[*format.FormatError](err); ok {
		f.Offset = fe.Offset
	}
	v.report.Findings = append(v.report.Findings, f)
}

func (v *verifier) findTensor(check, tensor string, offset int64, message string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{Check: check, Tensor: tensor, Offset: offset, Message: fmt.Sprintf(message, args...)})
}

// open checks the header. A file that is wrong gives a finding and no file.
func (v *verifier) open(open func() (*format.File, error)) (f *format.File, err error) {
	err = v.run("structure", func() (string, error) {
		f, err = open()
		if err != nil {
			return "", err
		}
		h := f.Header()
		v.report.Size, v.report.SHA256 = h.FileLength, fmt.Sprintf("%x", h.SHA256)
		return fmt.Sprintf("version %d.%d, %d tensors, %d sections", h.Major, h.Minor, len(h.Tensors), len(h.Sections)), nil
	})
	if len(v.report.Findings) > 0 {
		return nil, err
	}
	return f, err
}

// checkPayload covers every byte that opening the file did not: hashes, codes,
// scales, padding. A legal 2-bit or base-3 byte decodes and encodes to itself
// (held by tests of package quantize), so legality is also the symmetry of the
// encoding.
func (v *verifier) checkPayload() (string, error) {
	var done int64
	total := v.file.Header().FileLength
	err := v.file.Check(v.ctx, v.opt.Workers, func(p format.Problem) { v.find("payload", p) }, func(n int64) {
		done += n
		v.progress("payload", done, total)
	})
	return fmt.Sprintf("hashes, codes, scales and padding of %d bytes", total), err
}

func (v *verifier) checkConfig() (string, error) {
	c, err := runtime.ReadConfig(v.file)
	if err != nil {
		if errors.Is(err, format.ErrNoSection) {
			v.find("config", err)
			return "", nil
		}
		return "", err
	}
	v.config = c
	if err := runtime.CheckManifest(c, v.file.Header()); err != nil {
		v.find("config", err)
	} else {
		v.manifest = true
	}
	v.selfTest, err = runtime.ReadSelfTest(v.file, c.VocabSize, c.MaxPositionEmbeddings)
	if err != nil && !errors.Is(err, format.ErrNoSection) {
		v.find("config", err)
	}
	_, err = runtime.ReadGeneration(v.file, c.VocabSize)
	return fmt.Sprintf("%d layers, hidden size %d; the tensors are those that it implies", c.NumLayers, c.HiddenSize), err
}

// checkTokenizer parses the tokenizer and holds it to its samples: the ids are
// those that the file promises, inside the vocabulary, and decoding loses nothing
// that a second round would bring back.
func (v *verifier) checkTokenizer() (string, error) {
	if v.config == nil {
		return "no config to hold it to", errSkipped
	}
	if err := v.checkTemplate(); err != nil {
		return "", err
	}
	t, err := runtime.ReadTokenizer(v.file, v.config.VocabSize)
	switch {
	case errors.Is(err, runtime.ErrNoTokenizer):
		if v.selfTest != nil && len(v.selfTest.Texts) > 0 {
			v.find("tokenizer", v.selfTest.CheckTexts(nil))
			return "", nil
		}
		return "the file holds no tokenizer", errSkipped
	case format.ClassOf(err) != "":
		return "", err
	case err != nil:
		return "", &format.FormatError{Class: format.ClassTokenizer, Field: "section tokenizer", Got: err.Error(), Want: "a tokenizer.json that can be used"}
	}
	v.tokenizer = t
	if v.selfTest == nil {
		return "the file has no self-test with samples", nil
	}
	if err := v.selfTest.CheckTexts(t); err != nil {
		v.find("tokenizer", err)
	}
	for _, s := range v.selfTest.Texts {
		once, err := roundTrip(t, s.Text)
		if err != nil {
			return "", err
		}
		if twice, err := roundTrip(t, once); err != nil || once != twice {
			v.find("tokenizer", fmt.Errorf("encoding and decoding %q gives %q, and again %q: not symmetric", s.Text, once, twice))
		}
	}
	return fmt.Sprintf("%d ids, %d samples", t.VocabSize(), len(v.selfTest.Texts)), nil
}

// checkTemplate holds the template of a conversation to its encoding.
func (v *verifier) checkTemplate() error {
	text, err := v.file.Section(format.SectionChat)
	if err != nil {
		if errors.Is(err, format.ErrNoSection) {
			return nil
		}
		return err
	}
	if at := invalidUTF8(text); at >= 0 {
		v.find("tokenizer", &format.FormatError{Class: format.ClassTokenizer, Field: "section " + format.SectionChat, Got: fmt.Sprintf("the byte 0x%02x at %d of the section", text[at], at), Want: "UTF-8"})
	}
	return nil
}

// invalidUTF8 returns the place of the first byte that is not UTF-8, or -1.
func invalidUTF8(text []byte) int {
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n == 1 {
			return at
		}
		at += n
	}
	return -1
}

func roundTrip(t *tokenizer.Tokenizer, text string) (string, error) {
	ids, err := t.Encode(text, tokenizer.EncodeOptions{})
	if err != nil {
		return "", err
	}
	return t.Decode(ids, false)
}

// checkSelfTest computes the promised logits on this machine.
func (v *verifier) checkSelfTest() (string, error) {
	switch {
	case !v.opt.Run:
		return "not asked for (--run)", errSkipped
	case !v.manifest:
		return "the model cannot be loaded", errSkipped
	}
	if v.selfTest == nil {
		return "the file has no self-test that can be used", errSkipped
	}
	m, err := runtime.LoadModel(v.file)
	if err != nil {
		return "", err
	}
	var names []string
	v.progress("self-test", 0, 0)
	for _, ops := range cpu.Implementations() {
		e, err := runtime.NewCPU(m, runtime.Options{Threads: min(v.opt.Workers, runtime.MaxThreads), Kernels: ops})
		if err != nil {
			return "", err
		}
		err = v.selfTest.Check(v.ctx, e, v.tokenizer)
		names = append(names, e.Name())
		if closeErr := e.Close(); closeErr != nil {
			return "", closeErr
		}
		if v.ctx.Err() != nil {
			return "", v.ctx.Err()
		}
		if err != nil {
			v.find("self-test", err)
		}
	}
	return fmt.Sprintf("%d logits to the bit on %s", len(v.selfTest.Logits), strings.Join(names, ", ")), nil
}
