// The index is tested inside: rows go straight into it, thousands of them, and also filters that nobody could save.

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

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/fanfarehq/fanfare/internal/event"
)

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
				t.Skip("none yet") // rapid takes another step.
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
