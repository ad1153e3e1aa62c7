package ingest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// costlySchema doubles its cost with each level of nesting.
const costlySchema = `{"anyOf":[{"properties":{"a":{"$ref":"#"}},"not":{"required":["b"]}},{"required":["a"],"properties":{"a":{"$ref":"#"}}}]}`

// Where validation is warn, an event that does not fit is stored with the verdict; where it is off, nothing is judged.
func TestValidationOfAType(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.events.EventTypes = fanout.Strict })
	const schema = `{"type":"object","required":["total"]}`
	for name, with := range map[string]*subscriptions.EventType{
		"enforced": {Schema: []byte(schema)},
		"warned":   {Schema: []byte(schema), Validation: subscriptions.Warn},
		"costly":   {Schema: []byte(costlySchema), Validation: subscriptions.Warn},
		"off":      {Schema: []byte(schema), Validation: subscriptions.Off},
		"archived": {Schema: []byte(schema), Validation: subscriptions.Off, Archived: true},
		"bare":     {},
	} {
		err := h.store.CreateEventType(t.Context(), &subscriptions.EventType{
			Tenant: "acme", Name: name, Schema: with.Schema, Validation: with.Validation, Archived: with.Archived})
		if err != nil {
			t.Fatal(err)
		}
	}
	stored := 0
	for _, test := range []struct {
		body   string
		status int
		fit    event.Fit
	}{
		{`{"type":"enforced","data":{"total":1}}`, 202, event.Fits},
		{`{"type":"enforced","data":{}}`, 422, 0},
		{`{"type":"warned","data":{"total":1}}`, 202, event.Fits},
		{`{"type":"warned","data":{}}`, 202, event.Misfits},
		{`{"type":"warned","data":[],"id":"twice"}`, 202, event.Misfits},
		{`{"type":"costly","data":` + strings.Repeat(`{"a":`, 60) + `{"b":1}` + strings.Repeat("}", 60) + `}`, 202, event.Unjudged},
		{`{"type":"off","data":{}}`, 202, event.Unjudged},
		{`{"type":"archived","data":{}}`, 422, 0},
		{`{"type":"bare","data":{}}`, 202, event.Unjudged},
	} {
		if a := h.post("acme", "/v1/events", test.body); a.status != test.status {
			t.Fatalf("%s: answered %d %s, want %d", test.body, a.status, a.body, test.status)
		}
		if test.status != http.StatusAccepted {
			continue
		}
		all := h.stored()
		if len(all) != stored+1 {
			t.Fatalf("%s: %d messages are stored, want %d", test.body, len(all), stored+1)
		}
		if e, refusal := event.Decode(event.Stored(all[stored])); refusal != nil || e.Fit != test.fit {
			t.Errorf("%s: stored with the verdict %d, want %d (%v)", test.body, e.Fit, test.fit, refusal)
		}
		stored++
	}
	// A CloudEvent of any media type has no JSON to fit.
	a := h.post("acme", "/v1/events", "text", "Content-Type", "text/plain", "ce-specversion", "1.0", "ce-id", "1", "ce-source", "/s", "ce-type", "warned")
	if a.status != http.StatusAccepted {
		t.Errorf("text: answered %d %s", a.status, a.body)
	}
	h.post("acme", "/v1/events", `{"type":"warned","data":[],"id":"twice"}`) // a duplicate is not counted again
	if got := servertest.Counts(t, h.metrics, "fanfare_ingest_schema_warnings_total"); got["schema"] != 3 || got["schema_too_costly"] != 1 {
		t.Errorf("counted %v, want 3 that do not fit and 1 that could not be judged", got)
	}
}
