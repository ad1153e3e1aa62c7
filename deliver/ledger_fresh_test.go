package deliver

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
)

// delivered makes records of deliveries that succeeded at once, with events of their own.
func delivered(n int) []*outcome.Record {
	at := time.Now().Truncate(time.Microsecond)
	list := make([]*outcome.Record, n)
	for i := range list {
		id := fmt.Sprintf("e%d-%s", i, uuid.New())
		f := flight{
			Deferral: ledger.Deferral{
				Tenant: "acme", EventUID: event.UID("acme", id, at), EventID: id, EventType: "größe.geändert", Seq: uint64(i),
				Subscription: uuid.New(), Created: at,
			},
		}
		f.Delivery = outcome.ID(f.EventUID, f.Subscription, 0, at)
		list[i] = f.record(outcome.Delivered, outcome.ReasonOK, at.Add(time.Second))
		list[i].Step, list[i].Attempts = 1, 1
		list[i].Attempt = &outcome.Made{Number: 1, StartedAt: at, Micros: 900, Status: 204, Reason: outcome.ReasonOK}
	}
	return list
}

// Repeats come after groups that had none, once, in the same group, and together with what is new.
func TestRepeatsAmongWhatIsNew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l := ledger.New(r.db)
	t.Cleanup(l.Close)
	all := delivered(40)
	for _, step := range []struct {
		name  string
		group []*outcome.Record
		new   bool // the next group is written as if it was all new
	}{
		{"nothing is known", all[:10], true},
		{"all new", all[10:20], true},
		{"a repeat", slices.Concat(all[5:6], all[20:25]), false},
		{"repeats alone", all[:20], false},
		{"new again", all[25:30], true},
		{"twice in one group", slices.Concat(all[30:35], all[32:33]), false},
		{"new once more", all[35:], true},
	} {
		if err := l.Write(t.Context(), step.group); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if got := l.AllNew.Load(); got != step.new {
			t.Errorf("%s: next as new is %v, want %v", step.name, got, step.new)
		}
	}
	if n := r.count(`SELECT count(DISTINCT number) FROM deliveries WHERE state = 'delivered' AND status = 204 AND seq < 40`); n != len(all) {
		t.Errorf("%d deliveries with numbers of their own, want %d", n, len(all))
	}
}

// Several that write the same at once write it once.
func TestRepeatsOfSeveralAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	all := delivered(400)
	var wg sync.WaitGroup
	for range 4 {
		l := ledger.New(r.db)
		l.AllNew.Store(true)
		wg.Go(func() {
			defer l.Close()
			for group := range slices.Chunk(all, 50) {
				if err := l.Write(t.Context(), group); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := r.count(`SELECT count(*) FROM deliveries`); n != len(all) {
		t.Errorf("%d deliveries, want %d", n, len(all))
	}
}
