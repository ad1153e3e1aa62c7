package webhook_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// arrived is a request as it came over the wire.
type arrived struct {
	line   string
	header http.Header
	body   []byte
}

// recorded answers every request and hands on what arrived.
func recorded(answer string, to chan<- arrived) func(*rawConn) {
	return func(c *rawConn) {
		for {
			body, ok := c.request()
			if !ok {
				return
			}
			to <- parse(c.head, body)
			if !c.send(answer) {
				return
			}
		}
	}
}

func parse(head string, body []byte) arrived {
	line, rest, _ := strings.Cut(head, "\r\n")
	a := arrived{line: line, header: http.Header{}, body: body}
	for field := range strings.SplitSeq(rest, "\r\n") {
		if name, value, found := strings.Cut(field, ": "); found {
			a.header.Add(name, value)
		}
	}
	return a
}

// What arrives is what Standard Webhooks promises, in each format, and every attempt has the same bytes.
func TestSendWhatArrives(t *testing.T) {
	t.Parallel()
	for _, format := range webhook.Formats() {
		t.Run(format.Name, func(t *testing.T) {
			t.Parallel()
			got := make(chan arrived, 8)
			rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
			poster := testPoster(t, "")
			a := testAttempt("http://" + rec.addr + "/hook?x=1#part")
			a.Subscription.PayloadFormat = format.Name
			a.Event.TraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
			var first arrived
			for number := 1; number <= 3; number++ {
				a.Number = number
				r := poster.Send(t.Context(), a)
				if r.Reason != outcome.ReasonOK || r.Status != 200 || r.Err != nil || string(r.Response) != "ok" || r.Duration <= 0 {
					t.Fatalf("attempt %d: %+v", number, r)
				}
				in := <-got
				checkArrived(t, in, a, format)
				if number == 1 {
					first = in
				}
				if !bytes.Equal(in.body, first.body) || in.header.Get("webhook-id") != first.header.Get("webhook-id") {
					t.Errorf("attempt %d differs from the first", number)
				}
			}
			if n := rec.conns.Load(); n != 1 {
				t.Errorf("%d connections for three attempts, want one", n)
			}
		})
	}
}

