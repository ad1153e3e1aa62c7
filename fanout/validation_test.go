package fanout_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Events straight from NATS are held to the same validation as those over HTTP, and the verdict of either is shown.
func TestValidationOfEventsFromNATS(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Metrics = prometheus.NewRegistry()
	counted := h.Metrics
	const schema = `{"type":"object","required":["total"]}`
	costly := `{"anyOf":[{"properties":{"a":{"$ref":"#"}},"not":{"required":["b"]}},{"required":["a"],"properties":{"a":{"$ref":"#"}}}]}`
	for name, with := range map[string]*subscriptions.EventType{
		"enforced": {Schema: []byte(schema)},
		"warned":   {Schema: []byte(schema), Validation: subscriptions.Warn},
		"costly":   {Schema: []byte(costly), Validation: subscriptions.Warn},
		"off":      {Schema: []byte(schema), Validation: subscriptions.Off},
		"archived": {Schema: []byte(schema), Validation: subscriptions.Warn, Archived: true},
	} {
		err := h.Store.CreateEventType(t.Context(), &subscriptions.EventType{
			Tenant: "acme", Name: name, Schema: with.Schema, Validation: with.Validation, Archived: with.Archived})
		if err != nil {
			t.Fatal(err)
		}
	}
	h.Run()
	refused := map[uint64]event.Reason{
		h.Publish("events.acme.enforced", `{}`): event.SchemaViolation,
		h.Publish("events.acme.archived", `{}`): event.ArchivedType,
	}
	want := map[string]any{}
	publish := func(id, kind, data string, valid any, headers ...string) {
		h.Publish("events.acme."+kind, data, append(headers, "Fanfare-Id", id)...)
		want[id] = valid
	}
	publish("fits", "enforced", `{"total":1}`, true)
	publish("warned_fits", "warned", `{"total":1}`, true)
	publish("warned_misfits", "warned", `{}`, false)
	publish("warned_claims", "warned", `{}`, false, "Fanfare-Schema-Valid", "1")
	publish("costly", "costly", strings.Repeat(`{"a":`, 60)+`{"b":1}`+strings.Repeat("}", 60), nil)
	publish("off", "off", `{}`, nil)
	publish("off_claims", "off", `{}`, nil, "Fanfare-Schema-Valid", "0")
	publish("undeclared", "any", `{}`, nil)
	publish("checked", "warned", `{"total":1}`, false, "Fanfare-Checked", "1", "Fanfare-Schema-Valid", "0")
	publish("checked_before", "warned", `{}`, nil, "Fanfare-Checked", "1") // by the former version
	h.Settled()
	for seq, reason := range h.Quarantined() {
		if refused[seq] != reason {
			t.Errorf("message %d is in quarantine as %s, want %q", seq, reason, refused[seq])
		}
		delete(refused, seq)
	}
	if len(refused) > 0 {
		t.Errorf("not in quarantine: %v", refused)
	}
	ask := serve(h, &fates{})
	listed := map[string]any{}
	for _, item := range ask("acme", "GET", "/v1/events", "", 200)["data"].([]any) {
		e := item.(map[string]any)
		listed[e["id"].(string)] = e["schema_valid"]
	}
	if fmt.Sprint(listed) != fmt.Sprint(want) {
		t.Errorf("listed %v\nwant   %v", listed, want)
	}
	if got := ask("acme", "GET", "/v1/events/warned_misfits", "", 200); got["schema_valid"] != false {
		t.Errorf("read: %v", got)
	}
	if got := servertest.Counts(t, counted, "fanfare_fanout_schema_warnings_total"); got["schema"] != 2 || got["schema_too_costly"] != 1 {
		t.Errorf("counted %v, want 2 that do not fit and 1 that could not be judged", got)
	}
}
