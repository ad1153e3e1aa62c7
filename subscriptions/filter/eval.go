package filter

import (
	"errors"
	"math"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

type value = ref.Val

// node is a planned expression.
type node interface {
	// eval returns a value or a *types.Err.
	eval(*frame) value
	// estimate returns the steps that eval may cost, for lists and texts of the assumed sizes.
	estimate() int
}

// frame is one evaluation: its event, its variables and the rest of its budgets.
type frame struct {
	input *Input
	steps int
	bytes int
	// spent is set when a budget is spent. It decides, because && and || may absorb the error that the node returns.
	spent error
	slots []value
	few   [4]value
}

var (
	errSteps = errors.New("the filter costs too much for this event")
	errBytes = errors.New("the filter needs too much memory for this event")
	// errSpent is the value that nodes return then. It is made once because it may be returned often.
	errSpent = types.NewErrFromString(errSteps.Error())
	// errOverload is the error of an operator whose operand has another type, also made once.
	errOverload = types.NewErrFromString("no such overload")
)

// noOverload returns the error for an operand that an operator does not accept: the operand itself if it is an error.
func noOverload(operand value) value {
	if isError(operand) {
		return operand
	}
	return errOverload
}

// step spends steps; false means that the evaluation must end.
func (fr *frame) step(n int) bool {
	if fr.steps -= n; fr.steps >= 0 {
		return true
	}
	if fr.spent == nil {
		fr.spent = errSteps
	}
	return false
}

// allocate spends bytes; false means that the evaluation must end.
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
	return fr.input.field(int(n))
}
func (n fieldNode) estimate() int { return 1 }

// selectNode is operand.key, or has(operand.key).
type selectNode struct {
	operand node
	key     string
	test    bool
	missing value // the error for a missing key, made once
}

func (n *selectNode) eval(fr *frame) value {
	if !fr.step(keyCost(len(n.key))) {
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
func (n *selectNode) estimate() int { return estimates(n.operand) + keyCost(len(n.key)) - 1 }

// keyCost returns the steps for finding a key in an object: keys with a long common prefix are compared to their ends, and
// an event has room for fewer keys the longer they are.
func keyCost(length int) int { return 1 + length/64 }

// fail makes an error and spends its cost.
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
			if !fr.step(keyCost(len(key))) {
				return errSpent
			}
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
			err = noOverload(v)
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
	return noOverload(v)
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
		return noOverload(c)
	case bool(b):
		return n.yes.eval(fr)
	}
	return n.no.eval(fr)
}
func (n *conditionalNode) estimate() int {
	return estimates(n.condition) + max(n.yes.estimate(), n.no.estimate())
}
