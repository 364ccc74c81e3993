package ptx

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxProblems ends a lint that has found enough.
const maxProblems = 20

// Lint reads the bodies of a PTX text as an assembler would, as far as that needs no
// assembler: every instruction is one that its table knows, for the version and the
// target of the text, with the right number of operands; every register is declared
// and of a type that the instruction takes; every variable and label is there.
// Compilers copy inline assembly unread, so without this a slip in it would show only
// on a GPU. The error lists up to twenty problems with their lines.
func Lint(text string) error {
	f, err := Parse(text)
	if err != nil {
		return err
	}
	l := linter{scanner: scanner{text: text, line: 1}, version: versionNumber(f.Version), target: targetNumber(f.Target), forms: map[string]*form{}}
	l.scopes = []scope{newScope()}
	if err := l.module(); err != nil {
		return errors.Join(append(l.problems, err)...)
	}
	return errors.Join(l.problems...)
}

// versionNumber reads "7.8" as 78.
func versionNumber(s string) int {
	major, minor, _ := strings.Cut(s, ".")
	a, _ := strconv.Atoi(major)
	b, _ := strconv.Atoi(minor)
	return 10*a + b
}

// targetNumber reads "sm_90a" as 90.
func targetNumber(s string) int {
	n, _ := strconv.Atoi(strings.TrimRight(strings.TrimPrefix(s, "sm_"), "abcdefghijklmnopqrstuvwxyz"))
	return n
}

// scope is what a pair of braces declares.
type scope struct {
	regs  map[string]string // type by name, "%r7" or, for "%r<9>", "%r" with a count
	count map[string]int
	names map[string]bool // variables and parameters
}

func newScope() scope {
	return scope{map[string]string{}, map[string]int{}, map[string]bool{}}
}

type linter struct {
	scanner
	version, target int
	scopes          []scope
	labels          map[string]bool // of the function
	jumps           map[string]int  // line of a jump to a label
	forms           map[string]*form
	problems        []error
}

// errEnough ends the lint.
var errEnough = errors.New("more problems are not listed")

func (l *linter) complain(line int, format string, args ...any) error {
	l.problems = append(l.problems, fmt.Errorf("PTX line %d: %s", line, fmt.Sprintf(format, args...)))
	if len(l.problems) == maxProblems {
		return errEnough
	}
	return nil
}

// statement reads tokens up to one of the ends, which it returns, and the line that
// the statement begins in. Directives that end with their line are left out.
func (l *linter) statement(ends string) (tokens []string, end string, line int, err error) {
	for {
		token, err := l.next()
		if err != nil || token == "" {
			return tokens, "", line, err
		}
		if len(tokens) == 0 {
			line = l.line
			if slices.Contains([]string{".version", ".target", ".address_size", ".file", ".loc"}, token) {
				_, l.text, _ = strings.Cut(l.text, "\n")
				l.line++
				continue
			}
		}
		switch {
		case token == "{" && slices.Contains(tokens, "="): // an initial value
			for token != "}" && token != "" && err == nil {
				token, err = l.next()
			}
			continue
		case strings.Contains(ends, token) && (token != "{" && token != "}" || len(tokens) == 0 || strings.HasPrefix(tokens[0], ".")):
			return tokens, token, line, nil
		}
		tokens = append(tokens, token)
	}
}

// module reads declarations and functions.
func (l *linter) module() error {
	for {
		tokens, end, _, err := l.statement(";{")
		if err != nil || end == "" {
			return err
		}
		function := slices.Contains(tokens, ".entry") || slices.Contains(tokens, ".func")
		if !function || end == ";" {
			declare(l.scopes[0], tokens)
			continue
		}
		l.scopes = append(l.scopes[:1], newScope())
		declare(l.scopes[1], tokens)
		if i := slices.Index(tokens, ".func"); i >= 0 {
			l.scopes[0].names[functionName(tokens[i+1:])] = true
		}
		l.labels, l.jumps = map[string]bool{}, map[string]int{}
		if err := l.body(); err != nil {
			return err
		}
		for label, line := range l.jumps {
			if !l.labels[label] {
				if err := l.complain(line, "a jump to %s, which is no label of the function", label); err != nil {
					return err
				}
			}
		}
	}
}

// functionName is the name behind .func and what it returns.
func functionName(tokens []string) string {
	if tokens[0] == "(" {
		tokens = tokens[slices.Index(tokens, ")")+1:]
	}
	return tokens[0]
}

// declare adds every word of a declaration that is no directive or number.
func declare(s scope, tokens []string) {
	for _, token := range tokens {
		if c := token[0]; c == '_' || c == '$' || c == '%' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			s.names[token] = true
		}
	}
}

