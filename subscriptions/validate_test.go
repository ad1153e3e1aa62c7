package subscriptions

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/egress"
)

// faults judges a subscription that is fine but for what change does, and returns the fields that are wrong.
func faults(change func(*Subscription)) []string {
	s := plain("acme", "a")
	change(s)
	s.fill()
	var bad *Invalid
	if !errors.As(New(nil, nil, egress.Policy{}).validate(s), &bad) {
		return nil
	}
	var fields []string
	for _, f := range bad.Faults {
		fields = append(fields, f.Field)
	}
	return slices.Compact(fields)
}

func TestFieldsAreJudged(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		want   string // the field that is wrong; empty: none
		change func(*Subscription)
	}{
		{"", func(*Subscription) {}},
		{"tenant", func(s *Subscription) { s.Tenant = "" }},
		{"", func(s *Subscription) { s.Name = "" }},
		{"name", func(s *Subscription) { s.Name = "a\nb" }},
		{"name", func(s *Subscription) { s.Name = "\xff" }},
		{"name", func(s *Subscription) { s.Name = long(201) }},
		{"", func(s *Subscription) { s.Name = strings.Repeat("é", 200) }},
		{"", func(s *Subscription) { s.Name = "<svg onload=alert(1)>" }}, // text, escaped where it is shown
		{"description", func(s *Subscription) { s.Description = "a\x00b" }},
		{"description", func(s *Subscription) { s.Description = long(2001) }},
		{"", func(s *Subscription) { s.Description = "a\nb" }},
		{"url", func(s *Subscription) { s.URL = "" }},
		{"event_types", func(s *Subscription) { s.EventTypes = nil }},
		{"event_types", func(s *Subscription) {
			s.EventTypes = nil
			for i := range 101 {
				s.EventTypes = append(s.EventTypes, fmt.Sprint("t", i))
			}
		}},
		{"event_types[1]", func(s *Subscription) { s.EventTypes = []string{"a", "**"} }},
		{"event_types[0]", func(s *Subscription) { s.EventTypes = []string{long(129)} }},
		{"resource_id", func(s *Subscription) { s.ResourceID = long(257) }},
		{"resource_id", func(s *Subscription) { s.ResourceID = "a\x1fb" }},
		{"changed[0]", func(s *Subscription) { s.Changed = []string{""} }},
		{"changed[1]", func(s *Subscription) { s.Changed = []string{"a", "b\x1fc"} }},
		{"changed", func(s *Subscription) {
			for i := range 101 {
				s.Changed = append(s.Changed, fmt.Sprint(i))
			}
		}},
		{"filter", func(s *Subscription) { s.Filter = "event.data.total >" }},
		{"filter", func(s *Subscription) { s.Filter = long(5000) }},
		{"payload_format", func(s *Subscription) { s.PayloadFormat = "xml" }},
		{"", func(s *Subscription) { s.PayloadFormat = "leat" }},
		{"retry.schedule[1]", func(s *Subscription) { s.Retry.Schedule = []time.Duration{time.Second, 0} }},
		{"retry.schedule[0]", func(s *Subscription) { s.Retry.Schedule = []time.Duration{7*24*time.Hour + time.Millisecond} }},
		{"retry.schedule[0]", func(s *Subscription) { s.Retry.Schedule = []time.Duration{1500 * time.Microsecond} }},
		{"", func(s *Subscription) { s.Retry.Schedule = []time.Duration{time.Millisecond, 7 * 24 * time.Hour} }},
		{"retry.schedule", func(s *Subscription) { s.Retry.Schedule = slices.Repeat([]time.Duration{time.Second}, 101) }},
		{"retry.max_retries", func(s *Subscription) { s.Retry.MaxRetries = new(-1) }},
		{"retry.max_retries", func(s *Subscription) { s.Retry.MaxRetries = new(101) }},
		{"", func(s *Subscription) { s.Retry.MaxRetries = new(0) }},
		{"timeout", func(s *Subscription) { s.Timeout = 999 * time.Millisecond }},
		{"timeout", func(s *Subscription) { s.Timeout = 31 * time.Second }},
		{"", func(s *Subscription) { s.Timeout = time.Second }},
		{"max_in_flight", func(s *Subscription) { s.MaxInFlight = 1001 }},
		{"max_in_flight", func(s *Subscription) { s.MaxInFlight = -1 }},
		{"rate_limit.limit", func(s *Subscription) { s.RateLimit = &RateLimit{0, time.Second} }},
		{"rate_limit.per", func(s *Subscription) { s.RateLimit = &RateLimit{1, 0} }},
		{"rate_limit", func(s *Subscription) { s.RateLimit = &RateLimit{1001, time.Second} }},
		{"rate_limit", func(s *Subscription) { s.RateLimit = &RateLimit{1, 61 * time.Second} }},
		{"", func(s *Subscription) { s.RateLimit = &RateLimit{1000, time.Second} }},
		{"", func(s *Subscription) { s.RateLimit = &RateLimit{1, time.Minute} }},
		{"", func(s *Subscription) { s.Ordering = &Ordering{Key: "event.data.order"} }},
		{"ordering.key", func(s *Subscription) { s.Ordering = &Ordering{} }},
		{"ordering.key", func(s *Subscription) { s.Ordering = &Ordering{Key: "event.changed"} }},
		{"ordering.on_dead", func(s *Subscription) { s.Ordering = &Ordering{Key: "event.id", OnDead: "wait"} }},
		{"signing", func(s *Subscription) { s.Signing = "rsa" }},
		{"secret", func(s *Subscription) { s.Secrets = []Secret{{Value: "short"}} }},
		{"secret", func(s *Subscription) { s.Dialect, s.Secrets = Leat, []Secret{{Value: long(1025)}} }},
		{"", func(s *Subscription) { s.Dialect, s.Secrets = Leat, []Secret{{Value: "any"}} }},
		{"status", func(s *Subscription) { s.Status = "on" }},
		{"version", func(s *Subscription) { s.Version = "V2" }},
		{"metadata", func(s *Subscription) { s.Metadata = map[string]string{"": "x"} }},
		{"metadata", func(s *Subscription) { s.Metadata = map[string]string{long(129): "x"} }},
		{"metadata.k", func(s *Subscription) { s.Metadata = map[string]string{"k": long(1025)} }},
		{"metadata.k", func(s *Subscription) { s.Metadata = map[string]string{"k": "\x00"} }},
		{"metadata", func(s *Subscription) {
			s.Metadata = map[string]string{}
			for i := range 51 {
				s.Metadata[fmt.Sprint(i)] = ""
			}
		}},
		{"", func(s *Subscription) { s.Dialect, s.EventTypes, s.Name = Passona, nil, "" }},
	}
	for i, tt := range tests {
		got := faults(tt.change)
		if tt.want == "" && got != nil || tt.want != "" && !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%d: got %v, want %q", i, got, tt.want)
		}
	}
}

