package deliver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/internal/servertest"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// Deliveries are found by reason, status, object and resource, several values each, whether their events are few or many.
func TestDeliveriesAreFoundByTheirProperties(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	all := r.ledgered(sub, "acme", 120)
	for _, change := range []string{
		`UPDATE deliveries SET reason = 'http_4xx', status = 404 WHERE seq % 12 = 2`,
		`UPDATE deliveries SET reason = 'tls', status = 0 WHERE seq % 12 = 6`,
		`UPDATE deferrals SET reason = 'breaker_open', status = 0 WHERE seq % 12 = 5`,
	} {
		if _, err := r.DB.Exec(change); err != nil {
			t.Fatal(err)
		}
	}
	refer := func(ref uuid.UUID, where string) {
		if _, err := r.DB.Exec(`INSERT INTO event_refs (uid, ref) SELECT uid, $1 FROM events WHERE `+where, ref); err != nil {
			t.Fatal(err)
		}
	}
	refer(event.ObjectRef("acme", "few"), "seq IN (2, 5)")
	refer(event.ObjectRef("acme", "many"), "seq > 20")
	refer(event.ResourceRef("acme", "seven"), "seq % 7 = 0")
	refer(event.ObjectRef("globex", "theirs"), "seq = 3")
	want := func(of func(i int) bool) (ids []string) {
		for i, id := range all {
			if of(i) {
				ids = append(ids, id)
			}
		}
		slices.Reverse(ids)
		return ids
	}
	for query, of := range map[string]func(i int) bool{
		"reason=tls":                              func(i int) bool { return i%12 == 6 },
		"reason=tls&reason=http_4xx":              func(i int) bool { return i%12 == 6 || i%12 == 2 },
		"reason=breaker_open&state=pending":       func(i int) bool { return i%12 == 5 },
		"reason=dns":                              func(int) bool { return false },
		"http_status=404":                         func(i int) bool { return i%12 == 2 },
		"http_status=4xx&http_status=500":         func(i int) bool { return i%12 != 6 && i%12 != 5 },
		"http_status=5xx&state=dead":              func(i int) bool { return i%4 == 2 && i%12 != 2 && i%12 != 6 },
		"object_id=few":                           func(i int) bool { return i == 2 || i == 5 },
		"object_id=few&object_id=none&reason=tls": func(int) bool { return false },
		"object_id=theirs":                        func(int) bool { return false },
		"object_id=many":                          func(i int) bool { return i > 20 },
		"object_id=many&resource_id=seven":        func(i int) bool { return i > 20 && i%7 == 0 },
		"object_id=few&object_id=many&state=dead": func(i int) bool { return (i == 2 || i > 20) && i%4 == 2 },
		"resource_id=seven&type=order.created":    func(i int) bool { return i%14 == 0 },
		"subscription=" + sub.ID.String() + "&reason=tls&object_id=many": func(i int) bool { return i%12 == 6 && i > 20 },
	} {
		if got := ids(c.do("acme", http.MethodGet, "/v1/deliveries?limit=500&"+query, 200)); !slices.Equal(got, want(of)) {
			t.Errorf("%s: got %d deliveries, want %d", query, len(got), len(want(of)))
		}
	}
	if got := ids(c.do("acme", http.MethodGet, "/v1/dead-letters?reason=tls", 200)); len(got) != 10 {
		t.Errorf("%d dead letters, want 10", len(got))
	}
	if got := ids(c.do("acme", http.MethodGet, "/v1/subscriptions/"+sub.ID.String()+"/deliveries?http_status=404", 200)); len(got) != 10 {
		t.Errorf("%d deliveries of the subscription, want 10", len(got))
	}
	for _, query := range []string{"reason=bad", "http_status=6xx", "http_status=50"} {
		c.do("acme", http.MethodGet, "/v1/deliveries?"+query, 422)
	}
	c.do("admin", http.MethodGet, "/v1/deliveries?object_id=few", 422)
}

// A rare reason is found over several pages, each of which examines a bounded number of rows.
func TestFiltersAreBoundedPerPage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sub := r.subscribe("http://127.0.0.1:1/", nil)
	r.ledgered(sub, "acme", 40)
	l := history.NewReader(r.DB, nil)
	l.Examined = 5
	for _, f := range []history.Filter{
		{Reasons: []outcome.Reason{outcome.ReasonTLS}}, {Statuses: []history.HTTPStatus{"404"}}, {Objects: []string{"none"}},
		{Resources: []string{"none"}}, {State: "dead", Open: true, Reasons: []outcome.Reason{outcome.ReasonDNS}},
	} {
		f.Tenant, f.Limit = "acme", 10
		if _, cut, err := l.Walk(t.Context(), f); err != nil || cut == uuid.Nil {
			t.Errorf("%+v: the first page is not cut: %v", f, err)
		}
		if got := walked(t, l, f, 50, func() {}); len(got) != 0 {
			t.Errorf("%+v: got %v", f, got)
		}
	}
}

