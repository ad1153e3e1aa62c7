package webhook_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// issuer is a token endpoint and a receiver in one transport, without a network, so that time can be that of a bubble. It
// gives tokens t1, t2, ... of a life, or fails; the receiver refuses some of them.
type issuer struct {
	mu      sync.Mutex
	count   int
	ended   int // of the requests for a token, by the sender
	life    time.Duration
	takes   time.Duration
	away    bool
	refused string // tokens that the receiver does not take
}

func (i *issuer) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == "tokens.test" {
		return i.issue(req)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	if strings.Contains(i.refused, token) {
		return answerTo(req, http.StatusUnauthorized, token), nil
	}
	return answerTo(req, http.StatusOK, token), nil
}

func (i *issuer) issue(req *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.count++
	n, life, takes, away := i.count, i.life, i.takes, i.away
	i.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-req.Context().Done():
		i.set(func() { i.ended++ })
		return nil, req.Context().Err()
	}
	if away {
		return answerTo(req, http.StatusServiceUnavailable, ""), nil
	}
	return answerTo(req, http.StatusOK, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer","expires_in":%d}`, n, life/time.Second)), nil
}

func answerTo(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.count
}

// sender makes attempts of one subscription whose tokens come from i; each returns its result, of which the response is
// the token that the receiver saw last.
func (i *issuer) sender(t *testing.T) func(context.Context) webhook.Result {
	poster := posterOf(t, &http.Client{Transport: i})
	attempt := authAttempt("https://receiver.test/", &subscriptions.Auth{
		Type: subscriptions.AuthOAuth2, TokenURL: "https://tokens.test/", ClientID: "fan", ClientSecret: "client-secret",
	})
	return func(ctx context.Context) webhook.Result { return poster.Send(ctx, attempt) }
}

// delivers fails the test unless an attempt arrives with a token.
func delivers(t *testing.T, send func(context.Context) webhook.Result, token string) {
	t.Helper()
	if r := send(t.Context()); r.Reason != outcome.ReasonOK || string(r.Response) != token {
		t.Errorf("got %+v, %v with %s, want %s", r, r.Err, r.Response, token)
	}
}

// A token serves until shortly before it expires, whatever life it is given.
func TestTokenLife(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ life, keeps, renewed time.Duration }{
		{time.Hour, 58 * time.Minute, 59*time.Minute + time.Second},
		{10 * time.Second, 7 * time.Second, 9 * time.Second},
		{0, 58 * time.Minute, 59*time.Minute + time.Second},
		{-time.Hour, 700 * time.Millisecond, 900 * time.Millisecond},
		{1 << 62, 23 * time.Hour, 24 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			send := (&issuer{life: tc.life}).sender(t)
			delivers(t, send, "t1")
			time.Sleep(tc.keeps)
			delivers(t, send, "t1")
			time.Sleep(tc.renewed - tc.keeps)
			delivers(t, send, "t2")
		})
	}
}

// However many want a token, it is asked for once; whoever gives up waiting takes it from nobody.
func TestTokenIsAskedForOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: time.Hour, takes: time.Second}
		send := from.sender(t)
		var wg sync.WaitGroup
		var served, late atomic.Int32
		for n := range 100 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+n%2*4000)*time.Millisecond/2)
				defer cancel()
				switch r := send(ctx); {
				case r.Reason == outcome.ReasonOK && string(r.Response) == "t1":
					served.Add(1)
				case r.Reason == outcome.ReasonCancelled && errors.Is(r.Err, context.DeadlineExceeded):
					late.Add(1)
				}
			})
		}
		wg.Wait()
		if served.Load() != 50 || late.Load() != 50 || from.asked() != 1 {
			t.Errorf("%d served, %d late, %d requests", served.Load(), late.Load(), from.asked())
		}
	})
}

// A request for which nobody waits any more ends, and its end is nobody else's error.
func TestTokenForNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: time.Hour, takes: 5 * time.Second}
		send := from.sender(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if r := send(ctx); r.Reason != outcome.ReasonCancelled {
			t.Errorf("got %+v, %v", r, r.Err)
		}
		from.set(func() { from.takes = time.Second })
		delivers(t, send, "t2")
		from.set(func() {
			if from.ended != 1 {
				t.Error("the request for a token went on")
			}
		})
	})
}

// A token endpoint may take ten seconds, within the attempt's own time.
func TestTokenEndpointThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := (&issuer{takes: time.Hour}).sender(t)(t.Context())
		if r.Reason != outcome.ReasonTimeout || r.Elsewhere != "tokens.test" || r.Duration != 10*time.Second {
			t.Errorf("got %+v, %v", r, r.Err)
		}
	})
}

// While a token is being renewed the old one serves the others, and everybody if there is no other to be had.
func TestTokenIsRenewedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: 10 * time.Minute}
		send := from.sender(t)
		delivers(t, send, "t1")
		time.Sleep(9*time.Minute + time.Second)
		from.set(func() { from.takes, from.away = time.Second, true })
		var first sync.WaitGroup
		first.Go(func() { delivers(t, send, "t1") })
		synctest.Wait()
		start := time.Now()
		delivers(t, send, "t1")
		if waited := time.Since(start); waited != 0 {
			t.Errorf("while it is being renewed: after %s", waited)
		}
		first.Wait()
		if delivers(t, send, "t1"); from.asked() != 2 {
			t.Errorf("asked %d times", from.asked())
		}
		time.Sleep(5 * time.Second)
		if delivers(t, send, "t1"); from.asked() != 3 {
			t.Errorf("asked %d times", from.asked())
		}
		time.Sleep(time.Minute)
		if r := send(t.Context()); r.Reason != outcome.ReasonServer || r.Elsewhere != "tokens.test" {
			t.Errorf("an expired token is sent: %+v", r)
		}
		from.set(func() { from.away = false })
		delivers(t, send, "t5")
	})
}

// One 401 makes a new token for all who had the old one. Where that is refused, too, it is the receiver's word for a while.
func TestTokenIsReplacedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from := &issuer{life: time.Hour, takes: time.Second}
		send := from.sender(t)
		delivers(t, send, "t1")
		from.set(func() { from.refused = "t1" })
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() { delivers(t, send, "t2") })
		}
		wg.Wait()
		from.set(func() { from.refused = "t1 t2 t3" })
		refused := func(token string, asked int) {
			t.Helper()
			if r := send(t.Context()); r.Reason != outcome.ReasonClient || string(r.Response) != token || from.asked() != asked {
				t.Errorf("got %+v, %v with %s after %d requests, want %s after %d", r, r.Err, r.Response, from.asked(), token, asked)
			}
		}
		refused("t3", 3)
		time.Sleep(29 * time.Second)
		refused("t3", 3)
		from.set(func() { from.refused = "t3" })
		time.Sleep(30 * time.Second)
		delivers(t, send, "t4")
	})
}
