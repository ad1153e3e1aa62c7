package filter

import (
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// planner turns a checked expression into nodes.
type planner struct {
	env       *environment
	ast       *ast.AST
	scope     []string // names of comprehension variables, by slot
	maxSlots  int
	paths     []seenPath
	readsData bool
}

func (p *planner) errorAt(e ast.Expr, format string, args ...any) error {
	return at(p.ast.SourceInfo(), e.ID(), format, args...)
}

func (p *planner) plan(e ast.Expr) (node, error) {
	switch e.Kind() {
	case ast.LiteralKind:
		return constNode{e.AsLiteral()}, nil
	case ast.IdentKind:
		return p.planIdent(e)
	case ast.SelectKind:
		return p.planSelect(e)
	case ast.CallKind:
		return p.planCall(e)
	case ast.ListKind:
		return p.planList(e)
	case ast.ComprehensionKind:
		return p.planFold(e)
	}
	return nil, p.errorAt(e, "maps and messages cannot be made in a filter")
}

func (p *planner) planIdent(e ast.Expr) (node, error) {
	name := e.AsIdent()
	for i := len(p.scope) - 1; i >= 0; i-- {
		if p.scope[i] == name {
			return slotNode(i), nil
		}
	}
	if name == "event" {
		return nil, p.errorAt(e, "event is read by its fields: type, id, time, data, changed, resource_ids")
	}
	if p.ast.GetType(e.ID()).Kind() == types.TypeKind {
		if v, ok := p.env.cel.CELTypeProvider().FindIdent(name); ok {
			return constNode{v}, nil
		}
	}
	return nil, p.errorAt(e, "%s cannot be used in a filter", name)
}

func (p *planner) isEvent(e ast.Expr) bool {
	return e.Kind() == ast.IdentKind && e.AsIdent() == "event" && !slices.Contains(p.scope, "event")
}

func (p *planner) planSelect(e ast.Expr) (node, error) {
	s := e.AsSelect()
	if p.isEvent(s.Operand()) {
		if s.IsTestOnly() {
			return constNode{types.True}, nil
		}
		if s.FieldName() == "data" {
			p.readsData = true
		}
		return fieldNode(eventFields[s.FieldName()].index), nil
	}
	operand, err := p.plan(s.Operand())
	if err != nil {
		return nil, err
	}
	p.notePath(e)
	key := s.FieldName()
	return &selectNode{operand: operand, key: key, test: s.IsTestOnly(), missing: types.NewErr("no such key: %s", key)}, nil
}

// notePath records a path below event.data for Seen; of a.b.c only the longest path.
func (p *planner) notePath(e ast.Expr) {
	var keys []string
	for e.Kind() == ast.SelectKind && !p.isEvent(e.AsSelect().Operand()) {
		keys = append(keys, e.AsSelect().FieldName())
		e = e.AsSelect().Operand()
	}
	if e.Kind() != ast.SelectKind || e.AsSelect().FieldName() != "data" {
		return
	}
	slices.Reverse(keys)
	// The operand was planned before, so a shorter path of the same expression is the last one.
	if n := len(p.paths); n > 0 && slices.Equal(p.paths[n-1], keys[:len(keys)-1]) {
		p.paths = p.paths[:n-1]
	}
	if len(p.paths) < maxSeenPaths && !slices.ContainsFunc(p.paths, func(q seenPath) bool { return slices.Equal(q, keys) }) {
		p.paths = append(p.paths, keys)
	}
}

func (p *planner) planAll(exprs []ast.Expr) ([]node, error) {
	nodes := make([]node, len(exprs))
	for i, e := range exprs {
		n, err := p.plan(e)
		if err != nil {
			return nil, err
		}
		nodes[i] = n
	}
	return nodes, nil
}

func (p *planner) planList(e ast.Expr) (node, error) {
	elements, err := p.planAll(e.AsList().Elements())
	if err != nil {
		return nil, err
	}
	return p.fold(e, &listNode{elements: elements}, elements)
}

func (p *planner) planCall(e ast.Expr) (node, error) {
	call := e.AsCall()
	name := call.FunctionName()
	exprs := call.Args()
	if call.IsMemberFunction() {
		exprs = append([]ast.Expr{call.Target()}, exprs...)
	}
	args, err := p.planAll(exprs)
	if err != nil {
		return nil, err
	}
	switch name {
	case operators.LogicalAnd, operators.LogicalOr:
		return &logicNode{terms: args, stop: types.Bool(name == operators.LogicalOr)}, nil
	case operators.LogicalNot:
		return &notNode{args[0]}, nil
	case operators.Conditional:
		return &conditionalNode{args[0], args[1], args[2]}, nil
	case operators.Equals, operators.NotEquals:
		return p.fold(e, &equalNode{left: args[0], right: args[1], not: name == operators.NotEquals}, args)
	case operators.Index:
		return &indexNode{operand: args[0], index: args[1]}, nil
	case "matches":
		return p.planMatches(e, args)
	}
	fn, ok := p.env.functions[name]
	if !ok {
		return nil, p.errorAt(e, "the function %s is not available in filters", strings.Trim(name, "_"))
	}
	if strings.HasPrefix(name, "get") && len(args) > 1 {
		return nil, p.errorAt(e, "time zones are not available in filters: times are UTC")
	}
	n := &callNode{name: name, fn: fn, left: args[0], arithmetic: isArithmetic(name)}
	if len(args) > 1 {
		n.right = args[1]
	}
	return p.fold(e, n, args)
}

// planMatches compiles the pattern now: the cost of a pattern from an event could not be bounded.
func (p *planner) planMatches(e ast.Expr, args []node) (node, error) {
	literal, ok := args[1].(constNode)
	if !ok {
		return nil, p.errorAt(e, "the pattern of matches must be a literal")
	}
	text, _ := literal.value.(types.String)
	pattern, err := CompilePattern(string(text))
	if err != nil {
		return nil, p.errorAt(e, "%s", err)
	}
	return &patternNode{text: args[0], pattern: pattern}, nil
}

// fold replaces a node of constants by its value, so that an error in it is reported on save.
func (p *planner) fold(e ast.Expr, n node, args []node) (node, error) {
	for _, a := range args {
		if _, ok := a.(constNode); !ok {
			return n, nil
		}
	}
	fr := frame{steps: maxSteps, bytes: maxBytes}
	v := n.eval(&fr)
	if fr.spent != nil {
		return nil, p.errorAt(e, "%s", fr.spent)
	}
	if err, ok := v.(*types.Err); ok {
		return nil, p.errorAt(e, "%s", err)
	}
	return constNode{v}, nil
}

// planFold plans a comprehension, the form of the macros all, exists and exists_one after parsing.
func (p *planner) planFold(e ast.Expr) (node, error) {
	c := e.AsComprehension()
	if c.AccuInit().Kind() == ast.ListKind || c.AccuInit().Kind() == ast.MapKind {
		return nil, p.errorAt(e, "map and filter make lists, which a filter may not: use all, exists or exists_one")
	}
	over, err := p.plan(c.IterRange())
	if err != nil {
		return nil, err
	}
	init, err := p.plan(c.AccuInit())
	if err != nil {
		return nil, err
	}
	f := &foldNode{over: over, init: init, item: len(p.scope), accu: len(p.scope) + 1}
	p.scope = append(p.scope, c.IterVar(), c.AccuVar())
	p.maxSlots = max(p.maxSlots, len(p.scope))
	parts, err := p.planAll([]ast.Expr{c.LoopCondition(), c.LoopStep(), c.Result()})
	p.scope = p.scope[:f.item]
	if err != nil {
		return nil, err
	}
	f.goOn, f.step, f.result = parts[0], parts[1], parts[2]
	return f, nil
}

func isArithmetic(name string) bool {
	switch name {
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		return true
	}
	return false
}
