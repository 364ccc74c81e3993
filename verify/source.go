package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/tritter-ai/tritter/convert"
	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

// readProvenance returns the provenance of the file, held to its directory.
func (v *verifier) readProvenance() (*model.Provenance, error) {
	p := new(model.Provenance)
	if err := v.file.DecodeSection(format.SectionProvenance, p); err != nil {
		return nil, err
	}
	return p, nil
}

// checkProvenance holds the provenance to its own rules and to the directory:
// every tensor of the file has a source, and nothing else is named.
func (v *verifier) checkProvenance() (string, error) {
	p, err := v.readProvenance()
	if errors.Is(err, format.ErrNoSection) {
		return "the file has no provenance", errSkipped
	}
	if err != nil {
		return "", err
	}
	if err := p.Validate(); err != nil {
		v.find("provenance", &format.FormatError{Class: format.ClassConfig, Field: "section provenance", Got: "refused: " + err.Error(), Want: "a section that spec/trit-v1.md allows"})
	}
	unlike := func(tensor, got, want string) {
		v.find("provenance", format.Problem{Tensor: tensor, Count: 1, Err: &format.FormatError{Class: format.ClassConfig, Field: "section provenance", Got: got, Want: want}})
	}
	named := map[string]bool{}
	for _, t := range p.Tensors {
		if _, ok := v.file.Tensor(t.Target); !ok && t.Rule != model.RuleDropped {
			unlike(t.Target, fmt.Sprintf("the target %q of source tensor %s", t.Target, t.Name), "a tensor of the file")
		}
		named[t.Target] = true
	}
	h := v.file.Header()
	for i := range h.Tensors {
		if name := h.Tensors[i].Name; !named[name] {
			unlike(name, "without a source of tensor "+name, "one for every tensor of the file")
		}
	}
	return fmt.Sprintf("%s: %d source tensors, by %s", p.Family, len(p.Tensors), p.Tool), nil
}

// checkSource derives every tensor from the checkpoint again, with the options
// that the provenance records, and compares it byte by byte.
func (v *verifier) checkSource() (string, error) {
	if v.opt.Source == "" {
		return "not asked for (--source DIR)", errSkipped
	}
	p, err := v.readProvenance()
	if err != nil {
		return "", fmt.Errorf("the options of the conversion are not known: %w", err)
	}
	opt, err := convert.OptionsFrom(p)
	if err != nil {
		return "", err
	}
	opt.WeightsOnly = true
	plan, err := convert.Open(v.opt.Source, opt)
	if err != nil {
		return "", err
	}
	defer plan.Close()
	v.compareConfig(plan)
	if err := v.compareSourceHashes(plan, p); err != nil {
		return "", err
	}
	jobs := v.sourceJobs(plan)
	return fmt.Sprintf("%d tensors derived again from %s", len(jobs), v.opt.Source), v.compareTensors(plan, jobs)
}

// compareConfig holds the config section to the source's config.json. Modalities
// come from the tokenizer, which is not read here.
func (v *verifier) compareConfig(plan *convert.Plan) {
	if v.config == nil {
		return
	}
	want := plan.Config
	want.Modalities = v.config.Modalities
	a, errA := format.EncodeJSON(&want)
	b, errB := format.EncodeJSON(v.config)
	if errA != nil || errB != nil || string(a) != string(b) {
		v.find("source", &format.FormatError{Class: format.ClassConfig, Field: "section config", Got: string(b), Want: string(a) + ", which the source's config.json gives"})
	}
}

// compareSourceHashes finds sources that are not the tensors that were converted:
// the reason, when derived bytes differ.
func (v *verifier) compareSourceHashes(plan *convert.Plan, p *model.Provenance) error {
	sums := map[string]string{}
	for _, t := range p.Tensors {
		src, ok := plan.SourceTensor(t.Name)
		if !ok {
			v.findTensor("source", t.Target, 0, "no such tensor", t.Name, "another checkpoint?", "the checkpoint has no tensor %s, from which %s was made", t.Name, t.Target)
			continue
		}
		if _, done := sums[t.Name]; !done {
			sum, err := plan.HashTensor(v.ctx, src)
			if err != nil {
				return err
			}
			sums[t.Name] = hex.EncodeToString(sum[:])
		}
		if got := sums[t.Name]; got != t.SHA256 {
			v.findTensor("source", t.Target, 0, got, t.SHA256, "another checkpoint", "source tensor %s has SHA-256 %s, the file was made from %s: this is another checkpoint", t.Name, got, t.SHA256)
		}
	}
	return nil
}

