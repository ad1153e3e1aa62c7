package deliver_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// The leases of a worker that was killed are taken over although they would last for long, by workers that learn of it or by
// a start that has Postgres to itself.
func TestTheLeasesOfAKilledWorkerAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	r, connect := connections(t)
	r.recorder()
	cfg := brief()
	cfg.Lease = time.Hour
	for _, start := range []bool{false, true} {
		receiver := servertest.NewReceiver(t, servertest.Hang(), servertest.Status(200))
		v := r.victim(connect, cfg, nil)
		id := r.send(r.event(), r.subscribe(receiver.URL, hasty))
		receiver.Wait(1)
		r.Eventually("it to be handed off", func() bool {
			return r.Count(`SELECT count(*) FROM deferrals WHERE worker = $1 AND claim_at > now() + interval '30 minutes'`, v.name) == 1
		})
		v.kill()
		<-v.Done
		p := r.parts(cfg)
		if start {
			if err := deliver.ReleaseLeases(t.Context(), r.DB); err != nil {
				t.Fatal(err)
			}
		} else {
			p.deps.Killed = func(_ context.Context, known []string) ([]string, error) {
				if slices.Contains(known, v.name) {
					return nil, nil
				}
				return []string{v.name}, nil
			}
		}
		w := r.start(p)
		r.ended(id, outcome.Delivered, outcome.ReasonOK)
		r.settled()
		if n := len(receiver.Requests()); n != 2 {
			t.Errorf("got %d requests, want the one that was lost and one more", n)
		}
		w.Cancel()
		<-w.Done
	}
}
