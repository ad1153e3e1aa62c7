package filter

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/common/types"
)

// MaxInstructions bounds the program of a regular expression. For each byte of the text, Go's engine visits each
// instruction at most once.
const MaxInstructions = 500

// maxBacktracked bounds the texts that are matched by backtracking, which remembers every place that it has yet to
// visit: 300 KiB for a text of 4 KiB. Matching rune by rune takes as long and remembers only the program.
const maxBacktracked = 256

// Pattern is a regular expression of bounded cost.
type Pattern struct {
	re           *regexp.Regexp
	Instructions int // of its program
}

// CompilePattern compiles a regular expression of at most MaxInstructions.
func CompilePattern(text string) (*Pattern, error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	// Repetitions are counted before they are unfolded: three thousand letters a thousand times take 600 MB.
	if unfolded(parsed) <= 10*MaxInstructions {
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return nil, err
		}
		if len(program.Inst) <= MaxInstructions {
			re, err := regexp.Compile(text)
			return &Pattern{re: re, Instructions: len(program.Inst)}, err
		}
	}
	return nil, fmt.Errorf("the pattern is too large: it takes more than %d instructions", MaxInstructions)
}

// MatchString reports whether the text contains a match.
func (p *Pattern) MatchString(text string) bool {
	if len(text) > maxBacktracked {
		return p.re.MatchReader(strings.NewReader(text))
	}
	return p.re.MatchString(text)
}

// String returns the source of the regular expression.
func (p *Pattern) String() string { return p.re.String() }

// unfolded estimates the instructions of a regular expression; the parser bounds the product of repetitions.
func unfolded(re *syntax.Regexp) int {
	n := max(1, len(re.Rune))
	if re.Op == syntax.OpCharClass {
		n = 1
	}
	for _, sub := range re.Sub {
		n += unfolded(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(1, re.Min, re.Max)
	}
	return n
}

// patternNode is text.matches(pattern).
type patternNode struct {
	text    node
	pattern *Pattern
}

func (n *patternNode) eval(fr *frame) value {
	if !fr.step(1) {
		return errSpent
	}
	v := n.text.eval(fr)
	text, ok := v.(types.String)
	if !ok {
		return noOverload(v)
	}
	if !fr.step(n.cost(len(text))) {
		return errSpent
	}
	return types.Bool(n.pattern.MatchString(string(text)))
}

// visits bounds the visits of instructions for a text; each takes 10 ns at most.
func (n *patternNode) visits(length int) int { return saturate(1+length, n.pattern.Instructions) }
func (n *patternNode) cost(length int) int   { return n.visits(length) / 5 }
func (n *patternNode) estimate() int         { return estimates(n.text) + n.visits(assumedTextLen)/10 }
