package deliver_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// listener collects operational events.
type listener struct {
	mu   sync.Mutex
	list map[string]deliver.Notice
}

// Announce keeps a notice, each id once, as the stream of events does.
func (a *listener) Announce(_ context.Context, n deliver.Notice) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.list == nil {
		a.list = make(map[string]deliver.Notice)
	}
	a.list[n.Tenant+" "+n.ID] = n
	return nil
}

// of returns the notices of a type.
func (a *listener) of(kind string) (list []deliver.Notice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range a.list {
		if n.Type == kind {
			list = append(list, n)
		}
	}
	return list
}

// An endpoint that fails costs few attempts: the rest waits without one, and goes when it is back.
func TestABrokenEndpointIsLeftAloneUntilItIsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.parts(sparing())
	news := &listener{}
	p.deps.Announcer = news
	w := r.start(p)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.MaxInFlight = 4
		s.Retry.Schedule = []time.Duration{time.Second}
	})
	const n = 200
	r.sendAll(n, sub)
	r.Eventually("the breaker to hold back the deliveries that were not tried", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals WHERE reason = 'breaker_open' AND attempts = 0`) >= n-20
	})
	if got := len(receiver.Requests()); got > 20 {
		t.Errorf("got %d requests to an endpoint that fails, want 20 at most", got)
	}
	receiver.Answer(servertest.Status(200))
	r.all(sub, n, outcome.Delivered)
	if got := r.Count(`SELECT coalesce(max(attempts), 0) FROM deliveries`); got > 3 {
		t.Errorf("a delivery took %d attempts, want those that the endpoint failed and one", got)
	}
	r.Eventually("the tenant to be told", func() bool { return len(news.of(deliver.TypeRecovering)) == 1 })
	if n := w.breakers("closed"); n < 1 {
		t.Errorf("the breaker closed %v times", n)
	}
	if n := r.Count(`SELECT count(*) FROM failing`); n != 0 {
		t.Errorf("%d subscriptions are remembered to fail", n)
	}
}

// A delivery does not wait for an endpoint for ever, though it was never tried.
func TestABrokenEndpointsDeliveriesEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.worker(sparing())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, retries(time.Minute, time.Hour, time.Hour))
	r.sendAll(12, sub)
	receiver.Wait(10)
	r.Eventually("the breaker to open", func() bool { return w.breakers("open") >= 1 })
	e := r.event()
	e.AcceptedAt = time.Now().Add(-3 * time.Hour).UTC()
	e.UID = event.UID(e.Tenant, e.ID, e.AcceptedAt)
	row := r.ended(r.send(e, sub), outcome.Dead, outcome.ReasonBreakerOpen)
	if row.Attempts != 0 {
		t.Errorf("got %d attempts, want none", row.Attempts)
	}
	if n := r.Count(`SELECT count(*) FROM event_data WHERE uid = $1`, e.UID); n != 1 {
		t.Error("the event of a dead delivery is not kept")
	}
}

// What the receiver asks for holds for all its deliveries, not only for that which it answered.
func retryAfterSlowsTheWholeEndpoint(t *testing.T) {
	r := newRig(t)
	r.worker(sparing())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Reply(429, http.Header{"Retry-After": {"3600"}}, ""))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 1 })
	ids := r.sendAll(50, sub)
	receiver.Wait(1)
	for _, id := range ids {
		row := r.waits(id, outcome.ReasonRetryAfter)
		if wait := time.Until(row.DueAt.Time); wait < 59*time.Minute {
			t.Errorf("a delivery is due in %s, want an hour", wait)
		}
	}
	if n := len(receiver.Requests()); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

// Two workers share one limit. In any second there are no more requests than the limit and its burst allow, all of
// them arrive, and none costs an attempt.
func TestARateLimitHoldsOverAllWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	workers := []*running{r.worker(quick()), r.worker(quick())}
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.RateLimit = &subscriptions.RateLimit{Limit: 50, Per: time.Second}
	})
	other := r.subscribe(receiver.URL+"/other", nil)
	const n = 400
	r.sendAll(n, sub)
	r.ended(r.send(r.event(), other), outcome.Delivered, outcome.ReasonOK)
	r.all(sub, n, outcome.Delivered)
	var sent []int64
	for _, req := range receiver.Requests() {
		if req.Path == "/" {
			sent = append(sent, req.At.UnixMicro())
		}
	}
	if len(sent) != n {
		t.Errorf("got %d requests, want %d", len(sent), n)
	}
	// A request that is let go late makes the next second fuller, by as much as was in flight.
	if e := excess(sent, *sub.RateLimit); e > 0.1001 {
		t.Errorf("%.0f%% too many in ten seconds", 100*e)
	}
	if took := sent[len(sent)-1] - sent[0]; took < int64(n-50-50)*20_000 {
		t.Errorf("%d requests took %s", n, time.Duration(took)*time.Microsecond)
	}
	if n := r.Count(`SELECT max(attempts) FROM deliveries`); n != 1 {
		t.Errorf("a delivery has %d attempts, want 1", n)
	}
	put := 0.0
	for _, w := range workers {
		// What waited in line for the limit until it was handed off came back as busy.
		for _, reason := range []outcome.Reason{outcome.ReasonRateLimited, outcome.ReasonBusy} {
			put += w.metric("fanfare_deliveries_put_off_total", string(reason))
		}
		put += w.metric("fanfare_deliveries_handed_off_total")
	}
	if put == 0 {
		t.Error("nothing was put off")
	}
}

// A delivery that is handed off while it waits in line, and is refused by the rate limit after that, counts as put off.
func TestADeliveryThatIsHandedOffAndPutOffCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.HandOff = 20 * time.Millisecond
	w := r.worker(cfg)
	r.recorder()
	release := make(chan struct{})
	receiver := servertest.NewReceiver(t, servertest.After(release, servertest.Status(200)))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.MaxInFlight = 1
		s.RateLimit = &subscriptions.RateLimit{Limit: 1, Per: time.Minute}
	})
	first := r.send(r.event(), sub)
	r.Eventually("the first request", func() bool { return len(receiver.Requests()) == 1 })
	second := r.send(r.event(), sub)
	r.waits(second, outcome.ReasonBusy) // The row of its lease is written: it is handed off, and waits in line.
	close(release)
	r.ended(first, outcome.Delivered, outcome.ReasonOK)
	r.waits(second, outcome.ReasonRateLimited)
	if n := w.metric("fanfare_deliveries_put_off_total", string(outcome.ReasonRateLimited)); n != 1 {
		t.Errorf("%g deliveries count as put off by their rate limit, want 1", n)
	}
}

// A limit that was raised holds at once for what waits already.
func TestARaisedRateLimitHoldsForWhatWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.RateLimit = &subscriptions.RateLimit{Limit: 1, Per: time.Minute}
	})
	r.sendAll(20, sub)
	r.Eventually("all but one to wait", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals WHERE reason = 'rate_limited'`) == 19
	})
	fresh := must(r.store.Get(t.Context(), sub.Tenant, sub.ID))(t)
	fresh.RateLimit = nil
	if err := r.store.Update(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	r.all(sub, 20, outcome.Delivered)
}

