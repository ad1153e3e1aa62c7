package deliver

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// A receiver that is slow, resets, answers 500, says to come back later or is not there: the others' deliveries are made
// while its own still wait, and it never holds more of the worker than its share.
func TestNoReceiverHoldsUpOthers(t *testing.T) {
	t.Parallel()
	const quick, events, limit = 10, 100, 8
	tests := []struct {
		name   string
		answer servertest.Answer
		url    string // instead of a receiver's
		slots  int    // that it may hold at once
	}{
		{name: "takes ten seconds", answer: servertest.Delay(10*time.Second, servertest.Status(200)), slots: limit},
		{name: "never answers", answer: servertest.Hang(), slots: limit},
		{name: "resets", answer: servertest.Reset(), slots: limit},
		{name: "answers 500", answer: servertest.Status(500), slots: limit},
		{name: "says 429", answer: servertest.Reply(429, http.Header{"Retry-After": {"60"}}, ""), slots: limit},
		{name: "is not there", url: "http://127.0.0.1:1/", slots: limit},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t)
			cfg := sparing()
			cfg.InFlight = 64
			p := r.parts(cfg)
			watched := &watchedPoster{Attempter: p.deps.Poster}
			p.deps.Poster = watched
			r.start(p)
			r.recorder()
			url := tt.url
			if url == "" {
				url = servertest.NewReceiver(t, tt.answer).URL
			}
			bad := r.subscribe(url, func(s *subscriptions.Subscription) {
				s.MaxInFlight = limit
				s.Retry.Schedule = []time.Duration{time.Hour}
			})
			watched.of.Store(&bad.ID)
			good := servertest.NewReceiver(t)
			subs := []*subscriptions.Subscription{bad}
			for i := range quick {
				subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", good.URL, i), nil))
			}
			r.sendAll(events, subs...)
			good.Wait(quick * events)
			r.eventually("the others' deliveries to be recorded", func() bool {
				return r.count(`SELECT count(*) FROM deliveries WHERE state = 'delivered'`) >= quick*events
			})
			if n := r.count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1`, bad.ID); n > 2*limit {
				t.Errorf("%d deliveries of the bad receiver have ended, want the others' first", n)
			}
			if n := watched.most.Load(); n > int64(tt.slots) {
				t.Errorf("the bad receiver had %d requests at once, want %d at most", n, tt.slots)
			}
		})
	}
}

// Many slow receivers together leave room in a worker for a quick one.
func TestManySlowReceiversLeaveRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := sparing()
	cfg.InFlight, cfg.HandOff = 64, 100*time.Millisecond
	w := r.worker(cfg)
	r.recorder()
	slow := servertest.NewReceiver(t, servertest.Delay(2*time.Second, servertest.Status(200)))
	var subs []*subscriptions.Subscription
	for i := range 12 {
		subs = append(subs, r.subscribe(fmt.Sprintf("%s/%d", slow.URL, i), nil))
	}
	r.sendAll(40, subs...)
	// Once it is known that they are slow, not all slots are theirs.
	r.eventually("slots to be free although much waits", func() bool { return len(slow.Requests()) > 100 && w.worker.slots.free() > 0 })
	good := r.subscribe(servertest.NewReceiver(t).URL, nil)
	r.ended(r.sendAll(1, good)[0], OutcomeDelivered, ReasonOK)
	if n := r.count(`SELECT count(*) FROM deferrals`); n == 0 {
		t.Error("nothing of the slow receivers waits any more: the test says nothing")
	}
}

// watchedPoster counts the requests that one subscription has in flight.
type watchedPoster struct {
	Attempter
	of        atomic.Pointer[uuid.UUID]
	now, most atomic.Int64
}

// Send sends.
func (p *watchedPoster) Send(ctx context.Context, a Attempt) Result {
	if id := p.of.Load(); id == nil || *id != a.Subscription.ID {
		return p.Attempter.Send(ctx, a)
	}
	n := p.now.Add(1)
	defer p.now.Add(-1)
	for {
		most := p.most.Load()
		if n <= most || p.most.CompareAndSwap(most, n) {
			return p.Attempter.Send(ctx, a)
		}
	}
}

// A backlog for an endpoint that comes back: it drains within the bounds of the endpoint, others go their way, and memory
// does not grow with the backlog.
func backlogDrainsWithinBounds(t *testing.T) {
	const backlog, limit = 20_000, 16
	r := newRig(t)
	p := r.parts(sparing())
	watched := &watchedPoster{Attempter: p.deps.Poster}
	p.deps.Poster = watched
	// It keeps nothing of the requests, so that what grows is the worker's.
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = limit })
	watched.of.Store(&sub.ID)
	e := r.event()
	if _, err := r.db.Exec(`
INSERT INTO deferrals (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, reason, attempts, step,
    test, held, created_at, due_at, claim_at)
SELECT ('0198' || lpad(to_hex(n), 8, '0') || '7000800000000000000' || '0')::uuid, 'acme', $1, $2, $3, $4, $5, n, 'breaker_open', 0, 1, false, false, now(), now(), now()
FROM generate_series(1, $6) n`, e.UID, e.ID, e.Type, e.Seq, sub.ID, backlog); err != nil {
		t.Fatal(err)
	}
	w := r.start(p)
	r.recorder()
	other := r.subscribe(receiver.URL+"/other", nil)
	base := heap()
	var most uint64
	done := 0
	for sent := 0; done < backlog; sent++ {
		if sent%50 == 0 {
			r.ended(r.sendAll(1, other)[0], OutcomeDelivered, ReasonOK)
			most = max(most, heap())
		}
		r.eventually("the backlog to move", func() bool {
			n := r.count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1`, sub.ID)
			moved := n > done
			done = n
			return moved
		})
		if _, waiting := w.worker.slots.inFlight(); waiting > maxWaiting {
			t.Errorf("%d wait in memory", waiting)
		}
	}
	if n := watched.most.Load(); n > limit {
		t.Errorf("got %d requests at once, want %d at most", n, limit)
	}
	if n := r.count(`SELECT count(*) FROM deliveries WHERE subscription_id = $1 AND state = 'delivered' AND attempts = 1`, sub.ID); n != backlog {
		t.Errorf("%d of %d were delivered at the first attempt", n, backlog)
	}
	t.Logf("the heap grew from %d to %d MiB", base>>20, most>>20)
}

// heap is what is reachable.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
