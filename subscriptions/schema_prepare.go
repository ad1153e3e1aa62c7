package subscriptions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// prepare looks at every schema that can be reached, once: at the values that it wants, and at what Fanfare does not judge by.
func (s *schema) prepare(c *jsonschema.Compiler, doc any) error {
	s.wanted = map[*jsonschema.Schema]wanted{}
	j := &judging{steps: math.MaxInt}
	reached := map[*jsonschema.Schema]bool{}
	dynamic := false
	queue := []*jsonschema.Schema{s.root}
	named, embedded := anchorsOf(doc, true)
	for _, name := range named {
		// What only a $dynamicRef leads to. A name that is no anchor stands in an enum or a sample.
		if anchored, err := c.Compile(schemaURL + "#" + name); err == nil {
			queue = append(queue, anchored)
		}
	}
	for len(queue) > 0 {
		one := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if one == nil || reached[one] {
			continue
		}
		reached[one] = true
		if one.DraftVersion != 2020 {
			return fmt.Errorf("must be of JSON Schema 2020-12 (%s)", schemaDraft)
		}
		if one.Const != nil || one.Enum != nil {
			s.wanted[one] = j.wantedOf(one)
		}
		dynamic = dynamic || one.DynamicRef != nil
		queue = append(queue, below(one)...)
	}
	if dynamic {
		if embedded {
			return errors.New("must not have $dynamicRef beside an $id below the root")
		}
		s.anchors = dynamicAnchors(reached)
	}
	return nil
}

// below are the schemas that a schema consists of or refers to.
func below(s *jsonschema.Schema) []*jsonschema.Schema {
	all := []*jsonschema.Schema{
		s.Ref, s.Not, s.If, s.Then, s.Else, s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems,
	}
	if s.DynamicRef != nil {
		all = append(all, s.DynamicRef.Ref)
	}
	if sub, is := s.AdditionalProperties.(*jsonschema.Schema); is {
		all = append(all, sub)
	}
	for _, list := range [][]*jsonschema.Schema{s.AllOf, s.AnyOf, s.OneOf, s.PrefixItems} {
		all = append(all, list...)
	}
	for _, sub := range s.PatternProperties {
		all = append(all, sub)
	}
	for _, named := range []map[string]*jsonschema.Schema{s.Properties, s.DependentSchemas} {
		for _, sub := range named {
			all = append(all, sub)
		}
	}
	return all
}

// anchorsOf finds the names of dynamic anchors in a document, and whether it has an $id below its root.
func anchorsOf(doc any, root bool) (names []string, embedded bool) {
	var members []any
	switch d := doc.(type) {
	case []any:
		members = d
	case map[string]any:
		if name, is := d["$dynamicAnchor"].(string); is {
			names = append(names, name)
		}
		_, id := d["$id"]
		embedded = id && !root
		for _, member := range d {
			members = append(members, member)
		}
	}
	for _, member := range members {
		more, deeper := anchorsOf(member, false)
		names = append(names, more...)
		embedded = embedded || deeper
	}
	return names, embedded
}

func dynamicAnchors(reached map[*jsonschema.Schema]bool) map[string]map[string]*jsonschema.Schema {
	anchors := map[string]map[string]*jsonschema.Schema{}
	for one := range reached {
		if one.DynamicAnchor == "" {
			continue
		}
		document := documentOf(one)
		if anchors[document] == nil {
			anchors[document] = map[string]*jsonschema.Schema{}
		}
		anchors[document][one.DynamicAnchor] = one
	}
	return anchors
}

// documentOf is the address of the document that a schema is a part of.
func documentOf(s *jsonschema.Schema) string {
	document, _, _ := strings.Cut(s.Location, "#")
	return document
}

// checkCost refuses a schema whose cost does not depend on the data: one that judges even the smallest texts for too long would refuse every
// event.
func (s *schema) checkCost() error {
	for _, least := range []string{`null`, `true`, `0`, `""`, `[]`, `{}`} {
		if _, err := s.validate(context.Background(), []byte(least), false); errors.Is(err, ErrTooCostly) {
			return fmt.Errorf("takes more than %d steps to judge %s: every event would cost too much", stepsFor(len(least)), least)
		}
	}
	return nil
}
