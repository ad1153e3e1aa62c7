package deliver_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// attempts are the items of a delivery's log.
func (c client) attempts(id fmt.Stringer) (log []map[string]any) {
	c.t.Helper()
	for _, item := range c.do("acme", "GET", "/v1/deliveries/"+id.String(), 200)["log"].([]any) {
		log = append(log, item.(map[string]any))
	}
	return log
}

// Each attempt shows how it went: where to and with which headers, as of the revision that it was sent by, and by which
// connection; and the last request is shown to the byte.
func TestTheWholeAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t,
		servertest.Reply(http.StatusServiceUnavailable, http.Header{"Set-Cookie": {"s=secret"}, "X-Request-Id": {"r1"}}, "no"),
		servertest.Reply(http.StatusOK, http.Header{"X-Request-Id": {"r2"}}, "yes"))
	sub := r.subscribe(receiver.URL+"/hook?token=secret", func(s *subscriptions.Subscription) {
		s.Retry.Schedule = []time.Duration{time.Hour}
		s.Headers = map[string]string{"X-Env": "secret"}
		s.Auth = &subscriptions.Auth{Type: subscriptions.AuthBearer, Token: "secret-token"}
	})
	e := r.event()
	id := r.send(e, sub)
	r.waits(id, outcome.ReasonServer)
	changed := must(r.store.Get(t.Context(), "acme", sub.ID))(t)
	changed.URL, changed.PayloadFormat = receiver.URL+"/other", "cloudevents"
	if err := r.store.Update(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	c := r.api()
	path := "/v1/deliveries/" + id.String()
	first, header := c.raw("acme", "GET", path+"/request", 200)
	if sent := receiver.Wait(1)[0]; !bytes.Equal(first, sent.Body) || header.Get("Content-Type") != "application/json" ||
		!strings.HasPrefix(header.Get("Content-Disposition"), "attachment") || header.Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("got %s with %v, sent was %s", first, header, sent.Body)
	}
	c.do("acme", "POST", path+"/retry", 202)
	r.ended(id, outcome.Delivered, outcome.ReasonOK)

	log := c.attempts(id)
	for i, sent := range receiver.Wait(2) {
		a := log[i]
		headers := a["request_headers"].(map[string]any)
		for name, value := range headers {
			if value != "***" && value != sent.Header.Get(name) {
				t.Errorf("attempt %d: the header %s is shown as %v, sent was %v", i+1, name, value, sent.Header)
			}
		}
		timings := a["timings"].(map[string]any)
		if headers["Webhook-Signature"] != "***" || headers["Authorization"] != "***" || headers["X-Env"] != "***" || headers["Webhook-Timestamp"] == nil ||
			a["remote_address"] != strings.TrimPrefix(receiver.URL, "http://") ||
			timings["dns_ms"] != nil || timings["tls_ms"] != nil || timings["first_byte_ms"].(float64) <= 0 || timings["total_ms"].(float64) <= 0 {
			t.Errorf("attempt %d: got %v", i+1, a)
		}
		if strings.Contains(fmt.Sprint(a), "secret") {
			t.Errorf("attempt %d shows secrets: %v", i+1, a)
		}
	}
	one, two := log[0], log[1]
	kept, _ := one["response_headers"].(map[string]any)
	if one["url"] != receiver.URL+"/hook?token=***" || one["connection"] != "new" || one["timings"].(map[string]any)["connect_ms"] == nil ||
		kept["X-Request-Id"] != "r1" || kept["Set-Cookie"] != "***" {
		t.Errorf("the first attempt is %v", one)
	}
	if two["url"] != receiver.URL+"/other" || two["connection"] != "reused" || two["timings"].(map[string]any)["connect_ms"] != nil || two["response_headers"] != nil {
		t.Errorf("the second attempt is %v", two)
	}
	// The last request has the form that it was sent in.
	body, header := c.raw("acme", "GET", path+"/request", 200)
	if !bytes.Equal(body, receiver.Wait(2)[1].Body) || header.Get("Content-Type") != "application/cloudevents+json" {
		t.Errorf("got %s with %v", body, header)
	}
	c.do("globex", "GET", path+"/request", 404)
	c.do("reader", "GET", path+"/request", 403)

	// The history of the subscription is gone, then the event's bytes.
	if _, err := r.DB.Exec(`DELETE FROM changes`); err != nil {
		t.Fatal(err)
	}
	if log := c.attempts(id); log[0]["url"] != nil || log[0]["request_headers"] != nil || log[0]["remote_address"] == nil || log[1]["url"] != receiver.URL+"/other" {
		t.Errorf("without the history of the subscription: %v", log)
	}
}

