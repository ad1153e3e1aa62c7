package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// topologyEvery is how often `all` looks whether its streams and consumers are still there.
const topologyEvery = 5 * time.Second

// topology makes the streams in `all`; other roles only look whether they are there.
func (b *backing) topology(ctx context.Context, s *settings, r role) error {
	if r != roleAll {
		return jetstream.Check(ctx, b.js, inboxes(s)...)
	}
	if b.nats != nil {
		s.fit(b.nats.MaxStore())
	}
	return jetstream.Apply(ctx, b.js, inboxes(s)...)
}

// keepTopology makes streams and consumers again that somebody deleted, until ctx ends.
func (b *backing) keepTopology(ctx context.Context, s *settings, log *slog.Logger) error {
	tick := time.NewTicker(topologyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		missing := jetstream.Present(ctx, b.js, inboxes(s)...)
		if missing == nil || !b.nc.IsConnected() || ctx.Err() != nil {
			continue
		}
		log.WarnContext(ctx, "making streams again", "error", missing)
		if err := jetstream.Apply(ctx, b.js, inboxes(s)...); err != nil && ctx.Err() == nil {
			log.WarnContext(ctx, "cannot make streams again", "error", err)
		}
	}
}

// fit makes the streams smaller where the volume of the data directory does not have the room that they may take.
func (s *settings) fit(room int64) {
	bounds := []*int64{&s.fanout.EventsMaxBytes, &s.deliver.TasksMaxBytes, &s.deliver.BacklogMaxBytes, &s.deliver.AttemptsMaxBytes}
	var sum int64
	for _, b := range bounds {
		sum += *b
	}
	if sum <= room {
		return
	}
	share := float64(room) / float64(sum)
	for _, b := range bounds {
		*b = int64(share * float64(*b))
	}
}
