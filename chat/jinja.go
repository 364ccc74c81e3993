package chat

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// list is a Go slice whose last element also has the index -1 when it is the only
// one, which gonja's own slices get wrong.
type list []any

// GetItem returns the element of an integer key, counted from the end where it is
// negative.
func (l list) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if i < 0 {
		i += len(l)
	}
	if !ok || i < 0 || i >= len(l) {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(l[i]), true
}

// plain are gonja's filters that do what Jinja's do and make nothing much longer
// than what they get.
var plain = []string{"abs", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items", "last", "length", "count", "lower",
	"map", "max", "min", "reject", "rejectattr", "reverse", "round", "safe", "select", "selectattr", "sort", "string", "sum", "unique", "upper", "wordcount"}

func (b *budget) filters() *exec.FilterSet {
	all := map[string]exec.FilterFunction{
		"trim": str(func(s string, args []string) string {
			if len(args) > 0 {
				return strings.Trim(s, args[0])
			}
			return strings.TrimFunc(s, isSpace)
		}),
		"capitalize": str(func(s string, _ []string) string { return capitalize(s) }),
		"title":      str(func(s string, _ []string) string { return title(s) }),
		"list": func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			out := list{}
			in.Iterate(func(_, _ int, key, _ *exec.Value) bool { out = append(out, key.Interface()); return true }, func() {})
			return exec.AsValue(out)
		},
		"join":    b.join,
		"replace": b.replaceFilter,
		"tojson":  toJSON,
		"indent":  b.indent,
	}
	for _, name := range plain {
		f, ok := builtins.Filters.Get(name)
		if !ok {
			panic("chat: gonja has no filter " + name)
		}
		all[name] = f
	}
	for name, f := range all {
		all[name] = func(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
			if err := b.step(); err != nil {
				return exec.AsValue(err)
			}
			if err := b.size(in); err != nil { // before it is multiplied further
				return exec.AsValue(err)
			}
			return f(e, in, params)
		}
	}
	return exec.NewFilterSet(all)
}

// str is a filter of a string with strings as arguments.
func str(f func(s string, args []string) string) exec.FilterFunction {
	return func(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
		if in.IsError() {
			return in
		}
		var args []string
		for _, a := range params.Args {
			args = append(args, a.String())
		}
		return exec.AsValue(f(in.String(), args))
	}
}

func (b *budget) join(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	separator := params.First().String()
	attribute := params.GetKeywordArgument("attribute", "").String()
	var parts []string
	size := 0
	in.Iterate(func(_, _ int, item, _ *exec.Value) bool {
		if attribute != "" {
			item, _ = item.Get(attribute)
		}
		parts = append(parts, item.String())
		size += len(separator) + len(parts[len(parts)-1])
		return size <= b.bytes
	}, func() {})
	if size > b.bytes {
		return exec.AsValue(b.stop(errSize))
	}
	return exec.AsValue(strings.Join(parts, separator))
}

// replaced is s with old replaced by new, count times, or always when count is
// negative.
func (b *budget) replaced(s, old, new string, count int) (string, error) {
	n := strings.Count(s, old)
	if count >= 0 {
		n = min(n, count)
	}
	if len(s)+n*max(0, len(new)-len(old)) > b.bytes {
		return "", b.stop(errSize)
	}
	return strings.Replace(s, old, new, n), nil
}

func (b *budget) replaceFilter(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	out, err := b.replaceArgs(in.String(), params)
	if err != nil {
		return exec.AsValue(err)
	}
	return exec.AsValue(out)
}

func (b *budget) replaceArgs(s string, params *exec.VarArgs) (string, error) {
	if len(params.Args) < 2 {
		return "", fmt.Errorf("replace wants the text to replace and its replacement, got %d arguments", len(params.Args))
	}
	count := -1
	if len(params.Args) > 2 {
		count = params.Args[2].Integer()
	}
	return b.replaced(s, params.Args[0].String(), params.Args[1].String(), count)
}

