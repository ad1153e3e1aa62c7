package subscriptions

import (
	"context"
	"strings"
	"testing"
)

// What a change of a schema refuses that the former one took, as far as that can be told.
func TestNarrowedSchemas(t *testing.T) {
	t.Parallel()
	const defs = `"$defs":{"n":{"type":"number"},"i":{"type":"integer"}}`
	for _, test := range []struct{ former, next, want string }{
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
		former, err := compileSchema([]byte(test.former))
		if err != nil {
			t.Fatalf("%s: %v", test.former, err)
		}
		next, err := compileSchema([]byte(test.next))
		if err != nil {
			t.Fatalf("%s: %v", test.next, err)
		}
		var got []string
		for _, f := range narrowed(context.Background(), former, next) {
			got = append(got, f.Field)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s to %s: got %q, want %q", test.former, test.next, got, test.want)
		}
	}
}
