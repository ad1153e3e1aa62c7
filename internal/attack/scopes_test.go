package attack_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// repointedDeliveries gives subscriptions another URL, without the scopes of what they were sent, and then
// asks for all of it again.
func repointedDeliveries() attack {
	const secret = "4111-1111"
	var subs []string
	var thief *client
	var evil *receiver
	return attack{
		name: "re-pointing what is under way without scopes",
		ready: func(s *scene) {
			tenant := s.attacker.tenant
			s.admin.must(s, "POST /v1/event-types?tenant="+tenant, object{"name": "payment.taken", "scopes": []string{"view:payments"}}, nil)
			owner := s.tenant(tenant, "view:payments")
			payment := object{"type": "payment.taken", "data": object{"card": secret}}
			fails := func(r *receiver) { r.status = func(*http.Request) int { return http.StatusInternalServerError } }
			ends := []struct {
				url   string
				state string
				more  object
				pause bool
			}{
				{s.fast(71), "delivered", nil, false},
				{s.receive(72, fails).url + "/fast", "pending", nil, false},
				{s.receive(73, fails).url + "/fast", "dead", object{"retry": object{"max_retries": 0}}, false},
				{s.fast(74), "pending", nil, true},
			}
			for _, end := range ends {
				id := owner.subscribe(s, end.url, "payment.taken", end.more)
				if end.pause {
					owner.must(s, "POST /v1/subscriptions/"+id+"/pause", nil, nil)
				}
				subs = append(subs, id)
			}
			owner.must(s, "POST /v1/events", payment, nil)
			for i, end := range ends {
				s.eventually("a payment is "+end.state, func() bool {
					all := owner.list(s, "/v1/deliveries?subscription="+subs[i]).Data
					return len(all) == 1 && all[0].State == end.state
				})
			}
			thief = s.tenant(tenant)
			evil = s.receive(75, keeping)
		},
		strike: func(s *scene) {
			s.again(1, 500*time.Millisecond, func() {
				for _, id := range subs {
					s.repoint(thief, id, evil.url+"/fast")
				}
				thief.call(s.ctx, "POST /v1/dead-letters/replay", object{})
			})
		},
		holds: func(s *scene) {
			// What the thief may see goes the same way, and arrives.
			open := thief.subscribe(s, evil.url+"/fast", "order.placed")
			thief.must(s, "POST /v1/subscriptions/"+open+"/test", object{"data": object{"mark": "tested"}}, nil)
			s.eventually("an event arrives at the thief's own subscription", func() bool { return evil.has("tested") })
			for _, id := range subs {
				s.eventually("no payment is under way", func() bool {
					return len(thief.list(s, "/v1/deliveries?state=pending&subscription="+id).Data) == 0
				})
			}
			if evil.has(secret) {
				s.Errorf("data of a scoped type arrived at the thief's URL")
			}
		},
	}
}

// repoint changes where a subscription's deliveries go and asks for each of them.
func (s *scene) repoint(thief *client, id, url string) {
	for _, change := range []object{{"url": url}, {"url": url, "event_types": []string{"order.placed"}}} {
		thief.call(s.ctx, "PATCH /v1/subscriptions/"+id, change)
	}
	_, _ = thief.call(s.ctx, "POST /v1/subscriptions/"+id+"/resume", nil)
	for _, d := range thief.list(s, "/v1/deliveries?subscription="+id).Data {
		thief.call(s.ctx, "POST /v1/deliveries/"+d.ID+"/retry", nil)
	}
	thief.call(s.ctx, "POST /v1/subscriptions/"+id+"/replay", object{
		"since": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "until": time.Now().UTC().Format(time.RFC3339), "only": "all",
	})
}

// repointedThroughDialect is repointedDeliveries through a vendor's API, and by vendors' ids.
func repointedThroughDialect() attack {
	const secret = "4111-2222"
	const route = "/v1/webhooks/subscriptions"
	var evil *receiver
	var thief *client
	var number int
	var sub string
	return attack{
		name: "re-pointing through a dialect without scopes",
		ready: func(s *scene) {
			tenant := s.attacker.tenant
			s.admin.must(s, "POST /v1/event-types?tenant="+tenant, object{"name": "payment", "scopes": []string{"view:payments"}}, nil)
			owner := s.tenant(tenant, "view:payments")
			failing := s.receive(85, func(r *receiver) { r.status = func(*http.Request) int { return http.StatusInternalServerError } })
			var made struct{ Subscription struct{ ID int } }
			owner.must(s, "POST "+route, object{"subscription": object{"name": "a", "eventType": "payment", "url": failing.url + "/fast", "maxRetryCount": 5}}, &made)
			number, sub = made.Subscription.ID, owner.list(s, "/v1/subscriptions?dialect=babelfor").Data[0].ID
			owner.must(s, "POST /v1/events", object{"type": "payment", "data": object{"card": secret}}, nil)
			s.eventually("the payment waits", func() bool {
				all := owner.list(s, "/v1/deliveries?state=pending&subscription="+sub).Data
				return len(all) == 1
			})
			thief, evil = s.tenant(tenant), s.receive(86, keeping)
		},
		strike: func(s *scene) {
			s.again(1, 200*time.Millisecond, func() {
				for _, change := range []object{{"url": evil.url + "/fast"}, {"url": evil.url + "/fast", "eventType": "order"}} {
					thief.call(s.ctx, fmt.Sprintf("PUT %s/%d", route, number), object{"subscription": change})
				}
				for _, d := range thief.list(s, "/v1/deliveries?subscription="+sub).Data {
					thief.call(s.ctx, "POST /v1/deliveries/"+d.ID+"/retry", nil)
				}
			})
		},
		holds: func(s *scene) {
			thief.must(s, fmt.Sprintf("POST %s/%d/test", route, number), object{"payload": object{"mark": "tested"}}, nil)
			s.eventually("a test arrives at the thief's URL", func() bool { return evil.has("tested") })
			if evil.has(secret) {
				s.Errorf("data of a scoped type arrived at the thief's URL")
			}
		},
	}
}

// revokedLongRequests keeps tails open beyond the end of their keys.
func revokedLongRequests() attack {
	ends := []struct {
		name string
		end  func(*scene, *client)
	}{
		{"revoked", func(s *scene, c *client) { s.admin.must(s, "DELETE /v1/keys/"+c.id, nil, nil) }},
		{"erased", func(s *scene, c *client) { s.admin.must(s, "DELETE /v1/tenants/"+c.tenant, nil, nil) }},
	}
	return attack{
		name: "long requests after their key's end",
		strike: func(s *scene) {
			for _, how := range ends {
				s.wg.Go(func() {
					c := s.key(s.named(how.name), "deliveries:read")
					ctx, stop := context.WithTimeout(context.Background(), s.patience)
					defer stop()
					resp, err := c.open(ctx, "GET /v1/tail", nil)
					if err != nil || resp.StatusCode != http.StatusOK {
						s.Errorf("open a tail: %v %v", resp, err)
						return
					}
					defer resp.Body.Close()
					how.end(s, c)
					began := time.Now()
					_, _ = io.Copy(io.Discard, resp.Body) // It ends with the tail.
					most := 5 * time.Second
					if !*long {
						most = s.patience / 2 // for a machine that is busy
					}
					if took := time.Since(began); took > most {
						s.Errorf("the tail of a key that was %s ended after %s, want at most %s", how.name, took, most)
					}
				})
			}
		},
	}
}
