package outcome_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/deliver/outcome"
	"github.com/fanfarehq/fanfare/internal/egress"
)

// The words are the API's, all of them, each once.
func TestReasonsAreTheAPIs(t *testing.T) {
	t.Parallel()
	want := strings.Fields(`ok http_3xx http_4xx http_5xx gone timeout connect tls dns blocked reset protocol
		rate_limited busy breaker_open paused retry_after subscription_disabled subscription_deleted expired
		key_blocked config cancelled key`)
	var got []string
	for _, reason := range outcome.Reasons() {
		got = append(got, reason.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

// What the guarded client calls its failures are reasons.
func TestClassesAreReasons(t *testing.T) {
	t.Parallel()
	for _, class := range []egress.Class{
		egress.Blocked, egress.DNS, egress.Connect, egress.TLS, egress.Timeout, egress.Reset, egress.Protocol, egress.Cancelled,
	} {
		if !slices.Contains(outcome.Reasons(), outcome.Reason(class)) {
			t.Errorf("%s is no reason", class)
		}
	}
}
