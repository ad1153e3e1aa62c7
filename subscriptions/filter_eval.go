package subscriptions

import (
	"errors"
	"math"
	"regexp"

	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

type value = ref.Val

// node is a planned expression.
type node interface {
	// eval returns a value or a *types.Err.
	eval(*frame) value
	// estimate is what eval may cost in steps, for lists and texts of the assumed sizes.
	estimate() int
}

// frame is one evaluation: its event, its variables and what it may still spend.
type frame struct {
	event *MatchEvent
	steps int
	bytes int
	// spent is set once a budget is. && and || may absorb the error that the node returns, so this one counts.
	spent error
	slots []value
	few   [4]value
}

var (
	errSteps = errors.New("the filter costs too much for this event")
	errBytes = errors.New("the filter needs too much memory for this event")
	// errSpent is what nodes return then, made once since it may be returned often.
	errSpent = types.NewErrFromString(errSteps.Error())
)

// step pays for work; false means that the evaluation must end.
func (fr *frame) step(n int) bool {
	if fr.steps -= n; fr.steps >= 0 {
		return true
	}
	if fr.spent == nil {
		fr.spent = errSteps
	}
	return false
}

// allocate pays for memory.
func (fr *frame) allocate(n int) bool {
	if fr.bytes -= n; fr.bytes >= 0 {
		return true
	}
	if fr.spent == nil {
		fr.spent = errBytes
	}
	fr.steps = -1
	return false
}

func isError(v value) bool {
	_, is := v.(*types.Err)
	return is
}

// saturate keeps estimates of nested loops from overflowing.
func saturate(a, b int) int {
	if a > 0 && b > math.MaxInt32/a {
		return math.MaxInt32
	}
	return a * b
}

func estimates(nodes ...node) int {
	total := 1
	for _, n := range nodes {
		total = min(total+n.estimate(), math.MaxInt32)
	}
	return total
}

type constNode struct{ value value }

func (n constNode) eval(*frame) value { return n.value }
func (n constNode) estimate() int     { return 0 }

type slotNode int

func (n slotNode) eval(fr *frame) value { return fr.slots[n] }
func (n slotNode) estimate() int        { return 0 }

// fieldNode reads a field of the event.
type fieldNode int

func (n fieldNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	return fr.event.field(int(n))
}
func (n fieldNode) estimate() int { return 1 }

// selectNode is operand.key, or has(operand.key).
type selectNode struct {
	operand node
	key     string
	test    bool
	missing value // the error where there is no such key, made once
}

func (n *selectNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	operand := n.operand.eval(fr)
	switch o := operand.(type) {
	case *object:
		v, ok := o.find(n.key)
		switch {
		case n.test:
			return types.Bool(ok)
		case ok:
			return v
		}
		return n.missing
	case *types.Err:
		return operand
	}
	if n.test {
		return types.False
	}
	return n.missing
}
func (n *selectNode) estimate() int { return estimates(n.operand) }

// fail makes an error and pays for it.
func (fr *frame) fail(format string, args ...any) value {
	if !fr.step(20) || !fr.allocate(256) {
		return errSpent
	}
	return types.NewErr(format, args...)
}

// indexNode is operand[index].
type indexNode struct{ operand, index node }

func (n *indexNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	operand, index := n.operand.eval(fr), n.index.eval(fr)
	switch {
	case isError(operand):
		return operand
	case isError(index):
		return index
	}
	switch o := operand.(type) {
	case *object:
		if key, ok := index.(types.String); ok {
			if v, ok := o.find(string(key)); ok {
				return v
			}
		}
		return fr.fail("no such key: %v", shortly(index))
	case traits.Lister:
		elements := elements(o)
		i, err := types.IndexOrError(index)
		if err != nil || i < 0 || i >= len(elements) {
			return fr.fail("index out of bounds: %v", shortly(index))
		}
		return elements[i]
	}
	return fr.fail("no such key: %v", shortly(index))
}
func (n *indexNode) estimate() int { return estimates(n.operand, n.index) }

// logicNode is && or ||: a term that decides wins over an error in another.
type logicNode struct {
	terms []node
	stop  types.Bool // the value that decides: false for &&, true for ||
}

func (n *logicNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	var err value
	for _, t := range n.terms {
		v := t.eval(fr)
		b, ok := v.(types.Bool)
		if ok && b == n.stop {
			return b
		}
		if !ok && err == nil {
			err = types.MaybeNoSuchOverloadErr(v)
		}
	}
	if err != nil {
		return err
	}
	return !n.stop
}
func (n *logicNode) estimate() int { return estimates(n.terms...) }

type notNode struct{ operand node }

func (n *notNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	v := n.operand.eval(fr)
	if b, ok := v.(types.Bool); ok {
		return !b
	}
	return types.MaybeNoSuchOverloadErr(v)
}
func (n *notNode) estimate() int { return estimates(n.operand) }

type conditionalNode struct{ condition, yes, no node }

func (n *conditionalNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	c := n.condition.eval(fr)
	b, ok := c.(types.Bool)
	switch {
	case !ok:
		return types.MaybeNoSuchOverloadErr(c)
	case bool(b):
		return n.yes.eval(fr)
	}
	return n.no.eval(fr)
}
func (n *conditionalNode) estimate() int {
	return estimates(n.condition) + max(n.yes.estimate(), n.no.estimate())
}

// equalNode is == or !=.
type equalNode struct {
	left, right node
	not         bool
}

func (n *equalNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	l, r := n.left.eval(fr), n.right.eval(fr)
	switch {
	case isError(l):
		return l
	case isError(r):
		return r
	case !fr.payToCompare(l, r):
		return errSpent
	}
	equal := types.Equal(l, r)
	if b, ok := equal.(types.Bool); ok && n.not {
		return !b
	}
	return equal
}
func (n *equalNode) estimate() int { return estimates(n.left, n.right) + assumedTextLen/256 }

// payToCompare pays for an equality: what the smaller of the two holds. Values that cannot be equal are
// cheap, so the smaller one is found by walking both at once.
func (fr *frame) payToCompare(l, r value) bool {
	switch l := l.(type) {
	case types.String:
		r, ok := r.(types.String)
		return !ok || len(l) != len(r) || fr.step(len(l)/256)
	case *object:
		r, ok := r.(*object)
		if !ok || len(l.fields) != len(r.fields) {
			return true
		}
		for i, f := range l.fields {
			if !fr.step(2) || !fr.payToCompare(f.value, r.fields[i].value) {
				return false
			}
		}
	case traits.Lister:
		r, ok := r.(traits.Lister)
		if !ok {
			return true
		}
		ls, rs := elements(l), elements(r)
		if len(ls) != len(rs) {
			return true
		}
		for i := range ls {
			if !fr.step(2) || !fr.allocate(16) || !fr.payToCompare(ls[i], rs[i]) {
				return false
			}
		}
	}
	return true
}

// callNode is any other function or operator, by cel-go's own implementation.
type callNode struct {
	name        string
	fn          *functions.Overload
	left, right node // right is nil where there is one argument
	arithmetic  bool
}

func (n *callNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	l := n.left.eval(fr)
	if isError(l) && !n.fn.NonStrict {
		return l
	}
	r := l
	if n.right != nil {
		if r = n.right.eval(fr); isError(r) && !n.fn.NonStrict {
			return r
		}
	}
	if n.arithmetic {
		l, r = mix(l, r, n.name == operators.Modulo)
	}
	if !fr.payForCall(n.name, l, r) {
		return errSpent
	}
	v := n.call(l, r)
	if isError(v) && (!fr.step(20) || !fr.allocate(256)) {
		return errSpent
	}
	return v
}

func (n *callNode) call(l, r value) value {
	if n.fn.OperandTrait != 0 && !n.fn.NonStrict && !l.Type().HasTrait(n.fn.OperandTrait) {
		return types.NoSuchOverloadErr()
	}
	switch {
	case n.right == nil && n.fn.Unary != nil:
		return n.fn.Unary(l)
	case n.right == nil:
		return n.fn.Function(l)
	case n.fn.Binary != nil:
		return n.fn.Binary(l, r)
	}
	return n.fn.Function(l, r)
}

func (n *callNode) estimate() int {
	cost := estimates(n.left)
	if n.right != nil {
		cost += n.right.estimate()
	}
	switch n.name {
	case operators.In:
		return cost + assumedListLen
	case "size", "contains", "startsWith", "endsWith", "string", "int", "double", operators.Add:
		return cost + 1 + assumedTextLen/64
	}
	return cost
}

// mix makes arithmetic of whole and fractional numbers possible. Every number of JSON is a double, so that
// without it event.data.total * 2 would have no overload; and % has none for doubles.
func mix(a, b value, modulo bool) (value, value) {
	_, aDouble := a.(types.Double)
	_, bDouble := b.(types.Double)
	switch {
	case modulo:
		return whole(a), whole(b)
	case aDouble && !bDouble:
		return a, fraction(b)
	case bDouble && !aDouble:
		return fraction(a), b
	}
	return a, b
}

func whole(v value) value {
	if d, ok := v.(types.Double); ok && d == types.Double(math.Trunc(float64(d))) && math.Abs(float64(d)) < 1<<53 {
		return types.Int(d)
	}
	return v
}

func fraction(v value) value {
	switch n := v.(type) {
	case types.Int:
		return types.Double(n)
	case types.Uint:
		return types.Double(n)
	}
	return v
}

// payForCall pays for a function before it runs; r is l where there is one argument.
func (fr *frame) payForCall(name string, l, r value) bool {
	switch name {
	case operators.In:
		if list, ok := r.(traits.Lister); ok {
			return fr.payToFind(l, list)
		}
		return true
	case operators.Add:
		if _, is := l.(traits.Lister); is {
			fr.spent = errors.New("lists cannot be added in a filter")
			return false
		}
		size := textLen(l) + textLen(r)
		return fr.step(size/64) && fr.allocate(16+size)
	case operators.NotStrictlyFalse, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return fr.step(min(textLen(l), textLen(r)) / 256)
	case operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate:
		return fr.allocate(16)
	case "contains", "startsWith", "endsWith", "type", "dyn", "bool":
		return fr.step(textLen(l)/64) && fr.allocate(8)
	}
	// Conversions and parsing: a text is copied at most once, a number takes some dozen bytes.
	size := textLen(l)
	return fr.step(2+size/16) && fr.allocate(64+size)
}

// payToFind pays for looking through a list.
func (fr *frame) payToFind(v value, l traits.Lister) bool {
	switch v.(type) {
	case *object, traits.Lister:
		for _, e := range elements(l) {
			if !fr.step(1) || !fr.payToCompare(v, e) {
				return false
			}
		}
		return true
	}
	return fr.step(len(elements(l)) * (1 + textLen(v)/256))
}

func textLen(v value) int {
	if s, ok := v.(types.String); ok {
		return len(s)
	}
	return 0
}

// elements of a list: every list here was made of values, so none is converted or boxed.
func elements(l traits.Lister) []value {
	e, _ := l.Value().([]value)
	return e
}

// shortly cuts a text for a message.
func shortly(v value) any {
	if s, ok := v.(types.String); ok && len(s) > maxSeenText {
		return s[:maxSeenText]
	}
	return v
}

// patternNode is text.matches(pattern).
type patternNode struct {
	text    node
	pattern *regexp.Regexp
	size    int // instructions
}

func (n *patternNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	v := n.text.eval(fr)
	text, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	if !fr.step(n.cost(len(text))) {
		return errSpent
	}
	return types.Bool(n.pattern.MatchString(string(text)))
}

func (n *patternNode) cost(length int) int { return saturate(1+length, n.size) / 10 }
func (n *patternNode) estimate() int       { return estimates(n.text) + n.cost(assumedTextLen) }

type listNode struct{ elements []node }

func (n *listNode) eval(fr *frame) value {
	if !fr.step(1) || !fr.allocate(64+16*len(n.elements)) {
		return errSpent
	}
	elements := make([]value, len(n.elements))
	for i, e := range n.elements {
		v := e.eval(fr)
		if isError(v) {
			return v
		}
		elements[i] = v
	}
	return types.NewRefValList(types.DefaultTypeAdapter, elements)
}
func (n *listNode) estimate() int { return estimates(n.elements...) }

// foldNode is a comprehension: all, exists or exists_one over a list, or over the keys of an object.
type foldNode struct {
	over, init         node
	item, accu         int // slots
	goOn, step, result node
}

func (n *foldNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	over := n.over.eval(fr)
	fr.slots[n.accu] = n.init.eval(fr)
	switch o := over.(type) {
	case *types.Err:
		return over
	case *object:
		for _, f := range o.fields {
			if !fr.allocate(16) || !n.iterate(fr, types.String(f.key)) {
				break
			}
		}
	case traits.Lister:
		for _, e := range elements(o) {
			if !n.iterate(fr, e) {
				break
			}
		}
	default:
		return fr.fail("a %s cannot be looped over", over.Type().TypeName())
	}
	return n.result.eval(fr)
}

// iterate does one round; false ends the loop.
func (n *foldNode) iterate(fr *frame, item value) bool {
	if !fr.step(1) {
		return false
	}
	if goOn, ok := n.goOn.eval(fr).(types.Bool); ok && !bool(goOn) {
		return false
	}
	fr.slots[n.item] = item
	fr.slots[n.accu] = n.step.eval(fr)
	return fr.spent == nil
}

func (n *foldNode) estimate() int {
	rounds := assumedListLen
	if c, ok := n.over.(constNode); ok {
		if l, ok := c.value.(traits.Lister); ok {
			rounds = len(elements(l))
		}
	}
	return estimates(n.over, n.init, n.result) + saturate(rounds, estimates(n.goOn, n.step))
}
