package torch

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/nlpodyssey/gopickle/types"

	"github.com/tritter-ai/tritter/convert/checkpoint/tensor"
)

// containers are the keys under which trainers put the tensors of a model.
var containers = []string{"model_state_dict", "state_dict", "model", "module"}

// maxNesting bounds how deep containers lie in each other.
const maxNesting = 4

// A root is the decoded object of a file.
type root struct {
	*decoder
}

// A pair is a key of a dictionary and its value.
type pair struct {
	key   string
	value any
}

// pairs returns the string keys of a dictionary and their values, in order; ok
// is false for anything else.
func pairs(v any) (out []pair, ok bool) {
	add := func(key, value any) {
		if s, ok := key.(string); ok {
			out = append(out, pair{s, value})
		}
	}
	switch d := v.(type) {
	case *types.Dict:
		for _, e := range *d {
			add(e.Key, e.Value)
		}
	case *types.OrderedDict:
		for e := d.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			add(entry.Key, entry.Value)
		}
	default:
		return nil, false
	}
	return out, true
}

// pick finds the dictionary of tensors and returns them, with their names made
// plain, and the values beside them.
func (r *root) pick() ([]*tensor.Tensor, map[string]any, error) {
	top, ok := pairs(r.root)
	if !ok {
		return nil, nil, r.limit(r.base, r.where, describe(r.root), "a dictionary of tensors", "torch.save the model's state_dict()")
	}
	views, path, err := r.find(top, map[any]bool{r.root: true}, 0)
	if err != nil {
		return nil, nil, err
	}
	if len(views) == 0 {
		return nil, nil, r.wrong(r.base, r.where, "no tensors under "+keys(top), "a dictionary of tensors, alone or under one of "+strings.Join(containers, ", "), "torch.save the model's state_dict()")
	}
	list, err := r.tensors(views)
	if err != nil {
		return nil, nil, err
	}
	return list, plainConfig(top, path), nil
}

// find returns the tensors of a dictionary or of the one container in it, and
// the key of that container. It looks at each dictionary once: one that is there
// under two names counts under the first, and one that holds itself ends.
func (r *root) find(dict []pair, seen map[any]bool, depth int) (views []pair, key string, err error) {
	for _, p := range dict {
		if depth == maxNesting || !slices.Contains(containers, p.key) || dictLen(p.value) == 0 || seen[p.value] {
			continue
		}
		seen[p.value] = true
		inner, _ := pairs(p.value)
		found, _, err := r.find(inner, seen, depth+1)
		if err != nil {
			return nil, "", err
		}
		if len(found) == 0 {
			continue
		}
		if key != "" {
			return nil, "", r.limit(r.base, r.where, "tensors under both "+tensor.Quote(key)+" and "+tensor.Quote(p.key), "one set of tensors", "torch.save the one to use")
		}
		views, key = found, p.key
	}
	if key != "" {
		return views, key, nil
	}
	for _, p := range dict {
		if _, ok := p.value.(*view); ok {
			views = append(views, p)
		}
	}
	return views, "", nil
}

// wrappers are the parts of names that wrappers of modules put in anywhere.
var wrappers = []string{"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."}

// plainNames takes out of names what wrappers put in.
func plainNames(views []pair) {
	for {
		parallel := true
		for i := range views {
			views[i].key = unwrap(views[i].key)
			rest, ok := strings.CutPrefix(views[i].key, "module.")
			parallel = parallel && ok && rest != ""
		}
		if !parallel {
			return
		}
		for i := range views {
			views[i].key = views[i].key[len("module."):]
		}
	}
}

// unwrap removes the wrappers that stand at the beginning of a part of name.
func unwrap(name string) string {
	if !strings.Contains(name, "_mod") {
		return name
	}
	var out strings.Builder
	for part := range strings.SplitAfterSeq(name, ".") {
		if !slices.Contains(wrappers, part) {
			out.WriteString(part)
		}
	}
	return out.String()
}

// tensors checks names and views and returns what they are.
func (r *root) tensors(views []pair) ([]*tensor.Tensor, error) {
	if len(views) > MaxTensors {
		return nil, r.limit(r.base, r.where, fmt.Sprintf("%d tensors", len(views)), fmt.Sprintf("at most %d", MaxTensors), "split the checkpoint into shards")
	}
	for _, p := range views {
		if got := badName(p.key); got != "" {
			return nil, r.wrong(r.base, r.where+": tensor "+tensor.Quote(p.key)+": name", got, fmt.Sprintf("1 to %d bytes of printable UTF-8", MaxName), "")
		}
	}
	plainNames(views)
	seen := make(map[string]bool, len(views))
	list := make([]*tensor.Tensor, len(views))
	for i, p := range views {
		if seen[p.key] || p.key == "" {
			return nil, r.wrong(r.base, r.where+": tensor "+tensor.Quote(p.key), "the name twice", "every name once, without what wrappers put in", "")
		}
		seen[p.key] = true
		t, err := p.value.(*view).tensor(r.decoder, p.key)
		if err != nil {
			return nil, err
		}
		list[i] = t
	}
	return list, nil
}

func badName(name string) string {
	switch {
	case name == "":
		return "no name"
	case len(name) > MaxName:
		return fmt.Sprintf("%d bytes", len(name))
	case !utf8.ValidString(name):
		return "invalid UTF-8"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "a control character"
	}
	return ""
}

// describe names what a file holds instead of a dictionary.
func describe(v any) string {
	switch v := v.(type) {
	case *object:
		return "an object of class " + tensor.Quote(v.class.module+"."+v.class.name)
	case *view:
		return "one tensor"
	case *types.List, *types.Tuple:
		return "a list"
	}
	return "another value"
}

// keys lists the first keys of a dictionary for a message.
func keys(dict []pair) string {
	const most = 8
	if len(dict) == 0 {
		return "no key"
	}
	var names []string
	for _, p := range dict[:min(len(dict), most)] {
		names = append(names, tensor.Quote(p.key))
	}
	if len(dict) > most {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}