func checkArrived(t *testing.T, in arrived, a webhook.Attempt, format webhook.Format) {
	t.Helper()
	if in.line != "POST /hook?x=1 HTTP/1.1" {
		t.Errorf("got %q", in.line)
	}
	for name, want := range map[string]string{
		"Content-Type": format.ContentType, "User-Agent": webhook.UserAgent, "Webhook-Id": a.Event.ID, "Traceparent": a.Event.TraceParent,
	} {
		if got := in.header[name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"Accept-Encoding", "Transfer-Encoding", "Idempotency-Key", "Expect", "Authorization"} {
		if got := in.header[name]; got != nil {
			t.Errorf("%s: got %q, want none", name, got)
		}
	}
	want, err := format.Body(a.Event)
	if err != nil || !bytes.Equal(in.body, want) {
		t.Errorf("body: got %s, want %s, %v", in.body, want, err)
	}
	if err := verify(t, a.Subscription.Secrets[0].Value, in.body, in.header); err != nil {
		t.Errorf("signature: %v", err)
	}
}

// A subscription's headers are sent, but cannot replace what is Fanfare's, however they are spelled.
func TestSendReservedHeaders(t *testing.T) {
	t.Parallel()
	got := make(chan arrived, 1)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
	a := testAttempt("http://user:hush@" + rec.addr + "/")
	a.Subscription.Headers = map[string]string{
		"X-Env": "prod", "authorization": "Bearer b", "content-type": "application/vnd.acme+json", "Cookie": "c=1",
		"webhook-id": "forged", "WEBHOOK-SIGNATURE": "v1,forged", "Webhook-Timestamp": "1", "Webhook-Anything": "x",
		"HOST": "elsewhere.test", "content-length": "1", "Transfer-Encoding": "chunked", "Connection": "close", "Keep-Alive": "x",
		"Proxy-Authorization": "x", "TE": "trailers", "Trailer": "X", "Upgrade": "h2c", "Expect": "100-continue",
		"User-Agent": "forged", "Idempotency-Key": "k", "x-idempotency-key": "k", "traceparent": "forged", "Content-Encoding": "gzip",
		"Accept-Encoding": "gzip",
	}
	if r := testPoster(t, "").Send(t.Context(), a); r.Reason != outcome.ReasonOK {
		t.Fatalf("%+v, %v", r, r.Err)
	}
	in := <-got
	want := http.Header{
		"X-Env": {"prod"}, "Authorization": {"Bearer b"}, "Content-Type": {"application/vnd.acme+json"}, "Cookie": {"c=1"},
		"User-Agent": {webhook.UserAgent}, "Host": {rec.addr}, "Webhook-Id": {a.Event.ID},
	}
	for name, values := range want {
		if !slices.Equal(in.header[name], values) {
			t.Errorf("%s: got %q, want %q", name, in.header[name], values)
		}
	}
	// Beside these: Content-Length, Webhook-Timestamp and Webhook-Signature.
	if len(in.header) != len(want)+3 {
		t.Errorf("got %d headers: %v", len(in.header), in.header)
	}
	if err := verify(t, testSecret(1), in.body, in.header); err != nil {
		t.Error(err)
	}
}

// What cannot be built is config, at once and without a connection; the subscription must change first.
func TestSendConfig(t *testing.T) {
	t.Parallel()
	rec := newRawReceiver(t, "127.0.0.1:0", nil, status("200 OK"))
	poster := testPoster(t, "")
	for name, spoil := range map[string]func(*webhook.Attempt){
		"unknown format":         func(a *webhook.Attempt) { a.Subscription.PayloadFormat = "xml" },
		"no format":              func(a *webhook.Attempt) { a.Subscription.PayloadFormat = "" },
		"not made whole":         func(a *webhook.Attempt) { a.Subscription.Err = errors.New("unknown key") },
		"no secret":              func(a *webhook.Attempt) { a.Subscription.Secrets = nil },
		"a secret of text":       func(a *webhook.Attempt) { a.Subscription.Secrets[0].Value = "hush" },
		"all secrets expired":    func(a *webhook.Attempt) { a.Subscription.Secrets[0].ExpiresAt = time.Unix(1, 0) },
		"split header value":     func(a *webhook.Attempt) { a.Subscription.Headers = map[string]string{"X": "a\r\nY: hush"} },
		"split header name":      func(a *webhook.Attempt) { a.Subscription.Headers = map[string]string{"X: a\r\nY": "hush"} },
		"empty header name":      func(a *webhook.Attempt) { a.Subscription.Headers = map[string]string{"": "hush"} },
		"no URL":                 func(a *webhook.Attempt) { a.Subscription.URL = "" },
		"no host":                func(a *webhook.Attempt) { a.Subscription.URL = "http:///hush" },
		"another scheme":         func(a *webhook.Attempt) { a.Subscription.URL = "ftp://" + rec.addr },
		"no URL at all":          func(a *webhook.Attempt) { a.Subscription.URL = "http://%zzhush" },
		"an id that is none":     func(a *webhook.Attempt) { a.Event.ID = "a.b" },
		"an event without data":  func(a *webhook.Attempt) { a.Event.Data = nil },
		"a type that is no text": func(a *webhook.Attempt) { a.Event.Type = "\xff" },
	} {
		a := testAttempt("http://" + rec.addr)
		spoil(&a)
		r := poster.Send(t.Context(), a)
		if r.Reason != outcome.ReasonConfig || r.Err == nil || r.Status != 0 {
			t.Errorf("%s: %+v", name, r)
		} else if strings.Contains(r.Err.Error(), "hush") {
			t.Errorf("%s: the error shows too much: %v", name, r.Err)
		}
	}
	if n := rec.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// The next attempt after a change of the subscription is made by the change.
func TestSendFollowsSubscription(t *testing.T) {
	t.Parallel()
	got := make(chan arrived, 1)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
	poster := testPoster(t, "")
	a := testAttempt("http://" + rec.addr + "/one")
	poster.Send(t.Context(), a)
	<-got

	changed := *a.Subscription
	changed.URL = "http://" + rec.addr + "/two"
	changed.Secrets = []subscriptions.Secret{{Value: testSecret(9)}}
	a.Subscription = &changed
	poster.Send(t.Context(), a)
	in := <-got
	if in.line != "POST /two HTTP/1.1" {
		t.Errorf("got %q", in.line)
	}
	if err := verify(t, testSecret(9), in.body, in.header); err != nil {
		t.Error(err)
	}
}

// A broken trace is left out; the delivery goes on.
func TestTraceParent(t *testing.T) {
	t.Parallel()
	got := make(chan arrived, 1)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
	poster := testPoster(t, "")
	good := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for value, sent := range map[string]bool{
		good: true, "": false, good + "\r\nX: y": false, "01" + good[2:]: false, strings.ToUpper(good): false,
		good[:54]: false, strings.Replace(good, "-b7", "_b7", 1): false, good[:54] + "g": false,
	} {
		a := testAttempt("http://" + rec.addr)
		a.Event.TraceParent = value
		if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK {
			t.Fatalf("%q: %+v", value, r)
		}
		in := <-got
		if trace := in.header["Traceparent"]; sent != slices.Equal(trace, []string{value}) || !sent && trace != nil || in.header["X"] != nil {
			t.Errorf("%q: got %q", value, trace)
		}
	}
}

// A dialect brings its own bytes, headers and scheme of signature, and Fanfare adds no other.
func TestSendDialectFormat(t *testing.T) {
	t.Parallel()
	got := make(chan arrived, 1)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
	poster := posterOf(t, testClient(t, ""), webhook.Format{
		Name: "vendor", ContentType: "text/plain",
		Body: func(e *event.Event) ([]byte, error) { return []byte("<" + e.ID + ">"), nil },
		Signer: func(secrets []subscriptions.Secret) (webhook.Signer, error) {
			return vendorSigner(secrets[0].Value), nil
		},
	}, webhook.Format{
		Name: "bare", ContentType: "application/json",
		Body:   func(e *event.Event) ([]byte, error) { return e.Data, nil },
		Signer: webhook.NoSigner,
	})
	a := testAttempt("http://" + rec.addr + "/")
	a.Subscription.PayloadFormat = "vendor"
	a.Subscription.Secrets[0].Value = "any text"
	a.Subscription.Headers = map[string]string{"X-Vendor-Signature": "forged"}
	if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK {
		t.Fatalf("%+v, %v", r, r.Err)
	}
	in := <-got
	if string(in.body) != "<evt_17>" || in.header.Get("Content-Type") != "text/plain" ||
		!slices.Equal(in.header["X-Vendor-Signature"], []string{hex.EncodeToString([]byte("any text"))}) || in.header["Webhook-Id"] != nil {
		t.Errorf("got %s, %v", in.body, in.header)
	}

	a.Subscription = &subscriptions.Subscription{ID: uuid.New(), URL: a.Subscription.URL, PayloadFormat: "bare"}
	if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK {
		t.Fatalf("%+v, %v", r, r.Err)
	}
	if in := <-got; string(in.body) != oddData || in.header["Webhook-Signature"] != nil {
		t.Errorf("got %s, %v", in.body, in.header)
	}
}

type vendorSigner string

func (s vendorSigner) Sign(h http.Header, _ webhook.Message) error {
	h.Set("X-Vendor-Signature", hex.EncodeToString([]byte(s)))
	return nil
}

// When the worker stops, an attempt ends at once, and that is told from the receiver's slowness.
func TestSendCancelled(t *testing.T) {
	t.Parallel()
	read := make(chan struct{})
	rec := newRawReceiver(t, "127.0.0.1:0", nil, func(c *rawConn) {
		c.request()
		close(read)
		c.hold()
	})
	ctx, stop := context.WithCancelCause(t.Context())
	stopping := errors.New("the worker stops")
	go func() { <-read; stop(stopping) }()
	r := testPoster(t, "").Send(ctx, testAttempt("http://"+rec.addr))
	if r.Reason != outcome.ReasonCancelled || !errors.Is(r.Err, stopping) {
		t.Errorf("got %s, %v", r.Reason, r.Err)
	}
}

// A 200 whose body the worker did not wait for is a 200.
func TestSendCancelledWithinBody(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	rec := newRawReceiver(t, "127.0.0.1:0", nil, func(c *rawConn) {
		c.request()
		c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		// The header must have been read before ctx ends; the body's drip outlives it.
		c.drip("1\r\nx\r\n", 10*time.Millisecond)
	})
	client := testClient(t, "")
	client.Transport = stopAfterHeader{client.Transport, stop}
	poster := posterOf(t, client)
	if r := poster.Send(ctx, testAttempt("http://"+rec.addr)); r.Reason != outcome.ReasonOK || r.Status != 200 || r.Err != nil {
		t.Errorf("got %+v, %v", r, r.Err)
	}
}

type stopAfterHeader struct {
	http.RoundTripper
	stop context.CancelFunc
}

func (s stopAfterHeader) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.RoundTripper.RoundTrip(req)
	s.stop()
	return resp, err
}

// F081: a receiver that closes idle connections as we come to use them gets each request once, and nobody
// notices.
func staleConnections(t *testing.T) {
	closed := make(chan struct{}, 8)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, func(c *rawConn) {
		if _, ok := c.request(); ok && c.send(ok200) {
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			closed <- struct{}{}
			c.hold()
		}
	})
	poster := testPoster(t, "")
	a := testAttempt("http://" + rec.addr)
	for range 3 {
		if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK || r.Resent != 0 {
			t.Errorf("got %+v, %v", r, r.Err)
		}
		<-closed
	}
	if n := rec.requests.Load(); n != 3 {
		t.Errorf("%d requests for three attempts", n)
	}
}

