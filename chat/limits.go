package chat

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Limits on a template. A template is a program from a file that someone made: it
// may be wrong or hostile, and must not take the memory or the time of the machine.
const (
	MaxTemplate = 256 << 10 // bytes of the source

	maxSeconds = 5       // of rendering
	maxSteps   = 1 << 18 // statements and rounds of loops
	maxDepth   = 64      // macros inside macros
	maxItems   = 1 << 16 // elements of a list, of range
	maxOutput  = 1 << 20 // bytes of a string beyond 8 times those of the messages
	maxNesting = 64      // brackets inside brackets, blocks inside blocks
	maxWords   = 2048    // of one tag
	maxJoins   = 256     // + and ~ in one expression: the strings that it makes are no variables yet
)

// budget is what is left to one rendering.
type budget struct {
	until time.Time
	steps int
	depth int
	bytes int   // of the longest string allowed
	cause error // why the template was stopped: gonja's errors keep no chain
}

// stop remembers why the template is stopped.
func (b *budget) stop(err error) error {
	if b.cause == nil {
		b.cause = err
	}
	return err
}

func newBudget(messages []Message) *budget {
	b := &budget{until: time.Now().Add(maxSeconds * time.Second), bytes: maxOutput}
	for _, m := range messages {
		b.bytes += 8 * len(m.Content)
	}
	return b
}

var errSize = errors.New("the template makes a text or a list that is far longer than the messages; it is refused")

// step counts a statement.
func (b *budget) step() error {
	if b.steps++; b.steps > maxSteps {
		return b.stop(fmt.Errorf("the template runs more than %d steps; it is refused", maxSteps))
	}
	if b.steps%256 == 0 && time.Now().After(b.until) {
		return b.stop(fmt.Errorf("the template runs longer than %d seconds; it is refused", maxSeconds))
	}
	return nil
}

// size returns an error when v is too large. Values that hold others are walked
// until too much has been seen, so that sharing cannot hide what printing would
// unfold.
func (b *budget) size(v any) error {
	left, items := b.bytes, maxItems
	if !measure(reflect.ValueOf(v), &left, &items, 0) {
		return b.stop(errSize)
	}
	return nil
}

func measure(v reflect.Value, left, items *int, depth int) bool {
	if depth > 32 {
		return false
	}
	if value, ok := asValue(v); ok {
		return measure(value.Val, left, items, depth+1)
	}
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return v.IsNil() || measure(v.Elem(), left, items, depth+1)
	case reflect.String:
		*left -= v.Len()
	case reflect.Slice, reflect.Array:
		*items -= v.Len()
		for i := 0; i < v.Len() && *left >= 0 && *items >= 0; i++ {
			if !measure(v.Index(i), left, items, depth+1) {
				return false
			}
		}
	case reflect.Map:
		*items -= v.Len()
		for it := v.MapRange(); it.Next() && *left >= 0 && *items >= 0; {
			if !measure(it.Key(), left, items, depth+1) || !measure(it.Value(), left, items, depth+1) {
				return false
			}
		}
	case reflect.Struct:
		if d, ok := v.Interface().(exec.Dict); ok {
			*items -= len(d.Pairs)
			for _, p := range d.Pairs {
				if *left < 0 || *items < 0 || !measure(reflect.ValueOf(p.Key), left, items, depth+1) || !measure(reflect.ValueOf(p.Value), left, items, depth+1) {
					return false
				}
			}
		}
	}
	return *left >= 0 && *items >= 0
}

func asValue(v reflect.Value) (*exec.Value, bool) {
	if !v.IsValid() || !v.CanInterface() {
		return nil, false
	}
	value, ok := v.Interface().(*exec.Value)
	return value, ok && value != nil
}

// output is where a template writes.
type output struct {
	budget *budget
	strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	if o.Len()+len(p) > o.budget.bytes {
		return 0, o.budget.stop(errSize)
	}
	return o.Builder.Write(p)
}

func (o *output) WriteString(s string) (int, error) {
	if o.Len()+len(s) > o.budget.bytes {
		return 0, o.budget.stop(errSize)
	}
	return o.Builder.WriteString(s)
}

// statements are the control structures that a template may use: none that reads
// another file.
var statements = []string{"break", "call", "continue", "do", "filter", "for", "if", "macro", "raw", "set", "with"}

// controls returns the statements, each within the budget.
func (b *budget) controls() *exec.ControlStructureSet {
	all := map[string]parser.ControlStructureParser{"generation": generation}
	for _, name := range statements {
		parse, ok := builtins.ControlStructures.Get(name)
		if !ok {
			panic("chat: gonja has no statement " + name)
		}
		all[name] = func(p, args *parser.Parser) (nodes.ControlStructure, error) {
			target := ""
			if t := args.Current(); t != nil && t.Type == tokens.Name {
				target = t.Val
			}
			inner, err := parse(p, args)
			if err != nil {
				return nil, err
			}
			if loop, ok := inner.(*controlStructures.ForControlStructure); ok {
				if loop.Recursive {
					return nil, errors.New("recursive loops are not supported")
				}
				round := &nodes.ControlStructureBlock{Location: loop.Position(), Name: "round", ControlStructure: &tick{b, loop}}
				loop.BodyWrapper.Nodes = append([]nodes.Node{round}, loop.BodyWrapper.Nodes...)
			}
			return &guarded{b, name, target, inner.(exec.ControlStructure)}, nil
		}
	}
	return exec.NewControlStructureSet(all)
}

