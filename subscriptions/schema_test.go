package subscriptions_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/subscriptions"
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
	et := &subscriptions.EventType{Schema: []byte(orderSchema)}
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
	b := setup(t)
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
		`{"title": "` + strings.Repeat("x", 64<<10) + `"}`:       "must not be larger",
	} {
		et := &subscriptions.EventType{Name: "refused", Schema: []byte(source)}
		bad, ok := errors.AsType[*subscriptions.Invalid](b.store.CreateEventType(t.Context(), et))
		if !ok || len(bad.Faults) != 1 || bad.Faults[0].Field != "schema" || !strings.Contains(bad.Faults[0].Message, want) {
			t.Errorf("%.60s: got %v, want %q", source, bad, want)
		}
	}
	for i, source := range []string{`true`, `{}`, orderSchema, `{"$ref": "https://json-schema.org/draft/2020-12/schema"}`} {
		et := &subscriptions.EventType{Name: fmt.Sprint("taken", i), Schema: []byte(source)}
		if err := b.store.CreateEventType(t.Context(), et); err != nil {
			t.Errorf("%.60s: %v", source, err)
		}
	}
}
