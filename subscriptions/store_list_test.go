package subscriptions

import (
	"slices"
	"testing"

	"github.com/google/uuid"
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
		query Query
		want  []int
	}{
		{"newest first", Query{Tenant: "acme"}, []int{6, 5, 4, 3, 2, 1, 0}},
		{"oldest first", Query{Tenant: "acme", Asc: true}, []int{0, 1, 2, 3, 4, 5, 6}},
		{"page", Query{Tenant: "acme", Limit: 2, After: ids[4]}, []int{3, 2}},
		{"page up", Query{Tenant: "acme", Limit: 2, After: ids[4], Asc: true}, []int{5, 6}},
		{"paused", Query{Tenant: "acme", Status: Paused}, []int{1}},
		{"type", Query{Tenant: "acme", EventType: "order.created", Asc: true}, []int{0, 1, 2, 3, 5, 6}},
		{"longer type", Query{Tenant: "acme", EventType: "order.line.added", Asc: true}, []int{2, 3, 5}},
		{"dot is no wildcard", Query{Tenant: "acme", EventType: "orderxcreated", Asc: true}, []int{2, 5}},
		{"pattern", Query{Tenant: "acme", EventType: "order.*", Asc: true}, []int{1, 2, 3, 5}},
		{"text in name", Query{Tenant: "acme", Text: "SUB ORDER.C"}, []int{0}},
		{"text in url", Query{Tenant: "acme", Text: "hostc.example"}, []int{2}},
		{"no wildcard in text", Query{Tenant: "acme", Text: "h_stc%"}, nil},
		{"injection", Query{Tenant: "acme", Text: "'; DROP TABLE subscriptions; --", EventType: "' OR true --"}, nil},
		{"dialect", Query{Tenant: "acme", Dialect: Leat}, nil},
		{"nobody's", Query{Tenant: "nobody"}, nil},
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