// What was held goes in the order of arrival, one after the other, though it is limited.
func TestWhatIsHeldDrainsInOrderAtItsRate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.MaxInFlight, s.RateLimit = 1, &subscriptions.RateLimit{Limit: 20, Per: time.Second}
	})
	r.status(sub, subscriptions.Paused)
	const n = 60
	ids := r.sendAll(n, sub)
	r.Eventually("all to be held", func() bool { return r.Count(`SELECT count(*) FROM deferrals WHERE held`) == n })
	order := make(map[string]int)
	for i := range ids {
		order[fmt.Sprintf("evt_%d", i+1)] = i
	}
	r.status(sub, subscriptions.Active)
	got := receiver.Wait(n)
	// Those that asked for a time together may be in any order; those far apart may not.
	for i, req := range got {
		if place := order[req.Header.Get("webhook-id")]; place < i-20 || place > i+20 {
			t.Errorf("the one that came %d. was %d. in the order of arrival", i+1, place+1)
		}
	}
	if took := got[n-1].At.Sub(got[0].At); took < time.Second {
		t.Errorf("%d requests took %s at 20 a second", n, took)
	}
}

// A subscription that had no success for five days is disabled, told once, and goes on when it is enabled. Others,
// and those of dialects, stay.
func theFailureRule(t *testing.T) {
	r := newRig(t)
	p := r.parts(quick())
	news := &listener{}
	p.deps.Announcer = news
	r.start(p)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, once)
	lucky := r.subscribe(receiver.URL+"/lucky", once)
	dialect := r.subscribe(receiver.URL+"/dialect", once)
	if _, err := r.DB.Exec(`WITH r AS (UPDATE revision SET value = value + 1 RETURNING value)
		UPDATE subscriptions SET dialect = 'passona', revision = r.value FROM r WHERE id = $1`, dialect.ID); err != nil {
		t.Fatal(err)
	}
	pending := r.subscribe(receiver.URL+"/pending", retries(time.Hour))
	for _, s := range []*subscriptions.Subscription{sub, lucky, dialect} {
		r.ended(r.send(r.event(), s), outcome.Dead, outcome.ReasonServer)
	}
	r.Eventually("failures to be counted", func() bool { return r.Count(`SELECT count(*) FROM failing`) == 3 })
	// Five days pass, and failures with them; of one of them not enough.
	must(r.DB.Exec(`UPDATE failing SET since = since - interval '121 hours', failures = CASE WHEN subscription_id = $1 THEN 10 ELSE 200 END`, lucky.ID))(t)
	waiting := r.send(r.event(), pending)
	r.waits(waiting, outcome.ReasonServer)
	for _, s := range []*subscriptions.Subscription{sub, lucky, dialect} {
		r.ended(r.send(r.event(), s), outcome.Dead, outcome.ReasonServer)
	}
	r.Eventually("the subscription to be disabled", func() bool {
		s, err := r.store.Get(t.Context(), sub.Tenant, sub.ID)
		return err == nil && s.Status == subscriptions.Disabled && s.DisabledReason == "failing"
	})
	r.Eventually("the tenant to be told", func() bool { return len(news.of(deliver.TypeDisabled)) == 1 })
	for _, s := range []*subscriptions.Subscription{lucky, dialect, pending} {
		if s := must(r.store.Get(t.Context(), s.Tenant, s.ID))(t); s.Status != subscriptions.Active {
			t.Errorf("%s is %s (%s), want it active", s.URL, s.Status, s.DisabledReason)
		}
	}
	r.waits(waiting, outcome.ReasonServer)
	if n := len(news.of(deliver.TypeDead)); n != 6 {
		t.Errorf("the tenant was told of %d dead deliveries, want 6", n)
	}
	receiver.Answer(servertest.Status(200))
	must(r.store.Enable(t.Context(), sub.Tenant, sub.ID))(t)
	r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
}

