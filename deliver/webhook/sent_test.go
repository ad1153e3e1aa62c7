package webhook_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// What is shown of a request is what was sent, but for credentials and what the connection adds.
func TestRequestsAreShownAsTheyWereSent(t *testing.T) {
	t.Parallel()
	receiver := servertest.NewReceiver(t)
	poster, requests := testPoster(t, ""), webhook.NewRequests(webhook.Formats())
	for name, change := range map[string]func(*webhook.Attempt){
		"standard": func(*webhook.Attempt) {},
		"ed25519": func(a *webhook.Attempt) {
			a.Subscription.Signing, a.Subscription.Secrets = subscriptions.SignEd25519, []subscriptions.Secret{subscriptions.NewSecret(subscriptions.SignEd25519)}
		},
		"cloudevents": func(a *webhook.Attempt) { a.Subscription.PayloadFormat = "cloudevents" },
		"raw":         func(a *webhook.Attempt) { a.Subscription.PayloadFormat = "raw" },
		"raw, not JSON": func(a *webhook.Attempt) {
			a.Subscription.PayloadFormat, a.Event.ContentType, a.Event.Data = "raw", "text/csv", []byte("a,b\n1,2\n")
		},
		"its own content type": func(a *webhook.Attempt) { a.Subscription.ContentType = "application/vnd.acme+json" },
		"headers": func(a *webhook.Attempt) {
			a.Subscription.Headers = map[string]string{"X-Env": "prod", "Webhook-Id": "forged"}
		},
		"basic": func(a *webhook.Attempt) {
			a.Subscription.Auth = &subscriptions.Auth{Type: subscriptions.AuthBasic, Username: "u", Password: "password"}
		},
		"bearer": func(a *webhook.Attempt) {
			a.Subscription.Auth = &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "the-token"}
		},
	} {
		a := testAttempt(receiver.URL + "/hook")
		change(&a)
		before := len(receiver.Requests())
		r := poster.Send(t.Context(), a)
		if r.Reason != outcome.ReasonOK {
			t.Fatalf("%s: %+v", name, r)
		}
		got := receiver.Requests()[before]
		sub := subscriptions.Sent{Subscription: a.Subscription.Masked(), Signed: true}
		body, contentType, err := requests.Body(sub, a.Event)
		if err != nil || !bytes.Equal(body, got.Body) || contentType != got.Header.Get("Content-Type") {
			t.Errorf("%s: the body is shown as %s %q, error %v; sent was %s %q", name, contentType, body, err, got.Header.Get("Content-Type"), got.Body)
		}
		shown, err := requests.Headers(sub, webhook.Message{Event: a.Event, At: r.StartedAt})
		if err != nil {
			t.Fatal(err)
		}
		for _, own := range []string{"Content-Length", "Accept-Encoding"} {
			delete(got.Header, own)
		}
		if len(shown) != len(got.Header) {
			t.Errorf("%s: shown are %v, sent were %v", name, shown, got.Header)
		}
		for header, value := range shown {
			masked := header == "Webhook-Signature" || header == "Authorization" || header == "X-Env"
			if sent := got.Header.Get(header); sent == "" || masked != (value == "***") || !masked && value != sent {
				t.Errorf("%s: %s is shown as %q, sent was %q", name, header, value, sent)
			}
		}
	}
}

// Without a secret nothing is signed, and a format that is not there is an error.
func TestRequestsThatCannotBeShown(t *testing.T) {
	t.Parallel()
	requests := webhook.NewRequests(webhook.Formats())
	a := testAttempt("https://example.com")
	a.Subscription.PayloadFormat = "vendor"
	if _, err := requests.Headers(subscriptions.Sent{Subscription: a.Subscription}, webhook.Message{Event: a.Event}); err == nil {
		t.Error("a format that does not exist has headers")
	}
	if _, _, err := requests.Body(subscriptions.Sent{Subscription: a.Subscription}, a.Event); err == nil {
		t.Error("a format that does not exist has a body")
	}
}

// Headers of a response are kept of failures and of tests, bounded and without credentials.
func TestHeadersOfResponsesAreKept(t *testing.T) {
	t.Parallel()
	header := http.Header{
		"Retry-After": {"30"}, "Set-Cookie": {"session=secret"}, "X-Auth-Token": {"secret"}, "Www-Authenticate": {`Basic realm="hooks"`},
		"Location": {"https://u:secret@example.com/x?token=secret"}, "Vary": {"a", "b"}, "X-Echo": {"Bearer the-token"}, "X-Odd": {"\xff\tx"},
		"A-Long": {strings.Repeat("x", 5<<10)}, "Date": {"now"}, "X-More": {strings.Repeat("y", 4000)},
	}
	receiver := servertest.NewReceiver(t, servertest.By(func(q servertest.Request) servertest.Answer {
		if q.Path == "/ok" {
			return servertest.Reply(http.StatusOK, header, "ok")
		}
		return servertest.Reply(http.StatusServiceUnavailable, header, "no")
	}))
	poster := testPoster(t, "")
	want := map[string]string{
		"Retry-After": "30", "Set-Cookie": "***", "X-Auth-Token": "***", "Www-Authenticate": `Basic realm="hooks"`,
		"Location": "https://example.com/x", "Vary": "a, b", "X-Echo": "Bearer ***", "X-Odd": "??x", "Date": "now", "Content-Length": "2", "Content-Type": "text/plain; charset=utf-8",
	}
	for _, tc := range []struct {
		path string
		test bool
		kept bool
	}{{"/ok", false, false}, {"/ok", true, true}, {"/no", false, true}} {
		// A small body goes by a route, a large one by the client.
		for _, size := range []int{0, 64 << 10} {
			a := testAttempt(receiver.URL + tc.path)
			a.Subscription.Auth = &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "the-token"}
			a.Event.Data = []byte(`"` + strings.Repeat("x", size) + `"`)
			a.Test = tc.test
			r := poster.Send(t.Context(), a)
			if r.Exchange.Connection == "" || !r.Exchange.Remote.IsValid() || r.Exchange.FirstByte <= 0 || r.Exchange.FirstByte > r.Duration {
				t.Errorf("%+v: the exchange is %+v in %s", tc, r.Exchange, r.Duration)
			}
			if !tc.kept {
				if r.ResponseHeaders != nil {
					t.Errorf("%+v: kept %s", tc, r.ResponseHeaders)
				}
				continue
			}
			var kept map[string]string
			if err := json.Unmarshal(r.ResponseHeaders, &kept); err != nil {
				t.Fatal(err)
			}
			if len(kept) != len(want) {
				t.Errorf("%+v: kept %v, want %v", tc, kept, want)
			}
			for name, value := range want {
				if kept[name] != value {
					t.Errorf("%+v: %s is %q, want %q", tc, name, kept[name], value)
				}
			}
		}
	}
}
