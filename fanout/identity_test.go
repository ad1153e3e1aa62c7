package fanout_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Two sources that count from 1 publish two events, whatever their ids are.
func TestCloudEventsAreKnownBySourceAndID(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	h.Reading()
	ce := func(source, id string, more ...string) {
		h.Publish("events.acme.order", `1`, append([]string{"ce-specversion", "1.0", "ce-source", source, "ce-id", id}, more...)...)
	}
	ce("/a", "1")
	ce("/b", "1")
	ce("/b", "1") // a repeat
	ce("/c", "partition:0/offset:1", "Nats-Msg-Id", "acme./c partition:0/offset:1")
	ce("/d", "1", "Nats-Msg-Id", "acme."+event.CloudID("/d", "1"))
	ce("/e", "1", "Content-Type", "application/xml")
	h.Settled()
	rows := h.Rows()
	for _, id := range []string{
		event.CloudID("/a", "1"), event.CloudID("/b", "1"), event.CloudID("/c", "partition:0/offset:1"), event.CloudID("/d", "1"),
		event.CloudID("/e", "1"),
	} {
		if _, ok := rows[id]; !ok {
			t.Errorf("%s is not in the ledger", id)
		}
	}
	if len(rows) != 5 || len(h.Quarantined()) != 0 {
		t.Errorf("ledger %v, quarantine %v", rows, h.Quarantined())
	}
}

// A message id that could make another tenant's event a duplicate is refused when it is first seen.
func TestMessageIDsNameTheirTenant(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	h.Reading()
	bad := []uint64{
		h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "17"),
		h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "globex.17"),
		h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "acme."),
		h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "acme.a b"),
		h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "acme.18", "ce-source", "/a", "ce-id", "18"),
		h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "19", "Fanfare-Id", "19"),
	}
	h.Publish("events.acme.order", `1`, "Nats-Msg-Id", "acme.17")
	h.Settled()
	got := h.Quarantined()
	for _, seq := range bad {
		if got[seq] != event.MessageID {
			t.Errorf("message %d: reason %q", seq, got[seq])
		}
	}
	if rows := h.Rows(); len(rows) != 1 || len(got) != len(bad) {
		t.Errorf("ledger %v, quarantine %v", rows, got)
	}
}

// Nobody but Fanfare publishes its types, whatever headers he writes.
func TestReservedTypesNeedFanfaresMark(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	sub := h.Subscribe("acme", "*")
	h.Run()
	h.Reading()
	notice := func(id string) *event.Event {
		e := &event.Event{ID: id, Tenant: "acme", Type: "fanfare.subscription.disabled", Time: time.Now(), Data: []byte(`{}`), Checked: true}
		fanouttest.Marks.Sign(e)
		return e
	}
	own, foreign := notice("own"), notice("foreign")
	foreign.Mark = own.Mark
	changed := notice("changed")
	changed.Data = []byte(`{"forged":true}`)
	publisher, err := jetstream.NewPublisher(h.JS, jetstream.PublisherConfig{Dedupe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = publisher.Close() }()
	for _, e := range []*event.Event{own, foreign, changed} {
		if _, _, err := fanout.Send(t.Context(), publisher, e); err != nil {
			t.Fatal(err)
		}
	}
	h.Publish("events.acme.fanfare.test", `{}`, "Fanfare-Test", "1", "Fanfare-Targets", sub.ID.String(), "Fanfare-Checked", "1")
	h.Settled()
	if rows := h.Rows(); len(rows) != 1 || rows["own"] != 1 {
		t.Errorf("ledger %v", rows)
	}
	got := h.Quarantined()
	for seq, reason := range got {
		if reason != event.ReservedType {
			t.Errorf("message %d: reason %q", seq, reason)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d messages are in quarantine, want 3", len(got))
	}
}

// What is handed over is what is read again: a header in two lines is one list everywhere.
func TestHeadersInTwoLines(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	sub := &subscriptions.Subscription{
		Tenant: "acme", Name: "second of each", URL: "https://example.com/", EventTypes: []string{"*"}, ResourceID: "b", Changed: []string{"y"},
	}
	if err := h.Store.Create(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	h.Run()
	h.Reading()
	h.Publish("events.acme.order", `1`, "Fanfare-Id", "e", "Fanfare-Resource-Ids", "a", "Fanfare-Resource-Ids", "b", "ce-changed", "x", "ce-changed", "y")
	h.Settled()
	if n := len(h.Tray.All()); n != 1 {
		t.Errorf("%d tasks are made, want 1", n)
	}
	ask := serve(h, &fates{})
	got := ask("acme", "GET", "/v1/events/e", "", 200)
	text, err := json.Marshal([]any{got["resource_ids"], got["changed"]})
	if err != nil || string(text) != `[["a","b"],["x","y"]]` {
		t.Errorf("shown is %s", text)
	}
	for _, result := range ask("acme", "GET", "/v1/events/e/explain", "", 200)["results"].([]any) {
		if x := result.(map[string]any); x["matched"] != true || x["now"].(map[string]any)["matched"] != true || !strings.Contains(fmt.Sprint(x), "changed was x, y") {
			t.Errorf("explained is %v", x)
		}
	}
	preview := ask("acme", "POST", "/v1/subscriptions/preview", `{"event_types":["*"],"resource_id":"b","changed":["y"]}`, 200)
	if preview["matched"] != 1.0 {
		t.Errorf("the preview is %v", preview)
	}
}
