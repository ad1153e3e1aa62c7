package ingest_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestATestEventGoesToItsSubscription(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.events.EventTypes = fanout.Strict })
	sub := h.subscribe("acme", "order.*", "order.created")
	h.declare("acme", "order.created", "", false)
	if _, err := h.DB.Exec(`UPDATE event_types SET sample = '{"sample": 1}', revision = revision`); err != nil {
		t.Fatal(err)
	}
	path := "/v1/subscriptions/" + sub.ID.String() + "/test"
	for _, test := range []struct{ name, body, eventType, data string }{
		{"by default", ``, "order.created", `{"sample": 1}`},
		{"empty", `{}`, "order.created", `{"sample": 1}`},
		{"with a type", `{"type":"invoice.paid"}`, "invoice.paid", `{"message":"This is a test event."}`},
		{"with data", `{"data":{ "n":1.0 }}`, "order.created", `{ "n":1.0 }`},
		{"with both", `{"type":"other","data":null}`, "other", `null`},
	} {
		a := h.post("acme", path, test.body)
		if a.status != http.StatusAccepted {
			t.Errorf("%s: answered %d %s", test.name, a.status, a.body)
			continue
		}
		var got struct {
			EventID    string    `json:"event_id"`
			DeliveryID uuid.UUID `json:"delivery_id"`
		}
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatal(err)
		}
		all := h.stored()
		m := all[len(all)-1]
		if m.Subject != "events.acme."+test.eventType || string(m.Data) != test.data ||
			m.Header.Get(event.HeaderTest) != "1" || m.Header.Get(event.HeaderTargets) != sub.ID.String() || m.Header.Get("Nats-Msg-Id") != "acme."+got.EventID {
			t.Errorf("%s: stored %s %v %s", test.name, m.Subject, m.Header, m.Data)
		}
		// What fan-out and deliver will make of the message.
		stored, err := fanout.NewReader(h.JS).Read(t.Context(), m.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		e := *stored
		if want := outcome.ID(e.UID, sub.ID, 0, e.AcceptedAt); got.DeliveryID != want {
			t.Errorf("%s: the delivery is %s, want %s", test.name, got.DeliveryID, want)
		}
	}
}

func TestWhoMayTest(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	sub, disabled := h.subscribe("acme", "*"), h.subscribe("acme", "*")
	if _, err := h.DB.Exec(`WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
		UPDATE subscriptions SET status = $2, revision = r.value FROM r WHERE id = $1`, disabled.ID, subscriptions.Disabled); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, key, id, body string
		status              int
	}{
		{"its own", "acme", sub.ID.String(), `{}`, 202},
		{"admin", "admin", sub.ID.String(), `{}`, 202},
		{"another's", "globex", sub.ID.String(), `{}`, 404},
		{"unknown", "acme", uuid.NewString(), `{}`, 404},
		{"no id", "acme", "x", `{}`, 404},
		{"no scope", "reader", sub.ID.String(), `{}`, 403},
		{"no key", "nobody", sub.ID.String(), `{}`, 401},
		{"disabled", "acme", disabled.ID.String(), `{}`, 409},
		{"bad type", "acme", sub.ID.String(), `{"type":"a-b"}`, 422},
		{"unknown field", "acme", sub.ID.String(), `{"foo":1}`, 422},
		{"bad JSON", "acme", sub.ID.String(), `{`, 400},
	} {
		if a := h.post(test.key, "/v1/subscriptions/"+test.id+"/test", test.body); a.status != test.status {
			t.Errorf("%s: answered %d %s, want %d", test.name, a.status, a.body, test.status)
		}
	}
	if n := len(h.stored()); n != 2 {
		t.Errorf("%d events are stored, want 2", n)
	}
}

func TestTestingWithoutABrokerIsUnavailable(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.cfg.Timeout = 1e9 })
	sub := h.subscribe("acme", "*")
	h.nats.Shutdown()
	a := h.post("acme", "/v1/subscriptions/"+sub.ID.String()+"/test", `{}`)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("answered %d %s", a.status, a.body)
	}
}
