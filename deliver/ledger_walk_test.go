package deliver_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// walked reads a list to its end, with pages of so many, and calls between before each page but the first. It fails if
// there are more pages than most.
func walked(t *testing.T, l *history.Reader, f history.Filter, most int, between func()) (found []uuid.UUID) {
	t.Helper()
	limit := f.Limit
	f.Limit++ // as Page.Fetch asks
	for range most {
		entries, cut, err := l.Walk(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) > limit {
			entries, cut = entries[:limit], entries[limit-1].ID
		}
		for _, e := range entries {
			found = append(found, e.ID)
		}
		if cut == uuid.Nil {
			return found
		}
		f.After = cut
		between()
	}
	t.Fatalf("%+v: the list does not end within %d pages", f, most)
	return nil
}

// However little a page examines, the pages together are the list: in either order, with every filter, from both tables,
// with a delivery that is in both.
func TestCutPagesAreTheWholeList(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub, other := r.subscribe("http://127.0.0.1:1/", nil), r.subscribe("http://127.0.0.1:1/", nil)
	foreign := r.subscribe("http://127.0.0.1:1/", func(s *subscriptions.Subscription) { s.Tenant = "globex" })
	r.ledgered(sub, "acme", 24)
	r.ledgered(other, "initech", 12)
	r.ledgered(foreign, "globex", 12)
	// Every second one that waits has ended as well.
	if _, err := r.DB.Exec(`
INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason, attempts, created_at, ended_at, duration_us, status, error)
SELECT id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, 'delivered', 'ok', attempts, created_at, now(), 0, 0, ''
FROM deferrals WHERE seq % 8 = 1`); err != nil {
		t.Fatal(err)
	}
	if _, err := r.DB.Exec(`UPDATE deliveries SET event_type = 'order.rare' WHERE seq = 9; UPDATE deferrals SET event_type = 'order.rare' WHERE seq IN (9, 13)`); err != nil {
		t.Fatal(err)
	}
	l := history.NewReader(r.DB, nil)
	middle := time.Date(2026, 11, 20, 10, 0, 6, 0, time.UTC)
	for _, f := range []history.Filter{
		{}, {Tenant: "acme"}, {Subscription: sub.ID}, {Tenant: "acme", Subscription: sub.ID}, {Tenant: "acme", Since: middle},
		{Tenant: "acme", Until: middle}, {Tenant: "acme", Subscription: foreign.ID},
	} {
		for _, f.State = range []string{"", "pending", "delivered", "dead", "cancelled"} {
			for _, f.Types = range [][]string{nil, {"order.paid"}, {"order.rare"}, {"order.none"}} {
				for _, f.Asc = range []bool{false, true} {
					f.Limit = 1000
					var want []uuid.UUID
					for _, e := range must(l.Whole(t.Context(), f))(t) {
						want = append(want, e.ID)
					}
					for _, l.Examined = range []int{1, 5, history.Examined} {
						f.Limit = 1 + l.Examined%4
						got := walked(t, l, f, 200, func() {})
						if !slices.Equal(got, want) {
							t.Errorf("%+v, examining %d: got %v, want %v", f, l.Examined, got, want)
						}
					}
				}
			}
		}
	}
}

// What is there when the reading begins is listed once, though deliveries come and end meanwhile.
func TestCutPagesHoldWhileTheLedgerMoves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	for _, asc := range []bool{false, true} {
		tenant := fmt.Sprintf("moving-%t", asc)
		want := map[string]bool{}
		for i, id := range r.ledgered(sub, tenant, 40) {
			if i%2 == 1 {
				want[id] = true
			}
		}
		l := history.NewReader(r.DB, nil)
		l.Examined = 3
		var moved, turn int
		got := map[string]int{}
		for _, id := range walked(t, l, history.Filter{Tenant: tenant, Types: []string{"order.paid"}, Asc: asc, Limit: 2}, 500, func() {
			turn++
			if turn%3 == 0 && turn < 100 { // Some come, newer than all, and fewer than are read.
				at := time.Date(2026, 11, 20, 11, 0, turn, 0, time.UTC)
				if _, err := r.DB.Exec(`
INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason, attempts, created_at, ended_at, duration_us, status, error)
VALUES ($1, $2, $1, 'e', 'order.paid', 1, $3, 0, 'delivered', 'ok', 1, $4, $4, 0, 0, '')`, outcome.ID(event.UID(tenant, "new", at), sub.ID, 0, at), tenant, sub.ID, at); err != nil {
					t.Fatal(err)
				}
			}
			var waiting uuid.UUID
			if r.DB.QueryRow(`SELECT id FROM deferrals WHERE tenant = $1 ORDER BY md5(id::text) LIMIT 1`, tenant).Scan(&waiting) == nil && turn%2 == 0 {
				moved++
				if err := ledger.New(r.DB).Cancel(t.Context(), waiting); err != nil {
					t.Fatal(err)
				}
			}
		}) {
			got[id.String()]++
		}
		for id := range want {
			if got[id] != 1 {
				t.Errorf("asc %t: %s was listed %d times, want once", asc, id, got[id])
			}
		}
		for id, n := range got {
			if n != 1 {
				t.Errorf("asc %t: %s was listed %d times", asc, id, n)
			}
		}
		if moved == 0 {
			t.Error("no delivery ended meanwhile")
		}
	}
}

