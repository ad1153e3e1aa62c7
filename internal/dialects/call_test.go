package dialects

import (
	"crypto/tls"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestPageOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query string
		total int
		want  Page
	}{
		{"", 0, Page{1, 10, 0, 0, 1}},
		{"", 25, Page{1, 10, 0, 10, 3}},
		{"page=3", 25, Page{3, 10, 20, 25, 3}},
		{"page=4", 25, Page{4, 10, 25, 25, 3}},
		{"page=2&size=25", 25, Page{2, 25, 25, 25, 1}},
		{"page=1&size=1000", 25, Page{1, 50, 0, 25, 1}},
		{"page=0&size=0", 25, Page{1, 10, 0, 10, 3}},
		{"page=-1&size=x", 25, Page{1, 10, 0, 10, 3}},
		{"page=99999999999999999999", 25, Page{1, 10, 0, 10, 3}},
		{fmt.Sprint("page=", math.MaxInt), 25, Page{math.MaxInt, 10, 25, 25, 3}},
	} {
		c := &Call{R: httptest.NewRequest(http.MethodGet, "/?"+test.query, nil)}
		got := c.PageOf(test.total, Param{Name: "page", Standard: 1}, Param{Name: "size", Standard: 10, Most: 50})
		if got != test.want {
			t.Errorf("%s of %d: got %+v, want %+v", test.query, test.total, got, test.want)
		}
	}
}

func TestBase(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		header map[string]string
		tls    bool
		want   string
	}{
		{nil, false, "http://fanfare.test:8080"},
		{nil, true, "https://fanfare.test:8080"},
		{map[string]string{"X-Forwarded-Proto": "HTTPS"}, false, "https://fanfare.test:8080"},
		{map[string]string{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "passona.co.uk"}, false, "https://passona.co.uk"},
		{map[string]string{"X-Forwarded-Host": "evil.test/x"}, false, "http://fanfare.test:8080"},
		{map[string]string{"X-Forwarded-Host": "a.test, b.test"}, false, "http://fanfare.test:8080"},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://fanfare.test:8080/", nil)
		for name, value := range test.header {
			r.Header.Set(name, value)
		}
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		if got := (&Call{R: r}).Base(); got != test.want {
			t.Errorf("%v: got %s, want %s", test.header, got, test.want)
		}
	}
}

func TestPathIDs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a": true, "0198C0DE-7A3C-7000-8000-5F1E2D3C4B5A": true,
		"0198c0de7a3c700080005f1e2d3c4b5a": false, "{0198c0de-7a3c-7000-8000-5f1e2d3c4b5a}": false,
		"urn:uuid:0198c0de-7a3c-7000-8000-5f1e2d3c4b5a": false, "f3357bfe-fb20-11e9-93ef-0242ac120008ds": false, "": false, "7": false,
	} {
		if _, ok := (&Call{params: map[string]string{"id": text}}).UUID("id"); ok != want {
			t.Errorf("%s: %v", text, ok)
		}
	}
	for text, want := range map[string]bool{"7": true, "-7": true, "9223372036854775807": true, "9223372036854775808": false, "7x": false, "": false, "1e3": false, "0x10": false} {
		if _, ok := (&Call{params: map[string]string{"id": text}}).Number("id"); ok != want {
			t.Errorf("%s: %v", text, ok)
		}
	}
}

func TestPathOfFields(t *testing.T) {
	t.Parallel()
	for field, want := range map[string][]string{
		"url": {"url"}, "event_types[1]": {"event_types", "1"}, "headers.X-Env.v2": {"headers", "X-Env.v2"},
		"metadata.a[0]": {"metadata", "a[0]"}, "retry.schedule[0]": {"retry", "schedule[0]"},
	} {
		if got := path(field); !slices.Equal(got, want) {
			t.Errorf("%s: got %v", field, got)
		}
	}
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		before subscriptions.Status
		active bool
		after  subscriptions.Status
	}{
		{subscriptions.Active, true, subscriptions.Active}, {subscriptions.Active, false, subscriptions.Disabled},
		{subscriptions.Paused, true, subscriptions.Active}, {subscriptions.Paused, false, subscriptions.Paused},
		{subscriptions.Disabled, true, subscriptions.Active}, {subscriptions.Disabled, false, subscriptions.Disabled},
	} {
		s := &subscriptions.Subscription{Status: test.before, DisabledReason: "gone"}
		Switch(s, test.active)
		if s.Status != test.after || test.active && s.DisabledReason != "" || !test.active && test.before == subscriptions.Disabled && s.DisabledReason != "gone" {
			t.Errorf("%s, %v: got %s (%s)", test.before, test.active, s.Status, s.DisabledReason)
		}
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	c := &Call{Caller: api.Caller{Scopes: []string{"events:read"}}}
	if c.Require(ReadEvents) != nil || c.RequireScope("events:read") != nil || c.Require(ReadDeliveries) == nil {
		t.Error("scopes")
	}
	c.Caller = api.Caller{Admin: true}
	if c.RequireScope("anything") != nil {
		t.Error("an admin key lacks a scope")
	}
}
