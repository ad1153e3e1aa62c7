package subscriptions_test

import (
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestList(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ids []uuid.UUID
	for i, types := range [][]string{{"order.created"}, {"order.*"}, {"*"}, {"order.>", "x"}, {"invoice.paid"}, {">"}, {"*.created"}} {
		s := plain("acme", types...)
		s.Name = "Sub " + types[0]
		s.URL = "https://host" + string(rune('a'+i)) + ".example.com/"
		ids = append(ids, b.create(t, s).ID)
	}
	b.create(t, plain("globex", "*"))
	if _, err := b.store.Pause(t.Context(), "acme", ids[1]); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		query subscriptions.Query
		want  []int
	}{
		{"newest first", subscriptions.Query{Tenant: "acme"}, []int{6, 5, 4, 3, 2, 1, 0}},
		{"oldest first", subscriptions.Query{Tenant: "acme", Asc: true}, []int{0, 1, 2, 3, 4, 5, 6}},
		{"page", subscriptions.Query{Tenant: "acme", Limit: 2, After: ids[4]}, []int{3, 2}},
		{"page up", subscriptions.Query{Tenant: "acme", Limit: 2, After: ids[4], Asc: true}, []int{5, 6}},
		{"paused", subscriptions.Query{Tenant: "acme", Status: subscriptions.Paused}, []int{1}},
		{"type", subscriptions.Query{Tenant: "acme", EventType: "order.created", Asc: true}, []int{0, 1, 2, 3, 5, 6}},
		{"longer type", subscriptions.Query{Tenant: "acme", EventType: "order.line.added", Asc: true}, []int{2, 3, 5}},
		{"dot is no wildcard", subscriptions.Query{Tenant: "acme", EventType: "orderxcreated", Asc: true}, []int{2, 5}},
		{"pattern", subscriptions.Query{Tenant: "acme", EventType: "order.*", Asc: true}, []int{1, 2, 3, 5}},
		{"text in name", subscriptions.Query{Tenant: "acme", Text: "SUB ORDER.C"}, []int{0}},
		{"text in url", subscriptions.Query{Tenant: "acme", Text: "hostc.example"}, []int{2}},
		{"no wildcard in text", subscriptions.Query{Tenant: "acme", Text: "h_stc%"}, nil},
		{"injection", subscriptions.Query{Tenant: "acme", Text: "'; DROP TABLE subscriptions; --", EventType: "' OR true --"}, nil},
		{"dialect", subscriptions.Query{Tenant: "acme", Dialect: subscriptions.Leat}, nil},
		{"nobody's", subscriptions.Query{Tenant: "nobody"}, nil},
	}
	for _, tt := range tests {
		found, err := b.store.List(t.Context(), tt.query)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got []int
		for _, s := range found {
			got = append(got, slices.Index(ids, s.ID))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