// Through the API: a type that is rare among more deliveries than a page examines is found over several pages, one that is
// absent ends with null, and what is another tenant's gives no cursor.
func TestARareTypeIsFoundOverSeveralPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	foreign := r.subscribe("http://127.0.0.1:1/", func(s *subscriptions.Subscription) { s.Tenant = "globex" })
	const rows = 2*history.Examined + 500
	first := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	for tenant, of := range map[string]*subscriptions.Subscription{"acme": sub, "globex": foreign} {
		if _, err := r.DB.Exec(`
INSERT INTO deliveries (id, tenant, event_uid, event_id, event_type, seq, subscription_id, generation, state, reason, attempts, created_at, ended_at, duration_us, status, error)
SELECT id, $1, id, 'e' || i, CASE WHEN i IN (3, $4::int / 2, $4::int - 1) THEN 'rare' ELSE 'common' END, i, $2, 0, 'dead', 'http_5xx', 1, at, at, 0, 0, ''
FROM (SELECT i, $3::timestamptz + i * interval '1 second' AS at,
    (lpad(to_hex((extract(epoch FROM $3::timestamptz)::bigint + i) * 1000), 12, '0') || '7' || substr(md5($1::text || i), 1, 3) || '8' || substr(md5($1::text || i), 4, 15))::uuid AS id
    FROM generate_series(0, $4::int - 1) AS i) x`, tenant, of.ID, first, rows); err != nil {
			t.Fatal(err)
		}
	}
	under := "/v1/subscriptions/" + sub.ID.String() + "/deliveries"
	for _, tt := range []struct {
		path  string
		want  []string // the events, newest first
		pages int
	}{
		{"/v1/deliveries?type=rare", []string{fmt.Sprint("e", rows-1), fmt.Sprint("e", rows/2), "e3"}, 3},
		{"/v1/deliveries?type=rare&state=dead", []string{fmt.Sprint("e", rows-1), fmt.Sprint("e", rows/2), "e3"}, 3},
		{"/v1/deliveries?type=rare&subscription=" + sub.ID.String(), []string{fmt.Sprint("e", rows-1), fmt.Sprint("e", rows/2), "e3"}, 3},
		{"/v1/dead-letters?type=rare", []string{fmt.Sprint("e", rows-1), fmt.Sprint("e", rows/2), "e3"}, 3},
		{under + "?type=rare", []string{fmt.Sprint("e", rows-1), fmt.Sprint("e", rows/2), "e3"}, 3},
		{"/v1/deliveries?type=absent", nil, 3},
		{"/v1/deliveries?state=delivered", nil, 3},
		{under + "?state=delivered", nil, 3},
		{"/v1/deliveries?state=cancelled", nil, 1},
		{under + "?state=cancelled", nil, 1},
		{under + "?type=absent&state=delivered", nil, 3},
		{"/v1/deliveries?type=common&state=pending", nil, 1},
		{"/v1/deliveries?type=rare&subscription=" + foreign.ID.String(), nil, 1},
	} {
		for _, order := range []string{"desc", "asc"} {
			got, pages := c.events(tt.path + "&order=" + order)
			if order == "asc" {
				slices.Reverse(got)
			}
			if !slices.Equal(got, tt.want) || pages != tt.pages {
				t.Errorf("%s %s: got %v on %d pages, want %v on %d", tt.path, order, got, pages, tt.want, tt.pages)
			}
		}
	}
}

// events reads a list to its end: the events' ids, and how many pages there were.
func (c client) events(path string) (events []string, pages int) {
	c.t.Helper()
	for cursor := ""; ; pages++ {
		page := c.do("acme", http.MethodGet, path+cursor, 200)
		for _, item := range page["data"].([]any) {
			events = append(events, item.(map[string]any)["event_id"].(string))
		}
		next, more := page["next_cursor"].(string)
		if !more {
			return events, pages + 1
		}
		cursor = "&cursor=" + url.QueryEscape(next)
	}
}
