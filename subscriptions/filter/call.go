package filter

import (
	"errors"
	"math"
	"strconv"

	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
)

// maxTimeText bounds the texts that are parsed as timestamps.
const maxTimeText = 64

// errNoTime is the error for a longer text.
var errNoTime = types.NewErrFromString("the text is not a timestamp: it is too long")

// callNode calls cel-go's implementation of a function or operator without a node of its own.
type callNode struct {
	name        string
	fn          *functions.Overload
	left, right node // right is nil for one argument
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
		l, r = mix(narrow(l), narrow(r), n.name == operators.Modulo)
	}
	if n.name == "timestamp" && textLen(l) > maxTimeText {
		return errNoTime // cel-go's error would quote all of it, several times.
	}
	if !fr.payForCall(n.name, l, r) {
		return errSpent
	}
	v := n.apply(l, r)
	if isError(v) && (!fr.step(20) || !fr.allocate(512)) {
		return errSpent
	}
	return v
}

// apply calls the function. Comparing, finding and writing numbers is Fanfare's own.
func (n *callNode) apply(l, r value) value {
	switch n.name {
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if v, ok := ordered(n.name, l, r); ok {
			return v
		}
	case operators.In:
		if v, ok := contains(l, r); ok {
			return v
		}
	case "string":
		switch l := l.(type) {
		case types.Double:
			return types.String(doubleText(l))
		case *wide:
			return types.String(l.text)
		}
	}
	return n.call(narrow(l), narrow(r))
}

// narrow converts a wide number to a double for cel-go's functions: infinity, zero or rounded.
func narrow(v value) value {
	if w, ok := v.(*wide); ok {
		f, _ := strconv.ParseFloat(w.text, 64)
		return types.Double(f)
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

// mix converts operands so that arithmetic can mix whole and fractional numbers. Every number of JSON is a double, so
// event.data.total * 2 would have no overload otherwise; % has no overload for doubles.
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

// payForCall spends the cost of a function before it runs; r is l for one argument.
func (fr *frame) payForCall(name string, l, r value) bool {
	switch name {
	case operators.In:
		if list, ok := r.(traits.Lister); ok {
			return fr.payToFind(l, list)
		}
		return fr.step(textLen(l) / 64)
	case operators.Add:
		if _, is := l.(traits.Lister); is {
			fr.spent = errors.New("lists cannot be added in a filter")
			return false
		}
		size := textLen(l) + textLen(r)
		return fr.step(size/64) && fr.allocate(48+size)
	case operators.NotStrictlyFalse, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		return fr.step(min(textLen(l), textLen(r))/256 + digitCost(l) + digitCost(r))
	case operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo, operators.Negate:
		return fr.allocate(16)
	case "contains":
		return fr.step(textLen(l) / 32)
	case "startsWith", "endsWith", "type", "dyn":
		return fr.step(textLen(l)/64) && fr.allocate(8)
	}
	// Conversions and parsing: a text is copied at most once, a number takes some dozen bytes.
	size := textLen(l)
	return fr.step(2+size/16) && fr.allocate(64+size)
}
