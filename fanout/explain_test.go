package fanout_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Of an event that reached nobody, it is said of each subscription which step it failed, and in what words.
func TestAnEventThatMatchedNothingIsExplained(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	create := func(change func(*subscriptions.Subscription)) string {
		t.Helper()
		s := &subscriptions.Subscription{
			Tenant: "acme", Name: "test", URL: "https://example.com/", EventTypes: []string{"order.*"}, Scopes: []string{subscriptions.AllScopes},
		}
		change(s)
		if err := h.Store.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s.ID.String()
	}
	h.Declare("acme", "order.created", "", false)
	if _, err := h.DB.Exec(`UPDATE event_types SET scopes = '{view:orders}'`); err != nil {
		t.Fatal(err)
	}
	disabled := h.Subscribe("acme", "order.*")
	h.Status(disabled, subscriptions.Disabled)
	want := map[string][2]string{ // step and detail
		disabled.ID.String(): {"status", "disabled"},
		create(func(s *subscriptions.Subscription) { s.EventTypes = []string{"invoice.*"} }): {"event_type", "order.created is not among invoice.*"},
		create(func(s *subscriptions.Subscription) { s.Scopes = nil }):                       {"scopes", "order.created demands view:orders"},
		create(func(s *subscriptions.Subscription) { s.ResourceID = "9" }):                   {"resource_id", "9 is wanted"},
		create(func(s *subscriptions.Subscription) { s.Changed = []string{"total"} }):        {"changed", "a change of total is wanted; changed was status"},
		create(func(s *subscriptions.Subscription) { s.Filter = "event.data.total > 100" }):  {"filter", "data.total was 90"},
	}
	h.Run()
	h.Publish("events.acme.order.created", `{"total":90}`, "Fanfare-Id", "e1", "Fanfare-Resource-Ids", "1,2", "Fanfare-Changed", "status")
	h.Publish("events.acme.order.created", `{"total":90}`, "Fanfare-Id", "e2", "Fanfare-Targets", disabled.ID.String())
	h.Publish("events.globex.order.created", `{"total":90}`, "Fanfare-Id", "e3")
	h.Settled()
	if tasks := h.Tray.All(); len(tasks) != 0 {
		t.Fatalf("there are tasks: %+v", tasks)
	}
	ask := serve(h, &fates{})
	// failed returns the steps that each subscription failed, with their details.
	failed := func(key, event string) map[string][]map[string]any {
		t.Helper()
		got := ask(key, "GET", "/v1/events/"+event+"/explain", "", 200)
		if got["event"].(map[string]any)["matched"] != 0.0 {
			t.Errorf("the event is %v, want that it matched 0", got["event"])
		}
		all := map[string][]map[string]any{}
		for _, r := range got["results"].([]any) {
			result := r.(map[string]any)
			if result["matched"] != false || result["delivery"] != nil {
				t.Errorf("explained is %v, want neither a match nor a delivery", result)
			}
			id := result["subscription_id"].(string)
			all[id] = nil
			for _, s := range result["steps"].([]any) {
				if step := s.(map[string]any); step["verdict"] == "fail" {
					all[id] = append(all[id], step)
				}
			}
		}
		return all
	}
	got := failed("acme", "e1")
	for id, w := range want {
		if steps := got[id]; len(steps) != 1 || steps[0]["step"] != w[0] || !strings.Contains(steps[0]["detail"].(string), w[1]) {
			t.Errorf("the subscription that fails at %s failed at %v", w[0], steps)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d subscriptions are explained, want %d", len(got), len(want))
	}
	// An event with targets: the others are not among them, and the one that is takes nothing.
	got = failed("acme", "e2")
	for id := range want {
		step := "targets"
		if id == disabled.ID.String() {
			step = "status"
		}
		if steps := got[id]; len(steps) != 1 || steps[0]["step"] != step {
			t.Errorf("of an event with targets a subscription failed at %v, want %s", steps, step)
		}
	}
	// A tenant without any subscription.
	if got := failed("globex", "e3"); len(got) != 0 {
		t.Errorf("a tenant without subscriptions is told %v", got)
	}
}

// Values of events are shown to keys with events:read and the scopes of the type alone, and previews need events:read.
func TestDataIsShownToThoseWhoMayReadIt(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Declare("acme", "order.created", "", false)
	if _, err := h.DB.Exec(`UPDATE event_types SET scopes = '{view:orders}'`); err != nil {
		t.Fatal(err)
	}
	sub := &subscriptions.Subscription{
		Tenant: "acme", Name: "test", URL: "https://example.com/", EventTypes: []string{"*"}, Filter: `event.data.card != "zzz"`,
		Scopes: []string{subscriptions.AllScopes},
	}
	if err := h.Store.Create(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	h.Run()
	h.Publish("events.acme.order.created", `{"card":"4111"}`, "Fanfare-Id", "scoped", "Fanfare-Resource-Ids", "r-4111")
	h.Publish("events.acme.order.other", `{"card":"4111"}`, "Fanfare-Id", "open", "Fanfare-Resource-Ids", "r-4111")
	h.Settled()
	ask := serve(h, &fates{})
	for key, sees := range map[string][2]bool{ // of the type with scopes, and of the other
		"admin": {true, true}, "acme": {true, true}, "reader": {false, true}, "viewer": {false, false}, "support": {false, false}, "operator": {false, true},
	} {
		for i, event := range []string{"scoped", "open"} {
			if key != "reader" {
				got := ask(key, "GET", "/v1/events/"+event+"/explain?subscription="+sub.ID.String()+"&tenant=acme", "", 200)
				if shown := strings.Contains(fmt.Sprint(got), "4111"); shown != sees[i] {
					t.Errorf("%s is explained %v", key, got)
				}
			}
			if key == "viewer" || key == "support" {
				ask(key, "GET", "/v1/events/"+event, "", 403)
			} else if got := ask(key, "GET", "/v1/events/"+event+"?tenant=acme", "", 200); (got["data"] != nil) != sees[i] {
				t.Errorf("%s reads %v", key, got)
			}
		}
	}
	for _, key := range []string{"reader", "viewer", "support", "maker"} {
		ask(key, "POST", "/v1/subscriptions/preview", `{"event_types":["*"],"filter":"event.data.card == \"4111\""}`, 403)
	}
}

// The scopes of a type that change after the event hide its data from keys that lack either the scopes of then or those of now.
func TestExplainNeedsTheScopesOfThenAndNow(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	demand := func(eventType string, scopes ...string) {
		t.Helper()
		et, err := h.Store.GetEventType(t.Context(), "acme", eventType)
		if err == nil {
			et.Scopes = scopes
			err = h.Store.UpdateEventType(t.Context(), et)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h.Declare("acme", "order.opened", "", false)
	h.Declare("acme", "order.closed", "", false)
	demand("order.opened", "view:orders")
	sub := &subscriptions.Subscription{
		Tenant: "acme", Name: "test", URL: "https://example.com/", EventTypes: []string{"*"}, Filter: `event.data.card == "4111"`,
		Scopes: []string{subscriptions.AllScopes},
	}
	if err := h.Store.Create(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	h.Run()
	h.Publish("events.acme.order.opened", `{"card":"4111"}`, "Fanfare-Id", "opened")
	h.Publish("events.acme.order.closed", `{"card":"4111"}`, "Fanfare-Id", "closed")
	h.Settled()
	demand("order.opened")
	demand("order.closed", "view:orders")
	room := fair.NewRoom(1, time.Millisecond)
	ask := serveRoutes(h, fanout.Routes{Bytes: &fates{}, Deliveries: &fates{}, Heavy: room})
	leave, err := room.Enter(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	ask("acme", "GET", "/v1/events/opened/explain", "", 503) // It has no place among costly reads.
	leave()
	for key, sees := range map[string]bool{"acme": true, "debugger": false} {
		for _, event := range []string{"opened", "closed"} {
			results := ask(key, "GET", "/v1/events/"+event+"/explain?subscription="+sub.ID.String(), "", 200)["results"].([]any)
			for _, when := range []string{"then", "now"} {
				steps := results[0].(map[string]any)[when].(map[string]any)["steps"].([]any)
				filter := steps[len(steps)-1].(map[string]any)
				if shown := strings.Contains(fmt.Sprint(steps), `data.card was "4111"`); shown != sees || (filter["verdict"] == "pass") != sees {
					t.Errorf("%s, %s: %s is explained %v", event, when, key, steps)
				}
			}
		}
	}
}
