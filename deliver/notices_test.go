package deliver_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/servertest"
)

// A tenant, and the operator, are told once that a subscription fails, with all that is needed to repair it, and once that it
// recovers.
func TestATenantIsToldThatASubscriptionFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.FailingAttempts, cfg.OperatorTenant = 3, "ops"
	p := r.parts(cfg)
	news := &listener{}
	p.deps.Announcer = news
	r.start(p)
	r.recorder()
	receiver := servertest.NewReceiver(t, servertest.Status(503))
	sub := r.subscribe(receiver.URL+"/hook?token=hidden", retries(time.Hour))
	patient := r.subscribe(receiver.URL+"/other", retries(time.Hour))
	r.waits(r.send(r.event(), patient), outcome.ReasonServer)
	var sent []uuid.UUID
	for range 6 {
		sent = append(sent, r.send(r.event(), sub))
		r.waits(sent[len(sent)-1], outcome.ReasonServer)
	}
	r.Eventually("the tenant and the operator to be told", func() bool { return len(news.of(deliver.TypeFailing)) == 2 })
	r.Eventually("all failures to be counted", func() bool { return r.Count(`SELECT sum(failures) FROM failing`) == 7 })
	tenants := map[string]bool{}
	for _, n := range news.of(deliver.TypeFailing) {
		tenants[n.Tenant] = true
		var got struct {
			Subscription struct{ ID, Name, URL, Tenant string }
			Reason       string
			LastStatus   int    `json:"last_status"`
			FailingSince string `json:"failing_since"`
			Failures     int
			DisablesAt   time.Time `json:"disables_at"`
			Sample       uuid.UUID `json:"sample_delivery_id"`
		}
		if err := json.Unmarshal(n.Data, &got); err != nil {
			t.Fatal(err)
		}
		if got.Subscription.ID != sub.ID.String() || got.Subscription.Name != "test" || got.Subscription.Tenant != "acme" || got.Reason != "http_5xx" ||
			got.LastStatus != 503 || got.Failures < 3 || got.FailingSince == "" || !got.DisablesAt.After(time.Now()) || got.Sample == uuid.Nil {
			t.Errorf("got %s", n.Data)
		}
		if strings.Contains(string(n.Data), "hidden") || !strings.HasPrefix(got.Subscription.URL, receiver.URL+"/hook") {
			t.Errorf("the URL is %s", got.Subscription.URL)
		}
		for _, field := range []string{`"last_error":null`, `"delivery":null`} {
			if !strings.Contains(string(n.Data), field) {
				t.Errorf("%s is not in %s", field, n.Data)
			}
		}
	}
	if !tenants["acme"] || !tenants["ops"] {
		t.Errorf("told are %v", tenants)
	}
	receiver.Answer(servertest.Status(200))
	r.ended(r.send(r.event(), sub), outcome.Delivered, outcome.ReasonOK)
	r.Eventually("the recovery to be told", func() bool { return len(news.of(deliver.TypeRecovering)) == 2 })
	if n := len(news.of(deliver.TypeFailing)); n != 2 {
		t.Errorf("%d notices of failing, want one for each of two tenants", n)
	}
}

// A subscription that has failed for long enough is told of however few attempts were made.
func TestATenantIsToldAfterAWhile(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.parts(quick())
	news := &listener{}
	p.deps.Announcer = news
	r.start(p)
	r.recorder()
	sub := r.subscribe(servertest.NewReceiver(t, servertest.Status(500)).URL, retries(time.Hour))
	r.waits(r.send(r.event(), sub), outcome.ReasonServer)
	r.Eventually("the failure to be counted", func() bool { return r.Count(`SELECT count(*) FROM failing`) == 1 })
	must(r.DB.Exec(`UPDATE failing SET since = since - interval '11 minutes'`))(t)
	r.waits(r.send(r.event(), sub), outcome.ReasonServer)
	r.Eventually("the tenant to be told", func() bool { return len(news.of(deliver.TypeFailing)) == 1 })
}
