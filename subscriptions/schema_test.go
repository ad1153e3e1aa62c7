package subscriptions

import (
	"strings"
	"testing"
)

const orderSchema = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema",
	"type": "object", "required": ["order", "total"], "additionalProperties": false,
	"properties": {
		"order": {"type": "string", "pattern": "^o_[0-9]+$"}, "total": {"type": "number", "minimum": 0},
		"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}
	},
	"$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "n": {"type": "integer"}}}}
}`

func TestEventTypeValidates(t *testing.T) {
	t.Parallel()
	et := &EventType{Schema: []byte(orderSchema)}
	tests := []struct {
		data string
		want string // location: message, of each violation
	}{
		{`{"order": "o_1", "total": 12.5, "lines": [{"sku": "a", "n": 12345678901234567890}]}`, ""},
		{`{"order": "o_1", "total": -1}`, "data.total: minimum"},
		{`{"total": 1}`, "data.order: is required"},
		{`{}`, "data.order: is required; data.total: is required"},
		{`{"order": "x", "total": "1"}`, "data.order: 'x' does not match; data.total: got string, want number"},
		{`{"order": "o_1", "total": 1, "lines": [{"sku": "a"}, {"n": 1.5}]}`, "data.lines[1].n: got number, want integer; data.lines[1].sku: is required"},
		{`{"order": "o_1", "total": 1, "more": 1}`, "data: additional properties 'more'"},
		{`[]`, "data: got array, want object"},
		{`{"order": "o_1", "total": 1e999999}`, "data: has a number that is out of range"},
		{`{"order": "o_1", "total": 1E-99999999999999999999}`, "data: has a number that is out of range"},
		{`{`, "data: is no valid JSON"},
	}
	for _, tt := range tests {
		got, err := et.Validate(t.Context(), []byte(tt.data))
		if err != nil {
			t.Errorf("%s: %v", tt.data, err)
		}
		want := strings.Split(tt.want, "; ")
		if tt.want == "" {
			want = nil
		}
		if len(got) != len(want) {
			t.Errorf("%s: got %v, want %v", tt.data, got, want)
			continue
		}
		for i, v := range got {
			if !strings.HasPrefix(v.Location+": "+v.Message, want[i]) {
				t.Errorf("%s: got %v, want %s", tt.data, v, want[i])
			}
		}
	}
}

func TestSchemaRefusedOnSave(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`{"type": "objekt"}`:                                     "is no valid JSON Schema: schema.type",
		`{"minimum": "1"}`:                                       "is no valid JSON Schema: schema.minimum",
		`{"$ref": "https://example.com/schema.json"}`:            "not followed",
		`{"$ref": "file:///etc/passwd"}`:                         "not followed",
		`{"$id": "http://evil.example/", "$ref": "other"}`:       "not followed",
		`{"$ref": "#/$defs/none"}`:                               "none",
		`{"$schema": "http://json-schema.org/draft-07/schema#"}`: "must be of JSON Schema 2020-12",
		`{"pattern": "("}`:                                       "",
		`{"pattern": "((a{1,30}){1,30}){1,30}"}`:                 "",
		`{"minimum": 1e999999}`:                                  "out of range",
		`[]`:                                                     "must be an object or a boolean",
		`{`:                                                      "is no valid JSON",
		`{"title": "` + strings.Repeat("x", maxSchemaBytes) + `"}`: "must not be larger",
	} {
		if _, err := compileSchema([]byte(source)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", source, err, want)
		}
	}
	for _, source := range []string{`true`, `{}`, orderSchema, `{"$ref": "https://json-schema.org/draft/2020-12/schema"}`} {
		if _, err := compileSchema([]byte(source)); err != nil {
			t.Errorf("%.60s: %v", source, err)
		}
	}
}
