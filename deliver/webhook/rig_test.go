package webhook_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// keptMost is how many bytes of a response are kept, and binaryMark what one begins with that was not text.
const (
	keptMost   = 16 << 10
	binaryMark = "data:application/octet-stream;base64,"
)

func TestMain(m *testing.M) { servertest.Main(m) }

// must fails the test on an error.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func allowLoopback(t testing.TB) egress.Policy {
	t.Helper()
	return must(egress.ParsePolicy("127.0.0.0/8"))(t)
}

// testPoster sends to loopback, or to the ranges of allow alone; those after an exclamation mark are shut.
func testPoster(t testing.TB, allow string, opts ...egress.Option) *webhook.Poster {
	t.Helper()
	return posterOf(t, testClient(t, allow, opts...))
}

// posterOf reads the bodies of responses for a short time alone.
func posterOf(t testing.TB, client *http.Client, formats ...webhook.Format) *webhook.Poster {
	t.Helper()
	cfg := webhook.DefaultPosterConfig()
	cfg.BodyTime = 200 * time.Millisecond
	cfg.Formats = append(cfg.Formats, formats...)
	return must(webhook.NewPoster(client, cfg, time.Now))(t)
}

func testClient(t testing.TB, allow string, opts ...egress.Option) *http.Client {
	t.Helper()
	if allow == "" {
		allow = "127.0.0.0/8"
	}
	cfg := egress.DefaultConfig()
	cfg.AllowPrivateCIDRs, cfg.DenyCIDRs, _ = strings.Cut(allow, "!")
	policy, err := cfg.Policy()
	if err != nil {
		t.Fatal(err)
	}
	cfg.TLSHandshakeTimeout = time.Second
	client := egress.NewClient(policy, cfg, opts...)
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func testAttempt(url string) webhook.Attempt {
	return webhook.Attempt{
		Event: testEvent(), Delivery: uuid.New(), Number: 1,
		Subscription: &subscriptions.Subscription{
			ID: uuid.New(), Tenant: "acme", URL: url, PayloadFormat: "standard", Timeout: 20 * time.Second,
			Secrets: []subscriptions.Secret{{Value: testSecret(1)}},
		},
	}
}

// cause is what net/http said, for a failing test.
func cause(r webhook.Result) error { return errors.Unwrap(r.Err) }

// standard is the format of Standard Webhooks.
func standard() webhook.Format { return formatOf("standard") }

func formatOf(name string) webhook.Format {
	for _, f := range webhook.Formats() {
		if f.Name == name {
			return f
		}
	}
	panic("no format " + name)
}

func sign(t *testing.T, secrets []subscriptions.Secret, m webhook.Message) http.Header {
	t.Helper()
	signer, err := standard().Signer(secrets)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	if err := signer.Sign(h, m); err != nil {
		t.Fatal(err)
	}
	return h
}

// verify is what a receiver with the official library does.
func verify(t *testing.T, secret string, body []byte, h http.Header) error {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Error(err)
		return err
	}
	return hook.Verify(body, h)
}

// testSecret makes secrets that differ by n.
func testSecret(n byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{n}, 32))
}
