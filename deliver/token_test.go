package deliver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// The pipeline retries when there is no token, and says so; the secret is in no row and no line of the log.
func TestDeliveryWaitsForItsToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	var n atomic.Int32
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"token-1","token_type":"bearer","expires_in":3600}`)
	}))
	t.Cleanup(tokens.Close)
	receiver := servertest.NewReceiver(t, servertest.By(func(req servertest.Request) servertest.Answer {
		if req.Header.Get("Authorization") != "Bearer token-1" {
			return servertest.Status(http.StatusUnauthorized)
		}
		return servertest.Status(http.StatusOK)
	}))
	sub := r.subscribe(receiver.URL, func(s *subscriptions.Subscription) {
		retries(time.Millisecond)(s)
		s.Auth = &subscriptions.Auth{Type: subscriptions.AuthOAuth2, TokenURL: tokens.URL, ClientID: "fan", ClientSecret: "s&cret"}
	})
	id := r.send(r.event(), sub)
	if row := r.ended(id, outcome.Delivered, outcome.ReasonOK); row.Attempts != 2 {
		t.Errorf("got %+v", row)
	}
	log := must(history.NewReader(r.DB, nil).Attempts(t.Context(), "acme", id))(t)
	if len(log) != 2 || log[0].Error != "token endpoint: status 502" || log[0].Reason != outcome.ReasonServer || log[0].Status != 0 {
		t.Errorf("got %+v", log)
	}
	for _, table := range []string{"deliveries", "attempts", "subscriptions"} {
		if n := r.Count(`SELECT count(*) FROM ` + table + ` t WHERE t::text LIKE '%token-1%' OR t::text LIKE '%s&cret%' OR encode(t::text::bytea, 'escape') LIKE '%token-1%'`); n != 0 {
			t.Errorf("%s holds a secret in %d rows", table, n)
		}
	}
}

// Failing tokens count against the endpoint's breaker, so that nobody asks for tokens without end.
func TestFailingTokensCountAgainstTheEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.BreakerAfter = 3
	w := r.worker(cfg)
	r.recorder()
	receiver := servertest.NewReceiver(t)
	for _, status := range []int{http.StatusUnauthorized, http.StatusServiceUnavailable} {
		var asked atomic.Int32
		tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.WriteHeader(status)
		}))
		t.Cleanup(tokens.Close)
		sub := r.subscribe(fmt.Sprint(receiver.URL, "/", status), func(s *subscriptions.Subscription) {
			retries(time.Hour)(s)
			s.MaxInFlight = 1
			s.Auth = &subscriptions.Auth{Type: subscriptions.AuthOAuth2, TokenURL: tokens.URL, ClientID: "fan", ClientSecret: "s&cret"}
		})
		r.sendAll(20, sub)
		r.Eventually("the breaker to hold back what was not tried", func() bool {
			return r.Count(`SELECT count(*) FROM deferrals WHERE subscription_id = $1 AND reason = 'breaker_open' AND attempts = 0`, sub.ID) >= 15
		})
		if n := asked.Load(); n > 10 {
			t.Errorf("status %d: %d tokens were asked for, want a few", status, n)
		}
	}
	if n := w.breakers("open"); n < 2 {
		t.Errorf("breakers opened %v times, want one for each endpoint", n)
	}
	if n := len(receiver.Requests()); n > 0 {
		t.Errorf("%d requests without a token", n)
	}
}
