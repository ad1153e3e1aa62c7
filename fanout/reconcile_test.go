package fanout_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/fanout"
)

func TestWhatIsOverdueIsSentUnasked(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	if err := h.tasks.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	before := len(h.tray.all())
	r := fanout.NewReconciler(h.auditor, prometheus.NewRegistry())
	fanout.SetClock(r, func() time.Time { return time.Now().Add(time.Hour) })
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.eventually("the missing deliveries are sent", func() bool { return len(h.tray.all()) > before })
	h.eventually("all adds up", func() bool { return h.audit().Balanced })
	cancel()
	running.Wait()
}
