package dialects_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/api"
	"github.com/fanfarehq/fanfare/internal/dialects"
	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestPageOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query string
		total int
		want  [5]int // number, size, from, to, last
	}{
		{"", 0, [5]int{1, 10, 0, 0, 1}},
		{"", 25, [5]int{1, 10, 0, 10, 3}},
		{"page=3", 25, [5]int{3, 10, 20, 25, 3}},
		{"page=4", 25, [5]int{4, 10, 25, 25, 3}},
		{"page=2&size=25", 25, [5]int{2, 25, 25, 25, 1}},
		{"page=1&size=1000", 25, [5]int{1, 50, 0, 25, 1}},
		{"page=0&size=0", 25, [5]int{1, 10, 0, 10, 3}},
		{"page=-1&size=x", 25, [5]int{1, 10, 0, 10, 3}},
		{"page=99999999999999999999", 25, [5]int{1, 10, 0, 10, 3}},
		{fmt.Sprint("page=", math.MaxInt), 25, [5]int{math.MaxInt, 10, 25, 25, 3}},
	} {
		c := &dialects.Call{R: httptest.NewRequest(http.MethodGet, "/?"+test.query, nil)}
		p := c.PageOf(test.total, dialects.Param{Name: "page", Standard: 1}, dialects.Param{Name: "size", Standard: 10, Most: 50})
		if got := [5]int{p.Number, p.Size, p.From, p.To, p.Last}; got != test.want {
			t.Errorf("%s of %d: got %v, want %v", test.query, test.total, got, test.want)
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
		if got := (&dialects.Call{R: r}).Base(); got != test.want {
			t.Errorf("%v: got %s, want %s", test.header, got, test.want)
		}
	}
}

func TestPathIDs(t *testing.T) {
	t.Parallel()
	var isUUID, isNumber bool
	v := newVendor(http.MethodGet, "/{id}", func(c *dialects.Call) error {
		_, isUUID = c.UUID("id")
		_, isNumber = c.Number("id")
		return nil
	})
	ask := func(id string) {
		isUUID, isNumber = false, false
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL = &url.URL{Path: "/" + id}
		if v.ServeHTTP(httptest.NewRecorder(), r); v.failed != nil {
			t.Fatalf("%s: %v", id, v.failed)
		}
	}
	for text, want := range map[string]bool{
		"0198c0de-7a3c-7000-8000-5f1e2d3c4b5a": true, "0198C0DE-7A3C-7000-8000-5F1E2D3C4B5A": true,
		"0198c0de7a3c700080005f1e2d3c4b5a": false, "{0198c0de-7a3c-7000-8000-5f1e2d3c4b5a}": false,
		"urn:uuid:0198c0de-7a3c-7000-8000-5f1e2d3c4b5a": false, "f3357bfe-fb20-11e9-93ef-0242ac120008ds": false, "": false, "7": false,
	} {
		if ask(text); isUUID != want {
			t.Errorf("%s is a UUID: %v", text, isUUID)
		}
	}
	for text, want := range map[string]bool{
		"7": true, "-7": true, "9223372036854775807": true, "9223372036854775808": false, "7x": false, "": false, "1e3": false, "0x10": false,
	} {
		if ask(text); isNumber != want {
			t.Errorf("%s is a number: %v", text, isNumber)
		}
	}
}

// A vendor names the fields that the store refused by their places in the native API.
func TestPlacesOfFields(t *testing.T) {
	t.Parallel()
	var places []string
	deps := dialects.Deps{Store: subscriptions.New(nil, nil, egress.Policy{})} // It refuses without a database.
	subs := deps.Subscriptions("leat", dialects.Words{Field: func(path []string) string {
		places = append(places, strings.Join(path, " / "))
		return path[0]
	}})
	wrong := &subscriptions.Subscription{
		Tenant: "acme", Dialect: "leat", EventTypes: []string{"a", "**"}, Headers: map[string]string{"X-Env.v2": "\x00"},
		Metadata: map[string]string{"a[0]": "\x00"}, Retry: subscriptions.Retry{Schedule: []time.Duration{0}},
	}
	c := &dialects.Call{R: httptest.NewRequest(http.MethodPut, "/", nil)}
	_, err := subs.Update(c, wrong, func(*subscriptions.Subscription) error { return nil })
	if failure, ok := errors.AsType[*dialects.Failure](err); !ok || failure.Status != http.StatusUnprocessableEntity {
		t.Errorf("got %v", err)
	}
	slices.Sort(places)
	if want := []string{"event_types / 1", "headers / X-Env.v2", "metadata / a[0]", "retry / schedule[0]", "url"}; !slices.Equal(places, want) {
		t.Errorf("got %q, want %q", places, want)
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
		dialects.Switch(s, test.active)
		if s.Status != test.after || test.active && s.DisabledReason != "" || !test.active && test.before == subscriptions.Disabled && s.DisabledReason != "gone" {
			t.Errorf("%s, %v: got %s (%s)", test.before, test.active, s.Status, s.DisabledReason)
		}
	}
}

func TestRequire(t *testing.T) {
	t.Parallel()
	c := &dialects.Call{Caller: api.Caller{Scopes: []string{"events:read"}}}
	if c.Require(dialects.ReadEvents) != nil || c.RequireScope("events:read") != nil || c.Require(dialects.ReadDeliveries) == nil {
		t.Error("scopes")
	}
	c.Caller = api.Caller{Admin: true}
	if c.RequireScope("anything") != nil {
		t.Error("an admin key lacks a scope")
	}
}
