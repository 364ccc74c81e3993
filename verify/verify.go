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
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/kernels/cpu"
	"github.com/tritter-ai/tritter/kernels/cuda/driver"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/runtime"
	"github.com/tritter-ai/tritter/tokenizer"
)

// Progress is told which check runs and how many of its total bytes are done.
type Progress func(check string, done, total int64)

// verifier holds one run.
type verifier struct {
	ctx      context.Context
	opt      Options
	progress Progress
	file     *format.File
	report   *Report
	found    map[string]bool // messages of findings

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
	v := newVerifier(ctx, path, opt, progress)
	return v.report, v.all(func() (*format.File, error) { return format.Open(path) })
}

// Reader is File for size bytes behind r, which must allow calls from many
// goroutines at once. name is what the report calls it. Tensors are read into
// memory one at a time for each worker.
func Reader(ctx context.Context, name string, r io.ReaderAt, size int64, opt Options, progress Progress) (*Report, error) {
	v := newVerifier(ctx, name, opt, progress)
	return v.report, v.all(func() (*format.File, error) { return format.OpenReaderAt(r, size) })
}

func newVerifier(ctx context.Context, path string, opt Options, progress Progress) *verifier {
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	return &verifier{ctx: ctx, opt: opt, progress: progress, report: &Report{Path: path, Checks: []Check{}, Findings: []Finding{}}, found: map[string]bool{}}
}

func (v *verifier) all(open func() (*format.File, error)) error {
	f, err := v.open(open)
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	v.file = f
	for _, c := range v.checks() {
		if err := v.run(c.name, c.run); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	v.report.Card = v.card()
	return nil
}

// step is a check of a file whose header is in order.
type step struct {
	name string
	run  func() (detail string, err error)
}

// checks returns those that the options select, and those that say why they were
// not done.
func (v *verifier) checks() []step {
	steps := []step{
		{"signature", v.checkSignature},
		{"payload", v.checkPayload},
		{"config", v.checkConfig},
		{"tokenizer", v.checkTokenizer},
		{"codebooks", v.checkCodebooks},
		{"symmetry", v.checkSymmetry},
		{"provenance", v.checkProvenance},
		{"tensors", v.measureTensors},
		{"self-test", v.checkSelfTest},
		{"source", v.checkSource},
		{"compare", v.checkCompare},
	}
	return slices.DeleteFunc(steps, func(s step) bool {
		switch s.name {
		case "payload", "symmetry":
			return v.opt.Quick
		case "tensors":
			return !v.opt.Tensors
		case "compare":
			return v.opt.Compare == ""
		case "signature":
			return v.opt.Unsigned || v.opt.AllowedSigners == "" && !v.signed()
		}
		return false
	})
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
	if v.found[f.Message] {
		return // a checksum that another check needed as well
	}
	v.found[f.Message] = true
	if fe, ok := errors.AsType[*format.FormatError](err); ok {
		f.Offset, f.Actual, f.Expected, f.Cause = fe.Offset, fe.Got, fe.Want, fe.Hint
	}
	if p, ok := errors.AsType[format.Problem](err); ok {
		f.Tensor, f.Section = p.Tensor, p.Section
	}
	v.report.Findings = append(v.report.Findings, f)
}

func (v *verifier) findTensor(check, tensor string, offset int64, actual, expected, cause, message string, args ...any) {
	v.report.Findings = append(v.report.Findings, Finding{Check: check, Tensor: tensor, Offset: offset, Actual: actual, Expected: expected, Cause: cause, Message: fmt.Sprintf(message, args...)})
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
	device := v.opt.Device
	if device == "" {
		device = runtime.DeviceAuto
	}
	if err := runtime.CheckDevice(device); err != nil {
		return "", err
	}
	opt := runtime.Options{Threads: min(v.opt.Workers, runtime.MaxThreads)}
	var names []string
	without := ""
	v.progress("self-test", 0, 0)
	if device == runtime.DeviceAuto || device == runtime.DeviceCPU {
		for _, ops := range cpu.Implementations() {
			opt.Kernels = ops
			e, err := runtime.NewCPU(m, opt)
			if err != nil {
				return "", err
			}
			if err := v.computeSelfTest(e, &names); err != nil {
				return "", err
			}
		}
	}
	if device != runtime.DeviceCPU {
		on := device
		if on == runtime.DeviceAuto {
			on = runtime.DeviceCUDA
		}
		e, _, err := runtime.OpenEngine(m, opt, on)
		switch {
		case err == nil:
			if err := v.computeSelfTest(e, &names); err != nil {
				return "", err
			}
		case device != runtime.DeviceAuto:
			return "", fmt.Errorf("device %s: %w", device, err)
		case !errors.Is(err, driver.ErrUnavailable):
			reason, _, _ := strings.Cut(err.Error(), "\n")
			if errors.Is(err, driver.ErrNoDriver) { // the rest tells where it was looked for
				reason, _, _ = strings.Cut(reason, " (")
			}
			without = "; not on CUDA: " + reason
		}
	}
	return fmt.Sprintf("%d logits to the bit on %s%s", len(v.selfTest.Logits), strings.Join(names, ", "), without), nil
}

// computeSelfTest computes the logits on one engine, closes it and adds its name.
func (v *verifier) computeSelfTest(e runtime.Engine, names *[]string) error {
	*names = append(*names, e.Name())
	err := v.selfTest.Check(v.ctx, e, v.tokenizer)
	if closeErr := e.Close(); closeErr != nil {
		return closeErr
	}
	if v.ctx.Err() != nil {
		return v.ctx.Err()
	}
	if err != nil {
		v.find("self-test", err)
	}
	return nil
}
