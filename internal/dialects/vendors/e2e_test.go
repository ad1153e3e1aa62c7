package vendors_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// publish publishes events through the native API, and waits until they have been fanned out and each was attempted.
func (h *house) publish(key string, events ...string) {
	h.T.Helper()
	for _, e := range events {
		h.call(key, "POST /v1/events", e).decode(h.T, http.StatusAccepted, nil)
	}
	// In the order of the way: what the first has done is with the second.
	for _, inbox := range [][2]string{{fanout.Stream, fanout.Durable}, {deliver.Stream, deliver.Durable}, {ledger.Stream, ledger.Durable}} {
		h.Eventually(inbox[0]+" is done", func() bool {
			c, err := h.JS.Consumer(h.T.Context(), inbox[0], inbox[1])
			return err == nil && c.CachedInfo().NumPending == 0 && c.CachedInfo().NumAckPending == 0
		})
	}
	// A busy worker may have put some off.
	h.Eventually("each delivery was attempted", func() bool {
		var left int
		err := h.DB.QueryRowContext(h.T.Context(), `SELECT count(*) FROM deferrals WHERE attempts = 0 AND NOT held`).Scan(&left)
		return err == nil && left == 0
	})
}

// at are the requests that came to a path.
func (h *house) at(path string) (came []servertest.Request) {
	for _, r := range h.receiver.Requests() {
		if r.Path == path {
			came = append(came, r)
		}
	}
	return came
}

// hexHMAC is how vendors' clients compute a signature, over the raw body.
func hexHMAC(body []byte, secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

// plain checks what every vendor's webhook has, and has not.
func plain(t *testing.T, r servertest.Request, contentType, body string) {
	t.Helper()
	if r.Method != http.MethodPost || r.Header.Get("Content-Type") != contentType || string(r.Body) != body {
		t.Errorf("got %s %s %s, want %s %s", r.Method, r.Header.Get("Content-Type"), r.Body, contentType, body)
	}
	for name := range r.Header {
		if strings.HasPrefix(name, "Webhook-") {
			t.Errorf("a header of another scheme: %s", name)
		}
	}
}

func TestLeatEndToEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	first := h.create("leat", key, h.receiver.URL+"/signed") // contact_updated of email
	a := h.call(key, "POST /api//webhook-subscriptions", `{"name":"b","event_type":"contact_updated","url":"`+h.receiver.URL+`/unsigned"}`)
	a.decode(t, http.StatusOK, nil)
	data := `{"contact":{"uuid":"5062eeac-bbeb-4903-b81e-2422793ff151", "email":"<sandy@example.com>","credits":1.50}}`
	h.publish(key,
		`{"type":"contact_updated","id":"other_attribute","changed":["lastname"],"data":`+data+`}`,
		`{"type":"contact_created","id":"other_type","data":`+data+`}`,
		`{"type":"contact_updated","id":"email","changed":["email","lastname"],"data":`+data+`}`)

	body := `{"type":"contact_updated","data":` + data + `}`
	signed := h.at("/signed")
	if len(signed) != 1 {
		t.Fatalf("%d came", len(signed))
	}
	plain(t, signed[0], "application/json", body)
	// The plugin: hash_equals(hash_hmac('sha256', $payload, $secret), $signature).
	if got := signed[0].Header.Get("X-Piggy-Signature"); got != hexHMAC(signed[0].Body, "s3cret") {
		t.Errorf("signature %q", got)
	}
	if got := signed[0].Header.Get("X-Piggy-Event"); got != "contact_updated" {
		t.Errorf("event %q", got)
	}
	// Without attributes every change counts; without a secret nothing is signed.
	unsigned := h.at("/unsigned")
	if len(unsigned) != 2 {
		t.Fatalf("%d came", len(unsigned))
	}
	plain(t, unsigned[0], "application/json", body)
	if _, ok := unsigned[0].Header["X-Piggy-Signature"]; ok {
		t.Error("signed without a secret")
	}
	// An inactive one receives nothing.
	h.call(key, "PUT /api/webhook-subscriptions/"+first.ID, `{"status":"INACTIVE","attributes":["email"]}`).decode(t, http.StatusOK, nil)
	h.call(key, "DELETE /api/webhook-subscriptions/"+h.list(key, "?q=unsigned")[0].ID, "").decode(t, http.StatusOK, nil)
	h.publish(key, `{"type":"contact_updated","changed":["email"],"data":`+data+`}`)
	if n := len(h.receiver.Requests()); n != 3 {
		t.Errorf("%d came", n)
	}
}

func TestKajabiEndToEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	h.create("kajabi", key, h.receiver.URL+"/tag") // tag 123
	wildcard := strings.NewReplacer("$url", h.receiver.URL+"/all", `,"resource_id":123`, "").Replace(creations["kajabi"].body)
	h.call(key, "POST /v1/hooks", wildcard).decode(t, http.StatusCreated, nil)
	contact := `{"id":"9","type":"contacts","attributes":{"name":"Sandy & Co"}}`
	h.publish(key,
		`{"type":"tag_added","id":"e1","object_id":"contact/9","resource_ids":["999"],"data":[`+contact+`]}`,
		`{"type":"tag_added","id":"e2","object_id":"contact/9","resource_ids":["123"],"data":[`+contact+`, {"id":"123","type":"contact_tags"}]}`,
		`{"type":"tag_removed","id":"e3","resource_ids":["123"],"data":{}}`)
	came := h.at("/tag")
	if len(came) != 1 {
		t.Fatalf("%d came", len(came))
	}
	plain(t, came[0], "application/json", `{"id":"contact/9","event":"tag_added","payload":[`+contact+`, {"id":"123","type":"contact_tags"}]}`)
	if n := len(h.at("/all")); n != 2 {
		t.Errorf("%d came to the hook of all tags", n)
	}
	// One resource alone becomes a list, and an event that names no object its own id.
	h.publish(key, `{"type":"tag_added","id":"e4","resource_ids":["123"],"data": `+contact+`}`)
	if came = h.at("/tag"); len(came) != 2 {
		t.Fatalf("%d came", len(came))
	}
	plain(t, came[1], "application/json", `{"id":"e4","event":"tag_added","payload":[`+contact+`]}`)
}

func TestPassonaEndToEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	good, bad := h.create("passona", key, h.receiver.URL+"/keyword"), h.create("passona", key, h.receiver.URL+"/500/keyword")
	data := `{"keyword":"JOIN", "msisdn":"447700900000"}`
	h.publish(key,
		`{"type":"keyword.received","id":"untargeted","data":`+data+`}`,
		`{"type":"keyword.received","id":"targeted","targets":["`+good.ID+`","`+bad.ID+`"],"data":`+data+`}`)
	// A busy worker may have put it off.
	h.Eventually("the webhook has come", func() bool { return len(h.at("/keyword")) > 0 })
	came := h.at("/keyword")
	if len(came) != 1 {
		t.Fatalf("%d came", len(came))
	}
	plain(t, came[0], "application/vnd.passona+json", data)
	if got := came[0].Header.Get("X-Team"); got != "red" {
		t.Errorf("the webhook's header is %q", got)
	}
	// Should a webhook fail, Passona will not attempt it again.
	var list struct {
		Data []struct {
			State, Reason string
			Attempts      int
		}
	}
	h.Eventually("the failed one is over", func() bool {
		h.call(key, "GET /v1/subscriptions/"+bad.ID+"/deliveries", "").decode(t, http.StatusOK, &list)
		return len(list.Data) == 1 && list.Data[0].State != "pending"
	})
	if d := list.Data[0]; d.State != "dead" || d.Attempts != 1 || len(h.at("/500/keyword")) != 1 {
		t.Errorf("got %+v, %d came", d, len(h.at("/500/keyword")))
	}
}

// Publishers that know no targets: new webhooks subscribe to what the deployment says.
func TestPassonaWithAnEventType(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.cfg.EventType = "keyword.received" })
	_, key := h.key("acme", allScopes)
	h.create("passona", key, h.receiver.URL+"/keyword")
	h.publish(key, `{"type":"keyword.received","data":{}}`, `{"type":"keyword.sent","data":{}}`)
	if n := len(h.at("/keyword")); n != 1 {
		t.Errorf("%d came", n)
	}
}

func TestBabelforEndToEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	good, bad := h.create("babelfor", key, h.receiver.URL+"/license"), h.create("babelfor", key, h.receiver.URL+"/500/license")
	data := `{"license": "L-17", "seats": 5.0}`
	h.publish(key, `{"type":"LicenseCreated","id":"evt_17","data":`+data+`}`, `{"type":"LicenseRevoked","data":{}}`)
	came := h.at("/license")
	if len(came) != 1 {
		t.Fatalf("%d came", len(came))
	}
	plain(t, came[0], "application/json", data)
	for name, want := range map[string]string{
		"X-Webhook-Signature": "sha256=" + hexHMAC(came[0].Body, "s3cret"), "X-Webhook-Event": "LicenseCreated",
		"X-Webhook-Id": "evt_17", "X-Team": "red",
	} {
		if got := came[0].Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	// What happened, as the vendor lists it.
	d := h.await(key, good.Number)
	if !d.IsSuccess || d.Payload != data || *d.StatusCode != 200 || *d.Response != "thanks" || d.NextRetryAt != nil || d.SentAt == nil {
		t.Errorf("got %+v", d)
	}
	d = h.await(key, bad.Number)
	if d.IsSuccess || d.Payload != data || *d.StatusCode != 500 || *d.Response != "oops" || d.RetryCount != 0 || d.NextRetryAt == nil {
		t.Fatalf("got %+v", d)
	}
	// maxRetryCount times, five minutes apart, and a fifth of that at most by jitter.
	if gap := d.NextRetryAt.Sub(*d.SentAt); gap < 5*time.Minute-time.Second || gap > 6*time.Minute+time.Second {
		t.Errorf("the next attempt is %s after the last", gap)
	}
	// A paused one is tested as well.
	h.call(key, "POST /v1/subscriptions/"+good.ID+"/pause", "").decode(t, http.StatusAccepted, nil)
	a := h.call(key, fmt.Sprintf("POST /v1/webhooks/subscriptions/%d/test", good.Number), `{"payload":{"a":1}}`)
	a.decode(t, http.StatusOK, nil)
	if came = h.at("/license"); len(came) != 2 || string(came[1].Body) != `{"a":1}` || came[1].Header.Get("X-Webhook-Signature") != "sha256="+hexHMAC(came[1].Body, "s3cret") {
		t.Errorf("the test: %v", came)
	}
}

