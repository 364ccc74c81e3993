package convert

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
	"github.com/tritter-ai/tritter/quantize"
)

// Rule is how float weights become trits: by their absolute mean, taken over the
// tensor, each row, or each group of columns of a row. The zero value is no rule.
type Rule struct {
	Granularity format.Granularity
	Group       int // columns, a multiple of 128, when Granularity is group
}

// ParseRule reads "absmean", "absmean-row" or "absmean-group=N".
func ParseRule(s string) (Rule, error) {
	switch s {
	case model.RuleAbsMean:
		return Rule{Granularity: format.ScaleTensor}, nil
	case model.RuleAbsMeanRow:
		return Rule{Granularity: format.ScaleRow}, nil
	}
	if digits, ok := strings.CutPrefix(s, model.RuleAbsMeanGroup+"="); ok {
		n, err := strconv.Atoi(digits)
		if err != nil || n < quantize.TileCols || n%quantize.TileCols != 0 || n > model.MaxDim || digits != strconv.Itoa(n) {
			return Rule{}, fmt.Errorf("rule %q: a group of %q columns, want a multiple of %d, such as absmean-group=128", s, digits, quantize.TileCols)
		}
		return Rule{Granularity: format.ScaleGroup, Group: n}, nil
	}
	return Rule{}, fmt.Errorf("unknown rule %q, want absmean (one scale a tensor, as BitNet b1.58), absmean-row or absmean-group=N", s)
}

// String is the inverse of ParseRule.
func (r Rule) String() string {
	if r.Granularity == format.ScaleGroup {
		return fmt.Sprintf("%s=%d", model.RuleAbsMeanGroup, r.Group)
	}
	return r.name()
}

// name is the rule as provenance spells it.
func (r Rule) name() string {
	switch r.Granularity {
	case format.ScaleTensor:
		return model.RuleAbsMean
	case format.ScaleRow:
		return model.RuleAbsMeanRow
	case format.ScaleGroup:
		return model.RuleAbsMeanGroup
	}
	return ""
}
