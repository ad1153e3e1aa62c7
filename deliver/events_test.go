package deliver

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/fanfarehq/fanfare/internal/event"
)

// What is remembered is not read; what is asked for afterwards is the same event, once however often it is remembered.
func TestEventsThatAreRememberedAreNotRead(t *testing.T) {
	t.Parallel()
	reads := 0
	read := func(context.Context, uint64) (*event.Event, error) { reads++; return nil, event.ErrGone }
	events, err := NewEvents(EventsConfig{Read: read}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &event.Event{UID: event.UID("acme", "evt_1", time.Unix(1, 0)), ID: "evt_1", Seq: 7, Data: []byte(`{"n":1}`)}
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
		events.Remember(&event.Event{UID: event.UID("acme", id, time.Unix(1, 0)), ID: id, Data: make([]byte, 1<<10)})
	}
	if events.bytes > 64<<10 || events.cache.Len() == 0 {
		t.Errorf("%d events of %d bytes are kept, want some, within 64 KiB", events.cache.Len(), events.bytes)
	}
}

// An event that is cached twice, by a reader and by a writer at the same time, counts once: the cache stays within its bound
// and keeps using all of it.
func TestEventsCachedTwiceCountOnce(t *testing.T) {
	t.Parallel()
	const bound, size = 64 << 10, 1 << 10
	stream := map[uint64]*event.Event{}
	gone := false
	var events *Events
	read := func(_ context.Context, seq uint64) (*event.Event, error) {
		if gone {
			return nil, context.Canceled
		}
		events.Remember(stream[seq]) // As fan-out does, while the read is under way.
		return stream[seq], nil
	}
	events, err := NewEvents(EventsConfig{Read: read, CacheBytes: bound}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(1000) {
		id := fmt.Sprintf("evt_%d", n)
		stream[n] = &event.Event{UID: event.UID("acme", id, time.Unix(1, 0)), ID: id, Seq: n, Data: make([]byte, size)}
		if _, err := events.Get(t.Context(), stream[n].UID, n); err != nil {
			t.Fatal(err)
		}
	}
	gone = true
	kept := 0
	for n, e := range stream {
		if _, err := events.Get(t.Context(), e.UID, n); err == nil {
			kept++
		}
	}
	if kept*size > bound || kept < bound/size/4 {
		t.Errorf("%d events of %d bytes are cached, want at least a quarter of the %d that fit, and no more", kept, size, bound/size)
	}
}

// A server whose copy of the stream went astray answers with another event: the place is read again.
func TestAnotherServerIsAskedForAnEvent(t *testing.T) {
	t.Parallel()
	at := time.Now().UTC()
	want := &event.Event{ID: "want", Tenant: "acme", AcceptedAt: at, UID: event.UID("acme", "want", at)}
	other := &event.Event{ID: "other", Tenant: "acme", AcceptedAt: at, UID: event.UID("acme", "other", at)}
	asked := 0
	events, err := NewEvents(EventsConfig{Read: func(context.Context, uint64) (*event.Event, error) {
		if asked++; asked < 3 {
			return other, nil
		}
		return want, nil
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := events.Get(t.Context(), want.UID, 1); err != nil || got.ID != want.ID {
		t.Errorf("got %+v, %v, want event %s", got, err, want.ID)
	}
}
