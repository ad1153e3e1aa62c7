package subscriptions_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func orderEvent() *event.Event {
	return &event.Event{
		Tenant: "acme", Type: "order.created", ID: "evt_17", Time: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC),
		Data: []byte(`{"total": 90}`), ResourceIDs: []string{"123"}, Changed: []string{"status", "total"},
	}
}

func TestExplainSaysWhatItSaw(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := example(t)
	s.Status = subscriptions.Paused
	b.create(t, s)
	b.createType(t, "order.secret", "view:secrets")
	b.fresh(t)
	explain := func(change func(*event.Event)) string {
		e := orderEvent()
		change(e)
		_, steps, _ := b.dir.Explain(e, s.ID, subscriptions.View{Scopes: []string{subscriptions.AllScopes}, Data: true})
		var lines []string
		for _, s := range steps {
			lines = append(lines, s.Step+" "+s.Verdict+": "+s.Detail)
		}
		return strings.Join(lines, "\n")
	}
	tests := []struct {
		name   string
		change func(*event.Event)
		want   []string
	}{
		{"a near miss", func(*event.Event) {}, []string{
			"tenant pass: both are acme's", "status pass: paused: its deliveries are held", "targets skipped: the event names no targets",
			"event_type pass: order.* takes order.created", "scopes skipped: the event type demands none",
			"resource_id pass: the event is about 123", "changed pass: a change of status, a,b is wanted; changed was status, total",
			"filter fail: data.total was 90"}},
		{"another type", func(e *event.Event) { e.Type, e.ResourceIDs = "user.created", nil }, []string{
			"event_type fail: user.created is not among order.*, invoice.paid", "resource_id skipped: a step before it failed",
			"filter skipped: a step before it failed"}},
		{"no resource", func(e *event.Event) { e.ResourceIDs = nil }, []string{
			"resource_id fail: 123 is wanted, and the event names no resource", "changed skipped: a step before it failed"}},
		{"another change", func(e *event.Event) { e.Changed = []string{"total"} }, []string{
			"changed fail: a change of status, a,b is wanted; changed was total", "filter skipped: a step before it failed"}},
		{"data of another type", func(e *event.Event) { e.Data = []byte(`{"total": "100"}`) }, []string{`filter fail: no such overload; data.total was "100"`}},
		{"no data", func(e *event.Event) { e.Data = []byte(`{}`) }, []string{"filter fail: no such key: total; data.total is missing"}},
		{"scopes", func(e *event.Event) { e.Type = "order.secret" }, []string{
			"scopes fail: order.secret demands view:secrets, which the key that made the subscription lacked",
			"filter skipped: a step before it failed"}},
		{"a target without the scopes", func(e *event.Event) { e.Type, e.Targets = "order.secret", []uuid.UUID{s.ID} }, []string{
			"scopes fail: order.secret demands view:secrets"}},
		{"a test", func(e *event.Event) { e.Type, e.Targets, e.Test = "order.secret", []uuid.UUID{s.ID}, true }, []string{
			"scopes skipped: the event is a test"}},
		{"targeted", func(e *event.Event) { e.Targets = []uuid.UUID{s.ID} }, []string{
			"targets pass: the event names this subscription", "filter skipped: the event names its targets"}},
		{"targeted elsewhere", func(e *event.Event) { e.Targets = []uuid.UUID{uuid.Nil, uuid.Max} }, []string{
			"targets fail: the event goes to 2 other subscriptions only"}},
	}
	for _, tt := range tests {
		got := explain(tt.change)
		for _, want := range tt.want {
			if !strings.Contains(got, want) {
				t.Errorf("%s: got\n%s\nwant %s", tt.name, got, want)
			}
		}
	}
	if got := explain(func(e *event.Event) { e.Tenant = "globex" }); got != "tenant fail: the subscription is another tenant's" {
		t.Errorf("another tenant's: got\n%s", got)
	}
}

// TestExplainShowsEachReaderWhatItMaySee: values to those who may read events of the type, what a filter says of the
// data to those who hold the type's scopes.
func TestExplainShowsEachReaderWhatItMaySee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := plain("acme", "*")
	s.Filter = `event.data.card != "zzz"`
	b.create(t, s)
	b.createType(t, "order.secret", "view:secrets")
	b.fresh(t)
	for _, tt := range []struct {
		eventType, card string
		view            subscriptions.View
		verdict, detail string
	}{
		{"order.open", "4111", subscriptions.View{Data: true}, subscriptions.Pass, `data.card was "4111"`},
		{"order.open", "4111", subscriptions.View{}, subscriptions.Pass, s.Filter},
		{"order.secret", "4111", subscriptions.View{Scopes: []string{"view:secrets"}, Data: true}, subscriptions.Pass, `data.card was "4111"`},
		{"order.secret", "4111", subscriptions.View{Scopes: []string{"view:secrets"}}, subscriptions.Pass, s.Filter},
		{"order.secret", "4111", subscriptions.View{Data: true}, subscriptions.Skipped, "shown to keys with view:secrets"},
		{"order.secret", "zzz", subscriptions.View{Data: true}, subscriptions.Skipped, "shown to keys with view:secrets"},
		{"order.secret", "zzz", subscriptions.View{Scopes: []string{"view:secrets"}}, subscriptions.Fail, s.Filter},
	} {
		e := &event.Event{Tenant: "acme", Type: tt.eventType, Data: []byte(`{"card":"` + tt.card + `"}`)}
		_, steps, _ := b.dir.Explain(e, s.ID, tt.view)
		got := steps[len(steps)-1]
		if got.Step != "filter" || got.Verdict != tt.verdict || !strings.Contains(got.Detail, tt.detail) {
			t.Errorf("%s for %+v: got %+v, want %s: %s", tt.eventType, tt.view, got, tt.verdict, tt.detail)
		}
		if strings.Contains(fmt.Sprint(steps), "4111") != strings.Contains(tt.detail, "4111") {
			t.Errorf("%s for %+v: shown is %+v", tt.eventType, tt.view, steps)
		}
	}
}

func TestFilterErrorsAreCounted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	s := plain("acme", "*")
	s.Filter = "event.data.nothing == 1"
	b.create(t, s)
	b.fresh(t)
	e := orderEvent()
	b.dir.Match(e)
	b.dir.Match(e)
	if got := b.dir.Stats().FilterErrors; got != 2 {
		t.Errorf("got %d, want 2", got)
	}
	if _, _, ok := b.dir.Explain(e, uuid.Nil, subscriptions.View{}); ok {
		t.Error("explains what is not there")
	}
}

func TestUnknownDirectoryKnowsNothing(t *testing.T) {
	t.Parallel()
	d := subscriptions.NewDirectory(nil, nil, slog.New(slog.DiscardHandler))
	if got, _ := d.Match(orderEvent()); got != nil {
		t.Errorf("matched %v", got)
	}
	if _, ok := d.Get(uuid.Nil); ok {
		t.Error("has something")
	}
	if _, ok := d.Revision(); ok {
		t.Error("has a revision")
	}
}
