package attack_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// costlyReads asks for what takes the most of Postgres and of the cores, many at once.
func costlyReads() attack {
	var routes []string
	ask := func(ctx context.Context, s *scene, i int) (int, []byte) {
		if i%len(routes) == 0 {
			return s.attacker.call(ctx, "POST /v1/subscriptions/preview", object{
				"event_types": []string{"read"}, "filter": `event.data.text.contains("y")`, "last": 10000,
			})
		}
		return s.attacker.call(ctx, routes[i%len(routes)], nil)
	}
	return attack{
		name: "40 costly reads at once",
		ready: func(s *scene) {
			for i := range s.size(5, 100) {
				id := s.attacker.subscribe(s, fmt.Sprintf("http://%s:9/%d", s.host(81), i), "read", object{"filter": `!event.data.text.contains("y")`})
				s.attacker.must(s, "PATCH /v1/subscriptions/"+id, object{"description": strings.Repeat("d", 2000)}, nil)
			}
			var large struct{ ID string }
			s.attacker.must(s, "POST /v1/subscriptions", s.largeSubscription(), &large)
			for i := range s.size(20, 400) { // 200 KB of definitions each
				s.attacker.must(s, "PATCH /v1/subscriptions/"+large.ID, object{"name": fmt.Sprint("large", i)}, nil)
			}
			s.attacker.must(s, "POST /v1/events", object{"type": "read", "id": "explained", "data": object{"text": strings.Repeat("x", 200<<10)}}, nil)
			s.attacker.must(s, "POST /v1/events", batch(s.size(20, 200), "read", object{"text": "x"}), nil)
			s.eventually("the event is there", func() bool {
				status, _ := s.attacker.call(context.Background(), "GET /v1/events/explained", nil)
				return status == http.StatusOK
			})
			routes = []string{
				"", "GET /v1/events/explained/explain", "GET /v1/changes?limit=500", "GET /v1/subscriptions/" + large.ID + "/changes?limit=500",
				"GET /v1/failures?by=host,subscription", "GET /v1/metrics/deliveries?by=subscription&step=1m",
			}
		},
		strike: func(s *scene) {
			for i := range 40 {
				s.again(1, 20*time.Millisecond, func() {
					status, answer := ask(s.ctx, s, i)
					if s.ctx.Err() == nil && status != http.StatusOK && status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
						s.unexpected("a costly read", status, answer)
					}
				})
			}
		},
		holds: func(s *scene) {
			for i := range routes {
				s.eventually("a read of the attacker alone is answered", func() bool {
					status, _ := ask(context.Background(), s, i)
					return status == http.StatusOK
				})
			}
		},
	}
}

// strangersIDs asks each route of operation with the ids of another tenant.
func strangersIDs() attack {
	var sub, job, owner string
	return attack{
		name: "routes of operation with another tenant's ids",
		ready: func(s *scene) {
			owner = s.named("owner")
			of := s.tenant(owner)
			sub = of.subscribe(s, "http://"+s.host(82)+":9/", "owned")
			of.must(s, "POST /v1/events", object{"type": "owned", "id": owner + "_event", "data": object{}}, nil)
			var made struct{ ID string }
			of.must(s, "POST /v1/deliveries/retry", object{
				"filter": object{"since": "2026-01-01T00:00:00Z", "until": "2100-01-01T00:00:00Z"}, "dry_run": true,
			}, &made)
			job = made.ID
		},
		strike: func(s *scene) {
			s.again(2, 50*time.Millisecond, func() {
				for route, id := range map[string]string{
					"GET /v1/subscriptions/%s/changes": sub, "GET /v1/changes?id=%s": sub, "GET /v1/metrics/deliveries?subscription=%s": sub,
					"GET /v1/jobs/%s": job, "POST /v1/jobs/%s/pause": job, "POST /v1/jobs/%s/resume": job, "POST /v1/jobs/%s/cancel": job,
					"GET /v1/events/%s/explain": owner + "_event",
				} {
					s.nothingOf(route, id)
				}
				for _, route := range []string{"processes", "overview", "overview?tenant=", "failures?tenant=", "changes?tenant=", "metrics/deliveries?tenant=", "jobs?tenant=", "audit?tenant="} {
					if strings.HasSuffix(route, "=") {
						route += owner
					}
					if status, answer := s.attacker.call(s.ctx, "GET /v1/"+route, nil); s.ctx.Err() == nil && status != http.StatusForbidden {
						s.unexpected(route, status, answer)
					}
				}
				for _, route := range []string{"changes?limit=500", "failures?by=subscription", "metrics/deliveries?by=subscription", "jobs", "reasons"} {
					status, answer := s.attacker.call(s.ctx, "GET /v1/"+route, nil)
					if s.ctx.Err() == nil && (status != http.StatusOK || bytes.Contains(answer, []byte(sub)) || bytes.Contains(answer, []byte(job))) {
						s.unexpected(route, status, answer)
					}
				}
			})
		},
	}
}

// nothingOf wants the same answer to an id of another tenant and to one that does not exist.
func (s *scene) nothingOf(route, id string) {
	none := uuid.NewString()
	status, answer := s.attacker.call(s.ctx, fmt.Sprintf(route, id), nil)
	want, wanted := s.attacker.call(s.ctx, fmt.Sprintf(route, none), nil)
	if s.ctx.Err() == nil && (status != want || strings.ReplaceAll(string(answer), id, none) != string(wanted)) {
		s.unexpected(route, status, answer)
	}
}
