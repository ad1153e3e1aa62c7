package subscriptions_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/internal/egress"
	"github.com/fanfarehq/fanfare/subscriptions"
)

// judge saves subscriptions by a policy without exceptions.
type judge struct{ store *subscriptions.Store }

func newJudge(t *testing.T) judge {
	b := setup(t)
	return judge{subscriptions.New(b.db, b.ring, egress.Policy{})}
}

// faults saves a subscription that is fine except for what change does, and returns the fields that are wrong.
func (j judge) faults(t *testing.T, change func(*subscriptions.Subscription)) []string {
	t.Helper()
	s := plain("acme", "a")
	change(s)
	err := j.store.Create(t.Context(), s)
	var bad *subscriptions.Invalid
	if !errors.As(err, &bad) {
		if err != nil {
			t.Errorf("%+v: %v", s, err)
		}
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
	j := newJudge(t)
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		want   string // the field that is wrong; empty: none
		change func(*subscriptions.Subscription)
	}{
		{"", func(*subscriptions.Subscription) {}},
		{"tenant", func(s *subscriptions.Subscription) { s.Tenant = "" }},
		{"", func(s *subscriptions.Subscription) { s.Name = "" }},
		{"name", func(s *subscriptions.Subscription) { s.Name = "a\nb" }},
		{"name", func(s *subscriptions.Subscription) { s.Name = "\xff" }},
		{"name", func(s *subscriptions.Subscription) { s.Name = long(201) }},
		{"", func(s *subscriptions.Subscription) { s.Name = strings.Repeat("é", 200) }},
		{"", func(s *subscriptions.Subscription) { s.Name = "<svg onload=alert(1)>" }}, // text, escaped where it is shown
		{"description", func(s *subscriptions.Subscription) { s.Description = "a\x00b" }},
		{"description", func(s *subscriptions.Subscription) { s.Description = long(2001) }},
		{"", func(s *subscriptions.Subscription) { s.Description = "a\nb" }},
		{"url", func(s *subscriptions.Subscription) { s.URL = "" }},
		{"event_types", func(s *subscriptions.Subscription) { s.EventTypes = nil }},
		{"event_types", func(s *subscriptions.Subscription) {
			s.EventTypes = nil
			for i := range 101 {
				s.EventTypes = append(s.EventTypes, fmt.Sprint("t", i))
			}
		}},
		{"event_types[1]", func(s *subscriptions.Subscription) { s.EventTypes = []string{"a", "**"} }},
		{"event_types[0]", func(s *subscriptions.Subscription) { s.EventTypes = []string{long(129)} }},
		{"resource_id", func(s *subscriptions.Subscription) { s.ResourceID = long(257) }},
		{"resource_id", func(s *subscriptions.Subscription) { s.ResourceID = "a\x1fb" }},
		{"changed[0]", func(s *subscriptions.Subscription) { s.Changed = []string{""} }},
		{"changed[1]", func(s *subscriptions.Subscription) { s.Changed = []string{"a", "b\x1fc"} }},
		{"changed", func(s *subscriptions.Subscription) {
			for i := range 101 {
				s.Changed = append(s.Changed, fmt.Sprint(i))
			}
		}},
		{"filter", func(s *subscriptions.Subscription) { s.Filter = "event.data.total >" }},
		{"filter", func(s *subscriptions.Subscription) { s.Filter = long(5000) }},
		{"payload_format", func(s *subscriptions.Subscription) { s.PayloadFormat = "xml" }},
		{"", func(s *subscriptions.Subscription) { s.PayloadFormat = "leat" }},
		{"retry.schedule[1]", func(s *subscriptions.Subscription) { s.Retry.Schedule = []time.Duration{time.Second, 0} }},
		{"retry.schedule[0]", func(s *subscriptions.Subscription) {
			s.Retry.Schedule = []time.Duration{7*24*time.Hour + time.Millisecond}
		}},
		{"retry.schedule[0]", func(s *subscriptions.Subscription) { s.Retry.Schedule = []time.Duration{1500 * time.Microsecond} }},
		{"", func(s *subscriptions.Subscription) {
			s.Retry.Schedule = []time.Duration{time.Millisecond, 7 * 24 * time.Hour}
		}},
		{"retry.schedule", func(s *subscriptions.Subscription) {
			s.Retry.Schedule = slices.Repeat([]time.Duration{time.Second}, 101)
		}},
		{"retry.max_retries", func(s *subscriptions.Subscription) { s.Retry.MaxRetries = new(-1) }},
		{"retry.max_retries", func(s *subscriptions.Subscription) { s.Retry.MaxRetries = new(101) }},
		{"", func(s *subscriptions.Subscription) { s.Retry.MaxRetries = new(0) }},
		{"timeout", func(s *subscriptions.Subscription) { s.Timeout = 999 * time.Millisecond }},
		{"timeout", func(s *subscriptions.Subscription) { s.Timeout = 31 * time.Second }},
		{"", func(s *subscriptions.Subscription) { s.Timeout = time.Second }},
		{"max_in_flight", func(s *subscriptions.Subscription) { s.MaxInFlight = 1001 }},
		{"max_in_flight", func(s *subscriptions.Subscription) { s.MaxInFlight = -1 }},
		{"rate_limit.limit", func(s *subscriptions.Subscription) { s.RateLimit = &subscriptions.RateLimit{Per: time.Second} }},
		{"rate_limit.per", func(s *subscriptions.Subscription) { s.RateLimit = &subscriptions.RateLimit{Limit: 1} }},
		{"rate_limit", func(s *subscriptions.Subscription) {
			s.RateLimit = &subscriptions.RateLimit{Limit: 1001, Per: time.Second}
		}},
		{"rate_limit", func(s *subscriptions.Subscription) {
			s.RateLimit = &subscriptions.RateLimit{Limit: 1, Per: 61 * time.Second}
		}},
		{"", func(s *subscriptions.Subscription) {
			s.RateLimit = &subscriptions.RateLimit{Limit: 1000, Per: time.Second}
		}},
		{"", func(s *subscriptions.Subscription) {
			s.RateLimit = &subscriptions.RateLimit{Limit: 1, Per: time.Minute}
		}},
		{"", func(s *subscriptions.Subscription) { s.Ordering = &subscriptions.Ordering{Key: "event.data.order"} }},
		{"ordering.key", func(s *subscriptions.Subscription) { s.Ordering = &subscriptions.Ordering{} }},
		{"ordering.key", func(s *subscriptions.Subscription) { s.Ordering = &subscriptions.Ordering{Key: "event.changed"} }},
		{"ordering.on_dead", func(s *subscriptions.Subscription) {
			s.Ordering = &subscriptions.Ordering{Key: "event.id", OnDead: "wait"}
		}},
		{"signing", func(s *subscriptions.Subscription) { s.Signing = "rsa" }},
		{"secret", func(s *subscriptions.Subscription) { s.Secrets = []subscriptions.Secret{{Value: "short"}} }},
		{"secret", func(s *subscriptions.Subscription) {
			s.Dialect, s.Secrets = subscriptions.Leat, []subscriptions.Secret{{Value: long(1025)}}
		}},
		{"", func(s *subscriptions.Subscription) {
			s.Dialect, s.Secrets = subscriptions.Leat, []subscriptions.Secret{{Value: "any"}}
		}},
		{"status", func(s *subscriptions.Subscription) { s.Status = "on" }},
		{"version", func(s *subscriptions.Subscription) { s.Version = "V2" }},
		{"metadata", func(s *subscriptions.Subscription) { s.Metadata = map[string]string{"": "x"} }},
		{"metadata", func(s *subscriptions.Subscription) { s.Metadata = map[string]string{long(129): "x"} }},
		{"metadata.k", func(s *subscriptions.Subscription) { s.Metadata = map[string]string{"k": long(1025)} }},
		{"metadata.k", func(s *subscriptions.Subscription) { s.Metadata = map[string]string{"k": "\x00"} }},
		{"metadata", func(s *subscriptions.Subscription) {
			s.Metadata = map[string]string{}
			for i := range 51 {
				s.Metadata[fmt.Sprint(i)] = ""
			}
		}},
		{"", func(s *subscriptions.Subscription) { s.Dialect, s.EventTypes, s.Name = subscriptions.Passona, nil, "" }},
	}
	for i, tt := range tests {
		got := j.faults(t, tt.change)
		if tt.want == "" && got != nil || tt.want != "" && !slices.Equal(got, []string{tt.want}) {
			t.Errorf("%d: got %v, want %q", i, got, tt.want)
		}
	}
}

