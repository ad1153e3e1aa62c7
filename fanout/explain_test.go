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

// Once an event's data is gone, what cannot be told of a match is null, and what other steps or a delivery decide stays.
func TestAMatchThatCannotBeToldIsNull(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	create := func(filter string, types ...string) *subscriptions.Subscription {
		t.Helper()
		s := &subscriptions.Subscription{
			Tenant: "acme", Name: "test", URL: "https://example.com/", EventTypes: types, Filter: filter, Scopes: []string{subscriptions.AllScopes},
		}
		if err := h.Store.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	filtered, delivered, changed := create("event.data.total > 100", "order.*"), create("event.data.total > 10", "order.*"), create("event.data.total > 10", "order.*")
	replayed, plain, other := create("event.data.total > 100", "order.*"), create("", "order.*"), create("event.data.total > 100", "invoice.*")
	h.Run()
	plainSeq := h.Publish("events.acme.order.created", `{"total":90}`, "Fanfare-Id", "plain")
	targetedSeq := h.Publish("events.acme.invoice.paid", `{"total":90}`, "Fanfare-Id", "targeted", "Fanfare-Targets", delivered.ID.String())
	h.Settled()
	changed.Filter = "event.data.total > 200"
	if err := h.Store.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{plainSeq, targetedSeq} {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		event     string
		sub       *subscriptions.Subscription
		delivery  bool
		then, now any
	}{
		{"plain", filtered, false, nil, nil},
		{"plain", delivered, true, true, true},
		{"plain", changed, true, true, nil},
		{"plain", replayed, true, nil, nil},
		{"plain", changed, false, nil, nil},
		{"plain", plain, false, true, true}, // It asks for nothing that is gone.
		{"plain", other, false, false, false},
		{"targeted", filtered, false, nil, nil},
		{"targeted", delivered, true, true, true}, // Its type is not the subscription's, but the event names its targets.
	} {
		f := &fates{}
		if tc.delivery {
			f.to, f.later = tc.sub.ID, tc.sub == replayed
		}
		got := serve(h, f)("acme", "GET", "/v1/events/"+tc.event+"/explain?subscription="+tc.sub.ID.String(), "", 200)["results"].([]any)[0].(map[string]any)
		then, now := got["then"].(map[string]any)["matched"], got["now"].(map[string]any)["matched"]
		if then != tc.then || now != tc.now || got["matched"] != tc.then {
			t.Errorf("%s to types %v with filter %q, delivered %t: matched %v, then %v, now %v; want %v then and %v now: %v",
				tc.event, tc.sub.EventTypes, tc.sub.Filter, tc.delivery, got["matched"], then, now, tc.then, tc.now, got["steps"])
		}
	}
}