// sourceJobs returns the targets of the plan that are tensors of the file, stored
// in the same way.
func (v *verifier) sourceJobs(plan *convert.Plan) (jobs []int) {
	for i := range plan.Targets {
		spec := &plan.Targets[i].Spec
		t, ok := v.file.Tensor(spec.Name)
		if !ok {
			v.findTensor("source", spec.Name, 0, "no such tensor", spec.Name, "", "the source gives a tensor %s, which the file does not have", spec.Name)
			continue
		}
		info := t.Info()
		if info.Encoding != spec.Encoding || info.Rule != spec.Rule || info.Granularity != spec.Granularity || info.Group != spec.Group || !slices.Equal(info.Dims, spec.Dims) {
			got := fmt.Sprintf("%s %s %s %v", info.Encoding, info.Rule, info.Granularity, info.Dims)
			want := fmt.Sprintf("%s %s %s %v", spec.Encoding, spec.Rule, spec.Granularity, spec.Dims)
			v.findTensor("source", spec.Name, info.Offset, got, want, "", "tensor is %s, the source gives %s", got, want)
			continue
		}
		jobs = append(jobs, i)
	}
	return jobs
}

func (v *verifier) compareTensors(plan *convert.Plan, jobs []int) error {
	sinks, errs := make([]*comparer, len(jobs)), make([]error, len(jobs))
	var total, done int64
	for n, i := range jobs {
		t, _ := v.file.Tensor(plan.Targets[i].Spec.Name)
		sinks[n] = &comparer{tensor: t, at: -1, scale: -1}
		total += t.Info().Length
	}
	v.each(len(jobs), func(n int) {
		errs[n] = format.Guard(func() (err error) {
			sinks[n].rounding, err = plan.Derive(v.ctx, jobs[n], sinks[n])
			return err
		})
	}, func(n int) {
		done += sinks[n].tensor.Info().Length
		v.progress("source", done, total)
	})
	rounding := map[string]float64{}
	for n, s := range sinks {
		if errs[n] != nil {
			return errs[n]
		}
		if s.at >= 0 {
			info := s.tensor.Info()
			v.findTensor("source", info.Name, s.at, fmt.Sprintf("0x%02x", s.got), fmt.Sprintf("0x%02x", s.want), "", "offset %d: the byte is 0x%02x, the source gives 0x%02x; %d bytes of the tensor differ", s.at, s.got, s.want, s.count)
		}
		if s.scale >= 0 {
			got, want := fmt.Sprint(s.gotScale), fmt.Sprint(s.wantScale)
			v.findTensor("source", s.tensor.Info().Name, s.tensor.Info().ScaleOffset+4*int64(s.scale), got, want, "", "scale %d is %s, the source gives %s", s.scale, got, want)
		}
		if r, ok := s.rounding.Relative(); ok {
			rounding[s.tensor.Info().Name] = r
		}
	}
	for i := range v.report.Tensors {
		if r, ok := rounding[v.report.Tensors[i].Name]; ok {
			v.report.Tensors[i].Error = &QuantError{Relative: r}
		}
	}
	return nil
}

// comparer is a convert.Sink that compares with a tensor of the file.
type comparer struct {
	tensor    *format.Tensor
	data      []byte
	pos       int64
	at        int64 // offset in the file of the first byte that differs, -1 when none does
	got, want byte
	count     int64
	rounding  convert.Rounding

	scale               int // the first scale that differs, -1 when none does
	gotScale, wantScale float32
}

func (c *comparer) Write(p []byte) (int, error) {
	if c.data == nil {
		var err error
		if c.data, err = c.tensor.Data(); err != nil {
			return 0, err
		}
	}
	have := c.data[c.pos:][:len(p)]
	if !bytes.Equal(have, p) {
		n, i := differences(have, p)
		if c.count == 0 {
			c.at, c.got, c.want = c.tensor.Info().Offset+c.pos+int64(i), have[i], p[i]
		}
		c.count += int64(n)
	}
	c.pos += int64(len(p))
	return len(p), nil
}

func (c *comparer) SetScales(want []float32) error {
	got, err := c.tensor.Scales()
	if err != nil {
		return err
	}
	for i := range want {
		if i >= len(got) || math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			c.scale, c.gotScale, c.wantScale = i, got[min(i, len(got)-1)], want[i]
			return nil
		}
	}
	return nil
}
