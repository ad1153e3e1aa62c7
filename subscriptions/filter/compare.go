package filter

import (
	"slices"

	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
)

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
	same := equal(l, r)
	if b, ok := same.(types.Bool); ok && n.not {
		return !b
	}
	return same
}
func (n *equalNode) estimate() int { return estimates(n.left, n.right) + assumedTextLen/256 }

// equal is cel-go's equality, except that numbers are compared exactly, also within lists and objects.
func equal(l, r value) value {
	if c, ok := compareNumbers(l, r); ok {
		return types.Bool(c == 0)
	}
	if a, ok := l.(traits.Lister); ok {
		b, ok := r.(traits.Lister)
		return types.Bool(ok && equalLists(elements(a), elements(b)))
	}
	return types.Equal(l, r) // an object calls equal again
}

func equalLists(a, b []value) bool {
	return slices.EqualFunc(a, b, func(x, y value) bool { return equal(x, y) == types.True })
}

// contains is the operator in for a list, by equal; false for other operands.
func contains(v, in value) (value, bool) {
	l, ok := in.(traits.Lister)
	if !ok {
		return nil, false
	}
	return types.Bool(slices.ContainsFunc(elements(l), func(e value) bool { return equal(v, e) == types.True })), true
}

// ordered is <, <=, > or >= of two numbers; false if an operand is not a number, or is NaN.
func ordered(operator string, l, r value) (value, bool) {
	c, ok := compareNumbers(l, r)
	if !ok {
		return nil, false
	}
	switch operator {
	case operators.Less:
		return types.Bool(c < 0), true
	case operators.LessEquals:
		return types.Bool(c <= 0), true
	case operators.Greater:
		return types.Bool(c > 0), true
	}
	return types.Bool(c >= 0), true
}

// payToCompare spends the cost of an equality: the size of the smaller value. Values that cannot be equal are cheap, so
// both values are walked at once.
func (fr *frame) payToCompare(l, r value) bool {
	switch l := l.(type) {
	case types.Double, types.Int, types.Uint, *wide:
		return fr.step(digitCost(l) + digitCost(r))
	case types.String:
		r, ok := r.(types.String)
		return !ok || len(l) != len(r) || fr.step(len(l)/256)
	case *object:
		r, ok := r.(*object)
		if !ok || len(l.fields) != len(r.fields) {
			return true
		}
		for i, f := range l.fields {
			if !fr.step(2+len(f.key)/256) || !fr.payToCompare(f.value, r.fields[i].value) {
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

// payToFind spends the cost of searching a list.
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
	return fr.step(len(elements(l)) * (1 + textLen(v)/256 + digitCost(v)))
}

func textLen(v value) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case *wide:
		return len(v.text)
	}
	return 0
}

// elements returns the values of a list. Every list here was made of values, so nothing is converted or boxed.
func elements(l traits.Lister) []value {
	e, _ := l.Value().([]value)
	return e
}

// shortly returns a value for a message: a text is cut, a list or an object is represented by its type.
func shortly(v value) any {
	switch v := v.(type) {
	case types.String:
		return v[:min(len(v), maxSeenText)]
	case types.Double:
		return doubleText(v)
	case types.Bool, types.Int, types.Uint:
		return v
	}
	return v.Type().TypeName()
}
