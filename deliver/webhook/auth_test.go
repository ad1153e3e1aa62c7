package webhook_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// hooks is a receiver of the standard library's; tokens are asked for there as well.
func hooks(t testing.TB, serve http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only once the body is read does a server notice that its client is gone.
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		serve(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	for name := range r.Header {
		fmt.Fprintf(w, "%s: %s\n", name, r.Header.Get(name))
	}
}

func authAttempt(to string, a *subscriptions.Auth) webhook.Attempt {
	attempt := testAttempt(to)
	attempt.Subscription.Auth = a
	return attempt
}

// Credentials that do not change are in each request, over what the subscription's headers say, and in no answer that is kept.
func TestSendBasicAndBearer(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 1)
	rec := hooks(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		echo(w, r)
		user, password, _ := r.BasicAuth()
		fmt.Fprintln(w, user, password)
	})
	poster := testPoster(t, "")
	for want, a := range map[string]*subscriptions.Auth{
		"Basic ZmFuOmxvbmcgc2VjcmV0": {Type: subscriptions.AuthBasic, Username: "fan", Password: "long secret"},
		"Bearer long-secret":         {Type: subscriptions.AuthBearer, Token: "long-secret"},
		"Basic YTpi":                 {Type: subscriptions.AuthBasic, Username: "a", Password: "b"},
		"":                           nil,
	} {
		attempt := authAttempt(rec.URL, a)
		attempt.Subscription.ContentType = "application/vnd.acme+json"
		for range 2 {
			r := poster.Send(t.Context(), attempt)
			header := <-seen
			if r.Reason != outcome.ReasonOK || header.Get("Authorization") != want || header.Get("Content-Type") != "application/vnd.acme+json" {
				t.Errorf("got %+v with %v, want %q", r, header, want)
			}
			for _, secret := range []string{"long secret", "long-secret", "ZmFuOmxvbmcgc2VjcmV0"} {
				if strings.Contains(string(r.Response), secret) {
					t.Errorf("the kept answer holds a secret: %s", r.Response)
				}
			}
			if a != nil && len(a.Password+a.Token) > 6 && !strings.Contains(string(r.Response), subscriptions.Mask) {
				t.Errorf("nothing is hidden: %s", r.Response)
			}
		}
	}
}

// Credentials that a receiver repeats are hidden, also where the bound on kept answers cuts one off. What is left of one is
// not looked for when it is shorter than six bytes.
func TestSecretsOfAnswersAreHidden(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { give(w, "token-value") })
	a := e.auth()
	a.ClientSecret = "client-secret"
	poster := testPoster(t, "")
	for _, tc := range []struct {
		answer, want string
		cut          bool
	}{
		{answer: "a client-secret, a token-value", want: "a ***, a ***"},
		{answer: "x token-val", want: "x token-val"},
		{answer: "x token-val", want: "x ", cut: true},
		{answer: "x token-", want: "x ", cut: true},
		{answer: "x token", want: "x token", cut: true},
	} {
		padding, rest := "", ""
		if tc.cut {
			padding, rest = strings.Repeat(".", keptMost-len(tc.answer)), "..."
		}
		rec := hooks(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, padding+tc.answer+rest) })
		if r := poster.Send(t.Context(), authAttempt(rec.URL, a)); r.Reason != outcome.ReasonOK || string(r.Response) != padding+tc.want {
			t.Errorf("%q: got %+v, %q; want %q", tc.answer, r.Reason, strings.TrimLeft(string(r.Response), "."), tc.want)
		}
	}
}

// An error that quotes the receiver shows no credential either.
func TestSecretsOfErrorsAreHidden(t *testing.T) {
	t.Parallel()
	rec := newRawReceiver(t, "127.0.0.1:0", nil, func(conn *rawConn) { conn.request(); conn.send("token-value is no HTTP\r\n\r\n") })
	a := authAttempt("http://"+rec.addr, &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "token-value"})
	if r := testPoster(t, "").Send(t.Context(), a); r.Reason != outcome.ReasonProtocol || strings.Contains(r.Err.Error(), "token-value") {
		t.Errorf("got %+v, %v", r, r.Err)
	}
}

// endpoint is a token endpoint that counts and may be told what to do.
type endpoint struct {
	*httptest.Server
	asked atomic.Int32
}

func newEndpoint(t testing.TB, serve http.HandlerFunc) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = hooks(t, func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		serve(w, r)
	})
	return e
}

func (e *endpoint) auth() *subscriptions.Auth { return oauthAt(e.URL + "/token") }

func oauthAt(url string) *subscriptions.Auth {
	return &subscriptions.Auth{Type: subscriptions.AuthOAuth2, TokenURL: url, ClientID: "fan fare", ClientSecret: "s&cret:%", Scopes: []string{"a", "b"}}
}

// give answers with a token.
func give(w http.ResponseWriter, token string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":3600}`, token)
}

// guarded is a receiver that takes one token only, and keeps which it saw.
type guarded struct {
	*httptest.Server
	mu   sync.Mutex
	want string
	saw  []string
}

