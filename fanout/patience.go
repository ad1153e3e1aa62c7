package fanout

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/fanfarehq/fanfare/internal/jetstream"
	"github.com/fanfarehq/fanfare/internal/postgres"
)

// patience is how long a handler goes on: work is the context of what it does, and after the end of ends it waits
// for nothing that is away.
type patience struct{ work, ends context.Context }

// The waits between tries while Postgres or the broker is away.
const (
	firstWait = 20 * time.Millisecond
	lastWait  = 2 * time.Second
)

// persist does something until it succeeds. As long as Postgres or the broker is away the event waits, and its
// message stays in progress; any other error hands the message back.
func (s *Stage) persist(p patience, do func(context.Context) error) error {
	err := do(p.work)
	if err == nil || !away(err) {
		return err
	}
	return s.wait(p, err, do)
}

// wait does something again and again, as long as what it needs is away.
func (s *Stage) wait(p patience, err error, do func(context.Context) error) error {
	s.metrics.waiting.Inc()
	s.outage.begin(s.log, err)
	defer s.metrics.waiting.Dec()
	defer s.outage.end(s.log)
	for wait := firstWait; away(err); wait = min(2*wait, lastWait) {
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-p.ends.Done():
			timer.Stop()
			return err
		}
		if err = do(p.work); err == nil {
			return nil
		}
	}
	return err
}

// away reports whether an error says that a dependency cannot be used now.
func away(err error) bool {
	return postgres.IsUnavailable(err) || errors.Is(err, jetstream.ErrUnavailable) || errors.Is(err, jetstream.ErrFull)
}

// outage tells of a dependency that is away once, however many events wait for it.
type outage struct{ waiting atomic.Int64 }

func (o *outage) begin(log *slog.Logger, err error) {
	if o.waiting.Add(1) == 1 {
		log.Warn("events wait", "error", err)
	}
}

func (o *outage) end(log *slog.Logger) {
	if o.waiting.Add(-1) == 0 {
		log.Info("no events wait any more")
	}
}