// The URL is judged by the same policy that the dialer has; here are the forms that are refused on save.
func TestURLsAreJudged(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
	for _, url := range []string{
		"http://[::]/", "http://[::ffff:127.0.0.1]/", "http://0/", "http://0x7f.1/", "http://2130706433/", "http://①②⑦.⓪.⓪.①/",
		"http://１２７.0.0.1/", "https://user:pw@example.com/", "https://example.com#x", "https://example.com:0/", "https://example.com:99999/",
		"http://example.com:22/", "http://[fe80::1%25eth0]/", "http://exa mple.com/", "https://example.com\\@evil.example/", "ftp://example.com/",
		"//example.com/", "https://", "http://localhost/", "http://169.254.169.254/latest/", "https://example.com/" + strings.Repeat("x", 3000), "http://10.0.0.1/",
	} {
		if got := j.faults(t, func(s *subscriptions.Subscription) { s.URL = url }); !slices.Equal(got, []string{"url"}) {
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
		if err := j.store.Create(t.Context(), s); err != nil || s.URL != want {
			t.Errorf("%s: got %s, %v; want %s", given, s.URL, err, want)
		}
	}
}

// Headers that could not be sent, or would change the request's meaning, are refused on save.
func TestHeadersAreJudged(t *testing.T) {
	t.Parallel()
	j := newJudge(t)
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
		got := j.faults(t, func(s *subscriptions.Subscription) { s.Headers = headers })
		if len(got) == 0 || !strings.HasPrefix(got[0], "headers") {
			t.Errorf("%.80v: got %v", headers, got)
		}
	}
	for _, headers := range []map[string]string{
		{"Authorization": "Bearer x"}, {"X-Env": ""}, {"Content-Type": "application/x+json"}, {"x_y.z~": "a\tb ~"}, {"Accept": "*/*"},
	} {
		if got := j.faults(t, func(s *subscriptions.Subscription) { s.Headers = headers }); got != nil {
			t.Errorf("%v: got %v", headers, got)
		}
	}
}

