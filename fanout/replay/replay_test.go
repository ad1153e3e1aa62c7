package replay_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/fanout/fanouttest"
	"github.com/fanfarehq/fanfare/fanout/replay"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// replayView is a replay as the API shows it.
type replayView struct {
	ID      uuid.UUID `json:"id"`
	State   string    `json:"state"`
	Matched int       `json:"matched"`
	Gone    int       `json:"unreachable"`
	Sent    int       `json:"sent"`
	Rate    int       `json:"rate"`
}

// replaying is a house with a desk for replays.
type replaying struct {
	*fanouttest.House
	desk  *fanouttest.Desk
	log   lines
	bytes fanout.Bytes // what outlived the stream; nil for what deliver keeps
}

func newReplaying(t *testing.T) *replaying {
	t.Helper()
	h := &replaying{House: fanouttest.New(t)}
	h.desk = fanouttest.NewDesk(t, replay.Routes{DB: h.DB, Directory: h.Directory, Logger: h.logger()}.Register)
	return h
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds a line.
func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// has reports whether a line has all of the parts.
func (l *lines) has(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

func (h *replaying) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&h.log, nil)) }

// replayer starts one, and a worker that takes what is due and never ends it; both end with the test or when stop is called.
func (h *replaying) replayer() (stop func()) {
	h.T.Helper()
	stopReplayer, stopWorker := h.replayerAlone(), h.worker()
	return func() { stopReplayer(); stopWorker() }
}