// F081: where the close is noticed only in sending, the request goes out again by itself if and only if the
// receiver cannot have read it; and that is counted. HTTP/2 shows so in TestFaults; here the transport asks for the body
// as net/http does.
func TestResends(t *testing.T) {
	t.Parallel()
	again := &asksAgain{}
	poster := posterOf(t, &http.Client{Transport: again})
	r := poster.Send(t.Context(), testAttempt("https://receiver.test/"))
	if r.Reason != outcome.ReasonReset || r.Resent != 1 || poster.Resent() != 1 {
		t.Errorf("got %+v, %v", r, r.Err)
	}
	want := must(standard().Body(testEvent()))(t)
	if again.asked != 3 || !bytes.Equal(again.sent, want) {
		t.Errorf("asked %d times, sent was %q; want the third to be refused, and %q", again.asked, again.sent, want)
	}
}

// asksAgain finds each connection closed: it takes a body before it needs one, sends it, and asks for another one until it
// is refused.
type asksAgain struct {
	asked int
	sent  []byte
}

func (a *asksAgain) RoundTrip(req *http.Request) (*http.Response, error) {
	_ = req.Body.Close()
	for {
		a.asked++
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		if a.asked == 1 {
			continue // It was not read.
		}
		if a.sent, err = io.ReadAll(body); err != nil {
			return nil, err
		}
		_ = body.Close()
		if a.asked > 9 {
			return nil, errors.New("asked without end")
		}
	}
}

