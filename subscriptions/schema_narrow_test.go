package subscriptions_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// What a change of a schema refuses that the former one took, as far as that can be told.
func TestNarrowedSchemas(t *testing.T) {
	t.Parallel()
	const defs = `"$defs":{"n":{"type":"number"},"i":{"type":"integer"}}`
	s := serve(t)
	name := func(i int) string { return fmt.Sprint("type", i) }
	for i, test := range []struct{ former, next, want string }{
		{`true`, `false`, "schema"},
		{`false`, `{"type":"string"}`, ""},
		{`{"type":"object"}`, `{"type":"object","title":"t","description":"d"}`, ""},
		{`{"type":["string","null"]}`, `{"type":"string"}`, "schema/type"},
		{`{"type":"string"}`, `{"type":["string","null"]}`, ""},
		{`{"type":"integer"}`, `{"type":"number"}`, ""},
		{`{"type":"number"}`, `{"type":"integer"}`, "schema/type"},
		{`{}`, `{"type":"object"}`, "schema/type"},
		{`{"enum":["a","b"]}`, `{"enum":["a"]}`, "schema/enum"},
		{`{"enum":["a","b"]}`, `{"enum":["b","a","c"]}`, ""},
		{`{"enum":["a",1],"type":"string"}`, `{"const":"a"}`, ""},
		{`{"const":1}`, `{"enum":[1.0,2]}`, ""},
		{`{"const":1}`, `{"anyOf":[{"type":"string"},{"minimum":2}]}`, "schema"},
		{`{"type":"string"}`, `{"enum":["a"]}`, "schema/enum"},
		{`{"type":"boolean"}`, `{"enum":[true,false]}`, ""},
		{`{"type":"boolean"}`, `{"const":true}`, "schema/const"},
		{`{"minimum":1}`, `{"minimum":2}`, "schema/minimum"},
		{`{"minimum":1}`, `{"minimum":0,"exclusiveMaximum":5}`, "schema/exclusiveMaximum"},
		{`{"minimum":1}`, `{"exclusiveMinimum":1}`, "schema/exclusiveMinimum"},
		{`{"type":"integer","minimum":1}`, `{"type":"integer","exclusiveMinimum":0}`, ""},
		{`{"type":"integer","maximum":-1}`, `{"type":"integer","exclusiveMaximum":0}`, ""},
		{`{"type":"integer","maximum":3}`, `{"type":"integer","maximum":2.5}`, "schema/maximum"},
		{`{"type":"integer"}`, `{"type":"integer","multipleOf":0.5}`, ""},
		{`{"multipleOf":4}`, `{"multipleOf":2}`, ""},
		{`{"multipleOf":2}`, `{"multipleOf":4}`, "schema/multipleOf"},
		{`{"minLength":1,"maxLength":5}`, `{"minLength":2,"maxLength":4}`, "schema/maxLength schema/minLength"},
		{`{"minLength":2}`, `{"minLength":1}`, ""},
		{`{"type":"string"}`, `{"type":"string","pattern":"^a"}`, "schema/pattern"},
		{`{"type":"string","pattern":"^a"}`, `{"type":"string","pattern":"^ab?"}`, ""}, // cannot be told
		{`{"type":"object","required":["a"]}`, `{"type":"object","required":["a","b"]}`, "schema/required"},
		{`{"required":["a","b"]}`, `{"required":["a"],"minProperties":2}`, ""},
		{`{"type":"object"}`, `{"type":"object","properties":{"a":{"type":"string"}}}`, ""}, // a new optional property
		{`{"properties":{"a":true}}`, `{"properties":{"a":{"type":"string"}}}`, "schema/properties/a/type"},
		{`{"additionalProperties":{"type":"number"}}`, `{"properties":{"a":{"type":"string"}}}`, "schema/properties/a/type"},
		{`{"type":"object"}`, `{"type":"object","additionalProperties":false}`, "schema/additionalProperties"},
		{`{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false}`, `{"type":"object","properties":{"a":{}},"additionalProperties":false}`, "schema/additionalProperties"},
		{`{"type":"object","properties":{"a":{}},"additionalProperties":false}`, `{"type":"object","properties":{"a":{},"b":{"type":"string"}},"additionalProperties":false}`, ""},
		{`{"type":"object","additionalProperties":false,"properties":{"a":{"type":"string"}}}`, `{"type":"object","properties":{"a":{"type":"string","maxLength":3}}}`, "schema/properties/a/maxLength"},
		{`{"properties":{"a":{"type":"string"}}}`, `{"patternProperties":{"^a":{"type":"number"}}}`, "schema/patternProperties/^a/type"},
		{`{"type":"object"}`, `{"type":"object","dependentRequired":{"a":["b"]}}`, "schema/dependentRequired"},
		{`{"type":"object"}`, `{"type":"object","propertyNames":{"maxLength":3}}`, "schema/propertyNames/maxLength"},
		{`{"type":"array","items":{"type":"number"}}`, `{"type":"array","items":{"type":"integer"}}`, "schema/items/type"},
		{`{"type":"array"}`, `{"type":"array","items":{"type":"integer"}}`, "schema/items/type"},
		{`{"type":"array","maxItems":0}`, `{"type":"array","items":{"type":"integer"}}`, ""},
		{`{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, `{"items":{"type":["string","number"]}}`, ""},
		{`{"prefixItems":[{"type":"string"}],"items":{"type":"number"}}`, `{"items":{"type":"number"}}`, "schema/items/type"},
		{`{"type":"array"}`, `{"type":"array","uniqueItems":true,"maxItems":3,"contains":{"type":"string"}}`, "schema/contains schema/maxItems schema/uniqueItems"},
		{`{"$ref":"#/$defs/n",` + defs + `}`, `{"$ref":"#/$defs/i",` + defs + `}`, "schema/$defs/i/type"},
		{`{"properties":{"a":{"$ref":"#/$defs/i"}},` + defs + `}`, `{"properties":{"a":{"type":"integer"}}}`, ""},
		{`{"allOf":[{"type":"object","required":["a"]}]}`, `{"type":"object","required":["a"]}`, ""},
		{`{"type":"object"}`, `{"allOf":[{"required":["a"]}]}`, "schema/allOf/0/required"},
		{`{"anyOf":[{"required":["a"]},{"required":["a","b"]}]}`, `{"required":["a"]}`, ""}, // cannot be told
		{`{"type":"object","properties":{"a":{"$ref":"#"}}}`, `{"type":"object","properties":{"a":{"$ref":"#"}},"required":["b"]}`, "schema/required"},
	} {
		path := "/v1/event-types/" + name(i)
		s.want(t, 201, "admin POST /v1/event-types", `{"name":"`+name(i)+`","schema":`+test.former+`}`)
		r := s.call(t, "admin PATCH "+path, `{"schema":`+mergePatch(t, test.former, test.next)+`}`)
		if got := strings.ReplaceAll(r.locations(), "body.schema", "schema"); got != test.want || (r.status == 200) != (test.want == "") {
			t.Errorf("%s to %s: got %d %s, want %q", test.former, test.next, r.status, r.text, test.want)
		}
		var next any
		if err := json.Unmarshal([]byte(test.next), &next); err != nil {
			t.Fatal(err)
		}
		if r.status == 200 && !reflect.DeepEqual(r.body["schema"], next) {
			t.Errorf("%s to %s: it became %s", test.former, test.next, r.text)
		}
	}
}

// mergePatch is the JSON Merge Patch that turns one schema into another.
func mergePatch(t *testing.T, from, to string) string {
	t.Helper()
	text, err := json.Marshal(merged(decoded(t, from), decoded(t, to)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func merged(from, to any) any {
	old, ok := from.(map[string]any)
	members, both := to.(map[string]any)
	if !ok || !both {
		return to
	}
	patch := map[string]any{}
	for key := range old {
		patch[key] = nil
	}
	for key, value := range members {
		patch[key] = merged(old[key], value)
	}
	return patch
}

// decoded reads JSON with its numbers as they are written.
func decoded(t *testing.T, text string) (value any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	return value
}