// Rows show the last attempt and the subscription.
func TestRowsShowTheLastAttempt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(503))
	sub := r.subscribe(receiver.URL, retries(time.Hour))
	id := r.send(r.event(), sub)
	r.waits(id, outcome.ReasonServer)
	row := c.do("acme", http.MethodGet, "/v1/deliveries?http_status=503", 200)["data"].([]any)[0].(map[string]any)
	if row["last_status"] != 503.0 || row["last_error"] != nil || row["last_attempt_at"] == nil || row["next_attempt_at"] != row["due_at"] ||
		row["due_at"] == nil || row["subscription_name"] != "test" || "http://"+row["url_host"].(string) != receiver.URL || row["resolved_at"] != nil {
		t.Errorf("got %v", row)
	}
	// A cancelled delivery keeps the status of its last attempt.
	c.do("acme", http.MethodPost, "/v1/deliveries/"+id.String()+"/cancel", 202)
	row = c.do("acme", http.MethodGet, "/v1/deliveries?http_status=5xx&state=cancelled", 200)["data"].([]any)[0].(map[string]any)
	if row["id"] != id.String() || row["last_status"] != 503.0 || row["next_attempt_at"] != nil {
		t.Errorf("got %v", row)
	}
}

// A certificate that nobody trusts is the reason tls, while the delivery waits and once it is dead.
func TestACertificateFailureIsFoundAsTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(receiver.Close)
	waiting := r.subscribe(receiver.URL, retries(time.Hour))
	dying := r.subscribe(receiver.URL, once)
	pending, dead := r.send(r.event(), waiting), r.send(r.event(), dying)
	r.waits(pending, outcome.ReasonTLS)
	r.ended(dead, outcome.Dead, outcome.ReasonTLS)
	got := ids(c.do("acme", http.MethodGet, "/v1/deliveries?reason=tls", 200))
	if len(got) != 2 || !slices.Contains(got, pending.String()) || !slices.Contains(got, dead.String()) {
		t.Errorf("got %v, want %s and %s", got, pending, dead)
	}
	row := c.do("acme", http.MethodGet, "/v1/dead-letters?reason=tls", 200)["data"].([]any)[0].(map[string]any)
	if row["last_status"] != nil || row["last_error"] == nil {
		t.Errorf("got %v", row)
	}
	// A deleted subscription is named as its history has it.
	host := strings.TrimPrefix(receiver.URL, "https://")
	if err := r.store.Delete(t.Context(), "acme", dying.ID); err != nil {
		t.Fatal(err)
	}
	named := func(name, host any) {
		t.Helper()
		row := c.do("acme", http.MethodGet, "/v1/dead-letters", 200)["data"].([]any)[0].(map[string]any)
		if row["subscription_name"] != name || row["url_host"] != host {
			t.Errorf("got %v, want %v at %v", row, name, host)
		}
		query := "/v1/failures?by=host,subscription"
		for _, item := range c.do("acme", http.MethodGet, query, 200)["data"].([]any) {
			if g := item.(map[string]any); g["subscription_id"] == dying.ID.String() && g["host"] != host {
				t.Errorf("got %v, want %v", g, host)
			}
		}
	}
	named("test", host)
	if _, err := r.DB.ExecContext(t.Context(), `DELETE FROM changes`); err != nil {
		t.Fatal(err)
	}
	named(nil, nil)
}

// A delivery that was retried in vain is one open dead letter. Once a retry delivered it, each of its generations says when, and
// is listed only if asked for.
func TestResolvedDeadLettersAreLeftOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500), servertest.Status(500), servertest.Status(200))
	sub := r.subscribe(receiver.URL, once)
	first := r.send(r.event(), sub)
	r.ended(first, outcome.Dead, outcome.ReasonServer)
	retry := func() uuid.UUID {
		return must(uuid.Parse(c.do("acme", http.MethodPost, "/v1/deliveries/"+first.String()+"/retry", 202)["id"].(string)))(t)
	}
	second := retry()
	r.ended(second, outcome.Dead, outcome.ReasonServer)
	if got := ids(c.do("acme", http.MethodGet, "/v1/dead-letters", 200)); !slices.Equal(got, []string{second.String()}) {
		t.Errorf("open: got %v", got)
	}
	if got := c.do("acme", http.MethodGet, "/v1/deliveries/"+first.String(), 200)["superseded_by"]; got != second.String() {
		t.Errorf("the first is superseded by %v, want %s", got, second)
	}
	for _, who := range []string{"acme", "admin"} {
		groups := c.do(who, http.MethodGet, "/v1/failures", 200)["data"].([]any)
		if len(groups) != 1 || groups[0].(map[string]any)["count"] != 1.0 {
			t.Errorf("failures for %s: got %v, want one delivery", who, groups)
		}
	}
	third := retry()
	r.ended(third, outcome.Delivered, outcome.ReasonOK)
	if got := ids(c.do("acme", http.MethodGet, "/v1/dead-letters", 200)); len(got) != 0 {
		t.Errorf("open after the delivery: got %v", got)
	}
	list := c.do("acme", http.MethodGet, "/v1/dead-letters?resolved=true", 200)
	if got := ids(list); !slices.Equal(got, []string{second.String(), first.String()}) {
		t.Errorf("with resolved: got %v", got)
	}
	for _, item := range list["data"].([]any) {
		if item.(map[string]any)["resolved_at"] == nil {
			t.Errorf("not resolved: %v", item)
		}
	}
}

