package attack_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// parallelPreviews runs many previews at once over large events.
func parallelPreviews() attack {
	var refused, shown atomic.Int64
	return attack{
		name: "parallel previews over 200 KB events",
		ready: func(s *scene) {
			events := batch(15, "large", object{"text": strings.Repeat("x", 200<<10)})
			for range s.size(2, 20) {
				s.attacker.must(s, "POST /v1/events", events, nil)
			}
		},
		strike: func(s *scene) {
			s.again(40, 50*time.Millisecond, func() {
				status, answer := s.attacker.call(s.ctx, "POST /v1/subscriptions/preview", object{
					"event_types": []string{"large"}, "filter": `event.data.text.contains("y")`, "last": 10000,
				})
				switch {
				case status == http.StatusOK:
					shown.Add(1)
				case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
					refused.Add(1)
				case s.ctx.Err() == nil:
					s.unexpected("preview", status, answer)
				}
			})
		},
		holds: func(s *scene) {
			if refused.Load() == 0 {
				s.Errorf("none of 40 previews at once was refused, %d were answered", shown.Load())
			}
			s.eventually("a preview of the attacker alone is answered", func() bool {
				status, _ := s.attacker.call(context.Background(), "POST /v1/subscriptions/preview", object{"event_types": []string{"large"}, "last": 1})
				return status == http.StatusOK
			})
		},
	}
}

// largeSubscriptions makes subscriptions that every process would hold in memory.
func largeSubscriptions() attack {
	var made, refused atomic.Int64
	return attack{
		name: "2000 large subscriptions",
		ready: func(s *scene) {
			if !*long { // so that few of them exceed it
				s.admin.must(s, "PUT /v1/tenants/"+s.attacker.tenant, object{"limits": object{"subscription_bytes": 2 << 20}}, nil)
			}
		},
		strike: func(s *scene) {
			large := s.largeSubscription()
			var n atomic.Int64
			s.again(4, time.Millisecond, func() {
				if n.Add(1) > 2000 {
					return
				}
				status, answer := s.attacker.call(s.ctx, "POST /v1/subscriptions", large)
				switch {
				case status == http.StatusCreated:
					made.Add(1)
				case bytes.Contains(answer, []byte("subscription_bytes")):
					refused.Add(1)
				case s.ctx.Err() == nil:
					s.unexpected("a large subscription", status, answer)
				}
			})
		},
		holds: func(s *scene) {
			if refused.Load() == 0 {
				s.Errorf("%d large subscriptions were made and none refused", made.Load())
			}
		},
	}
}

// largeSubscription fills each field of a subscription: some 100 KB.
func (s *scene) largeSubscription() object {
	headers, metadata := object{}, object{}
	for i := range 4 {
		headers[fmt.Sprintf("X-Large-%d", i)] = strings.Repeat("h", 3900)
	}
	for i := range 50 {
		metadata[fmt.Sprintf("key%d", i)] = strings.Repeat("m", 1000)
	}
	var types, changed []string
	for i := range 100 {
		types = append(types, fmt.Sprintf("%s%d", strings.Repeat("t", 110), i))
		changed = append(changed, fmt.Sprintf("%s%d", strings.Repeat("c", 240), i))
	}
	return object{
		"name": "large", "url": "http://" + s.host(51) + ":9/", "event_types": types, "changed": changed,
		"headers": headers, "metadata": metadata,
	}
}

// exceededQuotas asks for more of everything than the tenant may have.
func exceededQuotas() attack {
	var refused [3]atomic.Int64
	return attack{
		name: "more keys, subscriptions and events than the limits",
		ready: func(s *scene) {
			s.admin.must(s, "PUT /v1/tenants/"+s.attacker.tenant, object{"limits": object{"subscriptions": 5, "keys": 5, "events_per_second": 10}}, nil)
			s.attacker = s.tenant(s.attacker.tenant, "keys:write")
		},
		strike: func(s *scene) {
			for i, call := range []struct {
				route string
				body  any
			}{
				{"POST /v1/subscriptions", object{"name": "one more", "url": "http://" + s.host(84) + ":9/", "event_types": []string{"quota"}}},
				{"POST /v1/keys", object{"name": "one more", "scopes": []string{"events:read"}}},
				{"POST /v1/events", batch(20, "quota", object{})},
			} {
				s.again(2, 10*time.Millisecond, func() {
					status, answer := s.attacker.call(s.ctx, call.route, call.body)
					switch {
					case status == http.StatusUnprocessableEntity || status == http.StatusTooManyRequests:
						refused[i].Add(1)
					case s.ctx.Err() == nil && status/100 != 2:
						s.unexpected(call.route, status, answer)
					}
				})
			}
		},
		holds: func(s *scene) {
			for i := range refused {
				if refused[i].Load() == 0 {
					s.Errorf("nothing of kind %d was refused", i)
				}
			}
			if n := len(s.admin.list(s, "/v1/subscriptions?tenant="+s.attacker.tenant).Data); n != 5 {
				s.Errorf("the attacker has %d subscriptions, want 5", n)
			}
		},
	}
}

