package subscriptions

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// Bounds of a filter. A step is one node of the expression evaluated, or as much work in a function (about
// 64 bytes of text looked at): some 20 to 60 ns, so the steps keep an evaluation well under 1 ms; the bytes
// are those that an evaluation may allocate.
const (
	MaxFilterSource = 4 << 10
	maxFilterSteps  = 10_000
	maxFilterBytes  = 32 << 10
	maxFilterNodes  = 1_000
	maxFilterDepth  = 64
	// Data of an event is unknown on save, so the estimate takes lists for this long and texts for this
	// large: two loops within one another pass, three do not. The steps of the evaluation are counted.
	assumedListLen = 24
	assumedTextLen = 256
)

// Filter is a compiled CEL expression over an event. It is safe for concurrent use.
//
// cel-go parses and type-checks the expression and lends its functions and values; the evaluation is our
// own (filter_eval.go), because it must count steps and bytes as it goes. cel-go's own cost limit takes
// 400 bytes and 2 microseconds for each step that it counts, more than what it is to guard.
type Filter struct {
	source string
	root   node
	slots  int        // variables of comprehensions
	paths  []seenPath // what explain shows
	data   bool       // whether it reads event.data, and so needs it decoded
}

// FilterError says what is wrong with a filter's source, and where.
type FilterError struct {
	Line, Column int // from 1; 0 where the whole source is meant
	Message      string
}

func (e *FilterError) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// CompileFilter parses, checks and plans a filter. Its error is a *FilterError.
func CompileFilter(source string) (*Filter, error) {
	f, is, err := compile(source)
	if err != nil {
		return nil, err
	}
	if is != cel.BoolType {
		return nil, &FilterError{Line: 1, Column: 1, Message: fmt.Sprintf(
			"must be boolean, but is %s; compare it with something, as in event.data.active == true", is)}
	}
	return f, nil
}

// compile parses, checks and plans an expression, and returns the type of its value as well.
func compile(source string) (*Filter, *cel.Type, error) {
	if len(source) > MaxFilterSource {
		return nil, nil, &FilterError{Message: fmt.Sprintf("is longer than %d bytes", MaxFilterSource)}
	}
	if strings.TrimSpace(source) == "" {
		return nil, nil, &FilterError{Message: "is empty"}
	}
	if err := checkNesting(source); err != nil {
		return nil, nil, err
	}
	env, err := filterEnv()
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
	if cost := root.estimate(); cost > maxFilterSteps {
		return nil, nil, &FilterError{Line: 1, Column: 1, Message: fmt.Sprintf(
			"may cost too much: about %d steps where lists have %d entries; at most %d are allowed",
			cost, assumedListLen, maxFilterSteps)}
	}
	return &Filter{source: source, root: root, slots: p.maxSlots, paths: p.paths, data: p.readsData}, checked.OutputType(), nil
}

// Source returns what the filter was compiled from.
func (f *Filter) Source() string { return f.source }

// errNotBoolean cannot happen: the type checker promised a boolean.
var errNotBoolean = errors.New("the filter's value is not boolean")

// Matches evaluates the filter. An error (a missing key, values that cannot be compared, a budget that is
// spent) means no match.
func (f *Filter) Matches(e *MatchEvent) (bool, error) {
	v, err := f.value(e)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, errNotBoolean
	}
	return bool(b), nil
}

// value evaluates the expression; an error is no value.
func (f *Filter) value(e *MatchEvent) (value, error) {
	fr := frame{event: e, steps: maxFilterSteps, bytes: maxFilterBytes}
	if f.data {
		if _, err := e.value(); err != nil {
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
		if depth > maxFilterDepth || run > maxFilterDepth {
			line := 1 + strings.Count(source[:i], "\n")
			column := i - strings.LastIndexByte(source[:i], '\n')
			return &FilterError{Line: line, Column: column, Message: "is nested too deeply"}
		}
	}
	return nil
}

// check parses and type-checks a source. Of cel-go's errors it returns the first; the others mostly follow from it. They are
// not asked for their text, as Env.Compile does: a hundred of them draw 500 MB of arrows.
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
		return &FilterError{Message: message}
	}
	return &FilterError{Line: at.Line(), Column: at.Column() + 1, Message: message}
}

func at(info *ast.SourceInfo, id int64, format string, args ...any) error {
	return located(info.GetStartLocation(id), fmt.Sprintf(format, args...))
}