func (b *budget) indent(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	width := params.GetKeywordArgument("width", 4)
	if len(params.Args) > 0 {
		width = params.Args[0]
	}
	prefix := width.String()
	if width.IsInteger() {
		if n := width.Integer(); n < 0 || n > 64 {
			return exec.AsValue(fmt.Errorf("indent by %d, want 0 to 64", n))
		}
		prefix = strings.Repeat(" ", width.Integer())
	}
	first := params.GetKeywordArgument("first", false)
	if len(params.Args) > 1 {
		first = params.Args[1]
	}
	if len(prefix) > 64 {
		return exec.AsValue(b.stop(errSize))
	}
	lines := strings.Split(in.String(), "\n")
	for i := range lines {
		if lines[i] != "" && (i > 0 || first.IsTrue()) {
			lines[i] = prefix + lines[i]
		}
	}
	return exec.AsValue(strings.Join(lines, "\n"))
}

// toJSON prints as Python's json.dumps does, as transformers has it: characters as
// they are, a space after commas and colons.
func toJSON(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	step := params.GetKeywordArgument("indent", nil)
	if len(params.Args) > 0 {
		step = params.Args[0]
	}
	p := &jsonPrinter{step: -1}
	if step.IsInteger() {
		if p.step = step.Integer(); p.step < 0 || p.step > 16 {
			return exec.AsValue(fmt.Errorf("tojson with an indent of %d, want 0 to 16", p.step))
		}
	}
	if err := p.print(in, 0); err != nil {
		return exec.AsValue(err)
	}
	return exec.AsSafeValue(p.out.String())
}

type jsonPrinter struct {
	out  strings.Builder
	step int // spaces a level; -1: on one line
}

func (p *jsonPrinter) print(v *exec.Value, depth int) error {
	switch {
	case depth > 32:
		return errors.New("tojson of something nested more than 32 deep")
	case v.IsNil():
		p.out.WriteString("null")
	case v.IsBool():
		fmt.Fprintf(&p.out, "%t", v.IsTrue())
	case v.IsString():
		p.quote(v.String())
	case v.IsInteger(), v.IsFloat():
		p.out.WriteString(v.String())
	case v.IsList():
		var items []func() error
		v.Iterate(func(_, _ int, item, _ *exec.Value) bool {
			items = append(items, func() error { return p.print(item, depth+1) })
			return true
		}, func() {})
		return p.group("[", "]", items, depth)
	case v.IsDict():
		type pair struct {
			key   string
			value *exec.Value
		}
		var pairs []pair
		v.Iterate(func(_, _ int, key, value *exec.Value) bool {
			pairs = append(pairs, pair{key.String(), value})
			return true
		}, func() {})
		if _, ok := v.Interface().(map[string]any); ok { // a message: role goes first, as it is written
			slices.SortFunc(pairs, func(a, b pair) int { return -strings.Compare(a.key, b.key) })
		}
		var items []func() error
		for _, x := range pairs {
			items = append(items, func() error {
				p.quote(x.key)
				p.out.WriteString(": ")
				return p.print(x.value, depth+1)
			})
		}
		return p.group("{", "}", items, depth)
	default:
		return fmt.Errorf("tojson of %s, want text, numbers, lists and mappings", v.String())
	}
	return nil
}

func (p *jsonPrinter) group(open, end string, items []func() error, depth int) error {
	p.out.WriteString(open)
	newline := func(depth int) {
		if p.step >= 0 && len(items) > 0 {
			p.out.WriteString("\n" + strings.Repeat(" ", p.step*depth))
		}
	}
	for i, item := range items {
		if i > 0 {
			p.out.WriteString(",")
			if p.step < 0 {
				p.out.WriteString(" ")
			}
		}
		newline(depth + 1)
		if err := item(); err != nil {
			return err
		}
	}
	newline(depth)
	p.out.WriteString(end)
	return nil
}

