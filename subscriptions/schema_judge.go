package subscriptions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/message"
)

// ErrTooCostly says that judging data by a schema takes more steps than data of its size may take.
var ErrTooCostly = errors.New("costs too much to judge by the schema")

const (
	// leastSteps and stepsPerByte are how many steps judging data may take. A step is a look at a value by one keyword, 50 ns.
	// A list of objects of twenty kinds takes about 5 steps for each byte.
	leastSteps   = 20_000
	stepsPerByte = 20
	// stepsUnasked is how many steps go by before over is looked at again.
	stepsUnasked = 4096 // 0.2 ms
	// A judging that takes longer than judgeAtOnce rests after each judgeStretch, so many times as long as it worked. Otherwise as
	// many of them as there are cores would leave nothing to deliveries.
	judgeAtOnce  = 5 * time.Millisecond
	judgeStretch = time.Millisecond
	judgeRest    = 2
	// maxJudgeDepth bounds the values and schemas within each other: each takes stack.
	maxJudgeDepth = 2000
)

func stepsFor(bytes int) int { return leastSteps + stepsPerByte*bytes }

// judging is one look at a value by a schema. jsonschema compiles schemas and is not used to judge data: it collects every failure
// of every branch, cannot be stopped, and has no bound.
type judging struct {
	*schema
	over    <-chan struct{} // closed when the judging is to stop; nil: never
	steps   int             // that are left
	unasked int             // steps until over is looked at
	rest    time.Time       // when it rests next; zero: never
	depth   int
	scope   []string // the documents that were entered, for $dynamicRef
	// explain asks for all that does not fit, rather than for a verdict.
	explain bool
	found   []Violation
	at      []string // the place of the value
	words   *message.Printer
}

// stopped ends a judging from within.
type stopped struct{ err error }

var (
	errEnough = errors.New("enough was found") // as much as is shown
	errOver   = errors.New("nobody waits for the judging any more")
)

// run reports whether a value fits. The error is ErrTooCostly or errOver.
func (j *judging) run(v any) (fits bool, err error) {
	defer func() {
		switch cause := recover().(type) {
		case nil:
		case stopped:
			err = cause.err
		default:
			panic(cause)
		}
	}()
	j.pause() // What came before, such as decoding, could not be interrupted.
	return j.fits(j.root, v, nil), nil
}

// spend takes steps from the budget.
func (j *judging) spend(n int) {
	if j.steps -= n; j.steps < 0 {
		panic(stopped{ErrTooCostly})
	}
	if j.unasked -= n; j.unasked <= 0 {
		j.unasked = stepsUnasked
		j.pause()
	}
}

// pause rests where it is time, and ends the judging if it is over.
func (j *judging) pause() {
	late := time.Since(j.rest)
	if j.rest.IsZero() || late < 0 {
		select {
		case <-j.over:
			panic(stopped{errOver})
		default:
			return
		}
	}
	timer := time.NewTimer(judgeRest * (judgeStretch + late))
	defer timer.Stop()
	select {
	case <-timer.C:
		j.rest = time.Now().Add(judgeStretch)
	case <-j.over:
		panic(stopped{errOver})
	}
}

// fault notes a violation at the place of the value, or at a member of it, and is false.
func (j *judging) fault(what jsonschema.ErrorKind, member ...string) bool {
	if !j.explain {
		return false
	}
	place := make([]string, 0, len(j.at)+len(member))
	for _, name := range slices.Concat(j.at, member) {
		place = append(place, clipped(name))
	}
	v := Violation{Location: location(place), Message: violationText(what, j.words)}
	if !slices.Contains(j.found, v) {
		j.found = append(j.found, v)
	}
	if len(j.found) == maxViolations {
		panic(stopped{errEnough})
	}
	return false
}

// goOn says whether to look for more: a verdict needs the first failure only.
func (j *judging) goOn(ok bool) bool { return ok || j.explain }

// fits judges a value, and notes in seen which members the schema looked at; nil: nobody asks.
func (j *judging) fits(s *jsonschema.Schema, v any, seen *evaluated) bool {
	j.spend(1)
	if j.depth++; j.depth > maxJudgeDepth {
		panic(stopped{ErrTooCostly})
	}
	defer j.enter(s)()
	if s.Bool != nil {
		return *s.Bool || j.fault(&kind.FalseSchema{})
	}
	own := seen
	if s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil {
		own = &evaluated{} // what its parent and its neighbours looked at counts for nothing here
	}
	ok := j.isOne(s, v)
	if !ok {
		return false // of another type than all the rest is about
	}
	ok = j.refs(s, v, own)
	if j.goOn(ok) {
		ok = j.byType(s, v, own) && ok
	}
	if j.goOn(ok) {
		ok = j.branches(s, v, own) && ok
	}
	if ok {
		ok = j.unevaluated(s, v, own)
	}
	if ok && own != seen && seen != nil {
		j.merge(seen, own)
	}
	return ok
}

// enter notes the document of a schema while it is looked at, where a $dynamicRef may ask for it.
func (j *judging) enter(s *jsonschema.Schema) (leave func()) {
	if len(j.anchors) == 0 {
		return func() { j.depth-- }
	}
	j.scope = append(j.scope, documentOf(s))
	return func() {
		j.depth--
		j.scope = j.scope[:len(j.scope)-1]
	}
}

// holds judges without noting what does not fit.
func (j *judging) holds(s *jsonschema.Schema, v any, seen *evaluated) bool {
	explain := j.explain
	j.explain = false
	ok := j.fits(s, v, seen)
	j.explain = explain
	return ok
}

// member judges a member of the value.
func (j *judging) member(s *jsonschema.Schema, v any, name string) bool {
	j.at = append(j.at, name)
	ok := j.fits(s, v, nil)
	j.at = j.at[:len(j.at)-1]
	return ok
}