func newGuarded(t testing.TB, want string) *guarded {
	t.Helper()
	g := &guarded{want: want}
	g.Server = hooks(t, func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		g.saw = append(g.saw, token)
		if token != g.want {
			w.WriteHeader(http.StatusUnauthorized)
		}
		echo(w, r)
	})
	return g
}

func (g *guarded) take(want string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	saw := g.saw
	g.want, g.saw = want, nil
	return saw
}

// The standard's request, in the style that the endpoint takes, once for many attempts at the same time.
func TestSendOAuth2(t *testing.T) {
	t.Parallel()
	for _, inBody := range []bool{false, true} {
		e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
			id, secret, ok := r.BasicAuth()
			want := [2]string{"fan+fare", "s%26cret%3A%25"}
			if inBody {
				id, secret, ok = r.PostFormValue("client_id"), r.PostFormValue("client_secret"), true
				want = [2]string{"fan fare", "s&cret:%"}
			}
			if !ok || [2]string{id, secret} != want {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			if r.Method != http.MethodPost || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("scope") != "a b" ||
				r.UserAgent() != webhook.UserAgent {
				t.Errorf("got %s %v", r.Method, r.PostForm)
			}
			give(w, "token-1")
		})
		rec := newGuarded(t, "token-1")
		poster := testPoster(t, "")
		attempt := authAttempt(rec.URL, e.auth())
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if r := poster.Send(t.Context(), attempt); r.Reason != outcome.ReasonOK || strings.Contains(string(r.Response), "token-1") {
					t.Errorf("got %+v, %v, %s", r, r.Err, r.Response)
				}
			})
		}
		wg.Wait()
		want := int32(1)
		if inBody {
			want = 2 // the first one in the header
		}
		if n := e.asked.Load(); n != want {
			t.Errorf("in the body %t: %d requests for a token, want %d", inBody, n, want)
		}
		// What leaves auth as it is keeps the token, what changes it does not.
		changed := *attempt.Subscription
		attempt.Subscription = &changed
		poster.Send(t.Context(), attempt)
		if n := e.asked.Load(); n != want {
			t.Errorf("after another change: %d requests", n)
		}
		changed2 := changed
		changed2.Auth = e.auth()
		changed2.Auth.Scopes = []string{"a", "b"}
		changed2.Auth.ClientSecret += "!"
		attempt.Subscription = &changed2
		if r := poster.Send(t.Context(), attempt); r.Reason != outcome.ReasonClient || e.asked.Load() == want {
			t.Errorf("after a change of auth: %+v, %d requests", r, e.asked.Load())
		}
	}
}

// A receiver that has forgotten the token gets a new one within the attempt; one that refuses each is not followed
// into asking for tokens without end.
func TestSendOAuth2Refused(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { give(w, fmt.Sprintf("token-%d", n.Add(1))) })
	rec := newGuarded(t, "token-1")
	poster := testPoster(t, "")
	attempt := authAttempt(rec.URL, e.auth())
	step := func(want outcome.Reason, saw ...string) {
		t.Helper()
		r := poster.Send(t.Context(), attempt)
		if got := rec.take(rec.want); r.Reason != want || fmt.Sprint(got) != fmt.Sprint(saw) {
			t.Errorf("got %+v, %v after %q, want %s after %q", r, r.Err, got, want, saw)
		}
		if want == outcome.ReasonClient && (r.Status != 401 || r.Elsewhere != "") {
			t.Errorf("got %+v", r)
		}
	}
	step(outcome.ReasonOK, "token-1")
	rec.take("token-2")
	step(outcome.ReasonOK, "token-1", "token-2")
	step(outcome.ReasonOK, "token-2")
	rec.take("none")
	step(outcome.ReasonClient, "token-2", "token-3")
	step(outcome.ReasonClient, "token-3")
	step(outcome.ReasonClient, "token-3")
	if e.asked.Load() != 3 {
		t.Errorf("%d requests for a token", e.asked.Load())
	}
	rec.take("token-3")
	step(outcome.ReasonOK, "token-3")
}

// An endpoint that gives out the same token again has no other, and the answer to it is known.
func TestSendOAuth2SameTokenAgain(t *testing.T) {
	t.Parallel()
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { give(w, "token-1") })
	rec := newGuarded(t, "none")
	poster := testPoster(t, "")
	for i, saw := range []string{"[token-1]", "[token-1]"} {
		r := poster.Send(t.Context(), authAttempt(rec.URL, e.auth()))
		if got := fmt.Sprint(rec.take("none")); r.Reason != outcome.ReasonClient || got != saw || e.asked.Load() != int32(2*(i+1)) {
			t.Errorf("got %+v after %s and %d requests for a token", r, got, e.asked.Load())
		}
	}
}

