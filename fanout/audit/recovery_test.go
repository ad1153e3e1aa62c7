package audit_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout/audit"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// recovery runs a Recovery, as a process of Fanfare that starts does, until it has recovered.
func recovery(h *fanouttest.House, auditor *audit.Auditor) *audit.Recovery {
	h.T.Helper()
	r := audit.NewRecovery(audit.NewReconciler(auditor, prometheus.NewRegistry()))
	ctx, cancel := context.WithCancel(h.T.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			h.T.Error(err)
		}
	})
	h.Eventually("what was lost is sent again", func() bool { return r.Recovered(h.NC.ConnectedServerId()) })
	cancel()
	running.Wait()
	return r
}

// A broker that died may have lost tasks: those of events that were not settled are sent again by the next process of
// Fanfare that finds another broker.
func TestRecoverySendsWhatTheBrokerLost(t *testing.T) {
	t.Parallel()
	h := newAuditing(t)
	r := recovery(h.House, h.auditor)
	if got := r.Broker(); got != h.NC.ConnectedServerId() {
		t.Errorf("the broker is %q", got)
	}
	before := len(h.Tray.All())
	if err := h.tasks.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	recovery(h.House, h.auditor)
	if n := len(h.Tray.All()) - before; n != 0 {
		t.Errorf("%d tasks were sent again, though the broker is the same", n)
	}
	h.exec(`UPDATE settled SET broker = 'gone'`)
	recovery(h.House, h.auditor)
	again := h.Tray.All()[before:]
	if len(again) == 0 || !again[0].Suspect {
		t.Errorf("%+v was sent again, want the lost tasks, suspect", again)
	}
	h.balanced()
	h.work()

	// What settled is not looked at again.
	if err := r.Settled(t.Context(), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := r.Settled(t.Context(), time.Now()); err != nil { // by a process that is behind
		t.Fatal(err)
	}
	before = len(h.Tray.All())
	h.exec(`DELETE FROM deliveries WHERE event_id = 'e1'`)
	h.exec(`UPDATE settled SET broker = 'gone again'`)
	recovery(h.House, h.auditor)
	if n := len(h.Tray.All()) - before; n != 0 {
		t.Errorf("%d tasks of settled events were sent again", n)
	}
}

// Streams that are synced lose nothing, so nothing is audited.
func TestRecoveryOfSyncedStreams(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	for _, b := range []jetstream.Inbox{deliver.Inbox(1 << 20), deliver.BacklogInbox(1 << 20), ledger.Inbox(1 << 20)} {
		b.Unsynced = false
		if err := jetstream.Apply(t.Context(), h.JS, b); err != nil {
			t.Fatal(err)
		}
	}
	r := recovery(h, audit.NewAuditor(audit.Deps{JetStream: h.JS, DB: h.DB, Logger: slog.New(slog.DiscardHandler)}))
	if got := r.Broker(); got != "" {
		t.Errorf("the broker is %q, want none that loses anything", got)
	}
}