func (p *jsonPrinter) quote(s string) {
	p.out.WriteByte('"')
	for _, r := range s {
		switch short := strings.IndexRune("\"\\\b\f\n\r\t", r); {
		case short >= 0:
			p.out.WriteByte('\\')
			p.out.WriteByte(`"\bfnrt`[short])
		case r < 0x20:
			fmt.Fprintf(&p.out, `\u%04x`, r)
		default:
			p.out.WriteRune(r)
		}
	}
	p.out.WriteByte('"')
}

// isSpace reports what Python's strip takes off.
func isSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

func capitalize(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return s
	}
	return string(unicode.ToTitle(r)) + strings.ToLower(s[n:])
}

// title begins every word with a capital, as Jinja does: after white space and
// opening brackets.
func title(s string) string {
	start := true
	return strings.Map(func(r rune) rune {
		out := unicode.ToLower(r)
		if start {
			out = unicode.ToTitle(r)
		}
		start = isSpace(r) || strings.ContainsRune("-({[<", r)
		return out
	}, s)
}

// methods are those of strings, as Python has them, and gonja's of the rest.
func (b *budget) methods() exec.Methods {
	m := builtins.Methods
	all := map[string]exec.Method[string]{
		"strip":      stripper(strings.TrimFunc),
		"lstrip":     stripper(strings.TrimLeftFunc),
		"rstrip":     stripper(strings.TrimRightFunc),
		"split":      func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) { return b.split(s, p, false) },
		"rsplit":     func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) { return b.split(s, p, true) },
		"splitlines": func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) { return splitLines(s), nil },
		"lower":      func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) { return strings.ToLower(s), nil },
		"upper":      func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) { return strings.ToUpper(s), nil },
		"title":      func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) { return title(s), nil },
		"capitalize": func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) { return capitalize(s), nil },
		"replace":    func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) { return b.replaceArgs(s, p) },
		"startswith": func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) {
			return strings.HasPrefix(s, p.First().String()), nil
		},
		"endswith": func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) {
			return strings.HasSuffix(s, p.First().String()), nil
		},
		"find": func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) {
			at := strings.Index(s, p.First().String())
			if at > 0 {
				at = len([]rune(s[:at]))
			}
			return at, nil
		},
		"count": func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) {
			return strings.Count(s, p.First().String()), nil
		},
		"isdigit": every(unicode.IsDigit),
		"isalpha": every(unicode.IsLetter),
		"isspace": every(isSpace),
		"join": func(s string, v *exec.Value, p *exec.VarArgs) (any, error) {
			out := b.join(nil, p.First(), &exec.VarArgs{Args: []*exec.Value{v}, KwArgs: map[string]*exec.Value{}})
			if out.IsError() {
				return nil, out
			}
			return out.String(), nil
		},
	}
	m.Str = exec.NewMethodSet(all)
	return m
}

func every(is func(rune) bool) exec.Method[string] {
	return func(s string, _ *exec.Value, _ *exec.VarArgs) (any, error) {
		return s != "" && strings.IndexFunc(s, func(r rune) bool { return !is(r) }) < 0, nil
	}
}

func stripper(trim func(string, func(rune) bool) string) exec.Method[string] {
	return func(s string, _ *exec.Value, p *exec.VarArgs) (any, error) {
		if chars := p.First(); !chars.IsNil() {
			set := chars.String()
			return trim(s, func(r rune) bool { return strings.ContainsRune(set, r) }), nil
		}
		return trim(s, isSpace), nil
	}
}

// split cuts at a separator, at most limit times, from the left or the right, and
// at white space without a separator.
func (b *budget) split(s string, p *exec.VarArgs, right bool) (any, error) {
	if p.First().IsNil() {
		return toList(strings.FieldsFunc(s, isSpace)), nil
	}
	separator, limit := p.First().String(), -1
	if len(p.Args) > 1 {
		limit = p.Args[1].Integer()
	}
	if v, ok := p.KwArgs["maxsplit"]; ok {
		limit = v.Integer()
	}
	if separator == "" {
		return nil, errors.New("split at an empty separator")
	}
	if strings.Count(s, separator) > maxItems {
		return nil, b.stop(errSize)
	}
	if limit < 0 {
		return toList(strings.Split(s, separator)), nil
	}
	if !right {
		return toList(strings.SplitN(s, separator, limit+1)), nil
	}
	var out []string
	for ; limit > 0; limit-- {
		at := strings.LastIndex(s, separator)
		if at < 0 {
			break
		}
		out, s = append(out, s[at+len(separator):]), s[:at]
	}
	out = append(out, s)
	slices.Reverse(out)
	return toList(out), nil
}

