package vendors_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/webhook"
	"github.com/fanfarehq/fanfare/internal/dialects/vendors"
	"github.com/fanfarehq/fanfare/internal/event"
	"github.com/fanfarehq/fanfare/subscriptions"
)

func format(t *testing.T, name string) webhook.Format {
	t.Helper()
	for _, f := range vendors.Formats(vendors.DefaultConfig()) {
		if f.Name == name {
			return f
		}
	}
	t.Fatalf("no format %s", name)
	panic("unreachable")
}

// The data that was published is in each vendor's body to the byte: no number, space or key is written anew.
func TestFormatsKeepData(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`{"b":1.50,"a":1e3, "c":"<é\u00e9>"}`, `[1, 2]`, ` {"a":1} `, `"text"`, `null`, `12345678901234567890`} {
		e := &event.Event{ID: "evt_1", Type: "tag_added", ObjectID: `o"1\`, Data: []byte(data)}
		list := data
		if !strings.HasPrefix(strings.TrimSpace(data), "[") {
			list = "[" + data + "]"
		}
		for name, want := range map[string]string{
			"leat":     `{"type":"tag_added","data":` + data + `}`,
			"kajabi":   `{"id":"o\"1\\","event":"tag_added","payload":` + list + `}`,
			"passona":  data,
			"babelfor": data,
		} {
			f := format(t, name)
			for range 2 { // the same bytes whenever they are asked for
				if got, err := f.Body(e); string(got) != want || err != nil {
					t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
				}
			}
			if f.ContentType != "application/json" {
				t.Errorf("%s: %s", name, f.ContentType)
			}
		}
	}
	for _, f := range vendors.Formats(vendors.DefaultConfig()) {
		if got, err := f.Body(&event.Event{Type: "a"}); err == nil {
			t.Errorf("%s makes %q of nothing", f.Name, got)
		}
	}
}

// Vectors by openssl: printf '{"a":1}' | openssl dgst -sha256 -hmac 's3cret'.
func TestFormatsSign(t *testing.T) {
	t.Parallel()
	m := webhook.Message{Event: &event.Event{ID: "evt_1", Type: "a"}, Body: []byte(`{"a":1}`)}
	const want = "5910e62016ef5034272c926c27071992a465c2335cecf41851bda071577f4f6d"
	for _, test := range []struct {
		format  string
		secrets []subscriptions.Secret
		header  http.Header
	}{
		{"leat", []subscriptions.Secret{{Value: "s3cret"}}, http.Header{"X-Piggy-Signature": {want}, "X-Piggy-Event": {"a"}}},
		{"leat", nil, http.Header{"X-Piggy-Event": {"a"}}},
		{"kajabi", []subscriptions.Secret{{Value: "s3cret"}}, http.Header{}},
		{"passona", nil, http.Header{}},
		// Of a secret that was rotated natively the newest alone signs: no vendor's client looks for two.
		{"babelfor", []subscriptions.Secret{{Value: "s3cret"}, {Value: "old"}}, http.Header{
			"X-Webhook-Signature": {"sha256=" + want}, "X-Webhook-Event": {"a"}, "X-Webhook-Id": {"evt_1"},
		}},
		{"babelfor", nil, http.Header{"X-Webhook-Event": {"a"}, "X-Webhook-Id": {"evt_1"}}},
	} {
		signer, err := format(t, test.format).Signer(test.secrets)
		if err != nil {
			t.Fatal(err)
		}
		header := http.Header{}
		if err := signer.Sign(header, m); err != nil {
			t.Fatal(err)
		}
		if len(header) != len(test.header) {
			t.Errorf("%s: got %v, want %v", test.format, header, test.header)
		}
		// What is shown of the request has the same headers, without the signature.
		sub := &subscriptions.Subscription{Dialect: test.format, PayloadFormat: test.format}
		shown, err := webhook.NewRequests(vendors.Formats(vendors.DefaultConfig())).Headers(subscriptions.Sent{Subscription: sub, Signed: len(test.secrets) > 0}, m)
		if err != nil || len(shown) != len(test.header)+2 || shown["Content-Type"] == "" || shown["User-Agent"] == "" {
			t.Errorf("%s: shown are %v, error %v, sent %v", test.format, shown, err, header)
		}
		for name, values := range test.header {
			if !slices.Equal(header[name], values) {
				t.Errorf("%s: %s is %v, want %v", test.format, name, header[name], values)
			}
			if value := shown[name]; value != values[0] && (value != "***" || !strings.Contains(name, "Signature")) {
				t.Errorf("%s: %s is shown as %q", test.format, name, value)
			}
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	if err := vendors.DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*vendors.Config){
		"FANFARE_DIALECTS":                  func(c *vendors.Config) { c.Dialects = []string{"leat", "svix"} },
		"nor off alone":                     func(c *vendors.Config) { c.Dialects = []string{"leat", "off"} },
		"FANFARE_LEAT_EVENT_TYPES":          func(c *vendors.Config) { c.EventTypes = []string{"a b"} },
		"FANFARE_PASSONA_EVENT_TYPE":        func(c *vendors.Config) { c.EventType = "order.*" },
		"FANFARE_BABELFOR_SIGNATURE_HEADER": func(c *vendors.Config) { c.SignatureHeader = "" },
		"FANFARE_BABELFOR_EVENT_HEADER":     func(c *vendors.Config) { c.EventHeader = "a b" },
		"FANFARE_BABELFOR_ID_HEADER":        func(c *vendors.Config) { c.IDHeader = "a:" },
	} {
		c := vendors.DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	for _, test := range []struct {
		set        []string
		everything bool
		want       string
	}{
		{nil, true, "leat kajabi passona babelfor"}, {nil, false, ""}, {[]string{"off"}, true, ""}, {[]string{"kajabi"}, true, "kajabi"},
		{[]string{"kajabi", "leat"}, false, "kajabi leat"}, {[]string{" kajabi", "leat ", "kajabi"}, true, "kajabi leat"},
	} {
		c := vendors.DefaultConfig()
		c.Dialects = test.set
		if got := strings.Join(c.Names(test.everything), " "); got != test.want || c.Validate() != nil {
			t.Errorf("%v: got %q, %v", test.set, got, c.Validate())
		}
	}
}

// A type that the deployment offers beside the vendor's.
func TestLeatEventTypesOfTheDeployment(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(h *house) { h.cfg.EventTypes = []string{"voucher_deleted"} })
	_, key := h.key("acme", allScopes)
	h.call(key, "POST /api/webhook-subscriptions", `{"name":"a","event_type":"voucher_deleted","url":"https://example.com/"}`).decode(t, http.StatusOK, nil)
	h.call(key, "GET /api/webhook-subscriptions?event_type=voucher_deleted", "").decode(t, http.StatusOK, nil)
}