// worker claims deliveries that are due.
func (h *replaying) worker() (stop func()) {
	h.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		l := ledger.New(h.DB)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if _, _, err := l.Claim(ctx, 1000, ledger.DueSpan{Back: time.Hour}, ledger.Lease{Worker: "w", Length: time.Hour}); err != nil && ctx.Err() == nil {
				h.T.Errorf("claim: %v", err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	h.T.Cleanup(stop)
	return stop
}

// replayerAlone starts a replayer without a worker.
func (h *replaying) replayerAlone() (stop func()) {
	h.T.Helper()
	reader := fanout.NewReader(h.JS)
	events, err := deliver.NewEvents(deliver.EventsConfig{Read: func(context.Context, uint64) (*event.Event, error) {
		return nil, event.ErrGone
	}}, h.DB)
	if err != nil {
		h.T.Fatal(err)
	}
	if h.bytes == nil {
		h.bytes = events
	}
	r := replay.NewReplayer(replay.Deps{
		DB: h.DB, Reader: reader, Bytes: h.bytes, Directory: h.Directory, JetStream: h.JS, Logger: h.logger(),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			h.T.Errorf("replayer: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	h.T.Cleanup(stop)
	return stop
}

// past publishes events and waits until they are fanned out to nobody.
func (h *replaying) past(n int) {
	h.T.Helper()
	stop := h.Run()
	for i := range n {
		h.Publish("events.acme.order.created", fmt.Sprintf(`{"n":%d}`, i), "Fanfare-Id", fmt.Sprint("e", i))
	}
	h.Publish("events.globex.order.created", `{"n":1}`, "Fanfare-Id", "foreign")
	h.Settled()
	stop()
}

func (h *replaying) start(sub *subscriptions.Subscription, body map[string]any) replayView {
	h.T.Helper()
	var v replayView
	body["since"] = time.Now().Add(-time.Hour)
	h.desk.Call("acme", "POST", "/v1/subscriptions/"+sub.ID.String()+"/replay", body, 202, &v)
	return v
}

// until waits for a state.
func (h *replaying) until(id uuid.UUID, what string, is func(replayView) bool) (v replayView) {
	h.T.Helper()
	h.Eventually("the replay is "+what, func() bool {
		h.desk.Call("acme", "GET", "/v1/replays/"+id.String(), nil, 200, &v)
		return is(v)
	})
	return v
}

func (h *replaying) done(id uuid.UUID) replayView {
	h.T.Helper()
	return h.until(id, "done", func(v replayView) bool { return v.State == "done" })
}

func (h *replaying) count(query string, args ...any) (n int) {
	h.T.Helper()
	if err := h.DB.QueryRowContext(h.T.Context(), query, args...).Scan(&n); err != nil {
		h.T.Fatal(err)
	}
	return n
}

func TestTheReplayOfAPastOlderThanTheSubscription(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(40)
	sub := h.Subscribe("acme", "order.*")
	sub.Filter = "event.data.n < 30.0"
	if err := h.Store.Update(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	h.replayer()

	dry := h.done(h.start(sub, map[string]any{"dry_run": true, "only": "all"}).ID)
	if dry.Matched != 30 || dry.Sent != 0 || h.count("SELECT count(*) FROM deferrals") != 0 {
		t.Errorf("the dry run is %+v and left rows: want 30 matched, nothing sent", dry)
	}
	if v := h.done(h.start(sub, map[string]any{"only": "all", "rate": 20}).ID); v.Matched != 30 || v.Sent != 30 {
		t.Errorf("the replay is %+v, want 30 matched and sent", v)
	}
	if n := h.count(`SELECT count(DISTINCT event_id) FROM deferrals WHERE subscription_id = $1 AND generation = 1 AND NOT held`, sub.ID); n != 30 {
		t.Errorf("%d events are on their way as generation 1, want 30", n)
	}
	// 30 deliveries at 20 a second are due over 1.45 s, whenever they were written.
	if ms := h.count(`SELECT round(extract(epoch FROM max(due_at) - min(due_at)) * 1000) FROM deferrals`); ms < 1450 {
		t.Errorf("30 deliveries at 20 a second are due within %d ms", ms)
	}
	for _, fields := range []string{"state=done", "dry_run=true matched=30 unreachable=0 sent=0", "dry_run=false matched=30 unreachable=0 sent=30"} {
		h.Eventually("a line says "+fields, func() bool { return h.log.has(`msg="replay ended"`, "subscription="+sub.ID.String(), fields) })
	}
	// What is pending goes by itself.
	if v := h.done(h.start(sub, map[string]any{"only": "all"}).ID); v.Matched != 0 || v.Sent != 0 {
		t.Errorf("the replay of what is pending is %+v", v)
	}
	h.end("delivered", `event_id IN ('e0', 'e1', 'e2')`)
	h.end("dead", `true`)
	if v := h.done(h.start(sub, map[string]any{"only": "undelivered", "dry_run": true}).ID); v.Matched != 27 {
		t.Errorf("%d are undelivered, want 27", v.Matched)
	}
	if v := h.done(h.start(sub, map[string]any{"only": "all", "types": []string{"other"}}).ID); v.Matched != 0 {
		t.Errorf("%d events are of a type that nobody published", v.Matched)
	}
	if v := h.done(h.start(sub, map[string]any{"only": "dead", "rate": 10000}).ID); v.Sent != 27 {
		t.Errorf("%d dead letters are sent again, want 27", v.Sent)
	}
	if n := h.count(`SELECT count(*) FROM deferrals WHERE generation = 2`); n != 27 {
		t.Errorf("%d are of generation 2, want 27", n)
	}
}

// The deliveries of a replay are due one after the other, over however many steps they are written, and a step writes few.
func TestTheDeliveriesOfAReplayAreSpread(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(150)
	sub := h.Subscribe("acme", "*")
	h.replayerAlone()
	h.start(sub, map[string]any{"only": "all", "rate": 100})
	h.Eventually("all are written", func() bool { return h.count("SELECT count(*) FROM deferrals") == 150 })
	if n := h.count(`SELECT count(*) FROM (SELECT due_at - lag(due_at) OVER (ORDER BY due_at) AS apart FROM deferrals) d
WHERE apart < interval '9999 microseconds'`); n != 0 {
		t.Errorf("%d deliveries of a replay at 100 a second are due less than 10 ms after the one before", n)
	}
	if n := h.count(`SELECT max(n) FROM (SELECT count(*) AS n FROM deferrals GROUP BY xmin::text) steps`); n > 20 {
		t.Errorf("one step wrote %d deliveries, want 20 at most", n)
	}
}

// end ends pending deliveries as a recorder would.
func (h *replaying) end(state, which string) {
	h.T.Helper()
	if _, err := h.DB.ExecContext(h.T.Context(), `WITH gone AS (DELETE FROM deferrals WHERE `+which+` RETURNING *)
INSERT INTO deliveries (id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason,
    attempts, created_at, ended_at, duration_us, status, error)
SELECT id, number, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, $1, 'http_5xx', 1, created_at, now(), 0, 500, '' FROM gone`,
		state); err != nil {
		h.T.Fatal(err)
	}
}

func TestAReplaySurvivesRestarts(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	const n = 300
	h.past(n)
	sub := h.Subscribe("acme", "*")
	v := h.start(sub, map[string]any{"only": "all", "rate": 100})
	for _, least := range []int{1, 150} {
		stop := h.replayer()
		h.until(v.ID, "under way", func(v replayView) bool { return v.Sent >= least })
		stop()
	}
	h.replayer()
	if v = h.done(v.ID); v.Sent != n || v.Matched != n {
		t.Errorf("the replay is %+v, want %d matched and sent", v, n)
	}
	if rows, events := h.count("SELECT count(*) FROM deferrals"), h.count("SELECT count(DISTINCT event_uid) FROM deferrals"); rows != n || events != n {
		t.Errorf("%d deliveries of %d events, want one for each of %d", rows, events, n)
	}
}

func TestAReplayIsPausedResumedAndCancelled(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(100)
	sub := h.Subscribe("acme", "*")
	h.replayer()
	v := h.start(sub, map[string]any{"only": "all", "rate": 5})
	path := "/v1/replays/" + v.ID.String()
	h.until(v.ID, "under way", func(v replayView) bool { return v.Sent > 0 })
	h.desk.Call("acme", "POST", path+"/pause", nil, 202, &v)
	if v.State != "paused" {
		t.Errorf("the paused replay is %+v", v)
	}
	paused := v.Sent
	h.desk.Call("acme", "POST", path+"/resume", nil, 202, &v)
	if v.State != "running" {
		t.Errorf("the resumed replay is %+v", v)
	}
	v = h.until(v.ID, "going on", func(v replayView) bool { return v.Sent > paused })
	h.desk.Call("acme", "POST", path+"/cancel", nil, 202, &v)
	if v.State != "cancelled" || v.Sent == 100 {
		t.Errorf("the cancelled replay is %+v", v)
	}
	if !h.log.has(`msg="replay ended"`, "state=cancelled") {
		t.Error("no line says that the replay was cancelled")
	}
	var problem struct{ Detail string }
	h.desk.Call("acme", "POST", path+"/resume", nil, 409, &problem)
	if want := "the replay was cancelled"; problem.Detail != want {
		t.Errorf("a cancelled replay is not resumed: %q, want %q", problem.Detail, want)
	}
	if n := h.count("SELECT count(*) FROM deferrals"); n != v.Sent {
		t.Errorf("%d deliveries were made, the replay says %d", n, v.Sent)
	}
	// Another tenant sees nothing of it, and cannot replay to another's subscription.
	h.desk.Call("globex", "GET", path, nil, 404, nil)
	h.desk.Call("globex", "POST", path+"/pause", nil, 404, nil)
	h.desk.Call("globex", "POST", "/v1/subscriptions/"+sub.ID.String()+"/replay", map[string]any{"since": time.Now()}, 404, nil)
}

func TestDeadLettersAreSentAgainOnce(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(20)
	refs := `INSERT INTO event_refs (uid, ref) SELECT uid, unnest($1::uuid[]) FROM events WHERE id = 'e3'`
	if _, err := h.DB.ExecContext(t.Context(), refs, ledger.Uuids(slices.Concat(event.Refs("acme", []string{"o3"}, []string{"r3"})...))); err != nil {
		t.Fatal(err)
	}
	a, b := h.Subscribe("acme", "*"), h.Subscribe("acme", "*")
	h.replayer()
	for range 2 { // twice: each ends with two generations that are dead
		for _, sub := range []*subscriptions.Subscription{a, b} {
			h.done(h.start(sub, map[string]any{"only": "all", "rate": 10000}).ID)
		}
		h.end("dead", "true")
	}
	var v replayView
	h.desk.Call("acme", "POST", "/v1/dead-letters/replay", map[string]any{"subscription": b.ID, "rate": 10000}, 202, &v)
	if v = h.done(v.ID); v.Sent != 20 {
		t.Errorf("%d dead letters of one subscription were sent again, want 20", v.Sent)
	}
	h.desk.Call("acme", "POST", "/v1/dead-letters/replay", map[string]any{"rate": 10000, "event": "e7"}, 202, &v)
	if v = h.done(v.ID); v.Sent != 1 {
		t.Errorf("%d dead letters of one event were sent again, want that of the other subscription", v.Sent)
	}
	for name, tt := range map[string]struct {
		filter map[string]any
		want   int
	}{
		"reason":      {map[string]any{"reason": []string{"http_5xx", "tls"}}, 19},
		"no reason":   {map[string]any{"reason": []string{"tls"}}, 0},
		"http_status": {map[string]any{"http_status": []string{"5xx"}}, 19},
		"no status":   {map[string]any{"http_status": []string{"503"}}, 0},
		"object_id":   {map[string]any{"object_id": []string{"o3"}}, 1},
		"resource_id": {map[string]any{"resource_id": []string{"r3", "none"}, "object_id": []string{"o3"}}, 1},
		"no resource": {map[string]any{"resource_id": []string{"none"}}, 0},
	} {
		tt.filter["dry_run"] = true
		h.desk.Call("acme", "POST", "/v1/dead-letters/replay", tt.filter, 202, &v)
		if v = h.done(v.ID); v.Matched != tt.want {
			t.Errorf("by %s %d dead letters match, want %d", name, v.Matched, tt.want)
		}
	}
	var shown map[string]any
	h.desk.Call("acme", "POST", "/v1/dead-letters/replay", map[string]any{"dry_run": true, "reason": []string{"tls"}, "object_id": []string{"o"}}, 202, &shown)
	if got := fmt.Sprint(shown["tenant"], shown["reason"], shown["object_id"], shown["types"]); got != "acme[tls] [o] []" {
		t.Errorf("the replay shows %s of what it was asked for", got)
	}
	h.desk.Call("acme", "POST", "/v1/dead-letters/replay", map[string]any{"rate": 10000}, 202, &v)
	if v = h.done(v.ID); v.Sent != 19 || h.count("SELECT count(*) FROM deferrals WHERE generation = 3") != 40 {
		t.Errorf("%d dead letters were sent again, want 19", v.Sent)
	}
	h.desk.Call("acme", "POST", "/v1/dead-letters/replay", map[string]any{"tenant": "globex"}, 403, nil)
}

// Sent counts what a worker has begun, not what was written ahead; a replay ends once all was begun, or a while after the last
// was due.
func TestSentCountsWhatWasSent(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	h.past(40)
	sub := h.Subscribe("acme", "*")
	h.replayerAlone()
	v := h.start(sub, map[string]any{"only": "all", "rate": 1000})
	h.until(v.ID, "written ahead", func(replayView) bool { return h.count("SELECT count(*) FROM deferrals") == 40 })
	if h.desk.Call("acme", "GET", "/v1/replays/"+v.ID.String(), nil, 200, &v); v.Sent != 0 {
		t.Errorf("%d were sent, though no worker took any", v.Sent)
	}
	var list struct{ Data []replayView }
	h.desk.Call("acme", "GET", "/v1/replays", nil, 200, &list)
	if len(list.Data) != 1 || list.Data[0].Sent != 0 {
		t.Errorf("the list has %+v", list.Data)
	}
	if v = h.done(v.ID); v.Sent != 0 {
		t.Errorf("after a while it is %+v, want none sent", v)
	}
	h.worker()
	h.until(v.ID, "sent", func(v replayView) bool { return v.Sent == 40 })
}

// Replays are listed by tenant, subscription and state, page by page.
func TestReplaysAreListed(t *testing.T) {
	t.Parallel()
	h := newReplaying(t)
	one, other, foreign := h.Subscribe("acme", "order.*"), h.Subscribe("acme", "order.*"), h.Subscribe("globex", "order.*")
	first := h.start(one, map[string]any{"only": "all"}).ID
	second := h.start(other, map[string]any{"only": "all"}).ID
	h.desk.Call("globex", "POST", "/v1/subscriptions/"+foreign.ID.String()+"/replay", map[string]any{"since": "2026-01-01T00:00:00Z"}, 202, nil)
	h.desk.Call("acme", "POST", "/v1/replays/"+first.String()+"/cancel", nil, 202, nil)
	for query, want := range map[string][]uuid.UUID{
		"": {second, first}, "order=asc": {first, second}, "state=cancelled": {first}, "state=counting": {second}, "state=done": nil,
		"subscription=" + other.ID.String(): {second}, "subscription=" + foreign.ID.String(): nil,
	} {
		var list struct{ Data []replayView }
		h.desk.Call("acme", "GET", "/v1/replays?"+query, nil, 200, &list)
		var got []uuid.UUID
		for _, p := range list.Data {
			got = append(got, p.ID)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
	var page struct {
		Data []replayView
		Next string `json:"next_cursor"`
	}
	h.desk.Call("admin", "GET", "/v1/replays?limit=2", nil, 200, &page)
	if len(page.Data) != 2 || page.Next == "" {
		t.Errorf("an admin's first page is %+v", page)
	}
	h.desk.Call("acme", "GET", "/v1/replays?subscription=x", nil, 422, nil)
}