// Nothing is told of an operational event's own delivery, whatever becomes of it.
func TestOperationalEventsNeverLoop(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.parts(quick())
	news := &listener{}
	p.deps.Announcer = news
	r.start(p)
	r.recorder()
	sub := r.subscribe(servertest.NewReceiver(t, servertest.Status(500), servertest.Status(410)).URL, once)
	for _, reason := range []outcome.Reason{outcome.ReasonServer, outcome.ReasonGone} {
		e := r.event()
		e.Type = deliver.TypeDead
		r.ended(r.send(e, sub), outcome.Dead, reason)
	}
	r.Eventually("the subscription to be disabled", func() bool {
		s, err := r.store.Get(t.Context(), sub.Tenant, sub.ID)
		return err == nil && s.Status == subscriptions.Disabled
	})
	other := r.subscribe(servertest.NewReceiver(t, servertest.Status(500)).URL, once)
	id := r.send(r.event(), other)
	r.Eventually("the tenant to be told", func() bool { return len(news.of(deliver.TypeDead)) > 0 })
	if got := news.of(deliver.TypeDead); len(got) != 1 || got[0].ID != "dead_"+id.String() || len(news.of(deliver.TypeDisabled)) != 0 {
		t.Errorf("got %+v and %+v, want only what became of an ordinary event", got, news.of(deliver.TypeDisabled))
	}
}