// Whatever a token endpoint does, the attempt ends in time with a reason that says where, nothing reaches the receiver, and
// nothing that the endpoint says is repeated.
func TestTokenEndpointFaults(t *testing.T) {
	t.Parallel()
	var inward atomic.Int32
	inside := hooks(t, func(http.ResponseWriter, *http.Request) { inward.Add(1) })
	away := httptest.NewServer(nil)
	away.Close()
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, tc := range map[string]struct {
		serve http.HandlerFunc
		url   string
		want  outcome.Reason
		text  string
	}{
		"500":          {serve: status(500, "leak"), want: outcome.ReasonServer, text: "status 500"},
		"503":          {serve: status(503, `{"error":"leak"}`), want: outcome.ReasonServer, text: "status 503"},
		"400":          {serve: status(400, `{"error":"invalid_scope","error_description":"leak"}`), want: outcome.ReasonClient, text: "status 400 (invalid_scope)"},
		"401":          {serve: status(401, `{"error":"invalid_client"}`), want: outcome.ReasonClient, text: "status 401 (invalid_client)"},
		"410":          {serve: status(410, ""), want: outcome.ReasonClient, text: "status 410"},
		"429":          {serve: status(429, ""), want: outcome.ReasonClient, text: "status 429"},
		"error in 200": {serve: status(200, `{"error":"invalid_client"}`), want: outcome.ReasonClient, text: "status 200 (invalid_client)"},
		"redirect inwards": {serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
		},
			want: outcome.ReasonRedirect, text: "status 307: a redirect is not followed"},
		"no JSON":         {serve: status(200, "leak"), want: outcome.ReasonProtocol, text: "the answer holds no token"},
		"no token":        {serve: status(200, `{"token_type":"Bearer"}`), want: outcome.ReasonProtocol, text: "the answer holds no token"},
		"odd expiry":      {serve: status(200, `{"access_token":"leak","expires_in":{}}`), want: outcome.ReasonProtocol, text: "the answer holds no token"},
		"another type":    {serve: status(200, `{"access_token":"leak","token_type":"mac"}`), want: outcome.ReasonProtocol, text: "the token is no bearer token"},
		"header injected": {serve: status(200, `{"access_token":"leak\r\nX: y"}`), want: outcome.ReasonProtocol, text: "the token cannot be sent in a header"},
		"long token":      {serve: status(200, `{"access_token":"`+strings.Repeat("x", 17<<10)+`"}`), want: outcome.ReasonProtocol, text: "the token is longer than 16384 bytes"},
		"huge":            {serve: status(200, strings.Repeat(" ", 1<<20)+`{"access_token":"leak"}`), want: outcome.ReasonProtocol, text: "the answer is larger than 65536 bytes"},
		"endless": {serve: func(w http.ResponseWriter, _ *http.Request) {
			for _, err := w.Write(make([]byte, 4096)); err == nil; _, err = w.Write(make([]byte, 4096)) {
			}
		}, want: outcome.ReasonProtocol, text: "the answer is larger than 65536 bytes"},
		"drips": {serve: func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, `{"access`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, want: outcome.ReasonTimeout, text: "no complete answer in time"},
		"hangs":      {serve: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, want: outcome.ReasonTimeout, text: "no complete answer in time"},
		"closes":     {serve: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, want: outcome.ReasonReset, text: "the connection was closed before the response was complete"},
		"away":       {url: away.URL, want: outcome.ReasonConnect, text: "connection refused"},
		"private":    {url: "http://10.0.0.1/", want: outcome.ReasonBlocked, text: "destination is not allowed"},
		"plain HTTP": {url: strings.Replace(inside.URL, "http:", "https:", 1), want: outcome.ReasonTLS, text: "TLS: the server answers in plain HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := oauthAt(tc.url)
			if tc.serve != nil {
				a.TokenURL = newEndpoint(t, tc.serve).URL
			}
			rec := newGuarded(t, "none")
			attempt := authAttempt(rec.URL, a)
			if tc.want == outcome.ReasonTimeout {
				attempt.Subscription.Timeout = 300 * time.Millisecond
			}
			r := testPoster(t, "").Send(t.Context(), attempt)
			if r.Reason != tc.want || r.Err == nil || r.Err.Error() != "token endpoint: "+tc.text || r.Status != 0 || r.Elsewhere == "" || r.Response != nil {
				t.Errorf("got %+v, %v; want %s, %s", r, r.Err, tc.want, tc.text)
			}
			if saw := rec.take(""); len(saw) != 0 || inward.Load() != 0 {
				t.Errorf("the receiver saw %q, what a redirect led to %d requests", saw, inward.Load())
			}
		})
	}
}

// A token endpoint is judged by its own address when the worker asks itself whether it reaches anybody.
func TestElsewhereIsAHost(t *testing.T) {
	t.Parallel()
	r := testPoster(t, "").Send(t.Context(), authAttempt("http://receiver.invalid/", oauthAt("http://"+servertest.FreeAddress(t)+"/token")))
	if r.Elsewhere != "127.0.0.1" || r.Reason != outcome.ReasonConnect {
		t.Errorf("got %+v", r)
	}
}
