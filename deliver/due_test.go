package deliver_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Several workers share the due deliveries, and none is made twice. Each place and each lease is given back.
func TestTwoWorkersShareWhatIsDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.InFlight = 16 // and as many leases: what kept its own would stop the worker
	r.worker(cfg)
	r.worker(cfg)
	r.recorder()
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.By(firstFails()))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		retries(20 * time.Millisecond)(s)
		s.MaxInFlight = 8
	})
	var ids []uuid.UUID
	for range 300 {
		ids = append(ids, r.send(r.event(), sub))
	}
	for _, id := range ids {
		if row := r.ended(id, outcome.Delivered, outcome.ReasonOK); row.Attempts != 2 {
			t.Errorf("got %d attempts, want 2", row.Attempts)
		}
	}
	r.settled()
	if n := len(receiver.Requests()); n != 600 {
		t.Errorf("got %d requests, want 600", n)
	}
}

// Rows that are due in the future are not touched; a nearer one that comes is not overlooked.
func TestWhatIsDueIsMadeWhenItIsDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(500), servertest.Status(200))
	far := r.subscribe(receiver.URL, retries(time.Hour))
	r.waits(r.send(r.event(), far), outcome.ReasonServer)
	near := r.subscribe(receiver.URL, retries(300*time.Millisecond))
	id := r.send(r.event(), near)
	got := receiver.Wait(3)
	if gap := got[2].At.Sub(got[1].At); gap < 300*time.Millisecond {
		t.Errorf("the retry came after %s, want 300ms or more", gap)
	}
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
}

// again makes n deliveries of events of the past.
func (r *rig) again(sub *subscriptions.Subscription, n int, pace ledger.Pace) {
	r.T.Helper()
	var list []ledger.Again
	for range n {
		e := r.event()
		list = append(list, ledger.Again{Tenant: e.Tenant, EventUID: e.UID, EventID: e.ID, EventType: e.Type, Seq: e.Seq, Subscription: sub.ID, Place: e.UID})
	}
	tx := must(r.DB.BeginTx(r.T.Context(), nil))(r.T)
	if made, err := ledger.NewRepeater(r.DB).Send(r.T.Context(), tx, ledger.OnlyAll, list, pace); err != nil || made != n {
		r.T.Fatalf("made %d deliveries again, %v; want %d", made, err, n)
	}
	if err := tx.Commit(); err != nil {
		r.T.Fatal(err)
	}
}

// What is leased ahead is made at its time, and not before.
func TestNothingIsMadeBeforeItIsDue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	var begun []int64
	p := r.parts(quick())
	p.deps.Poster = timedPoster{Attempter: p.deps.Poster, mu: &mu, begun: &begun}
	r.start(p)
	r.recorder()
	sub := r.subscribe(servertest.NewReceiver(t).URL, nil)
	const n, every = 150, 3 * time.Millisecond
	from := must(ledger.New(r.DB).Clock(t.Context()))(t).Add(100 * time.Millisecond)
	r.again(sub, n, ledger.Pace{From: from, Every: every})
	r.all(sub, n, outcome.Delivered)
	mu.Lock()
	defer mu.Unlock()
	slices.Sort(begun)
	for i, at := range begun {
		// Those of one stride go together, with the last of them.
		if due := from.Add(time.Duration(i) * every); at < due.UnixMicro()-1 {
			t.Fatalf("request %d was made %v before its time", i, due.Sub(time.UnixMicro(at)))
		}
	}
	if len(begun) != n {
		t.Errorf("%d requests for %d deliveries", len(begun), n)
	}
}

// However much is due, a worker leases no more than it has places for.
func TestLeasesAreBoundedByPlaces(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hangs := servertest.NewReceiver(t, servertest.Hang())
	sub := r.subscribe(hangs.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 1000 })
	r.again(sub, 200, ledger.Pace{From: time.Now().Add(-time.Second)})
	cfg := quick()
	cfg.InFlight, cfg.DrainTimeout = 16, 100*time.Millisecond
	r.worker(cfg)
	r.recorder()
	hangs.Wait(1)
	if n := r.Count(`SELECT count(*) FROM deferrals WHERE worker <> ''`); n > cfg.InFlight {
		t.Errorf("%d of 200 deliveries are leased, want %d at most", n, cfg.InFlight)
	}
}