// body reads statements up to the brace that closes the function.
func (l *linter) body() error {
	outer := len(l.scopes) - 1
	for {
		tokens, end, line, err := l.statement(";:{}")
		if err != nil {
			return err
		}
		scope := l.scopes[len(l.scopes)-1]
		switch {
		case end == "":
			return l.errorf("the text ends inside a function")
		case end == "{":
			l.scopes = append(l.scopes, newScope())
		case end == "}":
			l.scopes = l.scopes[:len(l.scopes)-1]
			if len(l.scopes) == outer {
				return nil
			}
		case end == ":":
			l.labels[strings.Join(tokens, "")] = true
		case len(tokens) == 0:
		case tokens[0] == ".reg":
			err = l.registers(scope, tokens, line)
		case strings.HasPrefix(tokens[0], "."):
			declare(scope, tokens)
		default:
			err = l.instruction(tokens, line)
		}
		if err != nil {
			return err
		}
	}
}

// registers declares ".reg .type name, name<count>".
func (l *linter) registers(s scope, tokens []string, line int) error {
	if len(tokens) < 3 || typeSizes[strings.TrimPrefix(tokens[1], ".")] == 0 && tokens[1] != ".pred" {
		return l.complain(line, "%s, want .reg, a type and names", strings.Join(tokens, " "))
	}
	for i := 2; i < len(tokens); i++ {
		name := tokens[i]
		s.regs[name] = tokens[1][1:]
		if i+3 < len(tokens) && tokens[i+1] == "<" {
			s.count[name], _ = strconv.Atoi(tokens[i+2])
			i += 3
		}
		i++ // the comma
	}
	return nil
}

// special are the registers that every kernel has, all of 32 bits but the clocks.
var special = map[string]string{
	"%tid.x": "u32", "%tid.y": "u32", "%tid.z": "u32", "%ntid.x": "u32", "%ntid.y": "u32", "%ntid.z": "u32",
	"%ctaid.x": "u32", "%ctaid.y": "u32", "%ctaid.z": "u32", "%nctaid.x": "u32", "%nctaid.y": "u32", "%nctaid.z": "u32",
	"%laneid": "u32", "%warpid": "u32", "%smid": "u32", "%nsmid": "u32", "%lanemask_lt": "u32", "%clock64": "u64", "%globaltimer": "u64",
}

// register returns the type of a register, or "".
func (l *linter) register(name string) string {
	if t, ok := special[name]; ok {
		return t
	}
	stem := strings.TrimRight(name, "0123456789")
	for i := len(l.scopes) - 1; i >= 0; i-- {
		s := &l.scopes[i]
		if t, ok := s.regs[name]; ok && s.count[name] == 0 {
			return t
		}
		if n, err := strconv.Atoi(name[len(stem):]); err == nil && n < s.count[stem] {
			return s.regs[stem]
		}
	}
	return ""
}

// variable reports whether a name is declared.
func (l *linter) variable(name string) bool {
	return slices.ContainsFunc(l.scopes, func(s scope) bool { return s.names[name] })
}

// instruction holds one to the table.
func (l *linter) instruction(tokens []string, line int) error {
	whole := strings.Join(tokens, " ")
	if tokens[0] == "@" {
		tokens = tokens[1:]
		if len(tokens) > 0 && tokens[0] == "!" {
			tokens = tokens[1:]
		}
		if len(tokens) < 2 || l.register(tokens[0]) != "pred" {
			return l.complain(line, "%s: the guard is no declared predicate", whole)
		}
		tokens = tokens[1:]
	}
	op := tokens[0]
	f, ok := l.forms[op]
	if !ok {
		f = findForm(op)
		l.forms[op] = f
	}
	switch {
	case f == nil:
		return l.complain(line, "%s is no instruction that the check knows: is it spelt right? if it is, add a row", op)
	case l.version < f.version || l.target < f.target:
		return l.complain(line, "%s needs .version %d.%d and sm_%d", op, f.version/10, f.version%10, f.target)
	}
	operands := split(tokens[1:])
	least, _, optional := strings.Cut(f.operands, "?")
	kinds := strings.ReplaceAll(f.operands, "?", "")
	if kinds == "PfP" && len(operands) == 2 { // a call without a result
		kinds = kinds[1:]
	}
	if len(operands) != len(kinds) && (!optional || len(operands) < len(least) || len(operands) > len(kinds)) {
		return l.complain(line, "%s: %d operands, want %d", whole, len(operands), len(kinds))
	}
	for i, operand := range operands {
		if wrong := l.operand(operand, kinds[i], f, line); wrong != "" {
			if err := l.complain(line, "%s: operand %d: %s", whole, i+1, wrong); err != nil {
				return err
			}
		}
	}
	return nil
}

// split cuts operands at commas outside of brackets and braces.
func split(tokens []string) (operands [][]string) {
	depth, start := 0, 0
	for i, token := range tokens {
		switch token {
		case "{", "[", "(":
			depth++
		case "}", "]", ")":
			depth--
		case ",":
			if depth == 0 {
				operands = append(operands, tokens[start:i])
				start = i + 1
			}
		}
	}
	if start < len(tokens) {
		operands = append(operands, tokens[start:])
	}
	return operands
}

