package deliver

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// What is remembered is not read; what is asked for afterwards is the same event, once however often it is remembered.
func TestEventsThatAreRememberedAreNotRead(t *testing.T) {
	t.Parallel()
	reads := 0
	read := func(context.Context, uint64) (*Event, error) { reads++; return nil, ErrEventGone }
	events, err := NewEvents(EventsConfig{Read: read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &Event{UID: EventUID("acme", "evt_1", time.Unix(1, 0)), ID: "evt_1", Seq: 7, Data: []byte(`{"n":1}`)}
	events.Remember(e)
	again := *e
	events.Remember(&again)
	got, err := events.Get(t.Context(), e.UID, e.Seq)
	if err != nil || got != e || reads != 0 {
		t.Errorf("got %v, %v after %d reads; want the event that was remembered first, without any", got, err, reads)
	}
	if events.cache.Len() != 1 || events.bytes <= 0 {
		t.Errorf("%d events and %d bytes are kept, want 1 and its size", events.cache.Len(), events.bytes)
	}
}

// What is remembered stays within the bounds of memory: the oldest goes first.
func TestEventsRememberedAreBounded(t *testing.T) {
	t.Parallel()
	events, err := NewEvents(EventsConfig{CacheBytes: 64 << 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 1000 {
		id := fmt.Sprintf("evt_%d", n)
		events.Remember(&Event{UID: EventUID("acme", id, time.Unix(1, 0)), ID: id, Data: make([]byte, 1<<10)})
	}
	if events.bytes > 64<<10 || events.cache.Len() == 0 {
		t.Errorf("%d events of %d bytes are kept, want some, within 64 KiB", events.cache.Len(), events.bytes)
	}
}
