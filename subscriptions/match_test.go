package subscriptions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/event"
)

func orderEvent() *event.Event {
	return &event.Event{
		Tenant: "acme", Type: "order.created", ID: "evt_17", Time: time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC),
		Data: []byte(`{"total": 90}`), ResourceIDs: []string{"123"}, Changed: []string{"status", "total"},
	}
}

// memory is a Directory that knows what it is told, without a database.
func memory() *Directory {
	d := NewDirectory(nil, nil, slog.New(slog.DiscardHandler))
	d.known = newKnown()
	return d
}

var (
	someTenants   = []string{"acme", "globex"}
	someTypes     = []string{"a", "a.b", "a.b.c", "b", "b.b", "a.c.b"}
	somePatterns  = append([]string{"*", ">", "a.*", "*.b", "a.>", "*.*", "a.*.*", "*.>", "a.*.b", "x"}, someTypes...)
	someResources = []string{"1", "2", "3"}
	someChanges   = []string{"status", "total"}
	// someFilters are with what they must give for the data {"n": <number>} or {}.
	someFilters = map[string]func(n *float64) bool{
		"event.data.n > 1":           func(n *float64) bool { return n != nil && *n > 1 },
		"has(event.data.n)":          func(n *float64) bool { return n != nil },
		"!has(event.data.n) || true": func(*float64) bool { return true },
		"event.data.none == 1":       func(*float64) bool { return false },
		"does not compile":           func(*float64) bool { return false },
	}
)

func subset(list []string, most int) *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(list), 0, most, rapid.ID[string])
}

func randomSubscription(t *rapid.T) *Subscription {
	s := &Subscription{
		Tenant:     rapid.SampledFrom(someTenants).Draw(t, "tenant"),
		EventTypes: subset(somePatterns, 4).Draw(t, "types"),
		ResourceID: rapid.SampledFrom(append([]string{""}, someResources...)).Draw(t, "resource"),
		Changed:    subset(someChanges, 2).Draw(t, "changed"),
		Status:     rapid.SampledFrom([]Status{Active, Active, Paused, Disabled}).Draw(t, "status"),
		Scopes:     rapid.SampledFrom([][]string{nil, {"view:a"}, {"view:a", "view:b"}, {AllScopes}}).Draw(t, "scopes"),
	}
	if rapid.Bool().Draw(t, "filtered") {
		sources := make([]string, 0, len(someFilters))
		for source := range someFilters {
			sources = append(sources, source)
		}
		slices.Sort(sources)
		s.Filter = rapid.SampledFrom(sources).Draw(t, "filter")
	}
	return s
}

func randomEvent(t *rapid.T, ids []uuid.UUID) *event.Event {
	e := &event.Event{
		Tenant: rapid.SampledFrom(append([]string{"nobody"}, someTenants...)).Draw(t, "event tenant"),
		Type:   rapid.SampledFrom(append([]string{"z.z"}, someTypes...)).Draw(t, "event type"), Data: []byte("{}"),
		ResourceIDs: rapid.SliceOfN(rapid.SampledFrom(someResources), 0, 3).Draw(t, "event resources"),
		Changed:     subset(someChanges, 2).Draw(t, "event changed"),
	}
	if rapid.Bool().Draw(t, "with n") {
		e.Data = fmt.Appendf(nil, `{"n": %d}`, rapid.IntRange(0, 3).Draw(t, "n"))
	}
	if len(ids) > 0 && rapid.IntRange(0, 4).Draw(t, "targeted") == 0 {
		e.Targets = rapid.SliceOfN(rapid.SampledFrom(ids), 1, 4).Draw(t, "targets")
		e.Test = rapid.Bool().Draw(t, "test")
	}
	return e
}

// receives says the same as Match, straight from the words of the API.
func receives(s *Subscription, e *event.Event, demanded []string) bool {
	if s.Tenant != e.Tenant || s.Status == Disabled && !e.Test {
		return false
	}
	holds := true
	for _, scope := range demanded {
		holds = holds && (e.Test || slices.Contains(s.Scopes, scope) || slices.Contains(s.Scopes, AllScopes))
	}
	if len(e.Targets) > 0 {
		return holds && slices.Contains(e.Targets, s.ID)
	}
	fits := holds && slices.ContainsFunc(s.EventTypes, func(p string) bool {
		if p == "*" {
			return true
		}
		p = strings.NewReplacer(".", `\.`, "*", "[^.]+", ">", ".+").Replace(p)
		return regexp.MustCompile("^" + p + "$").MatchString(e.Type)
	})
	if s.ResourceID != "" {
		fits = fits && slices.Contains(e.ResourceIDs, s.ResourceID)
	}
	if len(s.Changed) > 0 {
		fits = fits && slices.ContainsFunc(s.Changed, func(c string) bool { return slices.Contains(e.Changed, c) })
	}
	if s.Filter != "" {
		var data struct{ N *float64 }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			panic(err)
		}
		fits = fits && someFilters[s.Filter](data.N)
	}
	return fits
}

