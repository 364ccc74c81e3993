package convert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tritter-ai/tritter/format"
	"github.com/tritter-ai/tritter/model"
)

// Validate reports a value that its option does not have, with those it has. Open
// begins with it; a command calls it to tell a mistake on its command line from
// one in the checkpoint.
func (o *Options) Validate() error {
	for _, c := range []struct {
		name, value string
		want        []string
		hint        string
	}{
		{"scale", o.Scale, []string{"multiply", "divide"}, ""},
		{"activations", o.Activations, []string{string(model.ActivationInt8), string(model.ActivationNone)}, ""},
		{"i2s-layout", o.I2SLayout, []string{i2sX86}, ": no other layout is read"},
		{"encoding", o.Encoding, []string{format.Trit2.String(), format.Trit3.String()}, ": 2 bits a weight, used in place, or 1.6 bits, unpacked when loaded"},
		{"head", o.Head, []string{"keep", format.Int8.String()}, ""},
	} {
		if c.value != "" && !slices.Contains(c.want, c.value) {
			return fmt.Errorf("%s %q, want %s%s", c.name, c.value, `"`+strings.Join(c.want, `" or "`)+`"`, c.hint)
		}
	}
	if o.Rule != "" {
		if _, err := ParseRule(o.Rule); err != nil {
			return err
		}
	}
	var g model.Generation
	for _, key := range slices.Sorted(maps.Keys(o.Generation)) {
		if err := setGeneration(&g, key, o.Generation[key]); err != nil {
			return err
		}
	}
	if o.Tokenizer != "" && o.NoTokenizer {
		return errors.New("--tokenizer and --no-tokenizer exclude each other")
	}
	return nil
}
