package fanout_test

import "testing"

// Of one tenant's messages in quarantine the newest are kept; another tenant's stay.
func TestQuarantineOfATenantIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if _, err := h.db.Exec(`INSERT INTO quarantine (id, tenant, stream_seq, subject, received_at, reason, detail, data)
		SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, CASE WHEN n > 10005 THEN 'globex' ELSE 'acme' END, 1000000 + n, 's', now(), 'data', '', ''
		FROM generate_series(1, 10010) n`); err != nil {
		t.Fatal(err)
	}
	h.run()
	seq := h.publish("events.acme.order", `{"total":`)
	h.settled()
	if got := h.quarantined(); len(got) != 10_005 || got[seq] == "" || got[1_000_005] != "" || got[1_000_007] == "" {
		t.Errorf("%d messages are in quarantine, the new one as %q", len(got), got[seq])
	}
}