// F111: the URL is judged by the same policy that the dialer has; here are the forms that are refused on save.
func TestURLsAreJudged(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"http://[::]/", "http://[::ffff:127.0.0.1]/", "http://0/", "http://0x7f.1/", "http://2130706433/", "http://①②⑦.⓪.⓪.①/",
		"http://１２７.0.0.1/", "https://user:pw@example.com/", "https://example.com#x", "https://example.com:0/", "https://example.com:99999/",
		"http://example.com:22/", "http://[fe80::1%25eth0]/", "http://exa mple.com/", "https://example.com\\@evil.example/", "ftp://example.com/",
		"//example.com/", "https://", "http://localhost/", "http://169.254.169.254/latest/", "https://example.com/" + strings.Repeat("x", 3000), "http://10.0.0.1/",
	} {
		if got := faults(func(s *Subscription) { s.URL = url }); !slices.Equal(got, []string{"url"}) {
			t.Errorf("%.80s: got %v", url, got)
		}
	}
	for given, want := range map[string]string{
		"https://Example.com/Path?Q=%41": "https://example.com/Path?Q=%41",
		"https://example.com/a%2Fb/ü":    "https://example.com/a%2Fb/ü",
		"https://bücher.example/":        "https://xn--bcher-kva.example/",
	} {
		s := plain("acme", "a")
		s.URL = given
		s.fill()
		if err := New(nil, nil, egress.Policy{}).validate(s); err != nil || s.URL != want {
			t.Errorf("%s: got %s, %v; want %s", given, s.URL, err, want)
		}
	}
}

// F108, F109: what could not be sent, or would change the request's meaning, is refused on save.
func TestHeadersAreJudged(t *testing.T) {
	t.Parallel()
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("X-", i)] = "x"
	}
	big := map[string]string{}
	for i := range 5 {
		big[fmt.Sprint("X-", i)] = strings.Repeat("x", 4000)
	}
	refused := []map[string]string{
		many, big, {"": "x"}, {"X Y": "x"}, {"X:Y": "x"}, {"X\r\nY": "x"}, {"Ünï": "x"}, {strings.Repeat("x", 129): "x"}, {":path": "x"},
		{"X-A": "a\r\nb"}, {"X-A": "a\x00"}, {"X-A": "ü"}, {"X-A": "\x7f"}, {"X-A": " x"}, {"X-A": "x\t"}, {"X-A": strings.Repeat("x", 8<<10)},
		{"X-A": "1", "x-a": "2"},
	}
	for _, name := range []string{
		"Host", "content-length", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "TE", "Trailer", "Expect", "Proxy-Authorization",
		"webhook-id", "Webhook-Signature", "WEBHOOK-TIMESTAMP", "Idempotency-Key", "X-Idempotency-Key", "User-Agent", "Content-Encoding",
		"Accept-Encoding", "traceparent", "ce-id", "HTTP2-Settings",
	} {
		refused = append(refused, map[string]string{name: "x"})
	}
	for _, headers := range refused {
		got := faults(func(s *Subscription) { s.Headers = headers })
		if len(got) == 0 || !strings.HasPrefix(got[0], "headers") {
			t.Errorf("%.80v: got %v", headers, got)
		}
	}
	for _, headers := range []map[string]string{
		{"Authorization": "Bearer x"}, {"X-Env": ""}, {"Content-Type": "application/x+json"}, {"x_y.z~": "a\tb ~"}, {"Accept": "*/*"},
	} {
		if got := faults(func(s *Subscription) { s.Headers = headers }); got != nil {
			t.Errorf("%v: got %v", headers, got)
		}
	}
}

func TestDurations(t *testing.T) {
	t.Parallel()
	for text, d := range map[string]time.Duration{
		"5s": 5 * time.Second, "5m": 5 * time.Minute, "2h": 2 * time.Hour, "24h": 24 * time.Hour, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour,
		"250ms": 250 * time.Millisecond, "1m5s": 65 * time.Second, "0s": 0, "1h0m5s": time.Hour + 5*time.Second, "49h": 49 * time.Hour,
	} {
		if got := formatDuration(d); got != text {
			t.Errorf("%s is written %s", text, got)
		}
		if got, err := parseDuration(text); err != nil || got != d {
			t.Errorf("%s is read as %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "x", "1w", "d", "-", "99999999999d", "1e9s"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q is read as %s", text, got)
		}
	}
}