// Nobody can be reached: that is our own outage. No attempt is used up, nobody fails; and all goes on by itself.
func TestAnOutageOfOurOwnCostsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	w := r.worker(sparing())
	r.recorder()
	subs := r.vanished(8, "127.0.7", once)
	before := r.Count(`SELECT count(*) FROM deliveries`)
	e := r.event()
	r.send(e, subs...)
	for _, s := range subs {
		r.waits(outcome.ID(e.UID, s.ID, 0, e.AcceptedAt), outcome.ReasonConnect)
	}
	r.settled()
	if n := r.Count(`SELECT sum(attempts) FROM deferrals`) + r.Count(`SELECT count(*) FROM deliveries`) - before + r.Count(`SELECT count(*) FROM failing`); n != 0 {
		t.Errorf("the outage cost %d attempts, ends and failures", n)
	}
	if n := r.Count(`SELECT sum(excused) FROM deferrals`); n < outageHosts {
		t.Errorf("%d excused attempts are counted", n)
	}
	// One answer from anybody, and a failure to connect is the receiver's again.
	receiver := servertest.NewReceiver(t)
	good := r.subscribe(receiver.URL, nil)
	r.Eventually("the outage to be over", func() bool {
		r.send(r.event(), good)
		return w.metric("fanfare_network_outage") == 0
	})
	if _, err := r.DB.Exec(`UPDATE deferrals SET claim_at = now(), due_at = now()`); err != nil {
		t.Fatal(err)
	}
	stop, hello := make(chan struct{}), r.task(r.event(), good)
	var talking sync.WaitGroup
	talking.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				task := hello
				task.Event = *r.event()
				_ = r.outbox.Send(context.Background(), task)
			}
		}
	})
	defer talking.Wait()
	defer close(stop)
	for _, s := range subs {
		r.ended(outcome.ID(e.UID, s.ID, 0, e.AcceptedAt), outcome.Dead, outcome.ReasonConnect)
	}
}

// outageHosts is how many hosts that answered lately make an outage.
const outageHosts = 5

// vanished makes subscriptions to hosts that answer once and then are not there any more.
func (r *rig) vanished(n int, net24 string, change func(*subscriptions.Subscription)) []*subscriptions.Subscription {
	r.T.Helper()
	var subs []*subscriptions.Subscription
	var servers []*httptest.Server
	for i := range n {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_ = s.Listener.Close()
		s.Listener = must(net.Listen("tcp", fmt.Sprintf("%s.%d:0", net24, i+1)))(r.T)
		s.Start()
		servers = append(servers, s)
		subs = append(subs, r.subscribe(s.URL, change))
	}
	e := r.eventOf(subs[0].Tenant)
	r.send(e, subs...)
	for _, s := range subs {
		r.ended(outcome.ID(e.UID, s.ID, 0, e.AcceptedAt), outcome.Delivered, outcome.ReasonOK)
	}
	for _, s := range servers {
		s.Close()
	}
	return subs
}

// A network that swallows everything is an outage as well: nobody is refused, nobody is resolved, the time just passes.
func TestAnOutageInSilenceCostsNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.parts(sparing())
	var silent atomic.Bool
	names := servertest.NewNameServer(t, func(q dnsmessage.Question, _ int) *dnsmessage.Message {
		if silent.Load() {
			return nil
		}
		return servertest.Addresses(q, "127.0.0.1")
	})
	client := egress.NewClient(allowLoopback(t), egress.DefaultConfig(), egress.WithResolver(names))
	t.Cleanup(client.CloseIdleConnections)
	p.deps.Poster = must(webhook.NewPoster(client, webhook.DefaultPosterConfig(), time.Now))(t)
	w := r.start(p)
	r.recorder()
	var subs []*subscriptions.Subscription
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(servertest.NewReceiver(t).URL, "http://"))
	for i := range 8 {
		subs = append(subs, r.subscribe(fmt.Sprintf("http://receiver%d.test:%s/", i, port), once))
	}
	r.send(r.event(), subs...)
	r.Eventually("all hosts to have answered", func() bool { return r.Count(`SELECT count(*) FROM deliveries`) == len(subs) })
	silent.Store(true)
	for _, sub := range subs {
		r.change(sub, func(s *subscriptions.Subscription) { s.Timeout = time.Second })
	}
	client.CloseIdleConnections()
	r.send(r.event(), subs...)
	r.Eventually("the outage to be noticed", func() bool { return w.metric("fanfare_network_outage") == 1 })
	r.Eventually("all to wait", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals WHERE reason IN ('dns', 'connect')`) == len(subs)
	})
	r.settled()
	if n := r.Count(`SELECT sum(attempts) FROM deferrals`) + r.Count(`SELECT count(*) FROM deliveries`) - len(subs) + r.Count(`SELECT count(*) FROM failing`); n != 0 {
		t.Errorf("the outage cost %d attempts, ends and failures", n)
	}
}

// One endpoint that is away is no outage, whatever else is quiet.
func TestOneEndpointThatIsAwayIsNoOutage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	for i := range 6 {
		sub := r.subscribe(fmt.Sprintf("http://127.0.0.1:1/%d", i), once)
		r.ended(r.send(r.event(), sub), outcome.Dead, outcome.ReasonConnect)
	}
}
