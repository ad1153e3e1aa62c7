package subscriptions

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"cel.dev/cel-go/common/types"
)

// maxPatternProgram bounds the instructions of a regular expression; Go's engine needs at most that many
// visits for each byte of the text.
const maxPatternProgram = 500

// compilePattern compiles a regular expression that is not too large, and returns its instructions.
func compilePattern(text string) (pattern *regexp.Regexp, instructions int, err error) {
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	// Repetitions are counted before they are unfolded: three thousand letters a thousand times take 600 MB.
	if unfolded(parsed) <= 10*maxPatternProgram {
		program, err := syntax.Compile(parsed.Simplify())
		if err != nil {
			return nil, 0, err
		}
		if len(program.Inst) <= maxPatternProgram {
			pattern, err = regexp.Compile(text)
			return pattern, len(program.Inst), err
		}
	}
	return nil, 0, fmt.Errorf("the pattern is too large: it takes more than %d instructions", maxPatternProgram)
}

// unfolded is about how many instructions a regular expression takes; the parser bounds what repetitions multiply to.
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
		return noOverload(v)
	}
	if !fr.step(n.cost(len(text))) {
		return errSpent
	}
	if len(text) > maxBacktracked {
		return types.Bool(n.pattern.MatchReader(strings.NewReader(string(text))))
	}
	return types.Bool(n.pattern.MatchString(string(text)))
}

// maxBacktracked is how long a text may be that is matched by backtracking, which remembers every place that it has yet to
// look at: 300 KiB for 4 KiB of text. What reads its text rune by rune takes as long and remembers the program only.
const maxBacktracked = 256

// visits are how often an instruction may be looked at, 10 ns each at most.
func (n *patternNode) visits(length int) int { return saturate(1+length, n.size) }
func (n *patternNode) cost(length int) int   { return n.visits(length) / 5 }
func (n *patternNode) estimate() int         { return estimates(n.text) + n.visits(assumedTextLen)/10 }
