package filter_test

import (
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/subscriptions/filter"
)

// The key of an event is its value as text; an event without a value has no key.
func TestKeys(t *testing.T) {
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
		{`event.data.order`, `{"order":"` + strings.Repeat("x", filter.MaxKey+1) + `"}`, ""},
		{`event.type + "/" + event.data.order`, `{"order":"a"}`, "order.created/a"},
		{`has(event.data.order) ? event.data.order : "none"`, `{}`, "none"},
		{`event.time`, `{}`, "2026-11-20T10:00:00Z"},
		{`size(event.resource_ids)`, `{}`, "0"},
	} {
		k, err := filter.CompileKey(tt.source)
		if err != nil {
			t.Fatalf("%s: %v", tt.source, err)
		}
		e := orderEvent()
		e.Data, e.ResourceIDs = []byte(tt.data), nil
		got, err := k.Of(input(e))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s of %s: got %q, %v, want %q", tt.source, tt.data, got, err, tt.want)
		}
	}
}

func TestKeysRefusedOnSave(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		``:                           "is empty",
		`event.data.`:                "",
		`event.dta.order`:            "undefined field",
		`event.changed`:              "must be a text, a number, a time or boolean",
		`event.resource_ids == null`: "",
		`event.data.a.all(x, event.data.b.all(y, event.data.c.all(z, x == y && y == z)))`: "may cost too much",
		strings.Repeat("x", filter.MaxSource+1):                                           "is longer than",
	} {
		if _, err := filter.CompileKey(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", source, err, want)
		}
	}
}
