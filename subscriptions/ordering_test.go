package subscriptions

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

// The key of an event is its value as text; what has no value has no key.
func TestOrderingKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ source, data, want string }{
		{`event.data.order`, `{"order":"o_17"}`, "o_17"},
		{`event.data.order`, `{"order":17}`, "17"},
		{`event.data.order`, `{"order":9007199254740993}`, "9007199254740993"},
		{`event.data.order`, `{"order":1.5}`, "1.5"},
		{`event.data.order`, `{"order":true}`, "true"},
		{`event.data.order`, `{"order":null}`, ""},
		{`event.data.order`, `{"order":""}`, ""},
		{`event.data.order`, `{"order":{"id":1}}`, ""},
		{`event.data.order`, `{"order":[1]}`, ""},
		{`event.data.order`, `{}`, ""},
		{`event.data.order`, `{"order":"` + strings.Repeat("x", MaxOrderingKey+1) + `"}`, ""},
		{`event.type + "/" + event.data.order`, `{"order":"a"}`, "order.created/a"},
		{`has(event.data.order) ? event.data.order : "none"`, `{}`, "none"},
		{`event.time`, `{}`, "2026-11-20T10:00:00Z"},
		{`size(event.resource_ids)`, `{}`, "0"},
	} {
		k, err := CompileKey(tt.source)
		if err != nil {
			t.Fatalf("%s: %v", tt.source, err)
		}
		e := orderEvent()
		e.Data, e.ResourceIDs = []byte(tt.data), nil
		got, err := k.Of(e)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s of %s: got %q, %v, want %q", tt.source, tt.data, got, err, tt.want)
		}
	}
}

func TestOrderingKeysRefusedOnSave(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		``:                           "is empty",
		`event.data.`:                "",
		`event.dta.order`:            "undefined field",
		`event.changed`:              "must be a text, a number, a time or boolean",
		`event.resource_ids == null`: "",
		`event.data.a.all(x, event.data.b.all(y, event.data.c.all(z, x == y && y == z)))`: "may cost too much",
		strings.Repeat("x", MaxFilterSource+1):                                            "is longer than",
	} {
		if _, err := CompileKey(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", source, err, want)
		}
	}
}

// An ordered subscription is matched apart, with the event's key; without a key the event goes as to any other.
func TestMatchTellsTheKey(t *testing.T) {
	t.Parallel()
	d := memory()
	ordered, any := plain("acme", "*"), plain("acme", "*")
	ordered.ID, ordered.Status, ordered.Ordering = uuid.Must(uuid.NewV7()), Active, &Ordering{Key: "event.data.order", OnDead: StopOnDead}
	any.ID, any.Status = uuid.Must(uuid.NewV7()), Active
	d.known.apply(rowOf(ordered))
	d.known.apply(rowOf(any))
	e := orderEvent()
	e.Data = []byte(`{"order":7}`)
	to := d.MatchIDs(e)
	if len(to.IDs) != 1 || to.IDs[0] != any.ID || len(to.Ordered) != 1 || to.Ordered[0] != (InOrder{ordered.ID, "7"}) {
		t.Errorf("with a key: got %+v", to)
	}
	e = orderEvent()
	e.Data = []byte(`{}`)
	if to := d.MatchIDs(e); len(to.IDs) != 2 || to.Ordered != nil || to.Unkeyed != 1 {
		t.Errorf("without a key: got %+v", to)
	}
	if key, ok := d.OrderingKey(e, any); ok {
		t.Errorf("a subscription without an order has the key %q", key)
	}
}
