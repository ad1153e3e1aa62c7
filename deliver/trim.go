package deliver

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/fanfarehq/fanfare/deliver/ledger"
	"github.com/fanfarehq/fanfare/internal/trouble"
)

// trimEvery is how often finished messages leave the streams: one purge costs an fsync, an acknowledgement none.
const trimEvery = 5 * time.Second

// Trimmer removes from TASKS and BACKLOG the messages that every worker is done with, and from ATTEMPTS recorded outcomes that are a while old.
// Several may run.
type Trimmer struct {
	js      natsjs.JetStream
	keep    time.Duration
	metrics *Metrics
	trouble *trouble.Log
	// floors are where the recorders were before, the oldest first, by which time becomes a place in the stream.
	floors []floor
}

type floor struct {
	at  time.Time
	seq uint64
}

// NewTrimmer makes a Trimmer; Run starts it.
func NewTrimmer(cfg Config, js natsjs.JetStream, metrics *Metrics, logger *slog.Logger) *Trimmer {
	cfg = cfg.or(DefaultConfig())
	return &Trimmer{js: js, keep: cfg.AttemptsKeep, metrics: metrics, trouble: trouble.New(logger.With("stage", "trim"))}
}

// Run trims until ctx ends. While NATS is away there is nothing to trim.
func (t *Trimmer) Run(ctx context.Context) error {
	ticker := time.NewTicker(trimEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		if err := t.trim(ctx); err != nil && ctx.Err() == nil {
			t.trouble.Note("streams are not trimmed", err)
		}
	}
}

func (t *Trimmer) trim(ctx context.Context) error {
	for _, name := range []string{Stream, BacklogStream} {
		if err := t.trimTasks(ctx, name); err != nil {
			return fmt.Errorf("trim %s: %w", name, err)
		}
	}
	if err := t.trimAttempts(ctx); err != nil {
		return fmt.Errorf("trim %s: %w", ledger.Stream, err)
	}
	return nil
}

// trimTasks removes what all consumers of a stream are done with. One that is far behind keeps what the others did
// after it; where that becomes much, it is removed from between, which costs more.
func (t *Trimmer) trimTasks(ctx context.Context, name string) error {
	stream, err := t.js.Stream(ctx, name)
	if err != nil {
		return err
	}
	places, err := queuePlaces(ctx, stream)
	if err != nil {
		return err
	}
	lowest := stream.CachedInfo().State.LastSeq
	pending := uint64(0)
	for _, p := range places {
		lowest = min(lowest, p.done)
		pending += p.pending
	}
	t.metrics.pending.WithLabelValues(name).Set(float64(pending))
	if err := purge(ctx, stream, lowest); err != nil || !t.crowded(stream) {
		return err
	}
	for _, p := range places {
		if p.done <= lowest {
			continue
		}
		err := stream.Purge(ctx, natsjs.WithPurgeSubject(p.filter), natsjs.WithPurgeSequence(p.done+1))
		if err != nil {
			return err
		}
	}
	return nil
}

// crowded reports whether a stream is more than half full.
func (t *Trimmer) crowded(stream natsjs.Stream) bool {
	info := stream.CachedInfo()
	return info.Config.MaxBytes > 0 && info.State.Bytes > uint64(info.Config.MaxBytes)/2
}

// trimAttempts keeps outcomes recorded a short while ago, for tails; unless the stream becomes full.
func (t *Trimmer) trimAttempts(ctx context.Context) error {
	stream, done, err := t.look(ctx, ledger.Stream, ledger.Durable)
	if err != nil {
		return err
	}
	now := time.Now()
	if n := len(t.floors); n == 0 || t.floors[n-1].seq != done {
		t.floors = append(t.floors, floor{at: now, seq: done})
	}
	old := uint64(0)
	for len(t.floors) > 0 && now.Sub(t.floors[0].at) >= t.keep {
		old = t.floors[0].seq
		t.floors = t.floors[1:]
	}
	if t.crowded(stream) {
		old = done
	}
	return purge(ctx, stream, old)
}

// look returns a stream and the place up to which its consumer is done.
func (t *Trimmer) look(ctx context.Context, name, durable string) (natsjs.Stream, uint64, error) {
	stream, err := t.js.Stream(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	consumer, err := stream.Consumer(ctx, durable)
	if err != nil {
		return nil, 0, err
	}
	return stream, consumer.CachedInfo().AckFloor.Stream, nil
}

// purge removes all messages up to and including a place.
func purge(ctx context.Context, stream natsjs.Stream, upTo uint64) error {
	if upTo < stream.CachedInfo().State.FirstSeq {
		return nil
	}
	return stream.Purge(ctx, natsjs.WithPurgeSequence(upTo+1))
}