// Durations are shown as they are written, without the zeroes of time.Duration.
func TestDurations(t *testing.T) {
	t.Parallel()
	s := serve(t)
	fine := []string{"5s", "5m", "2h", "24h", "1h30m", "7d", "250ms", "1m5s", "1h0m5s", "49h"}
	schedule := func(texts ...string) string { return with("retry", `{"schedule":["`+strings.Join(texts, `","`)+`"]}`) }
	id, made := s.post(t, "acme", schedule(fine...))
	if got := fmt.Sprint(made.body["retry"].(map[string]any)["schedule"]); got != fmt.Sprint(fine) {
		t.Errorf("%s is written %s", fine, got)
	}
	s.fresh(t)
	want := []time.Duration{
		5 * time.Second, 5 * time.Minute, 2 * time.Hour, 24 * time.Hour, 90 * time.Minute, 7 * 24 * time.Hour, 250 * time.Millisecond,
		65 * time.Second, time.Hour + 5*time.Second, 49 * time.Hour,
	}
	if known, ok := s.dir.Get(uuid.MustParse(id)); !ok || !slices.Equal(known.Retry.Schedule, want) {
		t.Errorf("read as %s, want %s", known.Retry.Schedule, want)
	}
	for _, text := range []string{"", "5", "x", "1w", "d", "-", "99999999999d", "1e9s"} {
		r := s.want(t, 422, "acme POST /v1/subscriptions", schedule("1s", text))
		if r.locations() != "body.retry.schedule[1]" || !strings.Contains(r.text, "must be a duration like") {
			t.Errorf("%q: got %s", text, r.text)
		}
	}
}
