package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// A list that is read while others add to it neither skips nor repeats.
func testLists(t *testing.T, d *deployment) {
	for name, list := range map[string]struct {
		path string // of the list, and of the creation
		body func(n int) any
		id   string // the field that tells items apart
	}{
		"Subscriptions": {"/v1/subscriptions", func(int) any {
			return map[string]any{"name": "s", "url": "http://127.0.0.1:9/", "event_types": []string{"list.nothing"}}
		}, "id"},
		"EventTypes": {"/v1/event-types", func(int) any { return map[string]any{"name": unique("list.type_")} }, "name"},
		"Keys":       {"/v1/keys", func(int) any { return map[string]any{"name": "k", "scopes": []string{"events:read"}} }, "id"},
		"Events": {"/v1/events", func(int) any {
			return map[string]any{"type": "list.event", "id": unique("list_"), "data": map[string]any{}}
		}, "id"},
	} {
		for _, order := range []string{"asc", "desc"} {
			t.Run(name+" "+order, func(t *testing.T) {
				t.Parallel()
				query := "?tenant=" + unique("lists-")
				make := func(n int) string {
					var item map[string]any
					want := 201
					if name == "Events" {
						want = 202
					}
					d.call(t, testAdminKey, "POST "+list.path+query, list.body(n), want).decode(t, &item)
					return fmt.Sprint(item[list.id])
				}
				before := map[string]bool{}
				for n := range 25 {
					before[make(n)] = true
				}
				d.until(t, testAdminKey, "GET "+list.path+query+"&limit=500", func(r reply) bool {
					for id := range before {
						if !strings.Contains(r.body, `"`+id+`"`) {
							return false
						}
					}
					return true
				})
				seen := map[string]int{}
				d.pages(t, list.path+query+"&limit=4&order="+order, func(item map[string]any) {
					seen[fmt.Sprint(item[list.id])]++
					if len(seen)%2 == 0 { // While it is read, it grows, by fewer than are read.
						make(len(seen))
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
			})
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
