package main

import (
	"context"
	"fmt"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/fanfarehq/fanfare/deliver/history"
	"github.com/fanfarehq/fanfare/internal/embedded"
	"github.com/fanfarehq/fanfare/internal/fair"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// overview adds the state of the installation to the API.
func (a *assembly) overview(sh *shared, to huma.API, heavy *fair.Room) {
	history.RegisterOverview(to, history.OverviewDeps{
		DB: sh.db, Heavy: heavy, DisableAfter: sh.s.deliver.DisableAfter, Broker: sh.brokerState, Durability: sh.durability, DiskFree: sh.diskFree,
	})
}

// brokerTimeout bounds the questions of one overview to the broker.
const brokerTimeout = 5 * time.Second

// brokerState asks for what the streams hold.
func (sh *shared) brokerState(ctx context.Context) (state history.BrokerState, err error) {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	all := inboxes(sh.s)
	events, tasks, backlog, attempts := all[0], all[1], all[2], all[3]
	for _, of := range []struct {
		to    *uint64
		inbox jetstream.Inbox
	}{
		{&state.Backlog.Fanout, events}, {&state.Backlog.Deliver, tasks}, {&state.Backlog.Deliver, backlog}, {&state.Backlog.Recorder, attempts},
	} {
		n, err := sh.unacknowledged(ctx, of.inbox)
		if err != nil {
			return state, err
		}
		*of.to += n
	}
	stream, err := sh.js.Stream(ctx, events.Stream.Name)
	if err != nil {
		return state, fmt.Errorf("look at stream %s: %w", events.Stream.Name, jetstream.Classify(err))
	}
	info := stream.CachedInfo()
	state.Storage = history.Storage{EventsBytes: info.State.Bytes, EventsMaxBytes: max(info.Config.MaxBytes, 0)}
	oldest, err := sh.reader.Oldest(ctx)
	if err == nil && !oldest.At.IsZero() {
		state.Oldest = &oldest.At
	}
	return state, err
}

// unacknowledged counts the messages that the consumers of an inbox have not acknowledged.
func (sh *shared) unacknowledged(ctx context.Context, inbox jetstream.Inbox) (n uint64, err error) {
	for _, c := range inbox.Consumers {
		consumer, err := sh.js.Consumer(ctx, inbox.Stream.Name, c.Durable)
		if err != nil {
			return 0, fmt.Errorf("look at consumer %s: %w", c.Durable, jetstream.Classify(err))
		}
		info := consumer.CachedInfo()
		n += info.NumPending + uint64(info.NumAckPending)
	}
	return n, nil
}

// durability is the word for whether accepted events survive a power cut.
func (sh *shared) durability(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	synced, _, err := jetstream.Durability(ctx, sh.nc, sh.js, inboxes(sh.s)...)
	switch {
	case err != nil:
		return "unknown"
	case synced:
		return "synced"
	}
	return "degraded"
}

// diskFree is how many bytes are left for the embedded servers; false without them.
func (sh *shared) diskFree() (uint64, bool) {
	if sh.disk == nil {
		return 0, false
	}
	free, err := embedded.FreeSpace(sh.dataDir)
	return uint64(max(free, 0)), err == nil
}
