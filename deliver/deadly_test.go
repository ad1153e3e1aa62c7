package deliver_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/internal/suspect"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// died notes that so many processes in a row died with a message about a subject in hand.
func (r *rig) died(stage string, about suspect.Subject, times int) {
	r.T.Helper()
	if _, err := r.DB.Exec(`INSERT INTO suspect_subjects (stage, about, life, tries) VALUES ($1, $2, $3, $4)`, stage, about, uuid.New(), times); err != nil {
		r.T.Fatal(err)
	}
}

// left waits until nothing is counted but what was put away, of which the last try does not count.
func (r *rig) left(quarantined, tries int) {
	r.T.Helper()
	r.Eventually("the message to be in quarantine, if it is to be", func() bool {
		return r.Count(`SELECT count(*) FROM quarantine WHERE reason = 'internal'`) == quarantined
	})
	r.Eventually("the counts to be settled", func() bool {
		return r.Count(`SELECT count(*) FROM suspect_subjects`) == quarantined && r.Count(`SELECT count(*) FROM suspect_subjects WHERE tries = $1`, tries) == quarantined
	})
}

// A message of tasks that was in hand at three deaths is taken apart, each delivery with a row of its own. After one more it goes
// to quarantine and its deliveries end; if that kills the process, too, it goes to quarantine alone.
func TestATaskThatKillsWorkersIsQuarantined(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		deaths, quarantined int
		state               outcome.Outcome // empty: nothing is known of the deliveries
	}{
		{suspect.MaxTries - 1, 0, outcome.Delivered},
		{suspect.MaxTries, 0, outcome.Delivered},
		{suspect.MaxTries + 1, 1, outcome.Dead},
		{suspect.MaxTries + 2, 1, ""},
	} {
		t.Run(fmt.Sprint(tt.deaths, " deaths"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			receiver := servertest.NewReceiver(t)
			first, second := r.subscribe(receiver.URL, nil), r.subscribe(receiver.URL, nil)
			e := r.event()
			r.send(e, first, second)
			r.died("deliver", suspect.Of(e.Tenant, e.ID), tt.deaths)
			guards := suspect.New(r.DB, r.Log, "deliver", "recorder")
			p := r.parts(quick())
			p.deps.Suspects = guards[0]
			r.start(p)
			r.recorder()
			other := r.send(r.event(), first)
			r.ended(other, outcome.Delivered, outcome.ReasonOK)
			for _, sub := range []*subscriptions.Subscription{first, second} {
				switch id := outcome.ID(e.UID, sub.ID, 0, e.AcceptedAt); tt.state {
				case outcome.Delivered:
					r.ended(id, outcome.Delivered, outcome.ReasonOK)
				case outcome.Dead:
					r.ended(id, outcome.Dead, outcome.ReasonProtocol)
				}
			}
			r.settled()
			r.left(tt.quarantined, tt.deaths)
			if n := r.Count(`SELECT count(*) FROM quarantine WHERE reason = 'internal'`); n != tt.quarantined {
				t.Errorf("%d messages in quarantine, want %d", n, tt.quarantined)
			}
			want := 1
			if tt.state == outcome.Delivered {
				want = 3
			}
			if n := len(receiver.Requests()); n != want {
				t.Errorf("%d requests, want %d", n, want)
			}
		})
	}
}

// Outcomes that kill the recorder go to quarantine. What became of their deliveries is recorded, if that can be done.
func TestOutcomesThatKillTheRecorderAreQuarantined(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ deaths, quarantined, recorded int }{
		{suspect.MaxTries, 0, 1}, {suspect.MaxTries + 1, 1, 1}, {suspect.MaxTries + 2, 1, 0},
	} {
		t.Run(fmt.Sprint(tt.deaths, " deaths"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			receiver := servertest.NewReceiver(t)
			sub := r.subscribe(receiver.URL, nil)
			r.worker(quick())
			id := r.send(r.event(), sub)
			r.Eventually("an outcome to be on disk", func() bool {
				return must(r.JS.Stream(t.Context(), ledger.Stream))(t).CachedInfo().State.Msgs == 1
			})
			r.died("recorder", suspect.Of(id.String()), tt.deaths)
			guards := suspect.New(r.DB, r.Log, "deliver", "recorder")
			r.recorder(func(deps *ledger.RecorderDeps) { deps.Suspects = guards[1] })
			r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
			r.left(tt.quarantined, tt.deaths)
			if n := r.Count(`SELECT count(*) FROM quarantine WHERE reason = 'internal'`); n != tt.quarantined {
				t.Errorf("%d messages in quarantine, want %d", n, tt.quarantined)
			}
			if n := r.Count(`SELECT count(*) FROM deliveries WHERE state = 'delivered' AND id = $1`, id); n != tt.recorded {
				t.Errorf("%d deliveries recorded, want %d", n, tt.recorded)
			}
		})
	}
}

// While Postgres cannot count, tasks are delivered as usual.
func TestSuspectTasksAreDeliveredWithoutCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	id := r.send(r.event(), sub)
	db := r.Open()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	p := r.parts(quick())
	p.deps.Suspects = suspect.New(db, r.Log, "deliver")[0]
	r.start(p)
	r.recorder()
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
}