// manyTails opens as many tails as one process has. The victim opens one beside them.
func manyTails() attack {
	return attack{
		name: "100 tails",
		strike: func(s *scene) {
			var open, refused atomic.Int64
			for range 100 {
				s.wg.Go(func() {
					resp, err := s.attacker.open(s.ctx, "GET /v1/tail", nil)
					if err != nil {
						return
					}
					defer resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						refused.Add(1)
						return
					}
					open.Add(1)
					<-s.ctx.Done()
				})
			}
			s.eventually("each tail is open or refused", func() bool { return open.Load()+refused.Load() == 100 })
			if open.Load() > 10 {
				s.Errorf("one tenant opened %d tails, want at most 10", open.Load())
			}
			tail, end := context.WithTimeout(context.Background(), s.patience)
			defer end()
			resp, err := s.tenant(s.named("victim")).open(tail, "GET /v1/tail", nil)
			if err != nil {
				s.Errorf("the victim's tail: %v", err)
				return
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				s.Errorf("the victim's tail: got %s", resp.Status)
			}
		},
	}
}

// replayAndHeldBacklog replays and pauses a large backlog while another tenant pauses and resumes.
func replayAndHeldBacklog() attack {
	const events = 1000
	var subs []string
	var quiet time.Duration
	var bystander *client
	var sub string
	var got *receiver
	return attack{
		name: "replays and a held backlog against pause and resume",
		ready: func(s *scene) {
			quick := s.receive(61)
			for i := range s.size(10, 60) {
				id := s.attacker.subscribe(s, fmt.Sprintf("%s/fast%d", quick.url, i), "held")
				s.attacker.must(s, "POST /v1/subscriptions/"+id+"/pause", nil, nil)
				subs = append(subs, id)
			}
			s.attacker.must(s, "POST /v1/events", batch(events, "held", object{"n": 1}), nil)
			bystander = s.tenant(s.named("bystander"))
			got = s.receive(62, keeping)
			sub = bystander.subscribe(s, got.url+"/fast", "held")
			quiet = s.pauseAndResume(bystander, sub, got, "before")
		},
		strike: func(s *scene) {
			since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
			s.again(1, time.Second, func() {
				for _, id := range subs {
					s.attacker.call(s.ctx, "POST /v1/subscriptions/"+id+"/resume", nil)
					s.attacker.call(s.ctx, "POST /v1/subscriptions/"+id+"/replay", object{
						"since": since, "until": time.Now().UTC().Format(time.RFC3339), "only": "all", "rate": 1000,
					})
					s.attacker.call(s.ctx, "POST /v1/subscriptions/"+id+"/pause", nil)
				}
			})
			s.wg.Go(func() {
				took := s.pauseAndResume(bystander, sub, got, "during")
				s.Logf("a held event arrived %s after resume, in peace %s", took, quiet)
				most := s.patience / 2
				if *long {
					most = max(3*quiet, 5*time.Second)
				}
				if took > most {
					s.Errorf("a held event arrived %s after resume, want at most %s", took, most)
				}
			})
		},
	}
}

// pauseAndResume holds an event and returns how long after resume it arrived.
func (s *scene) pauseAndResume(c *client, sub string, at *receiver, mark string) time.Duration {
	mark = fmt.Sprintf("%s-%d", mark, time.Now().UnixNano())
	c.must(s, "POST /v1/subscriptions/"+sub+"/pause", nil, nil)
	c.must(s, "POST /v1/events", object{"type": "held", "data": object{"mark": mark}}, nil)
	s.eventually("an event of a paused subscription is held", func() bool {
		return len(c.list(s, "/v1/deliveries?state=pending&subscription="+sub).Data) > 0
	})
	if at.has(mark) {
		s.Errorf("a paused subscription was sent its event")
	}
	began := time.Now()
	c.must(s, "POST /v1/subscriptions/"+sub+"/resume", nil, nil)
	s.eventually("a held event arrives after resume", func() bool { return at.has(mark) })
	return time.Since(began)
}
