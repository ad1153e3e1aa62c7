package deliver

import (
	"context"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/throttle"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/quota"
)

// spare makes what spares endpoints, and what tells tenants of it.
func (w *Worker) spare(deps Deps) {
	w.gate = throttle.New(
		throttle.Config{InFlight: w.cfg.InFlight, BreakerAfter: w.cfg.BreakerAfter, Patience: w.patience()},
		throttle.Deps{
			DB: deps.DB, Metrics: w.metrics.throttle, Logger: w.log, Now: w.now, Go: w.flights.Go, Recovered: w.recovered,
			Workers:    deps.Workers,
			TenantRate: func(tenant string) int { return deps.Quotas.Of(tenant).PerSecond(quota.DeliveriesPerSecond) },
		},
	)
	w.failing = newFailing(w, deps.DB)
	w.announcer, w.notices = deps.Announcer, make(chan Notice, maxNotices)
}

// resultFor tells the gate what an attempt says of the receiver.
func resultFor(r webhook.Result) throttle.Result {
	t := throttle.Result{
		Connection: throttle.Reached, Endpoint: throttle.Fails, Crowded: crowded(r), RetryAfter: r.RetryAfter, Elsewhere: r.Elsewhere,
	}
	switch r.Reason {
	case outcome.ReasonOK:
		t.Endpoint = throttle.Works
	case outcome.ReasonClient:
		if r.Elsewhere == "" {
			t.Endpoint = throttle.Works // It refuses this delivery; that says nothing against the endpoint.
		}
	case outcome.ReasonConnect, outcome.ReasonDNS:
		t.Connection = throttle.Missed
	case outcome.ReasonTimeout:
		t.Connection = throttle.Silent
	case outcome.ReasonBlocked:
		t.Connection = throttle.Untried
	case outcome.ReasonConfig:
		t.Connection, t.Endpoint = throttle.Untried, throttle.Nothing
	}
	return t
}

// crowded reports whether a result says that fewer requests at once would be better.
func crowded(r webhook.Result) bool {
	switch r.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return r.Reason == outcome.ReasonTimeout
}

// ease lets what a subscription held begin one by one.
func (w *Worker) ease(subscription uuid.UUID) {
	if sub, ok := w.directory.Get(subscription); ok {
		w.gate.Ease(sub)
	}
}

// retune lets deliveries that wait for a changed rate limit ask for times by the new one.
func (w *Worker) retune(ctx context.Context, subscription uuid.UUID) error {
	if err := w.refresh(ctx); err != nil {
		return err
	}
	sub, ok := w.directory.Get(subscription)
	if !ok {
		return nil
	}
	changed, err := w.gate.Retune(ctx, sub)
	if err != nil || !changed {
		return err
	}
	if _, err := w.ledger.GoOn(ctx, subscription, outcome.ReasonRateLimited, time.Microsecond); err != nil {
		return err
	}
	w.due.expect(time.Now())
	return nil
}
