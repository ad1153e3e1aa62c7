package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
)

// Through the API, and over two processes of fan-out: the deliveries of each key have success in the order in which
// their events were accepted, though many fail at first; one key that fails holds up nobody else.
func TestOrder(t *testing.T) {
	t.Parallel()
	d := launch(t, 1)
	key := d.key(t, "acme")
	const keys, each = 20, 8
	var mu sync.Mutex
	last := map[string]int{}
	var mended atomic.Bool
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		raw, err := io.ReadAll(req.Body)
		var got struct {
			Data struct {
				Order string
				N     int
			}
		}
		if err == nil {
			err = json.Unmarshal(raw, &got)
		}
		mu.Lock()
		defer mu.Unlock()
		switch order, n := got.Data.Order, got.Data.N; {
		case err != nil:
			t.Errorf("%s: %v", raw, err)
		case n != last[order]+1:
			t.Errorf("order %s: number %d came after number %d", order, n, last[order])
		case order == "o0" && !mended.Load(), rand.N(4) == 0:
			w.WriteHeader(http.StatusInternalServerError)
			return
		default:
			last[order] = n
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	var sub struct {
		ID       string
		Ordering map[string]string
	}
	d.call(t, key, "POST /v1/subscriptions", map[string]any{
		"name": "in order", "url": receiver.URL, "event_types": []string{"*"}, "ordering": map[string]any{"key": "event.data.order"},
		"retry": map[string]any{"schedule": []string{"10ms"}, "max_retries": 100},
	}, 201).decode(t, &sub)
	if sub.Ordering["key"] != "event.data.order" || sub.Ordering["on_dead"] != "continue" {
		t.Errorf("the ordering is shown as %v", sub.Ordering)
	}
	for n := 1; n <= each; n++ {
		events := make([]map[string]any, keys)
		for k := range events {
			events[k] = map[string]any{"type": "order.changed", "data": map[string]any{"order": fmt.Sprint("o", k), "n": n}}
		}
		d.call(t, key, "POST /v1/events", events, 202)
	}
	done := func(want int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			n := 0
			for _, l := range last {
				n += l
			}
			return n == want
		}
	}
	await(t, "all but the key that fails are delivered", done((keys-1)*each))
	type list struct {
		Data []struct {
			Reason string
			DueAt  *string `json:"due_at"`
		}
	}
	d.until(t, key, "GET /v1/deliveries?state=pending&limit=100&subscription="+sub.ID, func(r reply) bool {
		var pending list
		r.decode(t, &pending)
		blocked := 0
		for _, p := range pending.Data {
			if p.Reason == "key_blocked" && p.DueAt == nil {
				blocked++
			}
		}
		return len(pending.Data) == each && blocked == each-1
	})
	mended.Store(true)
	await(t, "the key that failed is delivered", done(keys*each))
	d.until(t, key, "GET /v1/subscriptions/"+sub.ID+"/stats", func(r reply) bool {
		var s map[string]any
		r.decode(t, &s)
		return s["delivered"] == float64(keys*each) && s["pending"] == 0.0 && s["key_blocked"] == 0.0
	})
}
