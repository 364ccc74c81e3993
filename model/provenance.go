package model

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Provenance says where a .trit file's tensors came from, exactly enough to
// derive every byte of them again from the source checkpoint.
type Provenance struct {
	ConfigSHA256 string            `json:"config_sha256"` // of the source's config.json, lower-case hex
	Family       string            `json:"family"`        // which reader of checkpoints made the file
	Options      map[string]string `json:"options"`       // the options of the conversion that change the result
	Tensors      []SourceTensor    `json:"tensors"`       // in the order of the target's directory
	Tool         string            `json:"tool"`          // name and version of the converter
}

// SourceTensor is one tensor of the source checkpoint and what it became. A
// target made of two source tensors (packed weights and their scale) has two
// entries with the same Target.
type SourceTensor struct {
	DType  string  `json:"dtype"`  // as the source spells it, "BF16"
	File   string  `json:"file"`   // base name of the file that holds it
	Name   string  `json:"name"`   // its name there
	Rule   string  `json:"rule"`   // how it became Target: a Rule* constant
	SHA256 string  `json:"sha256"` // of its bytes, lower-case hex
	Shape  []int64 `json:"shape"`
	Target string  `json:"target"` // tensor name in the .trit file; "" for RuleDropped
}

// Validate reports everything that is wrong with p by itself.
func (p *Provenance) Validate() error {
	var errs []error
	hexSum := func(what, sum string) {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != sha256.Size || strings.ToLower(sum) != sum {
			errs = append(errs, fmt.Errorf("%s is %q, want 64 lower-case hex digits", what, sum))
		}
	}
	hexSum("config_sha256", p.ConfigSHA256)
	for _, key := range slices.Sorted(maps.Keys(p.Options)) {
		if len(errs) >= maxProblems {
			break
		}
		if want, known := options[key]; !known {
			errs = append(errs, fmt.Errorf("options has the unknown key %q, want only %q", key, slices.Sorted(maps.Keys(options))))
		} else if value := p.Options[key]; !want.MatchString(value) {
			errs = append(errs, fmt.Errorf("option %s is %q, want %s", key, value, want))
		}
	}
	for _, t := range p.Tensors {
		if len(errs) >= maxProblems {
			break
		}
		hexSum("the SHA-256 of source "+t.Name, t.SHA256)
		if !slices.Contains(rules, t.Rule) {
			errs = append(errs, fmt.Errorf("source %s has the rule %q, want one of %q", t.Name, t.Rule, rules))
		}
		for _, n := range t.Shape {
			if n < 0 {
				errs = append(errs, fmt.Errorf("source %s has the shape %v, want no negative dim", t.Name, t.Shape))
				break
			}
		}
		if (t.Rule == RuleDropped) != (t.Target == "") {
			errs = append(errs, fmt.Errorf("source %s has the rule %q and the target %q: only what is dropped has none", t.Name, t.Rule, t.Target))
		}
	}
	return errors.Join(errs...)
}

// The rules by which a source tensor becomes a target, as provenance spells them.
const (
	RuleAbsMean      = "absmean"       // weights quantized, one scale a tensor
	RuleAbsMeanRow   = "absmean-row"   // weights quantized, one scale a row
	RuleAbsMeanGroup = "absmean-group" // weights quantized, one scale a group of columns (options["rule"] says how many)
	RuleThreshold    = "threshold"     // Tritter's rule: the sign beyond the row's mean absolute value
	RuleValues       = "values"        // trits and scales found in floats that are trit x scale, one magnitude a row or group
	RulePacked       = "packed"        // trits kept, unpacked from 4 planes a byte
	RulePackedRows   = "packed-rows"   // trits kept, unpacked from 4 columns a byte
	RuleBlocks       = "blocks"        // trits and block scales kept, from GGUF's TQ1_0 or TQ2_0
	RuleI2SX86       = "i2s-x86"       // trits and scale kept, from bitnet.cpp's I2_S in its x86 layout
	RuleScale        = "scale"         // the multiplying scale of packed trits
	RuleInverseScale = "inverse-scale" // a dividing scale, stored as its float32 reciprocal
	RuleCopy         = "copy"          // values kept in their dtype
	RuleFloat32      = "f32"           // values widened exactly to float32
	RuleScaledBias   = "scaled-bias"   // bias multiplied by the matrix's scale in float32
	RuleInt8Row      = "int8-row"      // rounded to int8 with a scale a row
	RuleDropped      = "dropped"       // not needed: equal to another tensor
)

// options are the keys of Provenance.Options with the values that they may have.
var options = map[string]*regexp.Regexp{
	"activations": regexp.MustCompile("^(int8|none)$"),
	"encoding":    regexp.MustCompile("^trit3$"),
	"head":        regexp.MustCompile("^int8$"),
	"i2s_layout":  regexp.MustCompile("^x86$"),
	"rule":        regexp.MustCompile("^(absmean|absmean-row|absmean-group=[0-9]+)$"),
	"scale":       regexp.MustCompile("^(multiply|divide)$"),
}

var rules = []string{RuleAbsMean, RuleAbsMeanRow, RuleAbsMeanGroup, RuleThreshold, RuleValues, RulePacked, RulePackedRows, RuleBlocks, RuleI2SX86, RuleScale, RuleInverseScale,
	RuleCopy, RuleFloat32, RuleScaledBias, RuleInt8Row, RuleDropped}