// guarded is a statement within a budget.
type guarded struct {
	budget *budget
	name   string
	target string // of set and macro: the variable
	exec.ControlStructure
}

// Execute runs the statement. A variable that it sets may not grow too large, and
// a macro may not call itself without end.
func (g *guarded) Execute(r *exec.Renderer, tag *nodes.ControlStructureBlock) error {
	if err := g.budget.step(); err != nil {
		return err
	}
	if err := g.ControlStructure.Execute(r, tag); err != nil {
		return err
	}
	switch g.name {
	case "set":
		if v, ok := r.Environment.Context.Get(g.target); ok {
			return g.budget.size(v)
		}
	case "macro":
		if v, ok := r.Environment.Context.Get(g.target); ok {
			if macro, ok := v.(exec.Macro); ok {
				r.Environment.Context.Set(g.target, g.budget.shallow(macro))
			}
		}
	}
	return nil
}

func (b *budget) shallow(macro exec.Macro) exec.Macro {
	return func(params *exec.VarArgs) *exec.Value {
		if err := b.step(); err != nil {
			return exec.AsValue(err)
		}
		if b.depth++; b.depth > maxDepth {
			return exec.AsValue(b.stop(fmt.Errorf("the template nests more than %d macros; it is refused", maxDepth)))
		}
		out := macro(params)
		b.depth--
		if err := b.size(out); err != nil {
			return exec.AsValue(err)
		}
		return out
	}
}

// tick begins every round of a loop.
type tick struct {
	budget *budget
	nodes.Node
}

// Execute counts the round, and looks at what a macro or a block has written: that
// goes to a buffer which knows no limit.
func (t *tick) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	if buffer, ok := r.Output.(interface{ Len() int }); ok && buffer.Len() > t.budget.bytes {
		return t.budget.stop(errSize)
	}
	return t.budget.step()
}

// kept is {% generation %}, which marks the answers that a model is trained on: to
// render, it is its content.
type kept struct{ *nodes.Wrapper }

func generation(p, args *parser.Parser) (nodes.ControlStructure, error) {
	if !args.End() {
		return nil, args.Error("generation takes no arguments", nil)
	}
	body, _, err := p.WrapUntil("endgeneration")
	return &kept{body}, err
}

// Execute renders the content.
func (k *kept) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	return r.ExecuteWrapper(k.Wrapper)
}

// admit refuses what no guard can hold: products, which repeat strings to any
// length, and endless sums.
func admit(source string, c *config.Config) error {
	if at := invalidUTF8(source); at >= 0 {
		return fmt.Errorf("byte 0x%02x at offset %d of the chat template is no UTF-8; save it as UTF-8", source[at], at)
	}
	if len(source) > MaxTemplate {
		return fmt.Errorf("the template has %d bytes, want at most %d", len(source), MaxTemplate)
	}
	stream, joins := tokens.LexAll(source, c), 0
	signature := false // of a macro, where * is no product
	for ; !stream.End(); stream.Next() {
		t := stream.Current()
		switch t.Type {
		case tokens.BlockBegin, tokens.VariableBegin:
			joins, signature = 0, false
		case tokens.Name:
			signature = signature || t.Val == "macro"
		case tokens.Addition, tokens.Tilde:
			if joins++; joins > maxJoins {
				return fmt.Errorf("line %d: an expression with more than %d + or ~; it is refused", t.Line, maxJoins)
			}
		case tokens.Multiply, tokens.Power:
			if !signature {
				return fmt.Errorf("line %d: %s is not supported: it could make a text of any length", t.Line, t.Val)
			}
		}
	}
	return nil
}

// simple refuses what is nested too deep or written too long: gonja's parser calls
// itself for each level, and a stack that is full ends the program; its errors
// quote what is around them, level by level.
func simple(source string, c *config.Config) error {
	brackets, words, blocks := 0, 0, 0
	opens := false // the tag begins a block, unless it is a set with a value
	for stream := tokens.LexAll(source, c); !stream.End(); stream.Next() {
		words++
		switch t := stream.Current(); t.Type {
		case tokens.BlockBegin, tokens.VariableBegin:
			brackets, words, opens = 0, 0, false
		case tokens.BlockEnd:
			if opens {
				blocks++
			}
		case tokens.Name:
			if words > 1 {
				break
			}
			switch t.Val {
			case "call", "filter", "for", "generation", "if", "macro", "set", "with":
				opens = true
			}
			if strings.HasPrefix(t.Val, "end") && blocks > 0 {
				blocks--
			}
		case tokens.Assign:
			if brackets == 0 { // set x = y has no end; a with is one level more or less
				opens = false
			}
		case tokens.LeftParenthesis, tokens.LeftBracket, tokens.LeftBrace:
			brackets++
		case tokens.RightParenthesis, tokens.RightBracket, tokens.RightBrace:
			brackets--
		}
		if brackets > maxNesting || blocks > maxNesting {
			return fmt.Errorf("brackets or blocks are nested more than %d deep; it is refused", maxNesting)
		}
		if words > maxWords {
			return fmt.Errorf("an expression has more than %d words; it is refused", maxWords)
		}
	}
	return nil
}

// invalidUTF8 returns the offset of the first byte that is no part of a character, -1
// if there is none.
func invalidUTF8(s string) int {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return i
			}
		}
	}
	return -1
}