func splitLines(s string) list {
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	if s = strings.TrimSuffix(s, "\n"); s == "" {
		return list{}
	}
	return toList(strings.Split(s, "\n"))
}

func toList(parts []string) list {
	out := make(list, len(parts))
	for i, p := range parts {
		out[i] = p
	}
	return out
}

// globals are the functions that a template can call.
func (b *budget) globals() *exec.Context {
	namespace, _ := builtins.GlobalFunctions.Get("namespace")
	dict, _ := builtins.GlobalFunctions.Get("dict")
	return exec.NewContext(map[string]any{
		"namespace": namespace,
		"dict":      dict,
		"range":     b.rangeList,
		"raise_exception": func(_ *exec.Evaluator, p *exec.VarArgs) (any, error) {
			return nil, b.stop(&Refusal{p.First().String()})
		},
	})
}

func (b *budget) rangeList(_ *exec.Evaluator, p *exec.VarArgs) (list, error) {
	start, stop, step := 0, 0, 1
	switch len(p.Args) {
	case 1:
		stop = p.Args[0].Integer()
	case 2, 3:
		start, stop = p.Args[0].Integer(), p.Args[1].Integer()
		if len(p.Args) == 3 {
			step = p.Args[2].Integer()
		}
	default:
		return nil, fmt.Errorf("range wants 1 to 3 numbers, got %d", len(p.Args))
	}
	if step == 0 {
		return nil, errors.New("range wants a step other than 0")
	}
	out := list{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(out) == maxItems {
			return nil, b.stop(errSize)
		}
		out = append(out, i)
	}
	return out, nil
}

// Refusal is what a template says through raise_exception: the conversation does
// not follow the model's rules.
type Refusal struct{ Message string }

func (r *Refusal) Error() string { return "the chat template refuses this conversation: " + r.Message }

// execute renders source as transformers does.
func execute(source string, messages []Message, variables map[string]any) (text string, err error) {
	defer func() {
		if r := recover(); r != nil { // gonja panics on some templates that are wrong
			err = fmt.Errorf("the chat template cannot be rendered: %v", r)
		}
	}()
	c := config.New()
	if err := admit(source, c); err != nil {
		return "", fmt.Errorf("the chat template: %w", err)
	}
	source = prepare(source)
	if err := simple(source, c); err != nil {
		return "", fmt.Errorf("the chat template: %w", err)
	}
	loader, err := loaders.NewMemoryLoader(map[string]string{"/template": source})
	if err != nil {
		return "", err
	}
	b := newBudget(messages)
	template, err := exec.NewTemplate("/template", c, loader, &exec.Environment{
		Filters: b.filters(), Tests: builtins.Tests, ControlStructures: b.controls(), Methods: b.methods(), Context: b.globals(),
	})
	if err != nil {
		return "", fmt.Errorf("the chat template cannot be read: %w", lastLine(err))
	}
	turns := make(list, len(messages))
	for i, m := range messages {
		turns[i] = map[string]any{"role": string(m.Role), "content": m.Content}
	}
	data := map[string]any{"messages": turns}
	for name, v := range variables {
		data[name] = v
	}
	out := &output{budget: b}
	if err := template.Execute(out, exec.NewContext(data)); err != nil {
		if b.cause != nil {
			return "", b.cause
		}
		return "", fmt.Errorf("the chat template cannot be rendered: %w", err)
	}
	return out.String(), nil
}

// lastLine cuts the source of the template, which gonja quotes whole, off an error.
func lastLine(err error) error {
	s := err.Error()
	return errors.New(strings.TrimPrefix(s[strings.LastIndex(s, "\n")+1:], "': "))
}