// operand returns what is wrong with an operand of a kind of [form], or "".
func (l *linter) operand(o []string, kind byte, f *form, line int) string {
	if len(o) == 0 {
		return "nothing"
	}
	switch kind {
	case 'a':
		return l.address(o)
	case 'l':
		l.jumps[strings.Join(o, "")] = line
		return ""
	case 'f':
		if len(o) != 1 || !l.scopes[0].names[o[0]] {
			return strings.Join(o, " ") + " is no function"
		}
		return ""
	case 'P':
		return l.parameters(o)
	case 'i':
		return l.scalar(o, "u32", false)
	case 'p':
		for len(o) == 3 && o[1] == "|" { // both results of setp
			if wrong := l.scalar(o[:1], "pred", false); wrong != "" {
				return wrong
			}
			o = o[2:]
		}
		if len(o) == 2 && o[0] == "!" {
			o = o[1:]
		}
		return l.scalar(o, "pred", false)
	case 'r': // a result, perhaps with a predicate
		if len(o) == 3 && o[1] == "|" {
			if wrong := l.scalar(o[2:], "pred", false); wrong != "" {
				return wrong
			}
			o = o[:1]
		}
		return l.scalar(o, f.typ, false)
	case 't':
		return l.scalar(o, f.typ, false)
	case 'w':
		return l.scalar(o, f.typ[:1]+strconv.Itoa(16*typeSizes[f.typ]), false)
	case 's':
		return l.scalar(o, f.source, true)
	case 'T':
		if f.vector > 1 {
			return l.list(o, f.vector, f.typ, true)
		}
		return l.scalar(o, f.typ, true)
	case 'm':
		if o[0] == "{" {
			return l.list(o, 2, "b32", false)
		}
		return l.scalar(o, f.typ, false)
	case 'd':
		return l.scalar(o, "b64", false)
	case '_':
		if len(o) != 1 || o[0] != "_" {
			return strings.Join(o, " ") + ", want _"
		}
		return ""
	case 'L':
		return l.list(o, f.vector/2, "b32", false)
	case '2', '4':
		return l.list(o, int(kind-'0'), "b32", false)
	}
	panic("ptx: operand kind " + string(kind))
}

// list checks {a, b, ...}.
func (l *linter) list(o []string, n int, typ string, wider bool) string {
	if o[0] != "{" || o[len(o)-1] != "}" {
		return "want a list in braces"
	}
	elements := split(o[1 : len(o)-1])
	if len(elements) != n {
		return fmt.Sprintf("%d elements, want %d", len(elements), n)
	}
	for _, e := range elements {
		if wrong := l.scalar(e, typ, wider); wrong != "" {
			return wrong
		}
	}
	return ""
}

// parameters checks (a, b, ...), which are variables.
func (l *linter) parameters(o []string) string {
	if o[0] != "(" || o[len(o)-1] != ")" {
		return "want a list in parentheses"
	}
	for _, e := range split(o[1 : len(o)-1]) {
		if len(e) != 1 || !l.variable(e[0]) {
			return strings.Join(e, " ") + " is not declared"
		}
	}
	return ""
}

// scalar checks a register or a constant. A wider register is taken where the
// instruction extends or cuts.
func (l *linter) scalar(o []string, typ string, wider bool) string {
	if o[0] == "-" {
		o = o[1:]
	}
	if len(o) != 1 {
		return strings.Join(o, " ") + ", want one register or constant"
	}
	name := o[0]
	if c := name[0]; c >= '0' && c <= '9' {
		return ""
	}
	if l.variable(name) && l.register(name) == "" { // its address
		if size := typeSizes[typ]; size < 4 {
			return name + " is a variable, whose address has no type " + typ
		}
		return ""
	}
	have := l.register(name)
	switch {
	case have == "":
		return name + " is not declared"
	case have == "pred" || typ == "pred":
		if have != typ {
			return fmt.Sprintf("%s is .%s, want .%s", name, have, typ)
		}
	case wider && typeSizes[have] > typeSizes[typ] && have[0] != 'f':
	case typeSizes[have] != typeSizes[typ] || class(have) != class(typ) && class(have) != 'b' && class(typ) != 'b':
		return fmt.Sprintf("%s is .%s, want .%s", name, have, typ)
	}
	return ""
}

// class returns 'b', 'f', or 'i' for integers of either sign.
func class(typ string) byte {
	if c := typ[0]; c == 'b' || c == 'f' {
		return c
	}
	return 'i'
}

// address checks [name], [register] and either with an offset.
func (l *linter) address(o []string) string {
	if len(o) < 3 || o[0] != "[" || o[len(o)-1] != "]" {
		return strings.Join(o, " ") + ", want an address in brackets"
	}
	o = o[1 : len(o)-1]
	typ := l.register(o[0])
	switch {
	case typ == "" && !l.variable(o[0]):
		return o[0] + " is not declared"
	case typ != "" && (class(typ) == 'f' || typ == "pred" || typeSizes[typ] < 4):
		return fmt.Sprintf("%s is .%s, want an address of 32 or 64 bits", o[0], typ)
	case len(o) > 1 && o[1] != "+" && o[1] != "-":
		return strings.Join(o, " ") + ", want an offset after + or -"
	}
	return ""
}
