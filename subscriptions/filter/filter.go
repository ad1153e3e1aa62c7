package filter

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Bounds of an expression. A step is the evaluation of one node, or as much work in a function (about 64 bytes of text):
// 20 to 60 ns, so the steps keep an evaluation well under 1 ms. The bytes bound the memory that an evaluation allocates.
const (
	MaxSource = 4 << 10
	maxSteps  = 10_000
	maxBytes  = 32 << 10
	maxNodes  = 1_000
	maxDepth  = 64
	// An event's data is unknown on save, so the estimate assumes these lengths for lists and texts: two nested loops
	// pass, three do not. An evaluation counts its real steps.
	assumedListLen = 24
	assumedTextLen = 256
)

// Filter is a compiled boolean expression over an event. It is safe for concurrent use.
type Filter struct {
	source string
	root   node
	slots  int        // variables of comprehensions
	paths  []seenPath // the values that Seen lists
	data   bool       // it reads event.data, which must be decoded
}

// Error describes a mistake in an expression's source and its place.
type Error struct {
	Line, Column int // from 1; 0 for the whole source
	Message      string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// Compile parses, checks and plans a filter. Its error is a *Error.
func Compile(source string) (*Filter, error) {
	f, result, err := compile(source)
	if err != nil {
		return nil, err
	}
	if result != cel.BoolType {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf(
			"must be boolean, but is %s; compare it with something, as in event.data.active == true", result)}
	}
	return f, nil
}

// compile parses, checks and plans an expression; it also returns the type of the expression's value.
func compile(source string) (*Filter, *cel.Type, error) {
	if len(source) > MaxSource {
		return nil, nil, &Error{Message: fmt.Sprintf("is longer than %d bytes", MaxSource)}
	}
	if strings.TrimSpace(source) == "" {
		return nil, nil, &Error{Message: "is empty"}
	}
	if err := checkNesting(source); err != nil {
		return nil, nil, err
	}
	env, err := sharedEnvironment()
	if err != nil {
		return nil, nil, fmt.Errorf("make filter environment: %w", err)
	}
	checked, err := env.check(source)
	if err != nil {
		return nil, nil, err
	}
	p := planner{env: env, ast: checked.NativeRep()}
	root, err := p.plan(p.ast.Expr())
	if err != nil {
		return nil, nil, err
	}
	if cost := root.estimate(); cost > maxSteps {
		return nil, nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf(
			"may cost too much: about %d steps where lists have %d entries; at most %d are allowed",
			cost, assumedListLen, maxSteps)}
	}
	return &Filter{source: source, root: root, slots: p.maxSlots, paths: p.paths, data: p.readsData}, checked.OutputType(), nil
}

// Source returns the source that the filter was compiled from.
func (f *Filter) Source() string { return f.source }

// errNotBoolean cannot happen: the type checker promised a boolean.
var errNotBoolean = errors.New("the filter's value is not boolean")

// Matches evaluates the filter. An error (a missing key, values that cannot be compared, a spent budget) means no match.
func (f *Filter) Matches(in *Input) (bool, error) {
	v, err := f.value(in)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, errNotBoolean
	}
	return bool(b), nil
}

// value evaluates the expression.
func (f *Filter) value(in *Input) (value, error) {
	fr := frame{input: in, steps: maxSteps, bytes: maxBytes}
	if f.data {
		if _, err := in.data(); err != nil {
			return nil, err
		}
	}
	if f.slots > len(fr.few) {
		fr.slots = make([]value, f.slots)
	} else {
		fr.slots = fr.few[:]
	}
	v := f.root.eval(&fr)
	if fr.spent != nil {
		return nil, fr.spent
	}
	if failed, ok := v.(*types.Err); ok {
		return nil, errors.New(failed.String())
	}
	return v, nil
}

// checkNesting bounds brackets and prefix operators before the parser recurses over them.
func checkNesting(source string) error {
	depth, run := 0, 0
	for i, c := range []byte(source) {
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		}
		if c == '!' || c == '-' {
			run++
		} else {
			run = 0
		}
		if depth > maxDepth || run > maxDepth {
			line := 1 + strings.Count(source[:i], "\n")
			column := i - strings.LastIndexByte(source[:i], '\n')
			return &Error{Line: line, Column: column, Message: "is nested too deeply"}
		}
	}
	return nil
}

// check parses and type-checks a source. It returns cel-go's first error; the others mostly follow from it. It does not
// format them all, as Env.Compile does: the arrows of a hundred errors take 500 MB.
func (e *environment) check(source string) (*cel.Ast, error) {
	parsed, issues := e.cel.Parse(source)
	if errs := issues.Errors(); len(errs) > 0 {
		return nil, located(errs[0].Location, errs[0].Message)
	}
	checked, issues := e.cel.Check(parsed)
	if errs := issues.Errors(); len(errs) > 0 {
		return nil, located(errs[0].Location, errs[0].Message)
	}
	return checked, nil
}

func located(at common.Location, message string) error {
	if at == nil || at.Line() < 1 {
		return &Error{Message: message}
	}
	return &Error{Line: at.Line(), Column: at.Column() + 1, Message: message}
}

func at(info *ast.SourceInfo, id int64, format string, args ...any) error {
	return located(info.GetStartLocation(id), fmt.Sprintf(format, args...))
}
