package subscriptions

import (
	"encoding/json"
	"math/big"
	"strconv"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

// evaluated are the members of a value that a schema looked at, for unevaluatedProperties and unevaluatedItems.
type evaluated struct {
	allProperties, allItems bool
	properties              map[string]bool
	first                   int          // so many of the first items
	items                   map[int]bool // and these
}

func (e *evaluated) property(name string) {
	if e == nil || e.allProperties {
		return
	}
	if e.properties == nil {
		e.properties = map[string]bool{}
	}
	e.properties[name] = true
}

func (e *evaluated) item(i int) {
	if e == nil || e.allItems {
		return
	}
	if e.items == nil {
		e.items = map[int]bool{}
	}
	e.items[i] = true
}

// merge adds what another schema looked at.
func (j *judging) merge(to, from *evaluated) {
	j.spend(len(from.properties) + len(from.items))
	to.allProperties = to.allProperties || from.allProperties
	to.allItems = to.allItems || from.allItems
	to.first = max(to.first, from.first)
	for name := range from.properties {
		to.property(name)
	}
	for i := range from.items {
		to.item(i)
	}
}

// object judges by the keywords of objects.
func (j *judging) object(s *jsonschema.Schema, object map[string]any, own *evaluated) bool {
	ok := true
	if s.MinProperties != nil && len(object) < *s.MinProperties {
		ok = j.fault(&kind.MinProperties{Got: len(object), Want: *s.MinProperties})
	}
	if s.MaxProperties != nil && len(object) > *s.MaxProperties {
		ok = j.fault(&kind.MaxProperties{Got: len(object), Want: *s.MaxProperties})
	}
	j.spend(len(s.Required))
	for _, name := range s.Required {
		if _, there := object[name]; !there && j.goOn(ok) {
			ok = j.fault(required{}, name)
		}
	}
	if j.goOn(ok) {
		ok = j.dependents(s, object, own) && ok
	}
	if j.goOn(ok) && (s.Properties != nil || s.PatternProperties != nil || s.AdditionalProperties != nil || s.PropertyNames != nil) {
		ok = j.properties(s, object, own) && ok
	}
	return ok
}

// required is a missing property, at its own place rather than at its parent's.
type required struct{}

func (j *judging) dependents(s *jsonschema.Schema, object map[string]any, own *evaluated) bool {
	ok := true
	j.spend(len(s.DependentRequired) + len(s.DependentSchemas))
	for name, others := range s.DependentRequired {
		if _, there := object[name]; !there {
			continue
		}
		j.spend(len(others))
		for _, other := range others {
			if _, there := object[other]; !there && j.goOn(ok) {
				ok = j.fault(&kind.DependentRequired{Prop: name, Missing: []string{other}})
			}
		}
	}
	for name, sub := range s.DependentSchemas {
		if _, there := object[name]; there && j.goOn(ok) {
			ok = j.fits(sub, object, own) && ok
		}
	}
	return ok
}

func (j *judging) properties(s *jsonschema.Schema, object map[string]any, own *evaluated) bool {
	ok := true
	var extra []string
	judge := func(name string) {
		known, allowed := j.property(s, name, object[name], own)
		if !known && s.AdditionalProperties == false {
			extra = append(extra, name)
		}
		ok = allowed && ok
	}
	if j.explain {
		for _, name := range sorted(object) {
			judge(name)
		}
	} else {
		for name := range object {
			if judge(name); !ok || len(extra) > 0 {
				return false
			}
		}
	}
	if len(extra) > 0 {
		return j.fault(&kind.AdditionalProperties{Properties: extra})
	}
	return ok
}

// property judges one property, and says whether the schema names it.
func (j *judging) property(s *jsonschema.Schema, name string, v any, own *evaluated) (known, ok bool) {
	j.spend(1)
	ok = true
	if sub := s.Properties[name]; sub != nil {
		known = true
		ok = j.member(sub, v, name)
	}
	for pattern, sub := range s.PatternProperties {
		if j.goOn(ok) && j.matches(pattern, name) {
			known = true
			ok = j.member(sub, v, name) && ok
		}
	}
	if sub, is := s.AdditionalProperties.(*jsonschema.Schema); is && !known {
		ok = j.member(sub, v, name) && ok
	}
	if known || s.AdditionalProperties != nil {
		own.property(name)
	}
	if s.PropertyNames != nil && j.goOn(ok) && !j.holds(s.PropertyNames, name, nil) {
		ok = j.fault(&kind.PropertyNames{Property: clipped(name)})
	}
	return known, ok
}

// array judges by the keywords of lists.
func (j *judging) array(s *jsonschema.Schema, list []any, own *evaluated) bool {
	ok := true
	if s.MinItems != nil && len(list) < *s.MinItems {
		ok = j.fault(&kind.MinItems{Got: len(list), Want: *s.MinItems})
	}
	if s.MaxItems != nil && len(list) > *s.MaxItems {
		ok = j.fault(&kind.MaxItems{Got: len(list), Want: *s.MaxItems})
	}
	if s.UniqueItems && j.goOn(ok) {
		ok = j.unique(list) && ok
	}
	for i, v := range list {
		sub := s.Items2020
		if i < len(s.PrefixItems) {
			sub = s.PrefixItems[i]
		}
		if sub == nil || !j.goOn(ok) {
			break
		}
		ok = j.member(sub, v, strconv.Itoa(i)) && ok
	}
	if own != nil {
		own.first = max(own.first, min(len(s.PrefixItems), len(list)))
		own.allItems = own.allItems || s.Items2020 != nil
	}
	if s.Contains != nil && j.goOn(ok) {
		ok = j.contains(s, list, own) && ok
	}
	return ok
}

func (j *judging) contains(s *jsonschema.Schema, list []any, own *evaluated) bool {
	least, most, got := 1, len(list), 0
	if s.MinContains != nil {
		least = *s.MinContains
	}
	if s.MaxContains != nil {
		most = *s.MaxContains
	}
	for i, v := range list {
		if j.holds(s.Contains, v, nil) {
			got++
			own.item(i)
		}
	}
	switch {
	case got < least && s.MinContains == nil:
		return j.fault(&kind.Contains{})
	case got < least:
		return j.fault(counted{"min", least, got})
	case got > most:
		return j.fault(counted{"max", most, got})
	}
	return true
}

// unique judges uniqueItems.
func (j *judging) unique(list []any) bool {
	seen := make(map[string]int, len(list))
	for i, v := range list {
		k := string(j.key(nil, v))
		if before, there := seen[k]; there {
			return j.fault(&kind.UniqueItems{Duplicates: [2]int{before, i}})
		}
		seen[k] = i
	}
	return true
}

// unevaluated judges what nothing else of the schema looked at.
func (j *judging) unevaluated(s *jsonschema.Schema, v any, own *evaluated) bool {
	ok := true
	switch v := v.(type) {
	case map[string]any:
		if s.UnevaluatedProperties == nil || own.allProperties {
			return true
		}
		j.spend(len(v))
		for _, name := range sorted(v) {
			if !own.properties[name] && j.goOn(ok) {
				ok = j.member(s.UnevaluatedProperties, v[name], name) && ok
			}
		}
		own.allProperties = true
	case []any:
		if s.UnevaluatedItems == nil || own.allItems {
			return true
		}
		for i := own.first; i < len(v) && j.goOn(ok); i++ {
			if !own.items[i] {
				ok = j.member(s.UnevaluatedItems, v[i], strconv.Itoa(i)) && ok
			}
		}
		own.allItems = true
	}
	return ok
}

// text judges by the keywords of strings.
func (j *judging) text(s *jsonschema.Schema, text string) bool {
	ok := true
	if s.MinLength != nil || s.MaxLength != nil {
		j.spend(len(text) / 64)
		n := utf8.RuneCountInString(text)
		if s.MinLength != nil && n < *s.MinLength {
			ok = j.fault(&kind.MinLength{Got: n, Want: *s.MinLength})
		}
		if s.MaxLength != nil && n > *s.MaxLength {
			ok = j.fault(&kind.MaxLength{Got: n, Want: *s.MaxLength})
		}
	}
	if s.Pattern != nil && j.goOn(ok) && !j.matches(s.Pattern, text) {
		ok = j.fault(&kind.Pattern{Got: clipped(text), Want: s.Pattern.String()})
	}
	return ok
}

// matches spends the most that Go's engine takes: one visit of each instruction for each byte, 15 ns each.
func (j *judging) matches(pattern jsonschema.Regexp, text string) bool {
	instructions := filter.MaxInstructions
	if p, is := pattern.(*filter.Pattern); is {
		instructions = p.Instructions
	}
	j.spend(1 + len(text)*instructions/5)
	return pattern.MatchString(text)
}

// number judges by the keywords of numbers.
func (j *judging) number(s *jsonschema.Schema, n json.Number) bool {
	if s.Minimum == nil && s.Maximum == nil && s.ExclusiveMinimum == nil && s.ExclusiveMaximum == nil && s.MultipleOf == nil {
		return true
	}
	v := j.rational(n)
	ok := true
	if s.Minimum != nil && v.Cmp(s.Minimum) < 0 {
		ok = j.fault(&kind.Minimum{Got: v, Want: s.Minimum})
	}
	if s.Maximum != nil && v.Cmp(s.Maximum) > 0 {
		ok = j.fault(&kind.Maximum{Got: v, Want: s.Maximum})
	}
	if s.ExclusiveMinimum != nil && v.Cmp(s.ExclusiveMinimum) <= 0 {
		ok = j.fault(&kind.ExclusiveMinimum{Got: v, Want: s.ExclusiveMinimum})
	}
	if s.ExclusiveMaximum != nil && v.Cmp(s.ExclusiveMaximum) >= 0 {
		ok = j.fault(&kind.ExclusiveMaximum{Got: v, Want: s.ExclusiveMaximum})
	}
	if s.MultipleOf != nil && !new(big.Rat).Quo(v, s.MultipleOf).IsInt() {
		ok = j.fault(&kind.MultipleOf{Got: v, Want: s.MultipleOf})
	}
	return ok
}