// A retry that has not begun shows nothing of the generation before it. If it is cancelled, by hand or with its subscription, the
// dead letter is open again and can be replayed.
func TestACancelledRetryReopensItsDeadLetter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	c := r.api()
	worker := r.worker(quick())
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(500))
	sub := r.subscribe(receiver.URL, once)
	dead := r.send(r.event(), sub)
	r.ended(dead, outcome.Dead, outcome.ReasonServer)
	open := func() []string { return ids(c.do("acme", http.MethodGet, "/v1/dead-letters", 200)) }
	retry := func() string {
		t.Helper()
		again := c.do("acme", http.MethodPost, "/v1/deliveries/"+dead.String()+"/retry", 202)
		if again["reason"] != "busy" || again["last_error"] != nil || again["last_status"] != nil || again["attempts"] != 0.0 {
			t.Errorf("before its first attempt the retry is %v", again)
		}
		if got := open(); len(got) != 0 {
			t.Errorf("open while the retry is pending: %v", got)
		}
		return again["id"].(string)
	}
	if err := worker.Stop(); err != nil {
		t.Fatal(err)
	}
	c.do("acme", http.MethodPost, "/v1/deliveries/"+retry()+"/cancel", 202)
	if got := open(); !slices.Equal(got, []string{dead.String()}) {
		t.Errorf("open after the retry was cancelled: %v", got)
	}
	retry()
	r.status(sub, subscriptions.Disabled)
	r.worker(quick())
	r.Eventually("the dead letter to be open again", func() bool { return slices.Equal(open(), []string{dead.String()}) })
	letters := r.deadLetters()
	if len(letters) != 0 { // Its subscription is disabled.
		t.Errorf("got %v", letters)
	}
	r.status(sub, subscriptions.Active)
	letters = r.deadLetters()
	if n := must(ledger.NewRepeater(r.DB).Count(t.Context(), ledger.OnlyDead, letters))(t); n != 1 {
		t.Errorf("a replay sends %d of %v, want the dead letter", n, letters)
	}
}

// deadLetters are those of acme that a replay would look at.
func (r *rig) deadLetters() []ledger.Again {
	r.T.Helper()
	later := time.Now().Add(time.Hour)
	list, cut, err := ledger.NewRepeater(r.DB).Dead(r.T.Context(), ledger.Dead{Tenant: "acme", Before: later, Span: ledger.Span{Until: later}}, uuid.Nil, 10)
	if err != nil || cut != uuid.Nil {
		r.T.Fatal(cut, err)
	}
	return list
}

// The reasons of the document are those of the list, each described.
func TestReasonsAreDescribed(t *testing.T) {
	t.Parallel()
	c := newRig(t).api()
	var words []any
	for _, item := range c.do("acme", http.MethodGet, "/v1/reasons", 200)["data"].([]any) {
		d := item.(map[string]any)
		if words = append(words, d["reason"]); d["description"] == "" || d["advice"] == "" {
			t.Errorf("%v is not described", d["reason"])
		}
	}
	for _, word := range []any{"key", "schema", "schema_too_costly", "tls"} {
		if !slices.Contains(words, word) {
			t.Errorf("%v is not listed", word)
		}
	}
	var doc struct {
		Components struct {
			Schemas map[string]struct{ Enum []any }
		}
	}
	if err := json.Unmarshal(must(json.Marshal(c.do("admin", http.MethodGet, "/openapi.json", 200)))(t), &doc); err != nil {
		t.Fatal(err)
	}
	enum := doc.Components.Schemas["DeliveryReason"].Enum
	if len(enum) != len(outcome.Reasons()) || !slices.Equal(enum, words[:len(enum)]) {
		t.Errorf("the document's enum is %v", enum)
	}
}
