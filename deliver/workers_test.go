package deliver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// size is how large a test is; a variable makes it larger, to measure with.
func size(t testing.TB, variable string, usual int) int {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		return usual
	}
	return must(strconv.Atoi(value))(t)
}

// noneTooSoon demands that by any moment since start no more requests were made than a limit and its burst allow. It holds
// however busy the machine is, as that can only delay them.
func noneTooSoon(t *testing.T, begun []int64, start int64, limit subscriptions.RateLimit) {
	t.Helper()
	slices.Sort(begun)
	gap := max(limit.Per.Microseconds()/int64(limit.Limit), 1)
	burst := gap * max(min(1_000_000/gap, int64(limit.Limit))-1, 0)
	for i, at := range begun {
		if least := start + int64(i)*gap - burst; at < least {
			t.Fatalf("request %d was made %d us before its time", i, least-at)
		}
	}
}

// Three workers share one limit. A request is never made before its time, so that by any moment since the beginning no more
// were than the limit and its burst allow, however busy the machine is; all arrive, at the first attempt.
// What FANFARE_TEST_DELIVERIES deliveries come to in any ten seconds is logged.
func TestRateLimitsOverThreeWorkers(t *testing.T) {
	t.Parallel()
	for _, limit := range []subscriptions.RateLimit{
		{Limit: 600, Per: time.Minute}, {Limit: 100, Per: time.Second}, {Limit: 1000, Per: time.Second},
	} {
		t.Run(fmt.Sprintf("%d in %s", limit.Limit, limit.Per), func(t *testing.T) {
			t.Parallel()
			rate := int(int64(limit.Limit) * int64(time.Second) / int64(limit.Per))
			n := 3 * rate
			if rate == 1000 {
				n = size(t, "FANFARE_TEST_DELIVERIES", n)
			}
			r := newRig(t)
			var mu sync.Mutex
			var begun []int64
			for range 3 {
				p := r.parts(quick())
				p.deps.DB = r.Open()
				p.deps.Poster = timedPoster{Attempter: p.deps.Poster, mu: &mu, begun: &begun}
				r.start(p)
			}
			r.recorder()
			var arrived []int64
			receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				arrived = append(arrived, time.Now().UnixMicro())
			}))
			t.Cleanup(receiver.Close)
			sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.RateLimit, s.MaxInFlight = &limit, 100 })
			start := time.Now().UnixMicro()
			r.sendAll(n, sub)
			r.all(sub, n, outcome.Delivered)
			mu.Lock()
			defer mu.Unlock()
			if len(begun) != n || r.Count(`SELECT max(attempts) FROM deliveries`) != 1 {
				t.Errorf("%d attempts for %d deliveries", len(begun), n)
			}
			noneTooSoon(t, begun, start, limit)
			took := arrived[len(arrived)-1] - arrived[0]
			t.Logf("%.1f a second over %.1f s; in any ten seconds %+.1f %% at most", float64(n)/float64(took)*1e6, float64(took)/1e6, 100*excess(arrived, limit))
		})
	}
}

// At one a minute everybody who waits is given a minute of his own.
func TestOneAMinuteOverThreeWorkers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.worker(quick())
	}
	r.recorder()
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		s.RateLimit = &subscriptions.RateLimit{Limit: 1, Per: time.Minute}
	})
	const n = 30
	start := time.Now()
	for range n {
		r.send(r.event(), sub)
	}
	r.Eventually("all but one to wait", func() bool {
		return r.Count(`SELECT count(*) FROM deferrals WHERE reason = 'rate_limited' AND worker = '' AND due_at > now()`) >= n-1-int(time.Since(start)/time.Minute)
	})
	if n := r.Count(`SELECT count(*) FROM (
    SELECT due_at - lag(due_at) OVER (ORDER BY due_at) AS apart FROM deferrals WHERE reason = 'rate_limited' AND due_at > now()
) d WHERE apart < interval '59.9 seconds'`); n != 0 {
		t.Errorf("%d deliveries are due less than a minute after the one before", n)
	}
	if n, most := len(receiver.Requests()), 1+int(time.Since(start)/time.Minute); n > most {
		t.Errorf("got %d requests, want %d at most", n, most)
	}
}

// crewOf starts workers that have counted each other.
func (r *rig) crewOf(workers int, cfg deliver.Config) {
	r.T.Helper()
	for rank := range workers {
		p := r.parts(cfg)
		p.deps.Workers = throttle.NewWorkers()
		for range 3 {
			p.deps.Workers.Count(workers, rank)
		}
		<-p.deps.Workers.Counted()
		r.start(p)
	}
}

// Three workers together never have more requests in flight than the subscription may have, and use all of it; also if it
// is fewer than there are workers.
func TestRequestsInFlightOverThreeWorkers(t *testing.T) {
	t.Parallel()
	for _, limit := range []int64{8, 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			const n = 200
			r := newRig(t)
			cfg := quick()
			cfg.HandOff, cfg.Lease = 100*time.Millisecond, time.Minute // longer than the longest attempt
			r.crewOf(3, cfg)
			r.recorder()
			release := make(chan struct{})
			var mu sync.Mutex
			var now, most int64
			count := func(by int64) int64 {
				mu.Lock()
				defer mu.Unlock()
				now += by
				most = max(most, now)
				return now
			}
			var hang atomic.Bool
			receiver := servertest.NewReceiver(t, servertest.By(func(servertest.Request) servertest.Answer {
				count(1)
				leave := servertest.By(func(servertest.Request) servertest.Answer {
					count(-1)
					return servertest.Status(200)
				})
				if !hang.Load() {
					return servertest.Delay(50*time.Millisecond, leave)
				}
				return servertest.After(release, leave)
			}))
			sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
				s.MaxInFlight, s.Timeout = int(limit), subscriptions.MaxTimeout
			})
			// A new subscription may have more at once with each answer.
			for range n {
				r.send(r.event(), sub)
			}
			r.all(sub, n, outcome.Delivered)
			hang.Store(true)
			for range n {
				r.send(r.event(), sub)
			}
			r.Eventually("all of it to be in flight", func() bool { return count(0) == limit })
			r.Eventually("the waiting deliveries to be put off", func() bool {
				return r.Count(`SELECT count(*) FROM deferrals WHERE reason = 'busy'`) >= n-int(limit)
			})
			close(release)
			r.all(sub, 2*n, outcome.Delivered)
			if most != limit {
				t.Errorf("%d requests were in flight, want %d at most", most, limit)
			}
		})
	}
}

// excess returns by how much the busiest ten seconds exceed what a limit allows in them.
func excess(sent []int64, limit subscriptions.RateLimit) float64 {
	slices.Sort(sent)
	window := max(10*time.Second, limit.Per).Microseconds()
	most, first := 0, 0
	for i, at := range sent {
		for sent[first] <= at-window {
			first++
		}
		most = max(most, i-first+1)
	}
	allowed := float64(limit.Limit) * float64(window) / float64(limit.Per.Microseconds())
	return float64(most)/allowed - 1
}
