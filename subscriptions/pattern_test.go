package subscriptions_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/fanfarehq/fanfare/subscriptions"
)

func TestPatternTakes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, eventType string
		want               bool
	}{
		{"order.created", "order.created", true},
		{"order.created", "order", false},
		{"order.created", "order.created.twice", false},
		{"order", "order.created", false},
		{"order.*", "order.created", true},
		{"order.*", "order", false},
		{"order.*", "order.line.added", false},
		{"*.created", "order.created", true},
		{"*.created", "order.line.created", false},
		{"order.*.added", "order.line.added", true},
		{"order.>", "order.created", true},
		{"order.>", "order.line.added", true},
		{"order.>", "order", false},
		{"*.>", "order", false},
		{"*.>", "order.created", true},
		{"*", "order.line.added", true},
		{">", "order.line.added", true},
		{"*.*", "order", false},
		{"*.*", "order.created", true},
		{"Order.created", "order.created", false},
	}
	dir := subscriptions.NewDirectory(nil, nil, slog.New(slog.DiscardHandler))
	for _, tt := range tests {
		s := plain("acme", tt.pattern)
		s.Status = subscriptions.Active
		if got, _ := dir.Candidate(s).WouldByType("acme", tt.eventType); got != tt.want {
			t.Errorf("%s takes %s: got %t, want %t", tt.pattern, tt.eventType, got, tt.want)
		}
	}
}

func TestValidPattern(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"a", "a.b", "order_1.Created", "*", ">", "a.*", "*.a.*.b", "a.>", strings.Repeat("x", 128)} {
		if err := subscriptions.ValidPattern(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if err := subscriptions.ValidEventType(s); (err == nil) == strings.ContainsAny(s, "*>") {
			t.Errorf("event type %q: got %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "a.", ".a", "a..b", "a.>.b", ">.a", "**", "a*", "a.*b", "a b", "a\n", "é", "a,b", "a-b", strings.Repeat("x", 129)} {
		if subscriptions.ValidPattern(s) == nil || subscriptions.ValidEventType(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
