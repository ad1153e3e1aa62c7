package audit_test

import (
	"testing"

	"github.com/danielgtaylor/huma/v2"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/changes"
)

// holdings puts responses, kept bytes and a pending delivery beside the deliveries of an event.
func (h *auditing) holdings(event string) {
	h.T.Helper()
	h.exec(`UPDATE deliveries SET response = 'secret', error = 'secret', attempts = 2 WHERE event_id = $1`, event)
	h.exec(`INSERT INTO attempts SELECT id, 1, now(), 1, 500, 'secret', 'secret', 'http_5xx' FROM deliveries WHERE event_id = $1`, event)
	h.exec(`INSERT INTO event_data SELECT uid, 'secret' FROM events WHERE id = $1`, event)
	h.exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at)
SELECT overlay(id::text placing 'ffff' from 33)::uuid, tenant, event_uid, event_id, event_type, seq, subscription_id, 1, 'busy', 0, 1, false, false,
    now(), now(), now() FROM deliveries WHERE event_id = $1 LIMIT 1`, event)
}

func (h *auditing) eraser() *fanout.Eraser {
	h.T.Helper()
	return fanout.NewEraser(fanout.EraserDeps{
		JetStream: h.JS, DB: h.DB, Deliveries: ledger.NewEraser(h.DB), Forget: h.events.Forget,
	})
}

// left counts what is left of contents and of what is pending.
func (h *auditing) left() (n int) {
	h.T.Helper()
	if err := h.DB.QueryRowContext(h.T.Context(), `
SELECT (SELECT count(*) FROM deliveries WHERE response IS NOT NULL OR error <> '') + (SELECT count(*) FROM attempts WHERE response IS NOT NULL OR error <> '')
    + (SELECT count(*) FROM event_data) + (SELECT count(*) FROM deferrals)`).Scan(&n); err != nil {
		h.T.Fatal(err)
	}
	return n
}

func TestAnEventsDataIsErasedAndTheCountsStay(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	h.holdings("e2")
	eraser := h.eraser()
	d := fanouttest.NewDesk(t, eraser.Register, func(to huma.API) {
		fanout.Routes{Ledger: h.Ledger, Reader: fanout.NewReader(h.JS), Bytes: h.bytes, Deliveries: history.NewCounts(history.RoutesDeps{DB: h.DB}), Directory: h.Directory, Changes: changes.NewLog(h.DB)}.Register(to)
	})
	d.Call("globex", "DELETE", "/v1/events/e2/data", nil, 404, nil)
	if h.left() == 0 {
		t.Fatal("there is nothing to erase")
	}
	for range 2 { // It may be repeated.
		d.Call("acme", "DELETE", "/v1/events/e2/data", nil, 204, nil)
	}
	if n := h.left(); n != 0 {
		t.Errorf("%d rows hold contents or are pending", n)
	}
	var shown map[string]any
	d.Call("acme", "GET", "/v1/events/e2", nil, 200, &shown)
	if shown["data"] != nil || shown["matched"] != 2.0 || shown["deliveries"].(map[string]any)["delivered"] != 2.0 {
		t.Errorf("the event is shown as %v", shown)
	}
	if a := h.audit(); !a.Balanced || a.Accepted != 4 || a.Delivered != 6 || a.Cancelled != 1 {
		t.Errorf("the audit is %+v", a)
	}
}

func TestATenantIsErased(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	h.holdings("e1")
	h.Publish("events.globex.order.created", `{}`, "Fanfare-Id", "foreign")
	eraser := h.eraser()
	// While the other tenant's event is on its way, nobody can tell that nothing of this one's is.
	if err := eraser.EraseTenant(t.Context(), "acme"); err == nil || h.left() != 0 {
		t.Errorf("with events on their way: %v, and %d rows are left", err, h.left())
	}
	h.Run()
	h.Settled()
	for range 2 {
		if err := eraser.EraseTenant(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	if n := h.left(); n != 0 {
		t.Errorf("%d rows hold contents or are pending", n)
	}
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil || stream.CachedInfo().State.Msgs != 1 {
		t.Errorf("the stream holds %d messages (%v), want that of the other tenant alone", stream.CachedInfo().State.Msgs, err)
	}
	if rows := h.Rows(); len(rows) != 1 {
		t.Errorf("the ledger has %v, want the other tenant's event alone", rows)
	}
	if n, err := eraser.CountTenant(t.Context(), "acme"); err != nil || n != 0 {
		t.Errorf("%d rows and messages are left (%v)", n, err)
	}
}

// A chunk in which some deliveries have ended meanwhile is not taken for the last one.
func TestErasingDoesNotStopEarly(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	h.exec(`INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at)
SELECT overlay(gen_random_uuid()::text placing 'ff' from 1)::uuid, v.tenant, v.uid, v.id, v.type, v.seq, gen_random_uuid(), n, 'busy', 0, 1, false, true, now(), now(), now()
FROM events v, generate_series(1, 5000) n WHERE v.id = $1`, "e2")
	h.exec(`INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason, attempts, created_at,
    ended_at, duration_us, status, error)
SELECT id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, 'dead', 'http_5xx', 0, now(), now(), 0, 500, 'secret'
FROM deferrals WHERE event_id = $1`, "e2")
	h.exec(`INSERT INTO attempts SELECT id, 1, now(), 1, 500, 'secret', 'secret', 'http_5xx' FROM deferrals WHERE event_id = $1`, "e2")
	d := fanouttest.NewDesk(t, h.eraser().Register)
	d.Call("acme", "DELETE", "/v1/events/e2/data", nil, 204, nil)
	if n := h.left(); n != 0 {
		t.Errorf("%d rows hold contents or are pending", n)
	}
}

// The erasure of a deleted tenant removes deliveries before events, and messages before rows: no gap of it is named.
func TestAnAuditLeavesOutATenantUnderErasure(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	h.exec(`DELETE FROM deliveries WHERE event_id = 'e1'`)
	h.exec(`DELETE FROM events WHERE id = 'e2'`)
	stream, err := h.JS.Stream(t.Context(), fanout.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), natsjs.WithPurgeSubject("events.acme.nobody.cares")); err != nil {
		t.Fatal(err)
	}
	h.exec(`INSERT INTO tenants (tenant, deleted_at) VALUES ('globex', now())`)
	kinds := map[history.Kind]int{}
	for _, g := range h.audit().Gaps {
		kinds[g.Kind]++
	}
	if kinds["event_not_in_ledger"] != 1 || kinds["event_not_in_stream"] != 1 || kinds["delivery_missing"] != 2 {
		t.Fatalf("the gaps of a tenant that exists are %v", kinds)
	}
	h.exec(`INSERT INTO tenants (tenant, deleted_at) VALUES ('acme', now())`)
	if a := h.audit(); !a.Balanced || a.Accepted != 4 || a.InLedger != 3 || a.InStream != 3 {
		t.Errorf("the audit is %+v, want what is left counted", a)
	}
	var a struct {
		Accepted int
		Balanced bool
	}
	fanouttest.NewDesk(t, h.auditor.Register).Call("admin", "GET", "/v1/audit?tenant=acme", nil, 200, &a)
	if a.Accepted != 4 || !a.Balanced {
		t.Errorf("the audit of the tenant is %+v", a)
	}
}
