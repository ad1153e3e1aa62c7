package fanout_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// ingestHeaders are those that ingest writes, as any client of NATS may forge them.
var ingestHeaders = map[string][]string{
	"checked":         {"Fanfare-Checked", "1"},
	"a test":          {"Fanfare-Checked", "1", "Fanfare-Test", "1"},
	"made":            {"Fanfare-Checked", "1", "Fanfare-Made", "1"},
	"all three":       {"Fanfare-Checked", "1", "Fanfare-Made", "1", "Fanfare-Test", "1"},
	"in other cases":  {"fanfare-checked", "1", "FANFARE-TEST", "1"},
	"a foreign claim": {"Fanfare-Checked", "1", "Fanfare-Test", "1", "ce-tenant", "globex"},
}

func TestForgedHeadersDoNotReachAnotherTenant(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	own, foreign, disabled := h.Subscribe("acme", "other"), h.Subscribe("globex", "*"), h.Subscribe("globex", "*")
	h.Status(disabled, subscriptions.Disabled)
	h.Run()
	targets := strings.Join([]string{foreign.ID.String(), disabled.ID.String(), own.ID.String()}, ",")
	for name, forged := range ingestHeaders {
		h.Publish("events.acme.order", `{}`, append([]string{"Fanfare-Id", uuid.NewString(), "Fanfare-Targets", targets}, forged...)...)
		h.Publish("events.acme.order", `{}`, append([]string{"Fanfare-Id", uuid.NewString()}, forged...)...)
		h.Settled()
		for _, task := range h.Tray.All() {
			for _, to := range task.Targets {
				if task.Event.Tenant != "acme" || to.Subscription != own.ID {
					t.Fatalf("with headers that say %s, %s got an event of %s", name, to.Subscription, task.Event.Tenant)
				}
			}
		}
	}
	if n := len(h.Tray.All()); n != len(ingestHeaders)-1 {
		t.Errorf("%d tasks for %s, want one for each that names it and whose tenant is that of its subject", n, own.ID)
	}
}

func TestForgedHeadersDoNotStallFanOut(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Declare("acme", "order", `{"type":"object","required":["total"]}`, false)
	s := h.Subscribe("acme", "*")
	filtered := &subscriptions.Subscription{
		Tenant: "acme", Name: "filtered", URL: "https://example.com/", EventTypes: []string{"*"},
		Filter: "event.data.total > 1", Scopes: []string{subscriptions.AllScopes},
	}
	if err := h.Store.Create(t.Context(), filtered); err != nil {
		t.Fatal(err)
	}
	h.Run()
	want := map[uint64]event.Reason{}
	for _, forged := range ingestHeaders {
		if len(forged) > 4 {
			continue // The claim to be another tenant's is refused before.
		}
		for data, reason := range map[string]event.Reason{
			``: event.BadData, `{"total":`: event.BadData, "\xff\x00": event.BadData, `{"a":1,"a":2}`: event.BadData, `1 2`: event.BadData,
			strings.Repeat("[", 500_000):                          event.TooDeep,
			strings.Repeat(`{"a":`, 65) + strings.Repeat("}", 65): event.TooDeep,
			`"` + strings.Repeat("a", 1000<<10) + `"`:             event.TooLarge,
		} {
			want[h.Publish("events.acme.order", data, append([]string{"Fanfare-Id", uuid.NewString()}, forged...)...)] = reason
		}
	}
	// What ingest has answered for is taken, though it is larger than this process takes and breaks the schema.
	large := `"` + strings.Repeat("a", 700<<10) + `"`
	h.Publish("events.acme.order", large, "Fanfare-Id", "large", "Fanfare-Checked", "1")
	h.Publish("events.acme.order", `{"total":2}`, "Fanfare-Id", "good")
	h.Settled()
	got := h.Quarantined()
	for seq, reason := range want {
		if got[seq] != reason {
			t.Errorf("message %d is in quarantine as %q, want %q", seq, got[seq], reason)
		}
	}
	if to := h.Tray.Targets(); len(got) != len(want) || len(to) != 2 || to["large"][s.ID] != 1 || to["good"][s.ID] != 1 || to["good"][filtered.ID] != 1 {
		t.Errorf("%d messages are in quarantine, want %d; what is good goes to %v", len(got), len(want), to)
	}
}

