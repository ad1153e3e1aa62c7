package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/fanfarehq/fanfare/deliver"
	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/fanout"
	"github.com/fanfarehq/fanfare/internal/jetstream"
)

// topologyEvery is how often `all` looks whether its streams and consumers are still there.
const topologyEvery = 5 * time.Second

// bound is a field of a stream that a setting decides.
type bound struct {
	stream, field, setting string
	value                  any // *int, *int64 or *time.Duration
}

// bounds are those of all streams. All processes share them, and the stream itself holds those in force.
func (s *settings) bounds() []bound {
	all := []bound{
		{fanout.Stream, "MaxAge", "FANFARE_EVENTS_MAX_AGE", &s.fanout.EventsMaxAge},
		{fanout.Stream, "MaxBytes", "FANFARE_EVENTS_MAX_BYTES", &s.fanout.EventsMaxBytes},
		{deliver.Stream, "MaxBytes", "FANFARE_TASKS_MAX_BYTES", &s.deliver.TasksMaxBytes},
		{deliver.BacklogStream, "MaxBytes", "FANFARE_BACKLOG_MAX_BYTES", &s.deliver.BacklogMaxBytes},
		{ledger.Stream, "MaxBytes", "FANFARE_ATTEMPTS_MAX_BYTES", &s.deliver.AttemptsMaxBytes},
	}
	for _, stream := range []string{fanout.Stream, deliver.Stream, deliver.BacklogStream, ledger.Stream} {
		all = append(all, bound{stream, "Replicas", "FANFARE_STREAM_REPLICAS", &s.server.StreamReplicas})
	}
	return all
}

// adopt takes the value that a stream has for that of the setting. A stream without a bound leaves the setting as it is.
func (s *settings) adopt(d jetstream.Difference) {
	for _, b := range s.bounds() {
		if b.stream != d.Stream || b.field != d.Field {
			continue
		}
		switch have := d.Have.(type) {
		case int:
			*b.value.(*int) = max(have, 1)
		case int64:
			if have > 0 {
				*b.value.(*int64) = have
			}
		case time.Duration:
			if have > 0 {
				*b.value.(*time.Duration) = have
			}
		}
	}
}

// topology makes the streams in `all`; other roles only look whether those that they use are there. Where a bound of a stream
// differs from a setting of this process, the stream's is in force.
func (b *backing) topology(ctx context.Context, s *settings, to topologyOf) error {
	if to.role == roleAll && b.nats != nil {
		s.fit(b.nats.MaxStore())
	}
	inboxes := needed(s, to.role)
	found, err := jetstream.Differences(ctx, b.js, inboxes...)
	if err != nil {
		return err
	}
	var wrong []jetstream.Difference
	for _, d := range found {
		switch {
		case d.Setting != "" && (to.role != roleAll || loses(d)):
			to.log.WarnContext(ctx, "stream differs from settings, using the stream's", "stream", d.Stream, "field", d.Field,
				"stream_has", fmt.Sprint(d.Have), "setting", d.Setting, "setting_says", fmt.Sprint(d.Want))
			s.adopt(d)
		case d.Field != "Description":
			wrong = append(wrong, d)
		}
	}
	if err := s.agree(); err != nil {
		return err
	}
	if to.role != roleAll {
		return jetstream.Refusal(wrong)
	}
	if b.nats != nil {
		if err := jetstream.Replace(ctx, b.js, inboxes...); err != nil {
			return err
		}
	}
	if err := b.applyTopology(ctx, s); err != nil || b.nats == nil {
		return err
	}
	return jetstream.TakeBack(ctx, b.js, inboxes...)
}

// topologyOf is the process whose streams are looked at.
type topologyOf struct {
	role role
	log  *slog.Logger
}

// loses says whether the stream would lose copies or messages if it became as the settings say.
func loses(d jetstream.Difference) bool {
	if want, bytes := d.Want.(int64); bytes {
		return d.Shrinks() && d.Stored > uint64(want)
	}
	return d.Shrinks()
}

// applyTopology makes streams and consumers. The embedded server stages batches of new streams in memory.
func (b *backing) applyTopology(ctx context.Context, s *settings) error {
	if err := jetstream.Apply(ctx, b.js, inboxes(s)...); err != nil || b.nats == nil {
		return err
	}
	if err := b.nats.SyncDefinitions(); err != nil {
		return err
	}
	return b.nats.StageInMemory()
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
		if err := b.applyTopology(ctx, s); err != nil && ctx.Err() == nil {
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
