package deliver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
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

// passed stands for how far fan-out has come: a test may hold it back.
type passed struct{ seq atomic.Uint64 }

func (p *passed) ask(context.Context) (ledger.Floor, error) {
	return ledger.Floor{Seq: p.seq.Load()}, nil
}

// orderly is a rig whose recorder and workers know of turns.
type orderly struct {
	*rig
	passed *passed
	turns  *ledger.Turns
}

func inOrder(r *rig) *orderly {
	o := &orderly{rig: r, passed: &passed{}}
	o.turns = ledger.NewTurns(ledger.TurnsDeps{DB: r.DB, Floor: o.passed.ask})
	r.recorder(func(deps *ledger.RecorderDeps) { deps.Turns = o.turns })
	return o
}

// hand starts a worker.
func (o *orderly) hand(cfg deliver.Config) *running {
	o.T.Helper()
	p := o.parts(cfg)
	p.deps.Turns = o.turns
	return o.start(p)
}

// ordered makes a subscription that asks for an order by event.data.key.
func (o *orderly) ordered(url string, onDead subscriptions.OnDead, change func(*subscriptions.Subscription)) *subscriptions.Subscription {
	o.T.Helper()
	return o.subscribe(url, func(s *subscriptions.Subscription) {
		s.PayloadFormat = "raw"
		s.Ordering = &subscriptions.Ordering{Key: "event.data.key", OnDead: onDead}
		if change != nil {
			change(s)
		}
	})
}

// job is what the events of these tests hold: the n-th of a key.
type job struct {
	Key string `json:"key"`
	N   int    `json:"n"`
}

func (j job) String() string { return fmt.Sprintf("%s%d", j.Key, j.N) }

// jobOf is the event of a job.
func (r *rig) jobOf(j job) *event.Event {
	e := r.event()
	e.Data = must(json.Marshal(j))(r.T)
	return e
}

// queue does what fan-out does with an event.
func (o *orderly) queue(e *event.Event, j job, sub *subscriptions.Subscription) uuid.UUID {
	o.T.Helper()
	if err := o.turns.Queue(o.T.Context(), e, []ledger.Turn{{Subscription: sub.ID, Key: j.Key}}); err != nil {
		o.T.Fatal(err)
	}
	return outcome.ID(e.UID, sub.ID, 0, e.AcceptedAt)
}

// put queues jobs of a key, which fan-out has passed then, and returns their deliveries.
func (o *orderly) put(sub *subscriptions.Subscription, key string, from, to int) (ids []uuid.UUID) {
	o.T.Helper()
	for n := from; n <= to; n++ {
		j := job{key, n}
		e := o.jobOf(j)
		ids = append(ids, o.queue(e, j, sub))
		o.passed.seq.Store(e.Seq)
	}
	return ids
}

// jobs are those of requests.
func jobs(t *testing.T, requests []servertest.Request) (list []string) {
	t.Helper()
	for _, req := range requests {
		var j job
		if err := json.Unmarshal(req.Body, &j); err != nil {
			t.Fatal(err)
		}
		list = append(list, j.String())
	}
	return list
}

// witness is a receiver that knows the order: a request may come only after the one before it of its key had success.
type witness struct {
	t *testing.T
	*servertest.Receiver
	answer func(job) int // the status for a job

	mu       sync.Mutex
	last     map[string]int // by key, the last that had success
	attempts int
	again    int // requests of what had had success: its worker was killed
}

func newWitness(t *testing.T, answer func(job) int) *witness {
	t.Helper()
	w := &witness{t: t, Receiver: servertest.NewReceiver(t), answer: answer, last: make(map[string]int)}
	w.Answer(servertest.By(w.judge))
	return w
}