// Made spares the look-up of the id. Whoever says it of an id that another event has loses neither.
func TestAForgedMadeLosesNoEvent(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	s := h.Subscribe("acme", "*")
	h.Run()
	h.Reading()
	// An id that Fanfare does not make is looked up all the same.
	h.Publish("events.acme.order", `{"n":1}`, "Fanfare-Id", "mine")
	h.Settled()
	seq := h.Publish("events.acme.order", `{"n":2}`, "Fanfare-Id", "mine", "Fanfare-Made", "1", "Fanfare-Checked", "1")
	h.Settled()
	if got := h.Quarantined(); len(got) != 1 || got[seq] != event.Conflict || h.Tray.Targets()["mine"][s.ID] != 1 {
		t.Errorf("in quarantine are %v, want %d as a conflict", got, seq)
	}
	// With one that it makes, both are events, each with its own deliveries.
	id := uuid.Must(uuid.NewV7()).String()
	h.Publish("events.acme.order", `{"n":1}`, "Fanfare-Id", id)
	h.Settled()
	h.Publish("events.acme.order", `{"n":2}`, "Fanfare-Id", id, "Fanfare-Made", "1", "Fanfare-Checked", "1")
	h.Settled()
	seen := map[uuid.UUID]string{}
	for _, task := range h.Tray.All() {
		if task.Event.ID == id {
			seen[task.Event.UID] = string(task.Event.Data)
		}
	}
	var rows, matched int
	if err := h.DB.QueryRow(`SELECT count(DISTINCT uid), sum(matched) FROM events WHERE id = $1`, id).Scan(&rows, &matched); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || rows != 2 || matched != 2 {
		t.Errorf("%v were handed over, %d rows with %d matches are in the ledger, want 2 each", seen, rows, matched)
	}
	// The id stands for both from then on.
	h.Publish("events.acme.order", `{"n":1}`, "Fanfare-Id", id)
	seq = h.Publish("events.acme.order", `{"n":3}`, "Fanfare-Id", id)
	h.Settled()
	if got := h.Quarantined(); len(got) != 2 || got[seq] != event.Conflict || h.Tray.Targets()[id][s.ID] != 2 {
		t.Errorf("in quarantine are %v, want %d as a conflict", got, seq)
	}
}

// Of two events of one id and millisecond the ledger has one row. The other one is in quarantine, not gone.
func TestTwoEventsOfOneIDAndMillisecond(t *testing.T) {
	t.Parallel()
	// other is another event in the place of one.
	other := func(tenant, id string, at time.Time, seq uint64) *event.Event {
		return &event.Event{ID: id, Tenant: tenant, Type: "order", Time: at, AcceptedAt: at, UID: event.UID(tenant, id, at), Seq: seq + 1000, Data: []byte(`{"other":true}`)}
	}
	t.Run("it is in the ledger before", func(t *testing.T) {
		t.Parallel()
		h := fanouttest.New(t)
		h.Subscribe("acme", "*")
		seq := h.Publish("events.acme.order", `{}`, "Fanfare-Id", "e")
		stored, err := fanout.NewReader(h.JS).Read(t.Context(), seq)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Ledger.Record(t.Context(), other("acme", "e", stored.AcceptedAt, seq), 0, 0); err != nil {
			t.Fatal(err)
		}
		h.Run()
		h.Settled()
		if got := h.Quarantined(); got[seq] != event.Conflict || len(h.Tray.All()) != 0 {
			t.Errorf("in quarantine are %v, want the event as a conflict", got)
		}
	})
	t.Run("it is recorded in between", func(t *testing.T) {
		t.Parallel()
		h := fanouttest.New(t)
		h.Subscribe("acme", "*")
		h.Tray.Do(func(tasks []deliver.Task) error {
			e := tasks[0].Event
			if e.ID != "e" {
				return nil
			}
			return h.Ledger.Record(t.Context(), other(e.Tenant, e.ID, e.AcceptedAt, e.Seq), 0, 0)
		})
		h.Run()
		seq := h.Publish("events.acme.order", `{}`, "Fanfare-Id", "e")
		h.Publish("events.acme.order", `{}`, "Fanfare-Id", "next")
		h.Settled()
		if got := h.Quarantined(); len(got) != 1 || got[seq] != event.Conflict {
			t.Errorf("in quarantine are %v, want the event as a conflict", got)
		}
		if rows := h.Rows(); len(rows) != 2 || rows["next"] != 1 {
			t.Errorf("the ledger has %v", rows)
		}
	})
}