// The vendor's ids are of 32 bits; the numbers of deliveries, which all tenants share, go beyond.
func TestBabelforsEventsFitAnInt32(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	n := h.create("babelfor", key, h.receiver.URL+"/license")
	if _, err := h.DB.Exec("SELECT setval('delivery_number', 2147483646)"); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/v1/webhooks/subscriptions/%d", n.Number)
	for _, want := range []int32{2147483647, 0, 1} {
		var tested struct {
			EventID int32
		}
		h.call(key, "POST "+path+"/test", "").decode(t, http.StatusOK, &tested)
		if tested.EventID != want {
			t.Errorf("got %d, want %d", tested.EventID, want)
		}
	}
	h.call(key, "DELETE "+path+"/events/0", "").decode(t, http.StatusOK, nil)
	h.call(key, "DELETE "+path+"/events/0", "").decode(t, http.StatusNotFound, nil)
	var list struct{ Events []struct{ ID int32 } }
	h.call(key, "GET "+path+"/events?select=id", "").decode(t, http.StatusOK, &list)
	if len(list.Events) != 2 || list.Events[0].ID != 2147483647 || list.Events[1].ID != 1 {
		t.Errorf("got %+v", list)
	}
}

// delivery is the vendor's JSON of an event.
type delivery struct {
	ID                  int64
	IsSuccess           bool
	Payload             string
	StatusCode          *int
	Response            *string
	RetryCount          int
	SentAt, NextRetryAt *time.Time
}

// await returns the newest event of a subscription once it was sent.
func (h *house) await(key string, number int32) (d delivery) {
	h.T.Helper()
	h.Eventually("the log has the event", func() bool {
		a := h.call(key, fmt.Sprintf("GET /v1/webhooks/subscriptions/%d/events?take=1", number), "")
		var list struct{ Events []delivery }
		if err := json.Unmarshal([]byte(a.body), &list); err != nil {
			h.T.Fatalf("%s: %v", a.body, err)
		}
		if len(list.Events) == 1 && list.Events[0].SentAt != nil {
			d = list.Events[0]
			return true
		}
		return false
	})
	return d
}

// The rest of a test's ways: payloads that are refused, and headers that the deployment names otherwise.
func TestBabelforsTestsAndHeaders(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) {
		h.cfg.SignatureHeader, h.cfg.EventHeader, h.cfg.IDHeader = "X-Sig", "X-Type", "X-Number"
	})
	_, key := h.key("acme", allScopes)
	n := h.create("babelfor", key, h.receiver.URL+"/license")
	path := fmt.Sprintf("POST /v1/webhooks/subscriptions/%d/test", n.Number)
	for _, test := range []struct {
		body, says string
	}{
		{`{"payload":"` + strings.Repeat("x", 300<<10) + `"}`, "larger than"},
		{`{"payload":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, ""},
	} {
		a := h.call(key, path, test.body)
		if test.says == "" && a.status != http.StatusOK || test.says != "" && (a.status != http.StatusRequestEntityTooLarge || !strings.Contains(a.body, test.says)) {
			t.Errorf("%.40s: %d %s", test.body, a.status, a.body)
		}
	}
	// A test may send what the type's schema would not let be published.
	h.call(adminKey, "POST /v1/event-types?tenant=acme", `{"name":"LicenseCreated","schema":{"type":"object","required":["license"]}}`).decode(t, http.StatusCreated, nil)
	h.call(key, path, `{"payload":{"a":1}}`).decode(t, http.StatusOK, nil)
	came := h.at("/license")
	last := came[len(came)-1]
	if last.Header.Get("X-Sig") != "sha256="+hexHMAC(last.Body, "s3cret") || last.Header.Get("X-Type") != "LicenseCreated" || last.Header.Get("X-Number") == "" {
		t.Errorf("got %v", last.Header)
	}
}

// Where event types are open, those that the tenant published and subscribed to are listed, and no other tenant's.
func TestBabelforListsTypesInUse(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	_, key := h.key("acme", allScopes)
	_, other := h.key("globex", allScopes)
	h.create("babelfor", key, h.receiver.URL+"/license")
	h.publish(other, `{"type":"Foreign","data":1}`)
	h.publish(key, `{"type":"InvoicePaid","data":1}`, `{"type":"LicenseCreated","data":1}`)
	var got struct {
		EventTypes []struct{ Name string } `json:"eventTypes"`
	}
	h.call(key, "GET /v1/webhooks/event-types", "").decode(t, http.StatusOK, &got)
	if names := fmt.Sprint(got.EventTypes); names != "[{InvoicePaid} {LicenseCreated}]" {
		t.Errorf("got %s", names)
	}
}