func (w *witness) judge(req servertest.Request) servertest.Answer {
	var j job
	if err := json.Unmarshal(req.Body, &j); err != nil {
		w.t.Errorf("body %q: %v", req.Body, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts++
	switch last := w.last[j.Key]; {
	case j.N == last:
		w.again++
		return servertest.Status(200)
	case j.N != last+1:
		w.t.Errorf("key %s: number %d came after the success of number %d", j.Key, j.N, last)
	}
	status := w.answer(j)
	if status == 200 {
		w.last[j.Key] = j.N
	}
	return servertest.Delay(5*time.Millisecond, servertest.Status(status))
}

// Hundreds of keys, failures at random, fan-out that writes out of order, workers killed and added meanwhile: the successes
// of each key come in order, and none is missing.
func TestTurnsUnderKills(t *testing.T) {
	t.Parallel()
	const keys, each = 400, 4
	r, connect := connections(t)
	o := inOrder(r)
	w := newWitness(t, func(job) int {
		if rand.N(10) < 3 {
			return 500
		}
		return 200
	})
	sub := o.ordered(w.URL, subscriptions.ContinueOnDead, func(s *subscriptions.Subscription) {
		s.MaxInFlight, s.Timeout = 100, 3*time.Second
		s.Retry = subscriptions.Retry{Schedule: []time.Duration{5 * time.Millisecond}, MaxRetries: new(100)}
	})
	cfg := brief()
	cfg.Lease = 5 * time.Second             // It outlasts an attempt: a request of a killed worker must not arrive after it is over.
	cfg.BreakerAfter, cfg.InFlight = -1, 32 // so that none does it all
	var victims []*victim
	for range 2 {
		v := r.victim(connect, cfg, nil, func(p *parts) {
			p.deps.Turns = ledger.NewTurns(ledger.TurnsDeps{DB: p.deps.DB, Floor: o.passed.ask})
		})
		victims = append(victims, v)
	}
	o.hand(cfg)
	fanOut(o, sub, keys, each)
	for i, v := range victims {
		o.Eventually("a part to be made, some of it by who is killed then", func() bool {
			return len(w.Requests()) >= (i+1)*keys*each/4 && v.metric("fanfare_attempts_total", string(outcome.ReasonOK), string(outcome.Delivered)) > 0
		})
		v.kill()
		o.hand(cfg)
	}
	o.Eventually("all to have ended", func() bool {
		return r.Count(`SELECT count(*) FROM deliveries WHERE state = 'delivered'`) == keys*each
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, last := range w.last {
		if last != each {
			t.Errorf("key %s: %d of %d had success", key, last, each)
		}
	}
	if len(w.last) != keys {
		t.Errorf("%d keys had a success, want %d", len(w.last), keys)
	}
	if n := r.Count(`SELECT count(*) FROM deferrals`); n != 0 {
		t.Errorf("%d deliveries are left over", n)
	}
	t.Logf("%d deliveries of %d keys in %d requests, %d of them again after a kill", keys*each, keys, w.attempts, w.again)
}

// fanOut queues the jobs of many keys, many at a time and so out of order, as fan-out does.
func fanOut(o *orderly, sub *subscriptions.Subscription, keys, each int) {
	var mu sync.Mutex
	open := make(map[uint64]bool)
	var highest uint64
	pass := func(seq uint64) {
		mu.Lock()
		defer mu.Unlock()
		delete(open, seq)
		floor := highest
		for seq := range open {
			floor = min(floor, seq-1)
		}
		o.passed.seq.Store(floor)
	}
	var wg sync.WaitGroup
	room := make(chan struct{}, 200)
	for n := 1; n <= each; n++ {
		for k := range keys {
			j := job{fmt.Sprint("k", k), n}
			e := o.jobOf(j)
			mu.Lock()
			open[e.Seq], highest = true, e.Seq
			mu.Unlock()
			room <- struct{}{}
			wg.Go(func() {
				defer func() { <-room }()
				o.queue(e, j, sub)
				pass(e.Seq)
			})
		}
	}
	wg.Wait()
}

// What fan-out has not passed waits, as something before it may still come.
func TestATurnWaitsForFanOut(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	receiver := servertest.NewReceiver(t)
	sub := o.ordered(receiver.URL, subscriptions.ContinueOnDead, nil)
	o.put(sub, "b", 1, 1)
	receiver.Wait(1)
	first, second := o.jobOf(job{"a", 1}), o.jobOf(job{"a", 2})
	late := o.queue(second, job{"a", 2}, sub)
	// Another key goes on meanwhile, up to where fan-out is.
	if e := o.waits(late, outcome.ReasonKeyBlocked); !e.Held {
		t.Errorf("it is due, though fan-out has not passed it: %+v", e)
	}
	o.Eventually("the place to be asked for", func() bool { return o.turns.Floor.Load().Seq == o.passed.seq.Load() })
	o.queue(first, job{"a", 1}, sub)
	o.passed.seq.Store(second.Seq)
	o.ended(late, outcome.Delivered, outcome.ReasonOK)
	if got := fmt.Sprint(jobs(t, receiver.Requests())); got != "[b1 a1 a2]" {
		t.Errorf("got %s, want the order in which they were accepted", got)
	}
}

// The head of a key retries while those behind it wait, and other keys go on.
func TestAHeadBlocksItsKeyOnly(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	var ready atomic.Bool
	w := newWitness(t, func(j job) int {
		if j.Key == "a" && !ready.Load() {
			return 500
		}
		return 200
	})
	sub := o.ordered(w.URL, subscriptions.ContinueOnDead, func(s *subscriptions.Subscription) {
		s.Retry = subscriptions.Retry{Schedule: []time.Duration{20 * time.Millisecond}, MaxRetries: new(100)}
	})
	a := o.put(sub, "a", 1, 3)
	b := o.put(sub, "b", 1, 3)
	o.ended(b[2], outcome.Delivered, outcome.ReasonOK)
	o.await(a[0], "retried", func(e ledger.Entry) bool { return e.Attempts >= 3 })
	for _, id := range a[1:] {
		if e := o.waits(id, outcome.ReasonKeyBlocked); e.Attempts != 0 || !e.Held && e.DueAt.Valid {
			t.Errorf("one behind the head: %+v", e)
		}
	}
	if by, none := o.blockedBy(a[2]), o.blockedBy(a[0]); by != a[0].String() || none != nil {
		t.Errorf("the last is blocked by %v and the head by %v, want %s and nothing", by, none, a[0])
	}
	ready.Store(true)
	for _, id := range a {
		o.ended(id, outcome.Delivered, outcome.ReasonOK)
	}
}

// After a dead head the next one goes.
func TestADeadHeadIsPassed(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	sub := o.ordered(receiver.URL, subscriptions.ContinueOnDead, once)
	ids := o.put(sub, "a", 1, 3)
	o.ended(ids[2], outcome.Delivered, outcome.ReasonOK)
	o.ended(ids[0], outcome.Dead, outcome.ReasonServer)
	if got := fmt.Sprint(jobs(t, receiver.Requests())); got != "[a1 a2 a3]" {
		t.Errorf("got %s", got)
	}
	// Sent again by hand it takes its place in the order: before what waits, after what has its turn.
	shown := o.api().do("acme", "POST", "/v1/deliveries/"+ids[0].String()+"/retry", 202)
	o.ended(uuid.MustParse(shown["id"].(string)), outcome.Delivered, outcome.ReasonOK)
}

// With on_dead stop the key stands still until the dead one was sent with success, was passed over, or the
// subscription does not ask for it any more.
func TestAKeyStandsStill(t *testing.T) {
	t.Parallel()
	goOn := map[string]func(o *orderly, sub *subscriptions.Subscription, dead uuid.UUID){
		"retried": func(o *orderly, _ *subscriptions.Subscription, dead uuid.UUID) {
			o.api().do("acme", "POST", "/v1/deliveries/"+dead.String()+"/retry", 202)
		},
		"passed over": func(o *orderly, _ *subscriptions.Subscription, dead uuid.UUID) {
			if shown := o.api().do("acme", "POST", "/v1/deliveries/"+dead.String()+"/cancel", 202); shown["state"] != "dead" {
				o.T.Errorf("what was passed over is %v", shown["state"])
			}
			o.api().do("acme", "POST", "/v1/deliveries/"+dead.String()+"/cancel", 409)
		},
		"continue": func(o *orderly, sub *subscriptions.Subscription, _ uuid.UUID) {
			o.change(sub, func(s *subscriptions.Subscription) { s.Ordering.OnDead = subscriptions.ContinueOnDead })
		},
		"no order": func(o *orderly, sub *subscriptions.Subscription, _ uuid.UUID) {
			o.change(sub, func(s *subscriptions.Subscription) { s.Ordering = nil })
		},
	}
	for name, act := range goOn {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := inOrder(newRig(t))
			o.hand(quick())
			var ready atomic.Bool
			receiver := servertest.NewReceiver(t, servertest.By(func(req servertest.Request) servertest.Answer {
				if jobs(t, []servertest.Request{req})[0] == "a1" && !ready.Load() {
					return servertest.Status(400)
				}
				return servertest.Status(200)
			}))
			sub := o.ordered(receiver.URL, subscriptions.StopOnDead, once)
			ids := o.put(sub, "a", 1, 3)
			other := o.put(sub, "b", 1, 2)
			o.ended(ids[0], outcome.Dead, outcome.ReasonClient)
			o.ended(other[1], outcome.Delivered, outcome.ReasonOK)
			o.Eventually("a sweep to have found nothing to do", func() bool { return o.Count(`SELECT count(*) FROM stopped_keys`) == 1 })
			for _, id := range ids[1:] {
				o.waits(id, outcome.ReasonKeyBlocked)
			}
			o.api().do("acme", "POST", "/v1/deliveries/"+ids[1].String()+"/retry", 409)
			if by := o.blockedBy(ids[1]); by != ids[0].String() {
				t.Errorf("the next one is blocked by %v, want the dead one, %s", by, ids[0])
			}
			ready.Store(true)
			act(o, sub, ids[0])
			o.ended(ids[2], outcome.Delivered, outcome.ReasonOK)
			o.ended(ids[1], outcome.Delivered, outcome.ReasonOK)
			if n := o.Count(`SELECT count(*) FROM stopped_keys`); n != 0 {
				t.Errorf("%d keys stand still", n)
			}
		})
	}
}

// blockedBy is what the API says that a delivery waits for.
func (r *rig) blockedBy(id uuid.UUID) any {
	r.T.Helper()
	return r.api().do("acme", "GET", "/v1/deliveries/"+id.String(), 200)["blocked_by"]
}

// A resume frees what the pause held, and not what waits for its turn; what waits is sent after it.
func TestAPauseKeepsTheOrder(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	w := newWitness(t, func(job) int { return 200 })
	sub := o.ordered(w.URL, subscriptions.ContinueOnDead, nil)
	o.status(sub, subscriptions.Paused)
	ids := o.put(sub, "a", 1, 4)
	o.waits(ids[0], outcome.ReasonPaused)
	for _, id := range ids[1:] {
		o.waits(id, outcome.ReasonKeyBlocked)
	}
	stats := o.api().do("acme", "GET", "/v1/subscriptions/"+sub.ID.String()+"/stats", 200)
	if stats["held"] != 1.0 || stats["key_blocked"] != 3.0 || stats["pending"] != 4.0 {
		t.Errorf("stats: got %v", stats)
	}
	o.status(sub, subscriptions.Active)
	for _, id := range ids {
		o.ended(id, outcome.Delivered, outcome.ReasonOK)
	}
}

// When a subscription ends, so does what waits for its turn.
func TestWhatWaitsEndsWithItsSubscription(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	gone := servertest.NewReceiver(t, servertest.Status(410))
	sub := o.ordered(gone.URL, subscriptions.StopOnDead, nil)
	ids := o.put(sub, "a", 1, 3)
	o.await(ids[0], "over", func(e ledger.Entry) bool { return e.State != outcome.Pending })
	for _, id := range ids[1:] {
		o.ended(id, outcome.Cancelled, outcome.ReasonDisabled)
	}
	if n := len(gone.Requests()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// What is cancelled is passed, be it the head or one behind it.
func TestACancelledOneIsPassed(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	sub := o.ordered(receiver.URL, subscriptions.ContinueOnDead, retries(time.Hour))
	ids := o.put(sub, "a", 1, 4)
	o.waits(ids[0], outcome.ReasonServer)
	for _, id := range []uuid.UUID{ids[2], ids[0]} {
		o.api().do("acme", "POST", "/v1/deliveries/"+id.String()+"/cancel", 202)
	}
	o.ended(ids[3], outcome.Delivered, outcome.ReasonOK)
	if got := fmt.Sprint(jobs(t, receiver.Requests())); got != "[a1 a2 a4]" {
		t.Errorf("got %s", got)
	}
}

// Replayed deliveries take their places in the order of their key.
func TestAReplayKeepsTheOrder(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	o.hand(quick())
	receiver := servertest.NewReceiver(t)
	sub := o.ordered(receiver.URL, subscriptions.ContinueOnDead, nil)
	first := o.put(sub, "a", 1, 3)
	o.ended(first[2], outcome.Delivered, outcome.ReasonOK)
	var list []ledger.Again
	for seq := uint64(3); seq >= 1; seq-- { // the other way round
		e := must(o.read(t.Context(), seq))(t)
		list = append(list, ledger.Again{
			Tenant: e.Tenant, EventUID: e.UID, EventID: e.ID, EventType: e.Type, Seq: e.Seq, Subscription: sub.ID,
			Order: uuid.NullUUID{UUID: ledger.OrderKey("a"), Valid: true},
		})
	}
	tx := must(o.DB.BeginTx(t.Context(), nil))(t)
	if n := must(ledger.NewRepeater(o.DB).Send(t.Context(), tx, ledger.OnlyAll, list, ledger.Pace{From: time.Now(), Every: time.Millisecond}))(t); n != 3 {
		t.Errorf("%d are sent again, want 3", n)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	receiver.Wait(6)
	if got := fmt.Sprint(jobs(t, receiver.Requests())); got != "[a1 a2 a3 a1 a2 a3]" {
		t.Errorf("got %s", got)
	}
	o.settled()
}

// What may outlive the stream of events while it waits keeps its bytes.
func TestWhatWaitsKeepsItsBytes(t *testing.T) {
	t.Parallel()
	o := inOrder(newRig(t))
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	sub := o.ordered(receiver.URL, subscriptions.ContinueOnDead, retries(time.Second))
	cfg := quick()
	cfg.EventsMaxAge = 12 * time.Hour // for which bytes are kept before: whatever waits is about to leave
	ids := o.put(sub, "a", 1, 2)
	o.hand(cfg)
	o.Eventually("the bytes to be kept", func() bool { return o.Count(`SELECT count(*) FROM event_data`) == 2 })
	o.forget(must(o.read(t.Context(), 2))(t))
	o.ended(ids[1], outcome.Delivered, outcome.ReasonOK)
}
