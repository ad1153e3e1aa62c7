package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A tenant subscribes to operational events like to any other, and is told each once. That an endpoint to which they go fails
// as well leads to nothing more to tell.
func testOperationalEvents(t *testing.T, d *deployment) {
	const tenant = "told"
	subscribe := func(url, types string) {
		call(t, d.admin, "POST /v1/subscriptions?tenant="+tenant, map[string]any{
			"name": types, "url": url, "event_types": []string{types}, "retry": map[string]any{"max_retries": 0},
		}, nil)
	}
	publish := func(kind string) {
		call(t, d.admin, "POST /v1/events?tenant="+tenant, map[string]any{"type": kind, "data": map[string]any{}}, nil)
	}
	news, deaf := servertest.NewReceiver(t), servertest.NewReceiver(t, servertest.Status(500))
	subscribe(news.URL, "fanfare.>")
	subscribe(deaf.URL, "fanfare.>")
	subscribe(servertest.NewReceiver(t, servertest.Status(410)).URL, "order.gone")
	subscribe(servertest.NewReceiver(t, servertest.Status(500)).URL, "order.failed")
	publish("order.gone")
	news.Wait(2)
	deaf.Wait(2)
	dead := func(n int) {
		await(t, fmt.Sprintf("%d deliveries are dead", n), func() bool {
			var list struct{ Data []any }
			call(t, d.admin, "GET /v1/deliveries?state=dead&limit=100&tenant="+tenant, nil, &list)
			return len(list.Data) == n
		})
	}
	dead(3) // the one that is gone, and what the deaf one was told
	// What is told next is told after whatever these may have led to.
	publish("order.failed")
	dead(5)
	got := make(map[string]int)
	for _, req := range news.Wait(3) {
		var body struct {
			Type string
			Data map[string]any
		}
		if err := json.Unmarshal(req.Body, &body); err != nil || body.Data["subscription"] == nil {
			t.Errorf("%s: %v", req.Body, err)
		}
		got[body.Type]++
	}
	if want := map[string]int{"fanfare.delivery.dead": 2, "fanfare.subscription.disabled": 1}; !maps.Equal(got, want) {
		t.Errorf("the tenant was told %v, want %v", got, want)
	}
}
