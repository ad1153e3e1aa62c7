package subscriptions

import (
	"math/big"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// bound is the least or the greatest number that a schema takes; nil: there is none.
type bound struct {
	at        *big.Rat
	exclusive bool
}

// stricter reports whether a bound refuses a number that the other takes. Of upper bounds, the signs are turned.
func (b bound) stricter(than bound) bool {
	if b.at == nil || than.at == nil {
		return b.at != nil
	}
	order := b.at.Cmp(than.at)
	return order > 0 || order == 0 && b.exclusive && !than.exclusive
}

// whole is the bound of integers.
func (b bound) whole() bound {
	if b.at == nil {
		return b
	}
	floor := new(big.Int).Div(b.at.Num(), b.at.Denom()) // rounds down, as denominators are positive
	if !b.at.IsInt() || b.exclusive {
		floor.Add(floor, big.NewInt(1))
	}
	return bound{at: new(big.Rat).SetInt(floor)}
}

// lower are the lower bounds of a schema, upper its upper ones with their signs turned.
func lower(s *jsonschema.Schema) []bound {
	return []bound{{s.Minimum, false}, {s.ExclusiveMinimum, true}}
}

func upper(s *jsonschema.Schema) []bound {
	turned := func(r *big.Rat) *big.Rat {
		if r == nil {
			return nil
		}
		return new(big.Rat).Neg(r)
	}
	return []bound{{turned(s.Maximum), false}, {turned(s.ExclusiveMaximum), true}}
}

func (n *narrowing) numbers(former whole, integers bool, s *jsonschema.Schema) {
	for _, side := range []struct {
		of       func(*jsonschema.Schema) []bound
		keywords [2]string
	}{{lower, [2]string{"/minimum", "/exclusiveMinimum"}}, {upper, [2]string{"/maximum", "/exclusiveMaximum"}}} {
		var had bound
		for _, f := range former {
			for _, b := range side.of(f) {
				if b.stricter(had) {
					had = b
				}
			}
		}
		for i, b := range side.of(s) {
			if b.at != nil && (integers && b.whole().stricter(had.whole()) || !integers && b.stricter(had)) {
				n.at(s, side.keywords[i], "takes fewer numbers")
			}
		}
	}
	if s.MultipleOf == nil {
		return
	}
	steps := []*big.Rat{}
	if integers {
		steps = append(steps, big.NewRat(1, 1))
	}
	for _, f := range former {
		if f.MultipleOf != nil {
			steps = append(steps, f.MultipleOf)
		}
	}
	if !slices.ContainsFunc(steps, func(step *big.Rat) bool { return new(big.Rat).Quo(step, s.MultipleOf).IsInt() }) {
		n.at(s, "/multipleOf", "takes fewer numbers")
	}
}

// count compares a least or, with its sign turned, a greatest count.
func (n *narrowing) count(former whole, s *jsonschema.Schema, of func(*jsonschema.Schema) *int, sign int, keyword string) {
	limit := of(s)
	if limit == nil {
		return
	}
	for _, f := range former {
		if had := of(f); had != nil && sign**had >= sign**limit {
			return
		}
	}
	if sign < 0 || *limit > 0 {
		n.at(s, keyword, "is stricter")
	}
}

func (n *narrowing) texts(former whole, s *jsonschema.Schema) {
	n.count(former, s, func(s *jsonschema.Schema) *int { return s.MinLength }, 1, "/minLength")
	n.count(former, s, func(s *jsonschema.Schema) *int { return s.MaxLength }, -1, "/maxLength")
	// Of two patterns it cannot be told whether one takes what the other takes.
	hadPattern := slices.ContainsFunc(former, func(f *jsonschema.Schema) bool { return f.Pattern != nil })
	if s.Pattern != nil && !hadPattern && !slices.Contains([]string{"", "^", ".*", "^.*", "^.*$"}, s.Pattern.String()) {
		n.at(s, "/pattern", "takes fewer texts")
	}
}

func (n *narrowing) objects(former whole, s *jsonschema.Schema) {
	had := former.required()
	for _, name := range s.Required {
		if !had[name] {
			n.at(s, "/required", "now requires %s", clipped(name))
		}
	}
	if s.MinProperties != nil && *s.MinProperties > len(had) {
		n.count(former, s, func(s *jsonschema.Schema) *int { return s.MinProperties }, 1, "/minProperties")
	}
	n.count(former, s, func(s *jsonschema.Schema) *int { return s.MaxProperties }, -1, "/maxProperties")
	for trigger, names := range s.DependentRequired {
		for _, name := range names {
			if !had[name] && former.allows(trigger) && !former.depends(trigger, name) {
				n.at(s, "/dependentRequired", "now requires %s beside %s", clipped(name), clipped(trigger))
			}
		}
	}
	n.properties(former, s)
}

// properties compares the schemas of properties.
func (n *narrowing) properties(former whole, s *jsonschema.Schema) {
	for name, next := range s.Properties {
		if had := former.property(name); len(had) > 0 && former.allows(name) {
			n.pair(had, next)
		}
	}
	for name := range former.names() {
		for pattern, next := range s.PatternProperties {
			if pattern.MatchString(name) && former.allows(name) {
				n.pair(former.property(name), next)
			}
		}
		if s.Properties[name] != nil || matchesAny(s, name) || !former.allows(name) || former.property(name).types() == 0 {
			continue
		}
		switch additional := s.AdditionalProperties.(type) {
		case bool:
			if !additional {
				n.at(s, "/additionalProperties", "no longer takes the property %s", clipped(name))
			}
		case *jsonschema.Schema:
			n.pair(former.property(name), additional)
		}
	}
	if former.closed() || len(s.PatternProperties) > 0 {
		return
	}
	switch additional := s.AdditionalProperties.(type) {
	case bool:
		if !additional {
			n.at(s, "/additionalProperties", "takes no further properties any more")
		}
	case *jsonschema.Schema:
		n.pair(former.additional(), additional)
	}
	if s.PropertyNames != nil && !slices.ContainsFunc(former, func(f *jsonschema.Schema) bool { return f.PropertyNames != nil }) {
		n.pair(whole{{Types: &stringType}}, s.PropertyNames)
	}
}

func matchesAny(s *jsonschema.Schema, name string) bool {
	for pattern := range s.PatternProperties {
		if pattern.MatchString(name) {
			return true
		}
	}
	return false
}

// required are the properties that the schemas require.
func (w whole) required() map[string]bool {
	names := map[string]bool{}
	for _, s := range w {
		for _, name := range s.Required {
			names[name] = true
		}
	}
	return names
}

// depends reports whether a property requires another one.
func (w whole) depends(trigger, name string) bool {
	return slices.ContainsFunc(w, func(s *jsonschema.Schema) bool { return slices.Contains(s.DependentRequired[trigger], name) })
}

// names are the properties that the schemas name.
func (w whole) names() map[string]bool {
	names := map[string]bool{}
	for _, s := range w {
		for name := range s.Properties {
			names[name] = true
		}
	}
	return names
}

// closed reports whether an object may have none but the properties that a schema names.
func (w whole) closed() bool {
	return slices.ContainsFunc(w, func(s *jsonschema.Schema) bool { return s.AdditionalProperties == false })
}

// allows reports whether an object may have the property.
func (w whole) allows(name string) bool {
	return !slices.ContainsFunc(w, func(s *jsonschema.Schema) bool {
		return s.AdditionalProperties == false && s.Properties[name] == nil && !matchesAny(s, name)
	})
}

// property are the schemas of a property; none where nothing is said of it.
func (w whole) property(name string) whole {
	var all []*jsonschema.Schema
	for _, s := range w {
		named := s.Properties[name] != nil
		if named {
			all = append(all, s.Properties[name])
		}
		for pattern, sub := range s.PatternProperties {
			if pattern.MatchString(name) {
				named = true
				all = append(all, sub)
			}
		}
		if additional, is := s.AdditionalProperties.(*jsonschema.Schema); is && !named {
			all = append(all, additional)
		}
	}
	return wholeOf(all...)
}

// additional are the schemas of properties that are not named.
func (w whole) additional() whole {
	var all []*jsonschema.Schema
	for _, s := range w {
		if additional, is := s.AdditionalProperties.(*jsonschema.Schema); is {
			all = append(all, additional)
		}
	}
	return wholeOf(all...)
}

func (n *narrowing) arrays(former whole, s *jsonschema.Schema) {
	n.count(former, s, func(s *jsonschema.Schema) *int { return s.MinItems }, 1, "/minItems")
	n.count(former, s, func(s *jsonschema.Schema) *int { return s.MaxItems }, -1, "/maxItems")
	if s.UniqueItems && !slices.ContainsFunc(former, func(f *jsonschema.Schema) bool { return f.UniqueItems }) && former.reaches(1) {
		n.at(s, "/uniqueItems", "takes no equal items any more")
	}
	if s.Contains != nil && (s.MinContains == nil || *s.MinContains > 0) &&
		!slices.ContainsFunc(former, func(f *jsonschema.Schema) bool { return f.Contains != nil }) {
		n.at(s, "/contains", "takes fewer arrays")
	}
	places := len(s.PrefixItems)
	for _, f := range former {
		places = max(places, len(f.PrefixItems))
	}
	for i := 0; i <= places && former.reaches(i); i++ {
		switch {
		case i < len(s.PrefixItems):
			n.pair(former.item(i), s.PrefixItems[i])
		case s.Items2020 != nil:
			n.pair(former.item(i), s.Items2020)
		}
	}
}

// reaches reports whether an array may have an item at a place.
func (w whole) reaches(i int) bool {
	return !slices.ContainsFunc(w, func(s *jsonschema.Schema) bool { return s.MaxItems != nil && *s.MaxItems <= i })
}

// item are the schemas of the item at a place.
func (w whole) item(i int) whole {
	var all []*jsonschema.Schema
	for _, s := range w {
		if i < len(s.PrefixItems) {
			all = append(all, s.PrefixItems[i])
		} else {
			all = append(all, s.Items2020)
		}
	}
	return wholeOf(all...)
}
