package subscriptions

import (
	"regexp"

	"cel.dev/cel-go/common/types"
)

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
