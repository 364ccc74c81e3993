package torch

import (
	"math"
	"strconv"
	"strings"

	"github.com/nlpodyssey/gopickle/types"
)

// Limits of Config; what exceeds them is left out.
const (
	maxConfigDepth  = 8
	maxConfigList   = 4096
	maxConfigValues = 65_536
)

// training are the beginnings of the keys under which trainers keep what only
// matters for going on with the training.
var training = []string{"optim", "scheduler", "lr_scheduler", "scaler", "grad_scaler", "rng", "random"}

// plainConfig returns the plain values of the dictionary top, but for the
// tensors under the key container.
func plainConfig(top []pair, container string) map[string]any {
	c := &plainer{left: maxConfigValues}
	out := map[string]any{}
	for _, p := range top {
		if _, is := p.value.(*view); is || isTraining(p.key) || p.key == container && container != "" {
			continue
		}
		if v, ok := c.value(p.value, 1); ok {
			out[p.key] = v
		}
	}
	return out
}

func isTraining(key string) bool {
	for _, t := range training {
		if strings.HasPrefix(key, t) {
			return true
		}
	}
	return false
}

// A plainer makes plain values. A pickle can refer to one value many times, or
// to itself, so it counts and stops.
type plainer struct{ left int }

// value returns v as a plain value; ok is false for what is left out.
func (c *plainer) value(v any, depth int) (_ any, ok bool) {
	if c.left--; c.left < 0 || depth > maxConfigDepth {
		return nil, false
	}
	switch v := v.(type) {
	case nil, bool, float64, string:
		return v, true
	case int:
		return int64(v), true
	case *types.List:
		return c.list(*v, depth)
	case *types.Tuple:
		return c.list(*v, depth)
	case *types.Dict, *types.OrderedDict:
		return c.dict(v, depth), true
	case *object:
		return c.object(v, depth)
	}
	return nil, false
}

// list returns a list of which every element is plain.
func (c *plainer) list(list []any, depth int) (any, bool) {
	if len(list) > maxConfigList {
		return nil, false
	}
	out := make([]any, len(list))
	for i, e := range list {
		v, ok := c.value(e, depth+1)
		if !ok {
			return nil, false
		}
		out[i] = v
	}
	return out, true
}

// dict returns the plain values of a dictionary; as in Python the last of equal
// keys counts.
func (c *plainer) dict(v any, depth int) map[string]any {
	out := map[string]any{}
	// All keys count, those that are not strings too: a pickle can refer to one
	// long dictionary many times.
	if c.left -= dictLen(v); c.left < 0 {
		return out
	}
	all, _ := pairs(v)
	for _, p := range all {
		if v, ok := c.value(p.value, depth+1); ok {
			out[p.key] = v
		}
	}
	return out
}

// dictLen tells the length of a dictionary without walking it.
func dictLen(v any) int {
	switch v := v.(type) {
	case *types.Dict:
		return v.Len()
	case *types.OrderedDict:
		return v.Len()
	}
	return 0
}

// object returns the attributes of an inert object, those of __slots__ too, or
// the one value that it was made from.
func (c *plainer) object(o *object, depth int) (any, bool) {
	if o.list != nil {
		return c.list(*o.list, depth)
	}
	out := map[string]any{}
	states := []any{o.state}
	if t, ok := o.state.(*types.Tuple); ok {
		states = *t
	}
	if o.items != nil {
		states = append([]any{o.items}, states...)
	}
	for _, s := range states {
		if dictLen(s) == 0 {
			continue
		}
		for k, v := range c.dict(s, depth) {
			out[k] = v
		}
	}
	if len(out) > 0 || o.state != nil || o.items != nil {
		return out, true
	}
	if len(o.args) == 1 {
		return c.value(o.args[0], depth+1)
	}
	return nil, false
}

// metadata returns the scalars of the part of config that describes the model.
func metadata(config map[string]any) map[string]string {
	out := map[string]string{}
	for _, key := range []string{"metadata", "model_config", "config"} {
		m, ok := config[key].(map[string]any)
		if !ok {
			continue
		}
		for k, v := range m {
			switch v := v.(type) {
			case string:
				out[k] = v
			case int64:
				out[k] = strconv.FormatInt(v, 10)
			case float64:
				if !math.IsNaN(v) && !math.IsInf(v, 0) {
					out[k] = strconv.FormatFloat(v, 'g', -1, 64)
				}
			case bool:
				out[k] = "False"
				if v {
					out[k] = "True"
				}
			}
		}
		break
	}
	return out
}
