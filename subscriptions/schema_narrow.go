package subscriptions

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	// maxPlaces is how many places are found at most.
	maxPlaces = 20
	// maxPairs is how many pairs of schemas are compared at most, and narrowSteps how many steps judging the values that a schema
	// lists may take: some 0.1 s.
	maxPairs    = 10_000
	narrowSteps = 2_000_000
)

// narrowing compares a schema with the one that it replaces. It tells only what it is sure of: it stops where the former
// schema has branches (anyOf, oneOf, not, if) or keywords that depend on others.
type narrowing struct {
	over         <-chan struct{} // closed when nobody waits for it
	former, next *schema
	seen         map[string]bool
	steps        int // for judging values
	found        []Fault
}

// whole are the schemas that a value must all fit: a schema, what it refers to, and its allOf.
type whole []*jsonschema.Schema

// narrowed returns the places of the new schema that refuse a value which the former one took, as far as that can be told. A
// new optional property of an open object is not among them: the former schema took any value for it, but only events tell
// whether there are such values.
func narrowed(ctx context.Context, former, next *schema) []Fault {
	n := &narrowing{over: ctx.Done(), former: former, next: next, seen: map[string]bool{}, steps: narrowSteps}
	n.pair(wholeOf(former.root), next.root)
	slices.SortFunc(n.found, func(a, b Fault) int { return strings.Compare(a.Field+" "+a.Message, b.Field+" "+b.Message) })
	return slices.Compact(n.found)
}

func wholeOf(schemas ...*jsonschema.Schema) (w whole) {
	for queue := schemas; len(queue) > 0; {
		s := queue[0]
		if queue = queue[1:]; s == nil || slices.Contains(w, s) {
			continue
		}
		w = append(w, s)
		queue = append(queue, s.Ref)
		queue = append(queue, s.AllOf...)
	}
	return w
}

// at notes a place: a keyword of the new schema, as a JSON Pointer below "schema".
func (n *narrowing) at(s *jsonschema.Schema, keyword, format string, args ...any) {
	if len(n.found) < maxPlaces {
		_, fragment, _ := strings.Cut(s.Location, "#")
		pointer, err := url.PathUnescape(fragment)
		if err != nil {
			pointer = fragment
		}
		n.found = append(n.found, Fault{"schema" + pointer + keyword, fmt.Sprintf(format, args...)})
	}
}

// first reports whether a pair is met for the first time, and is within the bounds.
func (n *narrowing) first(former whole, next *jsonschema.Schema) bool {
	var key strings.Builder
	for _, s := range former {
		key.WriteString(s.Location + " ")
	}
	key.WriteString("> " + next.Location)
	if n.seen[key.String()] || len(n.seen) == maxPairs || len(n.found) == maxPlaces {
		return false
	}
	n.seen[key.String()] = true
	return true
}

// pair compares the schemas of a value.
func (n *narrowing) pair(former whole, next *jsonschema.Schema) {
	if !n.first(former, next) {
		return
	}
	takes := former.types()
	if takes == 0 {
		return
	}
	if values, finite := former.values(takes); finite {
		n.values(former, values, next)
		return
	}
	if slices.ContainsFunc(former, illegible) {
		return
	}
	for _, s := range wholeOf(next) {
		n.one(former, takes, s)
	}
}

// illegible reports whether a schema constrains values in ways that are not looked at.
func illegible(s *jsonschema.Schema) bool {
	return len(s.AnyOf)+len(s.OneOf)+len(s.DependentSchemas) > 0 || s.Not != nil || s.If != nil || s.DynamicRef != nil ||
		s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil
}

// one compares with one of the schemas that the new one consists of.
func (n *narrowing) one(former whole, takes jsonschema.Types, s *jsonschema.Schema) {
	switch {
	case s.Bool != nil && *s.Bool:
		return
	case s.Bool != nil:
		n.at(s, "", "takes nothing any more")
		return
	case s.Enum != nil:
		n.at(s, "/enum", "takes no other values any more")
		return
	case s.Const != nil:
		n.at(s, "/const", "takes no other values any more")
		return
	}
	kept := takes & typesIn(s)
	if gone := takes &^ kept; gone != 0 {
		if gone&numberType != 0 {
			gone &^= integerType
		}
		n.at(s, "/type", "no longer takes %s", strings.Join(gone.ToStrings(), ", "))
	}
	if kept&integerType != 0 {
		n.numbers(former, kept&numberType == 0, s)
	}
	if kept&stringType != 0 {
		n.texts(former, s)
	}
	if kept&objectType != 0 {
		n.objects(former, s)
	}
	if kept&arrayType != 0 {
		n.arrays(former, s)
	}
}

// typesIn are the types that a schema takes; numbers include integers.
func typesIn(s *jsonschema.Schema) jsonschema.Types {
	if s.Types == nil || *s.Types == 0 {
		return allTypes
	}
	t := *s.Types
	if t&numberType != 0 {
		t |= integerType
	}
	return t
}

var allTypes = nullType | booleanType | stringType | numberType | integerType | arrayType | objectType

// types are the types that all of the schemas take.
func (w whole) types() jsonschema.Types {
	t := allTypes
	for _, s := range w {
		if s.Bool != nil && !*s.Bool {
			return 0
		}
		t &= typesIn(s)
	}
	return t
}

// values are those that the schemas list, or all there are of their types.
func (w whole) values(takes jsonschema.Types) (values []any, finite bool) {
	for _, s := range w {
		if s.Const != nil {
			return []any{*s.Const}, true
		}
	}
	for _, s := range w {
		if s.Enum != nil {
			return s.Enum.Values, true
		}
	}
	if takes&^(nullType|booleanType) != 0 {
		return nil, false
	}
	return []any{nil, true, false}, true
}

// values judges those that the former schema takes by the new one.
func (n *narrowing) values(former whole, values []any, next *jsonschema.Schema) {
	keyword := ""
	switch {
	case next.Enum != nil:
		keyword = "/enum"
	case next.Const != nil:
		keyword = "/const"
	}
	for _, v := range values {
		taken := !slices.ContainsFunc(former, func(s *jsonschema.Schema) bool { return n.judge(n.former, s, v) != fitting })
		if taken && n.judge(n.next, next, v) == unfitting {
			text, _ := json.Marshal(v)
			n.at(next, keyword, "no longer takes %s", clipped(string(text)))
		}
	}
}

// judged is a verdict about a value.
type judged int

const (
	unknown judged = iota // the steps are used up
	fitting
	unfitting
)

func (n *narrowing) judge(of *schema, by *jsonschema.Schema, v any) judged {
	j := judging{schema: &schema{root: by, wanted: of.wanted, anchors: of.anchors}, over: n.over, steps: n.steps}
	fits, err := j.run(v)
	n.steps = j.steps
	switch {
	case err != nil:
		return unknown
	case fits:
		return fitting
	}
	return unfitting
}
