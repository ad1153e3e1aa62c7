package attack_test

import (
	"fmt"
	"time"
)

// freshSlowSubscriptions makes new subscriptions to slow hosts again and again: each may begin requests
// before it is known to be slow.
func freshSlowSubscriptions() attack {
	var hosts []*receiver
	return attack{
		name: "fresh slow subscriptions on own hosts",
		ready: func(s *scene) {
			for i := range 4 {
				hosts = append(hosts, s.receive(20+i, slowly(14*time.Second)))
			}
		},
		strike: func(s *scene) {
			events := batch(40, "slow", object{"n": 1})
			s.again(1, 6*time.Second, func() {
				for i := range s.size(40, 60) {
					s.attacker.call(s.ctx, "POST /v1/subscriptions", object{
						"name": "slow", "url": fmt.Sprintf("%s/slow%d", hosts[i%len(hosts)].url, i), "event_types": []string{"slow"},
					})
				}
				s.attacker.call(s.ctx, "POST /v1/events", events)
			})
		},
	}
}

// slowAtSharedHost has many slow endpoints at the host of the victim's quick one.
func slowAtSharedHost() attack {
	var shared *receiver
	return attack{
		name: "slow subscriptions on the victim's host",
		victim: func(s *scene) string {
			shared = s.receive(31, slowly(9*time.Second))
			return shared.url + "/fast"
		},
		ready: func(s *scene) {
			for i := range s.size(60, 180) {
				s.attacker.subscribe(s, fmt.Sprintf("%s/slow%d", shared.url, i), "slow")
			}
		},
		strike: func(s *scene) {
			s.again(1, 330*time.Millisecond, func() {
				s.attacker.call(s.ctx, "POST /v1/events", object{"type": "slow", "data": 1})
			})
		},
	}
}

// deadHosts suggests that the worker's own network is down: many hosts refuse, many do not resolve.
func deadHosts() attack {
	return attack{
		name: "dead and unresolvable hosts",
		ready: func(s *scene) {
			for i := range 12 {
				s.attacker.subscribe(s, fmt.Sprintf("http://%s:9/", s.host(101+i)), "dead")
				s.attacker.subscribe(s, fmt.Sprintf("http://host%d.invalid/", i), "dead")
			}
		},
		strike: func(s *scene) {
			s.again(1, 100*time.Millisecond, func() {
				s.attacker.call(s.ctx, "POST /v1/events", object{"type": "dead", "data": 1})
			})
		},
	}
}

// plainHTTPOfHTTPSHost fails at port 80 of the victim's host, whose endpoint is at port 443.
func plainHTTPOfHTTPSHost() attack {
	return attack{
		name: "http of the victim's https host",
		victim: func(s *scene) string {
			return s.serve(s.host(99)+s.securePort(), s.on.trusted()).url + "/fast"
		},
		ready: func(s *scene) {
			for i := range 40 {
				s.attacker.subscribe(s, fmt.Sprintf("http://%s/%d", s.host(99), i), "plain")
			}
		},
		strike: func(s *scene) {
			s.again(1, 100*time.Millisecond, func() {
				s.attacker.call(s.ctx, "POST /v1/events", object{"type": "plain", "data": 1})
			})
		},
	}
}

// manySubscriptions makes one request a very large number of deliveries.
func manySubscriptions() attack {
	return attack{
		name: "400 subscriptions x 1000 events",
		ready: func(s *scene) {
			quick := s.receive(41)
			for i := range s.size(100, 400) {
				s.attacker.subscribe(s, fmt.Sprintf("%s/fast%d", quick.url, i), "many")
			}
		},
		strike: func(s *scene) {
			events := batch(s.size(100, 1000), "many", object{"n": 1})
			s.again(1, time.Hour, func() { s.attacker.call(s.ctx, "POST /v1/events", events) })
		},
	}
}
