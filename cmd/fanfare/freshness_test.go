package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// Each change of a subscription holds for the very next event, whichever of three fan-out stages matches it.
func testReadYourWrites(t *testing.T, d *deployment) {
	const writers, rounds = 4, 6
	for i := range writers {
		t.Run(fmt.Sprint("Writer", i), func(t *testing.T) {
			t.Parallel()
			receiver := servertest.NewReceiver(t)
			w := &writer{t: t, d: d, tenant: unique("fresh-"), url: receiver.URL, arrives: map[string]string{}}
			w.key = d.key(t, w.tenant)
			for range rounds {
				w.round(i)
			}
			w.check(receiver)
		})
	}
}

// writer changes subscriptions of a tenant of its own and publishes after each change.
type writer struct {
	t                *testing.T
	d                *deployment
	tenant, key, url string
	n                int
	arrives          map[string]string // the path at which it must arrive
	nowhere          []string          // events that must not arrive
}

// publish sends events of a type that must match so many subscriptions, and returns the last one's id.
func (w *writer) publish(kind, data string, matches int, path string) {
	w.n++
	id := fmt.Sprintf("%s_%d", w.tenant, w.n)
	if path == "" {
		w.nowhere = append(w.nowhere, id)
	} else {
		w.arrives[id] = path
	}
	body := fmt.Sprintf(`{"id":%q,"type":%q,"data":%s,"resource_ids":["r1"],"changed":["status"]}`, id, kind, data)
	w.d.call(w.t, w.key, "POST /v1/events", []byte(body), http.StatusAccepted)
	// What is changed while an event is on its way may hold for it; so it is let through before the next change.
	var e struct{ Matched int }
	w.d.until(w.t, w.key, "GET /v1/events/"+id, func(r reply) bool { return r.status == http.StatusOK }).decode(w.t, &e)
	if e.Matched != matches {
		w.t.Errorf("%s matched %d subscriptions, want %d", id, e.Matched, matches)
	}
}

// round takes one subscription through all that can change about it.
func (w *writer) round(i int) {
	w.n++
	kind, path := fmt.Sprintf("fresh.w%d_%d", i, w.n), fmt.Sprintf("/%s/%d", w.tenant, w.n)
	var made identified
	w.publish(kind, "{}", 0, "")
	w.d.call(w.t, w.key, "POST /v1/subscriptions", map[string]any{"name": "s", "url": w.url + path, "event_types": []string{kind}}, 201).decode(w.t, &made)
	w.publish(kind, "{}", 1, path)
	one := "/v1/subscriptions/" + made.ID
	change := func(method, route string, body any) {
		w.d.call(w.t, w.key, method+" "+route, body, map[string]int{"PATCH": 200, "POST": 202, "DELETE": 204}[method])
	}
	change("PATCH", one, map[string]any{"filter": "event.data.n > 1"})
	w.publish(kind, `{"n":1}`, 0, "")
	w.publish(kind, `{"n":2}`, 1, path)
	change("PATCH", one, map[string]any{"filter": nil, "resource_id": "r2"})
	w.publish(kind, "{}", 0, "")
	change("PATCH", one, map[string]any{"resource_id": "r1", "changed": []string{"total"}})
	w.publish(kind, "{}", 0, "")
	change("PATCH", one, map[string]any{"resource_id": nil, "changed": []string{}, "url": w.url + path + "/b"})
	w.publish(kind, "{}", 1, path+"/b")
	change("PATCH", one, map[string]any{"event_types": []string{kind + ".other"}})
	w.publish(kind, "{}", 0, "")
	w.publish(kind+".other", "{}", 1, path+"/b")
	change("PATCH", one, map[string]any{"status": "disabled"})
	w.publish(kind+".other", "{}", 0, "")
	// What was pending may have been cancelled with it: only from here on must it all arrive.
	for id, at := range w.arrives {
		if strings.HasPrefix(at, path) {
			delete(w.arrives, id)
		}
	}
	change("PATCH", one, map[string]any{"status": "active"})
	w.publish(kind+".other", "{}", 1, path+"/b")
	w.settle()
	change("POST", one+"/pause", nil)
	w.publish(kind+".other", "{}", 1, path+"/c")
	change("PATCH", one, map[string]any{"url": w.url + path + "/c"})
	change("POST", one+"/resume", nil)
	w.publish(kind+".other", "{}", 1, path+"/c")
	w.settle()
	change("DELETE", one, nil)
	w.publish(kind+".other", "{}", 0, "")
}

// settle waits until nothing of what must arrive is pending.
func (w *writer) settle() {
	for id := range w.arrives {
		w.d.until(w.t, w.key, "GET /v1/events/"+id, func(r reply) bool {
			return r.status == http.StatusOK && strings.Contains(r.body, `"pending":0`)
		})
	}
}

// check wants every event to be where it should.
func (w *writer) check(receiver *servertest.Receiver) {
	arrived := map[string]string{}
	for _, r := range receiver.WaitFor("the events of "+w.tenant, func(requests []servertest.Request) bool {
		return w.missing(requests) == 0
	}) {
		arrived[r.Header.Get("Webhook-Id")] = r.Path
	}
	for id, want := range w.arrives {
		if at := arrived[id]; at != want {
			w.t.Errorf("%s arrived at %q, want %q", id, at, want)
		}
	}
	for _, id := range w.nowhere {
		if at, ok := arrived[id]; ok {
			w.t.Errorf("%s arrived at %q, want nowhere", id, at)
		}
	}
}

// missing counts what has not arrived.
func (w *writer) missing(requests []servertest.Request) int {
	arrived := map[string]bool{}
	for _, r := range requests {
		arrived[r.Header.Get("Webhook-Id")] = true
	}
	n := 0
	for id := range w.arrives {
		if !arrived[id] {
			n++
		}
	}
	return n
}
