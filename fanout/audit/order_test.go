package audit_test

import (
	"fmt"
	"testing"

	"github.com/fanfarehq/fanfare/fanout/fanouttest"
)

// What waits for its turn is pending and no gap; if it is lost it is queued again.
func TestAnAuditKnowsTheOrder(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	h.work()
	ordered := h.Ordered("acme", "*")
	stop := h.Run()
	h.Publish("events.acme.shipped", `{"order":"a"}`, "Fanfare-Id", "o1")
	h.Publish("events.acme.shipped", `{"order":"a"}`, "Fanfare-Id", "o2")
	h.Settled()
	stop()
	if a := h.audit(); !a.Balanced || a.Pending != 2 || a.Held != 0 {
		t.Fatalf("the audit is %+v", a)
	}
	h.exec(`DELETE FROM deferrals WHERE event_id = 'o1'`)
	a := h.audit()
	if a.Balanced || len(a.Gaps) != 1 {
		t.Fatalf("the audit is %+v, want one gap", a)
	}
	if left, err := h.auditor.Mend(t.Context(), a); left != 0 || err != nil {
		t.Fatalf("%d gaps are left: %v", left, err)
	}
	if got := fmt.Sprint(fanouttest.Lists(h.Waiting(ordered))); got != "[[o1 o2]]" {
		t.Errorf("waiting: %s", got)
	}
	h.exec(`DELETE FROM events WHERE id = 'o1'`)
	h.exec(`DELETE FROM deferrals WHERE event_id = 'o1'`)
	if left, err := h.auditor.Mend(t.Context(), h.audit()); left != 0 || err != nil {
		t.Fatalf("%d gaps are left: %v", left, err)
	}
	if got := fmt.Sprint(fanouttest.Lists(h.Waiting(ordered))); got != "[[o1 o2]]" {
		t.Errorf("waiting after the event was fanned out anew: %s", got)
	}
}
