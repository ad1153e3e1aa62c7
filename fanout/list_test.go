package fanout_test

import (
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/fanout/fanouttest"
)

// A type that is rare among more events than a page examines is found over several pages; one that is absent ends with null.
func TestARareTypeOfEventIsFoundOverSeveralPages(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	const rows = 10_500
	if _, err := h.DB.ExecContext(t.Context(), `
INSERT INTO events (uid, tenant, id, type, time, accepted_at, seq, matched, hash)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15))::uuid,
    'acme', 'e' || i, CASE WHEN i IN (3, $1::int / 2, $1::int - 1) THEN 'rare' ELSE 'common' END, at, at, i, 0, ''
FROM (SELECT i, timestamptz '2026-11-20 10:00:00Z' + i * interval '1 second' AS at FROM generate_series(0, $1::int - 1) AS i) x`, rows); err != nil {
		t.Fatal(err)
	}
	ask := serve(h, &fates{})
	for kind, want := range map[string]string{
		"rare desc": fmt.Sprintf("e%d e%d e3", rows-1, rows/2), "rare asc": fmt.Sprintf("e3 e%d e%d", rows/2, rows-1), "absent desc": "", "absent asc": "",
	} {
		eventType, order, _ := strings.Cut(kind, " ")
		path := "/v1/events?limit=2&type=" + eventType + "&order=" + order
		var got []string
		pages := 0
		for cursor := ""; ; {
			page := ask("acme", "GET", path+cursor, "", 200)
			pages++
			if some := ids(page); some != "" {
				got = append(got, some)
			}
			next, more := page["next_cursor"].(string)
			if !more {
				break
			}
			cursor = "&cursor=" + url.QueryEscape(next)
		}
		if strings.Join(got, " ") != want || pages != 3 {
			t.Errorf("%s: got %q on %d pages, want %q on 3", kind, got, pages, want)
		}
	}
	if got := ids(ask("acme", "GET", "/v1/events?type=common&limit=1", "", 200)); got != fmt.Sprint("e", rows-2) {
		t.Errorf("of a common type the last is %q", got)
	}
}

// Events are found by the object and the resources that they name, within their tenant.
func TestEventsAreFoundByWhatTheyName(t *testing.T) {
	t.Parallel()
	h := fanouttest.New(t)
	h.Run()
	for i, headers := range [][]string{
		{"Fanfare-Object-Id", "o_1", "Fanfare-Resource-Ids", "a,b"}, {"Fanfare-Object-Id", "o_1"}, {"Fanfare-Object-Id", "o_2", "Fanfare-Resource-Ids", "b"}, nil,
	} {
		h.Publish("events.acme.order.created", "{}", append(headers, "Fanfare-Id", fmt.Sprint("e", i))...)
		// Events of one millisecond are listed in no order that a test could know.
		for stored := time.Now().UnixMilli(); time.Now().UnixMilli() == stored; {
			runtime.Gosched()
		}
	}
	h.Publish("events.globex.order.created", "{}", "Fanfare-Object-Id", "o_1", "Fanfare-Id", "theirs")
	h.Eventually("the events to be recorded", func() bool { return len(h.Rows()) == 5 })
	ask := serve(h, &fates{})
	for query, want := range map[string]string{
		"object_id=o_1": "e1 e0", "object_id=o_1&order=asc": "e0 e1", "object_id=o_1&object_id=o_2": "e2 e1 e0", "resource_id=b": "e2 e0",
		"resource_id=b&resource_id=a": "e2 e0", "object_id=o_1&resource_id=b": "e0", "object_id=o_3": "", "object_id=o_1&type=other": "",
		"object_id=o_2&since=2020-01-01T00:00:00Z&until=2100-01-01T00:00:00Z": "e2", "object_id=o_2&until=2020-01-01T00:00:00Z": "",
	} {
		if got := ids(ask("acme", "GET", "/v1/events?"+query, "", 200)); got != want {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
	page := ask("acme", "GET", "/v1/events?object_id=o_1&limit=1", "", 200)
	next := url.QueryEscape(page["next_cursor"].(string))
	if got := ids(ask("acme", "GET", "/v1/events?object_id=o_1&limit=1&cursor="+next, "", 200)); got != "e0" {
		t.Errorf("the second page is %q", got)
	}
	ask("admin", "GET", "/v1/events?object_id=o_1", "", 422)
}
