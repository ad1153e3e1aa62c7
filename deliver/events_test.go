package deliver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/internal/event"
)

// What is remembered is not read; what is asked for afterwards is the same event, once however often it is remembered.
func TestEventsThatAreRememberedAreNotRead(t *testing.T) {
	t.Parallel()
	reads := 0
	read := func(context.Context, uint64) (*event.Event, error) { reads++; return nil, event.ErrGone }
	events, err := deliver.NewEvents(deliver.EventsConfig{Read: read}, nil)
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
}

// What is remembered stays within the bounds of memory: the oldest goes first.
func TestEventsRememberedAreBounded(t *testing.T) {
	t.Parallel()
	const bound, size, n = 64 << 10, 1 << 10, 1000
	away := func(context.Context, uint64) (*event.Event, error) { return nil, context.Canceled }
	events, err := deliver.NewEvents(deliver.EventsConfig{Read: away, CacheBytes: bound}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var uids []uuid.UUID
	for i := range n {
		id := fmt.Sprintf("evt_%d", i)
		uids = append(uids, event.UID("acme", id, time.Unix(1, 0)))
		events.Remember(&event.Event{UID: uids[i], ID: id, Data: make([]byte, size)})
	}
	kept := 0
	for i := n - 1; i >= 0; i-- {
		_, err := events.Get(t.Context(), uids[i], 1)
		switch {
		case err == nil && kept < n-1-i:
			t.Fatalf("event %d is kept, though one that came after it is not", i)
		case err == nil:
			kept++
		}
	}
	if kept*size > bound || kept < bound/size/4 {
		t.Errorf("%d events of %d bytes are kept, want at least a quarter of the %d that fit, and no more", kept, size, bound/size)
	}
}

// An event that is cached twice, by a reader and by a writer at the same time, counts once: the cache stays within its bound
// and keeps using all of it.
func TestEventsCachedTwiceCountOnce(t *testing.T) {
	t.Parallel()
	const bound, size = 64 << 10, 1 << 10
	stream := map[uint64]*event.Event{}
	gone := false
	var events *deliver.Events
	read := func(_ context.Context, seq uint64) (*event.Event, error) {
		if gone {
			return nil, context.Canceled
		}
		events.Remember(stream[seq]) // As fan-out does, while the read is under way.
		return stream[seq], nil
	}
	events, err := deliver.NewEvents(deliver.EventsConfig{Read: read, CacheBytes: bound}, nil)
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
	events, err := deliver.NewEvents(deliver.EventsConfig{Read: func(context.Context, uint64) (*event.Event, error) {
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
