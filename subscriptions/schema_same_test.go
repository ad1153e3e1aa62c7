package subscriptions_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Data fits a schema here if and only if it does by the library that compiles it.
func TestJudgesAsTheLibraryDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schema, err := json.Marshal(drawSchema(t, 3))
		if err != nil {
			t.Fatal(err)
		}
		doc := decodeJSON(t, schema)
		c := jsonschema.NewCompiler()
		c.DefaultDraft(jsonschema.Draft2020)
		if err := c.AddResource("fanfare:same", doc); err != nil {
			t.Fatal(err)
		}
		compiled, err := c.Compile("fanfare:same")
		if err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		data, err := json.Marshal(drawData(t, 3))
		if err != nil {
			t.Fatal(err)
		}
		libraryErr := compiled.Validate(decodeJSON(t, data))
		et := &subscriptions.EventType{Schema: schema}
		violations, err := et.Validate(t.Context(), data)
		if err != nil {
			t.Fatalf("%s, %s: %v", schema, data, err)
		}
		if (libraryErr == nil) != (len(violations) == 0) {
			t.Errorf("%s, %s: got %v, the library says %v", schema, data, violations, libraryErr)
		}
	})
}

// No schema refuses what it took itself, however it is written.
func TestNoSchemaIsNarrowerThanItself(t *testing.T) {
	t.Parallel()
	s := serve(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		schema, err := json.Marshal(drawSchema(rt, 3))
		if err != nil {
			rt.Fatal(err)
		}
		n++
		name := fmt.Sprint("type", n)
		if r := s.call(t, "admin POST /v1/event-types", `{"name":"`+name+`","schema":`+string(schema)+`}`); r.status != 201 {
			rt.Fatalf("%s: %s", schema, r.text)
		}
		if r := s.call(t, "admin PATCH /v1/event-types/"+name, `{"schema":{"title":"the same"}}`); r.status != 200 {
			rt.Errorf("%s: %s", schema, r.text)
		}
	})
}

func decodeJSON(t *rapid.T, text []byte) any {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// The few names and values are the same in schemas and in data, so that they meet.
var (
	sameNames   = []string{"a", "b", "c"}
	sameNumbers = []json.Number{"0", "1", "1.0", "2", "-1", "1e1", "10", "0.5", "1.5", "100e-2"}
	sameTypes   = []string{"null", "boolean", "integer", "number", "string", "array", "object"}
)

func drawData(t *rapid.T, depth int) any {
	most := 6
	if depth == 0 {
		most = 4
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.SampledFrom([]string{"", "a", "b", "ab", "\u00e9\u00e9"}).Draw(t, "text")
	case 3, 4:
		return rapid.SampledFrom(sameNumbers).Draw(t, "number")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list = append(list, drawData(t, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		object[rapid.SampledFrom(sameNames).Draw(t, "name")] = drawData(t, depth-1)
	}
	return object
}

// keywords make the value of a keyword.
func keywords(t *rapid.T, depth int) map[string]func() any {
	sub := func() any { return drawSchema(t, depth-1) }
	subs := func() any {
		list := []any{sub()}
		for range rapid.IntRange(0, 2).Draw(t, "subs") {
			list = append(list, sub())
		}
		return list
	}
	named := func() any {
		m := map[string]any{}
		for range rapid.IntRange(0, 2).Draw(t, "named") {
			m[rapid.SampledFrom(sameNames).Draw(t, "name")] = sub()
		}
		return m
	}
	count := func() any { return rapid.IntRange(0, 3).Draw(t, "count") }
	number := func() any { return rapid.SampledFrom(sameNumbers).Draw(t, "bound") }
	name := func() any { return rapid.SampledFrom(sameNames).Draw(t, "name") }
	return map[string]func() any{
		"type": func() any { return rapid.SampledFrom(sameTypes).Draw(t, "type") }, "const": func() any { return drawData(t, 1) },
		"enum":  func() any { return []any{drawData(t, 1), drawData(t, 1), drawData(t, 1)} },
		"allOf": subs, "anyOf": subs, "oneOf": subs, "prefixItems": subs, "not": sub, "if": sub, "then": sub, "else": sub,
		"items": sub, "contains": sub, "minContains": count, "maxContains": count, "minItems": count, "maxItems": count,
		"uniqueItems": func() any { return true }, "unevaluatedItems": sub, "unevaluatedProperties": sub,
		"properties": named, "dependentSchemas": named, "additionalProperties": sub, "propertyNames": sub,
		"patternProperties": func() any { return map[string]any{"^[ab]": sub(), "c$": sub()} },
		"required":          func() any { return []any{name()} }, "dependentRequired": func() any { return map[string]any{"a": []any{name()}} },
		"minProperties": count, "maxProperties": count, "minLength": count, "maxLength": count,
		"pattern": func() any { return rapid.SampledFrom([]string{"a", "^b", "^$"}).Draw(t, "pattern") },
		"minimum": number, "maximum": number, "exclusiveMinimum": number, "exclusiveMaximum": number,
		"multipleOf": func() any { return rapid.SampledFrom([]json.Number{"0.5", "1", "2", "10"}).Draw(t, "multiple") },
		"$ref":       func() any { return rapid.SampledFrom([]string{"#/$defs/x", "#/$defs/y"}).Draw(t, "ref") },
	}
}

func drawSchema(t *rapid.T, depth int) any {
	if depth == 0 {
		return rapid.SampledFrom([]any{
			true, false, map[string]any{}, map[string]any{"type": "integer"}, map[string]any{"type": "string"}, map[string]any{"type": "object"},
		}).Draw(t, "leaf")
	}
	makers := keywords(t, depth)
	s := map[string]any{}
	for range rapid.IntRange(1, 4).Draw(t, "keywords") {
		k := rapid.SampledFrom(slices.Sorted(maps.Keys(makers))).Draw(t, "keyword")
		s[k] = makers[k]()
	}
	if depth == 3 {
		s["$defs"] = map[string]any{"x": drawSchemaWithoutRef(t), "y": drawSchemaWithoutRef(t)}
	}
	return s
}

// drawSchemaWithoutRef makes what is referred to: cycles are the business of another test.
func drawSchemaWithoutRef(t *rapid.T) any {
	return rapid.SampledFrom([]any{
		map[string]any{"type": "object", "properties": map[string]any{"a": map[string]any{"$ref": "#/$defs/x"}}},
		map[string]any{"type": []any{"integer", "null", "object"}}, map[string]any{"properties": map[string]any{"b": true}, "minProperties": 1},
		map[string]any{"items": map[string]any{"$ref": "#"}}, true,
	}).Draw(t, "referred")
}