// The index, explain and a scan by the words of the API agree, whatever was created, changed and deleted.
func TestMatchAgreesWithAScan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := memory()
		model := map[uuid.UUID]*Subscription{}
		var ids []uuid.UUID
		put := func(s *Subscription) {
			d.known.apply(rowOf(s))
			model[s.ID] = s
		}
		one := func(t *rapid.T) uuid.UUID {
			if len(ids) == 0 {
				t.Skip("none yet")
			}
			return rapid.SampledFrom(ids).Draw(t, "id")
		}
		if rapid.Bool().Draw(t, "scoped types") {
			d.known.applyTypes(&delta{types: []*EventType{
				{Tenant: "", Name: "a.b", Scopes: []string{"view:a"}}, {Tenant: "acme", Name: "a.b", Scopes: []string{"view:a", "view:b"}},
				{Tenant: "globex", Name: "b", Scopes: []string{"view:b"}},
			}})
		}
		t.Repeat(map[string]func(*rapid.T){
			"create": func(t *rapid.T) {
				s := randomSubscription(t)
				s.ID = uuid.Must(uuid.NewV7())
				ids = append(ids, s.ID)
				put(s)
			},
			"change": func(t *rapid.T) {
				s := randomSubscription(t)
				s.ID = one(t)
				if old := model[s.ID]; old != nil {
					s.Tenant = old.Tenant
				}
				put(s)
			},
			"delete": func(t *rapid.T) {
				id := one(t)
				if s := model[id]; s != nil {
					gone := *s
					gone.Deleted = true
					d.known.apply(rowOf(&gone))
					delete(model, id)
				}
			},
			"": func(t *rapid.T) { agree(t, d, model, randomEvent(t, ids)) },
		})
		for id, s := range model {
			s.Deleted = true
			d.known.apply(rowOf(s))
			delete(model, id)
		}
		if len(d.known.byID)+len(d.known.tenants) != 0 {
			t.Fatalf("left behind: %d subscriptions, %d tenants", len(d.known.byID), len(d.known.tenants))
		}
	})
}

// would asks a Candidate, which says nothing else by the type alone.
func would(t *rapid.T, d *Directory, s *Subscription, e *event.Event) bool {
	c := d.Candidate(s)
	would := c.Would(e)
	if len(e.Targets) == 0 && !e.Test {
		if may, does := c.WouldByType(e.Tenant, e.Type); would && !may || does && !would {
			t.Fatalf("%+v\n%+v\nby its type it may match %t, does %t; it matches %t", s, e, may, does, would)
		}
	}
	return would
}

func agree(t *rapid.T, d *Directory, model map[uuid.UUID]*Subscription, e *event.Event) {
	var demanded []string
	if et, ok := d.EventType(e.Tenant, e.Type); ok {
		demanded = et.Scopes
	}
	matched, _ := d.Match(e)
	ids := d.MatchIDs(e).IDs
	var got, want []uuid.UUID
	for i, s := range matched {
		got = append(got, s.ID)
		if ids[i] != s.ID {
			t.Fatalf("Match gives %s where MatchIDs gives %s", s.ID, ids[i])
		}
	}
	for id, s := range model {
		receives := receives(s, e, demanded)
		if receives {
			want = append(want, id)
		}
		explained, steps, ok := d.Explain(e, id, View{Scopes: []string{AllScopes}, Data: true})
		if !ok || explained != receives || would(t, d, s, e) != receives {
			t.Fatalf("%+v\n%+v\nreceives %t, explained %t: %v", s, e, receives, explained, steps)
		}
	}
	order := func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	if !slices.Equal(got, want) {
		t.Fatalf("event %+v\n got %v\nwant %v", e, got, want)
	}
}

func TestExplainSaysWhatItSaw(t *testing.T) {
	t.Parallel()
	d := memory()
	s := example(t)
	s.ID, s.Status = uuid.Must(uuid.NewV7()), Paused
	d.known.apply(rowOf(s))
	d.known.applyTypes(&delta{types: []*EventType{{Name: "order.secret", Scopes: []string{"view:secrets"}}}})
	explain := func(change func(*event.Event)) string {
		e := orderEvent()
		change(e)
		_, steps, _ := d.Explain(e, s.ID, View{Scopes: []string{AllScopes}, Data: true})
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
	d := memory()
	s := example(t)
	s.ID, s.Status, s.ResourceID, s.Changed, s.Scopes = uuid.Must(uuid.NewV7()), Active, "", nil, []string{AllScopes}
	s.EventTypes, s.Filter = []string{"*"}, `event.data.card != "zzz"`
	d.known.apply(rowOf(s))
	d.known.applyTypes(&delta{types: []*EventType{{Name: "order.secret", Scopes: []string{"view:secrets"}}}})
	for _, tt := range []struct {
		eventType, card string
		view            View
		verdict, detail string
	}{
		{"order.open", "4111", View{Data: true}, Pass, `data.card was "4111"`},
		{"order.open", "4111", View{}, Pass, s.Filter},
		{"order.secret", "4111", View{Scopes: []string{"view:secrets"}, Data: true}, Pass, `data.card was "4111"`},
		{"order.secret", "4111", View{Scopes: []string{"view:secrets"}}, Pass, s.Filter},
		{"order.secret", "4111", View{Data: true}, Skipped, "shown to keys with view:secrets"},
		{"order.secret", "zzz", View{Data: true}, Skipped, "shown to keys with view:secrets"},
		{"order.secret", "zzz", View{Scopes: []string{"view:secrets"}}, Fail, s.Filter},
	} {
		e := &event.Event{Tenant: "acme", Type: tt.eventType, Data: []byte(`{"card":"` + tt.card + `"}`)}
		_, steps, _ := d.Explain(e, s.ID, tt.view)
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
	d := memory()
	s := plain("acme", "*")
	s.ID, s.Status, s.Filter = uuid.Must(uuid.NewV7()), Active, "event.data.nothing == 1"
	d.known.apply(rowOf(s))
	e := orderEvent()
	d.Match(e)
	d.Match(e)
	if got := d.Stats().FilterErrors; got != 2 {
		t.Errorf("got %d, want 2", got)
	}
	if _, _, ok := d.Explain(e, uuid.Nil, View{}); ok {
		t.Error("explains what is not there")
	}
}

func TestUnknownDirectoryKnowsNothing(t *testing.T) {
	t.Parallel()
	d := NewDirectory(nil, nil, slog.New(slog.DiscardHandler))
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