// A request is shown once there was one, for as long as the event's bytes are kept, and to those that may read these.
func TestWhoSeesARequest(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	receiver := servertest.NewReceiver(t)
	sub := r.subscribe(receiver.URL, nil)
	c := r.api()
	paused := r.subscribe(receiver.URL, nil)
	r.status(paused, subscriptions.Paused)
	r.worker(quick())
	r.recorder()
	e := r.event()
	id := r.send(e, sub)
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	table := r.event()
	table.ContentType, table.Data = "text/csv", []byte("a,b\n1,2\n")
	raw := r.send(table, r.subscribe(receiver.URL, func(s *subscriptions.Subscription) { s.PayloadFormat = "raw" }))
	r.ended(raw, outcome.Delivered, outcome.ReasonOK)
	if body, header := c.raw("acme", "GET", "/v1/deliveries/"+raw.String()+"/request", 200); string(body) != string(table.Data) || header.Get("Content-Type") != "text/csv" {
		t.Errorf("got %q with %v", body, header)
	}
	if got := c.attempts(raw)[0]["request_headers"].(map[string]any)["Content-Type"]; got != "text/csv" {
		t.Errorf("the content type is shown as %v", got)
	}
	held := r.send(r.event(), paused)
	r.waits(held, outcome.ReasonPaused)
	c.do("acme", "GET", "/v1/deliveries/"+held.String()+"/request", 404)
	c.raw("acme", "GET", "/v1/deliveries/"+id.String()+"/request", 200)
	if err := r.store.CreateEventType(t.Context(), &subscriptions.EventType{Name: e.Type, Scopes: []string{"view:orders"}}); err != nil {
		t.Fatal(err)
	}
	c.do("acme", "GET", "/v1/deliveries/"+id.String()+"/request", 403)
	c.raw("admin", "GET", "/v1/deliveries/"+id.String()+"/request", 200)
	r.forget(e)
	r.forget(table)
	c = r.api() // with nothing in memory
	c.do("admin", "GET", "/v1/deliveries/"+id.String()+"/request", 410)
	// Which type the data had is not known any more.
	if got := c.attempts(raw)[0]["request_headers"].(map[string]any); got["Content-Type"] != nil || got["Webhook-Id"] != table.ID {
		t.Errorf("without the event the headers are shown as %v", got)
	}
}

// Of a test, the headers of the response are kept although it succeeded. Erasing the event's data removes them.
func TestHeadersOfATestAreKeptUntilTheyAreErased(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Reply(http.StatusOK, http.Header{"X-Request-Id": {"r1"}}, "yes"))
	e := r.event()
	e.Test = true
	id := r.send(e, r.subscribe(receiver.URL, nil))
	failed := r.send(e, r.subscribe(servertest.NewReceiver(t, servertest.Reply(http.StatusServiceUnavailable, http.Header{"X-Request-Id": {"r2"}}, "no")).URL, retries(time.Hour)))
	r.ended(id, outcome.Delivered, outcome.ReasonOK)
	r.waits(failed, outcome.ReasonServer)
	c := r.api()
	for _, of := range []fmt.Stringer{id, failed} {
		if got := c.attempts(of)[0]["response_headers"]; got == nil || !strings.HasPrefix(got.(map[string]any)["X-Request-Id"].(string), "r") {
			t.Errorf("kept are %v", got)
		}
	}
	if err := ledger.NewEraser(r.DB).EraseEvent(t.Context(), e.UID); err != nil {
		t.Fatal(err)
	}
	for _, of := range []fmt.Stringer{id, failed} {
		if a := c.attempts(of)[0]; a["response_headers"] != nil || a["response"] != nil || a["remote_address"] == nil {
			t.Errorf("after the erasure: %v", a)
		}
	}
}