// isOne judges type, const and enum.
func (j *judging) isOne(s *jsonschema.Schema, v any) bool {
	if s.Types != nil && *s.Types != 0 && !j.isType(*s.Types, v) {
		return j.fault(&kind.Type{Got: typeName(v), Want: s.Types.ToStrings()})
	}
	if s.Const != nil && !j.isAmong(j.wanted[s].constant, v) {
		return j.fault(&kind.Const{Want: *s.Const})
	}
	if s.Enum != nil && !j.isAmong(j.wanted[s].enum, v) {
		return j.fault(&kind.Enum{Want: s.Enum.Values})
	}
	return true
}

func (j *judging) isType(types jsonschema.Types, v any) bool {
	if types&typeOf(v) != 0 {
		return true
	}
	n, ok := v.(json.Number)
	return ok && types&integerType != 0 && j.isInteger(n)
}

// refs judges by what the schema refers to.
func (j *judging) refs(s *jsonschema.Schema, v any, own *evaluated) bool {
	ok := s.Ref == nil || j.fits(s.Ref, v, own)
	if d := s.DynamicRef; d != nil && j.goOn(ok) {
		ok = j.fits(j.resolve(d), v, own) && ok
	}
	return ok
}

// resolve finds what a $dynamicRef refers to: the anchor of the outermost document that has it.
func (j *judging) resolve(d *jsonschema.DynamicRef) *jsonschema.Schema {
	if d.Anchor == "" || d.Ref.DynamicAnchor != d.Anchor {
		return d.Ref
	}
	j.spend(len(j.scope))
	for _, document := range j.scope {
		if s := j.anchors[document][d.Anchor]; s != nil {
			return s
		}
	}
	return d.Ref
}

// branches judges by the schemas that are put together to one.
func (j *judging) branches(s *jsonschema.Schema, v any, own *evaluated) bool {
	ok := true
	if s.Not != nil && j.holds(s.Not, v, nil) {
		ok = j.fault(&kind.Not{})
	}
	for _, sub := range s.AllOf {
		if !j.goOn(ok) {
			return false
		}
		ok = j.fits(sub, v, own) && ok
	}
	if len(s.AnyOf) > 0 && j.goOn(ok) {
		ok = j.anyOf(s.AnyOf, v, own) && ok
	}
	if len(s.OneOf) > 0 && j.goOn(ok) {
		ok = j.oneOf(s.OneOf, v, own) && ok
	}
	if s.If != nil && j.goOn(ok) {
		ok = j.ifThen(s, v, own) && ok
	}
	return ok
}

func (j *judging) anyOf(subs []*jsonschema.Schema, v any, own *evaluated) bool {
	ok := false
	for _, sub := range subs {
		if j.tried(sub, v, own) {
			ok = true
			if own == nil {
				break
			}
		}
	}
	return ok || j.none(subs, v, &kind.AnyOf{})
}

func (j *judging) oneOf(subs []*jsonschema.Schema, v any, own *evaluated) bool {
	matched := -1
	for i, sub := range subs {
		switch {
		case !j.tried(sub, v, own):
		case matched >= 0:
			return j.fault(&kind.OneOf{Subschemas: []int{matched, i}})
		default:
			matched = i
		}
	}
	return matched >= 0 || j.none(subs, v, &kind.OneOf{})
}

// tried judges by a branch that need not hold, and counts what it looked at only where it does.
func (j *judging) tried(sub *jsonschema.Schema, v any, own *evaluated) bool {
	var branch *evaluated
	if own != nil {
		branch = &evaluated{}
	}
	ok := j.holds(sub, v, branch)
	if ok && own != nil {
		j.merge(own, branch)
	}
	return ok
}

// none notes why no branch holds; it is false.
func (j *judging) none(subs []*jsonschema.Schema, v any, what jsonschema.ErrorKind) bool {
	if !j.explain {
		return false
	}
	before := len(j.found)
	for _, sub := range subs {
		j.fits(sub, v, nil)
	}
	return len(j.found) > before || j.fault(what)
}

func (j *judging) ifThen(s *jsonschema.Schema, v any, own *evaluated) bool {
	then := s.Else
	if j.tried(s.If, v, own) {
		then = s.Then
	}
	return then == nil || j.fits(then, v, own)
}

// byType judges by the keywords that are about one type.
func (j *judging) byType(s *jsonschema.Schema, v any, own *evaluated) bool {
	switch v := v.(type) {
	case map[string]any:
		return j.object(s, v, own)
	case []any:
		return j.array(s, v, own)
	case string:
		return j.text(s, v)
	case json.Number:
		return j.number(s, v)
	}
	return true
}

// violationText is the text of a violation, with the values that it shows cut short.
func violationText(what jsonschema.ErrorKind, p *message.Printer) string {
	more := ""
	switch k := what.(type) {
	case *kind.Enum:
		if len(k.Want) > maxShown {
			more = fmt.Sprintf(" or %d others", len(k.Want)-maxShown)
			what = &kind.Enum{Want: k.Want[:maxShown]}
		}
	case *kind.AdditionalProperties:
		if len(k.Properties) > maxShown {
			more = fmt.Sprintf(", and %d others", len(k.Properties)-maxShown)
			what = &kind.AdditionalProperties{Properties: k.Properties[:maxShown]}
		}
	}
	text := what.LocalizedString(p)
	if len(text) > maxMessage {
		text = strings.ToValidUTF8(text[:maxMessage], "") + "..."
	}
	return text + more
}

const (
	maxShown   = 10  // wanted values and names that a violation shows
	maxMessage = 300 // bytes of its text
)

// sorted are the names of an object, in order where violations are shown, so that the same ones are.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
