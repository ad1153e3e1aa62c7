package filter

import (
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"
)

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

// iterate runs one round; false ends the loop.
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