// F101: what was captured and is sent to the receiver again later no longer verifies.
func capturedRequests(t *testing.T) {
	for age, want := range map[time.Duration]error{
		4 * time.Minute: nil, 6 * time.Minute: standardwebhooks.ErrMessageTooOld, -6 * time.Minute: standardwebhooks.ErrMessageTooNew,
	} {
		body := []byte(`{"a":1}`)
		h := sign(t, []subscriptions.Secret{{Value: testSecret(1)}}, webhook.Message{Event: &event.Event{ID: "e"}, Body: body, At: time.Now().Add(-age)})
		if err := verify(t, testSecret(1), body, h); !errors.Is(err, want) {
			t.Errorf("after %v: got %v, want %v", age, err, want)
		}
	}
}

// F114: a proxy of the environment is ignored. Not parallel, since it sets the environment.
func TestSendIgnoresEnvironment(t *testing.T) {
	proxy := newRawReceiver(t, "127.0.0.1:0", nil, status("502 Proxied"))
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"} {
		t.Setenv(name, "http://"+proxy.addr)
	}
	rec := newRawReceiver(t, "127.0.0.1:0", nil, status("200 OK"))
	// A name, because net/http would spare a literal loopback address the proxy anyhow.
	names := servertest.NewNameServer(t, func(q dnsmessage.Question, _ int) *dnsmessage.Message { return servertest.Addresses(q, "127.0.0.1") })
	r := testPoster(t, "", egress.WithResolver(names)).Send(t.Context(), testAttempt("http://receiver.test:"+rec.port()))
	if r.Reason != outcome.ReasonOK || proxy.conns.Load() != 0 {
		t.Errorf("got %+v, %v", r, r.Err)
	}
}

