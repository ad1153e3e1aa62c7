package deliver_test

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestDeliveriesAreListed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub, other := r.subscribe("http://127.0.0.1:1/", nil), r.subscribe("http://127.0.0.1:1/", nil)
	foreign := r.subscribe("http://127.0.0.1:1/", func(s *subscriptions.Subscription) { s.Tenant = "globex" })
	all := r.ledgered(sub, "acme", 20)
	theirs := r.ledgered(foreign, "globex", 4)
	newest := every(all, 1, 0)
	at := func(second int) string {
		return time.Date(2026, 11, 20, 10, 0, second, 0, time.UTC).Format(time.RFC3339)
	}
	for _, tt := range []struct {
		path string
		want []string
	}{
		{"/v1/deliveries", newest},
		{"/v1/deliveries?order=asc", all},
		{"/v1/deliveries?limit=3", newest[:3]},
		{"/v1/deliveries?state=delivered", every(all, 4, 0)},
		{"/v1/deliveries?state=pending", every(all, 4, 1)},
		{"/v1/deliveries?state=dead", every(all, 4, 2)},
		{"/v1/deliveries?state=cancelled", every(all, 4, 3)},
		{"/v1/deliveries?type=order.paid", every(all, 2, 1)},
		{"/v1/deliveries?event=acme_7", all[7:8]},
		{"/v1/deliveries?event=globex_1", nil},
		{"/v1/deliveries?since=" + at(5) + "&until=" + at(8), []string{all[7], all[6], all[5]}},
		{"/v1/deliveries?subscription=" + sub.ID.String(), newest},
		{"/v1/deliveries?subscription=" + other.ID.String(), nil},
		{"/v1/deliveries?subscription=" + foreign.ID.String(), nil},
		{"/v1/deliveries?tenant=acme&state=dead&type=order.created&since=" + at(3), every(all[3:], 4, 3)},
		{"/v1/subscriptions/" + sub.ID.String() + "/deliveries?state=pending", every(all, 4, 1)},
		{"/v1/dead-letters", every(all, 4, 2)},
		{"/v1/dead-letters?until=" + at(6), all[2:3]},
	} {
		if got := ids(c.do("acme", http.MethodGet, tt.path, 200)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.path, got, tt.want)
		}
	}
	if got := ids(c.do("admin", http.MethodGet, "/v1/deliveries?limit=500", 200)); len(got) != len(all)+len(theirs) {
		t.Errorf("an admin who names no tenant sees %d, want %d", len(got), len(all)+len(theirs))
	}
	if got := ids(c.do("admin", http.MethodGet, "/v1/deliveries?tenant=globex", 200)); !slices.Equal(got, every(theirs, 1, 0)) {
		t.Errorf("an admin sees of globex %v", got)
	}
}

func TestListsGoOnWhereTheyEnded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	all := r.ledgered(sub, "acme", 23)
	for _, order := range []string{"asc", "desc"} {
		var got []string
		for path := "/v1/deliveries?limit=5&order=" + order; path != ""; {
			page := c.do("acme", http.MethodGet, path, 200)
			got = append(got, ids(page)...)
			path = ""
			if next, ok := page["next_cursor"].(string); ok {
				path = "/v1/deliveries?limit=5&order=" + order + "&cursor=" + next
			}
		}
		if order == "desc" {
			slices.Reverse(got)
		}
		if !slices.Equal(got, all) {
			t.Errorf("%s: got %v, want %v", order, got, all)
		}
	}
}

func TestADeliveryIsShownWithItsLog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	all := r.ledgered(sub, "acme", 4)
	pending := c.do("acme", http.MethodGet, "/v1/deliveries/"+all[1], 200)
	if pending["state"] != "pending" || pending["reason"] != "http_5xx" || pending["due_at"] == nil || pending["ended_at"] != nil ||
		pending["event_id"] != "acme_1" || pending["event_type"] != "order.paid" || pending["subscription_id"] != sub.ID.String() ||
		pending["generation"] != 0.0 || pending["attempts"] != 1.0 || pending["created_at"] != "2026-11-20T10:00:01Z" {
		t.Errorf("got %v", pending)
	}
	attempt := pending["log"].([]any)[0].(map[string]any)
	if attempt["number"] != 1.0 || attempt["status"] != 500.0 || attempt["duration_ms"] != 41.0 || attempt["error"] != nil ||
		attempt["response"] != "oops" || attempt["outcome"] != "later" || attempt["started_at"] != "2026-11-20T10:00:01Z" {
		t.Errorf("got %v", attempt)
	}
	dead := c.do("acme", http.MethodGet, "/v1/deliveries/"+all[2], 200)
	if log := dead["log"].([]any); dead["state"] != "dead" || dead["due_at"] != nil || dead["ended_at"] == nil || len(log) != 1 || log[0].(map[string]any)["outcome"] != "dead" {
		t.Errorf("got %v", dead)
	}
}

func TestWhoMaySeeAndDoWhat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	id := r.ledgered(sub, "acme", 4)[1]
	for _, path := range []string{"/v1/deliveries/" + id, "/v1/deliveries/" + uuid.NewString(), "/v1/deliveries/x", "/v1/subscriptions/" + sub.ID.String() + "/deliveries", "/v1/subscriptions/" + sub.ID.String() + "/stats"} {
		c.do("globex", http.MethodGet, path, 404)
		c.do("nobody", http.MethodGet, path, 401)
	}
	for _, act := range []string{"/retry", "/cancel"} {
		c.do("globex", http.MethodPost, "/v1/deliveries/"+id+act, 404)
		c.do("reader", http.MethodPost, "/v1/deliveries/"+id+act, 403)
		c.do("acme", http.MethodPost, "/v1/deliveries/"+uuid.NewString()+act, 404)
	}
	for _, query := range []string{"?limit=501", "?state=lost", "?since=yesterday", "?subscription=x", "?cursor=x", "?what=ever", "?order=up"} {
		c.do("acme", http.MethodGet, "/v1/deliveries"+query, 422)
	}
	c.do("admin", http.MethodGet, "/v1/deliveries?event=acme_1", 422)
	c.do("acme", http.MethodGet, "/v1/deliveries?tenant=globex", 403)
}

func TestRetryByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(200))
	sub := r.subscribe(receiver.URL, retries(time.Hour))
	e := r.event()
	id := r.send(e, sub)
	number := r.waits(id, outcome.ReasonServer).Number

	// A pending one is made sooner.
	shown := c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/retry", 202)
	if shown["id"] != id.String() || shown["state"] != "pending" {
		t.Errorf("got %v", shown)
	}
	if row := r.ended(id, outcome.Delivered, outcome.ReasonOK); row.Attempts != 2 || row.Number != number {
		t.Errorf("got %+v, want 2 attempts and number %d", row, number)
	}
	// One that ended is made again, as the next generation, with the same id and bytes.
	again := c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/retry", 202)
	if again["id"] == id.String() || again["generation"] != 1.0 || again["state"] != "pending" && again["state"] != "delivered" {
		t.Errorf("got %v", again)
	}
	second := must(uuid.Parse(again["id"].(string)))(t)
	if row := r.ended(second, outcome.Delivered, outcome.ReasonOK); row.Generation != 1 || row.Attempts != 1 {
		t.Errorf("got %+v", row)
	}
	got := receiver.Wait(3)
	if string(got[2].Body) != string(got[0].Body) || got[2].Header.Get("webhook-id") != e.ID {
		t.Errorf("the second generation differs: %s", got[2].Body)
	}
	third := c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/retry", 202)
	if third["generation"] != 2.0 {
		t.Errorf("got %v, want generation 2", third)
	}
	r.forget(e)
	fresh := r.api() // whose cache does not have the event
	fresh.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/retry", 409)
}

// Two who ask at the same time get the same new generation.
func TestRetriesAtTheSameTimeAreOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	id := must(uuid.Parse(r.ledgered(sub, "acme", 1)[0]))(t)
	l := ledger.New(r.DB)
	e := must(history.NewReader(r.DB, nil).Find(t.Context(), id, ""))(t)
	got := make(chan uuid.UUID, 10)
	for i := range 10 {
		go func() {
			id, err := l.Retry(context.Background(), e, uuid.NullUUID{}, time.Now().Add(time.Duration(i)*time.Millisecond))
			if err != nil {
				t.Error(err)
			}
			got <- id
		}()
	}
	first := <-got
	for range 9 {
		if id := <-got; id != first {
			t.Errorf("got %s and %s", first, id)
		}
	}
	if n := r.Count(`SELECT count(*) FROM deferrals`); n != 1 {
		t.Errorf("%d deliveries are pending, want 1", n)
	}
}

func TestRetryReachesAPausedSubscription(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	r.status(sub, subscriptions.Paused)
	id := r.send(r.event(), sub)
	r.waits(id, outcome.ReasonPaused)
	c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/retry", 202)
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
}

func TestCancelByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, retries(time.Hour))
	id := r.send(r.event(), sub)
	r.waits(id, outcome.ReasonServer)
	shown := c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/cancel", 202)
	if shown["state"] != "cancelled" || shown["reason"] != "cancelled" || shown["attempts"] != 1.0 || len(shown["log"].([]any)) != 1 {
		t.Errorf("got %v", shown)
	}
	r.ended(id, outcome.Cancelled, outcome.ReasonCancelled)
	c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/cancel", 409)
}

func TestStatsOfASubscription(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(200), servertest.Status(200), servertest.Status(400), servertest.Status(500))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.MaxInFlight = 1 })
	empty := c.do("acme", http.MethodGet, "/v1/subscriptions/"+sub.ID.String()+"/stats", 200)
	if empty["window"] != "24h" || empty["delivered"] != 0.0 || empty["p50_ms"] != nil || empty["last_success_at"] != nil {
		t.Errorf("got %v", empty)
	}
	var last uuid.UUID
	for range 4 {
		last = r.send(r.event(), sub)
		r.await(last, "there", func(ledger.Entry) bool { return true })
	}
	r.status(sub, subscriptions.Paused)
	r.waits(r.send(r.event(), sub), outcome.ReasonPaused)
	got := c.do("acme", http.MethodGet, "/v1/subscriptions/"+sub.ID.String()+"/stats", 200)
	if got["delivered"] != 2.0 || got["dead"] != 0.0 || got["attempts"] != 4.0 || got["pending"] != 3.0 || got["held"] != 1.0 ||
		got["p50_ms"].(float64) <= 0 || got["p99_ms"].(float64) < got["p50_ms"].(float64) || got["oldest_due_at"] == nil || got["last_success_at"] == nil {
		t.Errorf("got %v", got)
	}
}

// The document describes what the routes answer.
func TestTheDocumentKnowsTheDelivery(t *testing.T) {
	t.Parallel()
	c := newRig(t).api()
	doc := must(json.Marshal(c.do("admin", http.MethodGet, "/openapi.json", 200)))(t)
	for _, word := range []string{`"event_id"`, `"subscription_id"`, `"due_at"`, `"duration_ms"`, `"/v1/dead-letters"`, `"oldest_due_at"`} {
		if !strings.Contains(string(doc), word) {
			t.Errorf("%s is not in the document", word)
		}
	}
}
