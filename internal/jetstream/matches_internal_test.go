// A filter is compared with subjects without a broker, which would take a consumer for each case.

package jetstream

import "testing"

func TestMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		filter, subject string
		want            bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a.b", false},
		{"a.b", "a", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{"a.>", "ab.c", false},
		{"a.*", "a.b", true},
		{"a.*", "a.b.c", false},
		{"a.*", "a", false},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{"*.*", "a.b", true},
		{">", "a", true},
		{">", "", false},
		{"a.*", "a.", false},
	}
	for _, tt := range tests {
		if got := matches(tt.filter, tt.subject); got != tt.want {
			t.Errorf("%s of %s: got %t, want %t", tt.subject, tt.filter, got, tt.want)
		}
	}
}