// Many at once, to one receiver and about one event: each gets its own answer and the same bytes.
func TestSendConcurrently(t *testing.T) {
	t.Parallel()
	got := make(chan arrived, 400)
	rec := newRawReceiver(t, "127.0.0.1:0", nil, recorded(ok200, got))
	poster := testPoster(t, "")
	e, bodies := testEvent(), new(webhook.Bodies)
	var wg sync.WaitGroup
	for i := range 8 {
		a := testAttempt("http://" + rec.addr)
		a.Event, a.Bodies = e, bodies
		a.Subscription.PayloadFormat = []string{"standard", "cloudevents"}[i%2]
		wg.Go(func() {
			for range 50 {
				if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK || string(r.Response) != "ok" {
					t.Errorf("got %+v, %v", r, r.Err)
				}
			}
		})
	}
	wg.Wait()
	close(got)
	different := map[string]bool{}
	for in := range got {
		different[string(in.body)] = true
		if err := verify(t, testSecret(1), in.body, in.header); err != nil {
			t.Error(err)
		}
	}
	if len(different) != 2 {
		t.Errorf("%d different bodies, want one for each format", len(different))
	}
}

// A body that is a little longer than what is kept is read to its end, so that the connection can be used again;
// one that is much longer costs the connection.
func TestSendReusesConnection(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]int32{
		0: 1, 2: 1, keptMost: 1, keptMost + 1: 1, keptMost + 60<<10: 1, keptMost + 70<<10: 3, 1 << 20: 3,
	} {
		for _, chunked := range []bool{false, true} {
			answer := "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n" + strings.Repeat("x", size)
			if chunked && size > 0 {
				answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
					strconv.FormatInt(int64(size), 16) + "\r\n" + strings.Repeat("x", size) + "\r\n0\r\n\r\n"
			}
			rec := newRawReceiver(t, "127.0.0.1:0", nil, func(c *rawConn) {
				for {
					if _, ok := c.request(); !ok || !c.send(answer) {
						return
					}
				}
			})
			poster := testPoster(t, "")
			a := testAttempt("http://" + rec.addr)
			for range 3 {
				if r := poster.Send(t.Context(), a); r.Reason != outcome.ReasonOK || len(r.Response) != min(size, keptMost) {
					t.Errorf("%d bytes: got %s and %d bytes, %v", size, r.Reason, len(r.Response), r.Err)
				}
			}
			if got := rec.conns.Load(); got != want {
				t.Errorf("%d bytes, chunked %v: %d connections for three attempts, want %d", size, chunked, got, want)
			}
		}
	}
}
