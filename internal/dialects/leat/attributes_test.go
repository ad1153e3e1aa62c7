package leat

import (
	"slices"
	"testing"

	"github.com/fanfarehq/fanfare/subscriptions"
)

// Attributes come back as they were sent; only contact_updated matches by them.
func TestAttributes(t *testing.T) {
	t.Parallel()
	for _, list := range [][]string{nil, {"email"}, {"a,b", `"c"`, ""}} {
		for _, eventType := range []string{contactUpdated, "voucher_created"} {
			before := map[string]string{"theirs": "1"}
			s := &subscriptions.Subscription{EventTypes: []string{eventType}, Metadata: before}
			setAttributes(s, []string{"earlier"})
			setAttributes(s, list)
			if got := attributes(s); !slices.Equal(got, list) {
				t.Errorf("%s: got %q, want %q", eventType, got, list)
			}
			if matches := len(s.Changed) > 0; matches != (eventType == contactUpdated && len(list) > 0) {
				t.Errorf("%s: matches by %q", eventType, s.Changed)
			}
			if len(before) != 1 || s.Metadata["theirs"] != "1" {
				t.Errorf("%s: the metadata of others: %v, %v", eventType, before, s.Metadata)
			}
		}
	}
	if got := attributes(&subscriptions.Subscription{EventTypes: []string{"voucher_created"}, Metadata: map[string]string{attributesKey: "no JSON"}}); got != nil {
		t.Errorf("got %q", got)
	}
}
