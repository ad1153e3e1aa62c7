package audit_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout/audit"
)

func TestWhatIsOverdueIsSentUnasked(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	if err := h.tasks.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	before := len(h.Tray.All())
	// One match is of a subscription that nobody knows: it cannot be mended, and is told.
	h.exec(`UPDATE events SET matched = 1 WHERE id = 'e4'`)
	metrics := prometheus.NewRegistry()
	r := audit.NewReconciler(h.auditor, metrics)
	audit.SetClock(r, func() time.Time { return time.Now().Add(time.Hour) })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.Eventually("the missing deliveries are sent", func() bool { return len(h.Tray.All()) > before })
	h.Eventually("what cannot be mended is all that is left", func() bool { return len(h.audit().Gaps) == 1 })
	if g := h.audit().Gaps[0]; g.EventID != "e4" || g.SubscriptionID != nil || !strings.Contains(g.Detail, "1 matched, 0 have") {
		t.Errorf("the gap that is left is %+v", g)
	}
	h.Eventually("the metrics tell", func() bool {
		return value(t, metrics, "fanfare_audit_gaps") == 1 && value(t, metrics, "fanfare_audit_mended_total") >= 2
	})
	cancel()
	running.Wait()
}

// A database that was restored knows of a round long ago: the next one goes on from there, however far it is back.
func TestReconcilerGoesOnAfterARestore(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	if err := h.tasks.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	before := len(h.Tray.All())
	h.exec(`INSERT INTO chores (name, worker, until, place) VALUES ('reconcile', 'gone', now(), now() - interval '1 hour')`)
	r := audit.NewReconciler(h.auditor, prometheus.NewRegistry())
	audit.SetClock(r, func() time.Time { return time.Now().Add(10 * time.Hour) })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.Eventually("the missing deliveries are sent", func() bool { return len(h.Tray.All()) > before })
	cancel()
	running.Wait()
}

// value is the sum over a metric's labels.
func value(t *testing.T, from prometheus.Gatherer, name string) (sum float64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return sum
}
