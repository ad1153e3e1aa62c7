package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// listed is a kind of list, and how it grows by one.
type listed struct {
	path string // with ?tenant= at its end
	grow func(t *testing.T)
	id   string // the field that tells items apart
}

// lists are those of a tenant.
func (d *deployment) lists(t *testing.T, tenant string) map[string]listed {
	t.Helper()
	query := "?tenant=" + tenant
	created := func(path, id string, status int, body func() any) listed {
		return listed{path + query, func(t *testing.T) { d.call(t, testAdminKey, "POST "+path+query, body(), status) }, id}
	}
	lists := map[string]listed{
		"Subscriptions": created("/v1/subscriptions", "id", 201, func() any {
			return map[string]any{"name": "s", "url": "http://127.0.0.1:9/", "event_types": []string{"list.nothing"}}
		}),
		"EventTypes": created("/v1/event-types", "name", 201, func() any { return map[string]any{"name": unique("list.type_")} }),
		"Keys":       created("/v1/keys", "id", 201, func() any { return map[string]any{"name": "k", "scopes": []string{"events:read"}} }),
		"Events":     created("/v1/events", "id", 202, func() any { return map[string]any{"type": "list.event", "id": unique("list_"), "data": 1} }),
	}
	d.call(t, testAdminKey, "PUT /v1/tenants/"+tenant, map[string]any{"limits": map[string]any{"replays": 1000}}, 200)
	lists["Replays"] = listed{"/v1/replays" + query, func(t *testing.T) {
		d.call(t, testAdminKey, "POST /v1/dead-letters/replay"+query, map[string]any{"dry_run": true}, 202)
	}, "id"}
	lists["Jobs"] = listed{"/v1/jobs" + query, func(t *testing.T) {
		d.call(t, testAdminKey, "POST /v1/deliveries/retry"+query, someSpan(map[string]any{"dry_run": true}), 202)
	}, "id"}
	lists["Tenants"] = listed{"/v1/tenants?q=of-" + tenant, func(t *testing.T) {
		d.call(t, testAdminKey, "PUT /v1/tenants/"+unique("of-"+tenant+"-"), map[string]any{}, 200)
	}, "tenant"}
	lists["Changes"] = listed{"/v1/changes" + query + "&resource=event_type", lists["EventTypes"].grow, "id"}
	// The tenant has others, of the lists below.
	events := lists["Events"]
	events.path += "&type=list.event"
	lists["Events"] = events
	publish := func(kind string) func(*testing.T) {
		return func(t *testing.T) {
			d.call(t, testAdminKey, "POST /v1/events"+query, map[string]any{"type": kind, "data": 1}, 202)
		}
	}
	refusing := servertest.NewReceiver(t, servertest.Status(400))
	subscribe := func(body map[string]any) string {
		var s identified
		body["name"], body["url"] = "s", refusing.URL
		d.call(t, testAdminKey, "POST /v1/subscriptions"+query, body, 201).decode(t, &s)
		return s.ID
	}
	held := subscribe(map[string]any{"event_types": []string{"list.held"}, "status": "paused"})
	dead := subscribe(map[string]any{"event_types": []string{"list.dead"}, "retry": map[string]any{"max_retries": 0}})
	lists["Deliveries"] = listed{"/v1/deliveries" + query + "&subscription=" + held, publish("list.held"), "id"}
	lists["DeliveriesOfSubscription"] = listed{"/v1/subscriptions/" + held + "/deliveries" + query, publish("list.held"), "id"}
	lists["DeadLetters"] = listed{"/v1/dead-letters" + query + "&subscription=" + dead, publish("list.dead"), "id"}
	js := connectTo(t, d.at.NATS)
	lists["Quarantine"] = listed{"/v1/quarantine" + query, func(t *testing.T) {
		if _, err := js.Publish(t.Context(), "events."+tenant+".list", []byte("no JSON")); err != nil {
			t.Fatal(err)
		}
	}, "id"}
	return lists
}

// A list that is read while others add to it neither skips nor repeats.
func testLists(t *testing.T, d *deployment) {
	paths := map[string]bool{}
	for _, order := range []string{"asc", "desc"} {
		for name, list := range d.lists(t, unique("lists-")) {
			path, _, _ := strings.Cut(list.path, "?")
			paths[path] = true
			t.Run(name+" "+order, func(t *testing.T) {
				t.Parallel()
				d.readWhileItGrows(t, list, order)
			})
		}
	}
	for _, o := range d.doc.Operations {
		if o.has("query", "cursor") && !paths[o.Path] && len(o.pathNames()) == 0 {
			t.Errorf("%s: it is a list that no test reads while it grows; add it to lists", o)
		}
	}
}

func (d *deployment) readWhileItGrows(t *testing.T, list listed, order string) {
	t.Helper()
	const first = 25
	for range first {
		list.grow(t)
	}
	before := map[string]bool{}
	d.until(t, testAdminKey, "GET "+list.path+"&limit=500", func(r reply) bool {
		var page struct{ Data []map[string]any }
		r.decode(t, &page)
		for _, item := range page.Data {
			before[fmt.Sprint(item[list.id])] = true
		}
		return len(before) >= first
	})
	seen := map[string]int{}
	d.pages(t, list.path+"&limit=4&order="+order, func(item map[string]any) {
		seen[fmt.Sprint(item[list.id])]++
		if len(seen)%2 == 0 { // While it is read, it grows, by fewer than are read.
			list.grow(t)
		}
	}, 40)
	for id := range before {
		if seen[id] != 1 {
			t.Errorf("%s was listed %d times, want once", id, seen[id])
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was listed %d times", id, n)
		}
	}
}

// pages reads a list page by page, to its end or to so many pages.
func (d *deployment) pages(t *testing.T, path string, each func(map[string]any), most int) {
	t.Helper()
	cursor := ""
	for range most {
		var page struct {
			Data []map[string]any
			Next json.RawMessage `json:"next_cursor"`
		}
		d.call(t, testAdminKey, "GET "+path+cursor, nil, 200).decode(t, &page)
		for _, item := range page.Data {
			each(item)
		}
		if string(page.Next) == "null" {
			return
		}
		var next string
		if err := json.Unmarshal(page.Next, &next); err != nil {
			t.Fatal(err)
		}
		cursor = "&cursor=" + url.QueryEscape(next)
	}
}