// A claim takes what became due within a span and will be soon; one that looks back for ever takes all.
func TestAClaimHasASpan(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	l, sub := ledger.New(r.DB), r.subscribe("http://127.0.0.1:1", nil)
	now := must(l.Clock(t.Context()))(t)
	for _, due := range []time.Time{now.Add(-time.Hour), now.Add(-time.Minute), now.Add(time.Hour), now.Add(24 * time.Hour)} {
		r.again(sub, 1, ledger.Pace{From: due, Every: time.Second})
	}
	claims := func(span ledger.DueSpan) int {
		t.Helper()
		got := claimAll(t, l, 10, span, ledger.Lease{Worker: "one", Length: time.Minute})
		for _, c := range got {
			if c.Wait > span.Ahead || c.Wait > 0 && c.Late > 0 {
				t.Errorf("claimed %v before its time, %v late, with a span of %+v", c.Wait, c.Late, span)
			}
		}
		return len(got)
	}
	for i, tt := range []struct {
		span ledger.DueSpan
		want int
	}{
		{ledger.DueSpan{Back: time.Second}, 0},
		{ledger.DueSpan{Back: 30 * time.Minute}, 1},
		{ledger.DueSpan{Back: ever}, 1},
		{ledger.DueSpan{Back: ever}, 0},
		{ledger.DueSpan{Back: time.Second, Ahead: 2 * time.Hour}, 1},
		{ledger.DueSpan{Back: ever, Ahead: 2 * time.Hour}, 0},
	} {
		if got := claims(tt.span); got != tt.want {
			t.Errorf("claim %d took %d, want %d", i, got, tt.want)
		}
	}
}

// What a worker has in hand is no backlog, be it alive or dead: nobody else can do anything about it before its lease ends.
func TestTheBacklogIsWhatNobodyHas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1", nil)
	r.again(sub, 7, ledger.Pace{From: time.Now().Add(-time.Second)})
	if got := claimAll(t, ledger.New(r.DB), 5, ledger.DueSpan{Back: ever}, ledger.Lease{Worker: "dead", Length: time.Hour}); len(got) != 5 {
		t.Fatalf("claimed %d, want 5", len(got))
	}
	if n := must(ledger.NewRepeater(r.DB).Backlog(t.Context(), sub.ID, 100))(t); n != 2 {
		t.Errorf("a backlog of %d, want 2", n)
	}
	if n := must(ledger.NewRepeater(r.DB).Backlog(t.Context(), sub.ID, 1))(t); n != 1 {
		t.Errorf("a backlog of %d, want the limit of 1", n)
	}
}

// An event that is nowhere any more ends its deliveries.
func TestWithoutItsEventADeliveryIsDead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, retries(100*time.Millisecond))
	e := r.event()
	r.forget(e)
	r.ended(r.send(e, sub), outcome.Dead, outcome.ReasonExpired)
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// A retry that lies beyond the life of the stream of events keeps the event's bytes.
func TestALongWaitKeepsTheEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.EventsMaxAge = 24 * time.Hour
	r.worker(cfg)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	short, long := r.subscribe(receiver.URL, retries(time.Hour)), r.subscribe(receiver.URL, retries(48*time.Hour))
	r.waits(r.send(r.event(), short), outcome.ReasonServer)
	if n := r.Count(`SELECT count(*) FROM event_data`); n != 0 {
		t.Errorf("%d events are kept for a retry in an hour, want none", n)
	}
	r.waits(r.send(r.event(), long), outcome.ReasonServer)
	if n := r.Count(`SELECT count(*) FROM event_data`); n != 1 {
		t.Errorf("%d events are kept for a retry in two days, want 1", n)
	}
}

func TestEventsAreReadOnceAndTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	reads, away := 0, false
	events := must(deliver.NewEvents(deliver.EventsConfig{CacheBytes: 4 * 2048, Read: func(_ context.Context, seq uint64) (*event.Event, error) {
		if reads++; away {
			return nil, context.Canceled
		}
		e := &event.Event{ID: "e", Tenant: "acme", Seq: seq, Data: make([]byte, 768)}
		e.UID[15] = byte(seq)
		return e, nil
	}}, nil))(t)
	get := func(n byte) {
		e, err := events.Get(t.Context(), uuid.UUID{15: n}, uint64(n))
		if err != nil || e.Seq != uint64(n) {
			t.Fatalf("got %+v, %v", e, err)
		}
	}
	for range 3 {
		for n := range byte(4) {
			get(n)
		}
	}
	if reads != 4 {
		t.Errorf("four events were read %d times", reads)
	}
	for n := byte(4); n < 100; n++ {
		get(n)
	}
	away = true
	kept := 0
	for n := range byte(100) {
		if _, err := events.Get(t.Context(), uuid.UUID{15: n}, uint64(n)); err == nil {
			kept++
		}
	}
	if kept != 4 {
		t.Errorf("the cache has %d events, want the 4 that fit", kept)
	}
}
