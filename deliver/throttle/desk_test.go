package throttle_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The results that tests report.
var (
	fine    = throttle.Result{Connection: throttle.Reached, Endpoint: throttle.Works}
	oops    = throttle.Result{Connection: throttle.Reached, Endpoint: throttle.Fails}
	heavy   = throttle.Result{Connection: throttle.Reached, Endpoint: throttle.Fails, Crowded: true}
	timeout = throttle.Result{Connection: throttle.Silent, Endpoint: throttle.Fails, Crowded: true}
	away    = throttle.Result{Connection: throttle.Missed, Endpoint: throttle.Fails}
)

// desk is a gate and what it said.
type desk struct {
	*throttle.Gate
	t *testing.T

	mu        sync.Mutex
	recovered []*subscriptions.Subscription
	logged    []string
}

// newDesk makes a gate whose clock is the bubble's. What it calls out with asks it something, which would not
// return under its mutex.
func newDesk(t *testing.T, cfg throttle.Config, db *sql.DB) *desk {
	t.Helper()
	return newDeskOf(t, cfg, throttle.Deps{DB: db})
}

// newDeskOf is newDesk with other things to work with.
func newDeskOf(t *testing.T, cfg throttle.Config, deps throttle.Deps) *desk {
	t.Helper()
	d := &desk{t: t}
	metrics, err := throttle.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Patience == 0 {
		cfg.Patience = time.Minute
	}
	d.Gate = throttle.New(cfg, throttle.Deps{
		DB: deps.DB, Workers: deps.Workers, Metrics: metrics, Logger: slog.New(d), Now: time.Now, Go: func(f func()) { go f() },
		Recovered: func(_ context.Context, list []*subscriptions.Subscription) {
			d.InFlight()
			d.mu.Lock()
			defer d.mu.Unlock()
			d.recovered = append(d.recovered, list...)
		},
	})
	return d
}

// Enabled, Handle, WithAttrs and WithGroup make a desk a handler of logs.
func (d *desk) Enabled(context.Context, slog.Level) bool { return true }

// Handle keeps the message.
func (d *desk) Handle(_ context.Context, r slog.Record) error {
	d.Down()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logged = append(d.logged, r.Message)
	return nil
}

// WithAttrs keeps nothing.
func (d *desk) WithAttrs([]slog.Attr) slog.Handler { return d }

// WithGroup keeps nothing.
func (d *desk) WithGroup(string) slog.Handler { return d }

// said returns how often something was logged.
func (d *desk) said(message string) (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range d.logged {
		if m == message {
			n++
		}
	}
	return n
}

// subOf makes a subscription of a tenant.
func subOf(tenant, url string, limit int) *subscriptions.Subscription {
	return &subscriptions.Subscription{ID: uuid.New(), Tenant: tenant, URL: url, MaxInFlight: limit}
}

// many makes subscriptions of a tenant, each at a host of its own unless url is given.
func many(n int, tenant, url string) []*subscriptions.Subscription {
	list := make([]*subscriptions.Subscription, n)
	for i := range list {
		at := url
		if at == "" {
			at = fmt.Sprintf("https://%s-%d.test/", tenant, i)
		}
		list[i] = subOf(tenant, at, 1000)
	}
	return list
}

// crowd is deliveries that came, and what became of them.
type crowd struct {
	d  *desk
	mu sync.Mutex
	in []*throttle.Ticket
	no []error
}

// come lets one delivery of each subscription ask to enter.
func (d *desk) come(subs ...*subscriptions.Subscription) *crowd {
	c := &crowd{d: d}
	for _, sub := range subs {
		go func() {
			ticket, err := d.Enter(d.t.Context(), throttle.Request{Subscription: sub, Delivery: uuid.New()})
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.no = append(c.no, err)
			} else {
				c.in = append(c.in, ticket)
			}
		}()
		synctest.Wait() // so that they come in this order
	}
	return c
}

// entered is how many are in flight.
func (c *crowd) entered() int {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.in)
}

// end ends the oldest n with a result.
func (c *crowd) end(n int, r throttle.Result) {
	synctest.Wait()
	c.mu.Lock()
	list := c.in[:n]
	c.in = c.in[n:]
	c.mu.Unlock()
	for _, t := range list {
		t.Release(c.d.t.Context(), r)
		synctest.Wait()
	}
}

// drain ends everything, whatever comes in meanwhile.
func (c *crowd) drain() {
	for n := c.entered(); n > 0; n = c.entered() {
		c.end(n, fine)
	}
}

// enter makes one delivery enter.
func (d *desk) enter(sub *subscriptions.Subscription) *throttle.Ticket {
	d.t.Helper()
	ticket, err := d.Enter(d.t.Context(), throttle.Request{Subscription: sub, Delivery: uuid.New()})
	if err != nil {
		d.t.Fatalf("%s: %v", sub.URL, err)
	}
	return ticket
}

// send makes attempts with a result, each of which must be let through, and reports whether one was excused.
func (d *desk) send(n int, sub *subscriptions.Subscription, r throttle.Result) (excused bool) {
	d.t.Helper()
	for range n {
		_, e := d.enter(sub).Release(d.t.Context(), r)
		excused = excused || e
	}
	return excused
}

// refused demands that nothing may be sent, for a reason.
func (d *desk) refused(sub *subscriptions.Subscription, reason string) time.Duration {
	d.t.Helper()
	ticket, err := d.Line(throttle.Request{Subscription: sub, Delivery: uuid.New()})
	refusal, ok := errors.AsType[throttle.Refusal](err)
	if !ok || refusal.Reason != reason {
		if err == nil {
			ticket.Leave()
		}
		d.t.Fatalf("%s: got %v, want a refusal: %s", sub.URL, err, reason)
	}
	return refusal.Wait
}

// idle demands that nothing is held.
func (d *desk) idle() {
	d.t.Helper()
	if taken, waiting := d.InFlight(); taken != 0 || waiting != 0 {
		d.t.Errorf("%d places are taken, %d deliveries wait; want none", taken, waiting)
	}
}
