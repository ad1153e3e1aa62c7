package audit_test

import "testing"

// Of one tenant's messages in quarantine the newest are kept; another tenant's stay. An audit does not miss those that
// were removed, but still an event that left no trace.
func TestQuarantineOfATenantIsBounded(t *testing.T) {
	t.Parallel()
	h := newAuditing(t) // one message of which is in quarantine
	h.work()
	h.balanced()
	h.exec(`INSERT INTO quarantine (id, tenant, stream_seq, subject, received_at, reason, detail, data)
		SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, CASE WHEN n > 10005 THEN 'globex' ELSE 'initech' END, 1000000 + n, 's', now(), 'data', '', ''
		FROM generate_series(1, 10010) n`)
	h.Run()
	newest := h.Publish("events.initech.order.created", `{"total":`)
	h.Settled()
	h.Eventually("10,000 messages are kept", func() bool { return len(h.Quarantined()) == 10_006 })
	if got := h.Quarantined(); got[newest] == "" || got[1_000_006] != "" || got[1_000_007] == "" || got[1_000_010] == "" {
		t.Errorf("the newest message is in quarantine as %q, the oldest as %q", got[newest], got[1_000_006])
	}
	// All up to the newest are removed, as if many had come since.
	h.exec(`INSERT INTO quarantine_trims (tenant, upto) SELECT tenant, id FROM quarantine WHERE tenant = 'initech' ORDER BY id DESC LIMIT 1
		ON CONFLICT (tenant) DO UPDATE SET upto = excluded.upto`)
	h.exec(`DELETE FROM quarantine WHERE tenant = 'initech'`)
	h.balanced()
	h.exec(`DELETE FROM events WHERE id = 'e4'`)
	if found := h.audit(); len(found.Gaps) != 1 || found.Gaps[0].EventID != "e4" {
		t.Errorf("got %+v, want the gap of e4", found.Gaps)
	}
}
