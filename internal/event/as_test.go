package event_test

import (
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
)

// Rows that were written before the source of a CloudEvent was a part of its identity are found by the key that they have.
func TestAs(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	cloud := &event.Event{
		ID: event.CloudID("/shop", "1"), Tenant: "acme", AcceptedAt: at, Cloud: &event.Cloud{ID: "1", Source: "/shop"}, Data: []byte(`{"n":1}`),
	}
	cloud.UID = event.UID(cloud.Tenant, cloud.ID, at)
	plain := &event.Event{ID: "1", Tenant: "acme", AcceptedAt: at, UID: event.UID("acme", "1", at)}
	former := event.UID("acme", "1", at)
	for _, tt := range []struct {
		name string
		e    *event.Event
		uid  [16]byte
		id   string // empty: it is another event's key
	}{
		{"its key", cloud, cloud.UID, cloud.ID},
		{"its former key", cloud, former, "1"},
		{"the former key of another tenant", cloud, event.UID("globex", "1", at), ""},
		{"the former key of another time", cloud, event.UID("acme", "1", at.Add(time.Second)), ""},
		{"the key of another source", cloud, event.UID("acme", event.CloudID("/till", "1"), at), ""},
		{"no CloudEvent", plain, former, "1"},
		{"no CloudEvent, another key", plain, cloud.UID, ""},
	} {
		got := tt.e.As(tt.uid)
		switch {
		case got == nil:
			if tt.id != "" {
				t.Errorf("%s: not found", tt.name)
			}
		case got.ID != tt.id || got.UID != tt.uid || string(got.Data) != string(tt.e.Data):
			t.Errorf("%s: got %s, %s, want %s", tt.name, got.ID, got.UID, tt.id)
		}
	}
	if cloud.ID == "1" {
		t.Error("the event itself was changed")
	}
}
